//! What came and went, for those who make indexes of the directory.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::collections::VecDeque;

use super::{Directory, index};

/// Room of a feed that is kept when nothing is in it, in episodes.
const FEED_KEPT: usize = 1024;

/// Changes to a space that its index has not been told of.
#[derive(Debug, Default)]
pub(super) struct Feed {
    came: VecDeque<(u64, u64)>,
    gone: Vec<(u64, u64)>,
    replaced: Vec<(u64, u64)>,
    redefined: bool,
}

impl Feed {
    pub(super) fn came(&mut self, key: u64, lsn: u64) {
        self.came.push_back((key, lsn));
    }

    pub(super) fn gone(&mut self, key: u64, lsn: u64) {
        self.gone.push((key, lsn));
    }

    pub(super) fn replaced(&mut self, key: u64, lsn: u64) {
        self.replaced.push((key, lsn));
    }

    pub(super) fn redefined(&mut self) {
        self.redefined = true;
    }

    fn is_empty(&self) -> bool {
        self.came.is_empty() && self.gone.is_empty() && self.replaced.is_empty() && !self.redefined
    }
}

/// Some of a feed, to be worked off.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Portion {
    /// Episodes that came, by key and LSN. Some may be gone again.
    pub came: Vec<(u64, u64)>,
    /// Episodes that went.
    pub gone: Vec<(u64, u64)>,
    /// Episodes whose next version came, now or later.
    pub replaced: Vec<(u64, u64)>,
    /// Whether the space was defined anew.
    pub redefined: bool,
}

impl Portion {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.came.is_empty() && self.gone.is_empty() && self.replaced.is_empty() && !self.redefined
    }
}

impl Directory {
    /// From now on every change is fed; all that is here already counts as having come.
    pub fn start_feeding(&mut self) {
        self.feeding = true;
        for space in &mut self.spaces {
            space.feed.came.reserve_exact(usize::try_from(space.episodes).unwrap_or(0));
        }
        let understood = self.entries.iter().filter(|(_, entry)| entry.undecodable().is_none());
        for (_, entry) in understood {
            if let Some(space) = self.spaces.get_mut(index(entry.space)) {
                space.feed.came(entry.key(), entry.lsn);
                self.hungry.insert(entry.space);
            }
        }
    }

    /// How many episodes of a space came that nobody has taken.
    #[must_use]
    pub fn fed(&self, space_key: u64) -> usize {
        self.space(space_key).map_or(0, |space| space.feed.came.len())
    }

    /// Takes all that went from a space, and at most `most` of what came. With none of that the
    /// space's new definition stays too.
    pub fn take_fed(&mut self, space_key: u64, most: usize) -> Portion {
        let Some(&number) = self.space_by_key.get(&space_key) else { return Portion::default() };
        let Some(space) = self.spaces.get_mut(index(number)) else { return Portion::default() };
        let fed = &mut space.feed.came;
        let came = match most.min(fed.len()) {
            // All episodes of a large space waited here: whoever takes the last gives their room back, once
            // nobody waits for the directory.
            all if all == fed.len() && fed.capacity() > FEED_KEPT => std::mem::take(fed).into(),
            some => fed.drain(..some).collect(),
        };
        let portion = Portion {
            came,
            gone: std::mem::take(&mut space.feed.gone),
            replaced: std::mem::take(&mut space.feed.replaced),
            redefined: most > 0 && std::mem::take(&mut space.feed.redefined),
        };
        if space.feed.is_empty() {
            self.hungry.remove(&number);
        }
        portion
    }

    /// Some space to which something happened that nobody has taken, and how many episodes came
    /// to all such spaces.
    #[must_use]
    pub fn hungry(&self) -> Option<(u64, usize)> {
        let mut hungry = self.hungry.iter().filter_map(|&number| self.spaces.get(index(number)));
        let first = hungry.next()?;
        let came = |space: &super::Space| space.feed.came.len();
        Some((first.key, hungry.fold(came(first), |sum, space| sum.saturating_add(came(space)))))
    }

    /// Whether a space of this key has episodes.
    #[must_use]
    pub fn has_episodes(&self, space_key: u64) -> bool {
        self.space(space_key).is_some_and(|space| space.episodes > 0)
    }
}
