//! Rows of equal width, one for each slot, in chunks that never move.
//!
//! One growing `Vec` would be copied each time it grows, need twice its memory for that moment,
//! and leave copies of forgotten vectors behind in freed memory. The first chunks
//! are small and double, so that a space of a few episodes takes a few kilobytes. Deliberately
//! absent: shrinking.

/// Rows in the first chunk, and in a block.
const FIRST_ROWS: usize = 64;
/// Rows in a chunk once there are so many: of 256 bytes each, a chunk is a mebibyte.
const CHUNK_ROWS: usize = 4096;
/// The chunks before: 64 rows, and then as many as all before together.
const SMALL_CHUNKS: usize = 1 + (CHUNK_ROWS / FIRST_ROWS).ilog2() as usize;

/// For each slot a row of `width` values.
#[derive(Debug, Clone)]
pub(super) struct Rows<T> {
    width: usize,
    blank: T,
    chunks: Vec<Box<[T]>>,
}

impl<T: Copy> Rows<T> {
    /// No rows yet; a row begins as `blank`s.
    pub(super) fn new(width: usize, blank: T) -> Self {
        Self { width, blank, chunks: Vec::new() }
    }

    /// Makes rows for all slots below `end`.
    pub(super) fn grow(&mut self, end: usize) {
        while self.rows() < end {
            let rows = self.rows().clamp(FIRST_ROWS, CHUNK_ROWS);
            self.chunks.push(vec![self.blank; rows * self.width].into_boxed_slice());
        }
    }

    /// A slot's row; empty when there is none.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "part of the kernels that are compiled per machine")]
    pub(super) fn row(&self, slot: u32) -> &[T] {
        let (chunk, at) = self.place(slot);
        self.chunks.get(chunk).and_then(|rows| rows.get(at..at + self.width)).unwrap_or_default()
    }

    /// The rows of the 64 slots from a multiple of 64 on, one after the other; empty when there are
    /// none.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "part of the kernels that are compiled per machine")]
    pub(super) fn block(&self, first: u32) -> &[T] {
        // Every chunk begins at a multiple of 64, and holds one.
        let (chunk, at) = self.place(first);
        let end = at + FIRST_ROWS * self.width;
        self.chunks.get(chunk).and_then(|rows| rows.get(at..end)).unwrap_or_default()
    }

    /// A slot's row to write to; empty when there is none.
    pub(super) fn row_mut(&mut self, slot: u32) -> &mut [T] {
        let (chunk, at) = self.place(slot);
        let width = self.width;
        let rows = self.chunks.get_mut(chunk).and_then(|rows| rows.get_mut(at..at + width));
        rows.unwrap_or_default()
    }

    /// Writes `blank` over a row.
    pub(super) fn wipe(&mut self, slot: u32) {
        let blank = self.blank;
        self.row_mut(slot).fill(blank);
    }

    /// How many rows there are.
    fn rows(&self) -> usize {
        match self.chunks.len().checked_sub(SMALL_CHUNKS) {
            Some(large) => (1 + large) * CHUNK_ROWS,
            None => (FIRST_ROWS << self.chunks.len()) / 2 * usize::from(!self.chunks.is_empty()),
        }
    }

    /// The memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.rows() * self.width * size_of::<T>()
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "part of the kernels that are compiled per machine")]
    fn place(&self, slot: u32) -> (usize, usize) {
        let slot = slot as usize;
        if slot >= CHUNK_ROWS {
            return (slot / CHUNK_ROWS + SMALL_CHUNKS - 1, slot % CHUNK_ROWS * self.width);
        }
        // 0 for the first 64 slots, 1 for the next 64, 2 for the next 128, …
        let chunk = (usize::BITS - (slot / FIRST_ROWS).leading_zeros()) as usize;
        let begin = (FIRST_ROWS << chunk) / 2 * usize::from(chunk > 0);
        (chunk, (slot - begin) * self.width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_a_row_of_its_own_and_few_take_little() {
        let mut rows: Rows<u32> = Rows::new(3, 0);
        assert_eq!((rows.rows(), rows.row(0).len()), (0, 0));
        for end in [1, 64, 65, 128, 129, 4_095, 4_097, 8_192, 8_193, 20_000] {
            rows.grow(end);
            let most = (2 * end).max(FIRST_ROWS).min(end + CHUNK_ROWS);
            assert!((end..=most).contains(&rows.rows()), "{end}: {}", rows.rows());
            let there: usize = rows.chunks.iter().map(|chunk| chunk.len() / 3).sum();
            assert_eq!(there, rows.rows(), "{end}");
        }
        for slot in 0..20_000 {
            rows.row_mut(slot).fill(slot + 1);
        }
        assert!((0..20_000).all(|slot| rows.row(slot) == [slot + 1; 3]));
        for first in (0..20_000).step_by(64) {
            let block: Vec<u32> =
                (first..first + 64).flat_map(|slot| rows.row(slot)).copied().collect();
            assert_eq!(rows.block(first), block, "{first}");
        }
    }
}
