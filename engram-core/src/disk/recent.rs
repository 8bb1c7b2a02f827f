//! The bytes that were written last to one file, for who reads them soon.
//!
//! A direct write leaves nothing in the page cache. An episode is mostly read right after it was
//! written (by the index) or soon (by a recall), and that should not wait for a device.
//!
//! Deliberately absent: files, and everything older.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::collections::VecDeque;

/// Most bytes that are kept of one file.
pub(super) const RECENT_BYTES_MAX: usize = 256 << 10;

/// One piece of a file: where it begins, and its bytes.
#[derive(Debug, Default)]
pub(super) struct Recent {
    start: u64,
    bytes: VecDeque<u8>,
}

impl Recent {
    fn end(&self) -> u64 {
        self.start.saturating_add(wide(self.bytes.len()))
    }

    /// These bytes stand at `offset` now.
    pub(super) fn note(&mut self, bytes: &[u8], offset: u64) {
        if !(self.start..=self.end()).contains(&offset) {
            self.bytes.clear();
        }
        if self.bytes.is_empty() {
            self.start = offset;
        }
        self.bytes.truncate(narrow(offset.saturating_sub(self.start)));
        let skipped = bytes.len().saturating_sub(RECENT_BYTES_MAX);
        let over = self.bytes.len().saturating_add(bytes.len()).saturating_sub(RECENT_BYTES_MAX);
        self.bytes.drain(..over.min(self.bytes.len()));
        self.bytes.extend(bytes.get(skipped..).unwrap_or_default());
        self.start = self.start.saturating_add(wide(over));
    }

    /// Fills `buffer` with what stands at `offset`, if all of it is here.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> bool {
        let wanted = offset.checked_sub(self.start).map(narrow);
        let range = wanted.and_then(|at| Some((at, at.checked_add(buffer.len())?)));
        let Some((from, to)) = range.filter(|&(_, to)| to <= self.bytes.len()) else {
            return false;
        };
        let (front, back) = self.bytes.as_slices();
        let place = |at: usize| at.min(front.len());
        let in_front = front.get(place(from)..place(to)).unwrap_or_default();
        let (head, tail) = buffer.split_at_mut(in_front.len());
        head.copy_from_slice(in_front);
        let place = |at: usize| at.saturating_sub(front.len());
        tail.copy_from_slice(back.get(place(from)..place(to)).unwrap_or_default());
        true
    }

    /// Where it begins, if anything is here.
    pub(super) fn first(&self) -> Option<u64> {
        (!self.bytes.is_empty()).then_some(self.start)
    }

    /// Keeps nothing, and takes no memory.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

fn wide(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn narrow(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
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

    /// Against a plain file: what is given back is what stands there, and the last bytes are given.
    #[test]
    fn what_it_gives_is_what_was_written_last() {
        let mut file = vec![0u8; 64 << 20];
        let mut recent = Recent::default();
        let mut state = 1u64;
        let mut dice = move |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % below
        };
        let mut end = 0;
        for round in 0..400 {
            // Mostly goes on in the block where the last one ended, at times elsewhere.
            let offset = if dice(20) == 0 { dice(50 << 20) } else { end - dice(4096).min(end) };
            let length = if round % 97 == 96 { RECENT_BYTES_MAX + 5 } else { 1 + dice(200_000) };
            let length = length.min(file.len() - offset);
            let bytes: Vec<u8> = (0..length).map(|at| (round * 7 + at) as u8).collect();
            file[offset..offset + length].copy_from_slice(&bytes);
            recent.note(&bytes, offset as u64);
            end = offset + length;
            assert!(recent.bytes.len() <= RECENT_BYTES_MAX);
            let last = length.min(RECENT_BYTES_MAX);
            let mut buffer = vec![0; last];
            assert!(recent.read(&mut buffer, (end - last) as u64), "round {round}");
            assert_eq!(buffer, file[end - last..end]);
            for _ in 0..20 {
                let at = (end + 9000).saturating_sub(dice(5 << 20)).min(file.len());
                let mut buffer = vec![0; dice(10_000).min(file.len() - at)];
                if recent.read(&mut buffer, at as u64) {
                    assert_eq!(buffer, file[at..at + buffer.len()], "round {round} at {at}");
                }
            }
        }
        recent.forget();
        assert!(!recent.read(&mut [0], end as u64 - 1));
    }
}
