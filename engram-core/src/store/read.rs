//! Reading: content stays in the log, and is read by position and verified at every read.

use super::Store;
use super::answers::{ListQuery, Page};
use super::directory::{Entry, TimeCursor};
use crate::disk::read_exact_at;
use crate::driver::Shared;
use crate::episode::StoredEpisode;
use crate::error::{Error, Result};
use crate::recall::{check_limit, check_range};
use crate::record::{self, Instant, Record};
use crate::sim::{Broken, broken};
use crate::storage::wal::frame::{self, HEADER_BYTES, Header};
use crate::storage::wal::knowledge::Place;
use crate::sync::atomic::Ordering;

/// Episodes looked at under one lock while listing.
const LIST_CHUNK: usize = 256;
/// Bytes of episodes after which a page ends, however many were asked for.
const PAGE_BYTES_MAX: usize = 8 << 20;

impl Store {
    /// One episode, read from the log and verified.
    ///
    /// # Errors
    /// [`Error::NoEpisode`]; [`Error::Damaged`] and [`Error::Undecodable`] where its bytes
    /// cannot be given back.
    pub fn get(&self, space: &str, id: &str) -> Result<StoredEpisode> {
        let none = || Error::NoEpisode { space: space.to_owned(), id: id.to_owned() };
        let key = self.inner.keys.episode(space, id);
        let found = self.read_entry(key, |_| Some(()))?;
        // Not one whose key happens to be the same.
        found.filter(|it| it.space == space && it.episode.id == id).ok_or_else(none)
    }

    /// Episodes of a space, newest first. One that is replaced while its page is read is given
    /// as it is then, in the place where it stood.
    ///
    /// # Errors
    /// [`Error::NoSpace`]; [`Error::Limit`] for the limit, the cursor, or a range that ends
    /// before it begins.
    pub fn list(&self, space: &str, query: &ListQuery) -> Result<Page> {
        let limit = check_limit(query.limit)?;
        check_range(query.from, query.to)?;
        let space_key = self.inner.keys.space(space);
        let memory = &self.inner.driver.shared.memory;
        // What is newer may be met twice: where it stood, and where it stands.
        let began = self.inner.driver.shared.seen.head_lsn.load(Ordering::Acquire);
        if memory.look(|directory| directory.space_episodes(space_key)).is_none() {
            return Err(Error::NoSpace { space: space.to_owned() });
        }
        let mut before = query.cursor.as_deref().map(parse_cursor).transpose()?;
        let (from, to) = (query.from.map(Instant::from), query.to.map(Instant::from));
        let mut page = Page::default();
        let mut bytes = 0;
        // One page is read at first, and announced; whoever filters looks at more.
        let mut most = LIST_CHUNK.min(limit);
        loop {
            let chunk: Vec<(TimeCursor, u64, Place)> = memory.look(|directory| {
                directory
                    .newest_first(space_key, from, to, before)
                    .take(most)
                    .map(|(cursor, entry)| (cursor, entry.key(), entry.place))
                    .collect()
            });
            let last = chunk.len() < most;
            let places = chunk.iter().map(|&(_, _, place)| place).collect();
            self.inner.driver.shared.segments.will_read(places);
            for (cursor, key, _) in chunk {
                before = Some(cursor);
                // It may have been forgotten or replaced since we looked.
                let in_range = |entry: &Entry| {
                    let when = entry.when();
                    (from.is_none_or(|from| from <= when) && to.is_none_or(|to| when < to))
                        .then_some(())
                };
                let stored = match self.read_entry(key, in_range) {
                    Ok(Some(stored)) => stored,
                    Ok(None) => continue,
                    // One bad frame must not hide the others.
                    Err(e @ (Error::Damaged { .. } | Error::Undecodable { .. })) => {
                        page.unreadable.push(e);
                        continue;
                    }
                    Err(e) => return Err(e),
                };
                let same = |other: &StoredEpisode| other.episode.id == stored.episode.id;
                let again = stored.lsn > began && page.episodes.iter().any(same);
                if !again && wanted(&stored, query) {
                    bytes += stored.episode.weight();
                    page.episodes.push(stored);
                }
                if page.episodes.len() == limit || bytes >= PAGE_BYTES_MAX {
                    page.next_cursor = Some(format_cursor(cursor));
                    return Ok(page);
                }
            }
            if last {
                return Ok(page);
            }
            most = LIST_CHUNK;
        }
    }

    fn read_entry(
        &self,
        key: u64,
        accept: impl Fn(&Entry) -> Option<()>,
    ) -> Result<Option<StoredEpisode>> {
        self.inner.driver.shared.read_entry(key, accept)
    }
}

impl Shared {
    /// Reads the frame of a key, if it has an entry and `accept` takes it.
    pub(crate) fn read_entry(
        &self,
        key: u64,
        accept: impl Fn(&Entry) -> Option<()>,
    ) -> Result<Option<StoredEpisode>> {
        let mut failed = None;
        let (place, e) = loop {
            let found = self.memory.look(|directory| {
                let entry = directory.get(key)?;
                accept(entry)?;
                Some((entry.place, entry.lsn, entry.undecodable()))
            });
            let Some((place, lsn, undecodable)) = found else { return Ok(None) };
            if let Some((kind, schema)) = undecodable {
                return Err(Error::Undecodable { lsn, kind: kind.0, schema });
            }
            let e = match self.read_place(place, key, lsn) {
                Ok(Some(stored)) => return Ok(Some(stored)),
                Ok(None) => Error::Closed,
                Err(e) => e,
            };
            // Compaction may have moved the frame since we looked: then look again, as often as
            // it moves.
            if failed.replace(place) == Some(place) {
                break (place, e);
            }
        };
        if matches!(e, Error::Damaged { .. }) {
            // Compaction quarantines and names it.
            self.segments.update(place.segment, |segment| segment.needs_rewrite = true);
            self.wake_maintenance();
        }
        Err(e)
    }

    fn read_place(&self, place: Place, key: u64, lsn: u64) -> Result<Option<StoredEpisode>> {
        let name = || {
            let segment = self.segments.get(place.segment);
            segment.map_or_else(String::new, |segment| segment.name.file_name())
        };
        let io = |e: std::io::Error| Error::io("read", self.env.wal_path(&name()), &e);
        let Some(file) = self.segments.file(place.segment).map_err(io)? else { return Ok(None) };
        let mut bytes = vec![0; place.bytes as usize];
        read_exact_at(file.as_ref(), &mut bytes, u64::from(place.offset)).map_err(io)?;
        let damaged = || Error::Damaged { file: name(), offset: u64::from(place.offset), lsn };
        let header = Header::decode(&bytes).ok_or_else(damaged)?;
        let payload = bytes.get(HEADER_BYTES..).unwrap_or_default();
        let right =
            header.payload_crc == frame::crc(payload) || broken(Broken::PayloadChecksumIgnored);
        if header.lsn != lsn || header.key != key || !right {
            return Err(damaged());
        }
        let undecodable = || Error::Undecodable { lsn, kind: header.kind.0, schema: header.schema };
        let Some(Record::Remember(remember)) = record::decode(&header, payload) else {
            return Err(undecodable());
        };
        let (episode, recorded_at) = remember.episode().ok_or_else(undecodable)?;
        let space = remember.space.to_owned();
        Ok(Some(StoredEpisode { space, lsn, recorded_at, episode }))
    }
}

fn wanted(stored: &StoredEpisode, query: &ListQuery) -> bool {
    let who = query.who.as_ref().is_none_or(|who| stored.episode.who.contains(who));
    let place = query.place.as_ref().is_none_or(|p| stored.episode.place.as_ref() == Some(p));
    who && place
}

fn format_cursor(cursor: TimeCursor) -> String {
    format!("{:x}.{:x}.{:x}", cursor.when.seconds, cursor.when.nanos, cursor.lsn)
}

fn parse_cursor(text: &str) -> Result<TimeCursor> {
    let parse = || {
        let mut parts = text.split('.');
        let seconds = u64::from_str_radix(parts.next()?, 16).ok()?.cast_signed();
        let nanos = u32::from_str_radix(parts.next()?, 16).ok()?;
        let lsn = u64::from_str_radix(parts.next()?, 16).ok()?;
        parts.next().is_none().then_some(TimeCursor { when: Instant { seconds, nanos }, lsn })
    };
    parse().ok_or_else(|| Error::Limit {
        field: "cursor",
        problem: "not one of ours",
        bound: "the next_cursor of the page before".into(),
        value: format!("{:?}", text.chars().take(40).collect::<String>()),
        too_large: false,
    })
}
