//! The log's face: open, append, replay, compact.

pub mod report;
