//! `inspect`, `verify` and `dump`: read-only, without a lock, beside a running server too.

use std::io::Write as _;
use std::path::Path;

use engram_core::Error;
use engram_core::disk::Disk as _;
use engram_core::disk::real::RealDisk;
use engram_core::inspect::{self, FrameDump, Inspection};
use engram_core::storage::wal::report::{IncidentKind, RecoveryReport};

use super::existing;
use crate::args::OfflineArgs;
use crate::engine;
use crate::failure::{Failure, Outcome};
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
        out::json(&seen.report).map_err(|failure| could_not_say(failure, damaged))?;
    } else {
        let mut text = about(&seen);
        text.extend(incidents(&seen.report));
        let lost = &seen.report.lost_lsns;
        text.push(match (damaged, lost.is_empty()) {
            (false, _) => "clean".into(),
            (true, true) => "damage found".into(),
            (true, false) => format!("damage found; lost LSNs: {}", ranges(lost)),
        });
        out::line(&text.join("\n")).map_err(|failure| could_not_say(failure, damaged))?;
    }
    if damaged { Err(Failure::silent(1)) } else { Ok(()) }
}

/// A reader that went away must not turn damage into exit code 0.
fn could_not_say(failure: Failure, damaged: bool) -> Failure {
    if damaged { failure.with_code(1) } else { failure }
}

fn is_damaged(report: &RecoveryReport) -> bool {
    let bad = |kind| {
        matches!(kind, IncidentKind::Damaged | IncidentKind::Missing | IncidentKind::Unreadable)
    };
    report.failed.damaged > 0 || report.incidents.iter().any(|incident| bad(incident.verdict))
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
        // A wrong path must not look like a healthy memory.
        let message = format!("{} holds no memory; name a data directory", dir.display());
        return Err(Failure::failed(message));
    }
    Ok(seen)
}

fn has_log(dir: &Path) -> Outcome<bool> {
    let entries = RealDisk
        .list(dir)
        .map_err(|e| Failure::failed(format!("cannot list {}: {e}", dir.display())))?;
    Ok(entries.iter().any(|entry| entry.is_dir && entry.name == "wal"))
}

fn about(seen: &Inspection) -> Vec<String> {
    let mut lines = Vec::new();
    if seen.live {
        lines.push("a process has this log open: looked up to the synced LSN".into());
    }
    let report = &seen.report;
    lines.push(format!("{} segments, head LSN {}", seen.segments.len(), report.head_lsn));
    lines.push(recovery_in_words(report));
    if !seen.legacy_files.is_empty() {
        let files = seen.legacy_files.join(", ");
        lines.push(format!("v0.1.0 log files that a start would take over: {files}"));
    }
    if !seen.foreign_files.is_empty() {
        lines.push(format!("foreign files, left alone: {}", seen.foreign_files.join(", ")));
    }
    lines
}

fn incidents(report: &RecoveryReport) -> Vec<String> {
    let line = |incident: &engram_core::storage::wal::report::Incident| {
        format!(
            "{}: {} at byte {}, {} bytes, LSNs {}: {}",
            incident.verdict.name(),
            incident.file,
            incident.offset,
            incident.bytes,
            if incident.lsns.is_empty() { "none".into() } else { ranges(&incident.lsns) },
            incident.detail,
        )
    };
    report.incidents.iter().map(line).collect()
}
