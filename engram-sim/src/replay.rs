//! What a log says, worked out as plainly as can be: frames in order of LSN, the last word wins.
//!
//! Beside the model (what callers were told) and the engine (what it serves) this is the third
//! account of the memory; after every start all three must agree.

use std::collections::{BTreeMap, BTreeSet};

use engram_core::record::Record;
use engram_core::sim;
use engram_core::storage::wal::frame::{Header, Kind};

use crate::disk::state::Image;
use crate::frames::{Frame, Segment, segments};
use crate::model::{Known, Memory};

/// The newest schema that any simulated version writes.
pub const SCHEMA_NEWEST: u16 = 2;

/// What recovery must make of a log.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// The memory.
    pub memory: Memory,
    /// The frames that stay.
    pub kept: Vec<Frame>,
    /// Valid frames of the torn tail: set aside.
    pub tail: Vec<Frame>,
    /// Valid frames in a wrong place that stand nowhere else: set aside.
    pub strays: Vec<Frame>,
    /// Whether some segment has no header any more, so that the log may refuse to open.
    pub headless: bool,
}

/// Frames that damage destroyed: what they were, and whether the log still knows of them.
#[derive(Debug, Clone)]
pub struct Lost {
    /// The frame, as it was.
    pub frame: Frame,
    /// The log says that it was synced, or a footer lists it: it must be named.
    pub witnessed: bool,
    /// It stood in a rewritten segment that lost its footer: its LSN is not known any more.
    pub unnumbered: bool,
}

/// Reads the log in an image. This thread's engine is afterwards of the version that knows schemas
/// up to `version`.
#[must_use]
pub fn account(image: &Image, version: u16) -> Account {
    let mut all = segments(image);
    let mut account = Account {
        headless: all.iter().any(|segment| segment.header.is_none()),
        ..Account::default()
    };
    if let Some(last) = all.last_mut()
        && let Some(start) = last.tail_start()
    {
        let split = last.frames.partition_point(|frame| frame.offset < start);
        account.tail = last.frames.split_off(split);
        last.ghosts.retain(|(at, _)| *at < start);
    }
    let ghosts = all.iter().flat_map(|segment| &segment.ghosts).map(|(_, header)| *header);
    let forgets: Vec<Header> = ghosts.filter(|header| is_forget(header.kind)).collect();
    account.strays = all.iter().flat_map(|segment| &segment.strays).cloned().collect();
    account.kept = all.into_iter().flat_map(|segment| segment.frames).collect();
    sim::set_schema(SCHEMA_NEWEST);
    account.memory = remembered(&account.kept, &forgets);
    sim::set_schema(version);
    account
}

/// What damage destroyed, seen by what was there before.
#[must_use]
pub fn lost(before: &Image, after: &Image) -> Vec<Lost> {
    let (old, new) = (segments(before), segments(after));
    let newest = new.last().map(|segment| segment.path.clone());
    let mut lost = Vec::new();
    for segment in old {
        let now = new.iter().find(|now| now.path == segment.path);
        for frame in segment.frames {
            let still = |now: &&Segment| now.frames.iter().any(|other| other.same_record(&frame));
            if now.is_some_and(|now| still(&now)) {
                continue;
            }
            let sealed = now.is_some_and(|now| now.sealed);
            let is_last = newest.as_ref() == Some(&segment.path);
            let below = now.is_some_and(|now| frame.header.lsn <= now.horizon());
            lost.push(Lost {
                witnessed: sealed || !is_last || below,
                unnumbered: segment.name.rewritten.is_some() && !sealed,
                frame,
            });
        }
    }
    lost
}

fn remembered(frames: &[Frame], forgets: &[Header]) -> Memory {
    let mut all: Vec<(Header, Option<Record<'_>>)> =
        frames.iter().map(|frame| (frame.header, frame.record())).collect();
    all.extend(forgets.iter().map(|header| (*header, None)));
    all.sort_by_key(|(header, _)| header.lsn);
    let mut memory = Memory::default();
    // Forgets that were lost name nothing but a hash.
    let mut names: BTreeMap<u64, (String, String)> = BTreeMap::new();
    let mut spaces: BTreeMap<u64, String> = BTreeMap::new();
    for (header, record) in all {
        match (header.kind, record) {
            (Kind::REMEMBER, Some(Record::Remember(remember))) => {
                let key = (remember.space.to_owned(), remember.id.to_owned());
                let Some((episode, _)) = remember.episode() else { continue };
                names.insert(header.key, key.clone());
                spaces.insert(header.space_key, key.0.clone());
                let dimension = u32::try_from(episode.embedding.len()).unwrap_or(u32::MAX);
                if dimension > 0 {
                    memory.dimensions.entry(key.0.clone()).or_insert(dimension);
                }
                let known = Known { lsn: header.lsn, schema: header.schema, episode };
                memory.episodes.insert(key, known);
            }
            (Kind::FORGET, _) => {
                if let Some(key) = names.get(&header.key) {
                    memory.episodes.remove(key);
                }
            }
            (Kind::FORGET_SPACE, _) => {
                if let Some(space) = spaces.get(&header.space_key) {
                    memory.episodes.retain(|key, _| key.0 != *space);
                    memory.dimensions.remove(space);
                    memory.fixed_by.remove(space);
                }
            }
            (Kind::SPACE_DEFINED, Some(Record::SpaceDefined { space, definition })) => {
                spaces.insert(header.space_key, space.clone());
                let fixed_by = (header.lsn, header.schema);
                memory.fixed_by.entry(space.clone()).or_default().push(fixed_by);
                memory.dimensions.insert(space, definition.dimension);
            }
            _ => {}
        }
    }
    memory
}

fn is_forget(kind: Kind) -> bool {
    matches!(kind, Kind::FORGET | Kind::FORGET_SPACE)
}

/// LSNs of these frames.
#[must_use]
pub fn lsns<'a>(frames: impl Iterator<Item = &'a Frame>) -> BTreeSet<u64> {
    frames.map(|frame| frame.header.lsn).collect()
}
