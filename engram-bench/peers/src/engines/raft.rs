//! raft-engine, the log of TiKV: one region a writer, an entry a record, written with `sync`.
//!
//! Files are filled with zeros at its start and used again once they are purged
//! (`prefill-for-recycle`), as its documentation recommends for low latency: so it writes over
//! blocks that were written before, as Engram does. Entries are let go between slices, as a
//! consensus log is; it need not keep what Engram keeps.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use protobuf::well_known_types::BytesValue;
use raft_engine::{Config, Engine as Log, LogBatch, MessageExt, ReadableSize};

use super::{Engine, Setup};
use crate::Outcome;

struct Entries;

/// An entry's index stands before its record.
const INDEX_BYTES: usize = 8;

impl MessageExt for Entries {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        let index = entry.value.first_chunk::<INDEX_BYTES>();
        index.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

struct Raft {
    log: Log,
    /// The last index of each region.
    last: Vec<AtomicU64>,
}

pub(super) fn open(dir: &Path, setup: Setup) -> Outcome<Box<dyn Engine>> {
    let config = Config {
        dir: dir.to_string_lossy().into_owned(),
        enable_log_recycle: true,
        prefill_for_recycle: setup.prefills,
        purge_threshold: if setup.prefills { ReadableSize::mb(512) } else { ReadableSize::gb(10) },
        prefill_limit: setup.prefills.then(|| ReadableSize::mb(768)),
        // The others write what they are given; here it does, too.
        batch_compression_threshold: ReadableSize(0),
        ..Config::default()
    };
    let log = Log::open(config)?;
    let last = |region| AtomicU64::new(log.last_index(region).unwrap_or(0));
    // The last region is that of batches.
    let last = (1..=setup.writers_max as u64 + 1).map(last).collect();
    Ok(Box::new(Raft { log, last }))
}

impl Raft {
    /// Appends `count` entries to the region of one writer.
    fn write(&self, writer: usize, count: u64, record: &str, is_synced: bool) -> Outcome<()> {
        let last = self.last.get(writer).ok_or("a writer too many")?;
        let before = last.load(Ordering::Relaxed);
        let entry = |index: u64| {
            let mut value = Vec::with_capacity(INDEX_BYTES + record.len());
            value.extend_from_slice(&index.to_le_bytes());
            value.extend_from_slice(record.as_bytes());
            BytesValue { value, ..BytesValue::default() }
        };
        let entries: Vec<_> = (before + 1..=before + count).map(entry).collect();
        let mut batch = LogBatch::with_capacity(entries.len());
        batch.add_entries::<Entries>(writer as u64 + 1, &entries)?;
        self.log.write(&mut batch, is_synced)?;
        last.store(before + count, Ordering::Relaxed);
        Ok(())
    }
}

impl Engine for Raft {
    fn append(&self, writer: usize, _: u64, record: &str) -> Outcome<()> {
        self.write(writer, 1, record, true)
    }

    fn append_batch(&self, numbers: Range<u64>, record: &str) -> Outcome<()> {
        self.write(self.last.len() - 1, numbers.end - numbers.start, record, true)
    }

    fn fill(&self, numbers: Range<u64>, record: &str) -> Outcome<()> {
        for _ in numbers {
            self.write(self.last.len() - 1, 1, record, false)?;
        }
        Ok(self.log.sync()?)
    }

    /// Numbers here are indexes of the region of batches.
    fn read(&self, number: u64) -> Outcome<Option<usize>> {
        let entry = self.log.get_entry::<Entries>(self.last.len() as u64, number + 1)?;
        Ok(entry.map(|entry| entry.value.len() - INDEX_BYTES))
    }

    fn rest(&self) -> Outcome<()> {
        for (region, last) in self.last.iter().enumerate() {
            self.log.compact_to(region as u64 + 1, last.load(Ordering::Relaxed));
        }
        self.log.purge_expired_files()?;
        Ok(())
    }
}
