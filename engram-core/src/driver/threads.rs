//! The writer's thread: waits for changes, commits them, and leaves a mark when it is quiet.

use std::sync::PoisonError;
use std::time::Duration;

use super::{Queue, Shared, lock};
use crate::store::options::Durability;
use crate::sync::atomic::Ordering;
use crate::sync::cores;

/// How long the log must be quiet before a mark is left.
const IDLE_MARK_AFTER: Duration = Duration::from_millis(200);

/// Longest that a batch waits for compaction.
const CATCH_UP_MAX: Duration = Duration::from_millis(25);

/// Callers whom a batch may wait for: to wake more takes longer than it is worth.
const FEW: usize = 4;

/// Longest that it waits for them.
const RETURN_MAX: Duration = Duration::from_micros(500);

/// How often it looks for them, at most, whatever the clock says.
const LOOKS_MAX: u32 = 10_000;

/// How far apart two of those waits are at most, in batches, where nobody comes.
const APART_MAX: u32 = 256;

/// Whether those who were answered come back at once.
#[derive(Debug)]
struct Returns {
    /// Those of the last batch, and those who came meanwhile.
    callers: usize,
    /// How long that batch took.
    took: Duration,
    /// Batches until the next wait.
    pause: u32,
    /// How many there will be if that one is in vain.
    next_pause: u32,
}

impl Shared {
    /// Where two callers wait for their own records, one is answered a moment after the sync of the other
    /// began, and each sync has one record. So the next batch waits for those who were just answered:
    /// for half the time that the last one took, and ever more seldom where nobody comes back. Who is
    /// alone waits for nobody.
    fn let_the_answered_come_back(&self, returns: &mut Returns) {
        let all_came = |queue: &Queue| queue.groups.len() >= returns.callers;
        if returns.callers > FEW || all_came(&lock(&self.queue)) {
            return;
        }
        if returns.pause > 0 {
            returns.pause -= 1;
            return;
        }
        let until = self.env.clock.elapsed() + (returns.took / 2).min(RETURN_MAX);
        for _ in 0..LOOKS_MAX {
            if self.env.clock.elapsed() >= until || self.seen.poisoned.load(Ordering::Acquire) {
                break;
            }
            let queue = lock(&self.queue);
            if all_came(&queue) {
                returns.next_pause = 1;
                return;
            }
            if queue.closing {
                return;
            }
            drop(queue);
            std::hint::spin_loop();
        }
        returns.pause = returns.next_pause;
        returns.next_pause = (returns.next_pause * 2).min(APART_MAX);
    }

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
        let mut returns = Returns { callers: 0, took: Duration::ZERO, pause: 0, next_pause: 1 };
        // Under the scheduler of the race checks time stands still.
        let patient = cores() > 1 && !cfg!(feature = "shuttle");
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
                        returns.callers = 0;
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
                let mut engine = self.engine();
                if patient {
                    self.let_the_answered_come_back(&mut returns);
                }
                let begin = self.env.clock.elapsed();
                self.commit_once(&mut engine);
                returns.took = self.env.clock.elapsed().saturating_sub(begin);
                let answered = usize::try_from(self.last_batch.load(Ordering::Relaxed));
                let came = lock(&self.queue).groups.len();
                returns.callers = answered.unwrap_or(usize::MAX).saturating_add(came);
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
