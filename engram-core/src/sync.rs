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
