//! The entries, found by key or by number.
//!
//! The table that finds a key holds numbers and no keys: these stand in the entries. A number is an
//! entry's for as long as it is here, and may be another's afterwards.
//!
//! Deliberately absent: what an entry means for its space, its order, or the log.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use hashbrown::HashTable;

use super::index;
use super::order::Moment;
use crate::record::Instant;
use crate::storage::wal::frame::Kind;
use crate::storage::wal::knowledge::Place;

/// An episode's place in the directory.
#[derive(Debug)]
pub struct Entry {
    pub(super) key: u64,
    /// The LSN of its frame.
    pub lsn: u64,
    pub(super) when_seconds: i64,
    pub(super) when_nanos: u32,
    /// A hash of its id beside the key's: the id itself is in the log alone.
    pub(super) id_hash: u32,
    /// Where its frame stands.
    pub place: Place,
    /// The number of its space.
    pub(super) space: u32,
    /// Frames of this key in the log that no tombstone counts.
    pub(super) copies: u32,
    /// The schema of a frame that this version does not understand.
    pub(super) unknown_schema: Option<u16>,
}

impl Entry {
    /// The key of its episode.
    #[must_use]
    pub fn key(&self) -> u64 {
        self.key
    }

    /// Whether it is of this id, and not of one whose key happens to be the same. Without meaning
    /// for a frame that this version does not understand.
    #[must_use]
    pub fn is_of(&self, id: &str) -> bool {
        self.id_hash == super::id_hash(id)
    }

    /// The kind and schema of a frame that this version does not understand.
    #[must_use]
    pub fn undecodable(&self) -> Option<(Kind, u16)> {
        Some((Kind::REMEMBER, self.unknown_schema?))
    }

    /// When its episode happened.
    #[must_use]
    pub fn when(&self) -> Instant {
        Instant { seconds: self.when_seconds, nanos: self.when_nanos }
    }

    /// Where it stands in the order of time.
    pub(super) fn moment(&self) -> Moment {
        (self.when_seconds, self.when_nanos, self.lsn)
    }
}

/// All entries.
#[derive(Debug, Default)]
pub(super) struct Entries {
    slots: Vec<Option<Entry>>,
    free: Vec<u32>,
    by_key: HashTable<u32>,
}

impl Entries {
    /// The number of a key's entry.
    pub(super) fn number_of(&self, key: u64) -> Option<u32> {
        self.by_key.find(key, |&number| key_at(&self.slots, number) == key).copied()
    }

    pub(super) fn get(&self, number: u32) -> Option<&Entry> {
        self.slots.get(index(number))?.as_ref()
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Entry> {
        self.slots.get_mut(index(number))?.as_mut()
    }

    /// When the episode of a number happened.
    pub(super) fn moment_of(&self, number: u32) -> Moment {
        self.get(number).map_or((0, 0, 0), Entry::moment)
    }

    /// Adds the entry of a key that has none, and gives its number.
    pub(super) fn put(&mut self, entry: Entry) -> u32 {
        let key = entry.key;
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len().saturating_sub(1)).unwrap_or(u32::MAX)
        });
        if let Some(slot) = self.slots.get_mut(index(number)) {
            *slot = Some(entry);
        }
        // A keyed hash is a hash already.
        self.by_key.insert_unique(key, number, |&number| key_at(&self.slots, number));
        number
    }

    /// Takes an entry out.
    pub(super) fn take(&mut self, number: u32) -> Option<Entry> {
        let key = self.get(number)?.key;
        if let Ok(found) = self.by_key.find_entry(key, |&other| other == number) {
            found.remove();
        }
        self.free.push(number);
        self.slots.get_mut(index(number))?.take()
    }

    /// All of them, in order of number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Entry)> {
        (0..).zip(&self.slots).filter_map(|(number, slot)| Some((number, slot.as_ref()?)))
    }
}

fn key_at(slots: &[Option<Entry>], number: u32) -> u64 {
    slots.get(index(number)).and_then(Option::as_ref).map_or(0, |entry| entry.key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a million episodes take of memory is a promise (`docs/performance.md`).
    #[test]
    fn an_entry_is_seven_words() {
        assert_eq!(size_of::<Option<Entry>>(), 56);
    }
}
