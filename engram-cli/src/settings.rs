//! Where a flag's value comes from when the command line does not say: `ENGRAM_…` variables, then
//! `engram.toml`, then the built-in default.
//!
//! Every flag of every command gets its variable and its key here, by rule, so none can be
//! forgotten: what describes the installation is shared (`ENGRAM_SERVER`, key `server`), and what
//! describes one command's run carries the command's name (`ENGRAM_LIST_LIMIT`, key `limit` in
//! `[list]`), so that a variable set for one command never changes another.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, CommandFactory as _, FromArgMatches as _};

use crate::args::{Cli, Command};
use crate::engine;
use crate::failure::{Failure, Outcome};

/// Name of the settings file where none is named.
const FILE_NAME: &str = "engram.toml";

/// The whole command line, with every flag's environment variable.
pub(crate) fn command() -> clap::Command {
    visit(Cli::command(), None, &mut |place, arg| {
        arg.env(place.variable.clone()).hide_env_values(true)
    })
}

/// Reads the command line, the environment and the settings file.
pub(crate) fn parse(argv: &[OsString]) -> Outcome<Cli> {
    parse_with(SettingsFile::find(argv)?, argv)?.map_err(|error| {
        // With its stream gone there is nobody left to tell.
        drop(error.print());
        Failure::silent(u8::try_from(error.exit_code()).unwrap_or(2))
    })
}

/// As [`parse`], with the settings file at hand. What only clap can say is given as it is.
fn parse_with(file: Option<SettingsFile>, argv: &[OsString]) -> Outcome<Result<Cli, clap::Error>> {
    let mut command = command();
    if let Some(file) = &file {
        command = file.apply(command)?;
    }
    let parsed = command
        .try_get_matches_from_mut(argv)
        .and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches));
    match parsed {
        Ok(cli) => Ok(Ok(Cli { settings_file: file.map(|file| file.path), ..cli })),
        // A culprit that is a value of the settings file is named in the file's terms.
        Err(error) => match file.and_then(|file| file.blame(&error, argv)) {
            Some(failure) => Err(failure),
            None => Ok(Err(error)),
        },
    }
}

/// Reads a command line with the text of a settings file, and does nothing with them. Gives the
/// engine's options where the command is `start`.
///
/// # Errors
/// What `engram` would say, on one line or, where it is help, on many.
pub fn check(
    file: Option<&str>,
    argv: &[OsString],
) -> Result<Option<engram_core::Options>, String> {
    let read = |text| SettingsFile::read(PathBuf::from(FILE_NAME), text);
    let told = |failure: Failure| failure.message().to_owned();
    let file = file.map(read).transpose().map_err(told)?;
    match parse_with(file, argv).map_err(told)? {
        Ok(cli) => Ok(match cli.command {
            Command::Start(start) => Some(engine::options(&start)),
            _ => None,
        }),
        Err(error) => Err(error.to_string()),
    }
}

/// Where one flag is found in the environment and in the settings file.
#[derive(Debug, Clone)]
struct Place {
    /// Its environment variable.
    variable: String,
    /// Its table in the file; none for the top.
    table: Option<String>,
    /// Its key there.
    key: String,
}

impl Place {
    fn of(command: &str, long: &str) -> Self {
        let shared = match long {
            "data" | "json" => true,
            "server" => command != "wal",
            "space" => !matches!(command, "import" | "export" | "reembed"),
            _ => command == "start",
        };
        let key = long.replace('-', "_");
        let upper = key.to_uppercase();
        if shared {
            return Self { variable: format!("ENGRAM_{upper}"), table: None, key };
        }
        let variable = format!("ENGRAM_{}_{upper}", command.to_uppercase());
        Self { variable, table: Some(command.to_owned()), key }
    }

    /// Its name in messages: `table.key`.
    fn name(&self) -> String {
        match &self.table {
            Some(table) => format!("{table}.{}", self.key),
            None => self.key.clone(),
        }
    }
}

/// Calls `change` on every flag below a command.
fn visit(
    command: clap::Command,
    top: Option<&str>,
    change: &mut dyn FnMut(&Place, Arg) -> Arg,
) -> clap::Command {
    let command = match top {
        None => command,
        Some(top) => command.mut_args(|arg| match arg.get_long() {
            Some(long) => {
                let place = Place::of(top, long);
                change(&place, arg)
            }
            None => arg,
        }),
    };
    command.mut_subcommands(|sub| {
        let name = top.unwrap_or(sub.get_name()).to_owned();
        visit(sub, Some(&name), change)
    })
}

/// A settings file that was read.
#[derive(Debug)]
struct SettingsFile {
    path: PathBuf,
    /// Values by `table.key`; a list stays a list.
    values: BTreeMap<String, Vec<String>>,
    /// Keys whose value is a list.
    lists: BTreeSet<String>,
}

impl SettingsFile {
    /// The file that is named, or the one in the usual places; none when there is none.
    fn find(argv: &[OsString]) -> Outcome<Option<Self>> {
        let variable = || std::env::var_os("ENGRAM_CONFIG").filter(|value| !value.is_empty());
        if let Some(path) = named_on_command_line(argv).or_else(variable) {
            let path = PathBuf::from(path);
            let text = fs::read_to_string(&path).map_err(|e| {
                let path = path.display();
                Failure::usage(format!("{path}: cannot be read: {e}; name another with --config"))
            })?;
            return Self::read(path, &text).map(Some);
        }
        for path in usual_places() {
            match fs::read_to_string(&path) {
                Ok(text) => return Self::read(path, &text).map(Some),
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound) => {}
                Err(e) => {
                    let path = path.display();
                    let message = format!("{path}: cannot be read: {e}; correct that, or move it");
                    return Err(Failure::usage(message));
                }
            }
        }
        Ok(None)
    }

    fn read(path: PathBuf, text: &str) -> Outcome<Self> {
        let table: toml::Table = toml::from_str(text).map_err(|e| {
            let before = e.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let problem = e.message().replace('\n', ", ");
            Failure::usage(format!("{}: line {line}: {problem}; correct it", path.display()))
        })?;
        let mut file = Self { path, values: BTreeMap::new(), lists: BTreeSet::new() };
        for (key, value) in table {
            match value {
                toml::Value::Table(inner) => {
                    for (inner_key, value) in inner {
                        file.insert(format!("{key}.{inner_key}"), value)?;
                    }
                }
                value => file.insert(key, value)?,
            }
        }
        Ok(file)
    }

    fn insert(&mut self, name: String, value: toml::Value) -> Outcome {
        let values = match value {
            toml::Value::Array(values) => {
                self.lists.insert(name.clone());
                values.into_iter().map(plain).collect()
            }
            value => plain(value).map(|value| vec![value]),
        };
        let values: Option<Vec<String>> = values;
        let Some(values) = values else {
            let problem = "must be a string, a number, true or false, or a list of them";
            return Err(self.bad_key(&name, problem));
        };
        self.values.insert(name, values);
        Ok(())
    }

    /// Makes the file's values the defaults of their flags; refuses keys that are no flag's.
    fn apply(&self, command: clap::Command) -> Outcome<clap::Command> {
        let mut known = BTreeSet::new();
        let mut not_a_list = None;
        let command = visit(command, None, &mut |place, arg| {
            let name = place.name();
            let values = self.values.get(&name);
            if self.lists.contains(&name) && !matches!(arg.get_action(), ArgAction::Append) {
                not_a_list = Some(name.clone());
            }
            known.insert(name);
            match values {
                Some(values) => arg.default_values(values.clone()),
                None => arg,
            }
        });
        if let Some(name) = not_a_list {
            return Err(self.bad_key(&name, "takes one value, not a list"));
        }
        let Some(unknown) = self.values.keys().find(|name| !known.contains(*name)) else {
            return Ok(command);
        };
        let table = unknown.split_once('.').map(|(table, _)| format!("{table}."));
        let beside = |name: &&String| match &table {
            Some(table) => name.starts_with(table),
            None => !name.contains('.'),
        };
        let mut there: Vec<&str> = known.iter().filter(beside).map(String::as_str).collect();
        if there.is_empty() {
            there = known.iter().filter(|name| !name.contains('.')).map(String::as_str).collect();
        }
        let problem = format!("is unknown; the keys there are: {}", there.join(", "));
        Err(self.bad_key(unknown, &problem))
    }

    /// Whether a refused value came from this file, and if so, the refusal in its terms.
    fn blame(&self, error: &clap::Error, argv: &[OsString]) -> Option<Failure> {
        let text = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => Some(text.as_str()),
            _ => None,
        };
        let flag = text(ContextKind::InvalidArg)?.split(' ').next()?.to_owned();
        let long = flag.strip_prefix("--")?;
        let value = text(ContextKind::InvalidValue)?;
        let on_command_line = argv.iter().filter_map(|arg| arg.to_str()).any(|arg| {
            arg == flag || arg.strip_prefix(&flag).is_some_and(|rest| rest.starts_with('='))
        });
        if on_command_line {
            return None;
        }
        let key = long.replace('-', "_");
        let (name, _) = self.values.iter().find(|(name, values)| {
            name.rsplit('.').next() == Some(&key) && values.iter().any(|v| v == value)
        })?;
        let cause = match (error.source(), error.get(ContextKind::ValidValue)) {
            (Some(cause), _) => cause.to_string(),
            (None, Some(ContextValue::Strings(valid))) => format!("say {}", valid.join(" or ")),
            _ => "is no legal value".into(),
        };
        let problem = format!("has the value {value:?}: {cause}; correct it, or give {flag}");
        Some(self.bad_key(name, &problem))
    }

    fn bad_key(&self, name: &str, problem: &str) -> Failure {
        Failure::usage(format!("{}: key `{name}` {problem}", self.path.display()))
    }
}

/// A scalar as the command line would write it.
fn plain(value: toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(yes) => Some(yes.to_string()),
        toml::Value::Datetime(time) => Some(time.to_string()),
        toml::Value::Array(_) | toml::Value::Table(_) => None,
    }
}

/// `--config FILE` or `--config=FILE`; needed before clap can parse the rest.
fn named_on_command_line(argv: &[OsString]) -> Option<OsString> {
    let mut words = argv.iter().skip(1).take_while(|word| *word != "--");
    while let Some(word) = words.next() {
        if word == "--config" {
            return words.next().cloned();
        }
        if let Some(path) = word.to_str().and_then(|arg| arg.strip_prefix("--config=")) {
            return Some(path.into());
        }
    }
    None
}

fn usual_places() -> Vec<PathBuf> {
    let mut places = vec![PathBuf::from(FILE_NAME)];
    places.extend(xdg_dir("XDG_CONFIG_HOME", ".config").map(|dir| dir.join(FILE_NAME)));
    places
}

/// Engram's directory below an XDG base directory.
fn xdg_dir(variable: &str, below_home: &str) -> Option<PathBuf> {
    // The specification says to ignore relative paths.
    let named = std::env::var_os(variable).map(PathBuf::from).filter(|dir| dir.is_absolute());
    let base = named.or_else(|| {
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty())?;
        Some(Path::new(&home).join(below_home))
    })?;
    Some(base.join("engram"))
}

/// The data directory: as given, else the usual one.
pub(crate) fn data_dir(given: Option<&Path>) -> Outcome<PathBuf> {
    if let Some(dir) = given {
        if dir.as_os_str().is_empty() {
            return Err(Failure::usage("--data: empty; name a directory"));
        }
        return Ok(dir.to_owned());
    }
    xdg_dir("XDG_DATA_HOME", ".local/share").ok_or_else(|| {
        Failure::usage("no data directory: HOME is not set either; name one with --data DIR")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Outcome<SettingsFile> {
        SettingsFile::read("engram.toml".into(), text)
    }

    fn refused(text: &str) -> String {
        let failure = read(text).and_then(|file| file.apply(command())).map(drop).unwrap_err();
        failure.message().to_owned()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn every_flag_has_a_variable_of_its_own_meaning() {
        let mut places: BTreeMap<String, String> = BTreeMap::new();
        visit(Cli::command(), None, &mut |place, arg| {
            let name = place.name();
            let other = places.insert(place.variable.clone(), name.clone());
            assert!(other.is_none_or(|other| other == name), "{name}");
            arg
        });
        assert_eq!(places.get("ENGRAM_SEGMENT_BYTES").map(String::as_str), Some("segment_bytes"));
        assert_eq!(places.get("ENGRAM_LIST_LIMIT").map(String::as_str), Some("list.limit"));
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        let message = refused("durabilty = \"always\"");
        assert!(message.contains("`durabilty`") && message.contains("durability"), "{message}");
        let message = refused("[list]\nlimits = 3");
        assert!(message.contains("`list.limits`") && message.contains("list.limit"), "{message}");
        assert!(refused("[nonsense]\nx = 3").contains("`nonsense.x`"));
    }

    #[test]
    fn lists_are_for_flags_that_repeat() {
        assert!(read("accept_loss = [\"1-2\", \"4-5\"]").unwrap().apply(command()).is_ok());
        assert!(refused("listen = [\"a\"]").contains("not a list"));
    }

    #[test]
    fn broken_toml_names_the_line() {
        let message = refused("data = \"x\"\nlisten = = 3");
        assert!(message.starts_with("engram.toml: line 2: "), "{message}");
    }
}
