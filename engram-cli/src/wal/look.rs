//! `inspect`, `verify` and `dump`: read-only, without a lock, beside a running server too.

use std::io::Write as _;
use std::path::Path;

use engram_core::Error;
use engram_core::disk::Disk as _;
use engram_core::disk::real::RealDisk;
use engram_core::inspect::{self, FrameDump, Inspection};
use engram_core::storage::legacy::is_legacy_name;
use engram_core::storage::wal::report::{Incident, IncidentKind, RecoveryReport};

use super::existing;
use crate::args::OfflineArgs;
use crate::engine;
use crate::failure::{Failure, Outcome, note};
use crate::out;
use crate::overview::{ranges, recovery_in_words, size};

/// `engram wal inspect`.
pub(super) fn inspect(args: &OfflineArgs) -> Outcome {
    let seen = look(args)?;
    if args.json {
        return out::json(&seen);
    }
    let mut text = about(&seen);
    let head = ["SEGMENT", "LSNS", "GENERATION", "STATE", "BYTES", "LIVE", "DEAD"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for segment in &seen.segments {
        rows.push(vec![
            segment.file.clone(),
            format!("{}-{}", segment.first_lsn, segment.last_lsn),
            segment.generation.to_string(),
            if segment.sealed { "sealed".into() } else { "active".into() },
            size(segment.bytes),
            size(segment.live_bytes),
            size(segment.dead_bytes),
        ]);
    }
    text.push(out::table(&rows));
    text.extend(incidents(&seen.report));
    out::line(&text.join("\n"))
}

/// `engram wal verify`: 0 clean, 1 damage found, 2 could not look.
pub(super) fn verify(args: &OfflineArgs) -> Outcome {
    let seen = look(args).map_err(|failure| failure.with_code(2))?;
    let damaged = is_damaged(&seen.report);
    if args.json {
        // The report alone does not tell these, and who reads it must not take a part for all.
        for line in notes(&seen) {
            note(&line);
        }
        out::json(&seen.report).map_err(|failure| could_not_say(failure, damaged))?;
    } else {
        let mut text = about(&seen);
        text.extend(incidents(&seen.report));
        text.push(verdict(&seen, damaged));
        out::line(&text.join("\n")).map_err(|failure| could_not_say(failure, damaged))?;
    }
    if damaged { Err(Failure::silent(1)) } else { Ok(()) }
}

/// A reader that went away must not turn damage into exit code 0, nor a full disk a clean log into 1.
fn could_not_say(failure: Failure, damaged: bool) -> Failure {
    match (damaged, failure.code()) {
        (true, _) => failure.with_code(1),
        (false, 1) => failure.with_code(2),
        (false, _) => failure,
    }
}

/// The last line of `verify`: `clean` only where all of the log, also of a v0.1.0 log that a
/// start would take over, can be given back.
fn verdict(seen: &Inspection, damaged: bool) -> String {
    let report = &seen.report;
    if damaged {
        let lost = &report.lost_lsns;
        return if lost.is_empty() {
            "damage found".into()
        } else {
            format!("damage found; lost LSNs: {}", ranges(lost))
        };
    }
    let legacy = report.legacy.as_ref().map(|legacy| legacy.failed).unwrap_or_default();
    if seen.legacy_files.is_empty() || report.failed.total() + legacy.total() == 0 {
        return "clean".into();
    }
    // Whether the report's own count holds those of the v0.1.0 log too, or not.
    let undecodable = report.failed.undecodable.max(legacy.undecodable);
    let tail = report.failed.tail.max(legacy.tail);
    format!(
        "no damage, but not all can be taken over: {undecodable} not understood, {tail} of an \
         unfinished end; a start keeps their bytes in the quarantine"
    )
}

fn is_damaged(report: &RecoveryReport) -> bool {
    let bad = |kind| {
        matches!(kind, IncidentKind::Damaged | IncidentKind::Missing | IncidentKind::Unreadable)
    };
    let legacy = report.legacy.as_ref().is_some_and(|legacy| legacy.failed.damaged > 0);
    legacy
        || report.failed.damaged > 0
        || report.incidents.iter().any(|incident| bad(incident.verdict))
}

/// `engram wal dump`.
pub(super) fn dump(args: &OfflineArgs) -> Outcome {
    let dir = existing(&args.data)?;
    let mut stdout = out::buffered();
    let mut trouble = None;
    let mut each = |frame: FrameDump| {
        let written = if args.json {
            serde_json::to_writer(&mut stdout, &frame)
                .map_err(std::io::Error::from)
                .and_then(|()| stdout.write_all(b"\n"))
        } else {
            writeln!(stdout, "{}", frame_line(&frame))
        };
        written.map_err(|error| {
            trouble = Some(out::trouble(&error));
            // Only ends the walk: what really happened is in `trouble`.
            Error::Closed
        })
    };
    let walked = inspect::dump(&engine::disk(), &dir, &mut each);
    if let Some(trouble) = trouble {
        return Err(trouble);
    }
    stdout.flush().map_err(|e| out::trouble(&e))?;
    Ok(walked?)
}

fn frame_line(frame: &FrameDump) -> String {
    let whose = match (&frame.space, &frame.id) {
        (Some(space), Some(id)) => format!("  {space}/{}", id.escape_debug()),
        (Some(space), None) => format!("  {space}"),
        _ => String::new(),
    };
    format!(
        "{} @{} +{}  LSN {} (synced {})  {} v{}  {}  {}{whose}",
        frame.file,
        frame.offset,
        frame.bytes,
        frame.lsn,
        frame.synced_lsn,
        frame.kind,
        frame.schema,
        frame.key,
        frame.verdict,
    )
}

fn look(args: &OfflineArgs) -> Outcome<Inspection> {
    let dir = existing(&args.data)?;
    let seen = inspect::inspect(&engine::disk(), &dir)?;
    if seen.segments.is_empty() && seen.legacy_files.is_empty() && !has_log(&dir)? {
        return Err(no_memory(&dir));
    }
    Ok(seen)
}

/// A wrong path must not look like a healthy memory, nor become one.
pub(super) fn no_memory(dir: &Path) -> Failure {
    Failure::failed(format!("{} holds no memory; name a data directory", dir.display()))
}

/// Whether a log is in a directory, or was begun there, or one of v0.1.0 is.
pub(super) fn has_log(dir: &Path) -> Outcome<bool> {
    let entries = RealDisk
        .list(dir)
        .map_err(|e| Failure::failed(format!("cannot list {}: {e}", dir.display())))?;
    let has_old = |name: &str| {
        let files = RealDisk.list(&dir.join(name).join("wal")).unwrap_or_default();
        files.iter().any(|file| is_legacy_name(&file.name))
    };
    Ok(entries.iter().any(|entry| entry.is_dir && (entry.name == "wal" || has_old(&entry.name))))
}

fn about(seen: &Inspection) -> Vec<String> {
    let mut lines = notes(seen);
    let report = &seen.report;
    // The first word is how far the look went, where it did not go to the end.
    let at = usize::from(seen.live);
    let segments = out::count(seen.segments.len() as u64, "segment", "segments");
    lines.insert(at, format!("{segments}, head LSN {}", report.head_lsn));
    lines.insert(at + 1, recovery_in_words(report));
    lines
}

/// What a look saw beside the log.
fn notes(seen: &Inspection) -> Vec<String> {
    let mut lines = Vec::new();
    if seen.live {
        lines.push("a process has this log open: looked up to the synced LSN".into());
    }
    if !seen.legacy_files.is_empty() {
        let files = seen.legacy_files.join(", ");
        lines.push(format!("v0.1.0 log files that a start would take over: {files}"));
    }
    if let Some(legacy) = &seen.report.legacy {
        lines.extend(legacy.notes.iter().map(|told| format!("v0.1.0 log: {told}")));
    }
    if !seen.foreign_files.is_empty() {
        lines.push(format!("foreign files, left alone: {}", seen.foreign_files.join(", ")));
    }
    lines
}

fn incidents(report: &RecoveryReport) -> Vec<String> {
    report.incidents.iter().map(incident_line).collect()
}

fn incident_line(incident: &Incident) -> String {
    let lsns = if incident.lsns.is_empty() { "none".into() } else { ranges(&incident.lsns) };
    let verdict = incident.verdict.name();
    if incident.file.is_empty() {
        // No file holds it: that is what it is about.
        return format!("{verdict}: LSNs {lsns}: {}", incident.detail);
    }
    format!(
        "{verdict}: {} at byte {}, {}, LSNs {lsns}: {}",
        incident.file,
        incident.offset,
        out::count(incident.bytes, "byte", "bytes"),
        incident.detail,
    )
}

#[cfg(test)]
mod tests {
    use engram_core::storage::wal::report::{Failed, LegacyReport};

    use super::*;

    fn seen(legacy_files: &[&str], report: RecoveryReport) -> Inspection {
        Inspection {
            live: false,
            segments: Vec::new(),
            report,
            legacy_files: legacy_files.iter().map(|&file| file.into()).collect(),
            foreign_files: Vec::new(),
        }
    }

    fn legacy(failed: Failed) -> RecoveryReport {
        let legacy = LegacyReport { failed, ..LegacyReport::default() };
        RecoveryReport { legacy: Some(legacy), ..RecoveryReport::default() }
    }

    #[test]
    fn clean_means_that_all_can_be_given_back() {
        assert_eq!(verdict(&seen(&[], RecoveryReport::default()), false), "clean");
        assert_eq!(verdict(&seen(&["a.log"], RecoveryReport::default()), false), "clean");
        let failed = Failed { undecodable: 2, tail: 1, ..Failed::default() };
        let both = RecoveryReport { failed, ..legacy(failed) };
        for report in [RecoveryReport { failed, ..RecoveryReport::default() }, legacy(failed), both]
        {
            assert!(!is_damaged(&report));
            let told = verdict(&seen(&["a.log"], report), false);
            assert!(told.contains("2 not understood, 1 of an unfinished end"), "{told}");
        }
        assert!(is_damaged(&legacy(Failed { damaged: 1, ..Failed::default() })));
    }

    #[test]
    fn an_incident_of_no_file_names_none() {
        let incident = Incident {
            id: "i".into(),
            at: "2026-01-01T00:00:00Z".parse().unwrap(),
            verdict: IncidentKind::Missing,
            file: String::new(),
            offset: 0,
            bytes: 0,
            lsns: vec![[5, 9]],
            keys: Vec::new(),
            quarantined_as: None,
            detail: "gone".into(),
        };
        assert_eq!(incident_line(&incident), "missing: LSNs 5-9: gone");
    }
}
