//! Whoever asked for a pass of compaction, and waits for what came of it.

use std::sync::{Arc, PoisonError};

use super::{lock, unanswered};
use crate::error::Result;
use crate::storage::wal::report::CompactionStats;
use crate::sync::{Condvar, Mutex};

#[derive(Debug, Default)]
pub(super) struct CompactSlot {
    result: Mutex<Option<Result<CompactionStats>>>,
    ready: Condvar,
}

impl CompactSlot {
    pub(super) fn wait(&self) -> Result<CompactionStats> {
        let mut result = lock(&self.result);
        loop {
            if let Some(result) = result.take() {
                return result;
            }
            result = self.ready.wait(result).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(super) fn is_answered(&self) -> bool {
        lock(&self.result).is_some()
    }

    fn fill(&self, answer: Result<CompactionStats>) {
        *lock(&self.result) = Some(answer);
        self.ready.notify_all();
    }
}

/// A question. Dropped, it is answered all the same: nobody waits for ever.
#[derive(Debug)]
pub(super) struct Asked(Option<Arc<CompactSlot>>);

impl Asked {
    pub(super) fn new(slot: Arc<CompactSlot>) -> Self {
        Self(Some(slot))
    }

    pub(super) fn answer(mut self, answer: Result<CompactionStats>) {
        if let Some(slot) = self.0.take() {
            slot.fill(answer);
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            slot.fill(Err(unanswered()));
        }
    }
}
