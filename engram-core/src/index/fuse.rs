//! One order out of several signals.
//!
//! Values are fused, not ranks: a sum of what each signal says on a scale of its own (Bruch, Gai and
//! Ingber, *An Analysis of Fusion Functions for Hybrid Retrieval*, 2023, found that better than
//! reciprocal ranks, and so did we: `docs/decisions/0019`). A rank says nothing of how good a list
//! is: somebody always comes first, if only by a rare preposition.
//!
//! A vector's scale is its cosine beside the best one's. A text's is how much of the cue's words it
//! has, by weight, cubed: half of the words say as much as the nearest meaning, all of them settle
//! it, and a few say next to nothing. Both are known of every candidate, whoever found it. Youth and
//! confidence are added with small weights: they decide between near equals.

use crate::recall::{RECENCY_HALF_LIFE_DAYS, Signal, Weights, Why};
use crate::record::Instant;

/// The part of what is possible that a text has which holds every word of the cue once: BM25 gives
/// it about so much, and more only for saying them again or for being short.
const ALL_FOUND: f32 = 0.5;
/// What all words of the cue are worth, where the nearest meaning is worth 1.
const ALL_WORDS: f32 = 10.0;
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

/// Gives each candidate its score and why, best first; of equals the one that is nearer in meaning,
/// then the one with more of the words, then the newer one comes first.
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
    let signal = |rank: Option<usize>, value: Option<f32>, part: f32| {
        Some(Signal { rank: rank?, value: value?, part })
    };
    let best = candidates.iter().filter_map(|candidate| candidate.vector).fold(0.0, f32::max);
    let mut fused: Vec<(Candidate, f32, Why)> = candidates
        .iter()
        .zip(by_vector.iter().zip(&by_text))
        .map(|(candidate, (&by_vector, &by_text))| {
            let Candidate { vector, text, .. } = *candidate;
            let why = Why {
                vector: signal(by_vector, vector, weights.vector * beside(vector, best)),
                text: signal(by_text, text, weights.text * found(text, text_whole)),
                recency: weights.recency * recency(candidate.when, now),
                confidence: weights.confidence * candidate.confidence,
            };
            let part = |signal: Option<Signal>| signal.map_or(0.0, |signal| signal.part);
            let score = part(why.vector) + part(why.text) + why.recency + why.confidence;
            (*candidate, score, why)
        })
        .collect();
    // Scales end at 0 and 1, and beyond their ends the values still tell.
    let values = |candidate: &Candidate| [candidate.vector, candidate.text];
    let value = |value: Option<f32>| value.unwrap_or(f32::NEG_INFINITY);
    fused.sort_by(|(one, a, _), (other, b, _)| {
        let mut order = b.total_cmp(a);
        for (one, other) in values(one).into_iter().zip(values(other)) {
            order = order.then_with(|| value(other).total_cmp(&value(one)));
        }
        order
    });
    fused
}

/// How near a vector is beside the nearest one.
fn beside(vector: Option<f32>, best: f32) -> f32 {
    (vector.unwrap_or(0.0) / best.max(f32::MIN_POSITIVE)).clamp(0.0, 1.0)
}

/// What a text's part of the cue's words is worth.
fn found(text: Option<f32>, text_whole: f32) -> f32 {
    let share = text.unwrap_or(0.0) / text_whole.max(f32::MIN_POSITIVE);
    ALL_WORDS * (share / ALL_FOUND).clamp(0.0, 1.0).powi(3)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::mix::split_mix;

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
            candidate(1, Some(0.9), Some(1.0)),
            candidate(2, Some(0.8), Some(4.0)),
            candidate(3, Some(0.2), Some(4.1)),
            candidate(4, Some(0.1), None),
        ];
        let fused = fuse(candidates.clone(), 9.0, &Weights::default(), NOW);
        assert_eq!(order(&fused), [2, 3, 1, 4]);
        assert_eq!(fused[0].2.vector.map(|s| (s.rank, s.value)), Some((2, 0.8)));
        assert_eq!(fused[0].2.text.map(|s| (s.rank, s.value)), Some((2, 4.0)));
        assert_eq!(fused[3].2.text, None);
        let only_text = Weights { vector: 0.0, ..Weights::default() };
        assert_eq!(order(&fuse(candidates, 9.0, &only_text, NOW)), [3, 2, 1, 4]);
    }

    #[test]
    fn the_nearest_has_one_all_words_have_ten_and_half_of_them_a_little_more_than_one() {
        for (candidate, score) in [
            (candidate(1, Some(0.5), None), 1.0),
            (candidate(1, None, Some(2.0)), 10.0),
            (candidate(1, None, Some(1.0)), 1.25),
            (candidate(1, Some(0.1), Some(0.5)), 1.15625),
            (candidate(1, None, None), 0.0),
        ] {
            let fused = fuse(vec![candidate], 4.0, &plain(), NOW);
            assert!((fused[0].1 - score).abs() < 1e-6, "{fused:?}");
        }
    }

    #[test]
    fn who_has_only_the_commonest_words_of_a_cue_gains_little_by_them() {
        let candidates = vec![
            candidate(1, Some(0.2), Some(0.5)),
            candidate(2, Some(0.9), None),
            candidate(3, Some(0.95), None),
        ];
        let first = |text_whole| order(&fuse(candidates.clone(), text_whole, &plain(), NOW))[0];
        assert_eq!(first(10.0), 3);
        assert_eq!(first(0.8), 1);
    }

    #[test]
    fn beyond_the_ends_of_a_scale_the_values_still_tell() {
        let away = |lsn, cosine| candidate(lsn, Some(cosine), None);
        let fused = fuse(vec![away(1, -0.2), away(2, -0.9), away(3, -0.5)], 0.0, &plain(), NOW);
        assert_eq!(order(&fused), [1, 3, 2]);
        let short = |lsn, bm25| candidate(lsn, None, Some(bm25));
        let fused = fuse(vec![short(1, 0.7), short(2, 0.9), short(3, 0.6)], 1.0, &plain(), NOW);
        assert_eq!(order(&fused), [2, 1, 3]);
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

    /// Chance from a seed.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, bound: u16) -> u16 {
            u16::try_from(split_mix(&mut self.0) % u64::from(bound)).unwrap()
        }

        /// A number from 0 to 1.
        fn roll(&mut self) -> f32 {
            f32::from(self.below(10_001)) / 10_000.0
        }

        fn signal(&mut self, of: f32) -> Option<f32> {
            let value = (self.roll() - 0.2) * of;
            (self.roll() < 0.8).then_some(value)
        }

        fn candidates(&mut self) -> Vec<Candidate> {
            (0..2 + u64::from(self.below(40)))
                .map(|lsn| {
                    let text = self.signal(12.0).map(|bm25| bm25.max(0.01));
                    let mut one = candidate(lsn, self.signal(1.0), text);
                    one.when.seconds -= i64::from(self.below(10_000)) * 10_000;
                    one.confidence = self.roll();
                    one
                })
                .collect()
        }

        fn weights(&mut self) -> Weights {
            let mut weight = || if self.roll() < 0.2 { 0.0 } else { self.roll() * 3.0 };
            let (vector, text) = (weight(), weight());
            Weights { vector, text, recency: weight(), confidence: weight() }
        }
    }

    fn place(fused: &[(Candidate, f32, Why)], lsn: u64) -> usize {
        fused.iter().position(|(candidate, ..)| candidate.lsn == lsn).unwrap()
    }

    #[test]
    fn a_score_is_the_sum_of_its_parts_and_a_number() {
        for seed in 0..400 {
            let mut dice = Dice(seed);
            let (candidates, weights, whole) =
                (dice.candidates(), dice.weights(), dice.signal(20.0).unwrap_or(0.0).max(0.0));
            let fused = fuse(candidates.clone(), whole, &weights, NOW);
            assert_eq!(fused.len(), candidates.len());
            assert!(fused.windows(2).all(|pair| pair[0].1 >= pair[1].1), "seed {seed}");
            for (_, score, why) in &fused {
                let parts = [why.vector, why.text].map(|signal| signal.map_or(0.0, |s| s.part));
                let most = [weights.vector, weights.text * ALL_WORDS];
                let mut bounded = parts.iter().zip(most);
                let kept = bounded.all(|(part, most)| (0.0..=most + 1e-4).contains(part));
                assert!(kept, "seed {seed}: {why:?}");
                let sum = parts[0] + parts[1] + why.recency + why.confidence;
                assert!(score.is_finite() && (score - sum).abs() < 1e-4, "seed {seed}: {why:?}");
            }
        }
    }

    #[test]
    fn more_of_a_signal_never_costs_a_place() {
        for seed in 0..400 {
            let mut dice = Dice(seed);
            let (mut candidates, weights) = (dice.candidates(), dice.weights());
            let before = fuse(candidates.clone(), 12.0, &weights, NOW);
            let at = usize::from(dice.below(u16::try_from(candidates.len()).unwrap()));
            let (vector, text) = (candidates[at].vector, candidates[at].text);
            if dice.roll() < 0.5 {
                candidates[at].vector = vector.map(|cosine| cosine + dice.roll());
            } else {
                candidates[at].text = text.map(|bm25| bm25 + 9.0 * dice.roll());
            }
            let after = fuse(candidates.clone(), 12.0, &weights, NOW);
            let lsn = candidates[at].lsn;
            assert!(place(&after, lsn) <= place(&before, lsn), "seed {seed}");
        }
    }

    #[test]
    fn who_is_best_in_both_is_first() {
        for seed in 0..400 {
            let mut dice = Dice(seed);
            let mut candidates = dice.candidates();
            candidates.push(candidate(1_000, Some(1.0), Some(12.1)));
            let weights = Weights { recency: 0.0, confidence: 0.0, ..dice.weights() };
            let fused = fuse(candidates, 24.0, &weights, NOW);
            if weights.vector > 0.0 || weights.text > 0.0 {
                assert_eq!(order(&fused)[0], 1_000, "seed {seed}");
            }
        }
    }

    #[test]
    fn a_weight_of_nothing_switches_a_signal_off() {
        for seed in 0..400 {
            let mut dice = Dice(seed);
            let candidates = dice.candidates();
            let score = |candidates: &[Candidate], weights: &Weights| {
                let mut fused = fuse(candidates.to_vec(), 12.0, weights, NOW);
                fused.sort_by_key(|(candidate, ..)| candidate.lsn);
                fused.into_iter().map(|(_, score, _)| score).collect::<Vec<_>>()
            };
            let weights = Weights { text: 0.0, ..dice.weights() };
            let without: Vec<_> =
                candidates.iter().map(|one| Candidate { text: None, ..*one }).collect();
            assert_eq!(score(&candidates, &weights), score(&without, &weights), "seed {seed}");
            let weights = Weights { vector: 0.0, ..dice.weights() };
            let without: Vec<_> =
                candidates.iter().map(|one| Candidate { vector: None, ..*one }).collect();
            assert_eq!(score(&candidates, &weights), score(&without, &weights), "seed {seed}");
        }
    }
}
