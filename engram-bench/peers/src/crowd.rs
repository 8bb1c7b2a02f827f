//! Writers: threads that each wait for an acknowledgement before the next record.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::engines::Engine;
use crate::stats::float;

/// What one slice of time gave.
#[derive(Debug, Default)]
pub(crate) struct Slice {
    /// Acknowledged records per second.
    pub(crate) rate: f64,
    /// How long each waited, in seconds.
    pub(crate) latencies: Vec<f64>,
    /// Records of one write and sync, where the engine tells.
    pub(crate) batch: Option<f64>,
    /// Seconds that the engine worked on after the slice.
    pub(crate) debt: f64,
}

/// An engine that is written to in slices, by records that it does not have yet.
pub(crate) struct Written {
    pub(crate) engine: Box<dyn Engine>,
    next: AtomicU64,
}

impl Written {
    /// Begins to number at 0.
    pub(crate) fn new(engine: Box<dyn Engine>) -> Self {
        Self { engine, next: AtomicU64::new(0) }
    }

    /// Lets so many threads write for one slice.
    pub(crate) fn slice(&self, writers: usize, record: &str, slice: Duration) -> Outcome<Slice> {
        self.run(writers, slice, |writer| {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            self.engine.append(writer, number, record)?;
            Ok(1)
        })
    }

    /// One caller that hands over ready-made batches for one slice.
    pub(crate) fn batches(&self, batch: u64, record: &str, slice: Duration) -> Outcome<Slice> {
        self.run(1, slice, |_| {
            let number = self.next.fetch_add(batch, Ordering::Relaxed);
            self.engine.append_batch(number..number + batch, record)?;
            Ok(batch)
        })
    }

    /// Calls `work` on so many threads again and again for one slice; it gives records done.
    pub(crate) fn run(
        &self,
        threads: usize,
        slice: Duration,
        work: impl Fn(usize) -> Outcome<u64> + Sync,
    ) -> Outcome<Slice> {
        let before = self.engine.batches();
        let barrier = Barrier::new(threads + 1);
        let one = |thread: usize| -> Outcome<(u64, Vec<f64>)> {
            let mut latencies = Vec::with_capacity(4096);
            let mut records = 0;
            barrier.wait();
            let start = Instant::now();
            let mut begin = start;
            while begin.duration_since(start) < slice {
                records += work(thread)?;
                let end = Instant::now();
                latencies.push(end.duration_since(begin).as_secs_f64());
                begin = end;
            }
            Ok((records, latencies))
        };
        let (seconds, results) = std::thread::scope(|scope| {
            let one = &one;
            let spawn = |thread| scope.spawn(move || one(thread));
            let threads: Vec<_> = (0..threads).map(spawn).collect();
            barrier.wait();
            let start = Instant::now();
            let results: Vec<_> =
                threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
            (start.elapsed().as_secs_f64(), results)
        });
        let mut whole = Slice::default();
        let mut records = 0;
        for result in results {
            let (count, latencies) = result.map_err(|_| "a writer panicked")??;
            records += count;
            whole.latencies.extend(latencies);
        }
        whole.rate = float(usize::try_from(records)?) / seconds;
        whole.batch = before.zip(self.engine.batches()).and_then(|(before, after)| {
            let (records, writes) = (after.0 - before.0, after.1 - before.1);
            (writes > 0).then(|| crate::stats::bytes(records) / crate::stats::bytes(writes))
        });
        Ok(whole)
    }
}
