//! Runs targets without an engine: one input, random ones, or writes the seeds.

#![expect(clippy::disallowed_methods, reason = "reads and writes a corpus, not the engine's data")]

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use engram_fuzz::havoc::{self, Random};
use engram_fuzz::{TARGETS, Target, target};

const USAGE: &str = "engram-fuzz seeds DIR | run TARGET FILE… | random TARGET COUNT [SEED]";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["seeds", dir] => seeds(Path::new(dir)),
        ["run", name, files @ ..] => known(name).and_then(|target| run(target, files)),
        ["random", name, count, seed @ ..] => {
            known(name).map(|target| random(target, count, seed.first().copied()))
        }
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            drop(writeln!(std::io::stderr(), "{problem}"));
            ExitCode::from(2)
        }
    }
}

fn known(name: &str) -> Result<&'static Target, String> {
    let names = TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
    target(name).ok_or_else(|| format!("no target {name:?}; there are: {names}"))
}

fn seeds(dir: &Path) -> Result<(), String> {
    for target in &TARGETS {
        let dir = dir.join(target.name);
        let failed = |error| format!("{}: {error}", dir.display());
        std::fs::create_dir_all(&dir).map_err(failed)?;
        for (number, seed) in (target.seeds)().into_iter().enumerate() {
            std::fs::write(dir.join(format!("seed-{number}")), seed).map_err(failed)?;
        }
    }
    Ok(())
}

fn run(target: &Target, files: &[&str]) -> Result<(), String> {
    for file in files {
        let input = std::fs::read(file).map_err(|error| format!("{file}: {error}"))?;
        (target.run)(&input);
    }
    Ok(())
}

fn random(target: &Target, count: &str, seed: Option<&str>) {
    let number = |text: &str| text.parse().unwrap_or(1);
    let known = (target.seeds)();
    let mut random = Random::new(seed.map_or(1, number));
    for _ in 0..number(count) {
        let input = havoc::input(&mut random, &known, target.input_bytes_max);
        (target.run)(&input);
    }
}
