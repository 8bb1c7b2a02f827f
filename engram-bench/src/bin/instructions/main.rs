//! Counts the instructions of hot paths under valgrind's callgrind, and fails where one takes more
//! than it may: time differs from run to run and machine to machine, instructions hardly do.
//!
//! ```text
//! instructions BOUNDS_FILE
//! ```
//! Each path runs twice, in a process of its own, with few operations and with many; the difference
//! is what the operations between cost, without start and end. The store is stepped by its caller
//! ([`Drive::Steps`](engram_core::store::Drive)), so there are no threads. Deliberately absent:
//! system calls, whose instructions are the kernel's, and any measurement of time.

use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

mod bounds;
mod paths;

use bounds::Bounds;
use paths::HotPath;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const NO_STRING_INSTRUCTIONS: &str = "glibc.cpu.x86_rep_movsb_threshold=0x7fffffff:\
    glibc.cpu.x86_rep_stosb_threshold=0x7fffffff";

/// What callgrind counts, and where its finding is kept.
fn count(dir: &Path, path: &HotPath, operations: u64) -> Outcome<(u64, PathBuf)> {
    let data = dir.join(format!("{}-{operations}", path.name));
    if let Some(prepare) = path.prepare {
        prepare(&data, operations)?;
    }
    let profile = data.with_extension("callgrind");
    let ran = Command::new("valgrind")
        // Some processors copy and fill by one instruction that counts for each byte.
        .env("GLIBC_TUNABLES", NO_STRING_INSTRUCTIONS)
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(std::env::current_exe()?)
        .args(["--path", path.name])
        .arg(&data)
        .arg(operations.to_string())
        .output()
        .map_err(|e| format!("valgrind could not be started: {e}"))?;
    let said = String::from_utf8_lossy(&ran.stderr);
    let collected =
        said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    match collected {
        Some(collected) if ran.status.success() => Ok((collected, profile)),
        _ => Err(format!("{} under valgrind: {}\n{said}", path.name, ran.status).into()),
    }
}

fn measure(bounds_file: &Path) -> Outcome<ExitCode> {
    let bounds = Bounds::parse(&std::fs::read_to_string(bounds_file)?)?;
    let dir = paths::fresh(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/instructions"))?;
    let mut stdout = std::io::stdout().lock();
    let mut failed = false;
    for path in &paths::PATHS {
        let (few, _) = count(&dir, path, path.few)?;
        let (many, profile) = count(&dir, path, path.many)?;
        let counted = many.saturating_sub(few) / (path.many - path.few);
        match bounds.judge(path.name, counted) {
            Ok(said) => writeln!(stdout, "{said}")?,
            Err(e) => {
                failed = true;
                writeln!(stdout, "{e}\n  Where: callgrind_annotate {}", profile.display())?;
            }
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn main() -> Outcome<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--path", name, data, operations] => {
            let path = paths::PATHS.iter().find(|path| path.name == name);
            let path = path.ok_or_else(|| format!("no path {name:?}"))?;
            (path.run)(Path::new(data), operations.parse()?)?;
            Ok(ExitCode::SUCCESS)
        }
        [bounds_file] => measure(Path::new(bounds_file)),
        _ => Err("usage: instructions BOUNDS_FILE".into()),
    }
}
