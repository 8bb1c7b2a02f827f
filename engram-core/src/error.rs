//! What can go wrong, as types: a kind says what the caller should do, the
//! variant's fields say what happened and where.
//!
//! Deliberately absent: strings to be matched. Nobody has to parse a message.

use std::path::PathBuf;

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller should do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request breaks a rule; change it. Nothing was changed.
    Invalid,
    /// There is no such episode or space.
    NotFound,
    /// The request contradicts what is stored (another dimension); nothing was changed.
    Conflict,
    /// A precondition did not hold; nothing was changed.
    Precondition,
    /// The queue is full; try again soon. Nothing was changed.
    Busy,
    /// The disk is full; make room, then try again. Nothing was changed.
    DiskFull,
    /// The log failed and takes no more writes until it is opened again. The outcome of
    /// the refused change is unknown until then.
    Poisoned,
    /// The data directory cannot be opened as it is; the message says the next step.
    CannotOpen,
    /// Stored bytes are damaged or not understood by this version.
    Unreadable,
    /// The operating system refused.
    Io,
    /// Something outside does not answer; try again later. Nothing was changed.
    Unavailable,
}

/// Everything that can go wrong in Engram's library.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field breaks its limit.
    #[error("{field}: {problem} (the limit is {bound}, this has {value}); nothing was stored")]
    Limit {
        /// The field's name as the interfaces write it.
        field: &'static str,
        /// What is wrong, in words.
        problem: &'static str,
        /// The bound, with its unit.
        bound: String,
        /// The offending value, shortened.
        value: String,
        /// Whether the value is too large (rather than of a wrong form).
        too_large: bool,
    },
    /// No episode of that id in that space.
    #[error("no episode {id:?} in space {space:?}")]
    NoEpisode {
        /// The space.
        space: String,
        /// The id.
        id: String,
    },
    /// No space of that name.
    #[error("no space {space:?}; a space begins with its first episode")]
    NoSpace {
        /// The name.
        space: String,
    },
    /// Another dimension than the space has.
    #[error(
        "embedding: space {space:?} holds embeddings of {expected} dimensions{}, this one has \
         {found}{}; use {expected}, or another space",
        of_model(model.as_deref()), of_model(brought.as_deref())
    )]
    Dimension {
        /// The space.
        space: String,
        /// The dimension that the space has.
        expected: u32,
        /// The dimension that was given.
        found: u32,
        /// The model that the space has, where it is known.
        model: Option<String>,
        /// The model that was named with the embedding.
        brought: Option<String>,
    },
    /// Another embedding model than the space has.
    #[error(
        "embedding_model: space {space:?} holds embeddings of the model {expected:?}, this one is \
         of {found:?}; use {expected:?}, or another space"
    )]
    Model {
        /// The space.
        space: String,
        /// The model that the space has.
        expected: String,
        /// The model that was named.
        found: String,
    },
    /// A space holds embeddings of its callers, and was to be embedded by ours.
    #[error(
        "space {space:?} holds embeddings of {dimension} dimensions that its callers gave; embedding \
         its texts puts them out of use, so say that it is meant (`replace_given`, on the command \
         line --replace-given)"
    )]
    GivenVectors {
        /// The space.
        space: String,
        /// Their dimension.
        dimension: u32,
    },
    /// Texts were to be embedded, and there is nothing that does it.
    #[error("no embedder is configured; start the server with --embedder builtin or openai")]
    NoEmbedder,
    /// The configured embedder gives no vectors.
    #[error("the embedder gives no vectors: {cause}; nothing was changed; try again when it does")]
    Embedder {
        /// Why, in words.
        cause: String,
    },
    /// A cue brings a vector, and the space has none to compare it with.
    #[error(
        "embedding: space {space:?} holds no embeddings, this cue has one of {found} dimensions; \
         recall by text, or remember episodes with embeddings"
    )]
    NoVectors {
        /// The space.
        space: String,
        /// The dimension that was given.
        found: u32,
    },
    /// Two different ids have the same 64-bit key. Never seen; refused rather than mixed up.
    #[error("id {id:?}: its key is taken by another id of this store; choose another id")]
    KeyCollision {
        /// The refused id.
        id: String,
    },
    /// A precondition did not hold.
    #[error("precondition failed: {wanted}, but the episode {found}")]
    Precondition {
        /// What was asked for.
        wanted: String,
        /// What is.
        found: String,
    },
    /// The writer's queue is full.
    #[error("busy: {queued} {unit} wait for the log (the bound is {bound}); try again soon")]
    Busy {
        /// What waits.
        queued: usize,
        /// The bound of the queue.
        bound: usize,
        /// What is counted: `changes`, or `bytes` of them.
        unit: &'static str,
    },
    /// The disk is full.
    #[error(
        "the disk is full ({available} bytes free, {needed} needed in {dir}); nothing was \
         stored; make room, writing resumes by itself"
    )]
    DiskFull {
        /// Free bytes seen.
        available: u64,
        /// Bytes that the next segment needs.
        needed: u64,
        /// The data directory.
        dir: PathBuf,
    },
    /// The log failed, and takes no more writes.
    #[error(
        "the log takes no writes since: {cause}; the outcome of this change is unknown until \
         the store is opened again; restart to recover"
    )]
    Poisoned {
        /// What failed first.
        cause: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// Another process has the data directory.
    #[error("{path} is in use by another process; stop it, or name another --data directory")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A file was written by a newer format.
    #[error(
        "{path} has format version {found}, this program reads up to {known}; use a newer engram"
    )]
    FormatTooNew {
        /// The file.
        path: PathBuf,
        /// Its format version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// A segment that says of itself that it is another one.
    #[error(
        "{path} says of itself that it is {says}; give it that name back if no file has it, else \
         move it out of the directory; nothing was changed"
    )]
    Misnamed {
        /// The file.
        path: PathBuf,
        /// The name that fits its header.
        says: String,
    },
    /// LSNs that no file holds and no header declares.
    #[error(
        "the log misses LSNs {first} to {last}: {why}; put the file back, or go on without \
         them with --accept-loss {first}-{last}"
    )]
    Missing {
        /// First missing LSN.
        first: u64,
        /// Last missing LSN.
        last: u64,
        /// Which file, and what is known of it.
        why: String,
    },
    /// The device answers a read with an error. Never called corrupt: the bytes may be fine.
    #[error(
        "{path} cannot be read at byte {offset}: {cause}; the device failed, the data may be \
         whole; copy the disk, or go on without LSNs {first} to {last} with \
         --accept-loss {first}-{last}"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// First LSN that may be there.
        first: u64,
        /// Last LSN that may be there.
        last: u64,
        /// What the system said.
        cause: String,
    },
    /// `--recovery strict` found damage.
    #[error(
        "strict recovery: {count} incidents, the first: {first}; nothing was changed; start \
         with --recovery salvage to keep all that is readable"
    )]
    Strict {
        /// How many.
        count: usize,
        /// The first of them, in words.
        first: String,
    },
    /// A frame's bytes no longer match their checksum.
    #[error("{file} is damaged at byte {offset} (LSN {lsn}); restart to quarantine and name it")]
    Damaged {
        /// The segment file.
        file: String,
        /// Where its frame begins.
        offset: u64,
        /// The frame's LSN.
        lsn: u64,
    },
    /// A frame is intact, and this version does not understand it.
    #[error(
        "the record at LSN {lsn} is intact, but was written by a newer version (kind {kind}, \
         schema {schema}); it is kept; use a newer engram to read it"
    )]
    Undecodable {
        /// Its LSN.
        lsn: u64,
        /// Its kind number.
        kind: u8,
        /// Its schema number.
        schema: u16,
    },
    /// The operating system refused.
    #[error("cannot {action} {path}: {cause}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// A thing that was asked for by name does not exist (a quarantined item, a file).
    #[error("{what}: not found")]
    NoSuch {
        /// What was asked for.
        what: String,
    },
}

/// Names a model behind a number of dimensions.
fn of_model(model: Option<&str>) -> String {
    model.map_or_else(String::new, |model| format!(" of the model {model:?}"))
}

impl Error {
    /// What the caller should do.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Limit { .. } => ErrorKind::Invalid,
            Self::NoEpisode { .. } | Self::NoSpace { .. } | Self::NoSuch { .. } => {
                ErrorKind::NotFound
            }
            Self::Dimension { .. }
            | Self::Model { .. }
            | Self::GivenVectors { .. }
            | Self::NoEmbedder
            | Self::NoVectors { .. }
            | Self::KeyCollision { .. } => ErrorKind::Conflict,
            Self::Embedder { .. } => ErrorKind::Unavailable,
            Self::Precondition { .. } => ErrorKind::Precondition,
            Self::Busy { .. } => ErrorKind::Busy,
            Self::DiskFull { .. } => ErrorKind::DiskFull,
            Self::Poisoned { .. } | Self::Closed => ErrorKind::Poisoned,
            Self::Locked { .. }
            | Self::FormatTooNew { .. }
            | Self::Misnamed { .. }
            | Self::Missing { .. }
            | Self::Unreadable { .. }
            | Self::Strict { .. } => ErrorKind::CannotOpen,
            Self::Damaged { .. } | Self::Undecodable { .. } => ErrorKind::Unreadable,
            Self::Io { .. } => ErrorKind::Io,
        }
    }

    /// Wraps an I/O error with what was tried, and where.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
        cause: &std::io::Error,
    ) -> Self {
        Self::Io { action, path: path.into(), cause: cause.to_string() }
    }
}
