//! Vectors as eight-bit integers with a scale each, and the kernel that compares them.
//!
//! A vector is normalised, then its largest component becomes 127. A query keeps sixteen bits,
//! which costs nothing: the machine multiplies in sixteen bits anyway. Loops are written plainly
//! and compiled once for each kind of processor by `pulp`, which looks at run time which one it is.

use super::rows::Rows;
use crate::index::bits::Bits;

/// What memory gives at a time.
const LINE_BYTES: usize = 64;

/// The largest code.
const CODE_MAX: f64 = 127.0;

/// The most components a vector may have.
pub const DIMENSION_MAX: usize = 16_384;

/// A vector to compare others with.
#[derive(Debug, Clone, Default)]
pub(super) struct Query {
    codes: Vec<i16>,
    scale: f32,
}

impl Query {
    /// From components; of length one after this, or zero when they have no direction.
    pub(super) fn new(vector: &[f32]) -> Self {
        // No sum of products may leave 32 bits.
        let dimension = u32::try_from(vector.len()).unwrap_or(u32::MAX).max(1);
        let most = f64::from(i16::MAX)
            .min((f64::from(i32::MAX) / CODE_MAX / f64::from(dimension)).floor());
        let mut codes = vec![0; vector.len()];
        let scale = quantise(vector, most, |at, code| {
            #[expect(clippy::cast_possible_truncation, reason = "at most i16::MAX, see above")]
            if let Some(place) = codes.get_mut(at) {
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
    rows: Rows<i8>,
    scales: Vec<f32>,
    /// Which slots have a vector.
    pub(super) present: Bits,
    /// How often a slot was changed: a plan made for an older vector is stale.
    versions: Vec<u32>,
}

impl Codes {
    pub(super) fn new(dimension: usize) -> Self {
        Self {
            dimension,
            rows: Rows::new(dimension, 0),
            scales: Vec::new(),
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
            if let Some(place) = row.get_mut(at) {
                *place = code as i8;
            }
        });
        self.keep(slot, scale);
    }

    /// Keeps a vector as it was saved.
    pub(super) fn restore(&mut self, slot: u32, scale: f32, codes: impl Iterator<Item = i8>) {
        self.make_room(slot);
        for (place, code) in self.rows.row_mut(slot).iter_mut().zip(codes) {
            *place = code;
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
    }

    /// Writes zeros over a vector; says whether there was one.
    pub(super) fn wipe(&mut self, slot: u32) -> bool {
        let was = self.present.remove(slot);
        if was {
            self.rows.wipe(slot);
            self.keep(slot, 0.0);
            self.present.remove(slot);
        }
        was
    }

    /// How often a slot was changed.
    pub(super) fn version(&self, slot: u32) -> u32 {
        self.versions.get(slot as usize).copied().unwrap_or_default()
    }

    /// A slot's codes and what one is worth.
    pub(super) fn saved(&self, slot: u32) -> (&[i8], f32) {
        (self.rows.row(slot), self.scale(slot))
    }

    /// A slot's vector as a query.
    pub(super) fn query(&self, slot: u32) -> Query {
        let codes = self.rows.row(slot).iter().map(|&code| i16::from(code)).collect();
        Query { codes, scale: self.scale(slot) }
    }

    /// The cosine of the query and each slot, into `scores`.
    pub(super) fn scores(&self, query: &Query, slots: &[u32], scores: &mut Vec<f32>) {
        scores.clear();
        // Reads a byte of each line first: then memory brings them all at once, and not one by one.
        let touched = slots.iter().flat_map(|&slot| self.rows.row(slot).iter().step_by(LINE_BYTES));
        std::hint::black_box(touched.fold(0, |sum: i8, &code| sum ^ code));
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                for &slot in slots {
                    scores.push(self.score(query, slot));
                }
            },
        );
    }

    /// Whether a slot is at least as near to one of `others` as `score` says.
    pub(super) fn is_near_one(&self, slot: u32, others: &[Query], score: f32) -> bool {
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                for other in others {
                    if self.score(other, slot) >= score {
                        return true;
                    }
                }
                false
            },
        )
    }

    /// The memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.rows.bytes() + self.scales.capacity() * 4 + self.versions.capacity() * 4
    }

    fn scale(&self, slot: u32) -> f32 {
        self.scales.get(slot as usize).copied().unwrap_or_default()
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "part of the kernels that are compiled per machine")]
    fn score(&self, query: &Query, slot: u32) -> f32 {
        let scale = self.scales.get(slot as usize).copied().unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "the codes are rounded more than this")]
        let dot = dot(&query.codes, self.rows.row(slot)) as f32;
        // In this order the cosine of two slots is the same from either side.
        dot * (query.scale * scale)
    }
}

/// Components that the kernel takes at a time.
const LANES: usize = 32;

/// The sum of products. It stays within 32 bits, see [`Query::new`]. Loops and no adapters: what is
/// not inlined is not compiled for the machine at hand.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the kernel that is compiled per machine")]
fn dot(query: &[i16], codes: &[i8]) -> i32 {
    let (wide, rest) = query.as_chunks::<LANES>();
    let (narrow, others) = codes.as_chunks::<LANES>();
    let mut sum: i32 = 0;
    for (a, b) in wide.iter().zip(narrow) {
        for (&a, &b) in a.iter().zip(b) {
            sum = sum.wrapping_add(i32::from(a).wrapping_mul(i32::from(b)));
        }
    }
    for (&a, &b) in rest.iter().zip(others) {
        sum = sum.wrapping_add(i32::from(a).wrapping_mul(i32::from(b)));
    }
    sum
}
