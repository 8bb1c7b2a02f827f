//! Stores to measure: how they are opened and filled, and how large one record is.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use engram_core::{Condition, Draft, Durability, Options, Store};

use crate::Outcome;
use crate::stats::float;

/// A record's size on disk, header and checksums included.
pub(crate) const RECORD_BYTES: u64 = 3500;
/// The only space.
pub(crate) const SPACE: &str = "bench";
/// Episodes of one batch while filling.
const BATCH: usize = 2000;

/// What users get, but for what is measured: compaction waits until it is asked for.
pub(crate) fn options(durability: Durability, segment_bytes: u64) -> Options {
    Options {
        durability,
        segment_bytes,
        queue_max: 4096,
        compact_automatically: false,
        ..Options::default()
    }
}

/// Text of that many bytes that does not repeat within a block.
pub(crate) fn text(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 16);
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    while text.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let _infallible = write!(text, "{state:016x}");
    }
    text.truncate(bytes);
    text
}

/// A text that makes a frame of [`RECORD_BYTES`] with an id of 12 bytes, found by trying.
pub(crate) fn record_text(dir: &Path) -> Outcome<String> {
    const GUESS: usize = 3000;
    let dir = dir.join("calibration");
    let store = Store::open(&dir, options(Durability::Never, 1 << 20))?;
    // The first one may bring a record of its own for the space; the second is a frame alone.
    store.remember(SPACE, draft(0, &text(GUESS)), Condition::Any)?.wait()?;
    let first = store.wal().live_bytes;
    store.remember(SPACE, draft(1, &text(GUESS)), Condition::Any)?.wait()?;
    let frame = store.wal().live_bytes.saturating_sub(first);
    store.close()?;
    std::fs::remove_dir_all(&dir)?;
    let overhead = frame.checked_sub(GUESS as u64).filter(|bytes| *bytes < 400);
    let overhead = overhead.ok_or_else(|| format!("a frame of {frame} bytes for {GUESS}"))?;
    Ok(text(usize::try_from(RECORD_BYTES - overhead)?))
}

/// One episode; its id has 12 bytes.
pub(crate) fn draft(number: u64, what: &str) -> Draft {
    Draft { id: Some(format!("e{number:011}")), ..Draft::of(what) }
}

/// Remembers the episodes of these numbers, in batches.
pub(crate) fn fill(
    store: &Store,
    what: &str,
    numbers: impl IntoIterator<Item = u64>,
) -> Outcome<()> {
    let mut numbers = numbers.into_iter().peekable();
    while numbers.peek().is_some() {
        let drafts = numbers.by_ref().take(BATCH).map(|number| Ok(draft(number, what))).collect();
        let outcome = store.remember_batch(SPACE, drafts, Condition::Any)?.wait()?;
        if let Some((index, error)) = outcome.rejected.into_iter().next() {
            return Err(format!("episode {index} of a batch: {error}").into());
        }
    }
    Ok(())
}

/// Episodes of numbers that nobody had before.
#[derive(Debug, Default)]
pub(crate) struct Writers {
    next: AtomicU64,
}

impl Writers {
    /// Begins to number at `first`.
    pub(crate) fn from(first: u64) -> Self {
        Self { next: AtomicU64::new(first) }
    }

    /// Lets `writers` threads remember one episode after the other, each waiting for its
    /// acknowledgement, while `go_on` says so; gives the rate per second and every latency.
    pub(crate) fn run(
        &self,
        store: &Store,
        what: &str,
        writers: usize,
        go_on: &(dyn Fn() -> bool + Sync),
    ) -> Outcome<(f64, Vec<f64>)> {
        let start = Instant::now();
        let one = || -> Result<Vec<f64>, engram_core::Error> {
            let mut latencies = Vec::new();
            while go_on() {
                let begin = Instant::now();
                let number = self.next.fetch_add(1, Ordering::Relaxed);
                store.remember(SPACE, draft(number, what), Condition::Any)?.wait()?;
                latencies.push(begin.elapsed().as_secs_f64());
            }
            Ok(latencies)
        };
        let results: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..writers).map(|_| scope.spawn(one)).collect();
            threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
        });
        let seconds = start.elapsed().as_secs_f64();
        let mut latencies = Vec::new();
        for result in results {
            latencies.extend(result.map_err(|_| "a writer panicked")??);
        }
        Ok((float(latencies.len()) / seconds, latencies))
    }

    /// [`Writers::run`] for one slice of time; gives the rate.
    pub(crate) fn slice(
        &self,
        store: &Store,
        what: &str,
        writers: usize,
        slice: Duration,
    ) -> Outcome<f64> {
        let start = Instant::now();
        Ok(self.run(store, what, writers, &|| start.elapsed() < slice)?.0)
    }
}
