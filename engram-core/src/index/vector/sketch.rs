//! Sketches: a bit a component, with which a scan passes over what cannot be near.
//!
//! A vector is turned at random, the same way for all, and of each component the sign is kept. The
//! more of the bits of two vectors differ, the wider is the angle between them (Charikar:
//! Similarity estimation techniques from rounding algorithms, 2002). The turn mixes all components
//! with each other by sums and differences in the manner of Hadamard, with signs drawn once (Ailon and
//! Chazelle: Approximate nearest neighbors and the fast Johnson-Lindenstrauss transform, 2006). A
//! sketch says only whom to compare: an eighth of the memory to go through, and no arithmetic.

use super::kernel::{self, Kernel, LINE, Line};
use super::rows::Rows;
use crate::index::bits::Bits;
use crate::index::mix::split_mix;

/// Bits of a word.
const WORD: usize = u64::BITS as usize;

/// How often a vector is turned: once leaves vectors apart that have few components.
const TURNS: usize = 2;

/// One of so many words of slots is looked at first.
const SAMPLED: usize = 16;

/// The bits of one vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sketch(Box<[u64]>);

/// The sketches of all slots.
#[derive(Debug, Clone)]
pub(super) struct Sketches {
    /// What each component is multiplied by, before each turn: one, or less than nothing.
    signs: [Box<[f32]>; TURNS],
    rows: Rows<u64>,
}

impl Sketches {
    /// For vectors of so many components.
    pub(super) fn new(dimension: usize) -> Self {
        let words = dimension.next_power_of_two().div_ceil(WORD);
        let mut state = 0_u64;
        let mut signs = || {
            let flips: Vec<u64> = (0..words).map(|_| split_mix(&mut state)).collect();
            let sign = |(flips, at)| if flips >> at & 1 == 1 { -1.0 } else { 1.0 };
            flips.iter().flat_map(|&flips| (0..WORD).map(move |at| (flips, at))).map(sign).collect()
        };
        Self { signs: [signs(), signs()], rows: Rows::new(words, 0) }
    }

    /// The memory they take.
    pub(super) fn bytes(&self) -> usize {
        self.rows.bytes()
    }

    /// The sketch of a vector; its length does not matter.
    pub(super) fn of_vector(&self, vector: &[f32]) -> Sketch {
        self.turned(|values| values.iter_mut().zip(vector).for_each(|(value, one)| *value = *one))
    }

    /// The sketch of a row of codes.
    pub(super) fn of_row(&self, row: &[Line]) -> Sketch {
        self.turned(|values| {
            for (some, line) in values.chunks_exact_mut(LINE).zip(row) {
                some.iter_mut().zip(line.0).for_each(|(value, code)| *value = f32::from(code));
            }
        })
    }

    fn turned(&self, fill: impl FnOnce(&mut [f32])) -> Sketch {
        let length = self.signs.first().map_or(0, |signs| signs.len());
        let mut values = vec![0.0; 2 * length];
        let (values, other) = values.split_at_mut(length);
        kernel::run(Turned { signs: &self.signs, fill, values, other })
    }

    /// Keeps a slot's sketch.
    pub(super) fn set(&mut self, slot: u32, sketch: &Sketch) {
        self.rows.grow(slot as usize + 1);
        self.rows.row_mut(slot).copy_from_slice(&sketch.0);
    }

    /// Writes zeros over a slot's sketch.
    pub(super) fn wipe(&mut self, slot: u32) {
        self.rows.wipe(slot);
    }

    /// At least `most` of the slots, those that differ least from a sketch, by rising slot; all of
    /// them if they are fewer. Of those that differ as much as the last, all.
    pub(super) fn nearest(&self, sketch: &Sketch, slots: &Bits, most: usize) -> Vec<u32> {
        let bits = u32::try_from(sketch.0.len() * WORD).unwrap_or(u32::MAX);
        let look = |every, most, cutoff| {
            let mut near = Near::new(most, cutoff);
            kernel::count(Differences { sketches: self, sketch, slots, every, into: &mut near });
            near
        };
        // A few say how many bits will differ, so that fewer are collected in vain.
        let expected = look(SAMPLED, (most / SAMPLED * 5 / 4).max(1), bits).cutoff;
        let mut near = look(1, most, expected);
        if near.within < most {
            near = look(1, most, bits);
        }
        let Near { cutoff, found, .. } = near;
        found.into_iter().filter(|&(bits, _)| bits <= cutoff).map(|(_, slot)| slot).collect()
    }
}

struct Turned<'a, F> {
    signs: &'a [Box<[f32]>],
    fill: F,
    values: &'a mut [f32],
    other: &'a mut [f32],
}

impl<F: FnOnce(&mut [f32])> kernel::Work for Turned<'_, F> {
    type Output = Sketch;

    /// For each turn some signs change, and everything is mixed with everything.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "compiled per machine")]
    fn run<K: Kernel>(self, _: K) -> Sketch {
        let Self { signs, fill, mut values, mut other } = self;
        fill(values);
        for signs in signs {
            values.iter_mut().zip(signs).for_each(|(value, sign)| *value *= sign);
            mix(values, LANES);
            // Neighbours are mixed once they lie apart: then the machine takes many at a time.
            let apart = values.len() / LANES;
            for (lane, some) in other.chunks_exact_mut(apart).enumerate() {
                for (to, lanes) in some.iter_mut().zip(values.as_chunks::<LANES>().0) {
                    *to = lanes.get(lane).copied().unwrap_or_default();
                }
            }
            mix(other, apart);
            std::mem::swap(&mut values, &mut other);
        }
        let word = |some: &[f32]| {
            let bits = (0..).zip(some).map(|(at, value): (u32, _)| u64::from(*value > 0.0) << at);
            bits.fold(0, |word, bit| word | bit)
        };
        Sketch(values.chunks_exact(WORD).map(word).collect())
    }
}

/// Values that lie next to each other, and that the machine takes at a time.
const LANES: usize = 8;

/// Sums and differences of what lies `nearest` apart, and twice as far, and so on.
#[inline(always)]
#[expect(clippy::inline_always, reason = "compiled per machine")]
fn mix(values: &mut [f32], nearest: usize) {
    let mut half = nearest;
    while half < values.len() {
        for both in values.chunks_exact_mut(2 * half) {
            let (left, right) = both.split_at_mut(half);
            for (a, b) in left.iter_mut().zip(right) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}

/// Collects what differs little. The more there is, the less may it differ.
struct Near {
    most: usize,
    /// Bits that may differ, at most.
    cutoff: u32,
    /// How many slots differ by so many bits, up to the cutoff.
    by_bits: Vec<usize>,
    within: usize,
    found: Vec<(u32, u32)>,
}

impl Near {
    fn new(most: usize, cutoff: u32) -> Self {
        let by_bits = vec![0; cutoff as usize + 1];
        Self { most, cutoff, by_bits, within: 0, found: Vec::new() }
    }

    /// Shows it by how many bits the rows of 64 slots differ, of which some count.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "compiled per machine, for its count of bits")]
    fn block(&mut self, bits: impl Iterator<Item = u32>, (first, slots): (u32, u64)) {
        let mut cutoff = self.cutoff;
        for (at, bits) in (0..).zip(bits) {
            // Few pass.
            if bits <= cutoff && slots >> at & 1 == 1 {
                self.push(bits, first + at);
                cutoff = self.cutoff;
            }
        }
    }

    /// Keeps a slot that differs by no more bits than the cutoff.
    fn push(&mut self, bits: u32, slot: u32) {
        self.found.push((bits, slot));
        self.within += 1;
        if let Some(count) = self.by_bits.get_mut(bits as usize) {
            *count += 1;
        }
        while let Some(&last) = self.by_bits.get(self.cutoff as usize)
            && self.within - last >= self.most
            && self.cutoff > 0
        {
            self.within -= last;
            self.cutoff -= 1;
        }
    }
}

struct Differences<'a> {
    sketches: &'a Sketches,
    sketch: &'a Sketch,
    slots: &'a Bits,
    /// Looks at every so many words of slots.
    every: usize,
    into: &'a mut Near,
}

impl kernel::Work for Differences<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "compiled per machine, for its count of bits")]
    fn run<K: Kernel>(self, _: K) {
        let Self { sketches, sketch, slots, every, into } = self;
        let words = slots.words().filter(|&(_, slots)| slots != 0).step_by(every);
        for (first, slots) in words {
            let rows = sketches.rows.block(first);
            // Of the usual widths the loops are laid out.
            match sketch.0.len() {
                4 => fixed::<4>(&sketch.0, rows, (first, slots), into),
                8 => fixed::<8>(&sketch.0, rows, (first, slots), into),
                width => {
                    let differ = |row: &[u64]| {
                        sketch.0.iter().zip(row).map(|(a, b)| (a ^ b).count_ones()).sum()
                    };
                    into.block(rows.chunks_exact(width).map(differ), (first, slots));
                }
            }
        }
    }
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "compiled per machine, for its count of bits")]
fn fixed<const WIDTH: usize>(sketch: &[u64], rows: &[u64], slots: (u32, u64), into: &mut Near) {
    let Some(&sketch) = sketch.first_chunk::<WIDTH>() else { return };
    let differ = |row: &[u64; WIDTH]| {
        let mut bits = 0;
        for (a, b) in sketch.iter().zip(row) {
            bits += (a ^ b).count_ones();
        }
        bits
    };
    into.block(rows.as_chunks::<WIDTH>().0.iter().map(differ), slots);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(state: &mut u64, dimension: usize) -> Vec<f32> {
        let mut number = || f32::from(u16::try_from(split_mix(state) >> 48).unwrap_or_default());
        (0..dimension).map(|_| number() - number()).collect()
    }

    #[test]
    fn bits_differ_as_the_angle_is_wide() {
        // Few components, many, and a number that is no power of two.
        for dimension in [2, 3, 24, 64, 100, 256, 384] {
            let sketches = Sketches::new(dimension);
            let mut state = 1;
            let one = vector(&mut state, dimension);
            let sketch = |factor: f32| {
                let scaled: Vec<f32> = one.iter().map(|number| number * factor).collect();
                sketches.of_vector(&scaled)
            };
            assert_eq!(sketch(1.0), sketch(0.25), "{dimension}: only the direction counts");
            let bits = dimension.next_power_of_two().max(WORD);
            let differ = |a: &Sketch, b: &Sketch| -> u32 {
                a.0.iter().zip(&b.0).map(|(a, b)| (a ^ b).count_ones()).sum()
            };
            assert!(differ(&sketch(1.0), &sketch(-1.0)) as usize >= bits * 3 / 4, "{dimension}");
            let mut right_angles = 0;
            for _ in 0..64 {
                let mut other = vector(&mut state, dimension);
                let dot: f32 = other.iter().zip(&one).map(|(a, b)| a * b).sum();
                let square: f32 = one.iter().map(|a| a * a).sum();
                for (a, b) in other.iter_mut().zip(&one) {
                    *a -= b * dot / square;
                }
                right_angles += differ(&sketch(1.0), &sketches.of_vector(&other)) as usize;
            }
            let share = right_angles * 100 / (64 * bits);
            assert!((40..=60).contains(&share), "{dimension}: {share} of 100");
        }
    }

    #[test]
    fn the_least_different_are_found_whatever_the_order() {
        let mut sketches = Sketches::new(64);
        let mut state = 9;
        let words: Vec<u64> = (0..1_000).map(|_| split_mix(&mut state)).collect();
        for (slot, &word) in (0..).zip(&words) {
            sketches.set(slot, &Sketch([word].into()));
        }
        let asked = split_mix(&mut state);
        let slots: Bits = (0..1_000).filter(|slot| slot % 3 != 0).collect();
        for most in [1, 10, 300, 666, 5_000] {
            let found = sketches.nearest(&Sketch([asked].into()), &slots, most);
            let mut by_bits: Vec<u32> =
                slots.iter().map(|slot| (words[slot as usize] ^ asked).count_ones()).collect();
            by_bits.sort_unstable();
            let last = by_bits[most.min(by_bits.len()) - 1];
            let near = |slot: &u32| (words[*slot as usize] ^ asked).count_ones() <= last;
            assert_eq!(found, slots.iter().filter(near).collect::<Vec<_>>(), "{most}");
        }
        sketches.wipe(1);
        assert_eq!(sketches.rows.row(1), [0]);
    }

    #[test]
    fn a_sample_that_misleads_costs_time_and_no_answer() {
        let mut sketches = Sketches::new(64);
        let mut state = 5;
        let asked = split_mix(&mut state);
        // Who is looked at first is nearest; the others are needed too.
        let is_sampled = |slot: u32| (slot as usize / WORD).is_multiple_of(SAMPLED);
        for slot in 0..4_096 {
            let word = if is_sampled(slot) { asked } else { split_mix(&mut state) };
            sketches.set(slot, &Sketch([word].into()));
        }
        let found = sketches.nearest(&Sketch([asked].into()), &Bits::below(4_096), 300);
        let sampled = found.iter().filter(|&&slot| is_sampled(slot)).count();
        assert!(sampled == 4_096 / SAMPLED && found.len() >= 300, "{sampled}, {}", found.len());
    }
}
