//! Measures Engram against the limit of the disk and the machine, and against its targets.
//!
//! ```text
//! engram-bench [--quick] [--check] [--only PART]... [--dir DIR]
//! ```
//! `--quick` takes small logs and fewer slices, under five minutes; `--check` exits 1 when a
//! target is not met. `DIR` (`target/bench/data` if left out) should be on the disk that is to
//! be measured, not in memory. The table goes to stdout, JSON to `target/bench/`.
//!
//! What is compared takes turns in slices of at most a second; see [`stats`]. Deliberately
//! absent: peers, which have a program of their own (`peers/`), and any timing inside of tests.

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

mod compaction;
mod empty;
mod http;
mod import;
mod library;
mod limit;
mod memory;
mod recovery;
mod report;
mod server;
mod stats;

use report::Report;

/// What a part gives back: anything may fail, and then the others go on.
pub(crate) type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

type Part = (&'static str, fn(&Plan) -> Outcome<Report>);

/// The parts, in the order of the table.
const PARTS: [Part; 7] = [
    ("limit", limit::run),
    ("commit", library::run),
    ("recovery", recovery::run),
    ("compaction", compaction::run),
    ("http", http::run),
    ("empty", empty::run),
    ("import", import::run),
];

/// What is to be done.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Small logs, few slices.
    pub(crate) quick: bool,
    check: bool,
    only: Vec<String>,
    dir: PathBuf,
}

impl Plan {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut plan =
            Self { quick: false, check: false, only: Vec::new(), dir: out().join("data") };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} what?"));
            match argument.as_str() {
                "--quick" => plan.quick = true,
                "--check" => plan.check = true,
                "--only" => plan.only.push(value()?),
                // A directory of our own below it: it is removed at the end.
                "--dir" => plan.dir = Path::new(&value()?).join("engram-bench"),
                _ => {
                    let usage = "[--quick] [--check] [--only PART]... [--dir DIR]";
                    return Err(format!("{argument}? usage: engram-bench {usage}").into());
                }
            }
        }
        let is_part = |name: &String| PARTS.iter().any(|(part, _)| part == name);
        if let Some(name) = plan.only.iter().find(|name| !is_part(name)) {
            let names = PARTS.map(|(name, _)| name).join(", ");
            return Err(format!("no part {name:?}; there are {names}").into());
        }
        Ok(plan)
    }

    /// An empty directory for one part.
    pub(crate) fn fresh_dir(&self, name: &str) -> Outcome<PathBuf> {
        let dir = self.dir.join(name);
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        std::fs::create_dir_all(&dir)?;
        Ok(dir)
    }
}

/// Where JSON goes.
fn out() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench")
}

/// Writes a line to stdout. A reader that went away is no reason to stop measuring.
pub(crate) fn say(line: &str) {
    writeln!(std::io::stdout().lock(), "{line}").unwrap_or_default();
}

/// Writes a line of progress to stderr.
fn progress(line: &str) {
    writeln!(std::io::stderr().lock(), "{line}").unwrap_or_default();
}

fn measure(plan: &Plan) -> Outcome<ExitCode> {
    let mut report = Report::default();
    for (name, part) in PARTS {
        if !plan.only.is_empty() && !plan.only.iter().any(|only| only == name) {
            continue;
        }
        progress(&format!("{name} ..."));
        let begin = Instant::now();
        // A thread of its own: a part that panics takes only itself along.
        let outcome = std::thread::scope(|scope| scope.spawn(|| part(plan)).join());
        match outcome {
            Ok(Ok(part)) => report.join(part),
            Ok(Err(cause)) => report.fail(name, &cause.to_string()),
            Err(_) => report.fail(name, "it panicked, see above"),
        }
        progress(&format!("{name}: {:.1} s", begin.elapsed().as_secs_f64()));
        if plan.dir.exists() {
            std::fs::remove_dir_all(&plan.dir)?;
        }
    }
    say(&report.table());
    let path = report.save(&out(), plan.quick)?;
    progress(&format!("written to {}", path.display()));
    let good = report.is_whole() && (report.is_met() || !plan.check);
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    let outcome = if arguments.next_if(|first| first == "--child-recovery").is_some() {
        let data = PathBuf::from(arguments.next().unwrap_or_default());
        let threads = arguments.next().and_then(|threads| threads.parse().ok()).unwrap_or(0);
        recovery::child(&data, threads).map(|()| ExitCode::SUCCESS)
    } else {
        Plan::parse(arguments).and_then(|plan| measure(&plan))
    };
    outcome.unwrap_or_else(|cause| {
        progress(&format!("engram-bench: {cause}"));
        ExitCode::from(2)
    })
}
