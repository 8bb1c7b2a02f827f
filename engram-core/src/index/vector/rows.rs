//! Rows of equal width, one for each slot, in chunks that never move.
//!
//! One growing `Vec` would be copied each time it grows, need twice its memory for that moment,
//! and leave copies of forgotten vectors behind in freed memory. Deliberately absent: shrinking.

/// Rows in a chunk: of 256 bytes each, a chunk is a mebibyte.
const CHUNK_ROWS: usize = 4096;

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
        while self.chunks.len() * CHUNK_ROWS < end {
            self.chunks.push(vec![self.blank; CHUNK_ROWS * self.width].into_boxed_slice());
        }
    }

    /// A slot's row; empty when there is none.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "part of the kernels that are compiled per machine")]
    pub(super) fn row(&self, slot: u32) -> &[T] {
        let (chunk, at) = self.place(slot);
        self.chunks.get(chunk).and_then(|rows| rows.get(at..at + self.width)).unwrap_or_default()
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

    /// The memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK_ROWS * self.width * size_of::<T>()
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "part of the kernels that are compiled per machine")]
    fn place(&self, slot: u32) -> (usize, usize) {
        let slot = slot as usize;
        (slot / CHUNK_ROWS, slot % CHUNK_ROWS * self.width)
    }
}
