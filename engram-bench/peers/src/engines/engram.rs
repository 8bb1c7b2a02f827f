//! Engram, as a library: the log alone, and as its users get it, with indexes in the background.
//!
//! Peers keep no indexes over meaning and words, so the first is what they are compared with.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engram_core::metrics::{Metrics, schema};
use engram_core::{Condition, Draft, Options, Store};
use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

use super::{Engine, Setup, key};
use crate::Outcome;
use crate::stats::float;

const SPACE: &str = "bench";

struct Engram {
    store: Store,
    batches: Arc<Batches>,
}

/// The log alone.
pub(super) fn open(dir: &Path, setup: Setup) -> Outcome<Box<dyn Engine>> {
    let options = Options { embedder: None, index_in_background: false, ..options(setup) };
    open_with(dir, options)
}

/// The log alone, and compaction as its users get it.
pub(super) fn open_compacting(dir: &Path, _: Setup) -> Outcome<Box<dyn Engine>> {
    open_with(dir, Options { embedder: None, index_in_background: false, ..Options::default() })
}

/// With indexes, as its users get it.
pub(super) fn open_indexing(dir: &Path, setup: Setup) -> Outcome<Box<dyn Engine>> {
    open_with(dir, options(setup))
}

/// The defaults, with compaction off: every record here is live, so it has nothing to do.
fn options(_: Setup) -> Options {
    Options { compact_automatically: false, ..Options::default() }
}

fn open_with(dir: &Path, options: Options) -> Outcome<Box<dyn Engine>> {
    let batches = Arc::new(Batches::default());
    let metrics = Arc::new(Metrics::new(&Listener(Arc::clone(&batches))));
    let store = Store::open(dir, Options { metrics, ..options })?;
    Ok(Box::new(Engram { store, batches }))
}

fn draft(number: u64, record: &str) -> Draft {
    Draft { id: Some(key(number)), ..Draft::of(record) }
}

impl Engine for Engram {
    fn append(&self, _: usize, number: u64, record: &str) -> Outcome<()> {
        self.store.remember(SPACE, draft(number, record), Condition::Any)?.wait()?;
        Ok(())
    }

    fn append_batch(&self, numbers: Range<u64>, record: &str) -> Outcome<()> {
        let drafts = numbers.map(|number| Ok(draft(number, record))).collect();
        let outcome = self.store.remember_batch(SPACE, drafts, Condition::Any)?.wait()?;
        match outcome.rejected.into_iter().next() {
            Some((index, error)) => Err(format!("episode {index} of a batch: {error}").into()),
            None => Ok(()),
        }
    }

    fn read(&self, number: u64) -> Outcome<Option<usize>> {
        Ok(Some(self.store.get(SPACE, &key(number))?.episode.what.len()))
    }

    fn batches(&self) -> Option<(u64, u64)> {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Some((count(&self.batches.records), count(&self.batches.writes)))
    }
}

impl Drop for Engram {
    fn drop(&mut self) {
        // Dropped only where its directory goes, too.
        self.store.close().unwrap_or_default();
    }
}

/// How many records went into how many writes.
#[derive(Debug, Default)]
struct Batches {
    records: AtomicU64,
    writes: AtomicU64,
}

impl HistogramFn for Batches {
    fn record(&self, value: f64) {
        self.record_many(value, 1);
    }

    fn record_many(&self, value: f64, count: usize) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let records = (value * float(count)) as u64;
        self.records.fetch_add(records, Ordering::Relaxed);
        self.writes.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// A recorder that listens to one histogram.
struct Listener(Arc<Batches>);

impl Recorder for Listener {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        if key.name() == schema::WAL_BATCH_RECORDS {
            Histogram::from_arc(Arc::clone(&self.0))
        } else {
            Histogram::noop()
        }
    }
}
