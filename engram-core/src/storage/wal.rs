//! The log's face: open, append, replay, compact.

pub mod blocks;
pub(crate) mod bytes;
pub mod compact;
pub mod contents;
pub mod env;
pub mod footer;
pub mod frame;
pub mod head;
pub mod knowledge;
mod losses;
pub mod order;
pub mod plan;
pub mod prealloc;
pub mod quarantine;
pub mod read;
pub mod recover;
pub mod report;
pub mod scan;
pub mod segment;
pub mod segments;
pub mod survey;
pub mod tiling;
pub mod verdict;
pub mod writer;
