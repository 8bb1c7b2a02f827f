//! The limit: what the disk gives to a loop that writes one record and syncs, and nothing else.
//!
//! Over blocks that were written before, a sync has no metadata to flush; a bare append has.
//! Engram's log is measured against the first, which is the faster one.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::memory::RECORD_BYTES;
use crate::report::{Report, Target};
use crate::stats::{Spread, bytes, float};
use crate::{Outcome, Plan};

/// The prepared file's size.
const FILE_BYTES: u64 = 64 << 20;

/// Measures the disk alone, with records and with large blocks: what the other parts' figures
/// mean on this machine.
pub(crate) fn run(plan: &Plan) -> Outcome<Report> {
    const PART: &str = "limit";
    let dir = plan.fresh_dir("limit")?;
    let mut report = Report::default();
    let slice = Duration::from_millis(500);
    for (name, record_bytes) in [("3,500 bytes", RECORD_BYTES), ("1 MiB", 1 << 20)] {
        let mut limit = Limit::prepare(&dir, usize::try_from(record_bytes)?)?;
        let (mut over, mut append) = (Vec::new(), Vec::new());
        for _ in 0..if plan.quick { 5 } else { 20 } {
            over.push(limit.overwrite(slice)? * bytes(record_bytes));
            append.push(limit.append(slice)? * bytes(record_bytes));
        }
        let rate = "bytes/s";
        let what = |kind: &str| format!("{name}: {kind} + fdatasync");
        report.add(PART, what("overwrite"), rate, Spread::of(&over), Target::None);
        report.add(PART, what("append"), rate, Spread::of(&append), Target::None);
        let ratio = Spread::of_ratios(&over, &append);
        report.add(PART, what("overwrite / append"), "ratio", ratio, Target::None);
    }
    Ok(report)
}

/// A file whose blocks are all written, and a place in it.
#[derive(Debug)]
pub(crate) struct Limit {
    file: File,
    path: PathBuf,
    offset: u64,
    record: Vec<u8>,
}

impl Limit {
    /// Writes the whole file and syncs it.
    pub(crate) fn prepare(dir: &Path, record_bytes: usize) -> Outcome<Self> {
        let path = dir.join("limit");
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
        let chunk = vec![0x5a; 1 << 20];
        for offset in (0..FILE_BYTES).step_by(chunk.len()) {
            file.write_all_at(&chunk, offset)?;
        }
        file.sync_all()?;
        Ok(Self { file, path, offset: 0, record: vec![0xa5; record_bytes] })
    }

    /// Records per second over written blocks, for one slice of time.
    pub(crate) fn overwrite(&mut self, slice: Duration) -> Outcome<f64> {
        let start = Instant::now();
        let mut records = 0;
        while start.elapsed() < slice {
            let bytes = self.record.len() as u64;
            if self.offset + bytes > FILE_BYTES {
                self.offset = 0;
            }
            self.file.write_all_at(&self.record, self.offset)?;
            self.file.sync_data()?;
            self.offset += bytes;
            records += 1;
        }
        Ok(float(records) / start.elapsed().as_secs_f64())
    }

    /// Records per second at the end of a file that grows, for one slice of time.
    pub(crate) fn append(&self, slice: Duration) -> Outcome<f64> {
        let path = self.path.with_file_name("append");
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
        let start = Instant::now();
        let mut records = 0;
        let mut offset = 0;
        while start.elapsed() < slice {
            file.write_all_at(&self.record, offset)?;
            file.sync_data()?;
            offset += self.record.len() as u64;
            records += 1;
        }
        let rate = float(records) / start.elapsed().as_secs_f64();
        std::fs::remove_file(&path)?;
        Ok(rate)
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        // Best effort: the whole directory goes at the end of the run.
        std::fs::remove_file(&self.path).unwrap_or_default();
    }
}
