//! Measures Engram beside what people would pick instead, in one run, on the same work.
//!
//! ```text
//! engram-peers [--quick] [--check] [--publish] [--only PART]... [--engines NAME,...] [--dir DIR]
//! ```
//! `--publish` puts the results into `docs/performance.md`; with `--only none` those of before.
//! The same rules as in `engram-bench`, whose reports and statistics are used here: slices of at
//! most a second in turn, ratios within each round, medians and quartiles. Acknowledged means
//! synced, for all.

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

mod appends;
mod crowd;
mod engines;
mod matrix;
mod mixed;
mod network;
mod open_loop;
mod plot;
mod publish;
mod quiet;
mod record;
mod recovery;
#[path = "../../src/report.rs"]
#[expect(dead_code, reason = "engram-bench saves in its own way")]
mod report;
mod results;
#[path = "../../src/server.rs"]
#[expect(dead_code, reason = "engram-bench starts and stops in other ways, too")]
mod server;
mod servers;
mod soak;
mod space;
#[path = "../../src/stats.rs"]
mod stats;
mod sustained;
mod wire;

use results::Results;

/// What a part gives back: anything may fail, and then the others go on.
pub(crate) type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What a part does.
type Run = fn(&Plan) -> Outcome<Results>;

/// A name, whether a quick run has it, and what it does.
type Part = (&'static str, bool, Run);

/// The parts, in the order of the table.
const PARTS: [Part; 12] = [
    ("appends-3500", true, |plan| appends::run(plan, 3500)),
    ("appends-128", false, |plan| appends::run(plan, 128)),
    ("appends-1024", false, |plan| appends::run(plan, 1024)),
    ("appends-16384", false, |plan| appends::run(plan, 16 << 10)),
    ("appends-65536", false, |plan| appends::run(plan, 64 << 10)),
    ("mixed", false, mixed::run),
    ("network", true, network::run),
    ("open-loop", true, open_loop::run),
    ("sustained", false, sustained::run),
    ("recovery", true, recovery::run),
    ("space", true, space::run),
    ("soak", false, soak::run),
];

/// What is to be done.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Fewer sizes, fewer rounds, shorter slices.
    pub(crate) quick: bool,
    check: bool,
    publish: bool,
    only: Vec<String>,
    engines: Vec<String>,
    dir: PathBuf,
}

const USAGE: &str =
    "[--quick] [--check] [--publish] [--only PART]... [--engines NAME,...] [--dir DIR]";

impl Plan {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut plan = Self {
            quick: false,
            check: false,
            publish: false,
            only: Vec::new(),
            engines: Vec::new(),
            dir: out().join("peers-data"),
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} what?"));
            match argument.as_str() {
                "--quick" => plan.quick = true,
                "--check" => plan.check = true,
                "--publish" => plan.publish = true,
                "--only" => plan.only.push(value()?),
                "--engines" => plan.engines = value()?.split(',').map(str::to_owned).collect(),
                // A directory of our own below it: it is removed at the end.
                "--dir" => plan.dir = Path::new(&value()?).join("engram-peers"),
                _ => return Err(format!("{argument}? usage: engram-peers {USAGE}").into()),
            }
        }
        let is_part = |name: &String| PARTS.iter().any(|(part, ..)| part == name);
        if let Some(name) = plan.only.iter().find(|name| !is_part(name) && *name != "none") {
            let names = PARTS.map(|(name, ..)| name).join(", ");
            return Err(format!("no part {name:?}; there are {names}").into());
        }
        Ok(plan)
    }

    /// Whether that engine is to be measured: by its name, which may have a word after a comma.
    pub(crate) fn wants(&self, engine: &str) -> bool {
        let first = engine.split(',').next();
        self.engines.is_empty()
            || self.engines.iter().any(|name| name == engine || Some(name.as_str()) == first)
    }

    /// How long a turn is.
    pub(crate) fn slice(&self) -> Duration {
        Duration::from_millis(if self.quick { 150 } else { 200 })
    }

    /// How many turns each has.
    pub(crate) fn rounds(&self) -> usize {
        if self.quick { 5 } else { 7 }
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

/// Where results go.
fn out() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bench")
}

/// The page that tells them.
fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/performance.md")
}

/// Writes a line to stdout. A reader that went away is no reason to stop measuring.
pub(crate) fn say(line: &str) {
    writeln!(std::io::stdout().lock(), "{line}").unwrap_or_default();
}

/// Writes a line of progress to stderr.
pub(crate) fn progress(line: &str) {
    writeln!(std::io::stderr().lock(), "{line}").unwrap_or_default();
}

fn measure(plan: &Plan) -> Outcome<ExitCode> {
    let mut results = Results::default();
    for (name, is_quick, part) in PARTS {
        let is_wanted = if plan.only.is_empty() {
            is_quick || !plan.quick
        } else {
            plan.only.iter().any(|only| only == name)
        };
        if !is_wanted {
            continue;
        }
        progress(&format!("{name} ..."));
        let begin = Instant::now();
        // A thread of its own: a part that panics takes only itself along.
        let outcome = std::thread::scope(|scope| scope.spawn(|| part(plan)).join());
        let mut part = Results::default();
        match outcome {
            Ok(Ok(results)) => part = results,
            Ok(Err(cause)) => part.report.fail(name, &cause.to_string()),
            Err(_) => part.report.fail(name, "it panicked, see above"),
        }
        part.save(&out().join("peers"), name, plan.quick)?;
        results.join(part);
        progress(&format!("{name}: {:.1} s", begin.elapsed().as_secs_f64()));
        if plan.dir.exists() {
            std::fs::remove_dir_all(&plan.dir)?;
        }
    }
    say(&results.tables());
    say(&results.report.table());
    progress(&format!("JSON, tables and plots are in {}", out().join("peers").display()));
    if plan.publish {
        publish::publish(&out().join("peers"), &page())?;
        progress(&format!("{} has them now", page().display()));
    }
    let good = results.report.is_whole() && (results.report.is_met() || !plan.check);
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// This program again, for one recovery.
fn child(count: &str, run: impl FnOnce(u64) -> Outcome<()>) -> Outcome<ExitCode> {
    run(count.parse()?).map(|()| ExitCode::SUCCESS)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["--child-fill", engine, dir, records] => {
            child(records, |records| recovery::child_fill(engine, Path::new(dir), records))
        }
        ["--child-recover", engine, dir, acknowledged] => child(acknowledged, |acknowledged| {
            recovery::child_recover(engine, Path::new(dir), acknowledged)
        }),
        _ => Plan::parse(arguments.iter().map(|argument| (*argument).to_owned()))
            .and_then(|plan| measure(&plan)),
    };
    outcome.unwrap_or_else(|cause| {
        progress(&format!("engram-peers: {cause}"));
        ExitCode::from(2)
    })
}
