//! What the engine counts.

/// What the engine counts.
#[derive(Debug, Default)]
pub struct Metrics {}
