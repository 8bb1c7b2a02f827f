//! Real input: 258,112 chat messages through `engram import`, and a restart on the log they make.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use crate::report::{Report, Target};
use crate::server::{Server, binary, get};
use crate::stats::{Spread, bytes};
use crate::{Outcome, Plan};

const PART: &str = "import";
/// Episodes per second.
const RATE: f64 = 100_000.0;
const READY_SECONDS: f64 = 1.0;

/// Measures.
pub(crate) fn run(plan: &Plan) -> Outcome<Report> {
    let dir = plan.fresh_dir("import")?;
    let file = corpus()?;
    let lines = bytes_lines(&std::fs::read(&file)?);
    let (mut rates, mut ready) = (Vec::new(), Vec::new());
    for round in 0..if plan.quick { 3 } else { 7 } {
        let data = dir.join(round.to_string());
        let server = Server::start(&data)?;
        let begin = Instant::now();
        let import = Command::new(binary()?)
            .arg("import")
            .arg(&file)
            .args(["--server", &format!("http://{}", server.address)])
            .output()?;
        let seconds = begin.elapsed().as_secs_f64();
        if !import.status.success() {
            return Err(String::from_utf8_lossy(&import.stderr).into_owned().into());
        }
        expect_episodes(&server, lines)?;
        rates.push(bytes(lines) / seconds);
        server.stop()?;
        let server = Server::start(&data)?;
        ready.push(server.ready.as_secs_f64());
        expect_episodes(&server, lines)?;
        server.stop()?;
        std::fs::remove_dir_all(&data)?;
    }
    let mut report = Report::default();
    let name = format!("{lines} messages");
    report.add(PART, name, "episodes/s", Spread::of(&rates), Target::AtLeast(RATE));
    let ready = Spread::of(&ready);
    report.add(PART, "restart to ready", "seconds", ready, Target::AtMost(READY_SECONDS));
    Ok(report)
}

/// A rate counts only when everything is there.
fn expect_episodes(server: &Server, expected: u64) -> Outcome<()> {
    let (status, body) = get(&server.address, "/v1/spaces")?;
    let answer: Value = serde_json::from_str(&body)?;
    let spaces = answer["spaces"].as_array().ok_or_else(|| format!("{status}: {body}"))?;
    let found: u64 = spaces.iter().filter_map(|space| space["episodes"].as_u64()).sum();
    if found == expected {
        return Ok(());
    }
    Err(format!("{found} of {expected} episodes are there").into())
}

/// The corpus as JSONL, made if it is not there.
fn corpus() -> Outcome<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let file = root.join("target/chitchat/chitchat.jsonl");
    if !file.exists() {
        let made = Command::new(root.join("scripts/chitchat.py")).output()?;
        if !made.status.success() {
            return Err(format!(
                "scripts/chitchat.py: {}",
                String::from_utf8_lossy(&made.stderr).trim_end()
            )
            .into());
        }
    }
    Ok(file)
}

fn bytes_lines(text: &[u8]) -> u64 {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count() as u64
}
