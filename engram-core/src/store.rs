//! The memory's face: remember, recall, forget, and what operators ask.

pub mod directory;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::{Clock, Rng};
use crate::disk::Disk;
use crate::episode::{Draft, StoredEpisode};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
pub use crate::storage::wal::recover::RecoveryProgress;
use crate::storage::wal::report::{
    CompactionStats, Incident, QuarantineItem, RecoveryMode, RecoveryReport, WalState, WalStatus,
};

/// When an acknowledged change is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Acknowledged means synced.
    #[default]
    Always,
    /// Acknowledged means written; synced at least this often.
    Interval(Duration),
    /// Acknowledged means written; synced when the system likes.
    Never,
}

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// When an acknowledged change is on disk.
    pub durability: Durability,
    /// What recovery does about damage.
    pub recovery: RecoveryMode,
    /// LSN ranges to go on without, when they are missing or unreadable.
    pub accept_loss: Vec<(u64, u64)>,
    /// Largest segment, in bytes.
    pub segment_bytes: u64,
    /// Most changes that may wait for the writer.
    pub queue_max: usize,
    /// Fastest that compaction may copy, in bytes per second; 0 for no limit.
    pub compaction_bytes_per_second_max: u64,
    /// Longest that forgotten bytes stay in the log.
    pub forget_erase_max: Duration,
    /// Whether compaction runs by itself.
    pub compact_automatically: bool,
    /// Threads that read the log at recovery; 0 for as many as there are cores.
    pub recovery_threads: usize,
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub rng: Arc<dyn Rng>,
    /// Where figures go.
    pub metrics: Arc<Metrics>,
    /// Recovery's progress, for whoever watches.
    pub progress: Arc<RecoveryProgress>,
}

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

/// A change on its way to the disk: block on [`Pending::wait`], or await it.
#[derive(Debug)]
pub struct Pending<T> {
    done: Option<Result<T>>,
}

impl<T> Pending<T> {
    /// Blocks until the change is acknowledged or refused.
    ///
    /// # Errors
    /// Why it was refused, or [`Error::Poisoned`] when its outcome is unknown.
    pub fn wait(mut self) -> Result<T> {
        self.done.take().unwrap_or(Err(Error::Closed))
    }
}

impl<T: Unpin> Future for Pending<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(self.done.take().unwrap_or(Err(Error::Closed)))
    }
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
}

/// One space.
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
}

/// A memory in a data directory. Cheap to clone; the last clone closes it.
#[derive(Debug, Clone)]
pub struct Store {}

#[expect(unused_variables, clippy::todo, reason = "stub")]
impl Store {
    /// Opens or makes the memory in a directory, recovering whatever is there.
    ///
    /// # Errors
    /// See [`Error`]: another process, a newer format, a gap in the log, the disk.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Self> {
        todo!()
    }
    /// Keeps an episode; one of the same id is replaced.
    pub fn remember(
        &self,
        space: &str,
        draft: Draft,
        condition: Condition,
    ) -> Result<Pending<Remembered>> {
        todo!()
    }
    /// Keeps many; a bad one never spoils its neighbours. `drafts` may hold what the caller
    /// already refused (say, unreadable JSON), so that indexes stay right.
    pub fn remember_batch(
        &self,
        space: &str,
        drafts: Vec<Result<Draft>>,
        condition: Condition,
    ) -> Result<Pending<BatchOutcome>> {
        todo!()
    }
    /// Forgets one. `Error::NoEpisode` when there is none.
    pub fn forget(
        &self,
        space: &str,
        id: &str,
        condition: Condition,
    ) -> Result<Pending<Forgotten>> {
        todo!()
    }
    /// Forgets a whole space. `Error::NoSpace` when there is none.
    pub fn forget_space(&self, space: &str) -> Result<Pending<SpaceForgotten>> {
        todo!()
    }
    /// One episode, read from the log and verified.
    pub fn get(&self, space: &str, id: &str) -> Result<StoredEpisode> {
        todo!()
    }
    /// Episodes of a space, newest first. `Error::NoSpace`, `Error::Limit` (limit, cursor, from/to).
    pub fn list(&self, space: &str, query: &ListQuery) -> Result<Page> {
        todo!()
    }
    /// The spaces, by name.
    pub fn spaces(&self) -> Vec<SpaceInfo> {
        todo!()
    }
    /// The log at this moment.
    pub fn wal(&self) -> WalStatus {
        todo!()
    }
    /// What the log is doing (cheap).
    pub fn state(&self) -> WalState {
        todo!()
    }
    /// Why the log is poisoned, if it is.
    pub fn poisoned_by(&self) -> Option<String> {
        todo!()
    }
    /// What the last recovery found and did.
    pub fn recovery_report(&self) -> Arc<RecoveryReport> {
        todo!()
    }
    /// Every incident ever, newest first.
    pub fn incidents(&self) -> Vec<Incident> {
        todo!()
    }
    /// What is kept in the quarantine.
    pub fn quarantine(&self) -> Result<Vec<QuarantineItem>> {
        todo!()
    }
    /// Appends the intact frames of a quarantined item again, where nothing newer has taken
    /// their place; gives (restored, skipped).
    pub fn quarantine_restore(&self, name: &str) -> Result<(u64, u64)> {
        todo!()
    }
    /// Drops from the log, now, all that memory knows to be dead (blocking).
    pub fn compact_from_memory(&self) -> Result<CompactionStats> {
        todo!()
    }
    /// The figures.
    pub fn metrics(&self) -> Arc<Metrics> {
        todo!()
    }
    /// Stops accepting, finishes what was accepted, seals the log.
    pub fn close(&self) -> Result<()> {
        todo!()
    }
    /// The data directory.
    pub fn dir(&self) -> PathBuf {
        todo!()
    }
}
