//! Recovery: survey, scan, judge, then act. Only the last step changes the disk.
//!
//! A step machine without threads: [`Recovery::begin`] looks, whoever drives it scans the
//! segments (in any order, anywhere) and hands the results to [`Recovery::absorb`] in order of
//! LSN, and [`Recovery::finish`] acts: quarantine first, then cut, repair, remove. Each action
//! leaves a directory that recovery, run again, brings to the same end.
//!
//! Deliberately absent: decisions ([`super::verdict`], [`super::plan`]).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::env::{Env, remove_if_there};
use super::frame::{self, Codec, Header, Kind};
use super::knowledge::{Knowledge, Place};
use super::plan::{
    Continue, Cut, Judgement, Loss, LsnRange, SegmentFacts, gap_after, go_on, judge, push_lsn,
};
use super::prealloc::{ZeroFill, next_segment_bytes};
use super::quarantine::{Keep, Quarantine, incident_id};
use super::report::{Incident, IncidentKind, RecoveryMode, RecoveryReport};
use super::segment::{
    FRAMES_START, FooterBuilder, HEADER_COPY_BYTES, HEADER_OFFSETS, Identity, SegmentHeader,
    SegmentName, TEMPORARY_SUFFIX,
};
use super::segments::{Segment, Segments};
use super::survey::{Contents, Survey, Surveyed, covers};
use super::verdict::Seen;
use super::writer::{Active, Writer, active_segment};
use crate::disk::{File, Open, read_exact_at, write_all_at};
use crate::error::{Error, Result};
use crate::record::SCHEMA;

/// How far recovery is; any thread may look.
#[derive(Debug, Default)]
pub struct RecoveryProgress {
    /// Bytes read so far.
    pub bytes_done: AtomicU64,
    /// Bytes to read.
    pub bytes_total: AtomicU64,
}

/// What recovery is told.
#[derive(Debug, Clone)]
pub struct RecoverOptions {
    /// What to do about damage.
    pub mode: RecoveryMode,
    /// LSNs to go on without.
    pub accepted: Vec<LsnRange>,
    /// Largest segment.
    pub segment_bytes_max: u64,
    /// Look only: report what would be done.
    pub dry: bool,
}

/// A log that is ready.
#[derive(Debug)]
pub struct Recovered {
    /// Its writer.
    pub writer: Writer,
    /// Its segments.
    pub segments: Arc<Segments>,
    /// Its quarantine.
    pub quarantine: Arc<Quarantine>,
    /// Its identity.
    pub identity: Identity,
    /// What was found and done.
    pub report: RecoveryReport,
}

/// One judged segment, without its contents.
#[derive(Debug)]
struct Judged {
    surveyed: Surveyed,
    facts: SegmentFacts,
    judgement: Judgement,
    number: u32,
    /// For a segment that was cut and not sealed: its footer.
    reseal: Option<(FooterBuilder, u64)>,
}

/// A recovery under way.
#[derive(Debug)]
pub struct Recovery {
    env: Arc<Env>,
    options: RecoverOptions,
    survey: Survey,
    segments: Arc<Segments>,
    quarantine: Arc<Quarantine>,
    report: RecoveryReport,
    judged: Vec<Judged>,
    last: Option<(Judged, Contents)>,
    begun: Duration,
    undecodable: Vec<(Kind, u16, Vec<LsnRange>, String)>,
}

impl Recovery {
    /// Looks at the directory.
    ///
    /// # Errors
    /// A gap in the log, a newer format, or what the disk said. Nothing was changed.
    pub fn begin(env: Arc<Env>, options: RecoverOptions) -> Result<Self> {
        let begun = env.clock.elapsed();
        let survey = Survey::take(&env, &options.accepted)?;
        let segments = Arc::new(Segments::new(Arc::clone(&env)));
        let quarantine = Arc::new(Quarantine::open(Arc::clone(&env))?);
        let report = RecoveryReport { mode: options.mode, ..RecoveryReport::default() };
        for name in &survey.foreign {
            if !crate::storage::legacy::is_legacy_name(name) {
                tracing::info!(file = %env.wal_path(name).display(), "not a file of this log; ignored");
            }
        }
        for &missing in &survey.missing {
            if !covers(&options.accepted, missing) && !options.dry {
                return Err(Error::Missing {
                    first: missing.0,
                    last: missing.1,
                    why: "no segment file holds them".into(),
                });
            }
        }
        Ok(Self {
            env,
            options,
            survey,
            segments,
            quarantine,
            report,
            judged: Vec::new(),
            last: None,
            begun,
            undecodable: Vec::new(),
        })
    }

    /// The segments to scan, in the order in which they must be absorbed.
    #[must_use]
    pub fn tasks(&self) -> &[Surveyed] {
        &self.survey.segments
    }

    /// Whether reads that fail are to be worked around: an operator accepted a loss.
    #[must_use]
    pub fn tolerant(&self) -> bool {
        !self.options.accepted.is_empty() || self.options.dry
    }

    /// What the look saw.
    #[must_use]
    pub fn survey(&self) -> &Survey {
        &self.survey
    }

    /// Judges a scanned segment, and applies its frames.
    ///
    /// # Errors
    /// A gap behind it. Nothing was changed on disk.
    pub fn absorb(
        &mut self,
        surveyed: &Surveyed,
        facts: SegmentFacts,
        mut contents: Contents,
        memory: &mut dyn Knowledge,
    ) -> Result<()> {
        let judgement = judge(&facts, surveyed.position);
        if let Some(missing) = gap_after(&facts, &judgement, surveyed.position) {
            if !covers(&self.options.accepted, missing) && !self.options.dry {
                let after = facts.name.file_name();
                let why = format!("no segment file holds them, after {after}");
                return Err(Error::Missing { first: missing.0, last: missing.1, why });
            }
            self.survey.missing.push(missing);
        }
        for loss in &judgement.damaged {
            revive_lost_forgets(&mut contents, loss, &facts);
        }
        self.count(&facts, &judgement, &contents);
        let number = self.segments.new_number();
        let cut = matches!(surveyed.position, super::plan::Position::Followed { cut: true, .. });
        let reseal = (judgement.unsealed && cut).then(|| {
            let end = facts.frames.last().map_or(FRAMES_START, |f| f.offset + u64::from(f.bytes));
            let damage = judgement.damaged.iter().map(|loss| loss.offset + loss.bytes).max();
            (footer_of(&contents, |_| true), end.max(damage.unwrap_or(0)))
        });
        let judged = Judged { surveyed: surveyed.clone(), facts, judgement, number, reseal };
        if surveyed.position == super::plan::Position::Last {
            self.last = Some((judged, contents));
            return Ok(());
        }
        apply_all(memory, &contents, |fact| Some(place_of(number, fact.offset, fact.bytes)));
        self.judged.push(slim(judged));
        Ok(())
    }

    fn count(&mut self, facts: &SegmentFacts, judgement: &Judgement, contents: &Contents) {
        let report = &mut self.report;
        report.segments += 1;
        report.bytes_scanned += facts.file_bytes;
        report.stale += judgement.stale;
        let tail_start = judgement.tail_start.unwrap_or(u64::MAX);
        for fact in contents.facts.iter().filter(|f| f.offset < tail_start) {
            if contents.known(fact).is_none() {
                report.failed.undecodable += 1;
                let (kind, schema) = (fact.header.kind, fact.header.schema);
                let file = facts.name.file_name();
                let at = self.undecodable.iter().position(|u| u.0 == kind && u.1 == schema);
                let at = at.unwrap_or_else(|| {
                    self.undecodable.push((kind, schema, Vec::new(), file));
                    self.undecodable.len() - 1
                });
                push_lsn(&mut self.undecodable[at].2, fact.header.lsn);
            } else if fact.header.kind.is_change()
                && facts.frames.binary_search_by_key(&fact.header.lsn, |f| f.lsn).is_ok()
            {
                report.recovered += 1;
            }
        }
        for loss in &judgement.damaged {
            report.failed.damaged += loss.entries;
            report.lost_lsns.extend(loss.lsns.iter().map(|&(first, last)| [first, last]));
        }
        let torn = |span: &&super::plan::SpanFact| {
            span.seen == Seen::Bad && span.offset >= tail_start && span.header.is_some()
        };
        let torn = facts.odd.iter().filter(torn).count() as u64;
        report.failed.tail += judgement.tail_lsns.len() as u64 + torn;
        let head = judgement.end.max(facts.frames.last().map_or(0, |f| f.lsn));
        report.head_lsn = report.head_lsn.max(head);
    }

    /// Acts on what was judged, and gives the log back ready to be written.
    ///
    /// # Errors
    /// [`Error::Strict`] (nothing was changed), or what the disk said (run it again).
    pub fn finish(mut self, memory: &mut dyn Knowledge) -> Result<Recovered> {
        self.check_strict()?;
        let env = Arc::clone(&self.env);
        let dir = env.wal_dir();
        let identity = self.survey.identity.unwrap_or_else(|| new_identity(&env));
        let io = |action: &'static str| {
            let dir = dir.clone();
            move |e: io::Error| Error::io(action, dir, &e)
        };
        env.disk.create_dir(&dir).map_err(io("make"))?;
        self.remove_leftovers().map_err(io("remove unfinished files in"))?;
        self.fill_accepted_gaps(identity).map_err(io("declare an accepted loss in"))?;
        let mut judged = std::mem::take(&mut self.judged);
        for segment in &mut judged {
            self.settle(segment).map_err(io("repair a segment of"))?;
        }
        let writer = match self.last.take() {
            None => self.begin_log(identity).map_err(io("begin a log in"))?,
            Some((last, contents)) => {
                self.go_on(last, contents, memory, identity).map_err(io("go on in"))?
            }
        };
        self.report_undecodable();
        for name in std::mem::take(&mut self.survey.obsolete) {
            let path = env.wal_path(&name.file_name());
            remove_if_there(env.disk.as_ref(), &path)
                .map_err(io("remove a replaced segment in"))?;
        }
        let report = self.finish_report();
        let Self { segments, quarantine, .. } = self;
        Ok(Recovered { writer, segments, quarantine, identity, report })
    }

    /// What recovery would report, without doing any of it.
    #[must_use]
    pub fn dry_report(mut self, memory: &mut dyn Knowledge) -> (RecoveryReport, Arc<Segments>) {
        let judged = std::mem::take(&mut self.judged);
        for segment in &judged {
            self.describe(segment);
            self.register(segment, false, false);
        }
        for missing in self.survey.missing.clone() {
            self.note(missing_incident(&self.env, missing));
        }
        if let Some((last, contents)) = self.last.take() {
            self.describe(&last);
            let tail = last.judgement.tail_start.unwrap_or(u64::MAX);
            let number = last.number;
            apply_all(memory, &contents, |fact| {
                (fact.offset < tail).then(|| place_of(number, fact.offset, fact.bytes))
            });
            self.register(&last, false, false);
        }
        self.report_undecodable();
        let report = self.finish_report();
        (report, self.segments)
    }

    fn check_strict(&self) -> Result<()> {
        if self.options.mode != RecoveryMode::Strict {
            return Ok(());
        }
        let all = self.judged.iter().chain(self.last.iter().map(|(judged, _)| judged));
        let mut count = self.survey.missing.len();
        let mut first =
            self.survey.missing.first().map(|&(a, b)| format!("LSNs {a} to {b} missing"));
        for judged in all {
            count += judged.judgement.damaged.len() + judged.facts.unreadable.len();
            if let (None, Some(loss)) = (&first, judged.judgement.damaged.first()) {
                let file = judged.facts.name.file_name();
                first = Some(format!("{file} is damaged at byte {}", loss.offset));
            }
        }
        match first {
            Some(first) => Err(Error::Strict { count, first }),
            None => Ok(()),
        }
    }

    fn remove_leftovers(&mut self) -> io::Result<()> {
        let disk = self.env.disk.as_ref();
        for name in std::mem::take(&mut self.survey.temporary) {
            remove_if_there(disk, &self.env.wal_path(&name))?;
        }
        for name in std::mem::take(&mut self.survey.returned) {
            let file = name.file_name();
            let item = super::report::QuarantineItem {
                name: file.clone(),
                bytes: disk.open(&self.env.wal_path(&file), Open::Read)?.len()?,
                at: self.env.clock.now(),
                verdict: IncidentKind::Missing,
                file: file.clone(),
                offset: 0,
                restorable: Vec::new(),
            };
            self.quarantine.take_file(&self.env.wal_path(&file), &file, &item)?;
        }
        Ok(())
    }

    /// Writes an empty segment over each gap that an operator accepted, so that it is declared.
    fn fill_accepted_gaps(&mut self, identity: Identity) -> io::Result<()> {
        for (first, last) in std::mem::take(&mut self.survey.missing) {
            let header = SegmentHeader {
                identity,
                salt: self.env.rng.u64(),
                start: first,
                end: last,
                generation: 1,
                synced: last,
                skipped: (first, last),
                cut: false,
                accepted_loss: true,
            };
            let name = SegmentName { start: first, rewritten: Some((last, 1)) };
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
            self.note(missing_incident(&self.env, (first, last)));
        }
        Ok(())
    }

    /// Quarantines the damage of a finished segment and repairs what can be repaired in place.
    fn settle(&mut self, judged: &mut Judged) -> io::Result<()> {
        let keep = self.quarantine_damage(judged)?;
        self.repair_header(&judged.surveyed)?;
        let mut needs_rewrite = !judged.judgement.damaged.is_empty() || judged.judgement.unsealed;
        if let Some((footer, at)) = judged.reseal.take().filter(|_| !keep) {
            let end = judged.judgement.end;
            let bytes = self.seal(&judged.surveyed, &footer, at, end)?;
            judged.facts.file_bytes = bytes;
            needs_rewrite = !judged.judgement.damaged.is_empty();
        }
        self.register(judged, needs_rewrite, keep);
        Ok(())
    }

    fn register(&self, judged: &Judged, needs_rewrite: bool, keep: bool) {
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

    /// Copies the damage of a segment to the quarantine. Says whether it must stay in place.
    fn quarantine_damage(&mut self, judged: &Judged) -> io::Result<bool> {
        let mut stays = false;
        let file = judged.facts.name.file_name();
        for loss in &judged.judgement.damaged {
            let mut name = None;
            if loss.bytes > 0 {
                let keep = Keep {
                    file: &file,
                    offset: loss.offset,
                    bytes: loss.bytes,
                    verdict: IncidentKind::Damaged,
                    restorable: Vec::new(),
                    salt: Some(judged.facts.header.salt),
                };
                match self.quarantine.keep(judged.surveyed.file.as_ref(), &keep) {
                    Ok(kept) => name = Some(kept),
                    Err(e) => {
                        stays = true;
                        tracing::warn!(
                            file,
                            cause = %e,
                            "the quarantine cannot be written; damaged bytes stay where they are"
                        );
                    }
                }
            }
            let incident = damage_incident(&self.env, &judged.facts, loss, name);
            self.note(incident);
        }
        Ok(stays)
    }

    /// Writes a damaged header copy again from the good one.
    fn repair_header(&mut self, surveyed: &Surveyed) -> io::Result<()> {
        let file = surveyed.name.file_name();
        for (copy, offset) in HEADER_OFFSETS.into_iter().enumerate() {
            if !surveyed.header.bad[copy] {
                continue;
            }
            let keep = Keep {
                file: &file,
                offset,
                bytes: HEADER_COPY_BYTES as u64,
                verdict: IncidentKind::Damaged,
                restorable: Vec::new(),
                salt: Some(surveyed.header.header.salt),
            };
            let kept = self.quarantine.keep(surveyed.file.as_ref(), &keep);
            let stays = kept.is_err();
            if let Err(e) = &kept {
                tracing::warn!(
                    file,
                    cause = %e,
                    "the quarantine cannot be written; a damaged header stays where it is"
                );
            }
            self.note(header_incident(&self.env, surveyed, offset, kept.ok()));
            if stays {
                continue;
            }
            let target = self.env.disk.open(&self.env.wal_path(&file), Open::Write)?;
            write_all_at(target.as_ref(), &surveyed.header.header.encode(), offset)?;
            target.sync()?;
        }
        Ok(())
    }

    fn describe(&mut self, judged: &Judged) {
        for loss in &judged.judgement.damaged {
            let incident = damage_incident(&self.env, &judged.facts, loss, None);
            self.note(incident);
        }
        for (copy, offset) in HEADER_OFFSETS.into_iter().enumerate() {
            if judged.surveyed.header.bad[copy] {
                self.note(header_incident(&self.env, &judged.surveyed, offset, None));
            }
        }
        if judged.judgement.tail_start.is_some() {
            self.note(tail_incident(&self.env, judged, None));
        }
    }

    /// Adds an incident to the report, and to the list and the log if it is new.
    fn note(&mut self, incident: Incident) {
        if !self.options.dry {
            let known = self.quarantine.knows(&incident.id);
            if let Err(e) = self.quarantine.record(&incident) {
                tracing::warn!(cause = %e, "the incident list cannot be written");
            }
            if !known {
                log_incident(&incident);
            }
        }
        self.report.incidents.push(incident);
    }

    fn report_undecodable(&mut self) {
        for (kind, schema, lsns, file) in std::mem::take(&mut self.undecodable) {
            let first = lsns.first().map_or(0, |&(first, _)| first);
            let count: u64 = lsns.iter().map(|&(first, last)| last - first + 1).sum();
            let detail = format!(
                "{count} records of kind {} schema {schema} are intact, but written by a newer \
                 version; they are kept as they are; use a newer engram to read them",
                kind.name()
            );
            self.note(Incident {
                id: format!("undecodable-{}-{schema}-{first}", kind.0),
                at: self.env.clock.now(),
                verdict: IncidentKind::Undecodable,
                file,
                offset: 0,
                bytes: 0,
                lsns: lsns.iter().take(1000).map(|&(first, last)| [first, last]).collect(),
                keys: Vec::new(),
                quarantined_as: None,
                detail,
            });
        }
    }

    fn finish_report(&mut self) -> RecoveryReport {
        let mut report = std::mem::take(&mut self.report);
        let took = self.env.clock.elapsed().saturating_sub(self.begun).as_secs_f64();
        let entries = report.recovered + report.failed.total();
        report.corruption_rate =
            if entries == 0 { 0.0 } else { report.failed.total() as f64 / entries as f64 };
        report.duration_seconds = took;
        report.bytes_per_second = if took > 0.0 { report.bytes_scanned as f64 / took } else { 0.0 };
        report
    }

    fn begin_log(&mut self, identity: Identity) -> io::Result<Writer> {
        self.new_segment(identity, &NewSegment { start: 1, ..NewSegment::default() })
    }

    fn go_on(
        &mut self,
        mut last: Judged,
        contents: Contents,
        memory: &mut dyn Knowledge,
        identity: Identity,
    ) -> io::Result<Writer> {
        let number = last.number;
        match go_on(&last.facts, &last.judgement) {
            Continue::Same { offset, next_lsn, mark_offset } => {
                self.repair_header(&last.surveyed)?;
                apply_all(memory, &contents, |f| Some(place_of(number, f.offset, f.bytes)));
                self.go_on_in_place(&last, &contents, offset, next_lsn, mark_offset)
            }
            Continue::After { start } => {
                apply_all(memory, &contents, |f| Some(place_of(number, f.offset, f.bytes)));
                self.settle(&mut last)?;
                let new = NewSegment { start, ..NewSegment::default() };
                self.new_segment(identity, &new)
            }
            Continue::Cut(cut) => self.cut(last, &contents, memory, identity, cut),
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
        let mut mark = vec![0; usize::try_from(offset - mark_offset).unwrap_or(0)];
        read_exact_at(file.as_ref(), &mut mark, mark_offset)?;
        write_all_at(file.as_ref(), &mark, mark_offset)?;
        file.sync()?;
        let active = Active {
            number: last.number,
            header: last.facts.header,
            file: Arc::clone(&file),
            capacity: last.facts.file_bytes.max(offset),
            offset,
            footer: footer_of(contents, |_| true),
        };
        Ok(self.writer(active, next_lsn))
    }

    fn writer(&self, active: Active, next_lsn: u64) -> Writer {
        self.segments.add(active_segment(&active, next_lsn - 1), Some(Arc::clone(&active.file)));
        let env = Arc::clone(&self.env);
        let max = self.options.segment_bytes_max;
        Writer::new(env, Arc::clone(&self.segments), max, active, next_lsn)
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
        let mut keep = self.quarantine_damage(&last)?;
        keep |= self.quarantine_tail(&last)?;
        let tail = last.judgement.tail_start.unwrap_or(u64::MAX);
        let survivors: Vec<&super::survey::Fact> =
            contents.facts.iter().filter(|f| f.offset >= cut.keep_end && f.offset < tail).collect();
        let mut new = NewSegment {
            start: cut.start,
            next_lsn: Some(cut.next_lsn),
            skipped: cut.skipped.unwrap_or((0, 0)),
            cut: true,
            ..NewSegment::default()
        };
        for fact in &survivors {
            let mut payload = vec![0; fact.header.length as usize];
            let at = fact.offset + frame::HEADER_BYTES_U64;
            read_exact_at(last.surveyed.file.as_ref(), &mut payload, at)?;
            new.frames.push((fact.header, payload));
        }
        let replaces = cut.start == last.facts.header.start;
        let writer = self.new_segment(identity, &new)?;
        let moved_to = writer.active_number();
        let mut at = FRAMES_START;
        apply_all(memory, contents, |fact| {
            if fact.offset >= tail {
                return None;
            }
            if fact.offset < cut.keep_end {
                return Some(place_of(last.number, fact.offset, fact.bytes));
            }
            let place = place_of(moved_to, at, fact.bytes);
            at += fact.bytes;
            Some(place)
        });
        if replaces {
            return Ok(writer);
        }
        last.judgement.end = cut.start - 1;
        last.judgement.unsealed = true;
        if !keep {
            let footer = footer_of(contents, |offset| offset < cut.keep_end);
            last.facts.file_bytes =
                self.seal(&last.surveyed, &footer, cut.keep_end, cut.start - 1)?;
            last.facts.footer = None;
        }
        self.repair_header(&last.surveyed)?;
        last.facts.frames.retain(|f| f.offset < cut.keep_end);
        let needs_rewrite = !last.judgement.damaged.is_empty();
        self.register(&last, needs_rewrite, keep);
        Ok(writer)
    }

    /// Says whether the tail must stay in place.
    fn quarantine_tail(&mut self, last: &Judged) -> io::Result<bool> {
        let Some(start) = last.judgement.tail_start else { return Ok(false) };
        let file = last.facts.name.file_name();
        let keep = Keep {
            file: &file,
            offset: start,
            bytes: last.judgement.tail_end - start,
            verdict: IncidentKind::Tail,
            restorable: last.judgement.tail_lsns.clone(),
            salt: Some(last.facts.header.salt),
        };
        let kept = self.quarantine.keep(last.surveyed.file.as_ref(), &keep);
        if let Err(e) = &kept {
            tracing::warn!(
                file,
                cause = %e,
                "the quarantine cannot be written; the torn tail stays where it is"
            );
        }
        let stays = kept.is_err();
        let incident = tail_incident(&self.env, last, kept.ok());
        self.note(incident);
        Ok(stays)
    }

    /// Writes a footer at `at` and gives back what is behind it. Gives the file's new length.
    fn seal(
        &self,
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
        file.set_len(bytes)?;
        file.sync()?;
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
        let wanted = next_segment_bytes(log_bytes, self.options.segment_bytes_max);
        let capacity =
            wanted.max((offset + footer.bytes_with_one_more()).next_multiple_of(1 << 20));
        let name = SegmentName { start: new.start, rewritten: None }.file_name();
        let spare =
            ZeroFill::begin(env, &format!("{name}{TEMPORARY_SUFFIX}"), capacity)?.run(env)?;
        write_all_at(spare.file.as_ref(), &bytes, 0)?;
        spare.file.sync()?;
        env.disk.rename(&spare.path, &env.wal_path(&name))?;
        env.disk.sync_dir(&env.wal_dir())?;
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

fn new_identity(env: &Env) -> Identity {
    let mut identity = Identity { store: [0; 16], secret: [0; 16] };
    env.rng.fill(&mut identity.store);
    env.rng.fill(&mut identity.secret);
    identity
}

fn place_of(segment: u32, offset: u64, bytes: u64) -> Place {
    let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    Place { segment, offset: narrow(offset), bytes: narrow(bytes) }
}

fn apply_all(
    memory: &mut dyn Knowledge,
    contents: &Contents,
    mut place: impl FnMut(&super::survey::Fact) -> Option<Place>,
) {
    for fact in &contents.facts {
        if let Some(place) = place(fact) {
            memory.apply(&fact.header, place, contents.known(fact).as_ref());
        }
    }
}

fn footer_of(contents: &Contents, wanted: impl Fn(u64) -> bool) -> FooterBuilder {
    let mut footer = FooterBuilder::default();
    let mut facts: Vec<_> = contents.facts.iter().filter(|f| wanted(f.offset)).collect();
    facts.sort_by_key(|fact| fact.offset);
    for fact in facts {
        footer.add(fact.offset, &fact.header);
    }
    footer
}

/// A damaged `Forget` that a footer or its own header names still forgets.
fn revive_lost_forgets(contents: &mut Contents, loss: &Loss, facts: &SegmentFacts) {
    for listed in &loss.listed {
        if !matches!(listed.kind, Kind::FORGET | Kind::FORGET_SPACE) {
            continue;
        }
        let own = facts.odd.iter().filter_map(|span| span.header).find(|h| h.lsn == listed.lsn);
        let header = own.unwrap_or_else(|| lost_header(listed.kind, listed.lsn, listed.key));
        let header = Header { codec: Codec::KEY_ONLY, ..header };
        contents.add_lost_forget(header, listed.offset, loss.bytes);
    }
}

/// The header of a lost frame, as far as a footer tells it.
#[must_use]
pub fn lost_header(kind: Kind, lsn: u64, key: u64) -> Header {
    Header {
        length: 0,
        kind,
        codec: Codec::KEY_ONLY,
        schema: SCHEMA,
        lsn,
        synced: lsn - 1,
        salt: 0,
        key: if kind == Kind::FORGET_SPACE { 0 } else { key },
        space_key: if kind == Kind::FORGET_SPACE { key } else { 0 },
        payload_crc: frame::crc(&[]),
    }
}

/// What stays of a judged segment once its frames are applied: its lists of frames are long.
fn slim(mut judged: Judged) -> Judged {
    let last = judged.facts.frames.last().copied();
    judged.facts.frames = last.into_iter().collect();
    if let Some((_, footer)) = &mut judged.facts.footer {
        footer.frames = Vec::new();
    }
    judged
}

/// One run of damage, as it is named once in its life, whoever finds it.
pub(crate) fn damage_incident(
    env: &Env,
    facts: &SegmentFacts,
    loss: &Loss,
    name: Option<String>,
) -> Incident {
    let file = facts.name.file_name();
    let unreadable = facts
        .unreadable
        .iter()
        .any(|&(at, bytes)| at < loss.offset + loss.bytes && loss.offset < at + bytes);
    let verdict = if unreadable { IncidentKind::Unreadable } else { IncidentKind::Damaged };
    let lost = match loss.entries {
        0 => "no record was lost".to_owned(),
        1 => format!("1 record was lost (LSN {})", lsn_text(&loss.lsns)),
        n => format!("{n} records were lost (LSNs {})", lsn_text(&loss.lsns)),
    };
    let kept = match &name {
        Some(name) => format!("; the bytes are kept in the quarantine as {name}"),
        None => String::new(),
    };
    Incident {
        id: incident_id(verdict, &file, loss.offset, loss.bytes),
        at: env.clock.now(),
        verdict,
        detail: format!(
            "{} bytes of {file} at {} fail their checksum: {lost}, all else was recovered{kept}; \
             check the disk, and remember again what was lost",
            loss.bytes, loss.offset
        ),
        file,
        offset: loss.offset,
        bytes: loss.bytes,
        lsns: loss.lsns.iter().map(|&(first, last)| [first, last]).collect(),
        keys: loss.listed.iter().map(|l| format!("{}:{:016x}", l.kind.name(), l.key)).collect(),
        quarantined_as: name,
    }
}

fn lsn_text(ranges: &[LsnRange]) -> String {
    let text: Vec<String> = ranges
        .iter()
        .map(
            |&(first, last)| {
                if first == last { first.to_string() } else { format!("{first} to {last}") }
            },
        )
        .collect();
    if text.is_empty() { "unknown".into() } else { text.join(", ") }
}

fn header_incident(env: &Env, surveyed: &Surveyed, offset: u64, name: Option<String>) -> Incident {
    let file = surveyed.name.file_name();
    let bytes = HEADER_COPY_BYTES as u64;
    Incident {
        id: incident_id(IncidentKind::Damaged, &file, offset, bytes),
        at: env.clock.now(),
        verdict: IncidentKind::Damaged,
        detail: format!(
            "a copy of the header of {file} at {offset} fails its checksum: no record was lost, \
             it is written again from the other; check the disk"
        ),
        file,
        offset,
        bytes,
        lsns: Vec::new(),
        keys: Vec::new(),
        quarantined_as: name,
    }
}

fn tail_incident(env: &Env, judged: &Judged, name: Option<String>) -> Incident {
    let file = judged.facts.name.file_name();
    let offset = judged.judgement.tail_start.unwrap_or(0);
    let bytes = judged.judgement.tail_end - offset;
    let mut lsns = Vec::new();
    for &lsn in &judged.judgement.tail_lsns {
        push_lsn(&mut lsns, lsn);
    }
    Incident {
        id: incident_id(IncidentKind::Tail, &file, offset, bytes),
        at: env.clock.now(),
        verdict: IncidentKind::Tail,
        detail: format!(
            "{bytes} bytes at the end of {file} are the unfinished last write before a crash: \
             nobody was told that they were kept, so nothing was lost; {} intact records among \
             them can be brought back with `engram wal quarantine restore`",
            judged.judgement.tail_lsns.len()
        ),
        file,
        offset,
        bytes,
        lsns: lsns.into_iter().map(|(first, last)| [first, last]).collect(),
        keys: Vec::new(),
        quarantined_as: name,
    }
}

fn missing_incident(env: &Env, (first, last): LsnRange) -> Incident {
    Incident {
        id: format!("missing-{first}-{last}"),
        at: env.clock.now(),
        verdict: IncidentKind::Missing,
        file: String::new(),
        offset: 0,
        bytes: 0,
        lsns: vec![[first, last]],
        keys: Vec::new(),
        quarantined_as: None,
        detail: format!("no segment file holds LSNs {first} to {last}"),
    }
}

/// Logs an incident, once in its life.
pub(crate) fn log_incident(incident: &Incident) {
    let Incident { id, detail, .. } = incident;
    match incident.verdict {
        IncidentKind::Tail => tracing::info!(id, "{detail}"),
        _ => tracing::warn!(id, "{detail}"),
    }
}

impl RecoveryProgress {
    /// Says how much there is to read.
    pub fn begin(&self, bytes: u64) {
        self.bytes_total.store(bytes, Ordering::Relaxed);
    }
}

/// The file handle type, for callers that open segments themselves.
pub type SegmentFile = Arc<dyn File>;
