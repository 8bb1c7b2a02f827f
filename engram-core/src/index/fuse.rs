//! One order out of several signals.
//!
//! Ranks are fused, not values: a cosine and a BM25 have no common unit. Reciprocal rank fusion
//! (Cormack, Clarke and Büttcher, SIGIR 2009) adds 1 / (offset + rank) of each list; here each
//! list has a weight, and the sum is scaled so that the first of both has 1.
//!
//! A rank says nothing of how good the list is: somebody always comes first, if only by a rare
//! preposition. So each part is scaled by what the signal itself says: a vector's by its cosine
//! beside the best one's, a text's by the square of the share of the cue's words that it has
//! (by their weight, and a half is as good as all). `docs/decisions/0019` has the measurements.
//! Youth and confidence are added with small weights: they decide between near equals.

use crate::recall::{RECENCY_HALF_LIFE_DAYS, Signal, Weights, Why};
use crate::record::Instant;

/// What keeps the first few ranks from drowning all others. The paper has 60.
const RANK_OFFSET: f32 = 20.0;
/// The part of the cue's words, by weight, that is as good as all: a text is seldom so short and
/// so full of them that BM25 gives it more.
const ENOUGH_FOUND: f32 = 0.5;
const SECONDS_PER_DAY: f64 = 86_400.0;

/// An episode that some signal found, or that the filters let through.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The key of its episode.
    pub key: u64,
    /// The LSN of its episode.
    pub lsn: u64,
    /// When it happened.
    pub when: Instant,
    /// How sure it is.
    pub confidence: f32,
    /// The cosine of its vector with the cue's.
    pub vector: Option<f32>,
    /// BM25 of the cue's words in it.
    pub text: Option<f32>,
}

/// Gives each candidate its score and why, best first; of equals the newer one comes first.
/// `text_whole`: what BM25 gives at most to a text that holds all words of the cue.
#[must_use]
pub fn fuse(
    mut candidates: Vec<Candidate>,
    text_whole: f32,
    weights: &Weights,
    now: Instant,
) -> Vec<(Candidate, f32, Why)> {
    let newest_first = |a: &Candidate, b: &Candidate| (b.when, b.lsn).cmp(&(a.when, a.lsn));
    candidates.sort_by(newest_first);
    let by_vector = ranks(&candidates, |candidate| candidate.vector);
    let by_text = ranks(&candidates, |candidate| candidate.text);
    let played = |ranks: &[Option<usize>], weight: f32| {
        if ranks.iter().any(Option::is_some) { weight } else { 0.0 }
    };
    let whole = played(&by_vector, weights.vector) + played(&by_text, weights.text);
    let signal = |rank: Option<usize>, value: Option<f32>, weight: f32| {
        let (rank, value) = (rank?, value?);
        let part = weight / whole.max(f32::MIN_POSITIVE) * (RANK_OFFSET + 1.0)
            / (RANK_OFFSET + as_float(rank));
        Some(Signal { rank, value, part })
    };
    let best = candidates.iter().filter_map(|candidate| candidate.vector).fold(0.0, f32::max);
    let mut fused: Vec<(Candidate, f32, Why)> = candidates
        .iter()
        .zip(by_vector.iter().zip(&by_text))
        .map(|(candidate, (&vector, &text))| {
            let why = Why {
                vector: signal(
                    vector,
                    candidate.vector,
                    weights.vector * beside(candidate.vector, best),
                ),
                text: signal(
                    text,
                    candidate.text,
                    weights.text * found(candidate.text, text_whole),
                ),
                recency: weights.recency * recency(candidate.when, now),
                confidence: weights.confidence * candidate.confidence,
            };
            let part = |signal: Option<Signal>| signal.map_or(0.0, |signal| signal.part);
            let score = part(why.vector) + part(why.text) + why.recency + why.confidence;
            (*candidate, score, why)
        })
        .collect();
    fused.sort_by(|a, b| b.1.total_cmp(&a.1));
    fused
}

/// How near a vector is beside the nearest one.
fn beside(vector: Option<f32>, best: f32) -> f32 {
    (vector.unwrap_or(0.0) / best.max(f32::MIN_POSITIVE)).clamp(0.0, 1.0)
}

/// How much of the cue's words a text has, by their weight: 1 from a half on.
fn found(text: Option<f32>, text_whole: f32) -> f32 {
    let share = text.unwrap_or(0.0) / text_whole.max(f32::MIN_POSITIVE);
    (share / ENOUGH_FOUND).min(1.0).powi(2)
}

/// The place of each candidate in the order of a value, from 1; equal values share a place.
fn ranks(
    candidates: &[Candidate],
    value: impl Fn(&Candidate) -> Option<f32>,
) -> Vec<Option<usize>> {
    let mut order: Vec<(usize, f32)> = candidates
        .iter()
        .enumerate()
        .filter_map(|(at, candidate)| value(candidate).map(|value| (at, value)))
        .collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut ranks = vec![None; candidates.len()];
    let (mut rank, mut before) = (0, None);
    for (place, &(at, value)) in order.iter().enumerate() {
        if before != Some(value) {
            (rank, before) = (place + 1, Some(value));
        }
        if let Some(slot) = ranks.get_mut(at) {
            *slot = Some(rank);
        }
    }
    ranks
}

/// 1 for now and for what is yet to come; half of it for each half-life gone.
fn recency(when: Instant, now: Instant) -> f32 {
    let seconds = now.seconds.saturating_sub(when.seconds).max(0);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "ages in seconds are far below 2^53, and their recency lies between 0 and 1"
    )]
    let recency = (-(seconds as f64) / (RECENCY_HALF_LIFE_DAYS * SECONDS_PER_DAY)).exp2() as f32;
    recency
}

#[expect(clippy::cast_precision_loss, reason = "ranks are some thousands at most")]
fn as_float(rank: usize) -> f32 {
    rank as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant { seconds: 1_000_000_000, nanos: 0 };

    fn candidate(lsn: u64, vector: Option<f32>, text: Option<f32>) -> Candidate {
        Candidate { key: lsn, lsn, when: NOW, confidence: 1.0, vector, text }
    }

    fn plain() -> Weights {
        Weights { recency: 0.0, confidence: 0.0, ..Weights::default() }
    }

    fn order(fused: &[(Candidate, f32, Why)]) -> Vec<u64> {
        fused.iter().map(|(candidate, ..)| candidate.lsn).collect()
    }

    #[test]
    fn who_stands_well_in_both_orders_comes_first() {
        let candidates = vec![
            candidate(1, Some(0.9), None),
            candidate(2, Some(0.8), Some(4.0)),
            candidate(3, None, Some(9.0)),
            candidate(4, Some(0.1), None),
        ];
        let fused = fuse(candidates.clone(), 9.0, &Weights::default(), NOW);
        assert_eq!(order(&fused), [2, 3, 1, 4]);
        for (_, score, why) in &fused {
            let parts = why.vector.map_or(0.0, |s| s.part) + why.text.map_or(0.0, |s| s.part);
            assert!((score - parts - why.recency - why.confidence).abs() < 1e-6);
        }
        assert_eq!(fused[0].2.vector.map(|s| (s.rank, s.value)), Some((2, 0.8)));
        let only_text = Weights { vector: 0.0, ..Weights::default() };
        assert_eq!(order(&fuse(candidates, 9.0, &only_text, NOW)), [3, 2, 4, 1]);
    }

    #[test]
    fn the_first_of_all_signals_has_one_and_a_little() {
        for candidate in [candidate(1, Some(0.5), Some(2.0)), candidate(1, None, Some(2.0))] {
            let fused = fuse(vec![candidate], 2.0, &plain(), NOW);
            assert!((fused[0].1 - 1.0).abs() < 1e-6);
        }
        assert!(fuse(vec![candidate(1, None, None)], 2.0, &plain(), NOW)[0].1.abs() < 1e-6);
    }

    #[test]
    fn who_has_only_the_commonest_words_of_a_cue_gains_little_by_them() {
        let mut candidates = vec![candidate(1, Some(0.2), Some(0.5))];
        candidates.extend((2..6).map(|lsn| candidate(lsn, Some(0.9), None)));
        candidates.push(candidate(6, Some(0.95), None));
        let first = |text_whole| order(&fuse(candidates.clone(), text_whole, &plain(), NOW))[0];
        assert_eq!(first(10.0), 6);
        assert_eq!(first(0.6), 1);
    }

    #[test]
    fn youth_and_confidence_decide_between_equals() {
        let mut old = candidate(1, Some(0.5), None);
        old.when.seconds -= 30 * 86_400;
        let unsure = Candidate { confidence: 0.2, ..candidate(2, Some(0.5), None) };
        let third = candidate(3, Some(0.5), None);
        let fused = fuse(vec![old, unsure, third], 0.0, &Weights::default(), NOW);
        assert_eq!(order(&fused), [3, 1, 2]);
        let recency = fused[1].2.recency / fused[0].2.recency;
        assert!((recency - 0.5).abs() < 1e-3, "half is left after a half-life: {recency}");
        let fused = fuse(vec![old, unsure, third], 0.0, &plain(), NOW);
        assert_eq!(order(&fused), [3, 2, 1], "else the newer one");
    }

    #[test]
    fn what_is_yet_to_come_is_no_younger_than_now() {
        let mut later = candidate(1, Some(0.5), None);
        later.when.seconds = i64::MAX;
        let fused = fuse(vec![later], 0.0, &Weights::default(), NOW);
        assert!((fused[0].2.recency - 0.01).abs() < 1e-6);
        later.when.seconds = i64::MIN;
        assert!(fuse(vec![later], 0.0, &Weights::default(), NOW)[0].2.recency.abs() < 1e-6);
    }
}
