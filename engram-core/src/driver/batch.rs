//! One batch on its way: taken from the queue, stepped to its end, answered.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::pending::Slot;
use super::{Engine, Shared, lock};
use crate::error::Result;
use crate::metrics::Metrics;
use crate::storage::wal::writer::Writer;
use crate::store::commit::Step;
use crate::store::options::Durability;
use crate::sync::atomic::Ordering;

/// Whom one of those that were woken wakes in turn.
const WOKEN_AT_ONCE: usize = 2;

/// Those at whose slots the answers are and who block there. Dropped, it sees to it that they are woken,
/// whatever panics in between.
struct Asleep<'a> {
    shared: &'a Shared,
    slots: &'a mut Vec<Arc<Slot>>,
}

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        lock(&self.shared.asleep).extend(self.slots.drain(..));
        self.shared.wake_some();
    }
}

impl Shared {
    /// Takes all that waits, and commits it.
    pub(super) fn commit_once(&self, engine: &mut Engine) {
        if self.begin_batch(engine) {
            while !self.step_batch(engine) {}
        }
    }

    /// Takes all that waits. Says whether there was anything.
    pub(super) fn begin_batch(&self, engine: &mut Engine) -> bool {
        let Engine { committer, taken, answered, .. } = engine;
        {
            let mut queue = lock(&self.queue);
            queue.take_back(answered);
            std::mem::swap(&mut queue.groups, taken);
            Metrics::set(&self.env.metrics.queue_depth, 0);
            (queue.changes, queue.bytes) = (0, 0);
        }
        if taken.is_empty() {
            return false;
        }
        self.last_batch.store(taken.len() as u64, Ordering::Relaxed);
        committer.begin(taken.drain(..));
        true
    }

    /// One act of the batch under way. Says whether it is done.
    pub(super) fn step_batch(&self, engine: &mut Engine) -> bool {
        let Engine { writer, committer, .. } = engine;
        let (lsn, bytes) = (writer.written_lsn(), writer.buffered() as u64);
        let step = AssertUnwindSafe(|| committer.step(writer, &self.memory));
        let stepped = catch_unwind(step);
        // An act writes once at most: what was in the buffer.
        let records = writer.written_lsn() - lsn;
        if records > 0 {
            Metrics::record(&self.env.metrics.batch_records, records);
            Metrics::record(&self.env.metrics.batch_bytes, bytes);
        }
        match stepped {
            Ok(Step::More) => return false,
            Ok(Step::Done) => {}
            Err(_) => {
                let e = writer.poison("the writer panicked".into());
                committer.abort(&e);
            }
        }
        self.answer(engine);
        true
    }

    fn answer(&self, engine: &mut Engine) {
        let Engine { writer, committer, answered, blocked, synced_at, .. } = engine;
        let synced = self.sync_if_due(writer, synced_at);
        let failed = synced.err().or_else(|| writer.check_poison().err());
        self.publish(writer);
        self.batches.fetch_add(1, Ordering::AcqRel);
        self.arm_indexing();
        let asleep = Asleep { shared: self, slots: blocked };
        for (ticket, mut answers) in committer.answers() {
            for answer in &mut answers {
                // Nothing is acknowledged after a failed sync but what an earlier one made durable.
                if let Some(e) = &failed
                    && answer.as_ref().is_ok_and(|done| done.lsn > writer.synced_lsn())
                {
                    *answer = Err(e.clone());
                }
                if let Err(e) = answer {
                    self.env.metrics.write_refused(e);
                }
            }
            if let Some((slot, blocks)) = ticket.fill(answers) {
                if blocks {
                    asleep.slots.push(Arc::clone(&slot));
                }
                answered.push(slot);
            }
        }
        drop(asleep);
        self.arm(writer);
    }

    /// Wakes some of those whose answers are there. Each of them does the same before anything else, so
    /// that all are woken: by each other, on all cores, while the next batch is on its way to the disk.
    pub(super) fn wake_some(&self) {
        let mut left = WOKEN_AT_ONCE;
        while left > 0 {
            let next = lock(&self.asleep).pop_front();
            let Some(slot) = next else { return };
            // Whoever has gone by himself wakes nobody any more.
            left -= usize::from(slot.wake());
        }
    }

    /// Keeps the promise of `interval` while changes never pause.
    fn sync_if_due(&self, writer: &mut Writer, synced_at: &mut std::time::Duration) -> Result<()> {
        let Durability::Interval(every) = self.options.durability else { return Ok(()) };
        let now = self.env.clock.elapsed();
        if now.saturating_sub(*synced_at) < every {
            return Ok(());
        }
        *synced_at = now;
        writer.sync()
    }
}
