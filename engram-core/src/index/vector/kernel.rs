//! The product of a query and rows of eight-bit codes, with the machine's own instructions.
//!
//! Which machine it is, `pulp` finds out at run time; its tokens make the instructions safe to
//! call. What is not inlined into [`On`] is not compiled for that machine. Rows are whole lines of
//! memory: one that began elsewhere would touch a line more.

use pulp::{Arch, NullaryFnOnce};

/// Codes in a line of memory.
pub(super) const LINE: usize = 64;

/// Some codes of a row, as memory brings them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(align(64))]
pub(super) struct Line(pub(super) [i8; LINE]);

/// The codes of a query beside a line.
pub(super) type Wide = [i16; LINE];

/// A way to multiply.
pub(super) trait Kernel: Copy {
    /// The sum of products; the caller sees to it that it stays within 32 bits.
    fn dot(self, query: &[Wide], row: &[Line]) -> i32;
}

/// Something to be done with products.
pub(super) trait Work {
    /// What comes of it.
    type Output;
    /// Does it. To be inlined always.
    fn run<K: Kernel>(self, kernel: K) -> Self::Output;
}

/// Does the work as fast as this machine can.
pub(super) fn run<W: Work>(work: W) -> W::Output {
    match Arch::new() {
        #[cfg(target_arch = "x86_64")]
        Arch::V3(simd) => simd.vectorize(On { kernel: simd, work }),
        other => other.dispatch(On { kernel: Plain, work }),
    }
}

/// Does work that counts bits. One count an instruction is quicker than what the compiler makes of
/// wider instructions, which look half a byte at a time up in a table.
pub(super) fn count<W: Work>(work: W) -> W::Output {
    match Arch::new() {
        #[cfg(target_arch = "x86_64")]
        Arch::V3(simd) => (*simd).vectorize(On { kernel: Plain, work }),
        other => other.dispatch(On { kernel: Plain, work }),
    }
}

struct On<K, W> {
    kernel: K,
    work: W,
}

impl<K: Kernel, W: Work> NullaryFnOnce for On<K, W> {
    type Output = W::Output;

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "see the head of the file")]
    fn call(self) -> W::Output {
        self.work.run(self.kernel)
    }
}

/// In loops, for the compiler to find the instructions.
#[derive(Clone, Copy)]
struct Plain;

impl Kernel for Plain {
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "see the head of the file")]
    fn dot(self, query: &[Wide], row: &[Line]) -> i32 {
        let mut sum: i32 = 0;
        for (a, b) in query.iter().zip(row) {
            for (&a, &b) in a.iter().zip(&b.0) {
                sum = sum.wrapping_add(i32::from(a).wrapping_mul(i32::from(b)));
            }
        }
        sum
    }
}

/// AVX2: half the time of what the compiler makes of [`Plain`].
#[cfg(target_arch = "x86_64")]
impl Kernel for pulp::x86::V3 {
    #[inline(always)]
    fn dot(self, query: &[Wide], row: &[Line]) -> i32 {
        use core::arch::x86_64::{__m128i, __m256i};

        let mut sums = [self.avx._mm256_setzero_si256(); 2];
        for (a, b) in query.iter().zip(row) {
            let a: [__m256i; 4] = pulp::cast(*a);
            let b: [__m128i; 4] = pulp::cast(b.0);
            for (at, (a, b)) in a.into_iter().zip(b).enumerate() {
                let products = self.avx2._mm256_madd_epi16(a, self.avx2._mm256_cvtepi8_epi16(b));
                let sum = &mut sums[at % 2];
                *sum = self.avx2._mm256_add_epi32(*sum, products);
            }
        }
        let [even, odd] = sums;
        let sums: [i32; 8] = pulp::cast(self.avx2._mm256_add_epi32(even, odd));
        sums.into_iter().fold(0, i32::wrapping_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Both<'a>(&'a [Wide], &'a [Line]);

    impl Work for Both<'_> {
        type Output = (i32, i32);
        fn run<K: Kernel>(self, kernel: K) -> (i32, i32) {
            (kernel.dot(self.0, self.1), Plain.dot(self.0, self.1))
        }
    }

    #[test]
    fn every_machine_gets_the_same_product() {
        let mut state = 1_u32;
        let mut next = |bits: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            i16::try_from(state >> (32 - bits)).unwrap_or_default() - (1 << (bits - 1))
        };
        for lines in 0..20 {
            let query: Vec<Wide> = (0..lines).map(|_| std::array::from_fn(|_| next(12))).collect();
            let mut code = || i8::try_from(next(8)).unwrap_or_default();
            let row: Vec<Line> =
                (0..lines).map(|_| Line(std::array::from_fn(|_| code()))).collect();
            let (here, plain) = run(Both(&query, &row));
            assert_eq!(here, plain, "{lines} lines");
        }
    }
}
