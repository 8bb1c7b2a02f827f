//! What the log says about itself: the recovery report, incidents, compaction's account.
//!
//! Field names are promises to scripts (they are the JSON of the interfaces). Deliberately
//! absent: salts and file contents; a salt that left the disk would let users forge frames.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::storage::legacy::FailureKind;

/// How recovery treats what it cannot read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryMode {
    /// Keep all that is readable, quarantine and name the rest.
    #[default]
    Salvage,
    /// Refuse to start on damage, and change nothing. A torn tail is normal.
    Strict,
}

/// Why bytes are no frame, as users see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentKind {
    /// Bytes fail their checksum where the log was known to be synced.
    Damaged,
    /// Intact, written by a version that knows more.
    Undecodable,
    /// Unfinished bytes at the end, of a crash; nobody was told that they were kept.
    Tail,
    /// LSNs that no file holds.
    Missing,
    /// The device answered with an error.
    Unreadable,
    /// A frame that nothing needs by name and no durable reason declares dead.
    Unexplained,
    /// A v0.1.0 log was taken over, with something in it that could not be read.
    Legacy,
}

impl IncidentKind {
    /// Every kind, in the order of metrics.
    pub const ALL: [Self; 7] = [
        Self::Damaged,
        Self::Undecodable,
        Self::Tail,
        Self::Missing,
        Self::Unreadable,
        Self::Unexplained,
        Self::Legacy,
    ];

    /// Its name in JSON and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Undecodable => "undecodable",
            Self::Tail => "tail",
            Self::Missing => "missing",
            Self::Unreadable => "unreadable",
            Self::Unexplained => "unexplained",
            Self::Legacy => "legacy",
        }
    }
}

impl From<FailureKind> for IncidentKind {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Damaged => Self::Damaged,
            FailureKind::Undecodable => Self::Undecodable,
            FailureKind::Tail => Self::Tail,
        }
    }
}

/// One run of bytes that recovery could not use, named once in its life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Derived from what was hit, so that finding it again makes no second incident.
    pub id: String,
    /// When it was first found.
    pub at: Timestamp,
    /// What it is.
    pub verdict: IncidentKind,
    /// The file, relative to the data directory.
    pub file: String,
    /// The first byte's offset in it.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
    /// The LSNs that were lost or set aside, as inclusive ranges.
    pub lsns: Vec<[u64; 2]>,
    /// `kind:key` of each lost record that is known, the key as 16 hex digits.
    pub keys: Vec<String>,
    /// The name in the quarantine, when bytes were copied there.
    pub quarantined_as: Option<String>,
    /// One sentence for people: what was hit, what was saved, what to do.
    pub detail: String,
}

/// Entries of the log that recovery could not give back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Failed {
    /// Entries lost to damage.
    pub damaged: u64,
    /// Intact entries that this version does not understand; they are kept.
    pub undecodable: u64,
    /// Entries of an unfinished tail; nobody was told that they were kept.
    pub tail: u64,
}

impl Failed {
    /// Adds others.
    pub fn add(&mut self, other: Self) {
        self.damaged += other.damaged;
        self.undecodable += other.undecodable;
        self.tail += other.tail;
    }

    /// Counts one entry of a v0.1.0 log.
    pub fn count(&mut self, kind: FailureKind) {
        match kind {
            FailureKind::Damaged => self.damaged += 1,
            FailureKind::Undecodable => self.undecodable += 1,
            FailureKind::Tail => self.tail += 1,
        }
    }

    /// All of them.
    #[must_use]
    pub fn total(self) -> u64 {
        self.damaged + self.undecodable + self.tail
    }
}

/// A part of a whole, 0 for a part of nothing.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a rate for people; exact to 2^53")]
pub fn rate(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// What one take-over of v0.1.0 logs did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LegacyReport {
    /// Files taken over (and moved to the quarantine).
    pub files: u64,
    /// Episodes and deletions applied.
    pub recovered: u64,
    /// Entries that could not be.
    pub failed: Failed,
    /// What is over today's limits or otherwise worth a look, one sentence each.
    pub notes: Vec<String>,
}

/// What one recovery found and did. Also made when nothing was wrong.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RecoveryReport {
    /// The mode it ran in.
    pub mode: RecoveryMode,
    /// Entries recovered, of every kind that is a change.
    pub recovered: u64,
    /// Entries that were not.
    pub failed: Failed,
    /// LSNs lost to damage, as inclusive ranges.
    pub lost_lsns: Vec<[u64; 2]>,
    /// failed / (recovered + failed), 0 for an empty log.
    pub corruption_rate: f64,
    /// How long it took.
    pub duration_seconds: f64,
    /// Bytes of log read.
    pub bytes_scanned: u64,
    /// Their rate.
    pub bytes_per_second: f64,
    /// Intact frames of a former life of the disk, ignored.
    pub stale: u64,
    /// Segments read.
    pub segments: u64,
    /// The highest LSN in the log.
    pub head_lsn: u64,
    /// What this recovery found, new and known.
    pub incidents: Vec<Incident>,
    /// What was taken over from v0.1.0, if anything.
    pub legacy: Option<LegacyReport>,
    /// What compaction will do next, in words.
    pub compaction: String,
}

impl RecoveryReport {
    /// Sets the rate from the counts.
    pub fn set_corruption_rate(&mut self) {
        let failed = self.failed.total();
        self.corruption_rate = rate(failed, self.recovered + failed);
    }

    /// Adds time that recovery took, and sets the speed by all of it.
    pub fn add_duration(&mut self, took: Duration) {
        self.duration_seconds += took.as_secs_f64();
        if self.duration_seconds > 0.0 {
            self.bytes_per_second = rate(self.bytes_scanned, 1) / self.duration_seconds;
        }
    }
}

/// What one run of compaction did.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CompactionStats {
    /// Why it ran: `recovery`, `garbage`, `forgotten`, `requested`.
    pub reason: String,
    /// Segments read.
    pub segments_in: u64,
    /// Segments written in their place.
    pub segments_out: u64,
    /// Frames copied.
    pub frames_kept: u64,
    /// Frames dropped, each for a named reason.
    pub frames_dropped: u64,
    /// Bytes of the inputs.
    pub bytes_before: u64,
    /// Bytes of the outputs.
    pub bytes_after: u64,
    /// Their difference.
    pub bytes_reclaimed: u64,
    /// How long it took.
    pub duration_seconds: f64,
}

impl CompactionStats {
    /// Adds another run's figures to this one.
    pub fn add(&mut self, other: &Self) {
        self.segments_in += other.segments_in;
        self.segments_out += other.segments_out;
        self.frames_kept += other.frames_kept;
        self.frames_dropped += other.frames_dropped;
        self.bytes_before += other.bytes_before;
        self.bytes_after += other.bytes_after;
        self.bytes_reclaimed += other.bytes_reclaimed;
        self.duration_seconds += other.duration_seconds;
    }
}

/// What the log is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WalState {
    /// Reading the log; nothing is served yet.
    Recovering,
    /// Reading and writing.
    Ready,
    /// The disk is full: reads and forgets go on.
    Full,
    /// A write or sync failed: reads go on, writes wait for a restart.
    Poisoned,
}

/// The log at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WalStatus {
    /// What it is doing.
    pub state: WalState,
    /// The durability in force, as the command line writes it.
    pub durability: String,
    /// The highest LSN given.
    pub head_lsn: u64,
    /// The highest LSN known to be synced.
    pub synced_lsn: u64,
    /// Bytes of frames that the memory needs.
    pub live_bytes: u64,
    /// Bytes of frames that it does not.
    pub dead_bytes: u64,
    /// Spares, ballast, and the unused part of the active segment.
    pub preallocated_bytes: u64,
    /// Bytes kept in the quarantine.
    pub quarantine_bytes: u64,
    /// The segments, oldest first.
    pub segments: Vec<SegmentStatus>,
}

/// One segment at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentStatus {
    /// Its file name.
    pub file: String,
    /// Its first LSN.
    pub first_lsn: u64,
    /// Its last LSN.
    pub last_lsn: u64,
    /// How often this range was rewritten.
    pub generation: u64,
    /// Whether it is finished.
    pub sealed: bool,
    /// Bytes in use.
    pub bytes: u64,
    /// Bytes of live frames.
    pub live_bytes: u64,
    /// Bytes of dead frames.
    pub dead_bytes: u64,
}

/// One thing kept in the quarantine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuarantineItem {
    /// Its name there, by which `show`, `restore` and `purge` find it.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// When it came.
    pub at: Timestamp,
    /// Why.
    pub verdict: IncidentKind,
    /// The file it came from.
    pub file: String,
    /// The offset there.
    pub offset: u64,
    /// LSNs of intact frames in it, which `restore` can bring back.
    pub restorable: Vec<u64>,
}
