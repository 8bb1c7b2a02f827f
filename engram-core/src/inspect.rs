//! A read-only look at a data directory: takes no lock, changes nothing.

use std::path::Path;

use serde::Serialize;

use crate::disk::Disk;
use crate::error::Result;
use crate::storage::wal::report::{QuarantineItem, RecoveryReport, SegmentStatus};

/// What a look at a data directory saw.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// Whether a process has it open; then the look ends at the synced LSN.
    pub live: bool,
    /// The segments, oldest first (live and dead bytes are as memory would know them).
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
    /// The space and id, where the payload tells.
    pub space: Option<String>,
    /// The id.
    pub id: Option<String>,
    /// `frame`, `damaged`, `undecodable`, `tail`, `stale`.
    pub verdict: String,
}

/// Looks at all of a directory as recovery would (`wal inspect`, `wal verify`).
///
/// # Errors
/// When it could not look.
pub fn inspect(disk: &dyn Disk, dir: &Path) -> Result<Inspection> {
    todo!()
}

/// Calls `each` for every frame and bad span in log order (`wal dump`).
///
/// # Errors
/// When it could not look, or `each` failed.
pub fn dump(
    disk: &dyn Disk,
    dir: &Path,
    each: &mut dyn FnMut(FrameDump) -> Result<()>,
) -> Result<()> {
    todo!()
}

/// What is kept in the quarantine of a directory.
///
/// # Errors
/// What the disk said.
pub fn quarantine_list(disk: &dyn Disk, dir: &Path) -> Result<Vec<QuarantineItem>> {
    todo!()
}

/// One quarantined item's raw bytes (without anything secret), and what is known of it.
///
/// # Errors
/// [`crate::Error::NoSuch`].
pub fn quarantine_show(
    disk: &dyn Disk,
    dir: &Path,
    name: &str,
) -> Result<(QuarantineItem, Vec<u8>)> {
    todo!()
}

/// Removes one item (or all: `None`) for ever; gives the bytes freed.
///
/// # Errors
/// [`crate::Error::NoSuch`].
pub fn quarantine_purge(disk: &dyn Disk, dir: &Path, name: Option<&str>) -> Result<u64> {
    todo!()
}
