//! Recovery after a kill: how long until everything is there again, and how much memory it took.
//!
//! A child fills an engine and goes on to append until it is killed (SIGKILL). Each start has a
//! copy of what that left, from the page cache (warm) or not (cold), and is a process of its own,
//! so that its peak of memory is that of one recovery. It counts when the last record that was
//! acknowledged before the kill has been read.

use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::fs::Advice;
use serde_json::{Value, json};

use crate::engines::{self, Engine, Setup};
use crate::record::text;
use crate::report::{Report, Target};
use crate::results::Results;
use crate::stats::{Spread, bytes};
use crate::{Outcome, Plan};

const PART: &str = "recovery";
const ENGRAM: &str = "engram";
const RECORD_BYTES: usize = 3500;
/// Records of one batch while filling.
const BATCH: u64 = 500;
/// What any recovery must at least do, with as many threads: read the bytes and checksum them.
const READING: &str = "read and checksum";
/// okaywal keeps no more than its current files: there is nothing of that size to recover.
const ENGINES: &[&str] = &[
    ENGRAM,
    "sqlite",
    "sqlite, all in its log",
    "redb",
    "fjall",
    "raft-engine",
    #[cfg(feature = "rocksdb")]
    "rocksdb",
    #[cfg(feature = "rocksdb")]
    "rocksdb, all in its log",
];
/// Who checkpoints every few megabytes has as little to recover at any size: told, not compared.
const CHECKPOINTING: [&str; 2] = ["sqlite", "rocksdb"];
/// Above it engines have their starts one after the other: nobody has the room for all at once.
const TOGETHER_MAX_MB: u64 = 2000;
/// So many times the best peer's speed, and this part of reading and checksumming.
const TIMES: f64 = 5.0;
const OF_READING: f64 = 0.7;

/// One start.
#[derive(Debug, Clone, Copy)]
struct Start {
    seconds: f64,
    peak: f64,
}

/// All starts of one engine on one size.
#[derive(Debug)]
struct Starts {
    engine: &'static str,
    warm: Vec<Start>,
    cold: Vec<Start>,
}

impl Starts {
    fn seconds(starts: &[Start]) -> Vec<f64> {
        starts.iter().map(|start| start.seconds).collect()
    }

    fn peak(&self) -> Option<Spread> {
        Spread::of(&self.warm.iter().map(|start| start.peak).collect::<Vec<_>>())
    }
}

/// Measures.
pub(crate) fn run(plan: &Plan) -> Outcome<Results> {
    let mut report = Report::default();
    let engines: Vec<_> = ENGINES.iter().copied().filter(|engine| plan.wants(engine)).collect();
    let sizes: &[u64] = if plan.quick { &[100] } else { &[10, 100, 700, 2000, 8000] };
    for megabytes in sizes.iter().copied() {
        let together = if megabytes > TOGETHER_MAX_MB { 1 } else { engines.len().max(1) };
        let mut all = Vec::new();
        for group in engines.chunks(together) {
            all.extend(in_turn(plan, group, megabytes, &mut report)?);
        }
        tell(&format!("{megabytes} MB"), &all, &mut report);
    }
    Ok(Results::of(report))
}

/// The starts of these engines on logs of one size, in turn.
fn in_turn(
    plan: &Plan,
    engines: &[&'static str],
    megabytes: u64,
    report: &mut Report,
) -> Outcome<Vec<Starts>> {
    let mut all = Vec::new();
    let mut masters = Vec::new();
    let records = megabytes * 1_000_000 / RECORD_BYTES as u64;
    for engine in engines.iter().copied() {
        let dir = plan.fresh_dir(&format!("recovery-{}", engine.replace([',', ' '], "-")))?;
        match fill_and_kill(engine, &dir.join("master"), records) {
            Ok(acknowledged) => {
                masters.push((engine, dir, acknowledged));
                all.push(Starts { engine, warm: Vec::new(), cold: Vec::new() });
            }
            Err(cause) => report.fail(PART, &format!("{engine}: {cause}")),
        }
    }
    // What is read and checksummed is Engram's log.
    let log = masters.iter().find(|(engine, ..)| *engine == ENGRAM);
    if log.is_some() {
        all.push(Starts { engine: READING, warm: Vec::new(), cold: Vec::new() });
    }
    let large = megabytes > TOGETHER_MAX_MB;
    let rounds = if plan.quick || large { 3 } else { 5 };
    let cold_rounds = if large { 1 } else { 3 };
    for round in 0..rounds {
        for starts in &mut all {
            let is_of = |engine: &str| engine == starts.engine;
            let master = masters.iter().find(|(engine, ..)| is_of(engine));
            let Some((_, dir, acknowledged)) = master.or(log) else { continue };
            starts.warm.push(start(starts.engine, dir, *acknowledged, true)?);
            if round < cold_rounds {
                starts.cold.push(start(starts.engine, dir, *acknowledged, false)?);
            }
        }
    }
    for (_, dir, _) in masters {
        std::fs::remove_dir_all(dir)?;
    }
    Ok(all)
}

fn tell(size: &str, all: &[Starts], report: &mut Report) {
    for starts in all {
        let at = format!("{size}: {}", starts.engine);
        let (warm, cold) = (Starts::seconds(&starts.warm), Starts::seconds(&starts.cold));
        let seconds = "seconds";
        report.add(PART, format!("{at}, warm"), seconds, Spread::of(&warm), Target::None);
        report.add(PART, format!("{at}, cold"), seconds, Spread::of(&cold), Target::None);
        report.add(PART, format!("{at}, peak memory"), "bytes", starts.peak(), Target::None);
    }
    let Some(engram) = all.iter().find(|starts| starts.engine == ENGRAM) else { return };
    let ours = Starts::seconds(&engram.warm);
    let is_peer =
        |engine: &&str| ![ENGRAM, READING].contains(engine) && !CHECKPOINTING.contains(engine);
    let peers = || all.iter().filter(|starts| is_peer(&starts.engine));
    let median = |starts: &&Starts| {
        Spread::of(&Starts::seconds(&starts.warm)).map_or(f64::INFINITY, |spread| spread.median)
    };
    if let Some(best) = peers().min_by(|a, b| median(a).total_cmp(&median(b))) {
        let ratio = Spread::of_ratios(&Starts::seconds(&best.warm), &ours);
        let what = format!("{size}: {}'s time / engram's", best.engine);
        report.add(PART, what, "ratio", ratio, Target::AtLeast(TIMES));
    }
    if let Some(reading) = all.iter().find(|starts| starts.engine == READING) {
        let ratio = Spread::of_ratios(&Starts::seconds(&reading.warm), &ours);
        let what = format!("{size}: time to {READING} / engram's");
        report.add(PART, what, "ratio", ratio, Target::AtLeast(OF_READING));
    }
    let memory = |starts: &Starts| starts.peak().map_or(f64::INFINITY, |spread| spread.median);
    let leanest = peers().map(memory).fold(f64::INFINITY, f64::min);
    if leanest.is_finite() {
        let ratio = Spread::of(&[memory(engram) / leanest]);
        let what = format!("{size}: engram's peak memory / the leanest peer's");
        report.add(PART, what, "ratio", ratio, Target::AtMost(1.0));
    }
}

/// Lets a child fill the engine, and kills it while it appends; gives the number of records that
/// were acknowledged for certain.
fn fill_and_kill(engine: &str, dir: &Path, records: u64) -> Outcome<u64> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--child-fill", engine])
        .arg(dir)
        .arg(records.to_string())
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().ok_or("no stdout")?;
    let mut acknowledged = None;
    for line in BufReader::new(stdout).lines() {
        acknowledged = Some(line?.parse()?);
        // It says so after each batch behind the filling; the second finds it in the third.
        if acknowledged >= Some(records + 2 * BATCH) {
            break;
        }
    }
    child.kill()?;
    child.wait()?;
    acknowledged.ok_or_else(|| "the child that fills said nothing".into())
}

/// One start on a copy of what the kill left.
fn start(engine: &'static str, dir: &Path, acknowledged: u64, is_warm: bool) -> Outcome<Start> {
    let (master, copy) = (dir.join("master"), dir.join("copy"));
    if copy.exists() {
        std::fs::remove_dir_all(&copy)?;
    }
    copy_dir(&master, &copy, is_warm)?;
    let child = Command::new(std::env::current_exe()?)
        .args(["--child-recover", engine])
        .arg(&copy)
        .arg(acknowledged.to_string())
        .output()?;
    if !child.status.success() {
        let why = String::from_utf8_lossy(&child.stderr).into_owned();
        return Err(format!("{engine}: {}", why.trim_end()).into());
    }
    let answer: Value = serde_json::from_slice(&child.stdout)?;
    let figure = |name: &str| answer[name].as_f64().ok_or_else(|| format!("no {name}"));
    let start = Start { seconds: figure("seconds")?, peak: figure("peak")? };
    std::fs::remove_dir_all(&copy)?;
    Ok(start)
}

/// Copies a tree, syncs it, and leaves it in the page cache or not.
fn copy_dir(from: &Path, to: &Path, is_warm: bool) -> Outcome<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_dir(&source, &target, is_warm)?;
            continue;
        }
        std::fs::copy(&source, &target)?;
        let file = File::open(&target)?;
        file.sync_all()?;
        if is_warm {
            std::io::copy(&mut File::open(&target)?, &mut std::io::sink())?;
        } else {
            rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}

fn open(engine: &str, dir: &Path) -> Outcome<Box<dyn Engine>> {
    let setup = Setup { record_bytes: RECORD_BYTES, writers_max: 1, prefills: false };
    engines::named(engine)?(dir, setup)
}

/// What a child does that fills: it tells how many are acknowledged, and never ends.
pub(crate) fn child_fill(engine: &str, dir: &Path, records: u64) -> Outcome<()> {
    let engine = open(engine, dir)?;
    let record = text(RECORD_BYTES);
    let mut filled = 0;
    loop {
        engine.fill(filled..filled + BATCH, &record)?;
        filled += BATCH;
        if filled >= records {
            let mut stdout = std::io::stdout().lock();
            writeln!(stdout, "{filled}")?;
            stdout.flush()?;
        }
    }
}

/// What a child does that recovers: it tells its figures.
pub(crate) fn child_recover(engine: &str, dir: &Path, acknowledged: u64) -> Outcome<()> {
    let begin = Instant::now();
    if engine == READING {
        read_and_checksum(dir)?;
        tell_parent(begin)?;
        return Ok(());
    }
    let engine = open(engine, dir)?;
    let last = engine.read(acknowledged - 1)?;
    if last != Some(RECORD_BYTES) {
        return Err(format!("record {} is not there: {last:?}", acknowledged - 1).into());
    }
    tell_parent(begin)?;
    Ok(())
}

fn tell_parent(begin: Instant) -> Outcome<()> {
    let seconds = begin.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|line| line.split_whitespace().next()).ok_or("no VmHWM")?;
    let peak = bytes(peak.parse::<u64>()? << 10);
    crate::say(&json!({ "seconds": seconds, "peak": peak }).to_string());
    Ok(())
}

/// Reads every segment of the log in pieces of a mebibyte, on as many threads as there are cores. What
/// was made ahead (the spare, the ballast) no recovery reads.
fn read_and_checksum(dir: &Path) -> Outcome<u64> {
    const PIECE_BYTES: u64 = 1 << 20;
    let files: Vec<PathBuf> = std::fs::read_dir(dir.join("wal"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Outcome<_>>()?;
    let mut pieces = Vec::new();
    for path in files.into_iter().filter(|path| path.extension().is_some_and(|e| e == "seg")) {
        let length = path.metadata()?.len();
        let file = std::sync::Arc::new(File::open(path)?);
        let starts = (0..length).step_by(usize::try_from(PIECE_BYTES)?);
        pieces.extend(starts.map(|start| (std::sync::Arc::clone(&file), start)));
    }
    let next = std::sync::atomic::AtomicUsize::new(0);
    let one = || -> Outcome<u64> {
        let mut piece = vec![0; usize::try_from(PIECE_BYTES)?];
        let mut sum = 0;
        loop {
            let place = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let Some((file, start)) = pieces.get(place) else { return Ok(sum) };
            let count = file.read_at(&mut piece, *start)?;
            let read = piece.get(..count).unwrap_or_default();
            sum ^= u64::from(crc_fast::crc32_iscsi(read));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let sums: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    let mut whole = 0;
    for sum in sums {
        whole ^= sum.map_err(|_| "a reader panicked")??;
    }
    Ok(whole)
}
