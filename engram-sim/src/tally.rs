//! What was done, for the last lines of a run.

use std::fmt;

use crate::disk::Faults;

/// Counts of many runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Seeds run.
    pub seeds: u64,
    /// Acts done.
    pub operations: u64,
    /// Lives that ended in a crash; each was followed by a recovery that was checked.
    pub crashes: u64,
    /// Of these, crashes in the middle of a recovery.
    pub crashes_in_recovery: u64,
    /// Changes acknowledged.
    pub acknowledged: u64,
    /// Sectors and bits hit at rest.
    pub hits: u64,
    /// Of these, in saved indexes.
    pub index_hits: u64,
    /// Recalls that were checked.
    pub recalls: u64,
    /// Laws that did not hold.
    pub violations: u64,
    /// Starts that were checked.
    pub starts: u64,
    /// Calls that went wrong.
    pub faults: Faults,
}

impl Tally {
    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.operations += other.operations;
        self.crashes += other.crashes;
        self.crashes_in_recovery += other.crashes_in_recovery;
        self.acknowledged += other.acknowledged;
        self.hits += other.hits;
        self.index_hits += other.index_hits;
        self.recalls += other.recalls;
        self.violations += other.violations;
        self.starts += other.starts;
        self.faults.add(other.faults);
    }

    /// Adds what went wrong on a disk.
    pub fn add_faults(&mut self, faults: &Faults) {
        self.faults.add(*faults);
    }

    /// Whether bytes of the log were damaged.
    #[must_use]
    pub fn damaged(&self) -> bool {
        self.hits > self.index_hits
    }

    /// Faults of all kinds.
    #[must_use]
    pub fn all_faults(&self) -> u64 {
        self.faults.total() + self.faults.short + self.hits
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Faults { read_eio, write_eio, sync_eio, enospc, short } = self.faults;
        writeln!(
            f,
            "faults: read-eio={read_eio} write-eio={write_eio} sync-eio={sync_eio} \
             enospc={enospc} short={short} damage-at-rest={}",
            self.hits
        )?;
        writeln!(
            f,
            "starts checked: {}, crashes in the middle of recovery: {}, recalls: {}, hits of saved \
             indexes: {}",
            self.starts, self.crashes_in_recovery, self.recalls, self.index_hits
        )?;
        write!(
            f,
            "sim: seeds={} operations={} crashes={} faults={} acked={} violations={}",
            self.seeds,
            self.operations,
            self.crashes,
            self.all_faults(),
            self.acknowledged,
            self.violations
        )
    }
}
