//! What memory knows: which frame is each episode's, and why every other frame is dead.
//!
//! Derived from the log by [`Knowledge::apply`](crate::storage::wal::knowledge::Knowledge::apply), at start and at each change, in one way. A
//! frame is applied only if its LSN is higher than that of what it would replace, so applying
//! it twice is the same as once. The directory also counts, for each tombstone, the older
//! frames of its key that the log still holds: at zero, and not before, the tombstone is dead.
//!
//! Deliberately absent: contents (they stay in the log), files, locks.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

mod apply;
mod entries;
pub mod feed;
mod knowledge;
mod order;

use std::collections::{BTreeSet, HashMap};

use entries::Entries;
pub use entries::Entry;
use feed::Feed;
use order::Order;
use siphasher::sip::SipHasher13;

use crate::record::{Definition, Instant, LegacyImported};
use crate::storage::wal::frame::Header;
use crate::storage::wal::knowledge::{KeyMap, Place, Usage};

/// The newest `Forget` of a key, while older frames of the key are in the log.
#[derive(Debug, Clone, Copy)]
struct Tomb {
    lsn: u64,
    space_key: u64,
    place: Place,
    older: u32,
}

/// The newest `ForgetSpace` of a space, while older frames of the space are in the log.
#[derive(Debug, Clone, Copy)]
struct Floor {
    lsn: u64,
    place: Place,
    older: u64,
    needed: bool,
}

/// Frames of a key that nothing shows.
#[derive(Debug, Clone, Copy, Default)]
struct Orphans {
    copies: u32,
    /// The number of their space.
    space: u32,
}

#[derive(Debug, Default)]
struct Space {
    key: u64,
    name: Box<str>,
    order: Order,
    feed: Feed,
    episodes: u64,
    bytes: u64,
    /// What the newest definition says, or where there is none, the first embedding.
    definition: Option<Definition>,
    defined: Option<(u64, Place)>,
    floor: Option<Floor>,
    /// Entries that this version does not understand.
    undecodable: u64,
    /// Frames of this space in the log that a floor would have to cover.
    physical: u64,
}

/// One space, for lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceView {
    /// Its name.
    pub name: String,
    /// Its episodes.
    pub episodes: u64,
    /// Bytes of their frames.
    pub bytes: u64,
    /// Whose vectors it holds, once that is fixed.
    pub definition: Option<Definition>,
}

/// A position in the order of time, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeCursor {
    /// When.
    pub when: Instant,
    /// The LSN, among equals.
    pub lsn: u64,
}

/// The directory.
#[derive(Debug, Default)]
pub struct Directory {
    entries: Entries,
    tombs: KeyMap<Tomb>,
    /// Frames in the log of keys that have neither an entry nor a tombstone above them: older
    /// versions of what was lost to damage, and kinds that this version does not know.
    orphans: KeyMap<Orphans>,
    spaces: Vec<Space>,
    space_by_key: KeyMap<u32>,
    usage: HashMap<u32, Usage>,
    episodes: u64,
    undecodable: u64,
    imported: HashMap<String, (u64, Vec<u8>)>,
    /// Frames of any key may be in the log that were not applied: each forget counts one of its own.
    doubtful: bool,
    /// Whether anybody makes indexes of it.
    feeding: bool,
    /// Spaces whose feed is not empty.
    hungry: BTreeSet<u32>,
}

impl Directory {
    /// The entry of a key.
    #[must_use]
    pub fn get(&self, key: u64) -> Option<&Entry> {
        self.entries.get(self.entries.number_of(key)?)
    }

    /// Whether the log may hold a frame of this key, so that a forget of it must be kept.
    #[must_use]
    pub fn may_hold(&self, key: u64) -> bool {
        self.entries.number_of(key).is_some() || self.orphans.contains_key(&key)
    }

    /// How many episodes there are.
    #[must_use]
    pub fn episodes(&self) -> u64 {
        self.episodes
    }

    /// Bytes used in all segments.
    #[must_use]
    pub fn total_usage(&self) -> Usage {
        let mut total = Usage::default();
        for usage in self.usage.values() {
            total.live = total.live.saturating_add(usage.live);
            total.dead = total.dead.saturating_add(usage.dead);
        }
        total
    }

    /// Whose vectors a space holds, once that is fixed.
    #[must_use]
    pub fn definition(&self, space_key: u64) -> Option<&Definition> {
        self.space(space_key)?.fixed()
    }

    /// The LSN of what a space was last defined by; 0 where nothing defined it. Embeddings of
    /// episodes below are of an earlier model.
    #[must_use]
    pub fn defined_at(&self, space_key: u64) -> u64 {
        let defined = self.space(space_key).and_then(|space| space.defined);
        defined.map_or(0, |(lsn, _)| lsn)
    }

    /// A space's name.
    #[must_use]
    pub fn space_name(&self, space_key: u64) -> Option<&str> {
        self.space(space_key).filter(|space| space.is_named()).map(|space| &*space.name)
    }

    /// How many episodes a space has; `None` when there is no such space.
    #[must_use]
    pub fn space_episodes(&self, space_key: u64) -> Option<u64> {
        self.space(space_key).filter(|space| space.exists()).map(|space| space.episodes)
    }

    /// The v0.1.0 file of this path that was taken over: its size and SHA-256.
    #[must_use]
    pub fn imported(&self, path: &str) -> Option<&(u64, Vec<u8>)> {
        self.imported.get(path)
    }

    /// Whether this v0.1.0 file was taken over.
    #[must_use]
    pub fn has_imported(&self, file: &LegacyImported) -> bool {
        self.imported.get(&file.path).is_some_and(|(size, sha256)| {
            (*size, sha256.as_slice()) == (file.size, file.sha256.as_slice())
        })
    }

    /// How many spaces there are.
    #[must_use]
    pub fn spaces_count(&self) -> u64 {
        u64::try_from(self.spaces.iter().filter(|space| space.is_named()).count())
            .unwrap_or(u64::MAX)
    }

    /// Frames that this version does not understand.
    #[must_use]
    pub fn undecodable(&self) -> u64 {
        self.undecodable
    }

    /// The spaces, by name.
    #[must_use]
    pub fn spaces(&self) -> Vec<SpaceView> {
        let existing = self.spaces.iter().filter(|space| space.is_named());
        let mut views: Vec<SpaceView> = existing
            .map(|space| SpaceView {
                name: space.name.to_string(),
                episodes: space.episodes,
                bytes: space.bytes,
                definition: space.fixed().cloned(),
            })
            .collect();
        views.sort_by(|a, b| a.name.cmp(&b.name));
        views
    }

    /// Episodes of a space, newest first, older than `before` and not older than `from`.
    pub fn newest_first(
        &self,
        space_key: u64,
        from: Option<Instant>,
        to: Option<Instant>,
        before: Option<TimeCursor>,
    ) -> impl Iterator<Item = (TimeCursor, &Entry)> {
        let first = from.map_or((i64::MIN, 0, 0), |from| (from.seconds, from.nanos, 0));
        let mut end = (i64::MAX, u32::MAX, u64::MAX);
        if let Some(to) = to {
            end = end.min((to.seconds, to.nanos, 0));
        }
        if let Some(before) = before {
            end = end.min((before.when.seconds, before.when.nanos, before.lsn));
        }
        let order = self.space(space_key).map(|space| &space.order);
        let moment_of = |number| self.entries.moment_of(number);
        let numbers = order.map(|order| order.newest_first(first, end, moment_of));
        numbers.into_iter().flatten().filter_map(|number| {
            let entry = self.entries.get(number)?;
            Some((TimeCursor { when: entry.when(), lsn: entry.lsn }, entry))
        })
    }

    /// Takes an entry out; `replaced`: for the next version of its episode, which follows.
    fn take(&mut self, number: u32, replaced: bool) -> Option<Entry> {
        let Self { entries, spaces, .. } = self;
        let old = entries.get(number)?;
        let space = spaces.get_mut(index(old.space))?;
        if old.undecodable().is_some() {
            self.undecodable = self.undecodable.saturating_sub(1);
            space.undecodable = space.undecodable.saturating_sub(1);
            return entries.take(number);
        }
        space.order.remove(old.moment(), |number| entries.moment_of(number));
        space.episodes = space.episodes.saturating_sub(1);
        space.bytes = space.bytes.saturating_sub(u64::from(old.place.bytes));
        self.episodes = self.episodes.saturating_sub(1);
        if self.feeding {
            if replaced {
                space.feed.replaced(old.key(), old.lsn);
            } else {
                space.feed.gone(old.key(), old.lsn);
            }
            self.hungry.insert(old.space);
        }
        entries.take(number)
    }

    fn put(&mut self, entry: Entry) {
        let Self { entries, spaces, .. } = self;
        let (moment, place, owner) = (entry.moment(), entry.place, entry.space);
        let (key, lsn, is_undecodable) = (entry.key(), entry.lsn, entry.undecodable().is_some());
        let number = entries.put(entry);
        let Some(space) = spaces.get_mut(index(owner)) else { return };
        if is_undecodable {
            self.undecodable = self.undecodable.saturating_add(1);
            space.undecodable = space.undecodable.saturating_add(1);
            return;
        }
        space.order.insert(number, moment, |number| entries.moment_of(number));
        space.episodes = space.episodes.saturating_add(1);
        space.bytes = space.bytes.saturating_add(u64::from(place.bytes));
        self.episodes = self.episodes.saturating_add(1);
        if self.feeding {
            space.feed.came(key, lsn);
            self.hungry.insert(owner);
        }
    }

    fn add_live(&mut self, place: Place) {
        let usage = self.usage.entry(place.segment).or_default();
        usage.live = usage.live.saturating_add(u64::from(place.bytes));
    }

    /// Live bytes become dead; forgotten ones since `since`.
    fn kill(&mut self, place: Place, since: Option<i64>) {
        let usage = self.usage.entry(place.segment).or_default();
        usage.live = usage.live.saturating_sub(u64::from(place.bytes));
        usage.dead = usage.dead.saturating_add(u64::from(place.bytes));
        usage.forgotten_since = earliest(usage.forgotten_since, since);
    }

    fn space(&self, space_key: u64) -> Option<&Space> {
        self.spaces.get(index(*self.space_by_key.get(&space_key)?))
    }

    fn space_mut(&mut self, space_key: u64) -> Option<&mut Space> {
        self.spaces.get_mut(index(*self.space_by_key.get(&space_key)?))
    }

    fn space_number(&mut self, space_key: u64, name: &str) -> u32 {
        let next = u32::try_from(self.spaces.len()).unwrap_or(u32::MAX);
        let number = *self.space_by_key.entry(space_key).or_insert(next);
        if number == next {
            self.spaces.push(Space { key: space_key, ..Space::default() });
        }
        if let Some(space) = self.spaces.get_mut(index(number))
            && space.name.is_empty()
            && !name.is_empty()
        {
            space.name = name.into();
        }
        number
    }

    fn count_physical(&mut self, space_key: u64, name: &str) -> u32 {
        let number = self.space_number(space_key, name);
        if let Some(space) = self.spaces.get_mut(index(number)) {
            space.physical = space.physical.saturating_add(1);
        }
        number
    }

    fn count_under_floor(&mut self, space_key: u64) {
        if let Some(floor) = self.space_mut(space_key).and_then(|space| space.floor.as_mut()) {
            floor.older = floor.older.saturating_add(1);
        }
    }

    /// The LSN of the floor that covers a frame.
    fn floor_over(&self, header: &Header) -> Option<u64> {
        let floor = self.space(header.space_key)?.floor?;
        (floor.lsn > header.lsn).then_some(floor.lsn)
    }
}

impl Space {
    /// What it is fixed to.
    fn fixed(&self) -> Option<&Definition> {
        self.definition.as_ref().filter(|definition| definition.dimension > 0)
    }

    fn exists(&self) -> bool {
        self.episodes > 0 || self.defined.is_some() || self.undecodable > 0
    }

    /// Whether it exists, and its name is known: a header holds only its hash.
    fn is_named(&self) -> bool {
        self.exists() && !self.name.is_empty()
    }
}

/// Half of a hash without a secret: it only matters where two keys are equal, and nobody can make
/// them so.
fn id_hash(id: &str) -> u32 {
    let hash = SipHasher13::new().hash(id.as_bytes());
    u32::try_from(hash >> 32).unwrap_or(u32::MAX)
}

fn earliest(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Known;
    use crate::storage::wal::frame::{Codec, Kind};
    use crate::storage::wal::knowledge::Knowledge as _;

    /// Two ids of one key cannot be found by trying, so this is the one place that has them.
    #[test]
    fn an_entry_knows_its_id_from_another_of_the_same_key() {
        let header = Header {
            length: 0,
            kind: Kind::REMEMBER,
            codec: Codec::PLAIN,
            schema: 1,
            lsn: 1,
            synced: 0,
            salt: 0,
            key: 7,
            space_key: 8,
            payload_crc: 0,
            reserved: [0; 4],
        };
        let when = Instant { seconds: 0, nanos: 0 };
        let known = Known::Remember { space: "s", id: "mine", when, dimension: 0 };
        let mut directory = Directory::default();
        directory.apply(&header, Place::default(), Some(&known));
        let entry = directory.get(7);
        assert!(entry.is_some_and(|entry| entry.is_of("mine") && !entry.is_of("another")));
    }
}
