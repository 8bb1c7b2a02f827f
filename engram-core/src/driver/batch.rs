//! One batch on its way: taken from the queue, stepped to its end, answered.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::pending::Ticket;
use super::{Engine, Shared, lock};
use crate::error::Result;
use crate::metrics::Metrics;
use crate::storage::wal::writer::Writer;
use crate::store::change::Answers;
use crate::store::commit::Step;
use crate::store::options::Durability;
use crate::sync::atomic::Ordering;

impl Shared {
    /// Takes all that waits, and commits it.
    pub(super) fn commit_once(&self, engine: &mut Engine) {
        if self.begin_batch(engine) {
            while !self.step_batch(engine) {}
        }
    }

    /// Takes all that waits. Says whether there was anything.
    pub(super) fn begin_batch(&self, engine: &mut Engine) -> bool {
        let (groups, changes, bytes) = {
            let mut queue = lock(&self.queue);
            let groups: Vec<_> = queue.groups.drain(..).collect();
            Metrics::set(&self.env.metrics.queue_depth, 0);
            (groups, std::mem::take(&mut queue.changes), std::mem::take(&mut queue.bytes))
        };
        if groups.is_empty() {
            return false;
        }
        self.last_batch.store(groups.len() as u64, Ordering::Relaxed);
        Metrics::record(&self.env.metrics.batch_records, changes as u64);
        Metrics::record(&self.env.metrics.batch_bytes, bytes as u64);
        engine.committer.begin(groups);
        true
    }

    /// One act of the batch under way. Says whether it is done.
    pub(super) fn step_batch(&self, engine: &mut Engine) -> bool {
        let Engine { writer, committer, .. } = engine;
        let step = AssertUnwindSafe(|| committer.step(writer, &self.memory));
        let answered = match catch_unwind(step) {
            Ok(Step::More) => return false,
            Ok(Step::Done(answered)) => answered,
            Err(_) => {
                let e = writer.poison("the writer panicked".into());
                committer.abort(&e)
            }
        };
        self.answer(engine, answered);
        true
    }

    fn answer(&self, engine: &mut Engine, mut answered: Vec<(Ticket, Answers)>) {
        let Engine { writer, synced_at, .. } = engine;
        let synced = self.sync_if_due(writer, synced_at);
        if let Some(e) = synced.err().or_else(|| writer.check_poison().err()) {
            // Nothing is acknowledged after a failed sync but what an earlier one made durable.
            for answer in answered.iter_mut().flat_map(|(_, answers)| answers) {
                if answer.as_ref().is_ok_and(|done| done.lsn > writer.synced_lsn()) {
                    *answer = Err(e.clone());
                }
            }
        }
        self.publish(writer);
        self.batches.fetch_add(1, Ordering::AcqRel);
        self.arm_indexing();
        for (ticket, answers) in answered {
            for e in answers.iter().filter_map(|answer| answer.as_ref().err()) {
                self.env.metrics.write_refused(e);
            }
            ticket.fill(answers);
        }
        self.arm(writer);
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
