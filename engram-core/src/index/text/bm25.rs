//! The score: BM25 as Lucene has it, with what is known beforehand, in whole numbers.
//!
//! `idf × tf / (tf + k1 × (1 − b + b × length / average))`, `idf = ln(1 + (N − n + ½) / (n + ½))`;
//! Robertson and Zaragoza, *The Probabilistic Relevance Framework: BM25 and Beyond*, 2009, without
//! the constant factor `k1 + 1`, as Lucene from version 8 on. Nothing is rounded before it is
//! scored, except that occurrences above 255 count as 255.
//!
//! How rare a word is, a small memory does not know: of 400 texts one has `hotel`, one `whose`, and
//! one `the`. So N and n are not only the texts that are there now and those of them that have the
//! word, but [`KNOWN_TEXTS`] more, as a listener has heard before: n grows by the share of them that
//! holds the word in English as people chat ([`common`](super::common)), or by the share beyond
//! [`SELDOM`] that it has here, where that is more: then it is common in this space, or the space
//! speaks another language. In a large space what is there decides alone.
//!
//! `k1` and `b` are low, for texts are short: a word said twice says little more, and a message of
//! twenty words is not padded as a long document may be, it says more.
//!
//! What a word gives is rounded to 2⁻³² and added up as whole numbers: the sum does not depend on
//! the order in which a search meets the words, so texts that are equal score equally.

use super::postings::{Best, TIMES_MAX};

pub(super) const K1: f32 = 0.9;
pub(super) const B: f32 = 0.25;
/// Texts heard before.
pub(super) const KNOWN_TEXTS: f64 = 10_000.0;
/// A word that a smaller part of the texts has is rare as far as they tell.
pub(super) const SELDOM: f64 = 0.05;
pub(super) const ONE: f32 = 4_294_967_296.0;

/// Scores words against texts of a given average length.
#[derive(Debug)]
pub(super) struct Bm25 {
    texts: usize,
    flat: f32,
    slope: f32,
    /// One over so many.
    inverse: [f32; TIMES_MAX as usize + 1],
}

#[expect(clippy::cast_precision_loss, reason = "counts; a millionth is nothing to a score")]
#[expect(clippy::cast_possible_truncation, reason = "scores are far from the ends of their types")]
#[expect(clippy::cast_sign_loss, reason = "scores are not negative")]
impl Bm25 {
    pub(super) fn new(texts: usize, total: u64) -> Self {
        let average = total.max(1) as f32 / texts.max(1) as f32;
        let inverse = std::array::from_fn(|times| 1.0 / times.max(1) as f32);
        Self { texts, flat: K1 * (1.0 - B), slope: K1 * B / average, inverse }
    }

    /// What a word weighs that `having` texts have, and `share` of what people say, asked so many
    /// times.
    pub(super) fn weight(&self, having: usize, share: f32, asked: u16) -> f32 {
        let (here, having) = (self.texts as f64, having as f64);
        let known = f64::from(share).max(having / here.max(1.0) - SELDOM);
        let (all, having) = (here + KNOWN_TEXTS, having + KNOWN_TEXTS * known);
        let idf = (1.0 + (all - having + 0.5) / (having + 0.5)).ln();
        (idf * f64::from(asked)) as f32 * ONE
    }

    /// What it gives to a text of that length that holds it so many times. Each step of it is
    /// monotonic, rounding included: [`Bm25::most`] is a bound.
    pub(super) fn part(&self, weight: f32, times: u8, length: u32) -> u64 {
        let norm = self.flat + self.slope * length as f32;
        (weight / (1.0 + norm * self.inverse[usize::from(times)])) as u64
    }

    /// The most that it gives to any text of a list.
    pub(super) fn most(&self, weight: f32, best: &Best) -> u64 {
        best.candidates().map(|(times, length)| self.part(weight, times, length)).max().unwrap_or(0)
    }

    /// The most that it gives to a text of a list that is at least that long.
    pub(super) fn most_from(&self, weight: f32, best: &Best, length: u32) -> u64 {
        let longer = best.candidates().map(|(times, shortest)| (times, shortest.max(length)));
        longer.map(|(times, length)| self.part(weight, times, length)).max().unwrap_or(0)
    }

    pub(super) fn score(sum: u64) -> f32 {
        sum as f32 / ONE
    }

    /// The largest sum whose score does not pass the bar.
    pub(super) fn sum(bar: f32) -> u64 {
        (bar * ONE) as u64
    }
}
