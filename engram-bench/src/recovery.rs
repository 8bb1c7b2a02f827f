//! Recovery from the page cache: bytes per second and core, and peak memory, over logs of
//! several sizes.
//!
//! Each start is a process of its own (this program, called again), so that the peak of its
//! resident memory is that of one recovery and of nothing before it.

use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use engram_core::{Durability, Store};
use serde_json::{Value, json};

use crate::memory::{RECORD_BYTES, SPACE, fill, options, record_text};
use crate::report::{Report, Target};
use crate::stats::{Spread, bytes};
use crate::{Outcome, Plan};

const PART: &str = "recovery";
const SEGMENT_BYTES: u64 = 64 << 20;
/// Bytes per second and core.
const RATE: f64 = 1e9;
/// Peak resident memory: this part of the log, and this much beside it.
const MEMORY_PART: f64 = 0.15;
const MEMORY_BASE: f64 = (48 << 20) as f64;
/// The rate of the largest log is at least this part of the smallest one's: linear, with room
/// for what does not fit into the processor's caches.
const LINEAR: f64 = 0.8;
const STARTS: usize = 7;

/// Measures.
pub(crate) fn run(plan: &Plan) -> Outcome<Report> {
    let dir = plan.fresh_dir("recovery")?;
    let what = record_text(&dir)?;
    let data = dir.join("data");
    let mut report = Report::default();
    let mut rates = Vec::new();
    let mut filled = 0;
    let sizes: &[u64] = if plan.quick { &[100, 500] } else { &[100, 500, 1000, 2000, 4000] };
    for megabytes in sizes {
        let log_bytes = megabytes * 1_000_000;
        if bytes(log_bytes) > 0.6 * bytes(memory_available()?) {
            report.note(format!("{PART}: {megabytes} MB of log do not fit into the page cache"));
            break;
        }
        let records = log_bytes / RECORD_BYTES;
        grow(&data, &what, filled..records)?;
        filled = records;
        warm(&data)?;
        let one_core = starts(&data, 1, records)?;
        let all_cores = starts(&data, 0, records)?;
        let name = |figure: &str| format!("{megabytes} MB: {figure}");
        let of = |observed: &[Start], figure: fn(&Start) -> f64| {
            Spread::of(&observed.iter().map(figure).collect::<Vec<_>>())
        };
        let rate = of(&one_core, |start| start.rate);
        rates.extend(rate.map(|rate| rate.median));
        report.add(PART, name("one core"), "bytes/s", rate, Target::AtLeast(RATE));
        let rate = of(&all_cores, |start| start.rate);
        report.add(PART, name("all cores"), "bytes/s", rate, Target::None);
        let ready = of(&all_cores, |start| start.seconds);
        report.add(PART, name("open"), "seconds", ready, Target::None);
        let peak = of(&all_cores, |start| start.peak);
        let bound = MEMORY_PART * bytes(log_bytes) + MEMORY_BASE;
        report.add(PART, name("peak memory"), "bytes", peak, Target::AtMost(bound));
    }
    if let (Some(first), Some(last)) = (rates.first(), rates.last()) {
        let ratio = Spread::of(&[last / first]);
        report.add(PART, "rate, largest / smallest", "ratio", ratio, Target::AtLeast(LINEAR));
    }
    Ok(report)
}

/// One start.
#[derive(Debug)]
struct Start {
    /// Bytes of log per second of recovery.
    rate: f64,
    /// From the call of `open` to its return.
    seconds: f64,
    /// Peak resident memory, in bytes.
    peak: f64,
}

/// Starts a child again and again; the first one is thrown away.
fn starts(data: &Path, threads: usize, records: u64) -> Outcome<Vec<Start>> {
    let mut observed = Vec::new();
    for round in 0..=STARTS {
        let child = Command::new(std::env::current_exe()?)
            .args(["--child-recovery".as_ref(), data.as_os_str()])
            .arg(threads.to_string())
            .output()?;
        if !child.status.success() {
            return Err(String::from_utf8_lossy(&child.stderr).into_owned().into());
        }
        let answer: Value = serde_json::from_slice(&child.stdout)?;
        let figure = |name: &str| answer[name].as_f64().ok_or_else(|| format!("no {name}"));
        if answer["episodes"].as_u64() != Some(records) {
            return Err(format!("{} of {records} episodes recovered", answer["episodes"]).into());
        }
        if round > 0 {
            observed.push(Start {
                rate: figure("bytes")? / figure("recovery")?,
                seconds: figure("open")?,
                peak: figure("peak")?,
            });
        }
    }
    Ok(observed)
}

/// What the child does: opens, and tells its figures on stdout.
pub(crate) fn child(data: &Path, threads: usize) -> Outcome<()> {
    let mut options = options(Durability::Never, SEGMENT_BYTES);
    options.recovery_threads = threads;
    let begin = Instant::now();
    let store = Store::open(data, options)?;
    let open = begin.elapsed().as_secs_f64();
    let peak = status_bytes("self", "VmHWM")?;
    let report = store.recovery_report();
    let episodes: u64 =
        store.spaces().iter().filter(|space| space.name == SPACE).map(|space| space.episodes).sum();
    let answer = json!({
        "bytes": report.bytes_scanned, "recovery": report.duration_seconds, "open": open,
        "peak": peak, "episodes": episodes,
    });
    crate::say(&answer.to_string());
    store.close()?;
    Ok(())
}

/// A figure of `/proc/PID/status`, in bytes.
pub(crate) fn status_bytes(process: &str, key: &str) -> Outcome<u64> {
    kibibytes(&std::fs::read_to_string(format!("/proc/{process}/status"))?, key)
}

fn memory_available() -> Outcome<u64> {
    kibibytes(&std::fs::read_to_string("/proc/meminfo")?, "MemAvailable")
}

fn kibibytes(text: &str, key: &str) -> Outcome<u64> {
    let line = text.lines().find(|line| line.starts_with(key));
    let count = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(count.ok_or_else(|| format!("no {key}"))?.parse::<u64>()? << 10)
}

/// Adds records to the log. The store is gone afterwards, so that a child may have it.
fn grow(data: &Path, what: &str, numbers: Range<u64>) -> Outcome<()> {
    let store = Store::open(data, options(Durability::Never, SEGMENT_BYTES))?;
    fill(&store, what, numbers)?;
    Ok(store.close()?)
}

/// Reads the whole log once, so that the page cache has it.
fn warm(data: &Path) -> Outcome<()> {
    for entry in std::fs::read_dir(data.join("wal"))? {
        std::io::copy(&mut std::fs::File::open(entry?.path())?, &mut std::io::sink())?;
    }
    Ok(())
}
