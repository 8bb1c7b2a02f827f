//! The segments that make up the log now, and their open files.
//!
//! A segment has a number for as long as the process lives; the directory points at frames by
//! it. Files are opened when first read, and at most [`OPEN_FILES_MAX`] stay open: a log has
//! many more segments than a process may have descriptors.
//!
//! Deliberately absent: what is live ([`crate::store::directory`]).

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, PoisonError};

use super::env::Env;
use super::knowledge::{Place, Usage};
use super::report::SegmentStatus;
use super::segment::{SegmentHeader, SegmentName};
use crate::disk::{File, Open};
use crate::sync::{Mutex, MutexGuard};

/// Most segment files that are held open for reading. Some systems give a process 256 descriptors.
pub const OPEN_FILES_MAX: usize = 128;

/// When a file was used that stays open: its segment cannot be opened by its name yet, or is the active
/// one, whose file knows what was written last.
const PINNED: u64 = u64::MAX;

/// Bytes between two frames that are read along with them, at most.
const GAP_BYTES_MAX: u64 = 16 << 10;

/// Longest piece of a segment that frames are read in: a sync that comes meanwhile waits for it.
const PIECE_BYTES_MAX: u64 = 128 << 10;

/// One segment.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Its number in this process.
    pub number: u32,
    /// Its file.
    pub name: SegmentName,
    /// Its header.
    pub header: SegmentHeader,
    /// Its last LSN; of the active one, the last written.
    pub end: u64,
    /// Bytes in use.
    pub bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Whether it is finished.
    pub sealed: bool,
    /// It holds bytes that are no frames (damage, a lost footer): rewriting it removes them.
    pub needs_rewrite: bool,
    /// It holds damage that could not be copied to the quarantine: it must stay as it is.
    pub keep: bool,
}

impl Segment {
    /// As interfaces show it.
    #[must_use]
    pub fn status(&self, usage: Usage) -> SegmentStatus {
        SegmentStatus {
            file: self.name.file_name(),
            first_lsn: self.header.start,
            last_lsn: self.end,
            generation: self.name.generation(),
            sealed: self.sealed,
            bytes: self.bytes,
            live_bytes: usage.live,
            dead_bytes: usage.dead,
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    by_start: BTreeMap<u64, Segment>,
    start_of: HashMap<u32, u64>,
    open: HashMap<u32, (Arc<dyn File>, u64)>,
    active: Option<u32>,
    tick: u64,
    next_number: u32,
    /// Rewritten ranges (first and last LSN, generation) whose name may be on the disk or not.
    unsettled: Vec<(u64, u64, u64)>,
}

impl Inner {
    /// The time, counted in uses.
    fn used_now(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    /// Holds a file open, in the place of those that were used the longest ago.
    fn hold(&mut self, number: u32, file: Arc<dyn File>, used: u64) {
        while self.open.len() >= OPEN_FILES_MAX {
            let others = self.open.iter().filter(|(_, (_, used))| *used != PINNED);
            let Some((&oldest, _)) = others.min_by_key(|(_, (_, used))| *used) else { break };
            self.open.remove(&oldest);
        }
        self.open.insert(number, (file, used));
    }
}

/// All of them.
#[derive(Debug)]
pub struct Segments {
    env: Arc<Env>,
    inner: Mutex<Inner>,
}

impl Segments {
    /// None yet.
    #[must_use]
    pub fn new(env: Arc<Env>) -> Self {
        Self { env, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing here panics half-way through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for a segment to come.
    pub fn new_number(&self) -> u32 {
        let mut inner = self.inner();
        inner.next_number += 1;
        inner.next_number
    }

    /// Takes a segment in, with its open file if it is the active one.
    pub fn add(&self, segment: Segment, file: Option<Arc<dyn File>>) {
        let mut inner = self.inner();
        if let Some(file) = file {
            file.read_singly();
            let before = inner.active.replace(segment.number);
            let used = inner.used_now();
            if let Some(sealed) = before.and_then(|number| inner.open.get_mut(&number)) {
                sealed.1 = used;
            }
            inner.hold(segment.number, file, PINNED);
        }
        inner.start_of.insert(segment.number, segment.header.start);
        inner.by_start.insert(segment.header.start, segment);
    }

    /// Changes what is known of a segment.
    pub fn update(&self, number: u32, change: impl FnOnce(&mut Segment)) {
        let mut inner = self.inner();
        if let Some(&start) = inner.start_of.get(&number)
            && let Some(segment) = inner.by_start.get_mut(&start)
        {
            change(segment);
        }
    }

    /// Puts a rewritten segment in the place of its inputs.
    pub fn replace(&self, inputs: &[u32], output: Segment) {
        let mut inner = self.inner();
        for number in inputs {
            inner.open.remove(number);
            if let Some(start) = inner.start_of.remove(number) {
                inner.by_start.remove(&start);
            }
        }
        inner.start_of.insert(output.number, output.header.start);
        inner.by_start.insert(output.header.start, output);
    }

    /// Notes that a rewritten file got its name, and the directory could not be synced: after a
    /// crash it may stand in the place of its inputs, or not.
    pub fn note_unsettled(&self, header: &SegmentHeader) {
        self.inner().unsettled.push((header.start, header.end, header.generation));
    }

    /// A rewritten range is durable: what it covers is settled.
    pub fn note_settled(&self, header: &SegmentHeader) {
        let within = |first, last| header.start <= first && last <= header.end;
        self.inner().unsettled.retain(|&(first, last, _)| !within(first, last));
    }

    /// Neighbours to rewrite, with all that an unsettled range among them covers, so that the
    /// result replaces that too; and the highest generation in their place.
    #[must_use]
    pub fn with_unsettled(&self, inputs: Vec<Segment>) -> (Vec<Segment>, u64) {
        let inner = self.inner();
        let mut generation = inputs.iter().map(|s| s.name.generation()).max().unwrap_or(0);
        let (Some(head), Some(tail)) = (inputs.first(), inputs.last()) else {
            return (inputs, generation);
        };
        let (mut first, mut last) = (head.header.start, tail.end);
        let mut waiting = inner.unsettled.clone();
        while let Some(at) = waiting.iter().position(|&(from, to, _)| from <= last && first <= to) {
            let (from, to, its_generation) = waiting.swap_remove(at);
            (first, last) = (first.min(from), last.max(to));
            generation = generation.max(its_generation);
        }
        if (first, last) == (head.header.start, tail.end) {
            return (inputs, generation);
        }
        (inner.by_start.range(first..=last).map(|(_, s)| s.clone()).collect(), generation)
    }

    /// Gives a segment that is being written a number by which it can be read already.
    pub fn add_unlisted(&self, number: u32, file: Arc<dyn File>) {
        file.read_singly();
        self.inner().hold(number, file, PINNED);
    }

    /// Takes back [`Segments::add_unlisted`].
    pub fn forget_unlisted(&self, number: u32) {
        self.inner().open.remove(&number);
    }

    /// Tells the disk which frames will be read one by one: those that stand together come in one piece.
    pub fn will_read(&self, places: Vec<Place>) {
        for (segment, from, to) in pieces(places) {
            // Who cannot open it is told so when he reads.
            if let Ok(Some(file)) = self.file(segment) {
                file.will_read(from, to - from);
            }
        }
    }

    /// All of them, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Segment> {
        self.inner().by_start.values().cloned().collect()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.inner().by_start.len() as u64
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<Segment> {
        let inner = self.inner();
        inner.by_start.get(inner.start_of.get(&number)?).cloned()
    }

    /// A segment's file, opened if it is not; `None` when there is no such segment (any more).
    ///
    /// # Errors
    /// What the disk said.
    pub fn file(&self, number: u32) -> io::Result<Option<Arc<dyn File>>> {
        let name = {
            let mut inner = self.inner();
            let now = inner.used_now();
            if let Some((file, used)) = inner.open.get_mut(&number) {
                if *used != PINNED {
                    *used = now;
                }
                return Ok(Some(Arc::clone(file)));
            }
            let Some(segment) =
                inner.start_of.get(&number).and_then(|start| inner.by_start.get(start))
            else {
                return Ok(None);
            };
            segment.name.file_name()
        };
        let file = match self.env.disk.open(&self.env.wal_path(&name), Open::Read) {
            Ok(file) => file,
            // Compaction removed it since we looked.
            Err(e) if e.kind() == io::ErrorKind::NotFound && self.get(number).is_none() => {
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        // What a device reads ahead for one frame, mebibytes on some machines, holds up the next sync.
        file.read_singly();
        let mut inner = self.inner();
        if inner.start_of.contains_key(&number) {
            let used = inner.used_now();
            inner.hold(number, Arc::clone(&file), used);
        }
        Ok(Some(file))
    }
}

/// Pieces of segments (number, first byte, the one behind the last) in which frames stand together, two
/// of them or more.
fn pieces(mut places: Vec<Place>) -> Vec<(u32, u64, u64)> {
    places.sort_unstable_by_key(|place| (place.segment, place.offset));
    let mut pieces = Vec::new();
    let mut frames = 0;
    for place in places {
        let (from, to) =
            (u64::from(place.offset), u64::from(place.offset) + u64::from(place.bytes));
        if let Some((segment, first, end)) = pieces.last_mut()
            && *segment == place.segment
            && from.saturating_sub(*end) <= GAP_BYTES_MAX
            && to - *first <= PIECE_BYTES_MAX
        {
            *end = to.max(*end);
            frames += 1;
            continue;
        }
        if frames == 1 {
            pieces.pop();
        }
        pieces.push((place.segment, from, to));
        frames = 1;
    }
    if frames == 1 {
        pieces.pop();
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_stand_together_are_read_in_pieces_and_others_are_not_announced() {
        let place = |segment, offset, bytes| Place { segment, offset, bytes };
        let row = |frames: u32, bytes: u32| (0..frames).map(move |n| place(1, n * bytes, bytes));
        assert_eq!(pieces(Vec::new()), []);
        assert_eq!(pieces(vec![place(1, 8192, 100)]), []);
        assert_eq!(pieces(row(32, 1000).rev().collect()), [(1, 0, 32_000)]);
        let long: Vec<_> = pieces(row(256, 4000).collect());
        assert!(long.len() > 7 && long.iter().all(|(_, from, to)| to - from <= PIECE_BYTES_MAX));
        assert_eq!(long.iter().map(|(_, from, to)| to - from).sum::<u64>(), 1_024_000);
        // Far apart, in two segments, larger than a piece.
        let apart = vec![place(1, 0, 100), place(1, 900_000, 100), place(2, 900_100, 100)];
        assert_eq!(pieces(apart), []);
        assert_eq!(pieces(row(3, 200_000).collect()), []);
        let near = vec![place(2, 50, 10), place(1, 0, 10), place(2, 90, 10), place(3, 0, 10)];
        assert_eq!(pieces(near), [(2, 50, 100)]);
    }
}
