//! How each kind of frame changes the directory.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use super::order::Order;
use super::{Directory, Entry, Floor, Orphans, Tomb, earliest, id_hash, index};
use crate::record::{Definition, Instant, Known};
use crate::storage::wal::frame::Header;
use crate::storage::wal::knowledge::{Applied, Place};

impl Directory {
    pub(super) fn remember(
        &mut self,
        header: &Header,
        place: Place,
        known: Option<&Known<'_>>,
    ) -> Applied {
        let (key, lsn) = (header.key, header.lsn);
        let understood = match known {
            Some(&Known::Remember { space, id, when, dimension }) => {
                Some((space, id, when, dimension))
            }
            _ => None,
        };
        let space = self.count_physical(header.space_key, understood.map_or("", |known| known.0));
        if self.floor_over(header).is_some() {
            self.count_under_floor(header.space_key);
            self.kill(place, Some(0));
            return Applied::default();
        }
        if let Some(tomb) = self.tombs.get_mut(&key).filter(|tomb| tomb.lsn > lsn) {
            tomb.older = tomb.older.saturating_add(1);
            self.kill(place, Some(0));
            return Applied::default();
        }
        let unknown = ("", "", Instant { seconds: 0, nanos: 0 }, 0);
        let (_, id, when, dimension) = understood.unwrap_or(unknown);
        if let Some(space) = self.spaces.get_mut(index(space))
            && dimension > 0
            && space.definition.is_none()
        {
            // Where the frame that defined it was lost.
            space.definition = Some(Definition::given(dimension));
        }
        let mut entry = Entry {
            key,
            id_hash: id_hash(id),
            lsn,
            when_seconds: when.seconds,
            when_nanos: when.nanos,
            space,
            place,
            copies: 1,
            unknown_schema: understood.is_none().then_some(header.schema),
        };
        entry.copies =
            entry.copies.saturating_add(self.orphans.remove(&key).unwrap_or_default().copies);
        let mut replaced = false;
        if let Some(number) = self.entries.number_of(key) {
            if let Some(old) = self.entries.get_mut(number).filter(|old| old.lsn >= lsn) {
                old.copies = old.copies.saturating_add(u32::from(old.lsn != lsn));
                self.kill(place, None);
                return Applied::default();
            }
            if let Some(old) = self.take(number, understood.is_some()) {
                replaced = old.undecodable().is_none();
                entry.copies = entry.copies.saturating_add(old.copies);
                // What an undecodable frame means for the older one is not known: keep both.
                if understood.is_some() {
                    self.kill(old.place, None);
                }
            }
        }
        self.put(entry);
        Applied { replaced, forgotten: 0 }
    }

    pub(super) fn forget(&mut self, header: &Header, place: Place, at: Option<Instant>) -> Applied {
        let since = Some(at.map_or(0, |at| at.seconds));
        if self.floor_over(header).is_some() {
            self.kill(place, Some(0));
            return Applied::default();
        }
        let mut older = u32::from(self.doubtful);
        if let Some(tomb) = self.tombs.get(&header.key).copied() {
            if tomb.lsn >= header.lsn {
                self.kill(place, None);
                return Applied::default();
            }
            self.kill(tomb.place, None);
            older = older.saturating_add(tomb.older);
        }
        if let Some(orphans) = self.orphans.remove(&header.key) {
            older = older.saturating_add(orphans.copies);
            self.older_versions_forgotten(since);
        }
        let mut forgotten = 0;
        if let Some(number) = self.entries.number_of(header.key)
            && self.entries.get(number).is_some_and(|entry| entry.lsn < header.lsn)
            && let Some(entry) = self.take(number, false)
        {
            older = older.saturating_add(entry.copies);
            forgotten = u64::from(entry.undecodable().is_none());
            self.kill(entry.place, since);
            if entry.copies > 1 {
                self.older_versions_forgotten(since);
            }
        }
        let tomb = Tomb { lsn: header.lsn, space_key: header.space_key, place, older };
        if older == 0 {
            self.tombs.remove(&header.key);
            self.kill(place, None);
        } else {
            self.tombs.insert(header.key, tomb);
        }
        Applied { replaced: false, forgotten }
    }

    pub(super) fn forget_space(
        &mut self,
        header: &Header,
        place: Place,
        at: Option<Instant>,
        name: &str,
    ) -> Applied {
        let number = self.space_number(header.space_key, name);
        let since = Some(at.map_or(0, |at| at.seconds));
        let old_floor = self.spaces.get(index(number)).and_then(|space| space.floor);
        if old_floor.is_some_and(|floor| floor.lsn >= header.lsn) {
            self.kill(place, None);
            return Applied::default();
        }
        if let Some(floor) = old_floor.filter(|floor| floor.needed) {
            self.kill(floor.place, None);
        }
        let covered = self.entries.iter();
        let covered: Vec<u32> = covered
            .filter(|(_, entry)| entry.space == number && entry.lsn < header.lsn)
            .map(|(number, _)| number)
            .collect();
        if let Some(space) = self.spaces.get_mut(index(number))
            && covered.len() == usize::try_from(space.episodes).unwrap_or(usize::MAX)
            && space.undecodable == 0
        {
            // All of them go: nobody needs to be looked for.
            space.order = Order::default();
        }
        let mut forgotten = 0u64;
        for number in covered {
            if let Some(entry) = self.take(number, false) {
                forgotten = forgotten.saturating_add(u64::from(entry.undecodable().is_none()));
                self.kill(entry.place, since);
            }
        }
        self.orphans.retain(|_, orphans| orphans.space != number);
        let covered: Vec<(u64, Place)> = self
            .tombs
            .iter()
            .filter(|(_, tomb)| tomb.space_key == header.space_key && tomb.lsn < header.lsn)
            .map(|(&key, tomb)| (key, tomb.place))
            .collect();
        for (key, tomb_place) in covered {
            self.tombs.remove(&key);
            self.kill(tomb_place, None);
        }
        let mut dead_definition = None;
        let mut needed = false;
        if let Some(space) = self.spaces.get_mut(index(number)) {
            if space.defined.is_some_and(|(lsn, _)| lsn < header.lsn) {
                dead_definition = space.defined.take();
            }
            if space.defined.is_none() {
                space.definition = None;
            }
            let older = space.physical.saturating_add(u64::from(self.doubtful));
            needed = older > 0;
            space.floor = Some(Floor { lsn: header.lsn, place, older, needed });
        }
        if let Some((_, definition)) = dead_definition {
            self.kill(definition, since);
        }
        if !needed {
            self.kill(place, None);
        }
        self.older_versions_forgotten(since);
        Applied { replaced: false, forgotten }
    }

    /// Counts a frame of a kind that this version does not know: a later forget must outlive it.
    pub(super) fn count_unknown(&mut self, header: &Header) {
        let space = self.count_physical(header.space_key, "");
        if self.floor_over(header).is_some() {
            self.count_under_floor(header.space_key);
        } else if let Some(tomb) = self.tombs.get_mut(&header.key).filter(|t| t.lsn > header.lsn) {
            tomb.older = tomb.older.saturating_add(1);
        } else {
            let orphans = self.orphans.entry(header.key).or_insert(Orphans { copies: 0, space });
            orphans.copies = orphans.copies.saturating_add(1);
        }
    }

    /// Dead bytes may be older versions of what was just forgotten: they are due as well.
    pub(super) fn older_versions_forgotten(&mut self, since: Option<i64>) {
        for usage in self.usage.values_mut().filter(|usage| usage.dead > 0) {
            usage.forgotten_since = earliest(usage.forgotten_since, since);
        }
    }

    pub(super) fn define_space(
        &mut self,
        header: &Header,
        place: Place,
        name: &str,
        definition: &Definition,
    ) {
        let number = self.count_physical(header.space_key, name);
        if self.floor_over(header).is_some() {
            self.count_under_floor(header.space_key);
            self.kill(place, Some(0));
            return;
        }
        let Some(space) = self.spaces.get_mut(index(number)) else { return };
        let dead = match space.defined {
            Some((lsn, _)) if lsn >= header.lsn => Some(place),
            old => {
                space.defined = Some((header.lsn, place));
                space.definition = Some(definition.clone());
                if self.feeding {
                    space.feed.redefined();
                    self.hungry.insert(number);
                }
                old.map(|(_, old_place)| old_place)
            }
        };
        if let Some(dead) = dead {
            self.kill(dead, None);
        }
    }
}
