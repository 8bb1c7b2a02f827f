//! Which records each run of damage cost: by LSN always, by kind and key where something tells.
//!
//! A footer lists every frame. Without one, a header whose payload alone is bad tells of its own
//! frame, and the numbers around a run tell of the rest: LSNs are given without a gap, so one that
//! neither stands in a frame nor was declared skipped was lost, with bytes or without.
//!
//! Deliberately absent: what damage is ([`super::verdict`]), and what is done about it
//! ([`super::plan`]).
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use super::bytes::wide;
use super::footer::{Footer, Listed};
use super::frame::{HEADER_BYTES_U64, Header, Kind};
use super::plan::{
    FramePlace, Judgement, Loss, LsnRange, Position, SegmentFacts, last_before, next_lsn, push_lsn,
};
use super::segment::SegmentHeader;
use super::verdict::Seen;

/// Says of each run of damage which LSNs and records it cost, and adds what was lost without one.
pub(super) fn name_losses(facts: &SegmentFacts, position: Position, judgement: &mut Judgement) {
    if let Some((_, footer)) = &facts.footer {
        by_footer(facts, footer, &mut judgement.damaged);
    } else {
        list_known(facts, &mut judgement.damaged);
        if facts.name.rewritten.is_some() {
            note_lost_end(facts, &mut judgement.damaged);
            by_headers(&mut judgement.damaged);
        } else {
            by_number(facts, position, judgement);
        }
    }
    list_misplaced(facts, position, judgement);
}

/// Whether the frames around a place let an LSN stand there.
fn is_in_order(facts: &SegmentFacts, offset: u64, lsn: u64) -> bool {
    let after = facts.frames.partition_point(|frame| frame.offset < offset);
    let after = facts.frames.get(after).is_none_or(|frame| lsn < frame.lsn);
    after && last_before(facts, offset) < lsn
}

/// Lists the frames that stand in a wrong place and nowhere else, or whose headers do, with the run
/// that cost them their own: a `forget` among them still forgets.
fn list_misplaced(facts: &SegmentFacts, position: Position, judgement: &mut Judgement) {
    let tail_start = judgement.tail_start.unwrap_or(u64::MAX);
    let active = position == Position::Last && facts.footer.is_none();
    let kept = facts.frames.iter().rev().find(|frame| frame.offset < tail_start);
    let damaged = &mut judgement.damaged;
    let odd = facts.odd.iter().filter_map(|span| Some((span, span.offset, span.header?)));
    for (span, offset, header) in odd {
        let lsn = header.lsn;
        let lost = || facts.frames.binary_search_by_key(&lsn, |frame| frame.lsn).is_err();
        let is_misplaced = match span.seen {
            Seen::Misplaced => true,
            Seen::Bad => header.kind.is_change() && !is_in_order(facts, offset, lsn) && lost(),
            _ => false,
        };
        if !is_misplaced {
            continue;
        }
        if lsn > position.last_lsn_allowed() {
            // A cut left it, and the next segment may have it.
            continue;
        }
        if damaged.iter().any(|run| run.listed.iter().any(|listed| listed.lsn == lsn)) {
            continue;
        }
        let costs =
            |run: &Loss| run.lsns.iter().any(|&(first, last)| (first..=last).contains(&lsn));
        let at = damaged.iter().position(costs);
        let is_last = active && kept.is_none_or(|last| last.lsn < lsn);
        let run = if let Some(at) = at {
            damaged.get_mut(at)
        } else if is_last && tail_start < u64::MAX {
            // Of the tail, as what it stood behind.
            continue;
        } else if is_last {
            // No frame that follows tells of it: it stood in what is damaged behind the last one, or
            // right behind that.
            let kept_at = kept.map_or(super::segment::FRAMES_START, |last| last.offset);
            let behind = damaged.iter().rposition(|run| run.offset > kept_at);
            Some(match behind.and_then(|at| damaged.get_mut(at)) {
                Some(run) => run,
                None => run_at(damaged, kept_at),
            })
        } else {
            damaged.iter_mut().find(|run| (run.offset..run.end()).contains(&offset))
        };
        let Some(run) = run else { continue };
        // A footer that does not list it was written by the recovery that named it.
        if at.is_none() && facts.footer.is_none() {
            run.lsns.push((lsn, lsn));
            run.lsns.sort_unstable();
            run.entries = run.entries.saturating_add(1);
        }
        run.listed.push(listed_of(run.offset, &header));
        run.listed.sort_by_key(|listed| listed.lsn);
    }
}

fn by_footer(facts: &SegmentFacts, footer: &Footer, damaged: &mut Vec<Loss>) {
    let mut frames = facts.frames.iter().map(|frame| frame.lsn).peekable();
    for listed in &footer.frames {
        while frames.next_if(|&lsn| lsn < listed.lsn).is_some() {}
        if frames.peek() == Some(&listed.lsn) {
            continue;
        }
        let loss = run_at(damaged, listed.offset);
        push_lsn(&mut loss.lsns, listed.lsn);
        loss.entries = loss.entries.saturating_add(u64::from(listed.kind.is_change()));
        loss.listed.push(*listed);
    }
}

/// The run of damage that a lost frame stood in; one without bytes where there is none.
fn run_at(damaged: &mut Vec<Loss>, offset: u64) -> &mut Loss {
    let at = damaged.partition_point(|loss| loss.end() <= offset);
    if damaged.get(at).is_none_or(|loss| loss.offset > offset) {
        damaged.insert(at, Loss::of(offset, 0));
    }
    #[expect(clippy::indexing_slicing, reason = "it is there, or was put there just now")]
    &mut damaged[at]
}

/// Lists the frames whose headers are right, by the run that their payloads are in.
fn list_known(facts: &SegmentFacts, damaged: &mut [Loss]) {
    let bad = facts.odd.iter().filter(|span| span.seen == Seen::Bad);
    let lost = |lsn: u64| facts.frames.binary_search_by_key(&lsn, |frame| frame.lsn).is_err();
    for (offset, header) in bad.filter_map(|span| Some((span.offset, span.header?))) {
        if !lost(header.lsn) || !is_in_order(facts, offset, header.lsn) {
            // A copy in a wrong place: the frame itself is, or was, where it belongs.
            continue;
        }
        let run = damaged.iter_mut().find(|loss| (loss.offset..loss.end()).contains(&offset));
        // A footer is no record; and what is in the tail is no loss.
        if let Some(run) = run.filter(|_| header.kind != Kind::FOOTER) {
            run.listed.push(listed_of(offset, &header));
        }
    }
}

/// A header as a footer would list it.
fn listed_of(offset: u64, header: &Header) -> Listed {
    let key = if header.kind == Kind::FORGET_SPACE { header.space_key } else { header.key };
    Listed { offset, lsn: header.lsn, kind: header.kind, key }
}

/// A rewritten segment got its name when it was complete. Where no footer ends it, its end was
/// damaged, even if nothing but zeros is left there.
fn note_lost_end(facts: &SegmentFacts, damaged: &mut Vec<Loss>) {
    let start = super::segment::FRAMES_START;
    let end = facts.frames.last().map_or(start, FramePlace::end);
    if damaged.last().is_none_or(|loss| loss.end() <= end) {
        damaged.push(Loss::of(end, facts.file_bytes.saturating_sub(end)));
    }
}

/// Most LSNs of a rewritten range were dead long ago: only what is known is named.
fn by_headers(damaged: &mut [Loss]) {
    for loss in damaged {
        loss.lsns = loss.listed.iter().map(|listed| (listed.lsn, listed.lsn)).collect();
        loss.entries = wide(loss.listed.len()).max(1);
    }
}

/// Names every LSN of the segment's range that stands in no frame.
fn by_number(facts: &SegmentFacts, position: Position, judgement: &mut Judgement) {
    let tail_start = judgement.tail_start.unwrap_or(u64::MAX);
    let mut runs = std::mem::take(&mut judgement.damaged).into_iter().peekable();
    let mut before = facts.header.start.saturating_sub(1);
    let (mut at, mut end) = (super::segment::FRAMES_START, super::segment::FRAMES_START);
    for frame in facts.frames.iter().filter(|frame| frame.offset < tail_start) {
        let mut between = Vec::new();
        while let Some(run) = runs.next_if(|run| run.offset < frame.offset) {
            between.push(run);
        }
        if next_lsn(facts, before) != frame.lsn {
            let lost = missing(&facts.header, before, frame.lsn.saturating_sub(1));
            share(lost, frame.offset, &mut between);
        }
        judgement.damaged.append(&mut between);
        (before, at, end) = (frame.lsn, frame.offset, frame.end());
    }
    let mut behind: Vec<Loss> = runs.collect();
    let lacks = |next_start| next_lsn(facts, before) < next_start;
    let room = facts.file_bytes.saturating_sub(end);
    if let Position::Followed { next_start, cut: None } = position
        && behind.is_empty()
        && room > 0
        && lacks(next_start)
    {
        // The log went on in another file, so this one was finished: its zeros were frames.
        behind.push(Loss::of(end, room));
    }
    let last = match position {
        Position::Followed { next_start, cut } if cut.is_some() || !behind.is_empty() => {
            cut.unwrap_or(next_start).saturating_sub(1)
        }
        // Nothing here may have held them: a file is missing.
        Position::Followed { .. } => before,
        Position::Last => last_promised(facts, &behind),
    };
    // A run without bytes stands with the last frame: behind it there will be a footer.
    share(missing(&facts.header, before, last), at, &mut behind);
    judgement.damaged.append(&mut behind);
}

/// The last LSN that the end of the log is known, or must be feared, to have held.
fn last_promised(facts: &SegmentFacts, behind: &[Loss]) -> u64 {
    let known = behind.iter().flat_map(|loss| &loss.listed).map(|listed| listed.lsn).max();
    let unread = facts.odd.iter().filter(|span| span.seen == Seen::DeviceError);
    // What the device does not give at the log's end may have held frames of any number.
    let feared = unread.map(|span| {
        let possible = span.bytes.checked_div(HEADER_BYTES_U64).unwrap_or(0).saturating_add(1);
        last_before(facts, span.offset).saturating_add(possible)
    });
    facts.synced.max(known.unwrap_or(0)).max(feared.max().unwrap_or(0))
}

/// LSNs after `before` up to `last`, without those that the header declares skipped.
fn missing(header: &SegmentHeader, before: u64, last: u64) -> Vec<LsnRange> {
    let first = before.saturating_add(1);
    let (skipped, resumed) = (header.skipped.0, header.skipped.1.saturating_add(1));
    let mut ranges = vec![(first, last.min(skipped.saturating_sub(1))), (first.max(resumed), last)];
    ranges.retain(|&(first, last)| first <= last);
    ranges
}

/// Gives lost LSNs to the runs of damage that they stood in; to one without bytes, at `at`, where
/// there is none.
fn share(mut lost: Vec<LsnRange>, at: u64, runs: &mut Vec<Loss>) {
    if runs.is_empty() && !lost.is_empty() {
        runs.push(Loss::of(at, 0));
    }
    // From the last run back: each takes what follows the first frame that it is known to have
    // held, and the first one all that is left.
    for (number, run) in runs.iter_mut().enumerate().rev() {
        let known = run.listed.first().map_or(u64::MAX, |listed| listed.lsn);
        let from = if number == 0 { 0 } else { known };
        let below = |&(first, last): &LsnRange| (first, last.min(from.saturating_sub(1)));
        let above = |&(first, last): &LsnRange| (first.max(from), last);
        let some = |&(first, last): &LsnRange| first <= last;
        run.lsns = lost.iter().map(above).filter(some).collect();
        lost = lost.iter().map(below).filter(some).collect();
        let count = |&(first, last): &LsnRange| last.saturating_sub(first).saturating_add(1);
        let marks = run.listed.iter().filter(|listed| !listed.kind.is_change()).count();
        run.entries = run.lsns.iter().map(count).sum::<u64>().saturating_sub(wide(marks));
    }
}
