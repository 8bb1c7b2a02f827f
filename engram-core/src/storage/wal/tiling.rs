//! How the log's files lie beside each other: which count, and what none holds.
//!
//! Deliberately absent: what stands in them ([`super::plan`]).
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::collections::BTreeMap;

use super::plan::LsnRange;
use super::segment::SegmentName;
use crate::sim::{Broken, broken};

/// How the log's files lie beside each other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tiling {
    /// The files that hold the log, in order of LSN.
    pub current: Vec<SegmentName>,
    /// Files whose range a higher generation holds.
    pub obsolete: Vec<SegmentName>,
    /// LSNs between two current files that neither can hold.
    pub missing: Vec<LsnRange>,
}

/// Lays the segments of a directory side by side. Where ranges overlap, the highest generation
/// wins: a rewritten file got its name only when it was complete.
#[must_use]
pub fn tile(mut names: Vec<SegmentName>) -> Tiling {
    names.sort_by_key(|name| (std::cmp::Reverse(name.generation()), name.start));
    if broken(Broken::GenerationReversed) {
        names.reverse();
    }
    let mut tiling = Tiling::default();
    let mut kept: BTreeMap<u64, SegmentName> = BTreeMap::new();
    for name in names {
        // The last LSN of a generation-0 file stands in no name; its first one decides.
        let covering = kept.range(..=name.start).next_back().and_then(|(_, k)| k.rewritten);
        if covering.is_some_and(|(end, _)| name.start <= end) {
            tiling.obsolete.push(name);
        } else {
            kept.insert(name.start, name);
        }
    }
    let mut expected = 1u64;
    let mut open = false;
    for name in kept.into_values() {
        if name.start > expected && !open {
            tiling.missing.push((expected, name.start.saturating_sub(1)));
        }
        open = name.rewritten.is_none();
        expected = name.rewritten.map_or(name.start, |(end, _)| end).saturating_add(1);
        tiling.current.push(name);
    }
    tiling.obsolete.sort_by_key(|name| (name.start, name.generation()));
    tiling
}

#[cfg(test)]
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "tests may panic"
)]
mod tests {
    use super::*;

    fn plain(start: u64) -> SegmentName {
        SegmentName { start, rewritten: None }
    }

    fn rewritten(start: u64, end: u64, generation: u64) -> SegmentName {
        SegmentName { start, rewritten: Some((end, generation)) }
    }

    #[test]
    fn the_highest_generation_wins_where_ranges_overlap() {
        let names = vec![plain(1), plain(10), plain(20), rewritten(1, 19, 1), rewritten(1, 9, 1)];
        let tiling = tile(names);
        // Same generation and start cannot both exist unless one range covers the other.
        assert!(tiling.current.contains(&plain(20)));
        assert!(tiling.obsolete.contains(&plain(1)) && tiling.obsolete.contains(&plain(10)));
        let tiling = tile(vec![rewritten(1, 9, 1), rewritten(1, 19, 2), plain(10), plain(20)]);
        assert_eq!(tiling.current, [rewritten(1, 19, 2), plain(20)]);
        assert_eq!(tiling.obsolete, [rewritten(1, 9, 1), plain(10)]);
        assert!(tiling.missing.is_empty());
    }

    #[test]
    fn a_missing_file_is_a_named_gap() {
        assert_eq!(tile(vec![plain(5)]).missing, [(1, 4)]);
        assert_eq!(tile(vec![rewritten(1, 9, 1), plain(15)]).missing, [(10, 14)]);
        // After a generation-0 file only its contents can tell.
        assert!(tile(vec![plain(1), plain(15)]).missing.is_empty());
        assert_eq!(tile(vec![]), Tiling::default());
    }
}
