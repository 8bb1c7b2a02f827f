//! What recovery does to the disk, once all is judged.
//!
//! The order is the safety: bytes are copied to the quarantine and synced before anything
//! removes them; a new segment is whole and synced before it gets its name; only then is the
//! old one cut. Each step, interrupted, leaves what the next recovery brings to the same end.

use std::io;
use std::sync::Arc;

use super::incidents::missing_incident;
use super::{Judged, Recovery, apply_all, place_of};
use crate::disk::{Open, read_exact_at, write_all_at};
use crate::storage::wal::contents::{Contents, Fact};
use crate::storage::wal::env::{Env, is_full, remove_if_there};
use crate::storage::wal::footer::FooterBuilder;
use crate::storage::wal::frame::{self, Header};
use crate::storage::wal::head::Head;
use crate::storage::wal::knowledge::Knowledge;
use crate::storage::wal::plan::{Continue, Cut, FramePlace, Loss, LsnRange, go_on};
use crate::storage::wal::prealloc::{self, Surplus, next_segment_bytes};
use crate::storage::wal::read::{HeaderRead, read_header};
use crate::storage::wal::report::{IncidentKind, QuarantineItem};
use crate::storage::wal::segment::{
    FRAMES_START, Identity, SegmentHeader, SegmentName, TEMPORARY_SUFFIX,
};
use crate::storage::wal::segments::Segment;
use crate::storage::wal::survey::Surveyed;
use crate::storage::wal::writer::{Active, Writer, active_segment};

/// The generation of a declared loss: above any that rewriting reaches, so that a lost file that
/// turns up never takes the place of its declaration.
const ACCEPTED_LOSS_GENERATION: u64 = 1 << 40;

/// Zeros that a start writes for its new segment, at most: nobody is served meanwhile.
const FIRST_BYTES_MAX: u64 = 8 << 20;

/// Files that are held open to give their room back later, at most: descriptors are bounded.
const SURPLUS_MAX: usize = 4;

impl Recovery {
    pub(super) fn remove_leftovers(&mut self) -> io::Result<()> {
        for name in std::mem::take(&mut self.survey.temporary) {
            self.remove(&name)?;
        }
        let disk = self.env.disk.as_ref();
        for name in std::mem::take(&mut self.survey.returned) {
            let file = name.file_name();
            // Another one of that name may have come back before.
            let kept_as = self.quarantine.free_name(&file)?;
            let item = QuarantineItem {
                name: kept_as.clone(),
                bytes: disk.open(&self.env.wal_path(&file), Open::Read)?.len()?,
                at: self.env.clock.now(),
                verdict: IncidentKind::Missing,
                file: file.clone(),
                offset: 0,
                restorable: Vec::new(),
            };
            let path = self.env.wal_path(&file);
            let salt = match read_header(disk.open(&path, Open::Read)?.as_ref()) {
                Ok(HeaderRead::Good(read)) => Some(read.header.salt),
                _ => None,
            };
            self.quarantine.take_file(&path, &kept_as, &item, salt)?;
        }
        Ok(())
    }

    /// Removes a file of the log; its blocks are given back later.
    pub(super) fn remove(&mut self, name: &str) -> io::Result<()> {
        let path = self.env.wal_path(name);
        let file = self.env.disk.open(&path, Open::Read);
        remove_if_there(self.env.disk.as_ref(), &path)?;
        if let Ok(file) = file {
            self.give_back(Surplus::Unnamed(file));
        }
        Ok(())
    }

    /// Gives room back: once somebody is served where there is plenty, else at once.
    fn give_back(&mut self, surplus: Surplus) {
        let available = self.env.disk.available_bytes(&self.env.dir).unwrap_or(0);
        // Whatever the quarantine is to take, and the next segment.
        let most = self.report.bytes_scanned.max(self.options.segment_bytes_max);
        let plenty = available / 2 > most;
        if plenty && self.surplus.len() < SURPLUS_MAX {
            self.surplus.push(surplus);
        } else {
            surplus.give_back();
        }
    }

    /// Writes an empty segment over each gap that an operator accepted, so that it is declared.
    pub(super) fn fill_accepted_gaps(&mut self, identity: Identity) -> io::Result<()> {
        for (first, last) in std::mem::take(&mut self.survey.missing) {
            let header = SegmentHeader {
                identity,
                salt: self.env.rng.u64(),
                start: first,
                end: last,
                generation: ACCEPTED_LOSS_GENERATION,
                synced: last,
                skipped: (first, last),
                cut: false,
                accepted_loss: true,
            };
            let name =
                SegmentName { start: first, rewritten: Some((last, ACCEPTED_LOSS_GENERATION)) };
            let mut bytes = header.encode_block();
            bytes.extend(FooterBuilder::default().finish(header.salt, last, last));
            let path = self.env.wal_path(&name.file_name());
            crate::disk::write_file(self.env.disk.as_ref(), &path, &bytes)?;
            let bytes = bytes.len() as u64;
            let number = self.segments.new_number();
            let sealed = true;
            let (needs_rewrite, keep) = (false, false);
            let segment = Segment {
                number,
                name,
                header,
                end: last,
                bytes,
                file_bytes: bytes,
                sealed,
                needs_rewrite,
                keep,
            };
            self.segments.add(segment, None);
            self.report.lost_lsns.push([first, last]);
            self.note(missing_incident(&self.env, (first, last)));
        }
        Ok(())
    }

    /// Quarantines the damage of a finished segment and repairs what can be repaired in place.
    pub(super) fn settle(&mut self, judged: &mut Judged) -> io::Result<()> {
        // The tail first: damage that is known already tells it that it is copied.
        let mut keep = self.quarantine_tail(judged)?;
        keep |= self.quarantine_damage(judged);
        self.repair_header(&judged.surveyed)?;
        let mut rewrite = needs_rewrite(judged) || judged.judgement.unsealed;
        let sealed_end = judged.facts.sealed_end;
        if !keep {
            keep = self.quarantine_rest(judged)?;
        }
        if judged.facts.footer.is_some() && judged.facts.file_bytes > sealed_end && !keep {
            // A crash came before its unused end was given back.
            let path = self.env.wal_path(&judged.facts.name.file_name());
            let file = self.env.disk.open(&path, Open::Write)?;
            self.give_back(Surplus::End(file, sealed_end));
            judged.facts.file_bytes = sealed_end;
        }
        if let Some((footer, at)) = judged.reseal.take().filter(|_| !keep) {
            let end = judged.judgement.end.min(judged.surveyed.position.last_lsn_allowed());
            let bytes = self.seal(&judged.surveyed, &footer, at, end)?;
            judged.facts.file_bytes = bytes;
            rewrite = needs_rewrite(judged);
        }
        self.register(judged, rewrite, keep);
        Ok(())
    }

    pub(super) fn register(&self, judged: &Judged, needs_rewrite: bool, keep: bool) {
        let facts = &judged.facts;
        let footer_end = facts.footer.as_ref().map(|(offset, _)| *offset);
        let frames_end = facts.frames.last().map(|f| f.offset + u64::from(f.bytes));
        let used = footer_end.or(frames_end).unwrap_or(FRAMES_START);
        let segment = Segment {
            number: judged.number,
            name: facts.name,
            header: facts.header,
            end: judged.judgement.end,
            bytes: if facts.footer.is_some() { facts.file_bytes } else { used },
            file_bytes: facts.file_bytes,
            sealed: facts.footer.is_some() || judged.judgement.unsealed,
            needs_rewrite,
            keep,
        };
        self.segments.add(segment, None);
    }

    pub(super) fn begin_log(&mut self, identity: Identity) -> io::Result<Writer> {
        // After an accepted loss the log begins behind it.
        let start = self.segments.list().last().map_or(1, |segment| segment.end + 1);
        self.new_segment(identity, &NewSegment { start, ..NewSegment::default() })
    }

    pub(super) fn go_on(
        &mut self,
        mut last: Judged,
        contents: &Contents,
        memory: &mut dyn Knowledge,
        identity: Identity,
    ) -> io::Result<Writer> {
        let number = last.number;
        match go_on(&last.facts, &last.judgement) {
            Continue::Same { offset, next_lsn, mark_offset } => {
                self.repair_header(&last.surveyed)?;
                apply_all(memory, contents, |f| Some(place_of(number, f.offset(), f.bytes())));
                self.go_on_in_place(&last, contents, offset, next_lsn, mark_offset)
            }
            Continue::After { start } => {
                apply_all(memory, contents, |f| Some(place_of(number, f.offset(), f.bytes())));
                self.settle(&mut last)?;
                // The footer was read, but its pages may never have reached the disk.
                let footer = last.facts.footer.as_ref().map(|(offset, _)| *offset);
                let (from, to) = (footer.unwrap_or(last.facts.sealed_end), last.facts.sealed_end);
                self.write_again(&last.surveyed, from, to)?;
                let new = NewSegment { start, ..NewSegment::default() };
                self.new_segment(identity, &new)
            }
            Continue::Cut(cut) => self.cut(last, contents, memory, identity, cut),
        }
    }

    fn go_on_in_place(
        &mut self,
        last: &Judged,
        contents: &Contents,
        offset: u64,
        next_lsn: u64,
        mark_offset: u64,
    ) -> io::Result<Writer> {
        let path = self.env.wal_path(&last.facts.name.file_name());
        let file = self.env.disk.open(&path, Open::Write)?;
        // The mark was read, but its page may never have reached the disk.
        self.write_again(&last.surveyed, mark_offset, offset)?;
        let active = Active {
            number: last.number,
            header: last.facts.header,
            file: Arc::clone(&file),
            capacity: last.facts.file_bytes.max(offset),
            offset,
            footer: footer_of(contents, offset, |_| true),
        };
        Ok(self.writer(active, next_lsn))
    }

    fn writer(&self, active: Active, next_lsn: u64) -> Writer {
        self.segments.add(active_segment(&active, next_lsn - 1), Some(Arc::clone(&active.file)));
        let env = Arc::clone(&self.env);
        let max = self.options.segment_bytes_max;
        let syncs_each = self.options.syncs_each;
        Writer::new(env, Arc::clone(&self.segments), max, syncs_each, active, next_lsn)
    }

    /// Quarantines the tail, writes the frames after H into a new segment, seals the old one.
    fn cut(
        &mut self,
        mut last: Judged,
        contents: &Contents,
        memory: &mut dyn Knowledge,
        identity: Identity,
        cut: Cut,
    ) -> io::Result<Writer> {
        let mut keep = self.quarantine_damage(&last);
        keep |= self.quarantine_tail(&last)?;
        // A new segment of the same first LSN will take this file's place, header and all.
        let goes = cut.start == last.facts.header.start;
        if goes {
            let bad = last.surveyed.header.bad.iter().filter(|bad| **bad).count();
            keep |= self.quarantine_header(&last.surveyed).len() < bad;
        }
        let tail = last.judgement.tail_start.unwrap_or(u64::MAX);
        let stay_in_place = keep && goes;
        let cut = if stay_in_place { self.settle_in_place(&last, cut)? } else { cut };
        // A forget that was lost beyond H stays too: the footer tells of it.
        let stays = |f: &Fact| f.offset() < cut.keep_end || f.lsn < cut.start;
        let kept = contents.facts.iter().filter(|f| f.offset() < tail);
        let survivors: Vec<&Fact> = kept.filter(|f| !stays(f)).collect();
        let replaces = cut.start == last.facts.header.start;
        let old = &last.facts.header;
        let file = last.surveyed.file(&self.env)?;
        // In the place of a file it says of the one before what that file said.
        let inherited = Some(old.skipped).filter(|_| replaces && old.cut);
        let mut new = NewSegment {
            start: cut.start,
            next_lsn: Some(cut.next_lsn),
            skipped: cut.skipped.or(inherited).unwrap_or((0, 0)),
            cut: !replaces || old.cut,
            ..NewSegment::default()
        };
        for fact in &survivors {
            let header = contents.header(fact);
            let mut payload = vec![0; header.length as usize];
            let at = fact.offset() + frame::HEADER_BYTES_U64;
            read_exact_at(file.as_ref(), &mut payload, at)?;
            new.frames.push((header, payload));
        }
        if !replaces {
            // The new header says that all below it is synced.
            for (from, to) in runs(&last.facts.frames, cut.unsynced_start, cut.keep_end) {
                self.write_again(&last.surveyed, from, to)?;
            }
        }
        let writer = match self.new_segment(identity, &new) {
            // Its unused end is all the room that is left.
            Err(e) if is_full(&e) => {
                last.facts.file_bytes = self.give_unused_end_back(&last)?;
                self.new_segment(identity, &new)?
            }
            made => made?,
        };
        let moved_to = writer.active_number();
        let mut at = FRAMES_START;
        apply_all(memory, contents, |fact| {
            if fact.offset() >= tail {
                return None;
            }
            if stays(fact) {
                return Some(place_of(last.number, fact.offset(), fact.bytes()));
            }
            let place = place_of(moved_to, at, fact.bytes());
            at += fact.bytes();
            Some(place)
        });
        if replaces {
            // Nobody needs to wait until its blocks are given back.
            self.give_back(Surplus::Unnamed(file));
            return Ok(writer);
        }
        last.judgement.end = cut.start - 1;
        last.judgement.unsealed = true;
        if !keep {
            let wanted = |fact: &Fact| fact.offset() < tail && stays(fact);
            let footer = footer_of(contents, cut.keep_end, wanted);
            last.facts.file_bytes =
                self.seal(&last.surveyed, &footer, cut.keep_end, cut.start - 1)?;
            last.facts.footer = None;
        }
        if !goes {
            self.repair_header(&last.surveyed)?;
        }
        last.facts.frames.retain(|f| f.offset < cut.keep_end);
        let needs_rewrite = needs_rewrite(&last);
        self.register(&last, needs_rewrite, keep);
        Ok(writer)
    }

    /// Cuts the zeros off that a file ends in, but none that belong to what was found in it: frames may end
    /// in zeros too. Gives its new length.
    fn give_unused_end_back(&self, judged: &Judged) -> io::Result<u64> {
        const STEP_BYTES: u64 = 1 << 20;
        let file =
            self.env.disk.open(&self.env.wal_path(&judged.facts.name.file_name()), Open::Write)?;
        let Judged { facts, judgement, .. } = judged;
        let frames = facts.frames.last().map_or(FRAMES_START, FramePlace::end);
        let odd = facts.odd.iter().map(|span| span.offset + span.bytes).max();
        let damaged = judgement.damaged.iter().map(Loss::end).max();
        let found = [odd, damaged].into_iter().flatten().max().unwrap_or(0);
        let least = frames.max(found).max(judgement.tail_end);
        let mut end = facts.file_bytes;
        while end > least {
            let from = end.saturating_sub(STEP_BYTES).max(least);
            let mut bytes = vec![0; usize::try_from(end - from).unwrap_or(usize::MAX)];
            read_exact_at(file.as_ref(), &mut bytes, from)?;
            if let Some(last) = bytes.iter().rposition(|&byte| byte != 0) {
                end = from + last as u64 + 1;
                break;
            }
            end = from;
        }
        file.set_len(end)?;
        file.sync()?;
        Ok(end)
    }

    /// The quarantine cannot be written, and a new segment of the same first LSN would replace
    /// the file whose tail must stay. So the frames after H stay too: they are written again
    /// where they are, and synced; the new segment begins behind them.
    fn settle_in_place(&self, last: &Judged, cut: Cut) -> io::Result<Cut> {
        self.write_again(&last.surveyed, cut.copy_start, cut.copy_end)?;
        let first_skipped = cut.skipped.map_or(cut.next_lsn, |(first, _)| first);
        // Its own first LSN names the file that stays.
        let start = first_skipped.max(last.facts.header.start + 1);
        let next_lsn = cut.next_lsn.max(start);
        let skipped = (first_skipped < next_lsn).then(|| (first_skipped, next_lsn - 1));
        let keep_end = cut.copy_end.max(cut.keep_end);
        let (copy_start, copy_end) = (keep_end, keep_end);
        Ok(Cut { keep_end, start, copy_start, copy_end, skipped, next_lsn, ..cut })
    }

    /// Writes bytes where they were read, and syncs them. A process that died may have left them
    /// unsynced, or failed to sync them: then they are called clean, and syncing alone does nothing.
    fn write_again(&self, surveyed: &Surveyed, from: u64, to: u64) -> io::Result<()> {
        let path = self.env.wal_path(&surveyed.name.file_name());
        let file = self.env.disk.open(&path, Open::Write)?;
        let mut bytes = vec![0; usize::try_from(to - from).unwrap_or(usize::MAX)];
        read_exact_at(file.as_ref(), &mut bytes, from)?;
        write_all_at(file.as_ref(), &bytes, from)?;
        file.sync()
    }

    /// Writes a footer at `at`; what is behind it is given back. Gives the file's new length.
    fn seal(
        &mut self,
        surveyed: &Surveyed,
        footer: &FooterBuilder,
        at: u64,
        end: u64,
    ) -> io::Result<u64> {
        let path = self.env.wal_path(&surveyed.name.file_name());
        let file = self.env.disk.open(&path, Open::Write)?;
        let footer = footer.finish(surveyed.header.header.salt, end, end);
        write_all_at(file.as_ref(), &footer, at)?;
        let bytes = at + footer.len() as u64;
        file.sync()?;
        self.give_back(Surplus::End(file, bytes));
        Ok(bytes)
    }

    /// Makes a segment, whole and synced before it gets its name.
    fn new_segment(&mut self, identity: Identity, new: &NewSegment) -> io::Result<Writer> {
        let env = &self.env;
        let next_lsn = new.next_lsn.unwrap_or(new.start);
        let header = SegmentHeader {
            identity,
            salt: env.rng.u64(),
            start: new.start,
            end: 0,
            generation: 0,
            synced: next_lsn - 1,
            skipped: new.skipped,
            cut: new.cut,
            accepted_loss: false,
        };
        let mut bytes = header.encode_block();
        let mut footer = FooterBuilder::default();
        for (old, payload) in &new.frames {
            let frame = Header { salt: header.salt, ..*old };
            footer.add(bytes.len() as u64, &frame);
            bytes.extend_from_slice(&frame.encode());
            bytes.extend_from_slice(payload);
        }
        let offset = bytes.len() as u64;
        let log_bytes = self.report.bytes_scanned;
        let min = env.scale.segment_bytes_min;
        // The next one of full size is made while writers use this one.
        let max = self.options.segment_bytes_max.min(FIRST_BYTES_MAX);
        let wanted = next_segment_bytes(log_bytes, min, max);
        let least = (offset + footer.bytes_with_one_more()).next_multiple_of(min);
        let name = SegmentName { start: new.start, rewritten: None }.file_name();
        let temporary = format!("{name}{TEMPORARY_SUFFIX}");
        let spare = prealloc::make_room(env, &temporary, [wanted.max(least), least])?;
        let capacity = spare.bytes;
        write_all_at(spare.file.as_ref(), &bytes, 0)?;
        spare.file.sync()?;
        env.disk.rename(&spare.path, &env.wal_path(&name))?;
        env.disk.sync_dir(&env.wal_dir())?;
        Head::of(new.start, capacity).write(env)?;
        let number = self.segments.new_number();
        let active = Active { number, header, file: spare.file, capacity, offset, footer };
        Ok(self.writer(active, next_lsn))
    }
}

#[derive(Debug, Default)]
struct NewSegment {
    start: u64,
    next_lsn: Option<u64>,
    skipped: LsnRange,
    cut: bool,
    frames: Vec<(Header, Vec<u8>)>,
}

pub(super) fn new_identity(env: &Env) -> Identity {
    let mut identity = Identity { store: [0; 16], secret: [0; 16] };
    env.rng.fill(&mut identity.store);
    env.rng.fill(&mut identity.secret);
    identity
}

/// Where frames stand from `from` up to `to`, without what is between them.
fn runs(frames: &[FramePlace], from: u64, to: u64) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for frame in frames.iter().filter(|frame| (from..to).contains(&frame.offset)) {
        match runs.last_mut() {
            Some((_, end)) if *end == frame.offset => *end = frame.end(),
            _ => runs.push((frame.offset, frame.end())),
        }
    }
    runs
}

/// Whether something stands in a segment, or is lost in it, that compaction has to look at.
fn needs_rewrite(judged: &Judged) -> bool {
    !judged.judgement.damaged.is_empty() || !judged.facts.misplaced.is_empty()
}

/// The footer of what stands, or is known to have stood, before `end`, in order of LSN. One that is
/// lost is listed where that order lets it, whatever told of it stands.
pub(super) fn footer_of(
    contents: &Contents,
    end: u64,
    wanted: impl Fn(&Fact) -> bool,
) -> FooterBuilder {
    let facts = contents.facts.iter().rev().filter(|fact| wanted(fact));
    let mut highest = end - 1;
    let mut listed: Vec<(u64, &Fact)> = Vec::new();
    for fact in facts {
        highest = if fact.is_lost() { highest } else { fact.offset() };
        listed.push((fact.offset().min(highest), fact));
    }
    let (mut footer, mut last) = (FooterBuilder::default(), 0);
    for (offset, fact) in listed.into_iter().rev() {
        last = offset.max(last);
        footer.add(last, &contents.header(fact));
    }
    footer
}
