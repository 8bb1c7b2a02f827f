//! A look at a data directory: which files make up the log, and what stands in each.
//!
//! Changes nothing, so tools use it as well as recovery. Scanning is cut into tasks, one a
//! segment, that anyone may run anywhere; the driver runs them on threads.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::contents::{Contents, Room};
use super::env::Env;
use super::footer::Footer;
use super::frame::{HEADER_BYTES, HEADER_BYTES_U64, Header, Kind};
use super::head::Head;
use super::order::{self, Standing};
use super::plan::{FramePlace, LsnRange, Position, SegmentFacts, SpanFact};
use super::read::{HeaderRead, ReadHeader, SpanReader, piece_together, read_header};
use super::scan::{Scanner, Span};
use super::segment::{
    FORMAT_VERSION, FRAMES_START, FileName, Identity, LSN_MAX, SegmentHeader, SegmentName,
};
use super::tiling::{Tiling, tile};
use super::verdict::Seen;
use crate::disk::{Entry, File, Open, read_exact_at};
use crate::error::{Error, Result};
use crate::record;

/// How far recovery is; any thread may look.
#[derive(Debug, Default)]
pub struct RecoveryProgress {
    /// Bytes read so far.
    pub bytes_done: AtomicU64,
    /// Bytes to read.
    pub bytes_total: AtomicU64,
}

impl RecoveryProgress {
    /// Says how much there is to read.
    pub fn begin(&self, bytes: u64) {
        self.bytes_total.store(bytes, Ordering::Relaxed);
    }
}

/// What a directory holds.
#[derive(Debug, Default)]
pub struct Survey {
    /// The store's identity, unless the log is empty.
    pub identity: Option<Identity>,
    /// The segments that make up the log, in order of LSN.
    pub segments: Vec<Surveyed>,
    /// Files that a higher generation replaced.
    pub obsolete: Vec<SegmentName>,
    /// Obsolete only because their loss was accepted: they must be kept.
    pub returned: Vec<SegmentName>,
    /// Unfinished files of ours, spares included.
    pub temporary: Vec<String>,
    /// Files that are none of ours.
    pub foreign: Vec<String>,
    /// LSNs that no file holds.
    pub missing: Vec<LsnRange>,
}

/// One segment file of the log.
#[derive(Debug, Clone)]
pub struct Surveyed {
    /// Its name.
    pub name: SegmentName,
    /// Its header.
    pub header: ReadHeader,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Where it stands.
    pub position: Position,
    /// Its open file; `None` where a log has more of them than are held open.
    pub held: Option<Arc<dyn File>>,
}

impl Surveyed {
    /// Its file.
    ///
    /// # Errors
    /// What the disk said.
    pub fn file(&self, env: &Env) -> io::Result<Arc<dyn File>> {
        open_unless_held(env, self.name, self.held.as_ref())
    }
}

fn open_unless_held(
    env: &Env,
    name: SegmentName,
    held: Option<&Arc<dyn File>>,
) -> io::Result<Arc<dyn File>> {
    let open = || env.disk.open(&env.wal_path(&name.file_name()), Open::Read);
    held.map_or_else(open, |file| Ok(Arc::clone(file)))
}

impl Survey {
    /// Looks at a data directory, and holds the files of at most so many segments open. Who looks at a log
    /// that a process serves holds all of them: compaction may remove their names meanwhile.
    ///
    /// # Errors
    /// A newer format, an unreadable header, or what the disk said.
    pub fn take(env: &Env, accepted: &[LsnRange], held_max: usize) -> Result<Self> {
        let mut survey = Self::default();
        let entries = match env.disk.list(&env.wal_dir()) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(survey),
            Err(e) => return Err(Error::io("list", env.wal_dir(), &e)),
        };
        let mut sizes = BTreeMap::new();
        let mut names = Vec::new();
        for Entry { name, bytes, is_dir } in entries {
            match FileName::parse(&name).filter(|_| !is_dir) {
                Some(FileName::Segment(segment)) => {
                    sizes.insert(segment.file_name(), bytes);
                    names.push(segment);
                }
                Some(FileName::Spare | FileName::Temporary) => survey.temporary.push(name),
                Some(FileName::Ballast | FileName::Head) => {}
                None => survey.foreign.push(name),
            }
        }
        let mut read = Vec::new();
        let held_from = names.len().saturating_sub(held_max);
        for (at, name) in names.into_iter().enumerate() {
            let bytes = sizes.get(&name.file_name()).copied().unwrap_or(0);
            let mut opened = open_segment(env, name, bytes, accepted)?;
            opened.held = opened.held.filter(|_| at >= held_from);
            read.push((name, opened));
        }
        survey.keep_own(env, read, accepted, Head::read(env))?;
        Ok(survey)
    }

    /// Sorts the files into the log's, obsolete ones and foreign ones.
    fn keep_own(
        &mut self,
        env: &Env,
        read: Vec<(SegmentName, Opened)>,
        accepted: &[LsnRange],
        head: Option<Head>,
    ) -> Result<()> {
        self.identity = common_identity(&read);
        let mut own = BTreeMap::new();
        for (name, opened) in read {
            let foreign = opened.header.is_some_and(|h| Some(h.header.identity) != self.identity);
            if foreign {
                self.foreign.push(name.file_name());
            } else {
                // By its name alone it could take another's place, and have that one removed.
                if let Some(says) = opened.header.map(|h| h.header.name()).filter(|n| *n != name) {
                    return Err(Error::Misnamed { path: opened.path, says: says.file_name() });
                }
                own.insert(name.file_name(), opened);
            }
        }
        let names = own.keys().filter_map(|file| match FileName::parse(file) {
            Some(FileName::Segment(name)) => Some(name),
            _ => None,
        });
        let Tiling { current, obsolete, missing } = tile(names.collect());
        self.missing = missing;
        let covers = |name: &SegmentName, lsn| {
            name.start >= lsn || name.rewritten.is_some_and(|(end, _)| end >= lsn)
        };
        let gone = head.filter(|head| !current.last().is_some_and(|name| covers(name, head.start)));
        // What follows the last file that is here.
        let after = gone.map(|head| match current.last() {
            None => 1,
            Some(name) => name.rewritten.map_or(head.start, |(end, _)| end + 1),
        });
        if let (Some(head), Some(first)) = (gone, after) {
            self.missing.push((first, head.last_possible));
        }
        let lost: Vec<LsnRange> = current
            .iter()
            .filter_map(|name| Some((name, own.get(&name.file_name())?.header?)))
            .filter(|(_, read)| read.header.accepted_loss)
            .filter_map(|(name, _)| Some((name.start, name.rewritten?.0)))
            .collect();
        for name in obsolete {
            if lost.iter().any(|&(first, last)| (first..=last).contains(&name.start)) {
                self.returned.push(name);
            } else {
                self.obsolete.push(name);
            }
        }
        let headers: Vec<Option<SegmentHeader>> = current
            .iter()
            .map(|name| own.get(&name.file_name()).and_then(|o| o.header).map(|r| r.header))
            .collect();
        for (at, name) in current.iter().enumerate() {
            let Some(opened) = own.remove(&name.file_name()) else { continue };
            let position = match current.get(at + 1) {
                // The segment that followed is gone: this one does not hold the log's end.
                None if after.is_some() => {
                    Position::Followed { next_start: after.unwrap_or(0), cut: None }
                }
                None => Position::Last,
                Some(next) => Position::Followed {
                    next_start: next.start,
                    cut: headers.get(at + 1).copied().flatten().and_then(SegmentHeader::cut_from),
                },
            };
            self.add_segment(env, *name, opened, position, accepted)?;
        }
        Ok(())
    }

    fn add_segment(
        &mut self,
        env: &Env,
        name: SegmentName,
        opened: Opened,
        position: Position,
        accepted: &[LsnRange],
    ) -> Result<()> {
        let Opened { held, file_bytes, mut header, unreadable, path } = opened;
        if header.is_none()
            && let Some(identity) = self.identity
        {
            let file = open_unless_held(env, name, held.as_ref());
            let file = file.map_err(|e| Error::io("open", path.clone(), &e))?;
            let pieced = piece_together(file.as_ref(), name, identity);
            // What the device does not give now may come back, and say more.
            let (bad, unreadable) = ([!unreadable; 2], [unreadable; 2]);
            let as_read = |header| ReadHeader { header, bad, unreadable };
            header = pieced.map(as_read);
        }
        let Some(header) = header else {
            let last = last_possible(name, position, file_bytes);
            if covers(accepted, (name.start, last)) {
                self.returned.push(name);
                self.missing.push((name.start, last));
                return Ok(());
            }
            let why = format!(
                "both copies of the header of {} are damaged, and with them what its frames are \
                 checked by",
                path.display()
            );
            return Err(Error::Missing { first: name.start, last, why });
        };
        self.segments.push(Surveyed { name, header, file_bytes, position, held });
        Ok(())
    }

    /// Bytes that a scan will read.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.file_bytes).sum()
    }
}

/// Whether an accepted loss covers all of a range.
#[must_use]
pub fn covers(accepted: &[LsnRange], (first, last): LsnRange) -> bool {
    accepted.iter().any(|&(from, to)| from <= first && last <= to)
}

#[derive(Debug)]
struct Opened {
    held: Option<Arc<dyn File>>,
    file_bytes: u64,
    header: Option<ReadHeader>,
    /// Without one: the device does not give it.
    unreadable: bool,
    path: PathBuf,
}

fn open_segment(
    env: &Env,
    name: SegmentName,
    file_bytes: u64,
    accepted: &[LsnRange],
) -> Result<Opened> {
    let path = env.wal_path(&name.file_name());
    let file = env.disk.open(&path, Open::Read).map_err(|e| Error::io("open", path.clone(), &e))?;
    let mut unreadable = false;
    let header = match read_header(file.as_ref()) {
        Ok(HeaderRead::Good(read)) => {
            if read.unreadable.contains(&true) {
                tracing::warn!(
                    file = %path.display(),
                    "the device does not give one copy of this segment's header; the other one \
                     serves; check the disk"
                );
            }
            Some(read)
        }
        Ok(HeaderRead::Bad) => None,
        Ok(HeaderRead::TooNew(found)) => {
            return Err(Error::FormatTooNew { path, found, known: FORMAT_VERSION });
        }
        Err(_) if covers(accepted, (name.start, name.start)) => {
            unreadable = true;
            None
        }
        Err(e) => {
            let (first, last) = (name.start, last_possible(name, Position::Last, file_bytes));
            return Err(Error::Unreadable { path, offset: 0, first, last, cause: e.to_string() });
        }
    };
    Ok(Opened { held: Some(file), file_bytes, header, unreadable, path })
}

/// The highest LSN that a segment may hold, when its contents cannot tell.
fn last_possible(name: SegmentName, position: Position, file_bytes: u64) -> u64 {
    match (name.rewritten, position) {
        (Some((end, _)), _) => end,
        (None, Position::Followed { next_start, .. }) => next_start - 1,
        (None, Position::Last) => name.start + file_bytes / HEADER_BYTES_U64,
    }
}

/// The identity that most segments have; among equals, the one of the lowest LSN.
fn common_identity(read: &[(SegmentName, Opened)]) -> Option<Identity> {
    let mut counts: Vec<(Identity, usize)> = Vec::new();
    for identity in read.iter().filter_map(|(_, o)| Some(o.header?.header.identity)) {
        match counts.iter_mut().find(|(known, _)| *known == identity) {
            Some((_, count)) => *count += 1,
            None => counts.push((identity, 1)),
        }
    }
    let most = counts.iter().map(|&(_, count)| count).max()?;
    counts.into_iter().find(|&(_, count)| count == most).map(|(identity, _)| identity)
}

/// Reads one segment. What it sees goes into `facts`, what the frames say into `contents`.
///
/// # Errors
/// [`Error::Unreadable`] where the device fails, unless `tolerant`.
pub fn scan(
    env: &Env,
    segment: &Surveyed,
    tolerant: bool,
    progress: &RecoveryProgress,
    room: Room,
) -> Result<(SegmentFacts, Contents)> {
    let file = segment.file(env);
    let file = file.map_err(|e| Error::io("open", env.wal_path(&segment.name.file_name()), &e))?;
    let scan = |misplaced, room| {
        scan_without(env, segment, Arc::clone(&file), tolerant, progress, misplaced, room)
    };
    let scanned = scan(Vec::new(), room);
    let (mut facts, contents, strays) = scanned?;
    let footer = facts.footer.as_ref().map(|(offset, _)| *offset);
    let early = footer.filter(|_| ends_in_another_footer(&facts, segment, &file));
    let of_range = |stray: &&Standing| stray.lsn <= last_lsn(segment);
    if early.is_none() && strays.iter().find(of_range).is_none() {
        tell_only_copies(&mut facts, &strays, segment, file.as_ref());
        return Ok((facts, contents));
    }
    // A write to the wrong place: a frame that is whole and stands before others of lower LSN would
    // cost all of these, and so would a footer. Most frames are right, so the fewest that disagree
    // with the rest go.
    let of =
        |frame: &FramePlace| Standing { offset: frame.offset, end: frame.end(), lsn: frame.lsn };
    let all = facts.frames.iter().map(of).chain(strays.iter().filter(of_range).copied());
    let ends = footer.filter(|_| early.is_none());
    let all: Vec<Standing> = all.collect();
    let mut misplaced = order::misplaced(all.clone(), FRAMES_START, ends);
    let (too_early, others): (Vec<Standing>, Vec<Standing>) =
        all.into_iter().partition(|frame| is_too_early(frame, segment));
    let mut fitting = order::misplaced(others, FRAMES_START, ends);
    fitting.extend(too_early.iter().map(|frame| frame.offset));
    if fitting.len() <= misplaced.len() {
        misplaced = fitting;
    }
    misplaced.sort_unstable();
    let strays_of_range = strays.iter().filter(of_range).map(|stray| stray.offset);
    if early.is_none() && misplaced.iter().copied().eq(strays_of_range) {
        tell_only_copies(&mut facts, &strays, segment, file.as_ref());
        return Ok((SegmentFacts { misplaced, ..facts }, contents));
    }
    misplaced.extend(early);
    misplaced.sort_unstable();
    let room = Room::of(contents, facts.frames);
    let (mut facts, contents, strays) = scan(misplaced.clone(), room)?;
    tell_only_copies(&mut facts, &strays, segment, file.as_ref());
    Ok((SegmentFacts { misplaced, ..facts }, contents))
}

/// Whether a frame stands where those before it have no room: a segment that was not rewritten had
/// a frame for each LSN.
fn is_too_early(frame: &Standing, segment: &Surveyed) -> bool {
    let SegmentHeader { start, skipped: (first, last), .. } = segment.header.header;
    let skipped =
        if first == 0 { 0 } else { last.saturating_add(1).min(frame.lsn).saturating_sub(first) };
    let before = frame.lsn.saturating_sub(start).saturating_sub(skipped);
    let earliest = FRAMES_START.saturating_add(before.saturating_mul(HEADER_BYTES_U64));
    segment.name.rewritten.is_none() && frame.offset < earliest
}

/// The highest LSN that a frame of a segment may have.
fn last_lsn(segment: &Surveyed) -> u64 {
    segment.name.rewritten.map_or(segment.position.last_lsn_allowed(), |(end, _)| end)
}

/// Of frames that stand in a wrong place, tells those apart that stand nowhere else.
fn tell_only_copies(
    facts: &mut SegmentFacts,
    strays: &[Standing],
    segment: &Surveyed,
    file: &dyn File,
) {
    let mut told = BTreeSet::new();
    let (last_lsn, last) = (last_lsn(segment), facts.frames.last().map_or(0, |frame| frame.offset));
    // What a cut left behind the last frame was written again in the next segment.
    for stray in strays.iter().filter(|stray| stray.lsn <= last_lsn || stray.offset < last) {
        let elsewhere = facts.frames.binary_search_by_key(&stray.lsn, |frame| frame.lsn).is_ok();
        if elsewhere || !told.insert(stray.lsn) {
            continue;
        }
        let mut header = [0; HEADER_BYTES];
        let read = read_exact_at(file, &mut header, stray.offset);
        let header = read.ok().and_then(|()| Header::decode(&header));
        let at = facts.odd.binary_search_by_key(&stray.offset, |span| span.offset);
        if let Some(span) = at.ok().and_then(|at| facts.odd.get_mut(at))
            && let Some(header) = header.filter(|header| header.kind.is_change())
        {
            (span.seen, span.header) = (Seen::Misplaced, Some(header));
        }
    }
}

/// Whether the file goes on behind its footer and ends in another one: it was given the length of
/// that one, so the first is a copy in a wrong place.
fn ends_in_another_footer(facts: &SegmentFacts, segment: &Surveyed, file: &Arc<dyn File>) -> bool {
    if facts.sealed_end >= segment.file_bytes {
        return false;
    }
    let SegmentHeader { salt, start, .. } = facts.header;
    let scanner = Scanner::new(salt, start, LSN_MAX, facts.sealed_end);
    let mut reader = SpanReader::new(Arc::clone(file), segment.file_bytes, scanner, true);
    while let Ok(Some(item)) = reader.next_span() {
        if let Span::Frame(header) = item.span
            && header.kind == Kind::FOOTER
        {
            return item.offset + header.frame_bytes() == segment.file_bytes;
        }
    }
    false
}

/// Reads one segment without the frames at some offsets. Gives what stands out of its place,
/// too.
fn scan_without(
    env: &Env,
    segment: &Surveyed,
    file: Arc<dyn File>,
    tolerant: bool,
    progress: &RecoveryProgress,
    misplaced: Vec<u64>,
    room: Room,
) -> Result<(SegmentFacts, Contents, Vec<Standing>)> {
    let Room { mut contents, frames } = room;
    let mut strays = Vec::new();
    let header = segment.header.header;
    let last = last_lsn(segment);
    let scanner = Scanner::new(header.salt, header.start, last, FRAMES_START).without(misplaced);
    let mut reader = SpanReader::new(file, segment.file_bytes, scanner, tolerant);
    let mut facts = SegmentFacts {
        name: segment.name,
        header,
        file_bytes: segment.file_bytes,
        odd: Vec::new(),
        frames,
        footer: None,
        sealed_end: 0,
        synced: header.synced.max(header.start.saturating_sub(1)),
        unreadable: Vec::new(),
        misplaced: Vec::new(),
        stray_lsn: 0,
    };
    let mut reported = 0;
    loop {
        let item = match reader.next_span() {
            Ok(Some(item)) => item,
            Ok(None) => break,
            Err(e) => {
                // Behind the last LSN that it may hold there is a footer: that LSN stands for it.
                let before = facts.frames.last().map_or(header.start, |f| (f.lsn + 1).min(last));
                return Err(Error::Unreadable {
                    path: env.wal_path(&segment.name.file_name()),
                    offset: e.offset,
                    first: before,
                    last: last.min(before.max(facts.synced)),
                    cause: e.cause.to_string(),
                });
            }
        };
        let offset = item.offset;
        match item.span {
            Span::Frame(frame) => add_frame(&mut facts, &mut contents, offset, frame, item.payload),
            Span::Bad { bytes, header } => {
                facts.odd.push(SpanFact { offset, bytes, seen: Seen::Bad, header });
            }
            Span::Stale { bytes, header } => {
                // What it says of others holds wherever it stands.
                facts.synced = facts.synced.max(header.map_or(0, |header| header.synced));
                let stray = header.filter(|header| header.kind != Kind::FOOTER);
                let standing = |lsn| Standing { offset, end: offset + bytes, lsn };
                strays.extend(stray.map(|header| standing(header.lsn)));
                facts.stray_lsn = facts.stray_lsn.max(stray.map_or(0, |header| header.lsn));
                facts.odd.push(SpanFact { offset, bytes, seen: Seen::Stale, header: None });
            }
            Span::End => {}
        }
        let done = reader.offset();
        if done - reported > 1 << 20 {
            progress.bytes_done.fetch_add(done - reported, Ordering::Relaxed);
            reported = done;
        }
    }
    progress.bytes_done.fetch_add(segment.file_bytes.saturating_sub(reported), Ordering::Relaxed);
    facts.unreadable = reader.unreadable;
    note_unreadable_end(&mut facts, segment.position);
    Ok((facts, contents, strays))
}

/// Blocks that the device did not give read as zeros; behind the last frame they would pass for
/// the end of the log.
fn note_unreadable_end(facts: &mut SegmentFacts, position: Position) {
    if position != Position::Last || facts.footer.is_some() {
        return;
    }
    let end = facts.frames.last().map_or(FRAMES_START, |f| f.offset + u64::from(f.bytes));
    let seen = Seen::DeviceError;
    for &(offset, bytes) in facts.unreadable.iter().filter(|&&(at, bytes)| at + bytes > end) {
        let start = offset.max(end);
        let covered = facts.odd.iter().any(|span| span.offset <= start && start < span.end());
        if !covered {
            let bytes = offset + bytes - start;
            facts.odd.push(SpanFact { offset: start, bytes, seen, header: None });
        }
    }
    facts.odd.sort_by_key(|span| span.offset);
}

fn add_frame(
    facts: &mut SegmentFacts,
    contents: &mut Contents,
    offset: u64,
    frame: Header,
    payload: &[u8],
) {
    facts.synced = facts.synced.max(frame.synced);
    let bytes = frame.frame_bytes();
    if frame.kind == Kind::FOOTER {
        let complete = |footer: &Footer| {
            // All frames are here, but one is not the frame that was sealed: misdirected writes.
            footer.frames.len() != facts.frames.len() || footer.digest == contents.digest
        };
        if let Some(footer) = Footer::decode(payload).filter(complete) {
            facts.footer = Some((offset, footer));
            facts.sealed_end = offset + bytes;
        } else {
            let seen = Seen::Bad;
            facts.odd.push(SpanFact { offset, bytes, seen, header: Some(frame) });
        }
        return;
    }
    let record = record::decode(&frame, payload);
    if record.is_none() {
        let seen = Seen::Frame { decodable: false };
        facts.odd.push(SpanFact { offset, bytes, seen, header: Some(frame) });
    }
    facts.frames.push(FramePlace {
        lsn: frame.lsn,
        offset,
        bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
        kind: frame.kind,
        complete_mark: frame.kind == Kind::MARK && frame.synced + 1 == frame.lsn,
    });
    contents.add(frame, offset, record.as_ref());
}
