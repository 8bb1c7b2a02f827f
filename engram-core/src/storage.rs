//! What is on disk.

pub mod wal;
