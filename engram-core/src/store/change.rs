//! One change to the memory, as its caller hands it to the committer, and its answer.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::error::{Error, Result};
use crate::record::{self, Definition, LegacyImported};
use crate::storage::wal::frame::{self, Kind};
use crate::store::answers::Condition;

/// One change, checked and encoded by its caller.
#[derive(Debug)]
pub struct Change {
    /// Keyed hash of the space and id.
    pub key: u64,
    /// Keyed hash of the space.
    pub space_key: u64,
    /// The id.
    pub id: String,
    /// What must hold.
    pub condition: Condition,
    /// What it does.
    pub what: What,
    /// Whose vectors it brings to its space, or says that the space holds.
    pub definition: Option<Definition>,
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
    /// Says whose vectors a space holds from now on.
    Define(Redefine),
    /// Notes that a v0.1.0 file was taken over.
    LegacyImported,
}

/// What a definition may take the place of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redefine {
    /// Nothing: it is made where the space exists and is fixed to no vectors.
    Nothing,
    /// Vectors that were made from texts.
    Made,
    /// Those, and vectors that callers gave.
    Given,
}

impl Change {
    /// Whose vectors a space holds from now on.
    #[must_use]
    pub fn define(space_key: u64, space: &str, definition: Definition, over: Redefine) -> Self {
        let payload = record::encode_space_defined(space, &definition);
        Self {
            key: space_key,
            space_key,
            id: String::new(),
            condition: Condition::Any,
            what: What::Define(over),
            definition: Some(definition),
            payload_crc: frame::crc(&payload),
            payload,
        }
    }

    /// A note that a v0.1.0 file was taken over.
    #[must_use]
    pub fn legacy_imported(file: &LegacyImported) -> Self {
        let payload = record::encode_legacy_imported(file);
        Self {
            key: 0,
            space_key: 0,
            id: String::new(),
            condition: Condition::Any,
            what: What::LegacyImported,
            definition: None,
            payload_crc: frame::crc(&payload),
            payload,
        }
    }

    /// The space's name.
    pub(super) fn space(&self) -> Cow<'_, str> {
        record::space_of(self.kind(), &self.payload)
    }

    pub(super) fn kind(&self) -> Kind {
        match self.what {
            What::Remember { .. } => Kind::REMEMBER,
            What::Forget | What::ForgetIfThere => Kind::FORGET,
            What::ForgetSpace => Kind::FORGET_SPACE,
            What::Define(_) => Kind::SPACE_DEFINED,
            What::LegacyImported => Kind::LEGACY_IMPORTED,
        }
    }
}

/// Changes, in order; what their caller refused already keeps its place. Mostly it is one, which
/// needs no allocation.
pub type Changes = SmallVec<[Result<Change>; 1]>;

/// Changes that wait for one answer.
#[derive(Debug)]
pub struct Group<T> {
    /// The changes.
    pub changes: Changes,
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
pub type Answers = SmallVec<[Result<Done>; 1]>;

/// Whether vectors that are brought can be compared with those of a space.
pub(super) fn check_fits(space: &str, fixed: &Definition, brought: &Definition) -> Result<()> {
    if fixed.dimension != brought.dimension {
        return Err(Error::Dimension {
            space: space.to_owned(),
            expected: fixed.dimension,
            found: brought.dimension,
            model: fixed.model.as_deref().map(str::to_owned),
            brought: brought.model.as_deref().map(str::to_owned),
        });
    }
    match (&fixed.model, &brought.model) {
        (Some(expected), Some(found)) if expected != found => Err(Error::Model {
            space: space.to_owned(),
            expected: expected.to_string(),
            found: found.to_string(),
        }),
        _ => Ok(()),
    }
}
