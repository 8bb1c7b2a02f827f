//! What is measured: one interface over Engram, its peers, and the bare disk.
//!
//! An append returns when its record is synced, whoever made the sync; nothing else counts as
//! acknowledged here. Each engine is set up as its documentation recommends for such work, in
//! its own file, with the reason beside each setting.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use crate::Outcome;

mod bare;
mod engram;
mod fjall;
mod okaywal;
mod raft;
mod redb;
#[cfg(feature = "rocksdb")]
mod rocks;
mod sqlite;

pub(crate) use bare::Written;

/// Something that makes records durable, inside of this process.
pub(crate) trait Engine: Send + Sync {
    /// Makes one record durable. `writer` is the number of the calling thread.
    fn append(&self, writer: usize, number: u64, record: &str) -> Outcome<()>;

    /// Makes many durable with one acknowledgement.
    fn append_batch(&self, numbers: Range<u64>, record: &str) -> Outcome<()>;

    /// Writes many as if each had come alone, and makes them durable with one sync: for filling.
    fn fill(&self, numbers: Range<u64>, record: &str) -> Outcome<()> {
        self.append_batch(numbers, record)
    }

    /// Reads one back: its length in bytes.
    fn read(&self, number: u64) -> Outcome<Option<usize>>;

    /// Records and syncs since it was opened, where the engine tells.
    fn batches(&self) -> Option<(u64, u64)> {
        None
    }

    /// What its users do now and then beside writing. Not measured.
    fn rest(&self) -> Outcome<()> {
        Ok(())
    }
}

/// How an engine is opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    /// The size of the records to come.
    pub(crate) record_bytes: usize,
    /// Most threads that will write.
    pub(crate) writers_max: usize,
    /// Whether one that can fills files ahead, at its opening: good for appends that follow, no
    /// part of a recovery.
    pub(crate) prefills: bool,
}

/// Opens an engine, new or as it was left.
pub(crate) type Open = fn(&Path, Setup) -> Outcome<Box<dyn Engine>>;

/// The engines of this process by name, Engram first.
pub(crate) fn all() -> Vec<(&'static str, Open)> {
    vec![
        ("engram", engram::open as Open),
        ("engram-indexing", engram::open_indexing),
        ("append", bare::open_append),
        ("sqlite", sqlite::open),
        ("redb", redb::open),
        ("fjall", fjall::open),
        ("raft-engine", raft::open),
        ("okaywal", okaywal::open),
        #[cfg(feature = "rocksdb")]
        ("rocksdb", rocks::open),
    ]
}

/// One of [`all`], or one that is only there for other parts than appends.
pub(crate) fn named(name: &str) -> Outcome<Open> {
    let mut engines: BTreeMap<&str, Open> = all().into_iter().collect();
    engines.insert("engram, compacting", engram::open_compacting);
    engines.insert("sqlite, all in its log", sqlite::open_without_checkpoints);
    #[cfg(feature = "rocksdb")]
    engines.insert("rocksdb, all in its log", rocks::open_with_all_in_its_log);
    Ok(*engines.get(name).ok_or_else(|| format!("no engine {name:?}"))?)
}

/// The key of a record: twelve bytes, rising.
pub(crate) fn key(number: u64) -> String {
    format!("e{number:011}")
}
