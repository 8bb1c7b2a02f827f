//! Recovery: survey, scan, judge, then act. Only the last step changes the disk.
//!
//! A step machine without threads: [`Recovery::begin`] looks, whoever drives it scans the
//! segments (in any order, anywhere) and hands the results to [`Recovery::absorb`] in order of
//! LSN, and [`Recovery::finish`] acts: quarantine first, then cut, repair, remove. Each action
//! leaves a directory that recovery, run again, brings to the same end.
//!
//! Deliberately absent: decisions ([`super::verdict`], [`super::plan`]).

mod act;
mod aside;
mod incidents;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use act::{footer_of, new_identity};
pub(crate) use incidents::{damage_incident, log_incident};
use incidents::{header_incident, missing_incident, tail_incident};

use super::contents::{Contents, Fact, Room};
use super::env::Env;
use super::footer::FooterBuilder;
use super::frame::{self, Codec, Header, Kind};
use super::knowledge::{Knowledge, Place};
use super::plan::{
    FramePlace, Judgement, Loss, LsnRange, SegmentFacts, gap_after, judge, push_lsn,
};
use super::prealloc::Surplus;
use super::quarantine::Quarantine;
use super::report::{Incident, IncidentKind, RecoveryMode, RecoveryReport};
use super::segment::{FRAMES_START, HEADER_OFFSETS, Identity};
use super::segments::{OPEN_FILES_MAX, Segments};
use super::survey::{Survey, Surveyed, covers};
use super::verdict::Seen;
use super::writer::Writer;
use crate::error::{Error, Result};
use crate::record::{Known, LegacyImported, SCHEMA};

/// What recovery is told.
#[derive(Debug, Clone)]
pub struct RecoverOptions {
    /// What to do about damage.
    pub mode: RecoveryMode,
    /// LSNs to go on without.
    pub accepted: Vec<LsnRange>,
    /// Largest segment.
    pub segment_bytes_max: u64,
    /// Whether the writer will sync each write.
    pub syncs_each: bool,
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
    /// What whoever writes the log is to give back.
    surplus: Vec<Surplus>,
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
        let held_max = if options.dry { usize::MAX } else { OPEN_FILES_MAX };
        let survey = Survey::take(&env, &options.accepted, held_max)?;
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
            surplus: Vec::new(),
            begun,
            undecodable: Vec::new(),
        })
    }

    /// The segments to scan, in the order in which they must be absorbed.
    #[must_use]
    pub fn tasks(&self) -> &[Surveyed] {
        &self.survey.segments
    }

    /// Whether reads of a segment that fail are to be worked around: an operator accepted the
    /// loss of LSNs in it.
    #[must_use]
    pub fn tolerant(&self, segment: &Surveyed) -> bool {
        let first = segment.name.start;
        let last =
            segment.name.rewritten.map_or(segment.position.last_lsn_allowed(), |(end, _)| end);
        let overlaps = |&(from, to): &LsnRange| from <= last && first <= to;
        self.options.dry || self.options.accepted.iter().any(overlaps)
    }

    /// What the look saw.
    #[must_use]
    pub fn survey(&self) -> &Survey {
        &self.survey
    }

    /// Judges a scanned segment, and applies its frames. Gives its memory back, for the next scan.
    ///
    /// # Errors
    /// A gap behind it. Nothing was changed on disk.
    pub fn absorb(
        &mut self,
        surveyed: &Surveyed,
        facts: SegmentFacts,
        mut contents: Contents,
        memory: &mut dyn Knowledge,
    ) -> Result<Room> {
        let judgement = judge(&facts, surveyed.position);
        if let Some(missing) = gap_after(&facts, &judgement, surveyed.position) {
            if !covers(&self.options.accepted, missing) && !self.options.dry {
                let after = facts.name.file_name();
                let why = format!("no segment file holds them, after {after}");
                return Err(Error::Missing { first: missing.0, last: missing.1, why });
            }
            self.survey.missing.push(missing);
        }
        self.check_unreadable(&facts, &judgement)?;
        if !judgement.damaged.is_empty() || !facts.unreadable.is_empty() {
            memory.doubt();
        }
        for loss in &judgement.damaged {
            revive_lost_forgets(&mut contents, loss, &facts);
        }
        self.count(&facts, &judgement, &contents);
        let number = self.segments.new_number();
        let cut = matches!(surveyed.position, super::plan::Position::Followed { cut: Some(_), .. });
        let reseal = (judgement.unsealed && cut).then(|| {
            let end = facts.frames.last().map_or(FRAMES_START, |f| f.offset + u64::from(f.bytes));
            let damage = judgement.damaged.iter().map(|loss| loss.offset + loss.bytes).max();
            let at = end.max(damage.unwrap_or(0));
            (footer_of(&contents, at, |_| true), at)
        });
        let judged = Judged { surveyed: surveyed.clone(), facts, judgement, number, reseal };
        if surveyed.position == super::plan::Position::Last {
            self.last = Some((judged, contents));
            return Ok(Room::default());
        }
        apply_all(memory, &contents, |fact| Some(place_of(number, fact.offset(), fact.bytes())));
        let (judged, frames) = slim(judged);
        self.judged.push(judged);
        Ok(Room::of(contents, frames))
    }

    /// Whether the last segment, whose frames are applied at the end only, names a v0.1.0 file as taken over.
    pub fn last_imported(&self, is_it: impl Fn(&LegacyImported) -> bool) -> bool {
        let Some((last, contents)) = &self.last else { return false };
        let tail = last.judgement.tail_start.unwrap_or(u64::MAX);
        let mut kept = contents.facts.iter().filter(|fact| fact.offset() < tail);
        kept.any(|fact| match contents.known(fact) {
            Some(Known::LegacyImported(file)) => is_it(file),
            _ => false,
        })
    }

    /// What the device did not give must be within what was accepted.
    fn check_unreadable(&self, facts: &SegmentFacts, judgement: &Judgement) -> Result<()> {
        let Some(&(offset, _)) = facts.unreadable.first().filter(|_| !self.options.dry) else {
            return Ok(());
        };
        let lost = judgement.damaged.iter().flat_map(|loss| loss.lsns.iter());
        match lost.copied().find(|&range| !covers(&self.options.accepted, range)) {
            None => Ok(()),
            Some((from, to)) => Err(Error::Unreadable {
                path: self.env.wal_path(&facts.name.file_name()),
                offset,
                first: from,
                last: to,
                cause: "the device answers with an error".into(),
            }),
        }
    }

    fn count(&mut self, facts: &SegmentFacts, judgement: &Judgement, contents: &Contents) {
        let report = &mut self.report;
        report.segments += 1;
        report.bytes_scanned += facts.file_bytes;
        report.stale += judgement.stale;
        let tail_start = judgement.tail_start.unwrap_or(u64::MAX);
        let mut frames = facts.frames.iter().map(|frame| frame.lsn).peekable();
        for fact in contents.facts.iter().filter(|f| f.offset() < tail_start) {
            if contents.known(fact).is_none() {
                report.failed.undecodable += 1;
                let (kind, schema) = (fact.kind, fact.schema);
                let file = facts.name.file_name();
                let at = self.undecodable.iter().position(|u| u.0 == kind && u.1 == schema);
                let at = at.unwrap_or_else(|| {
                    self.undecodable.push((kind, schema, Vec::new(), file));
                    self.undecodable.len() - 1
                });
                push_lsn(&mut self.undecodable[at].2, fact.lsn);
            } else if fact.kind.is_change() {
                // A lost forget that a footer or a header names is no frame.
                let lsn = fact.lsn;
                while frames.next_if(|&other| other < lsn).is_some() {}
                report.recovered += u64::from(frames.peek() == Some(&lsn));
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
        // Names that were seen may come from a process that died before it synced them. What
        // they replace is cut and removed below, so they must be durable first.
        env.disk.sync_dir(&dir).map_err(io("sync"))?;
        self.remove_leftovers().map_err(io("remove unfinished files in"))?;
        self.fill_accepted_gaps(identity).map_err(io("declare an accepted loss in"))?;
        let mut judged = std::mem::take(&mut self.judged);
        for segment in &mut judged {
            self.settle(segment).map_err(io("repair a segment of"))?;
        }
        let mut writer = match self.last.take() {
            None => self.begin_log(identity).map_err(io("begin a log in"))?,
            Some((last, contents)) => {
                self.go_on(last, &contents, memory, identity).map_err(io("go on in"))?
            }
        };
        self.report_undecodable();
        for name in std::mem::take(&mut self.survey.obsolete) {
            self.remove(&name.file_name()).map_err(io("remove a replaced segment in"))?;
        }
        writer.surplus.append(&mut self.surplus);
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
                (fact.offset() < tail).then(|| place_of(number, fact.offset(), fact.bytes()))
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
        let (mut count, mut first) = (self.survey.missing.len(), None);
        if let Some((from, to)) = self.survey.missing.first() {
            first = Some(format!("LSNs {from} to {to} are missing"));
        }
        for judged in all {
            let rest = self.rest_of(judged);
            let name = judged.facts.name.file_name();
            let rest = rest.map_err(|e| Error::io("read", self.env.wal_path(&name), &e))?;
            count += usize::from(rest.is_some());
            if let (None, Some(rest)) = (&first, rest) {
                first = Some(format!("{name} has bytes behind its end, at byte {}", rest.offset));
            }
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

    fn describe(&mut self, judged: &Judged) {
        for loss in &judged.judgement.damaged {
            let incident = damage_incident(&self.env, &judged.facts, loss, None);
            self.note(incident);
        }
        if let Ok(Some(rest)) = self.rest_of(judged) {
            self.note(damage_incident(&self.env, &judged.facts, &rest, None));
        }
        for (copy, offset) in HEADER_OFFSETS.into_iter().enumerate() {
            if judged.surveyed.header.bad[copy] {
                self.note(header_incident(&self.env, &judged.surveyed, offset, None));
            }
        }
        let file = judged.facts.name.file_name();
        if let Ok(Some(tail)) = self.tail_of(judged, &file) {
            let incident = tail_incident(&self.env, &tail, None);
            self.note(incident);
        }
    }

    /// Adds an incident to the report, and to the list and the log if it is new. Says whether the
    /// list has it.
    fn note(&mut self, incident: Incident) -> bool {
        let mut listed = true;
        if !self.options.dry {
            let known = self.quarantine.knows(&incident.id);
            if let Err(e) = self.quarantine.record(&incident) {
                tracing::warn!(cause = %e, "the incident list cannot be written");
                listed = false;
            }
            if !known {
                log_incident(&incident);
            }
        }
        self.report.incidents.push(incident);
        listed
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
        report.set_corruption_rate();
        report.add_duration(self.env.clock.elapsed().saturating_sub(self.begun));
        report
    }
}

fn place_of(segment: u32, offset: u64, bytes: u64) -> Place {
    let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    Place { segment, offset: narrow(offset), bytes: narrow(bytes) }
}

fn apply_all(
    memory: &mut dyn Knowledge,
    contents: &Contents,
    mut place: impl FnMut(&Fact) -> Option<Place>,
) {
    for fact in &contents.facts {
        if let Some(place) = place(fact) {
            memory.apply(&contents.header(fact), place, contents.known(fact).as_ref());
        }
    }
}

/// A damaged `Forget` that a footer or its own header names still forgets.
fn revive_lost_forgets(contents: &mut Contents, loss: &Loss, facts: &SegmentFacts) {
    for listed in &loss.listed {
        if !matches!(listed.kind, Kind::FORGET | Kind::FORGET_SPACE) {
            continue;
        }
        let own = facts.odd.iter().filter_map(|span| span.header).find(|h| h.lsn == listed.lsn);
        let header = own.unwrap_or_else(|| lost_header(listed.kind, listed.lsn, listed.key));
        let (codec, payload_crc) = (Codec::KEY_ONLY, frame::crc(&[]));
        let header = Header { codec, length: 0, payload_crc, ..header };
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
        reserved: [0; 4],
    }
}

/// What stays of a judged segment once its frames are applied, and its list of them, which is long.
fn slim(mut judged: Judged) -> (Judged, Vec<FramePlace>) {
    let last = judged.facts.frames.last().copied();
    let frames = std::mem::replace(&mut judged.facts.frames, last.into_iter().collect());
    if let Some((_, footer)) = &mut judged.facts.footer {
        footer.frames = Vec::new();
    }
    (judged, frames)
}
