//! Recall: catch the index up, find candidates, read them, rank them.
//!
//! The index only proposes. What is answered is read from the log at that moment, its checksum
//! verified and its LSN compared, so nothing that was forgotten or replaced comes back. Where that
//! leaves a gap, because an episode was replaced between the two or a filter knew too little, it is
//! looked for again.

use std::collections::HashMap;
use std::sync::Arc;

use super::Store;
use super::change::check_fits;
use super::directory::{Entry, TimeCursor};
use crate::embedder::Purpose;
use crate::episode::StoredEpisode;
use crate::error::{Error, Result};
use crate::index::facets;
use crate::index::fuse::{Candidate, fuse};
use crate::index::space::{Ask, Basis, CANDIDATES_PER_ANSWER, Filter, Found, Source, SpaceIndex};
use crate::index::text::Query;
use crate::index::top::{Scored, Top};
use crate::recall::{ANSWER_BYTES_MAX, Checked, Cue, Explained, Recalled, Recollection, Why};
use crate::record::{Definition, Instant};

/// Candidates that each signal gives, at least: fusing needs to see more than is answered.
const DEPTH_MIN: usize = 100;

/// A cosine of vectors in eight bits is off by less than this: by a thousandth or less as a rule, and
/// this is five standard deviations even where one component is nearly all of a vector.
const ROUNDED_BY: f32 = 0.01;

/// How often an answer is looked for again because episodes were replaced meanwhile, before it is
/// given without them, and says so.
const REPEATS_MAX: usize = 8;

/// How many times as many candidates are looked at when those that were did not suffice.
const WIDER: usize = 4;

impl Store {
    /// Recalls episodes of a space: by meaning and words, by time, place and people, in any
    /// combination.
    ///
    /// # Errors
    /// [`Error::Limit`] names the field that breaks its limit; [`Error::NoSpace`];
    /// [`Error::Dimension`] and [`Error::NoVectors`] where the cue's embedding cannot be compared
    /// with the space's.
    pub fn recall(&self, space: &str, cue: &Cue) -> Result<Recollection> {
        let began = self.env().clock.elapsed();
        let answer = self.find(space, cue)?;
        let took = self.env().clock.elapsed().saturating_sub(began);
        self.env().metrics.recalled(took);
        Ok(answer)
    }

    fn find(&self, space: &str, cue: &Cue) -> Result<Recollection> {
        let checked = cue.check()?;
        let shared = &self.inner.driver.shared;
        let space_key = self.inner.keys.space(space);
        let (exists, basis) = shared.memory.look(|directory| {
            let exists = directory.space_episodes(space_key).is_some();
            (exists, shared.basis(directory, space_key))
        });
        if !exists {
            return Err(Error::NoSpace { space: space.to_owned() });
        }
        check_embedding(space, cue, &basis)?;
        let (vector, degraded) = match self.cue_vector(space, cue, &basis) {
            Ok(vector) => (vector, None),
            Err(cause) => (None, Some(cause)),
        };
        let search =
            Search { store: self, cue, checked: &checked, space_key, basis, vector, degraded };
        let (mut width, mut repeats) = (1, 0);
        loop {
            let Attempt { mut answer, replaced, lost, more } = search.attempt(width);
            // Who was replaced while it was read was there all the time.
            if replaced > 0 && answer.pending == 0 {
                if repeats == REPEATS_MAX {
                    answer.pending = replaced;
                    return Ok(answer);
                }
                repeats += 1;
            } else if lost && more && !answer.truncated && answer.episodes.len() < checked.limit {
                width *= WIDER;
            } else {
                return Ok(answer);
            }
        }
    }

    /// The vector that a cue is compared by, or why there is none although there should be.
    fn cue_vector(
        &self,
        space: &str,
        cue: &Cue,
        basis: &Basis,
    ) -> std::result::Result<Option<Vec<f32>>, String> {
        if cue.weights.vector <= 0.0 {
            return Ok(None);
        }
        if !cue.embedding.is_empty() {
            return Ok(Some(cue.embedding.clone()));
        }
        // Text says nothing about vectors whose model only their giver knows.
        let Some(text) = cue.text.as_deref().filter(|_| basis.source == Source::Made) else {
            return Ok(None);
        };
        let shared = &self.inner.driver.shared;
        if !basis.embeds {
            let now = shared.embedding.model().map_or("none".into(), |model| format!("{model:?}"));
            let model = basis.model.as_deref().unwrap_or_default();
            return Err(format!(
                "space {space:?} holds vectors of the model {model:?}, and the configured embedder \
                 is {now}; configure {model:?} again, or embed the space anew with engram reembed"
            ));
        }
        let mut vectors = shared.embed(&[text], Purpose::Cue).map_err(|e| e.to_string())?;
        Ok(vectors.pop().flatten())
    }
}

/// A recall under way.
struct Search<'a> {
    store: &'a Store,
    cue: &'a Cue,
    checked: &'a Checked,
    space_key: u64,
    /// What the space's vectors are.
    basis: Basis,
    vector: Option<Vec<f32>>,
    /// Why there is no vector to ask with, although there should be.
    degraded: Option<String>,
}

/// An answer, and what was missed.
struct Attempt {
    answer: Recollection,
    /// Candidates that another version had replaced when they were read.
    replaced: usize,
    /// Whether any candidate was not what it seemed.
    lost: bool,
    /// Whether there may be more candidates.
    more: bool,
}

impl Search<'_> {
    /// Looks at `width` times as many candidates as should suffice.
    fn attempt(&self, width: usize) -> Attempt {
        let (cue, limit) = (self.cue, self.checked.limit);
        let ranked = cue.text.is_some() || !cue.embedding.is_empty();
        let mut answer = Recollection::default();
        let (mut found, more) = if is_range_of_time(cue) {
            answer.explained =
                cue.explain.then(|| Explained { vectors: "none", ..Explained::default() });
            self.newest(width)
        } else {
            self.candidates(ranked, width, &mut answer)
        };
        let mut reader =
            Reader { search: self, read: HashMap::new(), kept: 0, replaced: 0, lost: false };
        if let Some(vector) = self.vector.as_ref().filter(|_| self.basis.source == Source::Given) {
            reader.rescore(&mut found.candidates, vector, &mut answer.unreadable);
        }
        let now = Instant::from(self.store.env().clock.now());
        let mut bytes = 0;
        for (candidate, score, why) in rank(found, cue, ranked, now) {
            if answer.episodes.len() == limit {
                break;
            }
            answer.truncated = bytes >= ANSWER_BYTES_MAX;
            if answer.truncated {
                break;
            }
            match reader.take(&candidate) {
                Ok(Some(stored)) => {
                    bytes += stored.episode.weight();
                    answer.episodes.push(Recalled { stored, score, why });
                }
                Ok(None) => {}
                Err(e) => answer.unreadable.push(e),
            }
        }
        let Reader { replaced, lost, .. } = reader;
        Attempt { answer, replaced, lost, more }
    }

    /// Asks the index, with all that was acknowledged before.
    fn candidates(&self, ranked: bool, width: usize, answer: &mut Recollection) -> (Found, bool) {
        let (cue, limit) = (self.cue, self.checked.limit);
        let shared = &self.store.inner.driver.shared;
        let query = cue.text.as_deref().filter(|_| cue.weights.text > 0.0).map(Query::parse);
        let depth =
            DEPTH_MIN.max(limit.saturating_mul(CANDIDATES_PER_ANSWER)).saturating_mul(width);
        let filter = filter(cue, self.checked);
        let asks_vectors = ranked && cue.weights.vector > 0.0 && self.basis.source != Source::None;
        let (cell, pending) = shared.caught_up(self.space_key);
        answer.pending = pending;
        answer.degraded.clone_from(&self.degraded);
        let mut found = cell.look(|index| {
            // Vectors of another basis than the cue's cannot be compared with it.
            let same = index.is_empty() || *index.basis() == self.basis;
            if !same && asks_vectors {
                answer.degraded.get_or_insert_with(|| "the space is being embedded anew".into());
            }
            let vector = self.vector.as_deref().filter(|_| same);
            let mut found =
                index.find(&Ask { text: query.as_ref(), vector, ranked, depth }, &filter);
            if answer.degraded.is_some() {
                found.vectors = "unavailable";
            }
            if asks_vectors {
                answer.unembedded = index.waiting_len() + index.refused_len();
            }
            answer.explained = cue.explain.then(|| explain(index, &found));
            found
        });
        if ranked {
            let more = found.by_vector == depth || found.by_text == depth;
            return (found, more);
        }
        let most = limit.saturating_mul(2).saturating_add(DEPTH_MIN).saturating_mul(width);
        let more = found.candidates.len() > most;
        keep_newest(&mut found, most);
        (found, more)
    }

    /// A range of time and no more: the directory keeps that order already.
    fn newest(&self, width: usize) -> (Found, bool) {
        let (from, to) = (self.cue.from.map(Instant::from), self.cue.to.map(Instant::from));
        let most = self.checked.limit.saturating_mul(width);
        let candidates: Vec<Candidate> = self.store.inner.driver.shared.memory.look(|directory| {
            let newest = directory.newest_first(self.space_key, from, to, None).take(most);
            let candidate = |(cursor, entry): (TimeCursor, &Entry)| Candidate {
                key: entry.key(),
                lsn: cursor.lsn,
                when: cursor.when,
                confidence: 0.0,
                vector: None,
                text: None,
            };
            newest.map(candidate).collect()
        });
        let more = candidates.len() == most;
        (Found { candidates, ..Found::default() }, more)
    }
}

/// Reads candidates, each once.
struct Reader<'a> {
    search: &'a Search<'a>,
    read: HashMap<u64, StoredEpisode>,
    /// Bytes of those, about: as many as an answer holds. Others are read again.
    kept: usize,
    replaced: usize,
    lost: bool,
}

impl Reader<'_> {
    /// The episode of a candidate, if it is still that one and all filters let it through.
    fn take(&mut self, candidate: &Candidate) -> Result<Option<StoredEpisode>> {
        let stored = match self.read.remove(&candidate.lsn) {
            Some(stored) => Some(stored),
            None => self.read(candidate)?,
        };
        let stored = stored.filter(|stored| passes(stored, self.search.cue, self.search.checked));
        self.lost |= stored.is_none();
        Ok(stored)
    }

    fn read(&mut self, candidate: &Candidate) -> Result<Option<StoredEpisode>> {
        let shared = &self.search.store.inner.driver.shared;
        let same = |entry: &Entry| (entry.lsn == candidate.lsn).then_some(());
        let stored = shared.read_entry(candidate.key, same)?;
        if stored.is_none() {
            self.lost = true;
            let there = shared.memory.look(|directory| directory.get(candidate.key).is_some());
            self.replaced += usize::from(there);
        }
        Ok(stored)
    }

    /// Those of the index are rounded: compares the given vectors again, in full precision, as far as
    /// they may be in the answer.
    fn rescore(
        &mut self,
        candidates: &mut Vec<Candidate>,
        vector: &[f32],
        unreadable: &mut Vec<Error>,
    ) {
        let mut order: Vec<(usize, f32)> = candidates
            .iter()
            .enumerate()
            .filter_map(|(at, candidate)| Some((at, candidate.vector?)))
            .collect();
        order.sort_by(|a, b| b.1.total_cmp(&a.1));
        let limit = self.search.checked.limit;
        let (mut gone, mut best) = (Vec::new(), Top::new(limit));
        for &(at, rounded) in order.iter().take(limit.saturating_mul(CANDIDATES_PER_ANSWER)) {
            if best.bar().is_some_and(|bar| rounded + ROUNDED_BY < bar) {
                break;
            }
            let Some(candidate) = candidates.get_mut(at) else { continue };
            match self.read(candidate) {
                Ok(Some(stored)) => {
                    let score = cosine(&stored.episode.embedding, vector);
                    candidate.vector = Some(score);
                    best.push(Scored { score, slot: 0 });
                    self.kept += stored.episode.weight();
                    if self.kept <= ANSWER_BYTES_MAX {
                        self.read.insert(candidate.lsn, stored);
                    }
                }
                Ok(None) => gone.push(candidate.lsn),
                Err(e) => {
                    unreadable.push(e);
                    gone.push(candidate.lsn);
                }
            }
        }
        candidates.retain(|candidate| !gone.contains(&candidate.lsn));
    }
}

/// Candidates with their scores, best first; without anything that ranks, newest first.
fn rank(found: Found, cue: &Cue, ranked: bool, now: Instant) -> Vec<(Candidate, f32, Why)> {
    if ranked {
        return fuse(found.candidates, found.text_whole, &cue.weights, now);
    }
    found.candidates.into_iter().map(|candidate| (candidate, 0.0, Why::default())).collect()
}

/// Of what a filter lets through, the newest, in their order.
fn keep_newest(found: &mut Found, most: usize) {
    let newest_first = |a: &Candidate, b: &Candidate| (b.when, b.lsn).cmp(&(a.when, a.lsn));
    if found.candidates.len() > most {
        found.candidates.select_nth_unstable_by(most, newest_first);
        found.candidates.truncate(most);
    }
    found.candidates.sort_by(newest_first);
}

fn is_range_of_time(cue: &Cue) -> bool {
    let Cue { text, embedding, place, who, metadata, min_confidence, .. } = cue;
    text.is_none()
        && embedding.is_empty()
        && place.is_none()
        && who.is_empty()
        && metadata.is_none()
        && min_confidence.is_none()
}

fn check_embedding(space: &str, cue: &Cue, basis: &Basis) -> Result<()> {
    let found = u32::try_from(cue.embedding.len()).unwrap_or(u32::MAX);
    if found == 0 {
        return Ok(());
    }
    if basis.dimension == 0 {
        return Err(Error::NoVectors { space: space.to_owned(), found });
    }
    let definition = |dimension, model| Definition { dimension, model, made: false };
    let fixed = definition(basis.dimension, basis.model.clone());
    let model = cue.embedding_model.as_deref().map(Arc::from);
    check_fits(space, &fixed, &definition(found, model))
}

/// How an answer was found.
fn explain(index: &SpaceIndex, found: &Found) -> Explained {
    let Basis { source, model, .. } = index.basis();
    let model = match source {
        Source::None => None,
        Source::Given => Some("given".into()),
        Source::Made => model.as_deref().map(str::to_owned),
    };
    Explained {
        indexed: index.len(),
        allowed: found.allowed,
        vectors: found.vectors,
        model: model.filter(|_| index.vectors().is_some()),
        by_vector: found.by_vector,
        by_text: found.by_text,
    }
}

fn filter(cue: &Cue, checked: &Checked) -> Filter {
    let mut wanted: Vec<u64> = cue.who.iter().map(|name| facets::who(name)).collect();
    wanted.extend(cue.place.as_deref().map(facets::place));
    wanted.extend(checked.metadata.iter().map(|(name, value)| facets::member(name, value)));
    #[expect(clippy::cast_possible_truncation, reason = "compared again with what is read")]
    let min_confidence = cue.min_confidence.map(|least| (least as f32).next_down());
    Filter {
        facets: wanted,
        from: cue.from.map(Instant::from),
        to: cue.to.map(Instant::from),
        min_confidence,
    }
}

/// The filters once more, on the episode itself: the index knows hashes and rounded numbers.
fn passes(stored: &StoredEpisode, cue: &Cue, checked: &Checked) -> bool {
    let episode = &stored.episode;
    cue.who.iter().all(|name| episode.who.contains(name))
        && cue.place.as_ref().is_none_or(|place| episode.place.as_ref() == Some(place))
        && cue.min_confidence.is_none_or(|least| episode.confidence >= least)
        && cue.from.is_none_or(|from| from <= episode.when)
        && cue.to.is_none_or(|to| episode.when < to)
        && facets::has_members(episode.metadata.as_deref(), &checked.metadata)
}

/// The cosine of the angle between two vectors; 0 when one has no direction.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let (mut dot, mut aa, mut bb) = (0.0f64, 0.0f64, 0.0f64);
    for (&a, &b) in a.iter().zip(b) {
        let (a, b) = (f64::from(a), f64::from(b));
        dot += a * b;
        aa += a * a;
        bb += b * b;
    }
    let length = aa.sqrt() * bb.sqrt();
    #[expect(clippy::cast_possible_truncation, reason = "a cosine lies between -1 and 1")]
    let cosine = if length > 0.0 { (dot / length) as f32 } else { 0.0 };
    cosine
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cosine_is_of_directions_only() {
        assert!((cosine(&[1.0, 0.0], &[5.0, 0.0]) - 1.0).abs() < 1e-6);
        assert!((cosine(&[1.0, 1.0], &[-2.0, -2.0]) + 1.0).abs() < 1e-6);
        assert!(cosine(&[0.0, 0.0], &[1.0, 2.0]).abs() < 1e-6);
        assert!((cosine(&[f32::MAX, 0.0], &[f32::MAX, 0.0]) - 1.0).abs() < 1e-6);
    }
}
