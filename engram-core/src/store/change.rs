//! One change to the memory, as its caller hands it to the committer, and its answer.

use std::sync::Arc;

use crate::error::Result;
use crate::record::{self, LegacyImported};
use crate::storage::wal::frame::{self, Kind};
use crate::store::answers::Condition;

/// One change, checked and encoded by its caller.
#[derive(Debug)]
pub struct Change {
    /// Keyed hash of the space and id.
    pub key: u64,
    /// Keyed hash of the space.
    pub space_key: u64,
    /// The space's name.
    pub space: Arc<str>,
    /// The id.
    pub id: String,
    /// What must hold.
    pub condition: Condition,
    /// What it does.
    pub what: What,
    /// The frame's payload.
    pub payload: Vec<u8>,
    /// CRC-32C of the payload.
    pub payload_crc: u32,
}

/// What a change does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Keeps an episode whose embedding has so many dimensions.
    Remember {
        /// 0 for no embedding.
        dimension: u32,
    },
    /// Forgets an episode; refused when there is none.
    Forget,
    /// Forgets an episode if there is one (a take-over replays deletions).
    ForgetIfThere,
    /// Forgets a space.
    ForgetSpace,
    /// Notes that a v0.1.0 file was taken over.
    LegacyImported,
}

impl Change {
    /// A note that a v0.1.0 file was taken over.
    #[must_use]
    pub fn legacy_imported(file: &LegacyImported) -> Self {
        let payload = record::encode_legacy_imported(file);
        Self {
            key: 0,
            space_key: 0,
            space: Arc::from(""),
            id: String::new(),
            condition: Condition::Any,
            what: What::LegacyImported,
            payload_crc: frame::crc(&payload),
            payload,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self.what {
            What::Remember { .. } => Kind::REMEMBER,
            What::Forget | What::ForgetIfThere => Kind::FORGET,
            What::ForgetSpace => Kind::FORGET_SPACE,
            What::LegacyImported => Kind::LEGACY_IMPORTED,
        }
    }
}

/// Changes that wait for one answer.
#[derive(Debug)]
pub struct Group<T> {
    /// The changes, in order; what the caller refused already keeps its place.
    pub changes: Vec<Result<Change>>,
    /// Whose they are.
    pub ticket: T,
}

/// What an acknowledged change did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Done {
    /// Its LSN.
    pub lsn: u64,
    /// The id.
    pub id: String,
    /// Whether an episode of that id was there before.
    pub replaced: bool,
    /// Episodes forgotten.
    pub forgotten: u64,
}

/// The answers to a group, one a change.
pub type Answers = Vec<Result<Done>>;
