//! Episodes out of a v0.1.0 data directory.

use std::path::Path;

use super::Feed;
use crate::failure::{Failure, Outcome};

/// The logs of one space.
#[derive(Debug)]
pub(super) struct Space {
    bytes: u64,
}

impl Space {
    /// Bytes of its logs.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Finds the spaces of a data directory.
pub(super) fn find(dir: &Path) -> Outcome<Vec<Space>> {
    Err(Failure::failed(format!(
        "{} is a directory; `engram start --data` takes a v0.1.0 directory over in place",
        dir.display()
    )))
}

/// Feeds what a space holds.
pub(super) fn read(space: &Space, feed: &mut Feed<'_>) -> Outcome {
    feed.pass_over(space.bytes);
    Ok(())
}
