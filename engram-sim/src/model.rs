//! The oracle: what a correct memory may hold, kept as plainly as can be.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use engram_core::Episode;

/// Space and id.
pub type Key = (String, String);

/// One version of an episode.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// Its LSN; 0 while nobody was told.
    pub lsn: u64,
    /// The schema that it was written under.
    pub schema: u16,
    /// The episode.
    pub episode: Episode,
}

/// A change, as its caller made it.
#[derive(Debug, Clone)]
pub enum Change {
    /// Remember, under a schema.
    Put(Key, Box<Episode>, u16),
    /// Forget.
    Del(Key),
    /// Forget a space.
    DelSpace(String),
}

/// What a memory holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Memory {
    /// The episodes.
    pub episodes: BTreeMap<Key, Known>,
    /// Dimensions of spaces that have one.
    pub dimensions: BTreeMap<String, u32>,
    /// What spaces were fixed by: LSN and schema. Only damage leaves a space more than one.
    pub fixed_by: BTreeMap<String, Vec<(u64, u16)>>,
}

impl Memory {
    /// Makes a change.
    pub fn apply(&mut self, change: &Change, lsn: u64) {
        match change {
            Change::Put(key, episode, schema) => {
                if !episode.embedding.is_empty() {
                    let dimension = u32::try_from(episode.embedding.len()).unwrap_or(u32::MAX);
                    self.dimensions.entry(key.0.clone()).or_insert(dimension);
                }
                let known = Known { lsn, schema: *schema, episode: (**episode).clone() };
                self.episodes.insert(key.clone(), known);
            }
            Change::Del(key) => drop(self.episodes.remove(key)),
            Change::DelSpace(space) => {
                self.episodes.retain(|key, _| key.0 != *space);
                self.dimensions.remove(space);
                self.fixed_by.remove(space);
            }
        }
    }

    /// The LSN that a space was fixed by, as far as the log tells; older vectors are of another
    /// life of the space.
    #[must_use]
    pub fn fixed_at(&self, space: &str) -> u64 {
        let last = self.fixed_by.get(space).and_then(|all| all.last());
        last.map_or(0, |&(lsn, _)| lsn)
    }

    /// Whether a space exists.
    #[must_use]
    pub fn has_space(&self, space: &str) -> bool {
        self.dimensions.contains_key(space) || self.episodes.keys().any(|key| key.0 == space)
    }

    /// How two memories differ, in words; `None` when they agree. An LSN of 0 is any.
    #[must_use]
    pub fn differs(&self, found: &Self) -> Option<String> {
        for (key, wanted) in &self.episodes {
            match found.episodes.get(key) {
                None => return Some(format!("{}/{} is gone", key.0, key.1)),
                Some(got) if wanted.lsn != 0 && got.lsn != wanted.lsn => {
                    let (got, wanted) = (got.lsn, wanted.lsn);
                    return Some(format!("{}/{} has LSN {got}, not {wanted}", key.0, key.1));
                }
                Some(got) if got.episode != wanted.episode => {
                    let mut text = format!("{}/{} is another episode: ", key.0, key.1);
                    let short = |e: &Episode| format!("{:.30?} of {} bytes", e.what, e.what.len());
                    let (got, wanted) = (short(&got.episode), short(&wanted.episode));
                    write!(text, "{got}, not {wanted}").ok()?;
                    return Some(text);
                }
                Some(_) => {}
            }
        }
        let extra = found.episodes.keys().find(|key| !self.episodes.contains_key(*key));
        extra.map(|key| format!("{}/{} is there and should not be", key.0, key.1))
    }
}

/// The changes of one life of the engine, in order, over what was there when it began.
#[derive(Debug, Clone, Default)]
pub struct Model {
    /// What was there.
    base: Memory,
    /// Changes since, with the LSN where one was given.
    history: Vec<(Change, u64)>,
    /// So many of them are promised.
    sure: usize,
    /// What is there, as callers know it.
    now: Memory,
    /// The highest LSN that anyone was given or the log held.
    pub highest_lsn: u64,
    /// The highest LSN that was promised to stay.
    promised_lsn: u64,
    /// Open changes may be there without those before them.
    gaps: bool,
}

/// Open changes of which every subset is tried.
const OPEN_MAX: usize = 12;

impl Model {
    /// What is there, as callers know it.
    #[must_use]
    pub fn now(&self) -> &Memory {
        &self.now
    }

    /// A change was acknowledged; `durable` says whether that promises anything.
    pub fn acknowledge(&mut self, change: Change, lsn: u64, durable: bool) {
        self.now.apply(&change, lsn);
        self.history.push((change, lsn));
        self.highest_lsn = self.highest_lsn.max(lsn);
        if durable {
            self.sure = self.history.len();
            self.promised_lsn = self.highest_lsn;
        }
    }

    /// All acknowledged so far is promised.
    pub fn synced(&mut self, lsn: u64) {
        let synced = self.history.iter().rposition(|(_, given)| *given != 0 && *given <= lsn);
        self.sure = self.sure.max(synced.map_or(0, |at| at + 1));
        self.promised_lsn = self.promised_lsn.max(lsn);
    }

    /// A change whose end nobody knows.
    pub fn doubt(&mut self, change: Change) {
        self.history.push((change, 0));
    }

    /// The same changes, with no more promised than before them.
    pub fn promise_only(&mut self, before: &Self) {
        if self.base == before.base {
            self.sure = before.sure;
            self.promised_lsn = before.promised_lsn;
        } else {
            self.clone_from(before);
        }
    }

    /// Whether some change's end is not known.
    #[must_use]
    pub fn in_doubt(&self) -> bool {
        self.history.iter().any(|(_, lsn)| *lsn == 0)
    }

    /// Holds a memory against what may be there after a restart: all that was promised, and any
    /// first part of the rest.
    ///
    /// # Errors
    /// How it differs from the least, and from the most, that may be there.
    pub fn admits(&self, found: &Memory) -> Result<(), String> {
        let mut memory = self.base.clone();
        for (change, lsn) in &self.history[..self.sure] {
            memory.apply(change, *lsn);
        }
        let mut first = None;
        let mut last = String::new();
        for at in self.sure..=self.history.len() {
            match memory.differs(found) {
                None => return Ok(()),
                Some(why) => {
                    first.get_or_insert(why.clone());
                    last = why;
                }
            }
            if let Some((change, lsn)) = self.history.get(at) {
                memory.apply(change, *lsn);
            }
        }
        let open = self.history.len() - self.sure;
        if self.gaps && self.admits_gaps(found) {
            return Ok(());
        }
        let first = first.unwrap_or_default();
        if open == 0 {
            return Err(first);
        }
        Err(format!("without the last {open} changes, {first}; with all of them, {last}"))
    }

    /// The disk was full and the log then failed: of a batch that nobody knows the end of, some
    /// changes may have been refused, and later ones written.
    pub fn expect_gaps(&mut self) {
        self.gaps = true;
    }

    fn admits_gaps(&self, found: &Memory) -> bool {
        let open = &self.history[self.sure..];
        let open = &open[..open.len().min(OPEN_MAX)];
        (0..1u32 << open.len()).any(|bits| {
            let mut memory = self.base.clone();
            for (change, lsn) in &self.history[..self.sure] {
                memory.apply(change, *lsn);
            }
            for (at, (change, lsn)) in open.iter().enumerate() {
                if bits >> at & 1 == 1 {
                    memory.apply(change, *lsn);
                }
            }
            memory.differs(found).is_none()
        })
    }

    /// A new life begins with this; the log holds LSNs up to `seen`. After damage nothing beyond
    /// these can be known.
    pub fn restart(&mut self, memory: Memory, seen: u64, damaged: bool) {
        self.promised_lsn = if damaged { seen } else { self.promised_lsn.max(seen) };
        self.highest_lsn = self.promised_lsn;
        self.now = memory.clone();
        self.base = memory;
        self.history.clear();
        self.gaps = false;
        self.sure = 0;
    }
}
