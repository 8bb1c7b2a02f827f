//! The engine as this program opens it.

use std::sync::Arc;

use engram_core::Options;
use engram_core::disk::Disk;
use engram_core::disk::real::RealDisk;

use crate::args::StartArgs;

/// What `engram start` was told, but for the embedder: that one has secrets and settings of its own
/// ([`crate::embedder`]).
pub(crate) fn options(args: &StartArgs) -> Options {
    Options {
        durability: args.durability,
        recovery: args.recovery,
        accept_loss: args.accept_loss.clone(),
        segment_bytes: args.segment_bytes,
        queue_max: args.queue_max,
        compaction_bytes_per_second_max: args.compaction_bytes_per_second_max,
        forget_erase_max: args.forget_erase_max,
        ..Options::default()
    }
}

/// For a short visit that serves nobody (`wal compact`): compaction runs when it is called.
pub(crate) fn visit_options() -> Options {
    Options { compact_automatically: false, index_in_background: false, ..Options::default() }
}

/// The disk that tools look at.
pub(crate) fn disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}
