//! The program behind the binary `engram`: starts the server, talks to a running one, and looks at
//! logs offline.
//!
//! The map: `args` is the command line and `settings` what `engram.toml` adds to it; `start` is the
//! glue to the server; `client` speaks HTTP for `remember` to `export` (`recall` has a file of its own); `wal` looks at a data
//! directory without a server; `demo` tells the story. Deliberately absent: any rule about episodes
//! or logs. Those are the engine's and the server's, and are said once.

mod args;
mod client;
mod demo;
mod embedder;
mod engine;
mod episodes;
mod export;
mod failure;
mod import;
mod logging;
mod out;
mod overview;
mod progress;
mod recall;
mod reembed;
mod settings;
mod start;
mod wal;

use std::process::ExitCode;

use args::{Cli, Command};
use failure::{Failure, Outcome};
pub use settings::check as check_settings;

/// Runs the command line of this process, and gives its exit code.
#[must_use]
pub fn run_process() -> ExitCode {
    let argv: Vec<_> = std::env::args_os().collect();
    match settings::parse(&argv).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(cli: Cli) -> Outcome {
    match cli.command {
        Command::Start(args) => start::start(*args, cli.settings_file.as_deref()),
        Command::Remember(args) => episodes::remember(*args),
        Command::Recall(args) => recall::recall(&args),
        Command::Get(args) => episodes::get(&args),
        Command::Forget(args) => episodes::forget(&args),
        Command::List(args) => episodes::list(&args),
        Command::Spaces(args) => overview::spaces(&args),
        Command::Status(args) => overview::status(&args),
        Command::Reembed(args) => reembed::reembed(&args),
        Command::Import(args) => import::import(&args),
        Command::Export(args) => export::export(&args),
        Command::Wal(args) => wal::wal(args.command),
        Command::Demo(args) => demo::demo(&args),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut settings::command(), "engram", &mut text);
            out::bytes(&text)
        }
        Command::Man { command } => man(&command),
    }
}

/// The manual page of a command: `start`, `wal verify`.
fn man(path: &[String]) -> Outcome {
    let mut command = settings::command();
    // Names of the commands below become `engram-wal-verify`, as pages are named.
    command.build();
    for name in path {
        let names: Vec<_> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
        command = command.find_subcommand(name).cloned().ok_or_else(|| {
            let known = if names.is_empty() { "none".into() } else { names.join(", ") };
            Failure::usage(format!("there is no command {name:?} here; there are: {known}"))
        })?;
    }
    let mut text = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut text)
        .map_err(|e| Failure::failed(format!("cannot write the manual page: {e}")))?;
    out::bytes(&text)
}
