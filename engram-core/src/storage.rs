//! What is on disk.

pub mod legacy;
pub mod wal;
