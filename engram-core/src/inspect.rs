//! A read-only look at a data directory: takes no lock, changes nothing.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::clock::{SystemClock, SystemRng};
use crate::disk::{Disk, read_file};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::record::{self, Record};
use crate::storage::legacy;
use crate::storage::wal::contents::Room;
use crate::storage::wal::env::{Env, Scale};
use crate::storage::wal::frame::{Header, Kind};
use crate::storage::wal::knowledge::Knowledge as _;
use crate::storage::wal::plan::{Judgement, SegmentFacts};
use crate::storage::wal::quarantine;
use crate::storage::wal::read::SpanReader;
use crate::storage::wal::recover::{RecoverOptions, Recovery};
use crate::storage::wal::report::{
    LegacyReport, QuarantineItem, RecoveryMode, RecoveryReport, SegmentStatus,
};
use crate::storage::wal::scan::{Scanner, Span};
use crate::storage::wal::segment::FRAMES_START;
use crate::storage::wal::survey::{RecoveryProgress, Survey, Surveyed, scan};
use crate::storage::wal::verdict::Seen;
use crate::store::directory::Directory;
use crate::store::{LOCK_NAME, LegacyFile, failure_incident, find_legacy};

/// What a look at a data directory saw.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// Whether a process has it open; then the look ends at the synced LSN.
    pub live: bool,
    /// The segments, oldest first.
    pub segments: Vec<SegmentStatus>,
    /// What recovery would report.
    pub report: RecoveryReport,
    /// v0.1.0 log files that a start would take over.
    pub legacy_files: Vec<String>,
    /// Files that are none of ours.
    pub foreign_files: Vec<String>,
}

/// One frame, for `wal dump`.
#[derive(Debug, Clone, Serialize)]
pub struct FrameDump {
    /// The segment file.
    pub file: String,
    /// Where it begins.
    pub offset: u64,
    /// Bytes, header included.
    pub bytes: u64,
    /// Its LSN.
    pub lsn: u64,
    /// The highest LSN known synced when it was written.
    pub synced_lsn: u64,
    /// `remember`, `forget`, ... or `unknown(N)`.
    pub kind: String,
    /// Its schema version.
    pub schema: u16,
    /// Its key, as 16 hex digits.
    pub key: String,
    /// The space, where the payload tells.
    pub space: Option<String>,
    /// The id, where the payload tells.
    pub id: Option<String>,
    /// `frame`, `damaged`, `undecodable`, `tail`, `stale`.
    pub verdict: String,
}

/// Looks at all of a directory as recovery would (`wal inspect`, `wal verify`).
///
/// # Errors
/// When it could not look.
pub fn inspect(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Inspection> {
    let env = env_of(disk, dir)?;
    let live = is_live(&env);
    let options = RecoverOptions {
        mode: RecoveryMode::Salvage,
        accepted: Vec::new(),
        segment_bytes_max: crate::episode::limits::SEGMENT_BYTES_DEFAULT,
        syncs_each: true,
        dry: true,
    };
    let mut recovery = Recovery::begin(Arc::clone(&env), options)?;
    let mut directory = Directory::default();
    let progress = RecoveryProgress::default();
    let foreign = recovery.survey().foreign.iter().filter(|name| !legacy::is_legacy_name(name));
    let foreign_files = foreign.cloned().collect();
    let mut room = Room::default();
    for task in recovery.tasks().to_vec() {
        let (mut facts, contents) = scan(&env, &task, true, &progress, room)?;
        if live && task.position == crate::storage::wal::plan::Position::Last {
            // Beyond the synced LSN its writer is at work.
            let synced = facts.synced;
            let end = facts.frames.iter().rev().find(|f| f.lsn <= synced).map_or(0, |f| f.offset);
            facts.odd.retain(|span| span.offset <= end);
        }
        room = recovery.absorb(&task, facts, contents, &mut directory)?;
    }
    let (mut report, segments) = recovery.dry_report(&mut directory);
    let legacy_files = look_at_legacy(&env, &directory, &mut report)?;
    let list = segments.list().into_iter();
    let statuses = list.map(|segment| segment.status(directory.usage(segment.number)));
    Ok(Inspection { live, segments: statuses.collect(), report, legacy_files, foreign_files })
}

/// Reads the v0.1.0 files that a start would take over, and adds them to the report.
fn look_at_legacy(
    env: &Env,
    directory: &Directory,
    report: &mut RecoveryReport,
) -> Result<Vec<String>> {
    let mut legacy = LegacyReport::default();
    let mut files = Vec::new();
    for LegacyFile { relative, .. } in find_legacy(env)?.files {
        let path = env.dir.join(&relative);
        let bytes = read_file(env.disk.as_ref(), &path, u64::MAX);
        let bytes = bytes.map_err(|e| Error::io("read", path, &e))?;
        let taken_over = directory.imported(&relative).is_some_and(|(size, sha256)| {
            *size == bytes.len() as u64 && **sha256 == *Sha256::digest(&bytes)
        });
        if !taken_over {
            let log = legacy::read(&bytes);
            legacy.files += 1;
            legacy.recovered += log.entries.len() as u64;
            for failure in &log.failures {
                legacy.failed.count(failure.kind);
                report.incidents.push(failure_incident(env, &relative, failure, None));
            }
            for entry in &log.entries {
                let notes = entry.notes.iter();
                let notes = notes.map(|note| format!("{relative} at {}: {note}", entry.offset));
                legacy.notes.extend(notes);
            }
            report.bytes_scanned += bytes.len() as u64;
        }
        files.push(relative);
    }
    if legacy.files > 0 {
        report.recovered += legacy.recovered;
        report.failed.add(legacy.failed);
        report.set_corruption_rate();
        report.legacy = Some(legacy);
    }
    Ok(files)
}

fn env_of(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Arc<Env>> {
    disk.list(dir).map_err(|e| Error::io("look at", dir, &e))?;
    Ok(Arc::new(Env {
        disk: Arc::clone(disk),
        clock: Arc::new(SystemClock::default()),
        rng: Arc::new(SystemRng),
        metrics: Arc::new(Metrics::noop()),
        scale: Scale::default(),
        dir: dir.to_owned(),
    }))
}

/// Whether a process holds the lock. A directory without a lock file was never opened.
fn is_live(env: &Env) -> bool {
    let path = env.dir.join(LOCK_NAME);
    let exists = env.disk.open(&path, crate::disk::Open::Read).is_ok();
    exists && matches!(env.disk.lock(&path), Ok(None))
}

/// Calls `each` for every frame and bad span in log order (`wal dump`).
///
/// # Errors
/// When it could not look, or `each` failed.
pub fn dump(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    each: &mut dyn FnMut(FrameDump) -> Result<()>,
) -> Result<()> {
    let env = env_of(disk, dir)?;
    let survey = Survey::take(&env, &[], usize::MAX)?;
    for segment in &survey.segments {
        let (facts, _) = scan(&env, segment, true, &RecoveryProgress::default(), Room::default())?;
        let judgement = crate::storage::wal::plan::judge(&facts, segment.position);
        dump_segment(&env, segment, &facts, &judgement, each)?;
    }
    Ok(())
}

fn dump_segment(
    env: &Env,
    segment: &Surveyed,
    facts: &SegmentFacts,
    judgement: &Judgement,
    each: &mut dyn FnMut(FrameDump) -> Result<()>,
) -> Result<()> {
    let file = segment.name.file_name();
    let header = segment.header.header;
    let last = segment.position.last_lsn_allowed();
    let scanner = Scanner::new(header.salt, header.start, last, FRAMES_START)
        .without(facts.misplaced.clone());
    let source = segment.file(env).map_err(|e| Error::io("open", env.wal_path(&file), &e))?;
    let mut reader = SpanReader::new(source, segment.file_bytes, scanner, true);
    let tail = judgement.tail_start.unwrap_or(u64::MAX);
    while let Some(item) = reader.next_span().map_err(|e| Error::io("read", &file, &e.cause))? {
        let offset = item.offset;
        let dump = match item.span {
            Span::End => continue,
            Span::Frame(frame) => {
                let record = record::decode(&frame, item.payload);
                let known = record.is_some() || frame.kind == Kind::FOOTER;
                let verdict = if known { "frame" } else { "undecodable" };
                let mut dump = describe(&file, offset, frame.frame_bytes(), Some(&frame), verdict);
                match record {
                    Some(Record::Remember(r)) => {
                        dump.space = Some(r.space.to_owned());
                        dump.id = Some(r.id.to_owned());
                    }
                    Some(Record::Forget { space, id, .. }) => {
                        dump.space = Some(space.to_owned());
                        dump.id = Some(id.to_owned());
                    }
                    Some(Record::SpaceDefined { space, .. }) => dump.space = Some(space),
                    Some(Record::ForgetSpace { space, .. }) => dump.space = Some(space.to_owned()),
                    _ => {}
                }
                dump
            }
            Span::Bad { bytes, header } => {
                describe(&file, offset, bytes, header.as_ref(), "damaged")
            }
            Span::Stale { bytes, header } => {
                let at = facts.odd.binary_search_by_key(&offset, |span| span.offset);
                let seen = at.ok().and_then(|at| facts.odd.get(at)).map(|span| span.seen);
                let verdict = if seen == Some(Seen::Misplaced) { "damaged" } else { "stale" };
                describe(&file, offset, bytes, header.as_ref(), verdict)
            }
        };
        let verdict = if offset >= tail { "tail".to_owned() } else { dump.verdict.clone() };
        each(FrameDump { verdict, ..dump })?;
    }
    Ok(())
}

fn describe(
    file: &str,
    offset: u64,
    bytes: u64,
    header: Option<&Header>,
    verdict: &str,
) -> FrameDump {
    FrameDump {
        file: file.to_owned(),
        offset,
        bytes,
        lsn: header.map_or(0, |h| h.lsn),
        synced_lsn: header.map_or(0, |h| h.synced),
        kind: header.map_or_else(String::new, |h| h.kind.name()),
        schema: header.map_or(0, |h| h.schema),
        key: header.map_or_else(String::new, |h| format!("{:016x}", h.key)),
        space: None,
        id: None,
        verdict: verdict.to_owned(),
    }
}

/// What is kept in the quarantine of a directory.
///
/// # Errors
/// What the disk said.
pub fn quarantine_list(disk: &dyn Disk, dir: &Path) -> Result<Vec<QuarantineItem>> {
    quarantine::list(disk, dir)
}

/// One quarantined item's bytes, any salt in them blanked, and what is known of it.
///
/// # Errors
/// [`Error::NoSuch`].
pub fn quarantine_show(
    disk: &dyn Disk,
    dir: &Path,
    name: &str,
) -> Result<(QuarantineItem, Vec<u8>)> {
    quarantine::show(disk, dir, name)
}

/// Removes one item (or all: `None`) for ever; gives the bytes freed.
///
/// # Errors
/// [`Error::NoSuch`].
pub fn quarantine_purge(disk: &dyn Disk, dir: &Path, name: Option<&str>) -> Result<u64> {
    quarantine::purge(disk, dir, name)
}
