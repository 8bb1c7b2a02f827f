//! What every step machine of the log works with: the seams, and where things are.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::clock::{Clock, Rng};
use crate::disk::Disk;
use crate::episode::limits::SEGMENT_BYTES_MIN;
use crate::metrics::Metrics;

/// Sizes that a log is made of. A simulation makes them smaller, so that a small world reaches
/// what a large log reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// The smallest segment, and the unit in which the next one grows.
    pub segment_bytes_min: u64,
    /// Bytes that compaction reads, and zero-filling writes, in one step. Who syncs beside a step waits for
    /// what the drive has not done of it.
    pub step_bytes: u64,
    /// Bytes a sync from which on the room of the next segment is reserved, not written.
    pub reserved_from_bytes: u64,
    /// Dead bytes below which garbage alone is no reason to compact.
    pub garbage_bytes_min: u64,
    /// Dead bytes below which the active segment is not sealed early.
    pub active_garbage_bytes_min: u64,
    /// Vectors of a space from which on they are saved: fewer are made again faster than it is worth.
    pub saved_vectors_min: usize,
    /// Vectors of a space from which on a graph is made of them.
    pub graph_vectors_min: usize,
    /// Vectors in a graph up to which all are compared all the same.
    pub scan_vectors_max: usize,
}

impl Default for Scale {
    fn default() -> Self {
        Self {
            segment_bytes_min: SEGMENT_BYTES_MIN,
            step_bytes: 256 << 10,
            reserved_from_bytes: 64 << 10,
            garbage_bytes_min: 64 << 10,
            active_garbage_bytes_min: 256 << 10,
            saved_vectors_min: 2_000,
            graph_vectors_min: 50_000,
            scan_vectors_max: 100_000,
        }
    }
}

/// The seams, and the data directory.
#[derive(Debug, Clone)]
pub struct Env {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub rng: Arc<dyn Rng>,
    /// Where figures go.
    pub metrics: Arc<Metrics>,
    /// Sizes.
    pub scale: Scale,
    /// The data directory.
    pub dir: PathBuf,
}

impl Env {
    /// Where the log is.
    #[must_use]
    pub fn wal_dir(&self) -> PathBuf {
        self.dir.join("wal")
    }

    /// Where bytes that left the log are kept.
    #[must_use]
    pub fn quarantine_dir(&self) -> PathBuf {
        self.dir.join("quarantine")
    }

    /// A file of the log.
    #[must_use]
    pub fn wal_path(&self, name: &str) -> PathBuf {
        self.wal_dir().join(name)
    }
}

/// Whether an error says that the disk (or a quota on it) is full.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Removes a file that may not be there.
///
/// # Errors
/// What the disk said, if not that there is none.
pub fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<bool> {
    match disk.remove(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}
