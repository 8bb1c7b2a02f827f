//! Incidents in words: what was hit, what was saved, what to do.

use crate::storage::wal::env::Env;
use crate::storage::wal::plan::{Loss, LsnRange, SegmentFacts, push_lsn};
use crate::storage::wal::quarantine::{Keep, incident_id};
use crate::storage::wal::report::{Incident, IncidentKind};
use crate::storage::wal::segment::HEADER_COPY_BYTES;
use crate::storage::wal::survey::Surveyed;

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
    let told = match loss.entries {
        0 => "no record was lost".to_owned(),
        1 => format!("1 record was lost (LSN {})", lsn_text(&loss.lsns)),
        n => format!("{n} records were lost (LSNs {})", lsn_text(&loss.lsns)),
    };
    let hit = match loss.intact.len() {
        0 => "fail their checksum",
        _ => "fail their checksum, or stand in a wrong place",
    };
    let intact = match (loss.intact.len(), &name) {
        (0, _) | (_, None) => String::new(),
        (n, Some(name)) => format!(
            "; intact episodes among them ({n}) can be brought back with `engram wal quarantine \
             restore {name}`, those too that were forgotten since they were written"
        ),
    };
    let at_last = match &name {
        Some(name) => format!("; the bytes are kept in the quarantine as {name}"),
        None => String::new(),
    };
    Incident {
        id: incident_id(verdict, &file, loss.offset, loss.bytes),
        at: env.clock.now(),
        verdict,
        detail: format!(
            "{} bytes of {file} at {} {hit}: {told}, all else was recovered{at_last}{intact}; \
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

pub(super) fn header_incident(
    env: &Env,
    surveyed: &Surveyed,
    offset: u64,
    name: Option<String>,
) -> Incident {
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

pub(super) fn tail_incident(env: &Env, tail: &Keep<'_>, name: Option<String>) -> Incident {
    let Keep { file, offset, bytes, .. } = *tail;
    let mut lsns = Vec::new();
    for &lsn in &tail.restorable {
        push_lsn(&mut lsns, lsn);
    }
    Incident {
        id: incident_id(IncidentKind::Tail, file, offset, bytes),
        at: env.clock.now(),
        verdict: IncidentKind::Tail,
        detail: format!(
            "{bytes} bytes at the end of {file} are unfinished writes before a crash, not known to \
             be synced: under durability `always` nobody was told that they were kept, so nothing \
             was lost; {} intact records among them can be brought back with `engram wal \
             quarantine restore`",
            tail.restorable.len()
        ),
        file: file.to_owned(),
        offset,
        bytes,
        lsns: lsns.into_iter().map(|(first, last)| [first, last]).collect(),
        keys: Vec::new(),
        quarantined_as: name,
    }
}

pub(super) fn missing_incident(env: &Env, (first, last): LsnRange) -> Incident {
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
    if incident.verdict == IncidentKind::Tail {
        tracing::info!(id, "{detail}");
    } else {
        tracing::warn!(id, "{detail}");
    }
}
