//! What the writer writes next, as whole blocks of the device.
//!
//! A write past the page cache takes whole blocks, from memory aligned like them. So the block in
//! which the last batch ended stays here and is written again with the next one, and zeros fill the
//! last block up, over zeros. Where a block's beginning is not known (an earlier process wrote it),
//! bytes are written as they are, until a block begins. Why: `docs/decisions/0027`.
//!
//! Deliberately absent: files, and what the bytes mean.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use super::bytes::wide;
use crate::disk::BLOCK_BYTES;

/// Bytes on their way to the end of a file.
#[derive(Debug, Default)]
pub struct Blocks {
    memory: Vec<u8>,
    /// What follows begins where a block of memory does.
    skew: usize,
    /// Bytes from there on that the file has already.
    kept: usize,
    /// Zeros behind all others.
    filler: usize,
}

impl Blocks {
    /// Puts bytes behind the others.
    pub fn push(&mut self, bytes: &[u8]) {
        self.unfill();
        // With room to fill the last block up: memory must not move then.
        let needed = self.memory.len().saturating_add(bytes.len()).saturating_add(BLOCK_BYTES);
        if needed > self.memory.capacity() {
            self.grow(needed);
        }
        self.memory.extend_from_slice(bytes);
    }

    fn grow(&mut self, needed: usize) {
        let capacity = needed.saturating_mul(2).saturating_add(BLOCK_BYTES);
        let mut memory: Vec<u8> = Vec::with_capacity(capacity);
        let skew = memory.as_ptr().align_offset(BLOCK_BYTES).min(BLOCK_BYTES);
        memory.resize(skew, 0);
        memory.extend_from_slice(self.memory.get(self.skew..).unwrap_or_default());
        self.memory = memory;
        self.skew = skew;
    }

    fn unfill(&mut self) {
        let filler = std::mem::take(&mut self.filler);
        self.memory.truncate(self.memory.len().saturating_sub(filler));
    }

    fn begin(&self) -> usize {
        self.skew.saturating_add(self.kept)
    }

    /// What was pushed and is not in the file.
    #[must_use]
    pub fn pushed(&self) -> &[u8] {
        let end = self.memory.len().saturating_sub(self.filler);
        self.memory.get(self.begin()..end).unwrap_or_default()
    }

    /// What was pushed, for `offset` of the file, in whole blocks; and where the first of them belongs.
    /// `capacity`: the file's length; what it holds behind what was pushed means nothing. `None` where a
    /// block's beginning is not known, or the file ends within one.
    pub fn whole(&mut self, offset: u64, capacity: u64) -> Option<(u64, &[u8])> {
        self.unfill();
        let start = offset.checked_sub(wide(self.kept))?;
        let used = self.memory.len().checked_sub(self.skew)?;
        let length = used.checked_next_multiple_of(BLOCK_BYTES)?;
        let end = start.checked_add(wide(length))?;
        if !start.is_multiple_of(wide(BLOCK_BYTES)) || end > capacity {
            return None;
        }
        self.filler = length.checked_sub(used)?;
        self.memory.resize(self.memory.len().checked_add(self.filler)?, 0);
        Some((start, self.memory.get(self.skew..)?))
    }

    /// All that was pushed is in the file, the first of it at `offset`. The last block is kept.
    pub fn written(&mut self, offset: u64) {
        self.unfill();
        let end = offset.saturating_add(wide(self.pushed().len()));
        let start = offset.saturating_sub(wide(self.kept));
        let block = end.saturating_sub(end.checked_rem(wide(BLOCK_BYTES)).unwrap_or(0));
        let behind = block.checked_sub(start).and_then(|bytes| usize::try_from(bytes).ok());
        let all = self.memory.len();
        let from = behind.map_or(all, |bytes| self.skew.saturating_add(bytes).min(all));
        self.memory.copy_within(from.., self.skew);
        self.kept = all.saturating_sub(from);
        self.memory.truncate(self.begin());
    }

    /// What was pushed becomes zeros.
    pub fn zero_pushed(&mut self) {
        let from = self.begin();
        self.memory.get_mut(from..).unwrap_or_default().fill(0);
    }

    /// What was pushed is not to be written.
    pub fn take_back(&mut self) {
        self.filler = 0;
        self.memory.truncate(self.begin());
    }

    /// Nothing is kept: another file, or another way to write.
    pub fn clear(&mut self) {
        self.kept = 0;
        self.take_back();
    }
}

#[cfg(test)]
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "tests may panic"
)]
mod tests {
    use super::*;

    const BLOCK: u64 = BLOCK_BYTES as u64;

    /// Writes as the writer does; says whether it was in whole blocks.
    fn write(blocks: &mut Blocks, file: &mut [u8], offset: u64) -> bool {
        let capacity = file.len() as u64;
        let whole = blocks.whole(offset, capacity).map(|(start, bytes)| {
            assert!(start.is_multiple_of(BLOCK) && bytes.len().is_multiple_of(BLOCK_BYTES));
            assert_eq!(bytes.as_ptr().addr() % BLOCK_BYTES, 0, "memory is not aligned");
            (start as usize, bytes.to_vec())
        });
        let is_whole = whole.is_some();
        let (at, bytes) = whole.unwrap_or_else(|| (offset as usize, blocks.pushed().to_vec()));
        file[at..at + bytes.len()].copy_from_slice(&bytes);
        is_whole
    }

    /// Every place in a block at which an earlier process may have stopped, every length around a block.
    #[test]
    fn a_file_holds_what_was_pushed_and_zeros_behind_it() {
        for first in [0, 1, 511, 4095, 4096, 4097, 8192] {
            for length in [1, 100, 3500, 4095, 4096, 4097, 9000] {
                let mut file = vec![0; 64 << 10];
                file[..first].fill(9);
                let mut expected = file.clone();
                let mut blocks = Blocks::default();
                let mut offset = first;
                for round in 1..6u8 {
                    for piece in [length / 3, length - length / 3] {
                        blocks.push(&vec![round; piece]);
                    }
                    assert_eq!(blocks.pushed().len(), length);
                    let whole = write(&mut blocks, &mut file, offset as u64);
                    let known =
                        offset / BLOCK_BYTES > first / BLOCK_BYTES || first % BLOCK_BYTES == 0;
                    assert_eq!(whole, known, "from {first}, {length} at {offset}");
                    blocks.written(offset as u64);
                    expected[offset..offset + length].fill(round);
                    offset += length;
                    assert_eq!(file, expected, "from {first}, {length} up to {offset}");
                    assert!(blocks.pushed().is_empty());
                }
            }
        }
    }

    #[test]
    fn what_is_taken_back_becomes_zeros_and_what_was_there_stays() {
        let mut file = vec![0; 16 << 10];
        let mut blocks = Blocks::default();
        blocks.push(&[1; 5000]);
        write(&mut blocks, &mut file, 0);
        blocks.written(0);
        blocks.push(&[2; 5000]);
        write(&mut blocks, &mut file, 5000);
        blocks.zero_pushed();
        write(&mut blocks, &mut file, 5000);
        blocks.take_back();
        assert!(file[..5000].iter().all(|&byte| byte == 1), "what was synced is still there");
        assert!(file[5000..].iter().all(|&byte| byte == 0));
        blocks.push(&[3; 10]);
        assert!(write(&mut blocks, &mut file, 5000));
        assert_eq!(file[4998..5012], [1, 1, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 0, 0]);
    }

    #[test]
    fn a_file_that_ends_within_a_block_is_written_as_it_is() {
        let mut blocks = Blocks::default();
        blocks.push(&[1; 100]);
        assert_eq!(blocks.whole(0, 4000), None);
        assert_eq!(blocks.pushed(), [1; 100]);
        assert!(blocks.whole(0, 4096).is_some());
    }

    #[test]
    fn nothing_of_one_file_gets_into_the_next() {
        let mut blocks = Blocks::default();
        blocks.push(&[1; 100]);
        blocks.written(8192);
        blocks.clear();
        blocks.push(&[2; 3]);
        let (start, bytes) = blocks.whole(8192, 1 << 20).unwrap();
        assert_eq!((start, bytes[..4].to_vec()), (8192, vec![2, 2, 2, 0]));
    }
}
