//! A day's writing in half an hour: the same episodes overwritten at a fixed rate, so that what is
//! live stays the same and everything else has to go again: from the log, from the indexes and from
//! memory. What grows, or gets slower, is seen from the first fifth of the time to the last; and
//! after each window the bare disk has a turn, since disks of shared machines get slower by themselves.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::engines::Written;
use crate::network::RECORD_BYTES;
use crate::open_loop::Latencies;
use crate::record::text;
use crate::report::{Report, Target};
use crate::results::Results;
use crate::servers;
use crate::space::disk_bytes;
use crate::stats::{Spread, bytes, quantile};
use crate::wire::Clients;
use crate::{Outcome, Plan, progress, quiet};

const PART: &str = "soak";
/// As it starts: with words and meaning indexed.
const SERVER: &str = "engram-server, embedding";
/// Episodes that are overwritten.
const LIVE: u64 = 50_000;
/// Requests a second: 3.6 million in half an hour.
const RATE: f64 = 2_000.0;
const CONNECTIONS: usize = 128;
/// Of a window; the drift is from the first fifth of them to the last.
const WINDOW: Duration = Duration::from_mins(1);
const WINDOWS: usize = 30;
const WINDOWS_QUICK: usize = 5;
const PARTS: usize = 5;
const TICKS_PER_SECOND: f64 = 100.0;
/// The turn of the bare disk behind each.
const DISK_TURN: Duration = Duration::from_secs(1);

/// What was seen in each window.
#[derive(Debug, Default)]
struct Seen {
    memory: Vec<f64>,
    disk: Vec<f64>,
    latencies: Latencies,
    /// Percentiles of a sync of one record by the bare disk.
    sync_p50: Vec<f64>,
    sync_p99: Vec<f64>,
    /// Processor time of a request, that of indexing and compaction included.
    processor: Vec<f64>,
}

/// Measures.
pub(crate) fn run(plan: &Plan) -> Outcome<Results> {
    let dir = plan.fresh_dir(PART)?;
    let (running, missing) = servers::start_all(&dir, |name| name == SERVER);
    let server = running.first().ok_or_else(|| missing.join("; "))?;
    let record = text(RECORD_BYTES);
    let mut clients = server.clients(CONNECTIONS, &record)?.numbered_below(LIVE);
    let (windows, window) =
        if plan.quick { (WINDOWS_QUICK, WINDOW / 6) } else { (WINDOWS, WINDOW) };
    let mut limit = Written::prepare(&plan.fresh_dir("soak-disk")?, &record)?;
    fill(&mut clients)?;
    let mut seen = Seen::default();
    let begin = Instant::now();
    for number in 1..=windows {
        let before = quiet::ticks(&server.process())?;
        seen.latencies.push(clients.open_loop(RATE, window)?);
        let ticks = quiet::ticks(&server.process())? - before;
        seen.processor.push(bytes(ticks) / TICKS_PER_SECOND / (RATE * window.as_secs_f64()));
        seen.memory.push(resident(&server.process())?);
        seen.disk.push(bytes(disk_bytes(&dir)?));
        let mut syncs = Vec::new();
        limit.slice(1, DISK_TURN, &mut syncs)?;
        syncs.sort_by(f64::total_cmp);
        seen.sync_p50.extend(quantile(&syncs, 0.5));
        seen.sync_p99.extend(quantile(&syncs, 0.99));
        let minutes = begin.elapsed().as_secs_f64() / 60.0;
        progress(&format!("{PART}: {number} of {windows}, {minutes:.1} minutes"));
    }
    Ok(Results::of(seen.report()))
}

/// Every episode once.
fn fill(clients: &mut Clients) -> Outcome<()> {
    let mut written = 0;
    while written < LIVE {
        written += clients.slice(Duration::from_millis(200))?.latencies.len() as u64;
    }
    Ok(())
}

impl Seen {
    fn report(&self) -> Report {
        let mut report = Report::default();
        for (what, unit, values) in [
            ("resident memory", "bytes", &self.memory),
            ("disk, over live bytes", "ratio", &self.disk),
            ("processor time a request", "seconds", &self.processor),
            ("p50", "seconds", &self.latencies.p50),
            ("p99", "seconds", &self.latencies.p99),
            ("p99.9", "seconds", &self.latencies.p999),
            ("the bare disk's p50", "seconds", &self.sync_p50),
            ("the bare disk's p99", "seconds", &self.sync_p99),
        ] {
            let live = bytes(LIVE * RECORD_BYTES as u64);
            let scale = if unit == "ratio" { live } else { 1.0 };
            let scaled: Vec<f64> = values.iter().map(|value| value / scale).collect();
            let fifth = scaled.len() / PARTS;
            let first = scaled.get(..fifth).unwrap_or_default();
            let last = scaled.get(scaled.len() - fifth..).unwrap_or_default();
            report.add(PART, format!("{what}: first"), unit, Spread::of(first), Target::None);
            report.add(PART, format!("{what}: last"), unit, Spread::of(last), Target::None);
            let drift = Spread::of_ratios(last, first);
            report.add(PART, format!("{what}: last / first"), "ratio", drift, Target::None);
        }
        if self.latencies.unsent > 0 {
            report.note(format!("{PART}: {} requests were never sent", self.latencies.unsent));
        }
        report
    }
}

/// Memory that a process has, in bytes.
fn resident(process: &str) -> Outcome<f64> {
    let status = std::fs::read_to_string(Path::new("/proc").join(process).join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()).ok_or("no VmRSS")?;
    Ok(bytes(kilobytes.parse::<u64>()? << 10))
}
