//! From spans and verdicts to a plan: which files count, what is lost, where the log is cut.
//!
//! Pure: the effects are [`super::recover`]'s. Deliberately absent: reading, writing, logging.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use super::footer::{Footer, Listed};
use super::frame::{HEADER_BYTES_U64, Header, Kind};
use super::losses::name_losses;
use super::segment::{LSN_MAX, SegmentHeader, SegmentName};
use super::verdict::{Place, Seen, Verdict, verdict};
use crate::sim::{Broken, broken};

/// An inclusive range of LSNs.
pub type LsnRange = (u64, u64);

/// One span of a segment, as scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanFact {
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
    /// What it is.
    pub seen: Seen,
    /// Its header, where one could be read.
    pub header: Option<Header>,
}

impl SpanFact {
    /// One past its last byte.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.bytes)
    }
}

/// What a scan saw in one segment, beside the contents of its frames.
#[derive(Debug, Clone)]
pub struct SegmentFacts {
    /// Its name.
    pub name: SegmentName,
    /// Its header.
    pub header: SegmentHeader,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Spans that are no plain frames (bad, stale, undecodable), in order.
    pub odd: Vec<SpanFact>,
    /// LSN of each valid frame and where it begins and ends, in order.
    pub frames: Vec<FramePlace>,
    /// The footer and where its frame begins, when there is an intact one.
    pub footer: Option<(u64, Footer)>,
    /// One past the footer's last byte, 0 without one.
    pub sealed_end: u64,
    /// The highest H of its frames and header.
    pub synced: u64,
    /// Bytes that the device did not give.
    pub unreadable: Vec<(u64, u64)>,
    /// Where whole frames of this segment stand that belong elsewhere in it.
    pub misplaced: Vec<u64>,
    /// The highest LSN of a whole frame of this segment that stands out of its place.
    pub stray_lsn: u64,
}

/// Where a valid frame stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FramePlace {
    /// Its LSN.
    pub lsn: u64,
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub bytes: u32,
    /// Its kind.
    pub kind: Kind,
    /// Whether it is a mark that says all before it was synced.
    pub complete_mark: bool,
}

impl FramePlace {
    /// One past its last byte.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(u64::from(self.bytes))
    }
}

/// A run of bad bytes that recovery sets aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The first byte.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
    /// The LSNs that were there.
    pub lsns: Vec<LsnRange>,
    /// The records that were there, where something tells.
    pub listed: Vec<Listed>,
    /// How many changes were lost.
    pub entries: u64,
    /// LSNs of intact episodes in it, which stand in a wrong place.
    pub intact: Vec<u64>,
}

impl Loss {
    /// A run of bytes that nothing is known of yet.
    #[must_use]
    pub fn of(offset: u64, bytes: u64) -> Self {
        let (lsns, listed, intact) = (Vec::new(), Vec::new(), Vec::new());
        Self { offset, bytes, lsns, listed, entries: 0, intact }
    }

    /// One past its last byte.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.bytes)
    }
}

/// What recovery decides about one segment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judgement {
    /// Damage, a run each.
    pub damaged: Vec<Loss>,
    /// Everything from here to `tail_end` is an unfinished tail.
    pub tail_start: Option<u64>,
    /// One past the tail's last byte that is not zero.
    pub tail_end: u64,
    /// LSNs of intact frames in the tail.
    pub tail_lsns: Vec<u64>,
    /// Of a segment that was cut: where the tail still stands, its first byte and the one behind
    /// its last.
    pub cut_tail: Option<(u64, u64)>,
    /// Spans of another life.
    pub stale: u64,
    /// The footer is missing though the segment is finished.
    pub unsealed: bool,
    /// The last LSN of the segment's range.
    pub end: u64,
}

/// Where the segment stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// Another segment follows: its first LSN, and from which LSN on it says that this one was cut.
    Followed {
        /// The next segment's first LSN.
        next_start: u64,
        /// What would follow here from this LSN on was set aside as a tail.
        cut: Option<u64>,
    },
    /// The last one.
    Last,
}

impl Position {
    /// The highest LSN that a frame of the segment may have.
    #[must_use]
    pub fn last_lsn_allowed(self) -> u64 {
        match self {
            // Where the file must stay whose first frame was of the tail, the cut begins before what follows.
            Self::Followed { next_start, cut } => {
                next_start.min(cut.unwrap_or(next_start)).saturating_sub(1)
            }
            Self::Last => LSN_MAX,
        }
    }
}

/// Judges a scanned segment.
#[must_use]
pub fn judge(facts: &SegmentFacts, position: Position) -> Judgement {
    let active = position == Position::Last && facts.footer.is_none();
    let mut judgement = Judgement { end: range_end(facts, position), ..Judgement::default() };
    let mut in_tail = false;
    for span in &facts.odd {
        let before = last_before(facts, span.offset);
        let expected = next_lsn(facts, before);
        if ends_a_cut(position, expected) {
            let start = judgement.cut_tail.map(|(start, _)| start);
            let is_kept = matches!(span.seen, Seen::Bad | Seen::Misplaced);
            let start = start.or(is_kept.then_some(span.offset));
            judgement.cut_tail = start.map(|start| (start, span.end()));
            continue;
        }
        let place = Place { active, beyond_synced: expected > facts.synced, in_tail };
        match verdict(span.seen, place) {
            Verdict::Tail => {
                in_tail = true;
                judgement.tail_start.get_or_insert(span.offset);
                judgement.tail_end = judgement.tail_end.max(span.end());
                let intact = span.header.filter(|_| span.seen == Seen::Misplaced);
                judgement.tail_lsns.extend(intact.map(|header| header.lsn));
            }
            Verdict::Damaged | Verdict::Unreadable => add_damage(&mut judgement.damaged, span),
            Verdict::Stale => judgement.stale = judgement.stale.saturating_add(1),
            _ => {}
        }
    }
    if let Some(start) = judgement.tail_start {
        let tail = facts.frames.iter().filter(|frame| frame.offset >= start);
        for frame in tail {
            judgement.tail_lsns.push(frame.lsn);
            judgement.tail_end = judgement.tail_end.max(frame.end());
        }
    }
    name_losses(facts, position, &mut judgement);
    judgement.unsealed = position != Position::Last && facts.footer.is_none();
    judgement
}

/// The run of damage that no frame follows, if that is how the segment ends.
fn ends_in_damage<'a>(frames: &[FramePlace], judgement: &'a Judgement) -> Option<&'a Loss> {
    let last = judgement.damaged.last().filter(|loss| loss.bytes > 0);
    last.filter(|loss| frames.last().is_none_or(|frame| frame.offset < loss.offset))
}

/// Whether bytes of a cut segment that begin with `expected` are of its tail.
fn ends_a_cut(position: Position, expected: u64) -> bool {
    matches!(position, Position::Followed { cut: Some(from), .. } if expected >= from)
}

/// Where the frame ends behind which a run without bytes stood, if it stood behind one.
fn end_before(frames: &[FramePlace], loss: &Loss) -> u64 {
    let last = loss.lsns.last().map_or(0, |&(_, last)| last);
    let at = frames.binary_search_by_key(&loss.offset, |frame| frame.offset);
    let before = at.ok().and_then(|at| frames.get(at)).filter(|frame| frame.lsn < last);
    before.map_or(0, FramePlace::end)
}

/// Adds a span that is to be set aside, joining it to the run that it continues.
fn add_damage(damaged: &mut Vec<Loss>, span: &SpanFact) {
    match damaged.last_mut() {
        Some(last) if last.end() == span.offset => {
            last.bytes = last.bytes.saturating_add(span.bytes);
        }
        _ => damaged.push(Loss::of(span.offset, span.bytes)),
    }
    let intact = span.header.filter(|_| span.seen == Seen::Misplaced);
    let episode = intact.filter(|header| header.kind == Kind::REMEMBER);
    if let Some((header, run)) = episode.zip(damaged.last_mut()) {
        run.intact.push(header.lsn);
    }
}

/// The LSN of the last valid frame that begins before `offset`, or the one before the range.
pub(super) fn last_before(facts: &SegmentFacts, offset: u64) -> u64 {
    let at = facts.frames.partition_point(|frame| frame.offset < offset);
    let frame = at.checked_sub(1).and_then(|at| facts.frames.get(at));
    frame.map_or(facts.header.start.saturating_sub(1), |frame| frame.lsn)
}

/// The LSN that follows `lsn` in this segment, past those that its header skips.
#[must_use]
pub fn next_lsn(facts: &SegmentFacts, lsn: u64) -> u64 {
    let next = lsn.saturating_add(1);
    if facts.header.skips(next) { facts.header.skipped.1.saturating_add(1) } else { next }
}

/// The last LSN of the segment's range.
fn range_end(facts: &SegmentFacts, position: Position) -> u64 {
    if let Some((end, _)) = facts.name.rewritten {
        return end;
    }
    if let Position::Followed { next_start, .. } = position {
        return next_start.saturating_sub(1);
    }
    if let Some((_, footer)) = &facts.footer {
        return footer.end;
    }
    let last = facts.frames.last().map_or(facts.header.start.saturating_sub(1), |f| f.lsn);
    next_lsn(facts, last).saturating_sub(1).max(last)
}

/// LSNs between a finished segment's last one and the next segment's first: a file is missing.
#[must_use]
pub fn gap_after(
    facts: &SegmentFacts,
    judgement: &Judgement,
    position: Position,
) -> Option<LsnRange> {
    let Position::Followed { next_start, cut: None } = position else {
        // A segment that cut this one says where its range ends.
        return None;
    };
    let end = match (&facts.footer, facts.name.rewritten) {
        (_, Some((end, _))) => end,
        (Some((_, footer)), None) => footer.end,
        // Without a footer, bad bytes at the end may have held them.
        (None, None) if ends_in_damage(&facts.frames, judgement).is_some() => return None,
        (None, None) => next_lsn(facts, last_before(facts, u64::MAX)).saturating_sub(1),
    };
    let first = end.saturating_add(1);
    (first < next_start).then(|| (first, next_start.saturating_sub(1)))
}

/// Adds an LSN to a list of ranges, in rising order.
pub fn push_lsn(ranges: &mut Vec<LsnRange>, lsn: u64) {
    match ranges.last_mut() {
        Some((_, last)) if last.saturating_add(1) == lsn => *last = lsn,
        _ => ranges.push((lsn, lsn)),
    }
}

/// How the log goes on after recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continue {
    /// In the same segment, behind its mark: this offset and LSN come next.
    Same {
        /// Where the next frame goes.
        offset: u64,
        /// Its LSN.
        next_lsn: u64,
        /// Where the mark begins; it is written again, for its page may not have reached the disk.
        mark_offset: u64,
    },
    /// In a new segment; the last one was sealed already.
    After {
        /// Its first LSN.
        start: u64,
    },
    /// In a new segment that takes the frames after H along; the last one is cut and sealed.
    Cut(Cut),
}

/// Where the last segment is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The offset behind the last frame (or damage) at or below H.
    pub keep_end: u64,
    /// The new segment's first LSN.
    pub start: u64,
    /// From here up to `keep_end` frames may stand that are not known to be synced.
    pub unsynced_start: u64,
    /// Frames from here up to `copy_end` are written again into the new segment.
    pub copy_start: u64,
    /// One past their last byte.
    pub copy_end: u64,
    /// LSNs that may have been in the tail, never to be given again.
    pub skipped: Option<LsnRange>,
    /// The next LSN to give.
    pub next_lsn: u64,
}

/// Decides how the log goes on after its last segment.
#[must_use]
pub fn go_on(facts: &SegmentFacts, judgement: &Judgement) -> Continue {
    if facts.footer.is_some() || facts.name.rewritten.is_some() {
        return Continue::After { start: judgement.end.saturating_add(1) };
    }
    let tail_start = judgement.tail_start.unwrap_or(u64::MAX);
    let kept: Vec<FramePlace> =
        facts.frames.iter().filter(|frame| frame.offset < tail_start).copied().collect();
    let quiet = judgement.tail_start.is_none() && judgement.damaged.is_empty();
    if let Some(last) = kept
        .last()
        .filter(|last| quiet && (last.complete_mark || broken(Broken::SurvivorsNotRewritten)))
    {
        return Continue::Same {
            offset: last.end(),
            next_lsn: next_lsn(facts, last.lsn),
            mark_offset: last.offset,
        };
    }
    let synced_end = kept.iter().rev().find(|f| f.lsn <= facts.synced).map(FramePlace::end);
    // What cost nothing and lies beyond H, as a frame in a wrong place may, goes with what follows.
    let beyond = |loss: &Loss| next_lsn(facts, last_before(facts, loss.offset)) > facts.synced;
    // What the device does not give stays, for it may come back.
    let unread = |loss: &Loss| {
        let touches =
            |&(at, bytes): &(u64, u64)| at < loss.end() && loss.offset < at.saturating_add(bytes);
        facts.unreadable.iter().any(touches)
    };
    let stays = |loss: &&Loss| !loss.lsns.is_empty() || unread(loss) || !beyond(loss);
    let damaged = judgement.damaged.iter().filter(stays);
    let damage_end = damaged.map(|loss| loss.end().max(end_before(&kept, loss))).max();
    let unsynced_start = synced_end.unwrap_or(super::segment::FRAMES_START);
    let keep_end = unsynced_start.max(damage_end.unwrap_or(0));
    let survivors = kept.iter().filter(|f| f.offset >= keep_end);
    let copy_start = survivors.clone().map(|f| f.offset).next().unwrap_or(keep_end);
    let copy_end = survivors.clone().map(FramePlace::end).max().unwrap_or(keep_end);
    let before = kept.iter().rev().find(|f| f.offset < keep_end);
    let lost = judgement.damaged.iter().flat_map(|l| l.lsns.iter()).map(|&(_, last)| last).max();
    let first_free = facts.header.start.saturating_sub(1);
    let below = before.map_or(first_free, |f| f.lsn).max(lost.unwrap_or(0));
    let below = next_lsn(facts, below).saturating_sub(1);
    let start =
        kept.iter().find(|f| f.offset >= keep_end).map_or(below.saturating_add(1), |f| f.lsn);
    let start = start.min(below.saturating_add(1));
    let last_kept = kept.last().map_or(below, |f| f.lsn).max(below);
    let last_kept = next_lsn(facts, last_kept).saturating_sub(1);
    // What stands behind the last frame may have held as many as there is room for.
    let tail_end = judgement.tail_start.map(|_| judgement.tail_end);
    let unknown_end = tail_end.or(ends_in_damage(&kept, judgement).map(Loss::end));
    let unknown_end = unknown_end.filter(|_| !broken(Broken::LsnReused));
    let skipped = unknown_end.map(|end| {
        let known_end = kept.last().map_or(super::segment::FRAMES_START, FramePlace::end);
        let room = end.saturating_sub(known_end);
        let possible = room.checked_div(HEADER_BYTES_U64).unwrap_or(0).saturating_add(1);
        let highest = judgement.tail_lsns.iter().copied().max().unwrap_or(0);
        (last_kept.saturating_add(1), highest.max(last_kept.saturating_add(possible)))
    });
    // Nor is one given that a frame in a wrong place has.
    let seen = facts.stray_lsn;
    let after = (last_kept < seen).then(|| last_kept.saturating_add(1));
    let skipped = match (skipped, after) {
        (Some((from, to)), _) => Some((from, to.max(seen))),
        (None, after) => after.map(|from| (from, seen)),
    };
    let next = skipped.map_or(last_kept, |(_, last)| last).saturating_add(1);
    let next_lsn = next;
    Continue::Cut(Cut { keep_end, start, unsynced_start, copy_start, copy_end, skipped, next_lsn })
}

#[cfg(test)]
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "tests may panic"
)]
mod tests {
    use super::*;
    use crate::storage::wal::segment::{FRAMES_START, Identity};

    fn plain(start: u64) -> SegmentName {
        SegmentName { start, rewritten: None }
    }

    fn facts(frames: &[(u64, u64)], synced: u64) -> SegmentFacts {
        let frames = frames
            .iter()
            .map(|&(lsn, at)| FramePlace {
                lsn,
                offset: FRAMES_START + at * 100,
                bytes: 100,
                kind: Kind::REMEMBER,
                complete_mark: false,
            })
            .collect();
        let identity = Identity { store: [0; 16], secret: [0; 16] };
        let header = SegmentHeader {
            identity,
            salt: 1,
            start: 1,
            end: 0,
            generation: 0,
            synced: 0,
            skipped: (0, 0),
            cut: false,
            accepted_loss: false,
        };
        SegmentFacts {
            name: plain(1),
            header,
            file_bytes: 1 << 20,
            odd: Vec::new(),
            frames,
            footer: None,
            sealed_end: 0,
            synced,
            unreadable: Vec::new(),
            misplaced: Vec::new(),
            stray_lsn: 0,
        }
    }

    fn bad(at: u64) -> SpanFact {
        SpanFact { offset: FRAMES_START + at * 100, bytes: 100, seen: Seen::Bad, header: None }
    }

    #[test]
    fn a_torn_tail_is_not_a_loss() {
        let mut facts = facts(&[(1, 0), (2, 1), (4, 3)], 2);
        facts.odd.push(bad(2));
        let judgement = judge(&facts, Position::Last);
        assert!(judgement.damaged.is_empty());
        assert_eq!(judgement.tail_start, Some(FRAMES_START + 200));
        assert_eq!(judgement.tail_lsns, [4]);
        let Continue::Cut(cut) = go_on(&facts, &judgement) else { panic!("no cut") };
        assert_eq!((cut.start, cut.keep_end), (3, FRAMES_START + 200));
        assert_eq!(cut.skipped, Some((3, 6)));
        assert_eq!(cut.next_lsn, 7);
    }

    #[test]
    fn bad_bytes_below_the_synced_lsn_are_damage_and_named() {
        let mut facts = facts(&[(1, 0), (3, 2)], 2);
        facts.odd.push(bad(1));
        let judgement = judge(&facts, Position::Last);
        assert_eq!(judgement.tail_start, None);
        assert_eq!(judgement.damaged.len(), 1);
        assert_eq!(judgement.damaged[0].lsns, [(2, 2)]);
        assert_eq!(judgement.damaged[0].entries, 1);
        let Continue::Cut(cut) = go_on(&facts, &judgement) else { panic!("no cut") };
        assert_eq!((cut.start, cut.copy_start, cut.copy_end, cut.next_lsn), (3, 8392, 8492, 4));
    }

    #[test]
    fn frames_after_the_synced_lsn_move_to_a_new_segment() {
        let facts = facts(&[(1, 0), (2, 1), (3, 2)], 1);
        let judgement = judge(&facts, Position::Last);
        let Continue::Cut(cut) = go_on(&facts, &judgement) else { panic!("no cut") };
        assert_eq!((cut.start, cut.keep_end, cut.next_lsn), (2, FRAMES_START + 100, 4));
        assert_eq!(cut.skipped, None);
    }

    #[test]
    fn a_mark_at_the_end_lets_the_segment_go_on() {
        let mut facts = facts(&[(1, 0), (2, 1)], 1);
        facts.frames[1].complete_mark = true;
        let judgement = judge(&facts, Position::Last);
        let wanted = Continue::Same {
            offset: FRAMES_START + 200,
            next_lsn: 3,
            mark_offset: FRAMES_START + 100,
        };
        assert_eq!(go_on(&facts, &judgement), wanted);
    }

    #[test]
    fn what_follows_the_range_of_a_cut_segment_means_nothing() {
        let mut facts = facts(&[(1, 0), (2, 1)], 2);
        facts.odd.push(bad(2));
        let judgement = judge(&facts, Position::Followed { next_start: 3, cut: Some(3) });
        assert!(judgement.damaged.is_empty() && judgement.unsealed);
        let judgement = judge(&facts, Position::Followed { next_start: 3, cut: None });
        assert_eq!(judgement.damaged.len(), 1);
        assert_eq!(judgement.damaged[0].entries, 0);
    }

    #[test]
    fn a_footer_names_what_was_lost() {
        let mut facts = facts(&[(1, 0), (3, 2)], 3);
        facts.odd.push(bad(1));
        let listed =
            |lsn: u64, kind| Listed { offset: FRAMES_START + (lsn - 1) * 100, lsn, kind, key: lsn };
        let frames =
            vec![listed(1, Kind::REMEMBER), listed(2, Kind::FORGET), listed(3, Kind::REMEMBER)];
        facts.footer = Some((FRAMES_START + 300, Footer { end: 3, digest: 0, frames }));
        let judgement = judge(&facts, Position::Last);
        assert_eq!(judgement.damaged[0].lsns, [(2, 2)]);
        assert_eq!(judgement.damaged[0].listed[0].kind, Kind::FORGET);
        assert_eq!(go_on(&facts, &judgement), Continue::After { start: 4 });
    }
}
