//! The index of one space: who is in it, and every way to find them.
//!
//! An episode is known by the LSN of its frame, which is given once for ever: what has another
//! LSN is another episode. So an index that fell behind, or was saved long ago, can be held
//! against the directory and made right, and can never answer with what was replaced.
//!
//! Deliberately absent: reading episodes (callers bring [`Document`]s), locks, files.

use std::collections::HashMap;

use super::bits::Bits;
use super::facets::Facets;
use super::fuse::Candidate;
use super::text::{Query, Texts};
use super::top::Scored;
use super::vector::{BREADTH, Vectors};
use crate::record::Instant;

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
    /// Whose vector it is.
    pub source: Source,
}

/// What filters ask for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// Facets, all of them.
    pub facets: Vec<u64>,
    /// Not older than this.
    pub from: Option<Instant>,
    /// Older than this.
    pub to: Option<Instant>,
    /// At least this sure.
    pub min_confidence: Option<f32>,
}

/// What ranks: nothing, words, a vector, or both.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ask<'a> {
    /// Words.
    pub text: Option<&'a Query>,
    /// A vector of the index's dimension.
    pub vector: Option<&'a [f32]>,
    /// Whether only what some signal finds is wanted; else all that passes the filter.
    pub ranked: bool,
    /// How many candidates each signal gives.
    pub depth: usize,
}

/// What was found, in no order.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The candidates.
    pub candidates: Vec<Candidate>,
    /// How many episodes the filters let through; `None` when there are none.
    pub allowed: Option<usize>,
    /// How many the vectors gave.
    pub by_vector: usize,
    /// How many the words gave.
    pub by_text: usize,
    /// What an episode with all words of the cue would have at most.
    pub text_whole: f32,
    /// How the vectors were searched: `none`, `exact` or `graph`.
    pub vectors: &'static str,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: u64,
    lsn: u64,
    nanos: u32,
    confidence: f32,
}

/// The index of one space.
#[derive(Debug, Default)]
pub struct SpaceIndex {
    entries: Vec<Option<Entry>>,
    /// By slot, beside the entries so that a range of time is one pass over them.
    seconds: Vec<i64>,
    free: Vec<u32>,
    by_lsn: HashMap<u64, u32>,
    facets: Facets,
    texts: Texts,
    vectors: Option<Vectors>,
    source: Source,
    /// Vectors from a saved index whose episodes have not come yet, by LSN.
    saved: HashMap<u64, u32>,
    changes: u64,
    removals: u64,
}

impl SpaceIndex {
    /// An index that has the vectors of a saved one; `lsns` says whose each slot is, 0 for none.
    #[must_use]
    pub fn with_saved(vectors: Vectors, lsns: &[u64], source: Source) -> Self {
        let slots = || (0u32..).zip(lsns.iter().copied());
        let has = |&(slot, lsn): &(u32, u64)| lsn != 0 && vectors.contains(slot);
        let saved = slots().filter(has).map(|(slot, lsn)| (lsn, slot)).collect();
        Self {
            entries: vec![None; lsns.len()],
            seconds: vec![0; lsns.len()],
            free: slots().filter(|one| !has(one)).map(|(slot, _)| slot).collect(),
            vectors: Some(vectors),
            source,
            saved,
            ..Self::default()
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

    /// Whose vectors it has.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
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
            + self.facets.bytes()
            + self.texts.bytes()
            + self.vectors.as_ref().map_or(0, Vectors::bytes)
    }

    /// Whether a saved vector waits for the episode of this LSN.
    #[must_use]
    pub fn has_saved(&self, lsn: u64) -> bool {
        self.saved.contains_key(&lsn)
    }

    /// By slot, the LSN of its episode; 0 for none.
    #[must_use]
    pub fn lsns(&self) -> Vec<u64> {
        self.entries.iter().map(|entry| entry.map_or(0, |entry| entry.lsn)).collect()
    }

    /// Puts an episode in, unless it is there.
    pub fn insert(&mut self, document: Document) {
        let Document { key, lsn, when, confidence, facets, text, vector, source } = document;
        if self.by_lsn.contains_key(&lsn) {
            return;
        }
        self.changes += 1;
        if source == Source::Given && self.source != Source::Given {
            self.begin_given(vector.as_deref());
        }
        let slot = self.saved.remove(&lsn).unwrap_or_else(|| self.new_slot());
        if let Some(entry) = self.entries.get_mut(slot as usize)
            && let Some(seconds) = self.seconds.get_mut(slot as usize)
        {
            *entry = Some(Entry { key, lsn, nanos: when.nanos, confidence });
            *seconds = when.seconds;
        }
        self.by_lsn.insert(lsn, slot);
        self.facets.set(slot, facets);
        self.texts.set(slot, &text);
        if let Some(vector) = vector
            && (source == self.source || self.source == Source::None)
        {
            self.source = source;
            let vectors = self.vectors.get_or_insert_with(|| Vectors::new(vector.len()));
            if vectors.dimension() == vector.len() {
                vectors.set(slot, &vector);
            }
        }
    }

    /// The space's first vector by a caller: those that were made from texts go.
    fn begin_given(&mut self, first: Option<&[f32]>) {
        let waiting: Vec<u32> = self.saved.drain().map(|(_, slot)| slot).collect();
        self.free.extend(waiting);
        self.vectors = first.map(|vector| Vectors::new(vector.len()));
        self.source = Source::Given;
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
        let (slot, known) = match (self.by_lsn.remove(&lsn), self.saved.remove(&lsn)) {
            (Some(slot), _) => (slot, true),
            (None, Some(slot)) => (slot, false),
            (None, None) => return false,
        };
        self.changes += 1;
        self.removals += 1;
        if known {
            self.facets.remove(slot);
            self.texts.remove(slot);
        }
        if let Some(vectors) = &mut self.vectors {
            vectors.remove(slot);
        }
        if let Some(entry) = self.entries.get_mut(slot as usize) {
            *entry = None;
        }
        self.free.push(slot);
        if self.by_lsn.is_empty() && self.saved.is_empty() {
            // The next to come may bring vectors of another kind.
            let Self { changes, removals, .. } = *self;
            *self = Self { changes, removals, ..Self::default() };
        }
        true
    }

    /// All episodes have come: saved vectors that still wait belong to nobody.
    pub fn drop_saved(&mut self) {
        let waiting: Vec<u64> = self.saved.keys().copied().collect();
        for lsn in waiting {
            self.remove(lsn);
        }
    }

    /// Finds candidates; without anything that ranks, all that the filter lets through.
    #[must_use]
    pub fn find(&self, ask: &Ask<'_>, filter: &Filter) -> Found {
        let allowed = self.allowed(filter);
        let allowed_len = allowed.as_ref().map(Bits::len);
        let mut found = Found { allowed: allowed_len, vectors: "none", ..Found::default() };
        if !ask.ranked {
            let slots = allowed.unwrap_or_else(|| self.by_lsn.values().copied().collect());
            found.candidates = slots.iter().filter_map(|slot| self.candidate(slot)).collect();
            return found;
        }
        let mut by_slot: HashMap<u32, Candidate> = HashMap::new();
        if let Some((vector, vectors)) = ask.vector.zip(self.vectors.as_ref())
            && vectors.dimension() == vector.len()
        {
            let breadth = ask.depth.max(BREADTH);
            let near = vectors.nearest(vector, ask.depth, breadth, allowed.as_ref());
            found.by_vector = near.len();
            found.vectors = if vectors.walks() { "graph" } else { "exact" };
            for Scored { slot, score } in near {
                if let Some(candidate) = self.candidate(slot) {
                    by_slot.insert(slot, Candidate { vector: Some(score), ..candidate });
                }
            }
        }
        if let Some(query) = ask.text {
            let matching = self.texts.search(query, ask.depth, allowed.as_ref());
            found.by_text = matching.len();
            found.text_whole = self.texts.whole(query);
            for Scored { slot, score } in matching {
                let known = by_slot.get(&slot).copied().or_else(|| self.candidate(slot));
                if let Some(candidate) = known {
                    by_slot.insert(slot, Candidate { text: Some(score), ..candidate });
                }
            }
        }
        found.candidates = by_slot.into_values().collect();
        found
    }

    fn candidate(&self, slot: u32) -> Option<Candidate> {
        let Entry { key, lsn, nanos, confidence } = (*self.entries.get(slot as usize)?)?;
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
