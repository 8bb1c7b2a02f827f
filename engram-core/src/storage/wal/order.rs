//! Which of a segment's whole frames stand in a wrong place.
//!
//! A write to the wrong place leaves a copy of frames where others were. By order alone a copy that
//! stands too early would make stale all those behind it whose LSNs are lower. Most frames are
//! right, so the fewest that disagree with the rest are taken for the copies.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::collections::{BTreeMap, BTreeSet};

/// A whole frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Standing {
    /// Where it begins.
    pub offset: u64,
    /// One past its last byte.
    pub end: u64,
    /// Its LSN.
    pub lsn: u64,
}

/// The offsets of those that stand in a wrong place, in order. `start` is where frames begin, and
/// `footer` where one ends them.
#[must_use]
pub fn misplaced(mut frames: Vec<Standing>, start: u64, footer: Option<u64>) -> Vec<u64> {
    frames.sort_unstable();
    let mut wrong = copies(&frames, start, footer);
    frames.retain(|frame| !wrong.contains(&frame.offset));
    wrong.extend(out_of_order(&frames));
    wrong.into_iter().collect()
}

/// Of frames that stand twice, those that fewer others adjoin.
fn copies(frames: &[Standing], start: u64, footer: Option<u64>) -> BTreeSet<u64> {
    let starts: BTreeSet<u64> = frames.iter().map(|frame| frame.offset).chain(footer).collect();
    let ends: BTreeSet<u64> = frames.iter().map(|frame| frame.end).chain([start]).collect();
    let adjoined = |frame: &Standing| {
        let sides = [ends.contains(&frame.offset), starts.contains(&frame.end)];
        sides.into_iter().filter(|adjoined| *adjoined).count()
    };
    let mut most: BTreeMap<u64, usize> = BTreeMap::new();
    for frame in frames {
        let most = most.entry(frame.lsn).or_default();
        *most = adjoined(frame).max(*most);
    }
    let fewer =
        |frame: &&Standing| most.get(&frame.lsn).is_some_and(|&most| adjoined(frame) < most);
    frames.iter().filter(fewer).map(|frame| frame.offset).collect()
}

/// The fewest whose absence leaves the LSNs rising: those that are in no longest rising chain
/// (patience sorting; Fredman 1975). Of several such chains the one that stands first stays.
fn out_of_order(frames: &[Standing]) -> Vec<u64> {
    // How long the longest chain is that each frame ends, and the lowest LSN that ends one so long.
    let mut lowest: Vec<u64> = Vec::new();
    let mut by_length: Vec<(usize, Standing)> = Vec::with_capacity(frames.len());
    for &frame in frames {
        let length = lowest.partition_point(|&end| end < frame.lsn);
        match lowest.get_mut(length) {
            Some(end) => *end = frame.lsn,
            None => lowest.push(frame.lsn),
        }
        by_length.push((length, frame));
    }
    // Of those of one length the LSNs fall as they stand, or are the same.
    by_length.sort_by_key(|&(length, _)| length);
    let mut others = Vec::new();
    let mut lsn = u64::MAX;
    for ends in by_length.chunk_by(|a, b| a.0 == b.0).rev() {
        // Of those that are low enough the first one; it stands before what follows it.
        let first = ends.partition_point(|(_, end)| end.lsn >= lsn);
        lsn = ends.get(first).map_or(lsn, |(_, end)| end.lsn);
        let rest = ends.iter().enumerate().filter(|&(at, _)| at != first);
        others.extend(rest.map(|(_, (_, frame))| frame.offset));
    }
    others
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests may panic")]
mod tests {
    use super::*;

    /// Frames of 10 bytes: LSNs and where they begin.
    fn of(frames: &[(u64, u64)]) -> Vec<u64> {
        let standing = |&(lsn, offset): &(u64, u64)| Standing { offset, end: offset + 10, lsn };
        misplaced(frames.iter().map(standing).collect(), 0, None)
    }

    #[test]
    fn rising_frames_stand_where_they_belong_whatever_is_between_them() {
        assert!(of(&[]).is_empty());
        assert!(of(&[(1, 0), (2, 10), (5, 40), (9, 200)]).is_empty());
    }

    #[test]
    fn the_fewest_frames_that_disagree_with_the_rest_are_misplaced() {
        assert_eq!(of(&[(1, 0), (20, 10), (3, 20), (4, 30), (5, 40)]), [10]);
        assert_eq!(of(&[(8, 0), (9, 10), (1, 20), (2, 30), (3, 40)]), [0, 10]);
    }

    #[test]
    fn of_as_many_that_disagree_the_first_ones_stay() {
        assert_eq!(of(&[(5, 0), (6, 10), (1, 20), (2, 30), (9, 40)]), [20, 30]);
        assert_eq!(of(&[(2, 0), (1, 10)]), [10]);
        assert_eq!(of(&[(1, 0), (7, 10), (3, 20), (9, 30), (4, 40)]), [20, 40]);
    }

    #[test]
    fn of_two_copies_the_one_that_others_adjoin_or_that_is_in_order_is_right() {
        // The first is followed by rubbish, the second by the frame that came next.
        assert_eq!(of(&[(2, 7), (2, 40), (3, 50)]), [7]);
        assert_eq!(of(&[(1, 0), (2, 10), (3, 20), (1, 33), (2, 43)]), [33, 43]);
        assert_eq!(of(&[(1, 0), (2, 10), (2, 99)]), [99]);
        // Neither adjoins any: the first one stays.
        assert_eq!(of(&[(2, 7), (2, 40)]), [40]);
        // Each adjoins one other; only one of them is in order.
        assert_eq!(of(&[(6, 5), (7, 15), (4, 40), (5, 50), (6, 60), (7, 70)]), [5, 15]);
    }
}
