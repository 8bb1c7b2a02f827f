//! The index of one space: who is in it, and every way to find them.
//!
//! An episode is known by the LSN of its frame, which is given once for ever: what has another
//! LSN is another episode. So an index that fell behind, or was saved long ago, can be held
//! against the directory and made right, and can never answer with what was replaced.
//!
//! Deliberately absent: reading episodes (callers bring [`Document`]s), locks, files.

mod ask;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU64;
use std::sync::Arc;

pub use self::ask::{Ask, Filter, Found};
use super::bits::Bits;
use super::facets::Facets;
use super::fuse::Candidate;
use super::text::Texts;
use super::top::Scored;
use super::vector::{BREADTH, SCAN_VECTORS_MAX, Vectors};
use crate::record::Instant;
use crate::sim::{Broken, broken};

/// Candidates that a signal gives, at least, for each episode of the answer.
pub const CANDIDATES_PER_ANSWER: usize = 4;

/// Whose vectors a space has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// Nobody's yet.
    #[default]
    None,
    /// Made from the text, by an embedder.
    Made,
    /// Given by callers.
    Given,
}

/// What the vectors of a space are: those of another basis cannot be compared with them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Basis {
    /// Whose they are.
    pub source: Source,
    /// The model that makes them, where it is known.
    pub model: Option<Arc<str>>,
    /// Their dimension; 0 where the first vector decides.
    pub dimension: u32,
    /// The LSN from which on it holds: embeddings of older episodes are of another one.
    pub since: u64,
    /// Whether texts are embedded.
    pub embeds: bool,
}

impl Basis {
    /// Tells it from all others that its space may have had.
    #[must_use]
    pub fn signature(&self) -> String {
        match (self.source, &self.model) {
            (Source::None, _) => String::new(),
            (Source::Made, model) => model.as_deref().unwrap_or_default().to_owned(),
            (Source::Given, _) => format!("given since {}", self.since),
        }
    }
}

/// An episode, made ready to be indexed.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The key of its episode.
    pub key: u64,
    /// The LSN of its frame.
    pub lsn: u64,
    /// When it happened.
    pub when: Instant,
    /// How sure it is.
    pub confidence: f32,
    /// What filters look for.
    pub facets: Box<[u64]>,
    /// Its words.
    pub text: String,
    /// Its vector, unless it has none or the index has it already.
    pub vector: Option<Vec<f32>>,
    /// Whether its vector is still to be made.
    pub waits: bool,
    /// A checksum of what its vector comes from: a saved vector of anything else is not its own.
    pub print: u32,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: u64,
    lsn: NonZeroU64,
    nanos: u32,
    confidence: f32,
    print: u32,
}

/// A vector from a saved index whose episode has not come yet.
#[derive(Debug, Clone, Copy)]
struct Unclaimed {
    slot: u32,
    print: u32,
}

/// The index of one space.
#[derive(Debug)]
pub struct SpaceIndex {
    entries: Vec<Option<Entry>>,
    /// By slot, beside the entries so that a range of time is one pass over them.
    seconds: Vec<i64>,
    free: Vec<u32>,
    by_lsn: HashMap<u64, u32>,
    facets: Facets,
    texts: Texts,
    vectors: Option<Vectors>,
    basis: Basis,
    /// Episodes whose vectors are still to be made: their keys, by LSN.
    waiting: BTreeMap<u64, u64>,
    /// Episodes, by LSN, whose texts the embedder refuses.
    refused: BTreeSet<u64>,
    /// Vectors from a saved index whose episodes have not come yet, by LSN.
    saved: BTreeMap<u64, Unclaimed>,
    /// LSNs of replaced episodes, by key: here until the next version is, so that a recall between
    /// the two finds one of them.
    replaced: HashMap<u64, Vec<u64>>,
    scan_max: usize,
    changes: u64,
    removals: u64,
}

impl Default for SpaceIndex {
    fn default() -> Self {
        Self::new(SCAN_VECTORS_MAX)
    }
}

impl SpaceIndex {
    /// An empty index that compares up to so many vectors, and walks a graph of more.
    #[must_use]
    pub fn new(scan_max: usize) -> Self {
        Self {
            entries: Vec::new(),
            seconds: Vec::new(),
            free: Vec::new(),
            by_lsn: HashMap::new(),
            facets: Facets::default(),
            texts: Texts::default(),
            vectors: None,
            basis: Basis::default(),
            waiting: BTreeMap::new(),
            refused: BTreeSet::new(),
            saved: BTreeMap::new(),
            replaced: HashMap::new(),
            scan_max,
            changes: 0,
            removals: 0,
        }
    }

    /// The same with the vectors of a saved one; `owners` says whose each slot is, by LSN and
    /// [`Document::print`], and LSN 0 for nobody's.
    #[must_use]
    pub fn with_saved(self, mut vectors: Vectors, owners: &[(u64, u32)], basis: Basis) -> Self {
        let mut saved = BTreeMap::new();
        let mut free = Vec::new();
        for (slot, &(lsn, print)) in (0u32..).zip(owners) {
            // The next episode of a slot must not find another's vector there.
            if lsn != 0 && vectors.contains(slot) {
                saved.insert(lsn, Unclaimed { slot, print });
            } else {
                vectors.remove(slot);
                free.push(slot);
            }
        }
        Self {
            entries: vec![None; owners.len()],
            seconds: vec![0; owners.len()],
            free,
            vectors: Some(vectors.with_scan_max(self.scan_max)),
            basis,
            saved,
            ..self
        }
    }

    /// How many episodes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_lsn.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_lsn.is_empty()
    }

    /// What its vectors are.
    #[must_use]
    pub fn basis(&self) -> &Basis {
        &self.basis
    }

    /// Its vectors are of another basis from now on: those that it has go.
    pub fn rebase(&mut self, basis: Basis) {
        if self.basis == basis {
            return;
        }
        self.changes += 1;
        self.removals += 1;
        self.free.extend(self.saved.values().map(|unclaimed| unclaimed.slot));
        self.saved.clear();
        self.vectors = None;
        self.refused.clear();
        self.waiting.clear();
        if basis.embeds {
            let entries = self.entries.iter().flatten();
            self.waiting = entries.map(|entry| (entry.lsn.get(), entry.key)).collect();
        }
        self.basis = basis;
    }

    /// How many episodes wait for their vectors.
    #[must_use]
    pub fn waiting_len(&self) -> usize {
        self.waiting.len()
    }

    /// Some of them, oldest change first: key and LSN.
    #[must_use]
    pub fn waiting(&self, most: usize) -> Vec<(u64, u64)> {
        self.waiting.iter().take(most).map(|(&lsn, &key)| (key, lsn)).collect()
    }

    /// How many texts the embedder refused.
    #[must_use]
    pub fn refused_len(&self) -> usize {
        self.refused.len()
    }

    /// Refused texts are tried again.
    pub fn retry_refused(&mut self) {
        for lsn in std::mem::take(&mut self.refused) {
            let slot = self.by_lsn.get(&lsn);
            if let Some(Some(entry)) = slot.and_then(|&slot| self.entries.get(slot as usize)) {
                self.waiting.insert(lsn, entry.key);
            }
        }
    }

    /// An episode waits no longer: for its vector came, or it will have none.
    pub fn embedded(&mut self, lsn: u64, vector: Option<&[f32]>) {
        if self.waiting.remove(&lsn).is_none() {
            return;
        }
        if let Some((vector, &slot)) = vector.zip(self.by_lsn.get(&lsn)) {
            self.changes += 1;
            self.set_vector(slot, vector);
        }
    }

    /// The embedder will never take this episode's text.
    pub fn refuse(&mut self, lsn: u64) {
        if self.waiting.remove(&lsn).is_some() {
            self.refused.insert(lsn);
        }
    }

    fn set_vector(&mut self, slot: u32, vector: &[f32]) {
        let new = || Vectors::new(vector.len()).with_scan_max(self.scan_max);
        let vectors = self.vectors.get_or_insert_with(new);
        if vectors.dimension() == vector.len() {
            vectors.set(slot, vector);
        }
    }

    /// Its vectors, if it has any.
    #[must_use]
    pub fn vectors(&self) -> Option<&Vectors> {
        self.vectors.as_ref()
    }

    /// Its vectors, to link them.
    pub fn vectors_mut(&mut self) -> Option<&mut Vectors> {
        self.vectors.as_mut()
    }

    /// How often it was changed.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// How often something was taken out of it.
    #[must_use]
    pub fn removals(&self) -> u64 {
        self.removals
    }

    /// Memory that it takes, in bytes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let entry = size_of::<Option<Entry>>() + size_of::<i64>();
        // A map's entry with its control byte, at its usual load.
        let map = self.by_lsn.capacity() * 20;
        self.entries.capacity() * entry
            + map
            + self.waiting.len() * 24
            + self.facets.bytes()
            + self.texts.bytes()
            + self.vectors.as_ref().map_or(0, Vectors::bytes)
    }

    /// Saved vectors whose episodes have not come yet.
    #[must_use]
    pub fn unclaimed(&self) -> usize {
        self.saved.len()
    }

    /// Whether a saved vector waits for the episode of this LSN and this [`Document::print`].
    #[must_use]
    pub fn has_saved(&self, lsn: u64, print: u32) -> bool {
        self.saved.get(&lsn).is_some_and(|unclaimed| {
            unclaimed.print == print || broken(Broken::SavedOwnerUnchecked)
        })
    }

    /// By slot, the LSN and the [`Document::print`] of its episode; 0 for none. Saved vectors that
    /// still wait for their episodes are among them.
    #[must_use]
    pub fn owners(&self) -> Vec<(u64, u32)> {
        let owner = |entry: &Option<Entry>| entry.map_or((0, 0), |e| (e.lsn.get(), e.print));
        let mut owners: Vec<(u64, u32)> = self.entries.iter().map(owner).collect();
        for (&lsn, unclaimed) in &self.saved {
            if let Some(place) = owners.get_mut(unclaimed.slot as usize) {
                *place = (lsn, unclaimed.print);
            }
        }
        owners
    }

    /// Puts an episode in, unless it is there.
    pub fn insert(&mut self, document: Document) {
        let Document { key, lsn, when, confidence, facets, text, vector, waits, print } = document;
        let Some(number) = NonZeroU64::new(lsn).filter(|_| !self.by_lsn.contains_key(&lsn)) else {
            return;
        };
        self.changes += 1;
        if !self.has_saved(lsn, print) {
            self.drop_unclaimed(lsn);
        }
        let saved = self.saved.remove(&lsn).map(|unclaimed| unclaimed.slot);
        let slot = saved.unwrap_or_else(|| self.new_slot());
        if let Some(entry) = self.entries.get_mut(slot as usize)
            && let Some(seconds) = self.seconds.get_mut(slot as usize)
        {
            *entry = Some(Entry { key, lsn: number, nanos: when.nanos, confidence, print });
            *seconds = when.seconds;
        }
        self.by_lsn.insert(lsn, slot);
        self.facets.set(slot, facets);
        self.texts.set(slot, &text);
        if let Some(vector) = vector {
            self.set_vector(slot, &vector);
        } else if waits && saved.is_none() {
            self.waiting.insert(lsn, key);
        }
    }

    fn new_slot(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.seconds.push(0);
            u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
        })
    }

    /// Takes the episode of this LSN out of everything; says whether it was there.
    pub fn remove(&mut self, lsn: u64) -> bool {
        let Some(slot) = self.by_lsn.remove(&lsn) else { return self.drop_unclaimed(lsn) };
        self.waiting.remove(&lsn);
        self.refused.remove(&lsn);
        self.facets.remove(slot);
        self.texts.remove(slot);
        self.let_go(slot);
        true
    }

    /// An episode's next version is on its way: until it is here, this one stands for it.
    pub fn replace(&mut self, key: u64, lsn: u64) {
        self.replaced.entry(key).or_default().push(lsn);
    }

    /// Whether a former version of an episode stands for it.
    #[must_use]
    pub fn has_former(&self, key: u64) -> bool {
        let formers = self.replaced.get(&key).into_iter().flatten();
        formers.into_iter().any(|lsn| self.by_lsn.contains_key(lsn))
    }

    /// The next version of an episode is here, or gone itself: those before it go.
    pub fn drop_replaced(&mut self, key: u64) {
        for lsn in self.replaced.remove(&key).unwrap_or_default() {
            self.remove(lsn);
        }
    }

    /// All episodes have come: saved vectors that still wait belong to nobody.
    pub fn drop_saved(&mut self) {
        let waiting: Vec<u64> = self.saved.keys().copied().collect();
        for lsn in waiting {
            self.drop_unclaimed(lsn);
        }
    }

    fn drop_unclaimed(&mut self, lsn: u64) -> bool {
        let Some(unclaimed) = self.saved.remove(&lsn) else { return false };
        self.let_go(unclaimed.slot);
        true
    }

    /// Gives a slot's vector and its place away.
    fn let_go(&mut self, slot: u32) {
        self.changes += 1;
        self.removals += 1;
        if let Some(vectors) = &mut self.vectors {
            vectors.remove(slot);
        }
        if let Some(entry) = self.entries.get_mut(slot as usize) {
            *entry = None;
        }
        self.free.push(slot);
        if self.by_lsn.is_empty() && self.saved.is_empty() {
            let replaced = std::mem::take(&mut self.replaced);
            let basis = std::mem::take(&mut self.basis);
            let Self { changes, removals, .. } = *self;
            *self = Self { basis, replaced, changes, removals, ..Self::new(self.scan_max) };
        }
    }

    /// Finds candidates; without anything that ranks, all that the filter lets through.
    #[must_use]
    pub fn find(&self, ask: &Ask<'_>, filter: &Filter) -> Found {
        let allowed = self.allowed(filter);
        let mut found = Found { vectors: "none", ..Found::default() };
        found.allowed = allowed.as_ref().map(Bits::len);
        if !ask.ranked {
            let slots = allowed.unwrap_or_else(|| self.by_lsn.values().copied().collect());
            found.candidates = slots.iter().filter_map(|slot| self.candidate(slot)).collect();
            return found;
        }
        let vector = ask.vector.zip(self.vectors.as_ref());
        let vector = vector.filter(|(vector, vectors)| vectors.dimension() == vector.len());
        let near = vector.map_or_else(Vec::new, |(vector, vectors)| {
            let breadth = ask.depth.max(BREADTH);
            // Saved vectors whose episodes have not come take nobody's place.
            let claimed = || self.by_lsn.values().copied().collect::<Bits>();
            let claimed = (allowed.is_none() && !self.saved.is_empty()).then(claimed);
            let allowed = allowed.as_ref().or(claimed.as_ref());
            found.vectors = vectors.way(ask.depth, breadth, allowed).as_str();
            self.newest_of_equals(ask.depth, |depth| {
                vectors.nearest(vector, depth, breadth, allowed)
            })
        });
        let matching = ask.text.map_or_else(Vec::new, |query| {
            found.text_whole = self.texts.whole(query);
            self.newest_of_equals(ask.depth, |depth| {
                self.texts.search(query, depth, allowed.as_ref())
            })
        });
        (found.by_vector, found.by_text) = (near.len(), matching.len());
        // What only one of them found, the other is asked about too: a signal that was not asked
        // must not count as one that says no.
        let (unseen, unread) = (without(&matching, &near), without(&near, &matching));
        let also_near = vector.map_or_else(Vec::new, |(vector, vectors)| {
            vectors.exact(vector, unseen.len(), Some(&unseen))
        });
        let ask_also = |query| self.texts.search(query, unread.len(), Some(&unread));
        let also_matching = ask.text.map_or_else(Vec::new, ask_also);
        let mut by_slot: BTreeMap<u32, Candidate> = BTreeMap::new();
        for Scored { slot, score } in near.into_iter().chain(also_near) {
            if let Some(candidate) = self.candidate(slot) {
                by_slot.insert(slot, Candidate { vector: Some(score), ..candidate });
            }
        }
        for Scored { slot, score } in matching.into_iter().chain(also_matching) {
            let known = by_slot.get(&slot).copied().or_else(|| self.candidate(slot));
            if let Some(candidate) = known {
                by_slot.insert(slot, Candidate { text: Some(score), ..candidate });
            }
        }
        found.candidates = by_slot.into_values().collect();
        found
    }

    /// The best `depth` that `find` finds. Where what was left out is as good as what the answer will be
    /// made of, as when a thousand episodes say the same, the newest are taken: slots say nothing,
    /// and another start deals them otherwise.
    fn newest_of_equals(&self, depth: usize, find: impl Fn(usize) -> Vec<Scored>) -> Vec<Scored> {
        let (mut found, mut looked) = (find(depth), depth);
        let cuts_equals = |found: &[Scored]| {
            let last = found.last().map_or(f32::INFINITY, |last| last.score);
            found.partition_point(|one| one.score > last) < depth / CANDIDATES_PER_ANSWER
        };
        while found.len() == looked && cuts_equals(&found) {
            looked = looked.saturating_mul(CANDIDATES_PER_ANSWER);
            found = find(looked);
        }
        if looked > depth {
            let newness = |one: &Scored| {
                let candidate = self.candidate(one.slot);
                candidate.map(|candidate| (candidate.when, candidate.lsn))
            };
            found.sort_by(|a, b| {
                b.score.total_cmp(&a.score).then_with(|| newness(b).cmp(&newness(a)))
            });
            found.truncate(depth);
        }
        found
    }

    fn candidate(&self, slot: u32) -> Option<Candidate> {
        let Entry { key, lsn, nanos, confidence, .. } = (*self.entries.get(slot as usize)?)?;
        let lsn = lsn.get();
        let when = Instant { seconds: *self.seconds.get(slot as usize)?, nanos };
        Some(Candidate { key, lsn, when, confidence, vector: None, text: None })
    }

    /// The slots that a filter lets through; `None` for all.
    fn allowed(&self, filter: &Filter) -> Option<Bits> {
        let of_facets = self.facets.with_all(&filter.facets);
        if filter.from.is_none() && filter.to.is_none() && filter.min_confidence.is_none() {
            return of_facets;
        }
        let lowest = Instant { seconds: i64::MIN, nanos: 0 };
        let from = filter.from.unwrap_or(lowest);
        let passes = |slot: u32| {
            let Some(entry) = self.entries.get(slot as usize).copied().flatten() else {
                return false;
            };
            let seconds = self.seconds.get(slot as usize).copied().unwrap_or_default();
            let when = Instant { seconds, nanos: entry.nanos };
            from <= when
                && filter.to.is_none_or(|to| when < to)
                && filter.min_confidence.is_none_or(|least| entry.confidence >= least)
        };
        if let Some(slots) = of_facets {
            return Some(slots.iter().filter(|&slot| passes(slot)).collect());
        }
        // The seconds alone decide for nearly all.
        let last = filter.to.map_or(i64::MAX, |to| to.seconds);
        let near = |&(_, &seconds): &(u32, &i64)| from.seconds <= seconds && seconds <= last;
        let slots = (0..).zip(&self.seconds).filter(near).map(|(slot, _)| slot);
        Some(slots.filter(|&slot| passes(slot)).collect())
    }
}

/// The slots of one list that the other does not have.
fn without(list: &[Scored], other: &[Scored]) -> Bits {
    let known: Bits = other.iter().map(|one| one.slot).collect();
    list.iter().map(|one| one.slot).filter(|&slot| !known.contains(slot)).collect()
}
