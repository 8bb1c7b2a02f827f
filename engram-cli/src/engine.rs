//! The engine as this program opens it: on the real disk, clock and randomness.

use std::sync::Arc;
use std::time::Duration;

use engram_core::clock::{SystemClock, SystemRng};
use engram_core::disk::real::RealDisk;
use engram_core::episode::limits::SEGMENT_BYTES_DEFAULT;
use engram_core::metrics::Metrics;
use engram_core::storage::wal::report::RecoveryMode;
use engram_core::store::RecoveryProgress;
use engram_core::{Durability, Options};

use crate::args::StartArgs;

/// What `engram start` was told.
pub(crate) fn options(args: &StartArgs) -> Options {
    Options {
        durability: args.durability,
        recovery: args.recovery,
        accept_loss: args.accept_loss.clone(),
        segment_bytes: args.segment_bytes,
        queue_max: args.queue_max,
        compaction_bytes_per_second_max: args.compaction_bytes_per_second_max,
        forget_erase_max: args.forget_erase_max,
        ..plain_options()
    }
}

/// For a short visit that serves nobody (`wal compact`): compaction runs when it is called.
pub(crate) fn visit_options() -> Options {
    Options { compact_automatically: false, compaction_bytes_per_second_max: 0, ..plain_options() }
}

fn plain_options() -> Options {
    Options {
        durability: Durability::Always,
        recovery: RecoveryMode::Salvage,
        accept_loss: Vec::new(),
        segment_bytes: SEGMENT_BYTES_DEFAULT,
        queue_max: 4096,
        compaction_bytes_per_second_max: 64 << 20,
        forget_erase_max: Duration::from_hours(24),
        compact_automatically: true,
        recovery_threads: 0,
        disk: Arc::new(RealDisk),
        clock: Arc::new(SystemClock::default()),
        rng: Arc::new(SystemRng),
        metrics: Arc::new(Metrics::default()),
        progress: Arc::new(RecoveryProgress::default()),
    }
}
