//! Threads and locks, from one place, so that they can be exchanged.
//!
//! They are the standard library's. Under the feature `shuttle`, which only the race checks
//! (`tests/race_tests.rs`) switch on, they are those of a scheduler that runs the same code
//! through thousands of interleavings and repeats any of them. Why: `docs/decisions/0014`.
//!
//! Deliberately absent: `Arc`, which is the same for both, and counters that only figures are
//! made of.

use std::num::NonZero;
use std::thread::available_parallelism;

#[cfg(feature = "shuttle")]
mod explored;

#[cfg(feature = "shuttle")]
pub(crate) use explored::Condvar;
#[cfg(feature = "shuttle")]
pub(crate) use shuttle::sync::{Mutex, MutexGuard, RwLock, atomic};
#[cfg(feature = "shuttle")]
pub(crate) use shuttle::thread;

#[cfg(not(feature = "shuttle"))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, RwLock, atomic};
#[cfg(not(feature = "shuttle"))]
pub(crate) use std::thread;

/// How many threads the machine runs at once.
pub(crate) fn cores() -> usize {
    available_parallelism().map_or(1, NonZero::get)
}

/// Lets the other threads of this process and of the machine go before the calling one, where the
/// system knows threads that stand back.
pub(crate) fn stand_back() {
    #[cfg(all(target_os = "linux", not(feature = "shuttle")))]
    {
        /// A tenth of the time that another thread has, where both want all.
        const NICE: i32 = 10;
        let thread = rustix::thread::gettid();
        if let Err(e) = rustix::process::setpriority_process(Some(thread), NICE) {
            tracing::debug!(cause = %e, "a thread of the background does not stand back");
        }
    }
}
