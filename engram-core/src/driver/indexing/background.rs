//! The thread of the indexes: works feeds off, links vectors, saves them.
//!
//! It stands back while changes are made: two cores have better things to do then, and whoever
//! recalls catches up by itself.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::{PORTION_EPISODES, Shared, SpaceCell};
use crate::driver::lock;
use crate::sync::atomic::Ordering;
use crate::sync::thread;

/// How long no change must have been made before it begins.
const QUIET: Duration = Duration::from_millis(20);

/// Episodes that may wait for a quiet moment.
const WAITING_MAX: usize = 20_000;

/// Vectors that are linked between two looks around.
const LINKS_AT_A_TIME: usize = 64;

/// How long it must be quiet before vectors are saved.
const SAVE_AFTER: Duration = Duration::from_secs(5);

/// What the thread is told.
#[derive(Debug, Default)]
pub(super) struct State {
    closing: bool,
}

impl Shared {
    /// Runs until the store closes.
    pub(crate) fn index_loop(&self) {
        let mut batches = u64::MAX;
        let mut idle = Duration::ZERO;
        let mut saved_at = self.env.clock.elapsed();
        let save_within = (self.options.forget_erase_max / 4).max(SAVE_AFTER);
        loop {
            let busy = {
                let now = self.batches.load(Ordering::Relaxed);
                std::mem::replace(&mut batches, now) != now
            };
            if busy {
                idle = Duration::ZERO;
            }
            let hungry = self.memory.look(crate::store::directory::Directory::hungry);
            let mut worked = false;
            if !busy || hungry.is_some_and(|(_, came)| came > WAITING_MAX) {
                worked = self.index_some();
            }
            let now = self.env.clock.elapsed();
            // What was forgotten leaves the saved vectors too, though it is never quiet.
            let is_overdue = now.saturating_sub(saved_at) >= save_within;
            if is_overdue || (!worked && !busy && idle >= SAVE_AFTER) {
                self.save_indexes(false);
                saved_at = now;
            }
            let state = lock(&self.indexing.background);
            if state.closing {
                return;
            }
            if worked {
                drop(state);
                // Whoever waits for this core goes on now, and not when the time is up.
                thread::yield_now();
                continue;
            }
            // Asleep for good only when nothing waits and all is saved.
            if idle > SAVE_AFTER && hungry.is_none() {
                idle = Duration::ZERO;
                self.indexing.armed.store(false, Ordering::Release);
                if self.batches.load(Ordering::Acquire) == batches {
                    drop(self.indexing.work.wait(state).unwrap_or_else(PoisonError::into_inner));
                }
                continue;
            }
            let waited = self.indexing.work.wait_timeout(state, QUIET);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
            idle += QUIET;
        }
    }

    /// Works off a portion of some feed, makes some vectors, or links some. Says whether there was
    /// anything.
    pub(crate) fn index_some(&self) -> bool {
        match self.memory.look(crate::store::directory::Directory::hungry) {
            Some((space_key, _)) => {
                self.work_off(&self.indexing.cell(space_key), false, |_| PORTION_EPISODES)
            }
            None => self.embed_near() || self.link_some(),
        }
    }

    /// Tells the thread to end.
    pub(crate) fn close_indexing(&self) {
        lock(&self.indexing.background).closing = true;
        self.indexing.work.notify_all();
    }

    pub(crate) fn cells(&self) -> Vec<Arc<SpaceCell>> {
        let spaces = self.indexing.spaces.read().unwrap_or_else(PoisonError::into_inner);
        let mut cells: Vec<_> = spaces.values().map(Arc::clone).collect();
        cells.sort_by_key(|cell| cell.space_key);
        cells
    }

    /// Makes some of the vectors that wait for an embedder which answers at once: after a space was
    /// given back to it. Says whether there were any.
    fn embed_near(&self) -> bool {
        let near = self.embedding.is_near();
        near && self.cells().iter().any(|cell| self.embed_some(cell).unwrap_or(false))
    }

    /// Links some vectors of some space. Says whether there were any.
    fn link_some(&self) -> bool {
        let graph_min = self.env.scale.graph_vectors_min;
        for cell in self.cells() {
            let slots: Vec<u32> = cell.look(|index| {
                let big = index.vectors().filter(|vectors| vectors.len() >= graph_min);
                big.map_or_else(Vec::new, |vectors| {
                    vectors.unlinked().take(LINKS_AT_A_TIME).collect()
                })
            });
            for &slot in &slots {
                // Finding neighbours is the long part, and lets others read.
                let links = cell.look(|index| index.vectors()?.plan(slot));
                if let Some(links) = links {
                    cell.change(|index| index.vectors_mut().map(|vectors| vectors.link(&links)));
                }
            }
            if !slots.is_empty() {
                return true;
            }
        }
        false
    }
}
