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

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::{Shared, lock};
use crate::embedder::Purpose;
use crate::episode::{Episode, StoredEpisode};
use crate::error::Error;
use crate::index::facets;
use crate::index::space::{Basis, Document, SpaceIndex};
use crate::sim::{Broken, broken};
use crate::storage::wal::frame;
use crate::store::commit::DirectoryCell as _;
use crate::store::directory::feed::Portion;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Condvar, Mutex, RwLock};

/// Episodes that are taken from a feed at a time.
pub(super) const PORTION_EPISODES: usize = 32;

/// As many for a recall that finds at least sixteen such portions waiting: it is not answered before all
/// is in, and a lock that changes hands less often costs less.
const PORTION_BEHIND: usize = 256;

/// How many of those that wait a recall takes at a time.
fn portion_of(fed: usize) -> usize {
    if fed < 16 * PORTION_BEHIND { PORTION_EPISODES } else { PORTION_BEHIND }
}

/// How often a recall looks again for what was replaced on its way while a former version of it is found,
/// before it says that it lacks it: who replaces one all the time must not hold it up.
const PASSED_ROUNDS: u32 = 3;

/// Longest that a recall waits for the index, before it answers with what there is.
const CATCH_UP_MAX: Duration = Duration::from_secs(10);

/// The indexes of all spaces.
#[derive(Debug)]
pub(crate) struct Indexing {
    /// Vectors of a space up to which all are compared.
    scan_max: usize,
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
    /// Portions that are not in yet, and how many episodes are in each.
    under_way: BTreeMap<u64, usize>,
    /// How often an episode was replaced on its way, and no version of it got in: the next one has
    /// come after it.
    overtaken: u64,
    /// How often that happened where a former version stands for it: whoever finds that looks again, but
    /// not everybody who would find the next one does.
    passed: u64,
    /// Episodes that could not be read: tried again later, and until then the answers lack them.
    failed: Vec<(u64, u64)>,
}

impl SpaceCell {
    fn new(space_key: u64, scan_max: usize) -> Self {
        Self {
            space_key,
            index: RwLock::new(SpaceIndex::new(scan_max)),
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
    pub(super) fn new(scan_max: usize) -> Self {
        Self {
            scan_max,
            spaces: RwLock::default(),
            background: Mutex::default(),
            work: Condvar::new(),
            armed: AtomicBool::new(false),
        }
    }

    fn cell(&self, space_key: u64) -> Arc<SpaceCell> {
        let spaces = self.spaces.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = spaces.get(&space_key) {
            return Arc::clone(cell);
        }
        drop(spaces);
        let mut spaces = self.spaces.write().unwrap_or_else(PoisonError::into_inner);
        let cell = || Arc::new(SpaceCell::new(space_key, self.scan_max));
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
        let (mut overtaken, mut passed) = {
            let flow = lock(&cell.flow);
            (flow.overtaken, flow.passed)
        };
        let (mut retries, mut rounds) = (true, PASSED_ROUNDS);
        let (flow, last, missed) = loop {
            while self.work_off(&cell, std::mem::take(&mut retries), portion_of) {
                if self.env.clock.elapsed() > until {
                    break;
                }
            }
            let mut flow = lock(&cell.flow);
            let last = flow.taken;
            while flow.under_way.first_key_value().is_some_and(|(&first, _)| first <= last) {
                let left = until.saturating_sub(self.env.clock.elapsed());
                let (locked, timeout) =
                    cell.done.wait_timeout(flow, left).unwrap_or_else(PoisonError::into_inner);
                flow = locked;
                if timeout.timed_out() {
                    break;
                }
            }
            // In place of what was overtaken there is something in the feed.
            let over = self.env.clock.elapsed() > until;
            let came = std::mem::replace(&mut overtaken, flow.overtaken) != flow.overtaken;
            let missed = flow.passed - std::mem::replace(&mut passed, flow.passed);
            if over || !(came || (missed > 0 && rounds > 0)) {
                break (flow, last, missed);
            }
            rounds = rounds.saturating_sub(1);
        };
        let under_way: usize = flow.under_way.range(..=last).map(|(_, episodes)| episodes).sum();
        let missed = usize::try_from(missed).unwrap_or(usize::MAX);
        let lacking = flow.failed.len() + under_way + missed;
        drop(flow);
        let fed = self.memory.look(|directory| directory.fed(space_key));
        (cell, lacking + if self.env.clock.elapsed() > until { fed } else { 0 })
    }

    /// Works off a portion of a space's feed, as large as `portion_of` says of so many; with `retries`, what
    /// could not be read before as well. Says whether there was anything.
    pub(super) fn work_off(
        &self,
        cell: &SpaceCell,
        retries: bool,
        portion_of: fn(usize) -> usize,
    ) -> bool {
        let (portion, mut basis, taken) = {
            let mut flow = lock(&cell.flow);
            if !flow.loaded {
                flow.loaded = true;
                self.tell_foreign(cell.space_key);
                if let Some(index) = self.load_index(cell.space_key) {
                    cell.change(|empty| *empty = index);
                }
            }
            let (mut portion, basis) = self.take_fed(cell, portion_of);
            if retries {
                // Failed or under way: whoever looks finds it in one of the two.
                portion.came.append(&mut flow.failed);
            }
            if portion.came.is_empty() && !portion.redefined {
                let all_came = flow.under_way.is_empty() && flow.failed.is_empty();
                if portion.is_empty() && !flow.settled && all_came {
                    flow.settled = true;
                    cell.change(SpaceIndex::drop_saved);
                }
                drop(flow);
                // What waits for a vector is waited for where that takes no time.
                return !portion.is_empty()
                    || (self.embedding.is_near() && self.embed_some(cell).unwrap_or(false));
            }
            flow.taken += 1;
            let number = flow.taken;
            flow.under_way.insert(number, portion.came.len().max(1));
            (portion, basis, Taken { cell, number })
        };
        let mut came = portion.came;
        let mut failed = Vec::new();
        loop {
            let documents = self.documents(cell, &came, &basis, &mut failed);
            came.retain(|one| !failed.contains(one));
            match self.put_in(cell, documents, &came, &basis) {
                Ok([overtaken, passed]) => {
                    let mut flow = lock(&cell.flow);
                    flow.overtaken += overtaken;
                    flow.passed += passed;
                    break;
                }
                // The space has vectors of another kind since it was looked at.
                Err(now) => basis = now,
            }
        }
        if cell.look(SpaceIndex::waiting_len) > 0 {
            self.embedding.arm();
        }
        if !failed.is_empty() {
            lock(&cell.flow).failed.append(&mut failed);
        }
        drop(taken);
        true
    }

    /// Takes from a space's feed, and what went out of the index; and says what the space's vectors
    /// are at that moment. The flow's lock is held meanwhile: whoever has it next finds all out that
    /// went before. What was only replaced stays until its next version is in.
    fn take_fed(&self, cell: &SpaceCell, most: impl Fn(usize) -> usize) -> (Portion, Basis) {
        let (mut portion, mut basis) = (Portion::default(), Basis::default());
        self.memory.with_mut(&mut |directory| {
            let fed = directory.fed(cell.space_key);
            portion = directory.take_fed(cell.space_key, most(fed));
            basis = self.basis(directory, cell.space_key);
        });
        if (portion.gone.is_empty() && portion.replaced.is_empty())
            || broken(Broken::ForgottenStaysIndexed)
        {
            return (portion, basis);
        }
        cell.change(|index| {
            for &(key, lsn) in &portion.replaced {
                index.replace(key, lsn);
            }
            for &(key, lsn) in &portion.gone {
                index.remove(lsn);
                index.drop_replaced(key);
            }
        });
        (portion, basis)
    }

    fn documents(
        &self,
        cell: &SpaceCell,
        came: &[(u64, u64)],
        basis: &Basis,
        failed: &mut Vec<(u64, u64)>,
    ) -> Vec<Document> {
        let read = |&(key, lsn): &(u64, u64)| {
            let document = self.document(cell, key, lsn, basis);
            document.unwrap_or_else(|e| {
                tracing::debug!(lsn, cause = %e, "an episode is not indexed yet");
                failed.push((key, lsn));
                None
            })
        };
        let mut places = Vec::with_capacity(came.len());
        self.memory.look(|directory| {
            let place = |&(key, lsn): &(u64, u64)| {
                directory.get(key).filter(|entry| entry.lsn == lsn).map(|entry| entry.place)
            };
            places.extend(came.iter().filter_map(place));
        });
        self.segments.will_read(places);
        came.iter().filter_map(read).collect()
    }

    /// Puts episodes in, as far as they are still there, in place of their former versions. `came`:
    /// all that could be read. Gives how many of them have been replaced since: so that the index has no
    /// version of them at all, and so that it has a former one.
    ///
    /// # Errors
    /// What the space's vectors are now, when they are not those that it was read for.
    fn put_in(
        &self,
        cell: &SpaceCell,
        mut documents: Vec<Document>,
        came: &[(u64, u64)],
        basis: &Basis,
    ) -> Result<[u64; 2], Basis> {
        cell.change(|index| {
            // What went since it was read must not come back: who goes later is fed later.
            let (mut current, mut overtaken) = (Vec::new(), Vec::new());
            let now = self.memory.look(|directory| {
                let now = |key| directory.get(key).map(|entry| entry.lsn);
                documents.retain(|document| now(document.key) == Some(document.lsn));
                for &(key, lsn) in came {
                    match now(key) {
                        Some(now) if now == lsn => current.push(key),
                        Some(_) => overtaken.push(key),
                        None => {}
                    }
                }
                self.basis(directory, cell.space_key)
            });
            if now != *basis {
                return Err(now);
            }
            index.rebase(now);
            for document in documents {
                index.insert(document);
            }
            for key in current {
                index.drop_replaced(key);
            }
            let passed = overtaken.iter().filter(|&&key| index.has_former(key)).count() as u64;
            Ok([overtaken.len() as u64 - passed, passed])
        })
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
        let taken: usize = cell.map_or(0, |cell| lock(&cell.flow).under_way.values().sum());
        (fed + taken) as u64
    }

    /// What went from a space is out of its index before whoever asked for it hears that it went.
    pub(super) fn forget_in_index(&self, space_key: u64) {
        // Of what was never indexed there is nothing to take out.
        let Some(cell) = self.indexing.known(space_key) else { return };
        let flow = lock(&cell.flow);
        if flow.loaded {
            self.take_fed(&cell, |_| 0);
        }
    }

    /// An episode, read and made ready; `None` when it is gone, or this version does not
    /// understand it. One that is damaged is asked for until compaction has set it aside.
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
            Ok(None) | Err(Error::Undecodable { .. }) => return Ok(None),
            Err(e) => return Err(e),
        };
        let text = words(&episode);
        let print = print(&text, &episode.embedding);
        let has_vector = cell.look(|index| index.has_saved(lsn, print));
        // Where damage took the end of a space's former life, there are vectors of both.
        let fits = episode.embedding.len() == basis.dimension as usize;
        let own = fits && basis.dimension > 0 && lsn > basis.since;
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
            print,
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

/// The checksum of all that a vector may come from, whoever makes it.
fn print(text: &str, embedding: &[f32]) -> u32 {
    let numbers = embedding.iter().flat_map(|number| number.to_le_bytes());
    frame::crc(&text.bytes().chain(numbers).collect::<Vec<u8>>())
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
