//! What the directory tells compaction: each frame's fate, and where the kept ones went.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use super::{Directory, Orphans, earliest, index};
use crate::record::Known;
use crate::sim::{Broken, broken};
use crate::storage::wal::frame::{Header, Kind};
use crate::storage::wal::knowledge::{Applied, Dropped, Fate, Knowledge, Place, Reason, Usage};

impl Knowledge for Directory {
    fn apply(&mut self, header: &Header, place: Place, record: Option<&Known<'_>>) -> Applied {
        if header.kind == Kind::MARK {
            // Neither live nor worth a rewrite of its own; it goes when its segment is rewritten.
            return Applied::default();
        }
        self.add_live(place);
        match (header.kind, record) {
            (Kind::REMEMBER, record) => self.remember(header, place, record),
            (Kind::FORGET, Some(&Known::Forget { at })) => self.forget(header, place, at),
            (Kind::FORGET, _) => self.forget(header, place, None),
            (Kind::FORGET_SPACE, Some(&Known::ForgetSpace { at, space })) => {
                self.forget_space(header, place, at, space)
            }
            (Kind::FORGET_SPACE, _) => self.forget_space(header, place, None, ""),
            (Kind::SPACE_DEFINED, Some(&Known::SpaceDefined { space, definition })) => {
                self.define_space(header, place, space, definition);
                Applied::default()
            }
            (Kind::LEGACY_IMPORTED, Some(Known::LegacyImported(file))) => {
                self.imported.insert(file.path.clone(), (file.size, file.sha256.clone()));
                Applied::default()
            }
            _ => {
                self.count_unknown(header);
                self.undecodable = self.undecodable.saturating_add(1);
                if let Fate::Dead(_) = self.fate(header, &Dropped::default()) {
                    self.kill(place, None);
                }
                Applied::default()
            }
        }
    }

    fn doubt(&mut self) {
        self.doubtful = true;
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
                    let early = broken(Broken::TombstoneDroppedEarly);
                    if tomb.older > gone && !early {
                        Fate::Live
                    } else {
                        Fate::Dead(Reason::NothingOlder)
                    }
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
                Some(entry) if entry.lsn > header.lsn && entry.undecodable().is_some() => {
                    Fate::Live
                }
                Some(entry) if entry.lsn > header.lsn => {
                    Fate::Dead(Reason::SupersededBy(entry.lsn))
                }
                // An older version of what was lost to damage; that was named already.
                None if self.orphans.contains_key(&header.key)
                    && !broken(Broken::UnknownDropped) =>
                {
                    Fate::Live
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
        if has_key(header.kind) && counted {
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
        if has_key(header.kind) && !under_floor {
            if let Some(tomb) = self.tombs.get_mut(&header.key).filter(|t| t.lsn > header.lsn) {
                tomb.older = tomb.older.saturating_sub(1);
                if tomb.older == 0 {
                    dead = Some(tomb.place);
                    self.tombs.remove(&header.key);
                }
            } else {
                self.drop_copy(header.key);
            }
        }
        if let Some(dead) = dead {
            self.kill(dead, None);
        }
    }

    fn moved(&mut self, header: &Header, to: Place) {
        let number = self.entries.number_of(header.key);
        let from = match header.kind {
            Kind::REMEMBER => number
                .and_then(|number| self.entries.get_mut(number))
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
        if !live && matches!(self.fate(header, &Dropped::default()), Fate::Dead(_)) {
            self.kill(to, None);
        }
    }

    fn segment_gone(&mut self, segment: u32, sweep: bool) -> Vec<u64> {
        self.usage.remove(&segment);
        if !sweep {
            return Vec::new();
        }
        let lost = self.entries.iter().filter(|(_, entry)| entry.place.segment == segment);
        let lost: Vec<u32> = lost.map(|(number, _)| number).collect();
        let mut lsns = Vec::new();
        for number in lost {
            if let Some(entry) = self.take(number, false) {
                if entry.copies > 1 {
                    let copies = entry.copies.saturating_sub(1);
                    self.orphans.insert(entry.key, Orphans { copies, space: entry.space });
                }
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

impl Directory {
    /// A frame of a key that no tombstone counts has left the log.
    fn drop_copy(&mut self, key: u64) {
        if let Some(number) = self.entries.number_of(key)
            && let Some(entry) = self.entries.get_mut(number)
        {
            entry.copies = entry.copies.saturating_sub(1);
        } else if let Some(orphans) = self.orphans.get_mut(&key) {
            orphans.copies = orphans.copies.saturating_sub(1);
            if orphans.copies == 0 {
                self.orphans.remove(&key);
            }
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
}

/// Kinds that a tombstone of their key covers.
fn has_key(kind: Kind) -> bool {
    has_copies(kind) && kind != Kind::SPACE_DEFINED
}

/// Kinds of which a tombstone or floor must know whether the log still holds them.
fn has_copies(kind: Kind) -> bool {
    !matches!(kind, Kind::FORGET | Kind::FORGET_SPACE | Kind::MARK | Kind::LEGACY_IMPORTED)
}
