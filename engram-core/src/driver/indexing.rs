//! The indexes behind their locks: fed by the directory, caught up by whoever asks something.
//!
//! A change is in the directory before it is acknowledged, and the directory feeds the index. A
//! recall first works off what was fed, or waits for who does; so it misses nothing that was
//! acknowledged before it was asked. A thread does the same in the background, links vectors,
//! and saves them.
//!
//! Locks, in this order: a space's flow, its index, the directory.

mod background;
mod saved;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::{Shared, lock};
use crate::embedder::Purpose;
use crate::episode::{Episode, StoredEpisode};
use crate::error::Error;
use crate::index::facets;
use crate::index::space::{Basis, Document, Source, SpaceIndex};
use crate::store::commit::DirectoryCell as _;
use crate::store::directory::feed::Portion;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Condvar, Mutex, RwLock};

/// Episodes that are taken from a feed at a time.
pub(super) const PORTION_EPISODES: usize = 256;

/// Longest that a recall waits for the index, before it answers with what there is.
const CATCH_UP_MAX: Duration = Duration::from_secs(10);

/// The indexes of all spaces.
#[derive(Debug, Default)]
pub(crate) struct Indexing {
    spaces: RwLock<HashMap<u64, Arc<SpaceCell>>>,
    background: Mutex<background::State>,
    work: Condvar,
    /// The thread has been told that there is something to look at.
    armed: AtomicBool,
}

/// One space's index.
#[derive(Debug)]
pub(crate) struct SpaceCell {
    pub(super) space_key: u64,
    index: RwLock<SpaceIndex>,
    flow: Mutex<Flow>,
    /// Some portion is done.
    done: Condvar,
    /// What the saved file holds.
    saved: Mutex<saved::Mark>,
}

#[derive(Debug, Default)]
struct Flow {
    /// Whether a saved index has been looked for.
    loaded: bool,
    /// Whether all that was in the log at the start has come.
    settled: bool,
    /// The number of the last portion taken.
    taken: u64,
    under_way: BTreeSet<u64>,
    /// Episodes that could not be read: tried again later, and until then the answers lack them.
    failed: Vec<(u64, u64)>,
}

impl SpaceCell {
    fn new(space_key: u64) -> Self {
        Self {
            space_key,
            index: RwLock::default(),
            flow: Mutex::default(),
            done: Condvar::new(),
            saved: Mutex::default(),
        }
    }

    /// Looks at the index.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&SpaceIndex) -> R) -> R {
        look(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut SpaceIndex) -> R) -> R {
        change(&mut self.index.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A portion that somebody took. Dropped, it no longer holds anybody up, whatever happened.
struct Taken<'a> {
    cell: &'a SpaceCell,
    number: u64,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        lock(&self.cell.flow).under_way.remove(&self.number);
        self.cell.done.notify_all();
    }
}

impl Indexing {
    fn cell(&self, space_key: u64) -> Arc<SpaceCell> {
        let spaces = self.spaces.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = spaces.get(&space_key) {
            return Arc::clone(cell);
        }
        drop(spaces);
        let mut spaces = self.spaces.write().unwrap_or_else(PoisonError::into_inner);
        let cell = || Arc::new(SpaceCell::new(space_key));
        Arc::clone(spaces.entry(space_key).or_insert_with(cell))
    }

    fn known(&self, space_key: u64) -> Option<Arc<SpaceCell>> {
        let spaces = self.spaces.read().unwrap_or_else(PoisonError::into_inner);
        spaces.get(&space_key).map(Arc::clone)
    }
}

impl Shared {
    /// The index of a space with all that was acknowledged before this call, and how many
    /// episodes it lacks nevertheless: because they cannot be read, or it takes too long.
    pub(crate) fn caught_up(&self, space_key: u64) -> (Arc<SpaceCell>, usize) {
        let cell = self.indexing.cell(space_key);
        let until = self.env.clock.elapsed() + CATCH_UP_MAX;
        let mut again = std::mem::take(&mut lock(&cell.flow).failed);
        while self.work_off(&cell, &mut again) {
            if self.env.clock.elapsed() > until {
                break;
            }
        }
        let mut flow = lock(&cell.flow);
        let last = flow.taken;
        while flow.under_way.first().is_some_and(|&first| first <= last) {
            let left = until.saturating_sub(self.env.clock.elapsed());
            let (locked, timeout) =
                cell.done.wait_timeout(flow, left).unwrap_or_else(PoisonError::into_inner);
            flow = locked;
            if timeout.timed_out() {
                break;
            }
        }
        let under_way = flow.under_way.range(..=last).count() * PORTION_EPISODES;
        let lacking = flow.failed.len() + under_way;
        drop(flow);
        let fed = self.memory.look(|directory| directory.fed(space_key));
        (cell, lacking + if self.env.clock.elapsed() > until { fed } else { 0 })
    }

    /// Works off a portion of a space's feed, and what is to be tried again. Says whether there
    /// was anything.
    pub(super) fn work_off(&self, cell: &SpaceCell, again: &mut Vec<(u64, u64)>) -> bool {
        let (portion, basis, taken) = {
            let mut flow = lock(&cell.flow);
            if !flow.loaded {
                flow.loaded = true;
                self.tell_foreign(cell.space_key);
                if let Some(index) = self.load_index(cell.space_key) {
                    cell.change(|empty| *empty = index);
                }
            }
            let (mut portion, mut basis) = (Portion::default(), Basis::default());
            self.memory.with_mut(&mut |directory| {
                portion = directory.take_fed(cell.space_key, PORTION_EPISODES);
                basis = self.basis(directory, cell.space_key);
            });
            portion.came.append(again);
            if portion.is_empty() {
                if !flow.settled && flow.under_way.is_empty() {
                    flow.settled = true;
                    cell.change(SpaceIndex::drop_saved);
                }
                drop(flow);
                // What waits for a vector is waited for where that takes no time.
                return self.embedding.is_near() && self.embed_some(cell).unwrap_or(false);
            }
            flow.taken += 1;
            let number = flow.taken;
            flow.under_way.insert(number);
            (portion, basis, Taken { cell, number })
        };
        let Portion { came, gone, .. } = portion;
        let mut failed = Vec::new();
        let mut documents: Vec<Document> = came
            .into_iter()
            .filter_map(|(key, lsn)| {
                let document = self.document(cell, key, lsn, &basis);
                document.unwrap_or_else(|e| {
                    tracing::debug!(lsn, cause = %e, "an episode is not indexed yet");
                    failed.push((key, lsn));
                    None
                })
            })
            .collect();
        let waiting = cell.change(|index| {
            // What went since it was read must not come back: who goes later is fed later.
            self.memory.look(|directory| {
                let live = |document: &Document| {
                    directory.get(document.key).is_some_and(|entry| entry.lsn == document.lsn)
                };
                documents.retain(live);
                index.rebase(self.basis(directory, cell.space_key));
            });
            // What was read under another basis is older than this one, and so is its vector.
            let (same, waits) = (*index.basis() == basis, index.basis().embeds);
            for document in documents.drain(..) {
                index.insert(if same {
                    document
                } else {
                    Document { vector: None, waits, ..document }
                });
            }
            for &lsn in &gone {
                index.remove(lsn);
            }
            index.waiting_len()
        });
        if waiting > 0 {
            self.embedding.arm();
        }
        if !failed.is_empty() {
            lock(&cell.flow).failed.append(&mut failed);
        }
        drop(taken);
        true
    }

    /// Looks at the index of a space; `None` where there is none.
    pub(crate) fn look_at_index<R>(
        &self,
        space_key: u64,
        look: impl FnOnce(&SpaceIndex) -> R,
    ) -> Option<R> {
        self.indexing.known(space_key).map(|cell| cell.look(look))
    }

    /// Episodes that came and that the index of their space does not have yet, about.
    pub(super) fn on_the_way(&self, space_key: u64) -> u64 {
        let fed = self.memory.look(|directory| directory.fed(space_key));
        let cell = self.indexing.known(space_key);
        let taken = cell.map_or(0, |cell| lock(&cell.flow).under_way.len());
        (fed + taken) as u64
    }

    /// What went is out of every index before whoever asked for it hears that it went.
    pub(super) fn forget_in_indexes(&self) {
        for space_key in self.memory.look(crate::store::directory::Directory::bereft) {
            // Of what was never indexed there is nothing to take out.
            let Some(cell) = self.indexing.known(space_key) else { continue };
            let mut gone = Vec::new();
            self.memory.with_mut(&mut |directory| gone = directory.take_fed(space_key, 0).gone);
            cell.change(|index| {
                for &lsn in &gone {
                    index.remove(lsn);
                }
            });
        }
    }

    /// An episode, read and made ready; `None` when it is gone, or its bytes cannot be given
    /// back (whoever reads it hears why).
    fn document(
        &self,
        cell: &SpaceCell,
        key: u64,
        lsn: u64,
        basis: &Basis,
    ) -> Result<Option<Document>, Error> {
        let wanted = |entry: &crate::store::directory::Entry| (entry.lsn == lsn).then_some(());
        let StoredEpisode { episode, .. } = match self.read_entry(key, wanted) {
            Ok(Some(stored)) => stored,
            Ok(None) | Err(Error::Damaged { .. } | Error::Undecodable { .. }) => return Ok(None),
            Err(e) => return Err(e),
        };
        let text = words(&episode);
        let has_vector = cell.look(|index| index.has_saved(lsn));
        let fits = match basis.source {
            Source::Given => !episode.embedding.is_empty(),
            _ => basis.dimension > 0 && episode.embedding.len() == basis.dimension as usize,
        };
        let own = fits && lsn > basis.since;
        let near = self.options.embedder.as_ref().filter(|_| self.embedding.is_near());
        let vector = match near {
            _ if has_vector => None,
            _ if own => Some(episode.embedding.clone()),
            Some(embedder) if basis.embeds => {
                let made = embedder.embed(&[&text], Purpose::Episodes);
                made.ok().and_then(|mut vectors| vectors.pop().flatten())
            }
            _ => None,
        };
        let waits = basis.embeds && near.is_none() && vector.is_none();
        let mut facets: Vec<u64> = episode.who.iter().map(|name| facets::who(name)).collect();
        facets.extend(episode.place.as_deref().map(facets::place));
        facets.extend(facets::of_metadata(episode.metadata.as_deref()));
        facets.sort_unstable();
        facets.dedup();
        #[expect(clippy::cast_possible_truncation, reason = "read again where it decides")]
        let confidence = episode.confidence as f32;
        Ok(Some(Document {
            key,
            lsn,
            when: episode.when.into(),
            confidence,
            facets: facets.into(),
            text,
            vector,
            waits,
        }))
    }

    /// Says that something happened which the background may have to look at.
    pub(crate) fn arm_indexing(&self) {
        if !self.indexing.armed.swap(true, Ordering::AcqRel) {
            // Taking the lock keeps the wake-up from falling between a look and a wait.
            drop(lock(&self.indexing.background));
            self.indexing.work.notify_one();
        }
    }
}

/// What an episode says, to words and to vectors: what happened, where, and who took part, for
/// people ask by names. Names with digits are numbers of machines, and mean nothing.
pub(super) fn words(episode: &Episode) -> String {
    let mut words = episode.what.clone();
    let names = episode.place.iter().chain(&episode.who);
    for name in names.filter(|name| !name.contains(|c: char| c.is_ascii_digit())) {
        words.push('\n');
        words.push_str(name);
    }
    words
}
