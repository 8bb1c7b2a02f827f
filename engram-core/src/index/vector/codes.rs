//! Vectors as eight-bit integers with a scale each, and the kernel that compares them.
//!
//! A vector is normalised, then its largest component becomes 127. A query keeps sixteen bits,
//! which costs nothing: the machine multiplies in sixteen bits anyway. Rows end in zeros up to a
//! whole line.

use super::kernel::{self, Kernel, LINE, Line, Wide};
use super::rows::Rows;
use super::sketch::Sketches;
use crate::index::bits::Bits;

/// The largest code.
const CODE_MAX: f64 = 127.0;

/// The most components a vector may have.
pub const DIMENSION_MAX: usize = 16_384;

/// A vector to compare others with.
#[derive(Debug, Clone, Default)]
pub(super) struct Query {
    codes: Vec<Wide>,
    scale: f32,
}

impl Query {
    /// From components; of length one after this, or zero when they have no direction.
    pub(super) fn new(vector: &[f32]) -> Self {
        // No sum of products may leave 32 bits.
        let dimension = u32::try_from(vector.len()).unwrap_or(u32::MAX).max(1);
        let most = f64::from(i16::MAX)
            .min((f64::from(i32::MAX) / CODE_MAX / f64::from(dimension)).floor());
        let mut codes = vec![[0; LINE]; vector.len().div_ceil(LINE)];
        let places = codes.as_flattened_mut();
        let scale = quantise(vector, most, |at, code| {
            #[expect(clippy::cast_possible_truncation, reason = "at most i16::MAX, see above")]
            if let Some(place) = places.get_mut(at) {
                *place = code as i16;
            }
        });
        Self { codes, scale }
    }
}

/// Gives `put` each component's code, at most `most`; answers what a code is worth.
fn quantise(vector: &[f32], most: f64, mut put: impl FnMut(usize, f64)) -> f32 {
    let norm = vector.iter().map(|&one| f64::from(one) * f64::from(one)).sum::<f64>().sqrt();
    let largest = vector.iter().map(|one| f64::from(one.abs())).fold(0.0, f64::max);
    let usable = norm.is_finite() && norm > 0.0;
    for (at, &one) in vector.iter().enumerate() {
        put(at, if usable { (f64::from(one) / largest * most).round() } else { 0.0 });
    }
    #[expect(clippy::cast_possible_truncation, reason = "between zero and one")]
    let scale = (largest / norm / most) as f32;
    if usable { scale } else { 0.0 }
}

/// The codes of all slots.
#[derive(Debug, Clone)]
pub(super) struct Codes {
    pub(super) dimension: usize,
    rows: Rows<Line>,
    scales: Vec<f32>,
    sketches: Sketches,
    /// Which slots have a vector.
    pub(super) present: Bits,
    /// How often a slot was changed: a plan made for an older vector is stale.
    versions: Vec<u32>,
}

impl Codes {
    pub(super) fn new(dimension: usize) -> Self {
        Self {
            dimension,
            rows: Rows::new(dimension.div_ceil(LINE), Line([0; LINE])),
            scales: Vec::new(),
            sketches: Sketches::new(dimension),
            present: Bits::default(),
            versions: Vec::new(),
        }
    }

    /// Keeps a vector.
    pub(super) fn set(&mut self, slot: u32, vector: &[f32]) {
        self.make_room(slot);
        let row = self.rows.row_mut(slot);
        let scale = quantise(vector, CODE_MAX, |at, code| {
            #[expect(clippy::cast_possible_truncation, reason = "at most 127")]
            if let Some(line) = row.get_mut(at / LINE) {
                line.0[at % LINE] = code as i8;
            }
        });
        self.keep(slot, scale);
    }

    /// Keeps a vector as it was saved.
    pub(super) fn restore(&mut self, slot: u32, scale: f32, codes: &[u8]) {
        self.make_room(slot);
        for (line, codes) in self.rows.row_mut(slot).iter_mut().zip(codes.chunks(LINE)) {
            for (place, code) in line.0.iter_mut().zip(codes) {
                *place = code.cast_signed();
            }
        }
        self.keep(slot, scale);
    }

    fn make_room(&mut self, slot: u32) {
        let end = slot as usize + 1;
        self.rows.grow(end);
        if self.scales.len() < end {
            self.scales.resize(end, 0.0);
            self.versions.resize(end, 0);
        }
    }

    fn keep(&mut self, slot: u32, scale: f32) {
        self.scales[slot as usize] = scale;
        self.versions[slot as usize] = self.versions[slot as usize].wrapping_add(1);
        self.present.insert(slot);
        // Of the codes, so that a saved vector has the sketch that it had.
        let sketch = self.sketches.of_row(self.rows.row(slot));
        self.sketches.set(slot, &sketch);
    }

    /// Writes zeros over a vector; says whether there was one.
    pub(super) fn wipe(&mut self, slot: u32) -> bool {
        let was = self.present.remove(slot);
        if was {
            self.rows.wipe(slot);
            self.sketches.wipe(slot);
            self.scales[slot as usize] = 0.0;
            self.versions[slot as usize] = self.versions[slot as usize].wrapping_add(1);
        }
        was
    }

    /// How often a slot was changed.
    pub(super) fn version(&self, slot: u32) -> u32 {
        self.versions.get(slot as usize).copied().unwrap_or_default()
    }

    /// A slot's codes, with the zeros after them, and what one is worth.
    pub(super) fn saved(&self, slot: u32) -> (&[Line], f32) {
        (self.rows.row(slot), self.scale(slot))
    }

    /// A slot's vector as a query.
    pub(super) fn query(&self, slot: u32) -> Query {
        let codes = self.rows.row(slot).iter().map(|line| line.0.map(i16::from)).collect();
        Query { codes, scale: self.scale(slot) }
    }

    /// At least `most` of the slots, those that seem nearest to a vector; all, if they are fewer.
    pub(super) fn seem_near(&self, vector: &[f32], slots: &Bits, most: usize) -> Vec<u32> {
        let sketch = self.sketches.of_vector(vector);
        self.sketches.nearest(&sketch, slots, most)
    }

    /// The cosine of the query and each slot, into `scores`.
    pub(super) fn scores(&self, query: &Query, slots: &[u32], scores: &mut Vec<f32>) {
        scores.clear();
        kernel::run(Scores { codes: self, query, slots, into: scores });
    }

    /// Whether a slot is at least as near to one of `others` as `score` says.
    pub(super) fn is_near_one(&self, slot: u32, others: &[Query], score: f32) -> bool {
        kernel::run(IsNearOne { codes: self, slot, others, score })
    }

    /// The memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.rows.bytes()
            + self.sketches.bytes()
            + self.scales.capacity() * 4
            + self.versions.capacity() * 4
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "part of what is compiled per machine")]
    fn scale(&self, slot: u32) -> f32 {
        self.scales.get(slot as usize).copied().unwrap_or_default()
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "part of what is compiled per machine")]
    fn score<K: Kernel>(&self, kernel: K, query: &Query, slot: u32) -> f32 {
        #[expect(clippy::cast_precision_loss, reason = "the codes are rounded more than this")]
        let dot = kernel.dot(&query.codes, self.rows.row(slot)) as f32;
        // In this order the cosine of two slots is the same from either side.
        dot * (query.scale * self.scale(slot))
    }
}

struct Scores<'a> {
    codes: &'a Codes,
    query: &'a Query,
    slots: &'a [u32],
    into: &'a mut Vec<f32>,
}

impl kernel::Work for Scores<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "compiled per machine")]
    fn run<K: Kernel>(self, kernel: K) {
        let Self { codes, query, slots, into } = self;
        // Reads a little of each line first: then memory brings them all at once, and not one by
        // one.
        let (mut touched, mut scale) = (0, 0.0);
        for &slot in slots {
            scale += codes.scale(slot);
            for line in codes.rows.row(slot) {
                touched ^= line.0[0];
            }
        }
        std::hint::black_box((touched, scale));
        for &slot in slots {
            into.push(codes.score(kernel, query, slot));
        }
    }
}

struct IsNearOne<'a> {
    codes: &'a Codes,
    slot: u32,
    others: &'a [Query],
    score: f32,
}

impl kernel::Work for IsNearOne<'_> {
    type Output = bool;

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "compiled per machine")]
    fn run<K: Kernel>(self, kernel: K) -> bool {
        let Self { codes, slot, others, score } = self;
        for other in others {
            if codes.score(kernel, other, slot) >= score {
                return true;
            }
        }
        false
    }
}
