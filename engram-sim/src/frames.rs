//! The log as bytes, read by nothing but its format: a second pair of eyes beside the engine's.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use engram_core::record::{self, Record};
use engram_core::storage::wal::footer::{Footer, Listed};
use engram_core::storage::wal::frame::{self, HEADER_BYTES, Header, Kind, MAGIC};
use engram_core::storage::wal::recover::lost_header;
use engram_core::storage::wal::segment::{
    FRAMES_START, FileName, HEADER_COPY_BYTES, HEADER_OFFSETS, HeaderCopy, SegmentHeader,
    SegmentName,
};
use engram_core::storage::wal::tiling::tile;

use crate::disk::state::Image;

/// Where the stores of simulations are.
pub const DIR: &str = "/data";

/// A frame whose two checksums are right.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Its file.
    pub path: PathBuf,
    /// Where it begins.
    pub offset: usize,
    /// Its header.
    pub header: Header,
    /// Its payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Its bytes, header and all.
    #[must_use]
    pub fn bytes(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }

    /// Whether two frames say the same, wherever they stand.
    #[must_use]
    pub fn same_record(&self, other: &Self) -> bool {
        let (a, b) = (&self.header, &other.header);
        (a.lsn, a.kind, a.codec, a.schema) == (b.lsn, b.kind, b.codec, b.schema)
            && (a.key, a.space_key) == (b.key, b.space_key)
            && self.payload == other.payload
    }

    /// Whether it is a change, not a mark.
    #[must_use]
    pub fn is_change(&self) -> bool {
        self.header.kind != Kind::MARK
    }

    /// What it says, if this version understands it.
    #[must_use]
    pub fn record(&self) -> Option<Record<'_>> {
        record::decode(&self.header, &self.payload)
    }
}

impl Segment {
    /// The highest LSN that some valid frame, or the header, says was synced.
    #[must_use]
    pub fn horizon(&self) -> u64 {
        self.header.map_or(0, |header| header.synced).max(self.seen_synced)
    }

    /// Where the torn tail begins, if this is the last segment: the first bad bytes that could
    /// hold only what nobody was told is durable.
    #[must_use]
    pub fn tail_start(&self) -> Option<usize> {
        let horizon = self.horizon();
        let beyond = |&&at: &&usize| {
            let before = self.frames.iter().rev().find(|frame| frame.offset < at);
            let next = before.map_or(self.name.start, |frame| frame.header.lsn + 1);
            let skipped = self.header.filter(|header| header.skips(next));
            skipped.map_or(next, |header| header.skipped.1 + 1) > horizon
        };
        self.bad.iter().filter(|_| !self.sealed).find(beyond).copied()
    }
}

/// One segment file.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Its path.
    pub path: PathBuf,
    /// Its name.
    pub name: SegmentName,
    /// Its header, if a copy is right.
    pub header: Option<SegmentHeader>,
    /// Its valid frames, footers left out.
    pub frames: Vec<Frame>,
    /// Valid frames in a wrong place that stand nowhere else.
    pub strays: Vec<Frame>,
    /// The highest LSN that some valid frame says was synced, wherever it stands.
    pub seen_synced: u64,
    /// Headers of frames that are lost, as a footer lists them or where only a payload was hit.
    pub ghosts: Vec<(usize, Header)>,
    /// Whether it ends in a footer that is right.
    pub sealed: bool,
    /// Where runs of bytes begin that are neither frames nor the zeros at the end.
    pub bad: Vec<usize>,
}

/// The segments that make up the log, in order.
#[must_use]
pub fn segments(image: &Image) -> Vec<Segment> {
    let wal = Path::new(DIR).join("wal");
    let mut names = Vec::new();
    for path in image.keys().filter(|path| path.parent() == Some(&wal)) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(FileName::Segment(name)) = FileName::parse(name) {
            names.push(name);
        }
    }
    let current = tile(names).current;
    // What a segment holds from the next one's first LSN on is of a cut tail.
    let ends = current.iter().skip(1).map(|next| next.start).chain([u64::MAX]);
    let files = current.iter().zip(ends);
    let mut all: Vec<Segment> =
        files.map(|(name, end)| segment(image, wal.join(name.file_name()), *name, end)).collect();
    let cuts: Vec<Option<u64>> =
        all.iter().skip(1).map(|next| next.header.and_then(SegmentHeader::cut_from)).collect();
    for (segment, from) in all.iter_mut().zip(cuts) {
        let from = from.unwrap_or(u64::MAX);
        segment.frames.retain(|frame| frame.header.lsn < from);
        segment.ghosts.retain(|(_, header)| header.lsn < from);
        if from < u64::MAX {
            // What stands behind the cut means nothing, wherever it came from.
            let end = segment.frames.last().map_or(0, |frame| frame.offset);
            segment.strays.retain(|frame| frame.header.lsn < from && frame.offset < end);
        }
    }
    all
}

/// All frames of the log, in order.
#[must_use]
pub fn frames(image: &Image) -> Vec<Frame> {
    segments(image).into_iter().flat_map(|segment| segment.frames).collect()
}

/// A segment's header, from a copy that is right. Frames begin at `start`.
fn header_of(bytes: &[u8], start: usize) -> Option<SegmentHeader> {
    let copies = HEADER_OFFSETS.into_iter().filter_map(|offset| {
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        match SegmentHeader::decode(bytes.get(at..at + HEADER_COPY_BYTES)?) {
            HeaderCopy::Good(header) => Some(header),
            _ => None,
        }
    });
    let copies: Vec<SegmentHeader> = copies.collect();
    // Where the copies differ, the first frame says which of them is of this life of the file.
    let first = bytes.get(start..).and_then(Header::decode);
    let of_this_life = |header: &&SegmentHeader| Some(header.salt) == first.map(|first| first.salt);
    copies.iter().find(of_this_life).or(copies.first()).copied()
}

fn segment(image: &Image, path: PathBuf, name: SegmentName, end: u64) -> Segment {
    let bytes = image.get(&path).map(crate::disk::bytes::Bytes::to_vec).unwrap_or_default();
    let start = usize::try_from(FRAMES_START).unwrap_or(usize::MAX);
    let header = header_of(&bytes, start);
    let salt = header.map(|header| header.salt).or_else(|| {
        // The first frame tells it too.
        Header::decode(bytes.get(start..)?).map(|header| header.salt)
    });
    let mut found = Segment {
        path,
        name,
        header,
        frames: Vec::new(),
        strays: Vec::new(),
        seen_synced: 0,
        ghosts: Vec::new(),
        sealed: false,
        bad: Vec::new(),
    };
    let Some(salt) = salt else { return found };
    let mut at = start;
    let mut in_bad = false;
    let mut listed = Vec::new();
    let mut end_at = None;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let whole = Header::decode(rest).filter(|header| header.salt == salt).and_then(|header| {
            let payload = rest.get(HEADER_BYTES..HEADER_BYTES + header.length as usize)?;
            let in_place = header.kind != Kind::FOOTER || ends_here(payload, at);
            let right = frame::crc(payload) == header.payload_crc;
            (right && in_place && header.lsn >= name.start.saturating_sub(1))
                .then(|| (header, payload.to_vec()))
        });
        let Some((header, payload)) = whole else {
            if rest.iter().all(|&byte| byte == 0) {
                break;
            }
            if let Some(header) = Header::decode(rest).filter(|header| header.salt == salt) {
                let whole = rest.get(HEADER_BYTES..HEADER_BYTES + header.length as usize);
                if whole.is_some_and(|payload| frame::crc(payload) == header.payload_crc) {
                    // A footer in a wrong place.
                    found.seen_synced = found.seen_synced.max(header.synced);
                }
                found.ghosts.push((at, header));
            }
            if !std::mem::replace(&mut in_bad, true) {
                found.bad.push(at);
            }
            match memchr::memmem::find(&rest[1..], &MAGIC) {
                Some(next) => at += 1 + next,
                None => break,
            }
            continue;
        };
        if header.kind == Kind::FOOTER {
            let footer = Footer::decode(&payload);
            found.sealed = footer.is_some();
            end_at = Some(at);
            listed = footer.map(|footer| footer.frames).unwrap_or_default();
            break;
        }
        in_bad = false;
        let path = found.path.clone();
        let bytes = HEADER_BYTES + payload.len();
        found.frames.push(Frame { path, offset: at, header, payload });
        at += bytes;
    }
    let synced = found.frames.iter().map(|frame| frame.header.synced);
    found.seen_synced = synced.fold(found.seen_synced, u64::max);
    found.frames.retain(|frame| frame.header.lsn < end);
    let orderly = found.frames.windows(2).all(|two| two[0].header.lsn < two[1].header.lsn);
    if !orderly {
        found.strays.clone_from(&found.frames);
        let fits = |frame: &Frame| {
            let lsn = frame.header.lsn;
            let skips = |lsn: &u64| found.header.is_some_and(|header| header.skips(*lsn));
            let before = (name.start..lsn).filter(|lsn| !skips(lsn)).count();
            name.rewritten.is_some() || frame.offset >= start + before * HEADER_BYTES
        };
        let fitting = found.frames.iter().filter(|frame| fits(frame)).cloned().collect();
        let fitting = rising(fitting, start, end_at);
        let frames = rising(found.frames, start, end_at);
        found.frames = if fitting.len() >= frames.len() { fitting } else { frames };
    }
    let there: BTreeSet<u64> = found.frames.iter().map(|frame| frame.header.lsn).collect();
    found.strays.retain(|frame| frame.is_change() && !there.contains(&frame.header.lsn));
    // What was synced once is no tail, wherever it stands now; the rest is, where there is one.
    let horizon = found.horizon();
    let place = |lsn: u64, at: usize| if lsn <= horizon { 0 } else { at };
    let unlisted = found.ghosts.drain(..).filter(|(_, header)| header.kind != Kind::FOOTER);
    let unlisted = unlisted.map(|(at, header)| (place(header.lsn, at), header));
    let strays = found.strays.iter().map(|f| (place(f.header.lsn, usize::MAX), f.header));
    let listed = listed.into_iter().map(|Listed { offset, lsn, kind, key }| {
        (usize::try_from(offset).unwrap_or(usize::MAX), lost_header(kind, lsn, key))
    });
    let mut ghosts: Vec<(usize, Header)> = unlisted.chain(strays).chain(listed).collect();
    ghosts.retain(|(_, header)| header.lsn < end && !there.contains(&header.lsn));
    found.ghosts = ghosts;
    found
}

/// Whether a footer lists no frame behind itself.
fn ends_here(payload: &[u8], at: usize) -> bool {
    let last = Footer::decode(payload).and_then(|footer| Some(footer.frames.last()?.offset));
    last.is_none_or(|last| last < at as u64)
}

/// The most of these frames whose LSNs rise: those that are left out stand in a wrong place. Of
/// two that say the same, the one with more neighbours is taken for the first.
fn rising(mut frames: Vec<Frame>, start: usize, end: Option<usize>) -> Vec<Frame> {
    let places: Vec<(usize, usize, u64)> =
        frames.iter().map(|f| (f.offset, f.offset + f.bytes(), f.header.lsn)).collect();
    let neighbours = |&(from, to, _): &(usize, usize, u64)| {
        let before = from == start || places.iter().any(|place| place.1 == from);
        let behind = end == Some(to) || places.iter().any(|place| place.0 == to);
        usize::from(before) + usize::from(behind)
    };
    let beaten = |place: &(usize, usize, u64)| {
        places.iter().any(|other| {
            let (own, theirs) = (neighbours(place), neighbours(other));
            other.2 == place.2 && theirs > own
        })
    };
    let beaten: Vec<usize> = places.iter().filter(|p| beaten(p)).map(|place| place.0).collect();
    frames.retain(|frame| !beaten.contains(&frame.offset));
    let mut chains: Vec<(usize, Option<usize>)> = Vec::new();
    for (at, frame) in frames.iter().enumerate() {
        let lower = (0..at).rev().filter(|&other| frames[other].header.lsn < frame.header.lsn);
        let before = lower.max_by_key(|&other| chains[other].0);
        chains.push((before.map_or(1, |other| chains[other].0 + 1), before));
    }
    let longest = chains.iter().map(|chain| chain.0).max();
    let mut next = chains.iter().position(|chain| Some(chain.0) == longest);
    let mut kept = BTreeSet::new();
    while let Some(at) = next {
        kept.insert(at);
        next = chains[at].1;
    }
    let numbered = frames.into_iter().enumerate();
    numbered.filter(|(at, _)| kept.contains(at)).map(|(_, frame)| frame).collect()
}
