//! What only a simulation changes: which schema this version knows, and promises that it breaks
//! on purpose, to prove that its checks would notice.
//!
//! Without the feature `sim` all of it is constant, and the compiler removes it.

/// A promise that a test build can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Broken {
    /// A change is acknowledged before its batch is synced.
    AckBeforeSync,
    /// A failed sync is taken for a good one.
    FailedSyncIgnored,
    /// A frame's header is believed without its checksum.
    HeaderChecksumIgnored,
    /// A payload is believed without its checksum.
    PayloadChecksumIgnored,
    /// A frame of another life (foreign salt) is believed.
    SaltIgnored,
    /// Damage below H is cut off as if it were a torn tail.
    DamageCutAsTail,
    /// Bytes leave the log without a copy in the quarantine.
    NoQuarantine,
    /// Where ranges overlap, the lower generation wins.
    GenerationReversed,
    /// LSNs of a cut tail are given again.
    LsnReused,
    /// A tombstone is dropped while older frames of its key are in the log.
    TombstoneDroppedEarly,
    /// A frame that memory does not know is dropped.
    UnknownDropped,
    /// A frame that this version does not understand is dropped.
    UndecodableDropped,
    /// A log without a mark at its end is written on in place.
    SurvivorsNotRewritten,
    /// Compaction removes its inputs before its output's name is durable.
    InputsRemovedEarly,
    /// An incident is not written down.
    IncidentForgotten,
    /// What was forgotten stays in the indexes.
    ForgottenStaysIndexed,
    /// A saved index is believed without its checksums.
    SavedIndexUnchecked,
    /// A saved vector is anybody's who has the LSN.
    SavedOwnerUnchecked,
}

#[cfg(feature = "sim")]
mod switches {
    use std::cell::Cell;

    use super::Broken;
    use crate::record::SCHEMA;

    thread_local! {
        static BROKEN: Cell<Option<Broken>> = const { Cell::new(None) };
        static NEWEST: Cell<u16> = const { Cell::new(SCHEMA) };
    }

    /// Breaks one promise, on this thread.
    pub fn break_promise(broken: Option<Broken>) {
        BROKEN.set(broken);
    }

    /// Makes this thread's engine a version that writes this schema, and knows all up to it.
    pub fn set_schema(newest: u16) {
        NEWEST.set(newest);
    }

    pub(crate) fn broken(promise: Broken) -> bool {
        BROKEN.get() == Some(promise)
    }

    pub(crate) fn schema() -> u16 {
        NEWEST.get()
    }

    pub(crate) fn knows_schema(schema: u16) -> bool {
        (SCHEMA..=NEWEST.get()).contains(&schema)
    }
}

#[cfg(not(feature = "sim"))]
mod switches {
    use super::Broken;
    use crate::record::SCHEMA;

    pub(crate) const fn broken(_: Broken) -> bool {
        false
    }

    pub(crate) const fn schema() -> u16 {
        SCHEMA
    }

    pub(crate) const fn knows_schema(schema: u16) -> bool {
        schema == SCHEMA
    }
}

#[cfg(feature = "sim")]
pub use switches::{break_promise, set_schema};
pub(crate) use switches::{broken, knows_schema, schema};
