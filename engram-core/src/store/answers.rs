//! What callers ask of the memory, and what it answers.

use jiff::Timestamp;

use crate::episode::StoredEpisode;
use crate::error::Error;

/// What must hold for a change to be made; decided in LSN order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Condition {
    /// Nothing.
    #[default]
    Any,
    /// No episode of this id exists (`If-None-Match: *`).
    Absent,
    /// The episode is the one of this LSN (`If-Match`).
    Lsn(u64),
}

/// An acknowledged `remember`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// The id, made if none was given.
    pub id: String,
    /// The change's LSN.
    pub lsn: u64,
    /// Whether an episode of that id was there before.
    pub replaced: bool,
}

/// An acknowledged batch.
#[derive(Debug, Clone, Default)]
pub struct BatchOutcome {
    /// How many were kept.
    pub accepted: usize,
    /// The LSN of the first one kept.
    pub first_lsn: Option<u64>,
    /// The LSN of the last one kept.
    pub last_lsn: Option<u64>,
    /// Those refused: their index in the batch, and why.
    pub rejected: Vec<(usize, Error)>,
}

/// An acknowledged `forget` of one episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forgotten {
    /// The change's LSN.
    pub lsn: u64,
}

/// An acknowledged `forget_space`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpaceForgotten {
    /// The change's LSN.
    pub lsn: u64,
    /// How many episodes it forgot.
    pub episodes: u64,
}

/// Which episodes a list gives, newest first.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// Not older than this.
    pub from: Option<Timestamp>,
    /// Older than this.
    pub to: Option<Timestamp>,
    /// With this person in `who`.
    pub who: Option<String>,
    /// At this place.
    pub place: Option<String>,
    /// At most so many, 1 to 1,000; 50 if `None`.
    pub limit: Option<usize>,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

/// One page of a list.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The episodes, newest first.
    pub episodes: Vec<StoredEpisode>,
    /// Where the next page begins, if there may be one.
    pub next_cursor: Option<String>,
    /// Episodes that stand here and whose bytes cannot be given back: why, each.
    pub unreadable: Vec<Error>,
}

/// One space, as the log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceInfo {
    /// Its name.
    pub name: String,
    /// Its episodes.
    pub episodes: u64,
    /// Bytes of log that they take.
    pub bytes: u64,
    /// The dimension of its embeddings, once there is one.
    pub dimension: Option<u32>,
    /// The model of its embeddings, where it is fixed and known.
    pub model: Option<String>,
}

/// The index of one space at this moment: derived from the log at its own pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IndexInfo {
    /// Bytes of memory that it takes, about; 0 until it is made.
    pub bytes: u64,
    /// Episodes that have no vector although their texts are embedded: those that wait for one, and
    /// those whose text the embedder refused.
    pub unembedded: u64,
}
