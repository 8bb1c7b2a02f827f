//! The disk without an engine: the limit, and the plain append.

use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Engine, Setup};
use crate::Outcome;
use crate::stats::float;

/// The limit: `pwrite` and `fdatasync` over blocks that were written before, so that a sync has
/// no metadata to flush. No log that writes through the page cache is faster with the same number of
/// records a sync. The same past the page cache is the other limit.
#[derive(Debug)]
pub(crate) struct Written {
    file: File,
    /// Another one, for writes past the page cache, which would empty it for this one; `None` where the
    /// file system has none.
    direct: Option<File>,
    paths: [PathBuf; 3],
    offset: u64,
    record: Vec<u8>,
    batch: Vec<u8>,
}

/// What a direct write consists of.
const BLOCK_BYTES: u64 = 4096;

/// From so many bytes a sync Engram reserves the room of its next segment instead of writing zeros.
const RESERVED_FROM_BYTES: u64 = 64 << 10;

/// Zeros that are written ahead at once.
const AHEAD_BYTES: u64 = 256 << 10;

/// The prepared file's size: many times the largest batch.
const FILE_BYTES: u64 = 256 << 20;

impl Written {
    /// Writes the whole file and syncs it.
    pub(crate) fn prepare(dir: &Path, record: &str) -> Outcome<Self> {
        std::fs::create_dir_all(dir)?;
        let paths = ["written", "written-direct", "reserved"].map(|name| dir.join(name));
        let [file, other] = [prepared(&paths[0])?, prepared(&paths[1])?];
        drop(other);
        let direct = open_direct(&paths[1]).ok();
        Ok(Self { file, direct, paths, offset: 0, record: record.into(), batch: Vec::new() })
    }

    /// Records per second for one slice, so many of them with each write and sync; the latency
    /// of every sync goes to `latencies`.
    pub(crate) fn slice(
        &mut self,
        batch: usize,
        slice: Duration,
        latencies: &mut Vec<f64>,
    ) -> Outcome<f64> {
        self.batch.clear();
        for _ in 0..batch.max(1) {
            self.batch.extend_from_slice(&self.record);
        }
        let start = Instant::now();
        let mut records = 0;
        while start.elapsed() < slice {
            let begin = Instant::now();
            self.write_batch()?;
            records += batch.max(1);
            latencies.push(begin.elapsed().as_secs_f64());
        }
        Ok(float(records) / start.elapsed().as_secs_f64())
    }

    fn write_batch(&mut self) -> Outcome<()> {
        let bytes = self.batch.len() as u64;
        if self.offset + bytes > FILE_BYTES {
            self.offset = 0;
        }
        self.file.write_all_at(&self.batch, self.offset)?;
        self.file.sync_data()?;
        self.offset += bytes;
        Ok(())
    }

    /// Latencies of records that are due at a fixed rate, from when each was due. A write and a sync take
    /// all that are due by then: nothing but the disk is in their way.
    pub(crate) fn open_loop(&mut self, rate: f64, slice: Duration) -> Outcome<Vec<f64>> {
        let begin = Instant::now();
        let due = |number: usize| begin + Duration::from_secs_f64(float(number) / rate);
        let (mut taken, mut latencies) = (0, Vec::new());
        let mut is_over = false;
        while !is_over {
            // Who came due while the last sync took its time is counted too.
            is_over = begin.elapsed() >= slice;
            let (now, first) = (Instant::now(), taken);
            self.batch.clear();
            while due(taken) <= now {
                self.batch.extend_from_slice(&self.record);
                taken += 1;
            }
            if taken == first {
                std::thread::sleep(due(taken).saturating_duration_since(now));
                continue;
            }
            self.write_batch()?;
            latencies.extend((first..taken).map(|number| due(number).elapsed().as_secs_f64()));
        }
        Ok(latencies)
    }

    /// [`Written::slice`] past the page cache: whole blocks, the one in which the last batch ended once
    /// more. `None` where that cannot be. Where the file `grows`, as many zeros are written ahead as
    /// records are, in large pieces: what a log has to do that cannot write over what is there. Engram
    /// does so up to 64 KiB a sync, and reserves the room of larger ones; so the same holds here.
    pub(crate) fn slice_direct(
        &mut self,
        batch: usize,
        grows: bool,
        slice: Duration,
        latencies: &mut Vec<f64>,
    ) -> Outcome<Option<f64>> {
        let Some(direct) = &self.direct else { return Ok(None) };
        let bytes = (self.record.len() * batch.max(1)) as u64;
        let is_large = bytes >= RESERVED_FROM_BYTES;
        let reserved = if grows && is_large { reserved(&self.paths[2])? } else { None };
        let ahead = grows && reserved.is_none();
        let mut begin = if reserved.is_some() { 0 } else { self.offset };
        let file = reserved.as_ref().unwrap_or(direct);
        let zeros = Aligned::of(0, AHEAD_BYTES)?;
        let mut owed = 0;
        let mut zeros_at = (begin + FILE_BYTES / 2) % FILE_BYTES / AHEAD_BYTES * AHEAD_BYTES;
        let room = bytes.next_multiple_of(BLOCK_BYTES) + BLOCK_BYTES;
        let records_bytes = Aligned::of(0xa5, room)?;
        let start = Instant::now();
        let mut records = 0;
        while start.elapsed() < slice {
            let sent = Instant::now();
            if begin + room > FILE_BYTES {
                begin = 0;
            }
            let first = begin / BLOCK_BYTES * BLOCK_BYTES;
            let end = (begin + bytes).next_multiple_of(BLOCK_BYTES);
            file.write_all_at(records_bytes.first(end - first)?, first)?;
            owed += if ahead { bytes } else { 0 };
            while owed >= AHEAD_BYTES {
                direct.write_all_at(zeros.first(AHEAD_BYTES)?, zeros_at)?;
                zeros_at = (zeros_at + AHEAD_BYTES) % FILE_BYTES;
                owed -= AHEAD_BYTES;
            }
            file.sync_data()?;
            begin += bytes;
            records += batch.max(1);
            latencies.push(sent.elapsed().as_secs_f64());
        }
        let rate = float(records) / start.elapsed().as_secs_f64();
        if reserved.is_none() {
            self.offset = begin;
        }
        Ok(Some(rate))
    }
}

/// Bytes that begin where a direct write may.
struct Aligned {
    memory: Vec<u8>,
    skew: usize,
}

impl Aligned {
    fn of(byte: u8, bytes: u64) -> Outcome<Self> {
        let block = usize::try_from(BLOCK_BYTES)?;
        let memory = vec![byte; usize::try_from(bytes)? + block];
        let skew = memory.as_ptr().align_offset(block);
        Ok(Self { memory, skew })
    }

    fn first(&self, bytes: u64) -> Outcome<&[u8]> {
        let end = self.skew + usize::try_from(bytes)?;
        Ok(self.memory.get(self.skew..end).ok_or("more than was made")?)
    }
}

fn open_direct(path: &Path) -> Outcome<File> {
    let flags = i32::try_from(rustix::fs::OFlags::DIRECT.bits())?;
    Ok(OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(flags)
        .open(path)?)
}

/// A file whose blocks are there, and were never written; `None` where the file system reserves none.
fn reserved(path: &Path) -> Outcome<Option<File>> {
    let file = open_direct(path)?;
    file.set_len(0)?;
    let flags = rustix::fs::FallocateFlags::empty();
    if rustix::fs::fallocate(&file, flags, 0, FILE_BYTES).is_err() {
        return Ok(None);
    }
    file.sync_all()?;
    Ok(Some(file))
}

/// A file whose blocks are all written and synced.
fn prepared(path: &Path) -> Outcome<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    let chunk = vec![0x5a; 1 << 20];
    for offset in (0..FILE_BYTES).step_by(chunk.len()) {
        file.write_all_at(&chunk, offset)?;
    }
    file.sync_all()?;
    Ok(file)
}

impl Drop for Written {
    fn drop(&mut self) {
        // Best effort: the whole directory goes at the end of the run.
        for path in &self.paths {
            std::fs::remove_file(path).unwrap_or_default();
        }
    }
}

/// `write` at the end of one growing file, and `fdatasync`, one caller after the other.
#[derive(Debug)]
struct Append {
    file: Mutex<File>,
    record_bytes: usize,
}

pub(super) fn open_append(dir: &Path, setup: Setup) -> Outcome<Box<dyn Engine>> {
    std::fs::create_dir_all(dir)?;
    let path = dir.join("append");
    let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    Ok(Box::new(Append { file: Mutex::new(file), record_bytes: setup.record_bytes }))
}

impl Append {
    fn write(&self, bytes: &[u8]) -> Outcome<()> {
        use std::io::Write as _;
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(bytes)?;
        Ok(file.sync_data()?)
    }
}

impl Engine for Append {
    fn append(&self, _: usize, _: u64, record: &str) -> Outcome<()> {
        self.write(record.as_bytes())
    }

    fn append_batch(&self, numbers: Range<u64>, record: &str) -> Outcome<()> {
        let count = usize::try_from(numbers.end - numbers.start)?;
        self.write(record.repeat(count).as_bytes())
    }

    fn read(&self, number: u64) -> Outcome<Option<usize>> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let mut record = vec![0; self.record_bytes];
        file.read_exact_at(&mut record, number * self.record_bytes as u64)?;
        Ok(Some(record.len()))
    }
}
