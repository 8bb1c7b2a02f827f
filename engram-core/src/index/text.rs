//! The text index of one space: finds episodes by their words, ranked by BM25.
//!
//! It is derived from the log, kept in memory, and made again at each start: so no word of a
//! forgotten episode is on any disk but in the log, which has its own way of forgetting. A text is
//! found as soon as [`Texts::set`] returns, and in no answer once [`Texts::remove`] has.
//!
//! Three structures. The dictionary: terms in order, for prefixes too; an id is given again when
//! nobody has its term. For each term the slots of its texts (`postings`). For each slot its
//! terms in order: they say what to take out again, whether a phrase stands there, and how long a
//! text is. How text becomes words is said in [`words`](super::words), what may be asked in
//! [`Query`]. Deliberately absent: anything on disk, threads, fields (one text a slot), and
//! highlighting.

mod bm25;
mod common;
#[cfg(test)]
mod laws;
mod postings;
mod query;
mod recent;
mod search;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::mem::size_of;
use std::sync::Arc;

use self::postings::{Postings, TIMES_MAX};
pub use self::query::{QUERY_WORDS_MAX, Query};
use self::recent::Recent;
use super::words::{each, stem};

/// A term and who has it.
#[derive(Debug)]
struct Term {
    text: Arc<str>,
    postings: Postings,
}

/// The texts of one space, by slot.
#[derive(Debug, Default)]
pub struct Texts {
    dictionary: BTreeMap<Arc<str>, u32>,
    /// By id.
    terms: Vec<Option<Box<Term>>>,
    /// Ids of nobody, the lowest first, all below `terms.len()`.
    free: BinaryHeap<Reverse<u32>>,
    /// By slot: the ids of a text's terms in order, as LEB128.
    encoded: Vec<Option<Box<[u8]>>>,
    /// By slot: how many terms.
    lengths: Vec<u32>,
    /// How many texts, terms in them, and bytes of `encoded`.
    live: usize,
    total: u64,
    encoded_bytes: usize,
    /// Which term a word of late was.
    recent: Recent,
    /// Room to work in.
    ids: Vec<u32>,
    sorted: Vec<u32>,
}

impl Texts {
    /// An empty index.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a text the one of a slot. The last one is removed.
    pub fn set(&mut self, slot: u32, text: &str) {
        self.remove(slot);
        let mut ids = std::mem::take(&mut self.ids);
        ids.clear();
        each(text, |word, _| ids.push(self.id(word)));

        let place = slot as usize;
        if self.encoded.len() <= place {
            self.encoded.resize(place + 1, None);
            self.lengths.resize(place + 1, 0);
        }
        let encoded = encode(&ids);
        self.encoded_bytes += heap(encoded.len());
        self.encoded[place] = Some(encoded);
        self.lengths[place] = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        self.total += u64::from(self.lengths[place]);
        self.live += 1;

        let mut sorted = std::mem::take(&mut self.sorted);
        sorted.clone_from(&ids);
        sorted.sort_unstable();
        for same in sorted.chunk_by(|one, other| one == other) {
            let times = u8::try_from(same.len()).unwrap_or(TIMES_MAX);
            if let Some(Some(term)) = self.terms.get_mut(same[0] as usize) {
                term.postings.insert(slot, times, &self.lengths);
            }
        }
        self.ids = ids;
        self.sorted = sorted;
        self.rest();
    }

    /// Takes a slot's text out of every list; says whether there was one. Terms that nobody
    /// has any more are gone too.
    pub fn remove(&mut self, slot: u32) -> bool {
        let place = slot as usize;
        let Some(encoded) = self.encoded.get_mut(place).and_then(Option::take) else {
            return false;
        };
        let mut ids = std::mem::take(&mut self.ids);
        ids.clear();
        ids.extend(decode(&encoded));
        ids.sort_unstable();
        ids.dedup();
        for &id in &ids {
            let Some(Some(term)) = self.terms.get_mut(id as usize) else { continue };
            term.postings.remove(slot, &self.lengths);
            if term.postings.len() == 0 {
                self.dictionary.remove(&term.text);
                self.terms[id as usize] = None;
                self.free.push(Reverse(id));
            }
        }
        self.ids = ids;
        self.live -= 1;
        self.total -= u64::from(self.lengths[place]);
        self.encoded_bytes -= heap(encoded.len());
        self.lengths[place] = 0;
        self.recent.clear();
        self.shrink();
        self.rest();
        true
    }

    /// How many texts there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// How many different terms they have.
    #[must_use]
    pub fn terms(&self) -> usize {
        self.dictionary.len()
    }

    /// About how much memory it takes, in bytes. It looks at every term: for figures, not for
    /// every change.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let of = |term: &Term| {
            // The string with its two counts; its place in the dictionary, whose nodes are
            // two thirds full or so.
            heap(term.text.len() + 2 * size_of::<usize>())
                + size_of::<(Arc<str>, u32)>() * 3 / 2
                + heap(size_of::<Term>())
                + term.postings.bytes()
        };
        size_of::<Self>()
            + self.terms.iter().flatten().map(|term| of(term)).sum::<usize>()
            + heap(self.terms.capacity() * size_of::<Option<Box<Term>>>())
            + heap(self.free.capacity() * size_of::<u32>())
            + heap(self.encoded.capacity() * size_of::<Option<Box<[u8]>>>())
            + heap(self.lengths.capacity() * size_of::<u32>())
            + heap((self.ids.capacity() + self.sorted.capacity()) * size_of::<u32>())
            + self.encoded_bytes
            + self.recent.bytes()
    }

    /// The id of a folded word's term, a new one if need be.
    fn id(&mut self, word: &str) -> u32 {
        if let Some(id) = self.recent.get(word) {
            return id;
        }
        let stem = stem(word);
        let id = match self.dictionary.get(&*stem) {
            Some(&id) => id,
            None => self.new_term(&stem),
        };
        self.recent.put(word, id, self.dictionary.len());
        id
    }

    fn new_term(&mut self, text: &str) -> u32 {
        let text: Arc<str> = text.into();
        let id = self.free.pop().map_or_else(
            || {
                self.terms.push(None);
                u32::try_from(self.terms.len() - 1).unwrap_or(u32::MAX)
            },
            |Reverse(id)| id,
        );
        self.dictionary.insert(Arc::clone(&text), id);
        self.terms[id as usize] = Some(Box::new(Term { text, postings: Postings::new() }));
        id
    }

    /// Gives back what the last ids and slots took.
    fn shrink(&mut self) {
        if matches!(self.encoded.last(), Some(None)) {
            let used = self.encoded.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
            self.encoded.truncate(used);
            self.lengths.truncate(used);
            if used * 2 <= self.encoded.capacity() {
                self.encoded.shrink_to_fit();
                self.lengths.shrink_to_fit();
            }
        }
        if matches!(self.terms.last(), Some(None)) {
            let used = self.terms.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
            self.terms.truncate(used);
            self.free.retain(|Reverse(id)| (*id as usize) < used);
            if used * 2 <= self.terms.capacity() {
                self.terms.shrink_to_fit();
            }
            self.free.shrink_to(self.free.len() * 2);
        }
    }

    /// Keeps the room to work in small after a text that was large.
    fn rest(&mut self) {
        const ROOM_TERMS: usize = 1_024;
        for room in [&mut self.ids, &mut self.sorted] {
            room.clear();
            room.shrink_to(ROOM_TERMS);
        }
    }
}

/// What an allocation of so many bytes takes, with what glibc's allocator adds and rounds; others take some
/// bytes less or more.
fn heap(bytes: usize) -> usize {
    const HEADER: usize = 8;
    const STEP: usize = 16;
    const LEAST: usize = 32;
    if bytes == 0 { 0 } else { (bytes + HEADER).next_multiple_of(STEP).max(LEAST) }
}

fn encode(ids: &[u32]) -> Box<[u8]> {
    let size = ids.iter().map(|id| (id | 1).ilog2() as usize / 7 + 1).sum();
    let mut bytes = Vec::with_capacity(size);
    for &id in ids {
        let mut left = id;
        while left >= 0x80 {
            bytes.push(left.to_le_bytes()[0] | 0x80);
            left >>= 7;
        }
        bytes.push(left.to_le_bytes()[0]);
    }
    bytes.into_boxed_slice()
}

fn decode(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    let mut bytes = bytes.iter();
    std::iter::from_fn(move || {
        let mut id = 0;
        for shift in (0..).step_by(7) {
            let byte = *bytes.next()?;
            id |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        Some(id)
    })
}
