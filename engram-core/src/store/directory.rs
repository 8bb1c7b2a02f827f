//! What memory knows: which frame is each episode's, and why every other frame is dead.
//!
//! Derived from the log by [`Directory::apply`], at start and at each change, in one way. A
//! frame is applied only if its LSN is higher than that of what it would replace, so applying
//! it twice is the same as once. The directory also counts, for each tombstone, the older
//! frames of its key that the log still holds: at zero, and not before, the tombstone is dead.
//!
//! Deliberately absent: contents (they stay in the log), files, locks.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::collections::{BTreeMap, HashMap};

use crate::record::{Instant, Known};
use crate::storage::wal::frame::{Header, Kind};
use crate::storage::wal::knowledge::{
    Applied, Dropped, Fate, KeyMap, Knowledge, Place, Reason, Usage,
};

/// An episode's place in the directory.
#[derive(Debug)]
pub struct Entry {
    /// Its id; empty for a frame that this version does not understand.
    pub id: Box<str>,
    key: u64,
    /// The LSN of its frame.
    pub lsn: u64,
    when_seconds: i64,
    when_nanos: u32,
    space: u32,
    /// Where its frame stands.
    pub place: Place,
    /// Frames of this key in the log that no tombstone counts.
    copies: u32,
    undecodable: Option<(Kind, u16)>,
}

impl Entry {
    /// The kind and schema of a frame that this version does not understand.
    #[must_use]
    pub fn undecodable(&self) -> Option<(Kind, u16)> {
        self.undecodable
    }
}

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

#[derive(Debug, Default)]
struct Space {
    name: Box<str>,
    episodes: u64,
    bytes: u64,
    dimension: Option<u32>,
    defined: Option<(u64, Place)>,
    floor: Option<Floor>,
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
    /// The dimension of its embeddings.
    pub dimension: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct TimeKey {
    space: u32,
    seconds: i64,
    nanos: u32,
    lsn: u64,
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
    slots: Vec<Option<Entry>>,
    free: Vec<u32>,
    by_key: KeyMap<u32>,
    by_time: BTreeMap<TimeKey, u32>,
    tombs: KeyMap<Tomb>,
    spaces: Vec<Space>,
    space_by_key: KeyMap<u32>,
    usage: HashMap<u32, Usage>,
    episodes: u64,
    undecodable: u64,
    imported: HashMap<String, (u64, Vec<u8>)>,
}

impl Directory {
    /// The entry of a key.
    #[must_use]
    pub fn get(&self, key: u64) -> Option<&Entry> {
        self.slot(*self.by_key.get(&key)?)
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

    /// The dimension of a space's embeddings.
    #[must_use]
    pub fn dimension(&self, space_key: u64) -> Option<u32> {
        self.space(space_key)?.dimension
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

    /// The spaces, by name.
    #[must_use]
    pub fn spaces(&self) -> Vec<SpaceView> {
        let existing = self.spaces.iter().filter(|space| space.exists());
        let mut views: Vec<SpaceView> = existing
            .map(|space| SpaceView {
                name: space.name.to_string(),
                episodes: space.episodes,
                bytes: space.bytes,
                dimension: space.dimension,
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
        let space = self.space_by_key.get(&space_key).copied();
        let lowest = Instant { seconds: i64::MIN, nanos: 0 };
        let first = time_key(space.unwrap_or(0), from.unwrap_or(lowest), 0);
        let mut end = TimeKey {
            space: space.unwrap_or(0),
            seconds: i64::MAX,
            nanos: u32::MAX,
            lsn: u64::MAX,
        };
        if let Some(to) = to {
            end = end.min(time_key(end.space, to, 0));
        }
        if let Some(before) = before {
            end = end.min(time_key(end.space, before.when, before.lsn));
        }
        let range = (space.is_some() && first < end).then(|| self.by_time.range(first..end));
        range.into_iter().flatten().rev().filter_map(|(key, &slot)| {
            let when = Instant { seconds: key.seconds, nanos: key.nanos };
            Some((TimeCursor { when, lsn: key.lsn }, self.slot(slot)?))
        })
    }

    fn remember(&mut self, header: &Header, place: Place, known: Option<&Known<'_>>) -> Applied {
        let (key, lsn) = (header.key, header.lsn);
        let understood = match known {
            Some(&Known::Remember { space, id, when, dimension }) => {
                Some((space, id, when, dimension))
            }
            _ => None,
        };
        let space = self.count_physical(header.space_key, understood.map_or("", |known| known.0));
        if let Some(floor) = self.covering_floor(header) {
            self.count_under_floor(header.space_key);
            self.kill(place, floor);
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
            && space.dimension.is_none()
        {
            space.dimension = Some(dimension);
        }
        let mut entry = Entry {
            id: id.into(),
            key,
            lsn,
            when_seconds: when.seconds,
            when_nanos: when.nanos,
            space,
            place,
            copies: 1,
            undecodable: understood.is_none().then_some((header.kind, header.schema)),
        };
        let mut replaced = false;
        if let Some(&slot) = self.by_key.get(&key) {
            if self.slot(slot).is_some_and(|old| old.lsn >= lsn) {
                self.kill(place, None);
                if let Some(Some(old)) = self.slots.get_mut(index(slot)) {
                    old.copies = old.copies.saturating_add(u32::from(old.lsn != lsn));
                }
                return Applied::default();
            }
            if let Some(old) = self.take_slot(slot) {
                replaced = old.undecodable.is_none();
                entry.copies = old.copies.saturating_add(1);
                // What an undecodable frame means for the older one is not known: keep both.
                if entry.undecodable.is_none() {
                    self.kill(old.place, None);
                }
            }
        }
        self.put_slot(entry);
        Applied { replaced, forgotten: 0 }
    }

    fn forget(&mut self, header: &Header, place: Place, at: Option<Instant>) -> Applied {
        let since = Some(at.map_or(0, |at| at.seconds));
        if let Some(floor) = self.covering_floor(header) {
            self.kill(place, floor);
            return Applied::default();
        }
        let mut older = 0u32;
        if let Some(tomb) = self.tombs.get(&header.key).copied() {
            if tomb.lsn >= header.lsn {
                self.kill(place, None);
                return Applied::default();
            }
            self.kill(tomb.place, None);
            older = tomb.older;
        }
        let mut forgotten = 0;
        if let Some(&slot) = self.by_key.get(&header.key)
            && self.slot(slot).is_some_and(|entry| entry.lsn < header.lsn)
            && let Some(entry) = self.take_slot(slot)
        {
            self.by_key.remove(&header.key);
            older = older.saturating_add(entry.copies);
            forgotten = u64::from(entry.undecodable.is_none());
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

    fn forget_space(
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
        let slots: Vec<u32> = self
            .by_key
            .values()
            .copied()
            .filter(|&slot| {
                self.slot(slot).is_some_and(|e| e.space == number && e.lsn < header.lsn)
            })
            .collect();
        let mut forgotten = 0u64;
        for slot in slots {
            if let Some(entry) = self.take_slot(slot) {
                self.by_key.remove(&entry.key);
                forgotten = forgotten.saturating_add(u64::from(entry.undecodable.is_none()));
                self.kill(entry.place, since);
            }
        }
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
                space.dimension = None;
            }
            let older = space.physical;
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

    /// Dead bytes may be older versions of what was just forgotten: they are due as well.
    fn older_versions_forgotten(&mut self, since: Option<i64>) {
        for usage in self.usage.values_mut().filter(|usage| usage.dead > 0) {
            usage.forgotten_since = earliest(usage.forgotten_since, since);
        }
    }

    fn define_space(&mut self, header: &Header, place: Place, name: &str, dimension: u32) {
        let number = self.count_physical(header.space_key, name);
        if let Some(floor) = self.covering_floor(header) {
            self.count_under_floor(header.space_key);
            self.kill(place, floor);
            return;
        }
        let Some(space) = self.spaces.get_mut(index(number)) else { return };
        let dead = match space.defined {
            Some((lsn, _)) if lsn >= header.lsn => Some(place),
            old => {
                space.defined = Some((header.lsn, place));
                space.dimension = Some(dimension);
                old.map(|(_, old_place)| old_place)
            }
        };
        if let Some(dead) = dead {
            self.kill(dead, None);
        }
    }

    fn floor_fate(&self, header: &Header, dropped: &Dropped) -> Fate {
        match self.space(header.space_key).and_then(|space| space.floor) {
            Some(floor) if floor.lsn > header.lsn => Fate::Dead(Reason::SupersededBy(floor.lsn)),
            Some(floor) if floor.lsn == header.lsn => {
                let gone = dropped.by_space.get(&header.space_key).copied().unwrap_or(0);
                if floor.needed && floor.older > gone {
                    Fate::Live
                } else {
                    Fate::Dead(Reason::NothingOlder)
                }
            }
            _ => Fate::Dead(Reason::NothingOlder),
        }
    }

    fn slot(&self, slot: u32) -> Option<&Entry> {
        self.slots.get(index(slot))?.as_ref()
    }

    fn take_slot(&mut self, slot: u32) -> Option<Entry> {
        let entry = self.slots.get_mut(index(slot))?.take()?;
        self.free.push(slot);
        if entry.undecodable.is_some() {
            self.undecodable = self.undecodable.saturating_sub(1);
            return Some(entry);
        }
        self.by_time.remove(&entry_time(&entry));
        self.episodes = self.episodes.saturating_sub(1);
        if let Some(space) = self.spaces.get_mut(index(entry.space)) {
            space.episodes = space.episodes.saturating_sub(1);
            space.bytes = space.bytes.saturating_sub(u64::from(entry.place.bytes));
        }
        Some(entry)
    }

    fn put_slot(&mut self, entry: Entry) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len().saturating_sub(1)).unwrap_or(u32::MAX)
        });
        self.by_key.insert(entry.key, slot);
        if entry.undecodable.is_some() {
            self.undecodable = self.undecodable.saturating_add(1);
        } else {
            self.by_time.insert(entry_time(&entry), slot);
            self.episodes = self.episodes.saturating_add(1);
            if let Some(space) = self.spaces.get_mut(index(entry.space)) {
                space.episodes = space.episodes.saturating_add(1);
                space.bytes = space.bytes.saturating_add(u64::from(entry.place.bytes));
            }
        }
        if let Some(place) = self.slots.get_mut(index(slot)) {
            *place = Some(entry);
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
            self.spaces.push(Space::default());
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

    /// For `kill`: whether a floor covers the frame, and since when its bytes count as forgotten.
    fn covering_floor(&self, header: &Header) -> Option<Option<i64>> {
        self.floor_over(header).map(|_| Some(0))
    }
}

impl Knowledge for Directory {
    fn apply(&mut self, header: &Header, place: Place, record: Option<&Known<'_>>) -> Applied {
        self.add_live(place);
        match (header.kind, record) {
            (Kind::REMEMBER, record) => self.remember(header, place, record),
            (Kind::FORGET, Some(&Known::Forget { at })) => self.forget(header, place, at),
            (Kind::FORGET, _) => self.forget(header, place, None),
            (Kind::FORGET_SPACE, Some(&Known::ForgetSpace { at, space })) => {
                self.forget_space(header, place, at, space)
            }
            (Kind::FORGET_SPACE, _) => self.forget_space(header, place, None, ""),
            (Kind::SPACE_DEFINED, Some(&Known::SpaceDefined { space, dimension })) => {
                self.define_space(header, place, space, dimension);
                Applied::default()
            }
            (Kind::LEGACY_IMPORTED, Some(Known::LegacyImported(file))) => {
                self.imported.insert(file.path.clone(), (file.size, file.sha256.clone()));
                Applied::default()
            }
            (Kind::MARK, _) => {
                self.kill(place, None);
                Applied::default()
            }
            _ => {
                self.count_physical(header.space_key, "");
                self.undecodable = self.undecodable.saturating_add(1);
                if let Fate::Dead(_) = self.fate(header, &Dropped::default()) {
                    self.kill(place, None);
                }
                Applied::default()
            }
        }
    }

    fn fate(&self, header: &Header, dropped: &Dropped) -> Fate {
        if header.kind == Kind::MARK {
            return Fate::Dead(Reason::Mark);
        }
        if header.kind == Kind::FORGET_SPACE {
            return self.floor_fate(header, dropped);
        }
        if let Some(floor) = self.floor_over(header) {
            return Fate::Dead(Reason::ForgottenBy(floor));
        }
        let tomb = self.tombs.get(&header.key);
        if header.kind == Kind::FORGET {
            return match tomb {
                Some(tomb) if tomb.lsn > header.lsn => Fate::Dead(Reason::SupersededBy(tomb.lsn)),
                Some(tomb) if tomb.lsn == header.lsn => {
                    let gone = dropped.by_key.get(&header.key).copied().unwrap_or(0);
                    if tomb.older > gone { Fate::Live } else { Fate::Dead(Reason::NothingOlder) }
                }
                _ => Fate::Dead(Reason::NothingOlder),
            };
        }
        if header.kind == Kind::LEGACY_IMPORTED {
            return Fate::Live;
        }
        if let Some(tomb) = tomb.filter(|tomb| tomb.lsn > header.lsn) {
            return Fate::Dead(Reason::ForgottenBy(tomb.lsn));
        }
        match header.kind {
            Kind::REMEMBER => match self.get(header.key) {
                Some(entry) if entry.lsn == header.lsn => Fate::Live,
                Some(entry) if entry.lsn > header.lsn && entry.undecodable.is_some() => Fate::Live,
                Some(entry) if entry.lsn > header.lsn => {
                    Fate::Dead(Reason::SupersededBy(entry.lsn))
                }
                _ => Fate::Unexplained,
            },
            Kind::SPACE_DEFINED => match self.space(header.space_key).and_then(|s| s.defined) {
                Some((lsn, _)) if lsn == header.lsn => Fate::Live,
                Some((lsn, _)) if lsn > header.lsn => Fate::Dead(Reason::SupersededBy(lsn)),
                _ => Fate::Unexplained,
            },
            _ => Fate::Live,
        }
    }

    fn note_dropped(&self, header: &Header, dropped: &mut Dropped) {
        if !has_copies(header.kind) {
            return;
        }
        if self.floor_over(header).is_some() {
            let gone = dropped.by_space.entry(header.space_key).or_default();
            *gone = gone.saturating_add(1);
        }
        let counted = self.tombs.get(&header.key).is_some_and(|tomb| tomb.lsn > header.lsn);
        if header.kind == Kind::REMEMBER && counted {
            let gone = dropped.by_key.entry(header.key).or_default();
            *gone = gone.saturating_add(1);
        }
    }

    fn dropped(&mut self, header: &Header) {
        if !has_copies(header.kind) {
            if header.kind == Kind::FORGET {
                // A tombstone that was needed for nothing is no longer looked for.
                if self.tombs.get(&header.key).is_some_and(|tomb| tomb.lsn == header.lsn) {
                    self.tombs.remove(&header.key);
                }
            }
            return;
        }
        let under_floor = self.floor_over(header).is_some();
        let mut dead = None;
        if let Some(&number) = self.space_by_key.get(&header.space_key)
            && let Some(space) = self.spaces.get_mut(index(number))
        {
            space.physical = space.physical.saturating_sub(1);
            if let Some(floor) = space.floor.as_mut().filter(|_| under_floor) {
                floor.older = floor.older.saturating_sub(1);
                if floor.older == 0 && floor.needed {
                    floor.needed = false;
                    dead = Some(floor.place);
                }
            }
        }
        if header.kind == Kind::REMEMBER && !under_floor {
            if let Some(tomb) = self.tombs.get_mut(&header.key).filter(|t| t.lsn > header.lsn) {
                tomb.older = tomb.older.saturating_sub(1);
                if tomb.older == 0 {
                    dead = Some(tomb.place);
                    self.tombs.remove(&header.key);
                }
            } else if let Some(&slot) = self.by_key.get(&header.key)
                && let Some(Some(entry)) = self.slots.get_mut(index(slot))
            {
                entry.copies = entry.copies.saturating_sub(1);
            }
        }
        if let Some(dead) = dead {
            self.kill(dead, None);
        }
    }

    fn moved(&mut self, header: &Header, to: Place) {
        let slot = self.by_key.get(&header.key).copied();
        let from = match header.kind {
            Kind::REMEMBER => slot
                .and_then(|slot| self.slots.get_mut(index(slot))?.as_mut())
                .filter(|entry| entry.lsn == header.lsn)
                .map(|entry| &mut entry.place),
            Kind::FORGET => self
                .tombs
                .get_mut(&header.key)
                .filter(|tomb| tomb.lsn == header.lsn)
                .map(|tomb| &mut tomb.place),
            Kind::SPACE_DEFINED => self
                .space_mut(header.space_key)
                .and_then(|space| space.defined.as_mut())
                .filter(|(lsn, _)| *lsn == header.lsn)
                .map(|(_, place)| place),
            Kind::FORGET_SPACE => self
                .space_mut(header.space_key)
                .and_then(|space| space.floor.as_mut())
                .filter(|floor| floor.lsn == header.lsn && floor.needed)
                .map(|floor| &mut floor.place),
            // Others have no place here; they are live wherever they stand.
            _ => {
                self.add_live(to);
                return;
            }
        };
        let live = from.is_some();
        if let Some(place) = from {
            *place = to;
        }
        self.add_live(to);
        if !live && self.fate(header, &Dropped::default()) != Fate::Unexplained {
            self.kill(to, None);
        }
    }

    fn segment_gone(&mut self, segment: u32, sweep: bool) -> Vec<u64> {
        self.usage.remove(&segment);
        if !sweep {
            return Vec::new();
        }
        let lost: Vec<u32> = self
            .by_key
            .values()
            .copied()
            .filter(|&slot| self.slot(slot).is_some_and(|e| e.place.segment == segment))
            .collect();
        let mut lsns = Vec::new();
        for slot in lost {
            if let Some(entry) = self.take_slot(slot) {
                self.by_key.remove(&entry.key);
                lsns.push(entry.lsn);
            }
        }
        lsns.sort_unstable();
        lsns
    }

    fn usage(&self, segment: u32) -> Usage {
        self.usage.get(&segment).copied().unwrap_or_default()
    }

    fn carry_forgotten_since(&mut self, segment: u32, since: Option<i64>) {
        let usage = self.usage.entry(segment).or_default();
        usage.forgotten_since = earliest(usage.forgotten_since, since);
    }
}

impl Space {
    fn exists(&self) -> bool {
        self.episodes > 0 || self.defined.is_some()
    }
}

/// Kinds of which a tombstone or floor must know whether the log still holds them.
fn has_copies(kind: Kind) -> bool {
    !matches!(kind, Kind::FORGET | Kind::FORGET_SPACE | Kind::MARK | Kind::LEGACY_IMPORTED)
}

fn entry_time(entry: &Entry) -> TimeKey {
    let when = Instant { seconds: entry.when_seconds, nanos: entry.when_nanos };
    time_key(entry.space, when, entry.lsn)
}

fn time_key(space: u32, when: Instant, lsn: u64) -> TimeKey {
    TimeKey { space, seconds: when.seconds, nanos: when.nanos, lsn }
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
