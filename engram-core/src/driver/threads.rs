//! The writer's thread: waits for changes, commits them, and leaves a mark when it is quiet.

use std::sync::PoisonError;
use std::time::Duration;

use super::{Queue, Shared, lock};
use crate::store::options::Durability;
use crate::sync::atomic::Ordering;

/// How long the log must be quiet before a mark is left.
const IDLE_MARK_AFTER: Duration = Duration::from_millis(200);

/// Longest that a batch waits for compaction.
const CATCH_UP_MAX: Duration = Duration::from_millis(25);

impl Shared {
    /// The log must not grow without bound: while garbage comes faster than compaction drops it,
    /// a batch waits for some of it to go, but never for long.
    fn let_compaction_catch_up(&self) {
        if self.behind.load(Ordering::Acquire) {
            let waits = |queue: &mut Queue| {
                queue.writer_waits = self.behind.load(Ordering::Acquire) && !queue.closing;
                queue.writer_waits
            };
            drop(self.work.wait_timeout_while(lock(&self.queue), CATCH_UP_MAX, waits));
        }
    }

    pub(super) fn write_loop(&self) {
        let mut quiet_at = u64::MAX;
        loop {
            let mut queue = lock(&self.queue);
            if queue.groups.is_empty() {
                if queue.closing {
                    return;
                }
                queue.writer_waits = true;
                let batches = self.batches.load(Ordering::Relaxed);
                if let Some(pause) = self.pause() {
                    let (locked, timeout) = self
                        .work
                        .wait_timeout(queue, pause)
                        .unwrap_or_else(PoisonError::into_inner);
                    queue = locked;
                    if timeout.timed_out() && queue.groups.is_empty() {
                        drop(queue);
                        self.on_quiet(batches == quiet_at);
                        quiet_at = self.batches.load(Ordering::Relaxed);
                        continue;
                    }
                } else {
                    queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
            }
            let empty = queue.groups.is_empty();
            drop(queue);
            if !empty {
                self.let_compaction_catch_up();
                self.commit_once(&mut self.engine());
            }
        }
    }

    /// How long the writer's thread may wait; `None` for as long as nobody calls.
    fn pause(&self) -> Option<Duration> {
        if !self.mark_armed.load(Ordering::Acquire) {
            return None;
        }
        match self.options.durability {
            Durability::Interval(every) => Some(every.min(IDLE_MARK_AFTER)),
            Durability::Always | Durability::Never => Some(IDLE_MARK_AFTER),
        }
    }

    /// Nobody called for a while: sync what an interval leaves, and mark the end once.
    pub(super) fn on_quiet(&self, still: bool) {
        if !still && !matches!(self.options.durability, Durability::Interval(_)) {
            // Callers commit by themselves, and leave nothing to sync: who waited for the engine
            // now would cost each of them a wake-up.
            return;
        }
        let mut engine = self.engine();
        if engine.writer.poisoned().is_some() {
            self.mark_armed.store(false, Ordering::Release);
            return;
        }
        let result = if still {
            self.mark_armed.store(false, Ordering::Release);
            engine.writer.mark()
        } else {
            engine.writer.sync()
        };
        if let Err(e) = result {
            tracing::debug!(cause = %e, "the idle log could not be synced");
        }
        self.publish(&engine.writer);
    }
}
