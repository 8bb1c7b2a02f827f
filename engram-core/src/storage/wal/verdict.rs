//! The verdict table: what recovery decides about one span. Pure, total, tested over every row.
//!
//! Why each row is safe is told in `docs/recovery.md`. Deliberately absent: what is then done
//! ([`super::plan`]).
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use crate::sim::{Broken, broken};

/// What stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Seen {
    /// Both checksums are right; whether this version understands the payload.
    Frame {
        /// Whether it does.
        decodable: bool,
    },
    /// Zeros to the end of the file.
    Zeros,
    /// A checksum is wrong.
    Bad,
    /// An intact frame of another life: foreign salt or LSN.
    Stale,
    /// An intact frame of this segment out of its place, which stands nowhere else.
    Misplaced,
    /// LSNs that no file holds and no header declares.
    Gap,
    /// The device answered with an error.
    DeviceError,
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// In the last segment, and that one has no footer.
    pub active: bool,
    /// The first LSN that it could hold is above H: nobody was told that it was durable.
    pub beyond_synced: bool,
    /// An earlier span of this segment was judged `Tail`.
    pub in_tail: bool,
}

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Applied.
    Frame,
    /// Nothing follows.
    End,
    /// Set aside whole, with all that follows. Not a loss.
    Tail,
    /// Set aside and named; reading goes on at the next valid frame.
    Damaged,
    /// Stays in the log as it is.
    Undecodable,
    /// Ignored, counted.
    Stale,
    /// Refuse to serve, unless told to go on.
    Missing,
    /// The same; never called corrupt.
    Unreadable,
}

/// The table.
#[must_use]
pub fn verdict(seen: Seen, place: Place) -> Verdict {
    let Place { active, beyond_synced, in_tail } = place;
    match seen {
        Seen::Gap => Verdict::Missing,
        Seen::DeviceError => Verdict::Unreadable,
        Seen::Zeros => Verdict::End,
        _ if in_tail && active => Verdict::Tail,
        Seen::Frame { decodable: true } => Verdict::Frame,
        Seen::Frame { decodable: false } => Verdict::Undecodable,
        Seen::Stale => Verdict::Stale,
        Seen::Bad if active && (beyond_synced || broken(Broken::DamageCutAsTail)) => Verdict::Tail,
        Seen::Bad | Seen::Misplaced => Verdict::Damaged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: [Seen; 8] = [
        Seen::Frame { decodable: true },
        Seen::Frame { decodable: false },
        Seen::Zeros,
        Seen::Bad,
        Seen::Stale,
        Seen::Misplaced,
        Seen::Gap,
        Seen::DeviceError,
    ];

    fn every(check: impl Fn(Seen, Place, Verdict)) {
        for seen in SEEN {
            for bits in 0..8u8 {
                let place = Place {
                    active: bits & 1 != 0,
                    beyond_synced: bits & 2 != 0,
                    in_tail: bits & 4 != 0,
                };
                check(seen, place, verdict(seen, place));
            }
        }
    }

    #[test]
    fn only_bytes_beyond_the_synced_lsn_of_the_active_segment_begin_a_tail() {
        every(|seen, place, verdict| {
            if verdict == Verdict::Tail && !place.in_tail {
                assert_eq!(seen, Seen::Bad);
                assert!(place.active && place.beyond_synced);
            }
        });
    }

    #[test]
    fn an_intact_frame_that_is_in_its_place_or_needed_nowhere_is_never_called_damaged() {
        every(|seen, _, verdict| {
            if matches!(seen, Seen::Frame { .. } | Seen::Stale) {
                assert_ne!(verdict, Verdict::Damaged);
            }
        });
    }

    #[test]
    fn a_sealed_segment_has_no_tail() {
        every(|_, place, verdict| {
            if !place.active {
                assert_ne!(verdict, Verdict::Tail);
            }
        });
    }

    #[test]
    fn a_device_error_is_never_called_corrupt_and_a_gap_never_passed_over() {
        every(|seen, _, verdict| match seen {
            Seen::DeviceError => assert_eq!(verdict, Verdict::Unreadable),
            Seen::Gap => assert_eq!(verdict, Verdict::Missing),
            Seen::Zeros => assert_eq!(verdict, Verdict::End),
            _ => assert!(!matches!(verdict, Verdict::Unreadable | Verdict::Missing | Verdict::End)),
        });
    }

    #[test]
    fn all_that_follows_a_tail_in_the_active_segment_belongs_to_it() {
        every(|seen, place, verdict| {
            let span = !matches!(seen, Seen::Zeros | Seen::Gap | Seen::DeviceError);
            if span && place.in_tail && place.active {
                assert_eq!(verdict, Verdict::Tail);
            }
        });
    }
}
