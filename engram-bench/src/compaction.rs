//! Compaction: how fast it reads its input when alone, and what writers notice of it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use engram_core::{Durability, Options, Store};

use crate::memory::{RECORD_BYTES, Writers, fill, options, record_text};
use crate::report::{Report, Target};
use crate::stats::{Spread, bytes, quantile};
use crate::{Outcome, Plan};

const PART: &str = "compaction";
/// Bytes of input per second, alone.
const RATE: f64 = 5e8;
/// The time of a plain copy (the same bytes read, half of them written and synced) over compaction's.
const OF_COPYING: f64 = 0.5;
/// The writers' p99 beside it, over that without it.
const DISTURBANCE: f64 = 1.5;
const WRITERS: usize = 32;
/// Writers' episodes are numbered from here on, so that they never meet the filling.
const WRITERS_FROM: u64 = 10_000_000_000;

/// Measures.
pub(crate) fn run(plan: &Plan) -> Outcome<Report> {
    let mut report = Report::default();
    alone(plan, &mut report)?;
    beside_writers(plan, &mut report)?;
    Ok(report)
}

/// Every second record of a sealed log is dead; all of the log is input, on the disk or in memory.
fn alone(plan: &Plan, report: &mut Report) -> Outcome<()> {
    let dir = plan.fresh_dir("compaction-alone")?;
    let what = record_text(&dir)?;
    let (rounds, log_bytes) = if plan.quick { (3, 200_000_000) } else { (7, 1_000_000_000) };
    let records: u64 = log_bytes / RECORD_BYTES;
    for (place, target) in
        [(Place::Disk, Target::AtLeast(OF_COPYING)), (Place::Memory, Target::None)]
    {
        let (mut rates, mut copies) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let data = dir.join(round.to_string());
            rates.push(compact_half(&data, &what, records, place)?);
            std::fs::remove_dir_all(&data)?;
            copies.push(copy_half(&dir, records * RECORD_BYTES, place)?);
        }
        let name = place.name();
        let figure = |what: &str| format!("{what}, input {name}");
        let (alone, copy) = (Spread::of(&rates), Spread::of(&copies));
        report.add(PART, figure("alone, half of it dead"), "bytes/s", alone, Target::AtLeast(RATE));
        report.add(PART, figure("a plain copy of half"), "bytes/s", copy, Target::None);
        let ratio = Spread::of_ratios(&rates, &copies);
        report.add(PART, figure("alone / a plain copy"), "ratio", ratio, target);
    }
    Ok(())
}

/// Where the input is when the clock starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// On the disk alone.
    Disk,
    /// In the page cache as well.
    Memory,
}

impl Place {
    const fn name(self) -> &'static str {
        match self {
            Self::Disk => "on disk",
            Self::Memory => "in memory",
        }
    }

    /// Sees to it that a file is synced, and there.
    fn put(self, file: &File) -> Outcome<()> {
        file.sync_all()?;
        if self == Self::Disk {
            rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
        Ok(())
    }
}

/// What the disk and the machine give to who reads a file just written, writes half of it to another
/// one, and syncs that: bytes of input per second.
fn copy_half(dir: &Path, log_bytes: u64, place: Place) -> Outcome<f64> {
    const PIECE: usize = 1 << 20;
    let (from, to) = (dir.join("from"), dir.join("to"));
    let mut piece = vec![0x5a; PIECE];
    let open = |path: &Path| {
        std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)
    };
    let (input, output) = (open(&from)?, open(&to)?);
    let pieces = log_bytes / PIECE as u64;
    for number in 0..pieces {
        input.write_all_at(&piece, number * PIECE as u64)?;
    }
    place.put(&input)?;
    let begin = Instant::now();
    for number in 0..pieces {
        input.read_exact_at(&mut piece, number * PIECE as u64)?;
        let half = piece.get(..PIECE / 2).unwrap_or_default();
        output.write_all_at(half, number * (PIECE as u64 / 2))?;
    }
    output.sync_data()?;
    let seconds = begin.elapsed().as_secs_f64();
    std::fs::remove_file(&from)?;
    std::fs::remove_file(&to)?;
    Ok(bytes(pieces * PIECE as u64) / seconds)
}

/// Makes a log, overwrites every second record of it, and compacts; bytes of input per second.
fn compact_half(data: &Path, what: &str, records: u64, place: Place) -> Outcome<f64> {
    let options = options(Durability::Never, 64 << 20);
    let store = Store::open(data, Options { compaction_bytes_per_second_max: 0, ..options })?;
    fill(&store, what, 0..records)?;
    fill(&store, what, (0..records).step_by(2))?;
    for entry in std::fs::read_dir(data.join("wal"))? {
        place.put(&File::open(entry?.path())?)?;
    }
    let begin = Instant::now();
    let stats = store.compact_from_memory()?;
    let seconds = begin.elapsed().as_secs_f64();
    store.close()?;
    if stats.bytes_reclaimed < records * RECORD_BYTES / 4 {
        return Err(format!("only {} bytes reclaimed", stats.bytes_reclaimed).into());
    }
    Ok(bytes(stats.bytes_before) / seconds)
}

/// Rounds of: make garbage that takes about a second to compact at the limit; writers alone for
/// a slice; writers while it is compacted.
fn beside_writers(plan: &Plan, report: &mut Report) -> Outcome<()> {
    const SLICE: Duration = Duration::from_millis(800);
    /// Half of these become garbage: 56 MB of input, 0.9 seconds at the limit.
    const WINDOW: u64 = 16_000;
    let dir = plan.fresh_dir("compaction-beside")?;
    let what = record_text(&dir)?;
    let store = Store::open(dir.join("data"), options(Durability::Always, 8 << 20))?;
    let writers = Writers::from(WRITERS_FROM);
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let mut overlap = Vec::new();
    for round in 0..if plan.quick { 6 } else { 20 } {
        let window = round * WINDOW..(round + 1) * WINDOW;
        fill(&store, &what, window.clone())?;
        fill(&store, &what, window.step_by(2))?;
        let start = Instant::now();
        let alone = writers.run(&store, &what, WRITERS, &|| start.elapsed() < SLICE)?.1;

        let running = AtomicBool::new(true);
        let (stats, beside) = std::thread::scope(|scope| {
            let compactor = scope.spawn(|| {
                let stats = store.compact_from_memory();
                running.store(false, Ordering::Release);
                stats
            });
            let go_on = || running.load(Ordering::Acquire);
            let beside = writers.run(&store, &what, WRITERS, &go_on);
            (compactor.join(), beside)
        });
        overlap.push(stats.map_err(|_| "the compactor panicked")??.duration_seconds);
        let beside = beside?.1;
        without.extend(p99(alone));
        with.extend(p99(beside));
    }
    store.close()?;
    let seconds = "seconds";
    report.add(PART, "32 writers alone: p99", seconds, Spread::of(&without), Target::None);
    report.add(PART, "32 writers beside it: p99", seconds, Spread::of(&with), Target::None);
    report.add(PART, "a limited run", seconds, Spread::of(&overlap), Target::None);
    let ratio = Spread::of_ratios(&with, &without);
    report.add(PART, "p99 beside / alone", "ratio", ratio, Target::AtMost(DISTURBANCE));
    Ok(())
}

fn p99(mut latencies: Vec<f64>) -> Option<f64> {
    latencies.sort_by(f64::total_cmp);
    quantile(&latencies, 0.99)
}
