//! How a store is opened.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Rng, SystemClock, SystemRng};
use crate::disk::Disk;
use crate::disk::real::RealDisk;
use crate::embedder::{Builtin, Embedder};
use crate::episode::limits;
use crate::metrics::Metrics;
use crate::storage::wal::env::Scale;
use crate::storage::wal::report::RecoveryMode;
use crate::storage::wal::survey::RecoveryProgress;

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

/// Who steps the engine's machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Drive {
    /// Threads of the store's own: see `ARCHITECTURE.md`.
    #[default]
    Threads,
    /// Its callers: whoever waits for a change makes it, and the rest is done by
    /// [`Store::stepper`](crate::Store::stepper). Nothing happens by itself, so the same calls
    /// give the same run.
    Steps,
}

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// When an acknowledged change is on disk.
    pub durability: Durability,
    /// What recovery does about damage.
    pub recovery: RecoveryMode,
    /// Ranges of LSNs, first and last, to go on without where they are missing or unreadable.
    pub accept_loss: Vec<(u64, u64)>,
    /// Largest segment, in bytes: 1 MiB to 1 GiB, 64 MiB unless chosen; else opening is an
    /// [`Error::Limit`](crate::Error::Limit).
    pub segment_bytes: u64,
    /// Most changes that may wait for the writer, 65,536 unless chosen; and 256 MiB of them at most. Beyond
    /// that a change is an [`Error::Busy`](crate::Error::Busy).
    pub queue_max: usize,
    /// Fastest that compaction may copy, in bytes per second; 0 for no limit. What was asked for is not held
    /// back while nobody writes.
    pub compaction_bytes_per_second_max: u64,
    /// Longest that forgotten bytes stay in the log, 24 hours unless chosen.
    pub forget_erase_max: Duration,
    /// Whether compaction runs by itself.
    pub compact_automatically: bool,
    /// Threads that read the log at recovery; 0 for as many as there are cores.
    pub recovery_threads: usize,
    /// What turns text into vectors; `None`: callers bring them, or there are none.
    pub embedder: Option<Arc<dyn Embedder>>,
    /// Whether indexes are made and saved in the background, so that a recall finds them ready.
    /// Without it whoever recalls makes them.
    pub index_in_background: bool,
    /// Sizes below the segment's; only simulations change them.
    pub scale: Scale,
    /// Who steps the engine.
    pub drive: Drive,
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

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::Always,
            recovery: RecoveryMode::Salvage,
            accept_loss: Vec::new(),
            segment_bytes: limits::SEGMENT_BYTES_DEFAULT,
            queue_max: 65_536,
            compaction_bytes_per_second_max: limits::COMPACTION_BYTES_PER_SECOND_DEFAULT,
            forget_erase_max: Duration::from_hours(24),
            compact_automatically: true,
            recovery_threads: 0,
            embedder: Some(Arc::new(Builtin)),
            index_in_background: true,
            scale: Scale::default(),
            drive: Drive::Threads,
            disk: Arc::new(RealDisk),
            clock: Arc::new(SystemClock::default()),
            rng: Arc::new(SystemRng),
            metrics: Arc::new(Metrics::noop()),
            progress: Arc::new(RecoveryProgress::default()),
        }
    }
}

impl std::fmt::Display for Durability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            // Nobody asks for less than a microsecond.
            Self::Interval(every) if every.as_micros() % 1000 > 0 => {
                write!(f, "interval={}us", every.as_micros())
            }
            Self::Interval(every) => write!(f, "interval={}ms", every.as_millis()),
            Self::Never => f.write_str("never"),
        }
    }
}
