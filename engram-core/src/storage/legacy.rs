//! Reads the logs of Engram v0.1.0: bytes in, values out.
//!
//! A log of v0.1.0 has no file header, no schema version and no salt: it is a plain row of records,
//! each a 64-byte header with two checksums, and a payload in one of five layouts that only their
//! shape tells apart. [`read`] walks one file and says of every byte what became of it: an
//! [`Entry`], or a [`Failure`]. The rules:
//! - Checksums decide what is damaged, never the decoder. A payload whose checksum is right and that
//!   fits no layout is [`FailureKind::Undecodable`]: whole, and not understood here.
//! - A damaged header costs nothing as long as its payload is whole and can be proven: by correcting
//!   one flipped bit, by the checksum that is left, or by decoding exactly ([`Entry::rescued`]).
//! - Values over today's limits are kept as they are, and named in [`Entry::notes`].
//!
//! Deliberately absent: I/O, the order of files, which entry of an id wins (the import's, in
//! the order of file name, then offset), and writing: nothing here makes a v0.1.0 log.

mod bincode;
mod episode;
mod record;
mod salvage;

pub use salvage::read;

/// One change that a record of v0.1.0 made.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// An episode was stored, over any former one of its id.
    Remember(crate::Episode),
    /// The episode of this id was deleted.
    Forget {
        /// The id, as it was written.
        id: String,
    },
    /// A record that v0.1.0 wrote and never replayed: a memory update, a consolidation, a
    /// checkpoint, a compaction marker.
    Ignored {
        /// Its `entry_type`.
        entry_type: u32,
    },
}

/// The five shapes of an episode's payload, oldest first.
///
/// A layout is named by the bytes, and the same bytes always mean the same values: G1 and G2 with
/// a provenance that is absent or present are, byte for byte, G0 or G3, and are called so where
/// that is the case (G1 without: G0; G2 with: G3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layout {
    /// Before 2025-10-12: no embedding provenance, no decay function.
    G0,
    /// To 2025-10-14: a provenance, written only where there is one.
    G1,
    /// To 2025-10-18: a decay function too.
    G2,
    /// To 2025-10-26: the provenance is an option like any other.
    G3,
    /// Since then: a map of metadata at the end.
    G4,
}

/// One record that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Where its header begins in the file.
    pub offset: u64,
    /// Its length in bytes, header and payload.
    pub bytes: u64,
    /// The sequence its header gives it; they restart in every file, so they order nothing. None
    /// when the header was lost.
    pub sequence: Option<u64>,
    /// What it says.
    pub change: Change,
    /// The layout of its payload; None unless it is an episode.
    pub layout: Option<Layout>,
    /// Whether an older layout fits too, with other values. The newest was taken.
    pub ambiguous: bool,
    /// Whether its header was damaged, and its payload proved itself.
    pub rescued: bool,
    /// What a person should know of it, in words: values over today's limits, how it was rescued.
    pub notes: Vec<String>,
}

/// Why some bytes gave no entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The bytes fail their checksum, or belong to no record.
    Damaged,
    /// The checksums are right, and no layout fits.
    Undecodable,
    /// The file ends, or its zeros begin, in the middle of the last record: a crash while writing.
    Tail,
}

/// A run of bytes that gave no entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// Why.
    pub kind: FailureKind,
    /// What was found, in words.
    pub detail: String,
}

/// All that one file holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Log {
    /// What was read, in order of offset.
    pub entries: Vec<Entry>,
    /// What was not, in order of offset.
    pub failures: Vec<Failure>,
}

/// Whether v0.1.0 took a file of this name for a part of its log: `wal-*.log`. Its compaction's
/// temporary `wal-*.log.tmp` is none.
#[must_use]
pub fn is_legacy_name(file_name: &str) -> bool {
    let extension = file_name.strip_prefix("wal-").and_then(|rest| rest.rsplit_once('.'));
    extension.is_some_and(|(_, extension)| extension == "log")
}
