//! The log's face: open, append, replay, compact.

pub(crate) mod bytes;
pub mod frame;
pub mod plan;
pub mod report;
pub mod scan;
pub mod segment;
pub mod verdict;
