//! okaywal: a write-ahead log, an entry a record. It is the log in front of a store, so what it
//! checkpoints goes nowhere here, and its files are used again at once.

use std::ops::Range;
use std::path::Path;

use okaywal::{Configuration, Entry, EntryId, LogManager, SegmentReader, WriteAheadLog};

use super::{Engine, Setup};
use crate::Outcome;

/// Keeps nothing of what is recovered or checkpointed.
#[derive(Debug)]
struct Nothing;

impl LogManager for Nothing {
    fn recover(&mut self, _: &mut Entry<'_>) -> std::io::Result<()> {
        Ok(())
    }

    fn checkpoint_to(
        &mut self,
        _: EntryId,
        _: &mut SegmentReader,
        _: &WriteAheadLog,
    ) -> std::io::Result<()> {
        Ok(())
    }
}

struct Okaywal(WriteAheadLog);

pub(super) fn open(dir: &Path, _: Setup) -> Outcome<Box<dyn Engine>> {
    // Larger than the largest batch, so that no entry extends a file ("a slow operation").
    let log = Configuration::default_for(dir)
        .preallocate_bytes(32 << 20)
        .checkpoint_after_bytes(24 << 20)
        .buffer_bytes(64 << 10)
        .open(Nothing)?;
    Ok(Box::new(Okaywal(log)))
}

impl Engine for Okaywal {
    fn append(&self, _: usize, number: u64, record: &str) -> Outcome<()> {
        self.append_batch(number..number + 1, record)
    }

    fn append_batch(&self, numbers: Range<u64>, record: &str) -> Outcome<()> {
        let mut entry = self.0.begin_entry()?;
        for _ in numbers {
            entry.write_chunk(record.as_bytes())?;
        }
        entry.commit()?;
        Ok(())
    }

    fn read(&self, _: u64) -> Outcome<Option<usize>> {
        Err("okaywal finds records by position only".into())
    }
}
