//! Space: what a directory takes after the same records were overwritten ten times, at rest.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::engines::{self, Setup, key};
use crate::record::text;
use crate::report::{Report, Target};
use crate::results::Results;
use crate::stats::{Spread, bytes};
use crate::{Outcome, Plan, quiet};

const PART: &str = "space";
const RECORD_BYTES: usize = 3500;
const ROUNDS: usize = 10;
const BATCH: u64 = 500;
/// Bytes on disk over live bytes.
const TIMES: f64 = 1.5;
/// Who is not at rest by then is measured as it is.
const REST_MAX: Duration = Duration::from_mins(1);
/// A log in front of a store, and a consensus log, cannot overwrite.
const ENGINES: &[&str] = &[
    "engram, compacting",
    "sqlite",
    "redb",
    "fjall",
    #[cfg(feature = "rocksdb")]
    "rocksdb",
];

/// Measures.
pub(crate) fn run(plan: &Plan) -> Outcome<Results> {
    let mut report = Report::default();
    let live_bytes: u64 = if plan.quick { 64 << 20 } else { 1 << 30 };
    for engine in ENGINES.iter().copied().filter(|engine| plan.wants(engine)) {
        let dir = plan.fresh_dir(PART)?;
        let begin = Instant::now();
        let used = overwrite(engine, &dir, live_bytes)?;
        let seconds = begin.elapsed().as_secs_f64();
        // Only Engram's is held to it, and only where it is promised: from 1 GiB on.
        let is_held = engine == "engram, compacting" && !plan.quick;
        let target = if is_held { Target::AtMost(TIMES) } else { Target::None };
        let what = format!("{} MiB live: {engine}", live_bytes >> 20);
        report.add(PART, format!("{what}, disk / live"), "ratio", Spread::of(&[used]), target);
        let spread = Spread::of(&[seconds]);
        report.add(PART, format!("{what}, time"), "seconds", spread, Target::None);
    }
    Ok(Results::of(report))
}

fn overwrite(engine: &str, dir: &Path, live_bytes: u64) -> Outcome<f64> {
    let setup = Setup { record_bytes: RECORD_BYTES, writers_max: 1, prefills: false };
    let engine = engines::named(engine)?(dir, setup)?;
    let record = text(RECORD_BYTES);
    let records = live_bytes / (RECORD_BYTES + key(0).len()) as u64;
    for _ in 0..ROUNDS {
        let mut first = 0;
        while first < records {
            let end = records.min(first + BATCH);
            engine.append_batch(first..end, &record)?;
            first = end;
        }
    }
    let begin = Instant::now();
    // At rest: nothing written and nothing computed for a while, several times in a row.
    let mut calm = 0;
    while calm < 20 && begin.elapsed() < REST_MAX {
        calm = if quiet::wait("self")? > 0.0 { 0 } else { calm + 1 };
    }
    if engine.read(records - 1)? != Some(RECORD_BYTES) {
        return Err("the last record is not there".into());
    }
    Ok(bytes(disk_bytes(dir)?) / bytes(records * (RECORD_BYTES + key(0).len()) as u64))
}

/// Bytes that a directory takes, as `du` counts them. A file that goes meanwhile takes none.
pub(crate) fn disk_bytes(dir: &Path) -> Outcome<u64> {
    let mut bytes = std::fs::metadata(dir)?.blocks() * 512;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            bytes += disk_bytes(&entry.path())?;
            continue;
        }
        match entry.metadata() {
            Ok(metadata) => bytes += metadata.blocks() * 512,
            Err(cause) if cause.kind() == ErrorKind::NotFound => {}
            Err(cause) => return Err(cause.into()),
        }
    }
    Ok(bytes)
}
