//! The engine without threads: whoever holds it says what happens next.

use super::upkeep::Turn;
use super::{Driver, lock};

/// Steps a store that was opened with [`Drive::Steps`](crate::store::options::Drive::Steps).
/// The same calls in the same order give the same run.
#[derive(Debug, Clone, Copy)]
pub struct Stepper<'a> {
    pub(crate) driver: &'a Driver,
}

impl Stepper<'_> {
    /// One act of the writer: takes what waits, or goes on with what it took. Says whether
    /// there was anything to do.
    #[must_use]
    pub fn write(&self) -> bool {
        let shared = &self.driver.shared;
        let mut engine = shared.engine();
        if engine.committer.is_busy() {
            shared.step_batch(&mut engine);
            return true;
        }
        shared.begin_batch(&mut engine)
    }

    /// One turn of the upkeep: a part of a spare, a step of compaction. While a batch is half
    /// done it does only what needs no writer. Says whether there is more to do at once.
    #[must_use]
    pub fn upkeep(&self) -> bool {
        let mut upkeep = lock(&self.driver.upkeep);
        let Some(upkeep) = upkeep.as_mut() else { return false };
        if self.driver.shared.engine().committer.is_busy() {
            return upkeep.go_on();
        }
        upkeep.turn() == Turn::Busy
    }

    /// One turn of the indexes: some episodes are put in, or some vectors linked. Says whether there
    /// was anything to do.
    #[must_use]
    pub fn index(&self) -> bool {
        self.driver.shared.index_some()
    }

    /// Saves the indexes, however little changed.
    pub fn save_indexes(&self) {
        self.driver.shared.save_indexes(true);
    }

    /// What happens when nobody has called for a while: the log is synced and marked.
    pub fn quiet(&self) {
        let shared = &self.driver.shared;
        while self.write() {}
        shared.on_quiet(true);
    }
}
