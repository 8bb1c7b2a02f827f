//! The house's style where a machine can judge it, so that reviewers look at meaning.
//!
//! It reads the sources as text: comments and test modules are left out, strings are not told
//! apart. Deliberately absent: what clippy already says.

#![expect(clippy::disallowed_methods, reason = "reads sources, not the engine's data")]

use std::path::{Path, PathBuf};

const LINES_MAX: usize = 600;

/// The crates that must not print: the library and the server answer through their interfaces.
const SILENT: [&str; 2] = ["engram-core", "engram-server"];

/// Ways out of the engine, and the only files that may use them.
const WAYS_OUT: [(&str, &[&str]); 9] = [
    ("std::fs", &["disk/real.rs"]),
    // The driver's threads and everybody's locks come from sync.rs, for the race checks.
    ("std::thread", &["sync.rs"]),
    ("shuttle::", &["sync.rs", "sync/"]),
    ("sync::thread", &["driver.rs", "driver/"]),
    ("rustix::", &["disk/real.rs", "clock.rs", "sync.rs"]),
    ("Instant::now", &["clock.rs"]),
    ("SystemTime::now", &["clock.rs"]),
    ("Timestamp::now", &["clock.rs"]),
    // Written out one by one, imports of `std` cannot slip past the lines above.
    ("use std::{", &[]),
];

/// Files that are functions of their arguments: a name, or a directory.
const PURE: [&str; 23] = [
    "episode.rs",
    "error.rs",
    "index/",
    "metrics/schema.rs",
    "recall.rs",
    "record.rs",
    "record/",
    "storage/legacy/",
    "storage/wal/bytes.rs",
    "storage/wal/footer.rs",
    "storage/wal/frame.rs",
    "storage/wal/losses.rs",
    "storage/wal/order.rs",
    "storage/wal/plan.rs",
    "storage/wal/report.rs",
    "storage/wal/scan.rs",
    "storage/wal/knowledge.rs",
    "storage/wal/segment.rs",
    "storage/wal/tiling.rs",
    "storage/wal/verdict.rs",
    "store/directory.rs",
    "store/directory/",
    "store/policy.rs",
];

/// What a pure file may not name; a step machine may not name the second half.
const EFFECTS: [&str; 9] = [
    "crate::disk",
    "crate::driver",
    "crate::storage::wal::recover",
    "crate::storage::wal::writer",
    "crate::storage::wal::compact",
    "crate::storage::wal::quarantine",
    "std::net",
    "std::process",
    "std::env",
];
const CONCURRENCY: [&str; 5] = ["std::thread", "mpsc", "Mutex", "RwLock", "Condvar"];

/// The step machines: they own no thread, channel or lock. (The quarantine and the table of
/// segments are no machines but data that several of them share, so they may hold a lock.)
const STEP_MACHINES: [&str; 3] =
    ["storage/wal/compact.rs", "storage/wal/recover.rs", "storage/wal/writer.rs"];

/// One source file.
struct Source {
    /// Relative to its crate's `src`, with `/`.
    name: String,
    /// All of it.
    text: String,
}

impl Source {
    /// Its lines of code, numbered from 1: no comments, nothing from the first test module on.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
            .map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default()))
    }

    /// `name:line: word` for each of `words` that its code holds.
    fn hits(&self, words: &[&str]) -> Vec<String> {
        self.code()
            .flat_map(|(number, line)| {
                let found = words.iter().filter(move |word| line.contains(**word));
                found.map(move |word| format!("{}:{number}: {word}", self.name))
            })
            .collect()
    }

    fn is_one_of(&self, places: &[&str]) -> bool {
        places.iter().any(|place| {
            self.name == *place || (place.ends_with('/') && self.name.starts_with(place))
        })
    }
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The sources below `<crate>/src`, sorted by name.
fn sources(member: &str) -> Vec<Source> {
    let base = root().join(member).join("src");
    let mut found = Vec::new();
    let mut next = vec![base.clone()];
    while let Some(dir) = next.pop() {
        for entry in std::fs::read_dir(&dir).expect("a directory of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                next.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&base).expect("below src").to_string_lossy();
                let text = std::fs::read_to_string(&path).expect("UTF-8");
                found.push(Source { name: name.replace('\\', "/"), text });
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!found.is_empty(), "no sources in {}", base.display());
    found
}

/// The members of the workspace: every directory that holds a manifest and sources.
fn members() -> Vec<String> {
    let is_member = |path: &PathBuf| path.join("Cargo.toml").exists() && path.join("src").exists();
    let mut members: Vec<String> = std::fs::read_dir(root())
        .expect("the workspace")
        .map(|entry| entry.expect("an entry").path())
        .filter(is_member)
        .map(|path| path.file_name().unwrap_or_default().to_string_lossy().into_owned())
        .collect();
    // A workspace of its own, in the same house.
    members.push("engram-bench/peers".into());
    members.sort();
    assert!(members.iter().any(|member| member == "engram-core"), "{members:?}");
    members
}

fn none(problems: &[String], rule: &str) {
    assert!(problems.is_empty(), "{rule}\n{}", problems.join("\n"));
}

#[test]
fn no_source_file_is_longer_than_its_reason() {
    let mut problems = Vec::new();
    for member in members() {
        for source in sources(&member) {
            let lines = source.text.lines().count();
            if lines > LINES_MAX {
                problems.push(format!("{member}/src/{}: {lines} lines", source.name));
            }
        }
    }
    none(&problems, "files of at most 600 lines; split by reason, not by size:");
}

#[test]
fn every_module_says_what_it_is() {
    let mut problems = Vec::new();
    for member in members() {
        for source in sources(&member) {
            if !source.text.starts_with("//!") {
                problems.push(format!("{member}/src/{}", source.name));
            }
        }
    }
    none(&problems, "a file begins with //!, what it is and why:");
}

#[test]
fn library_and_server_never_print_and_leave_nothing_undone() {
    let words = ["println!", "eprintln!", "print!(", "dbg!", "todo!", "unimplemented!"];
    let problems: Vec<String> = SILENT
        .iter()
        .flat_map(|member| sources(member).into_iter().flat_map(|source| source.hits(&words)))
        .collect();
    none(&problems, "use tracing, return an error, or finish it:");
}

#[test]
fn the_engine_reaches_the_world_only_through_its_seams() {
    let mut problems = Vec::new();
    for source in sources("engram-core") {
        for (word, allowed) in WAYS_OUT {
            if !source.is_one_of(allowed) {
                problems.extend(source.hits(&[word]));
            }
        }
    }
    none(&problems, "use Disk, Clock and Rng; threads belong to the driver:");
}

#[test]
fn locks_come_from_one_place() {
    let locks = ["Mutex", "RwLock", "Condvar", "mpsc", "OnceLock", "Barrier"];
    let problems: Vec<String> = sources("engram-core")
        .into_iter()
        .filter(|source| !source.is_one_of(&["sync.rs", "sync/"]))
        .flat_map(|source| {
            let code = source.code().filter(|(_, line)| line.contains("std::sync"));
            let named = code.filter(|(_, line)| locks.iter().any(|lock| line.contains(lock)));
            named
                .map(|(number, line)| format!("{}:{number}:{line}", source.name))
                .collect::<Vec<_>>()
        })
        .collect();
    none(&problems, "crate::sync has them: what the race checks cannot exchange, they cannot see:");
}

#[test]
fn pure_files_stay_pure() {
    let mut problems = Vec::new();
    let mut seen = 0;
    for source in sources("engram-core").into_iter().filter(|source| source.is_one_of(&PURE)) {
        seen += 1;
        problems.extend(source.hits(&EFFECTS));
        problems.extend(source.hits(&CONCURRENCY));
        // Of the clock only its word for a moment: a value, not a way to ask for one.
        let asks = |line: &str| line.contains("crate::clock") && !line.contains("clock::Timestamp");
        problems.extend(
            source
                .code()
                .filter(|(_, line)| asks(line))
                .map(|(number, _)| format!("{}:{number}: crate::clock", source.name)),
        );
    }
    assert!(seen >= 4, "only {seen} pure files found: were they renamed?");
    none(&problems, "pure files are functions of their arguments:");
}

#[test]
fn step_machines_own_no_thread_channel_or_lock() {
    let problems: Vec<String> = sources("engram-core")
        .into_iter()
        .filter(|source| source.is_one_of(&STEP_MACHINES))
        .flat_map(|source| source.hits(&CONCURRENCY))
        .collect();
    none(&problems, "the driver has the threads; a step machine is stepped:");
}

#[test]
fn hits_are_found_in_code_and_not_in_comments_or_tests() {
    let text = "//! std::fs\nuse std::fs; // fine?\n/// std::fs\n#[cfg(test)]\nuse std::fs;\n";
    let source = Source { name: "a/b.rs".into(), text: text.into() };
    assert_eq!(source.hits(&["std::fs"]), ["a/b.rs:2: std::fs"]);
    assert!(source.is_one_of(&["a/"]) && source.is_one_of(&["a/b.rs"]));
    assert!(!source.is_one_of(&["b.rs", "a"]));
}
