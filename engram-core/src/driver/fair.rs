//! A lock at which nobody is overtaken for long.
//!
//! A plain lock goes to who comes first once it is free, and a thread that gives it back and takes it again
//! at once is always first: who sleeps before it is woken, finds it taken, and sleeps again. Here one of
//! those who wait stands at the door, and whoever comes has to get in line behind him.
//!
//! Deliberately absent: an order among those in line.

use std::fmt;
use std::sync::LockResult;

use super::lock;
use crate::sync::{Mutex, MutexGuard};

/// What is behind the lock, and its door.
pub(super) struct Fair<T> {
    /// Held by the one who waits for the other lock.
    door: Mutex<()>,
    inside: Mutex<T>,
}

impl<T> Fair<T> {
    pub(super) fn new(inside: T) -> Self {
        Self { door: Mutex::default(), inside: Mutex::new(inside) }
    }

    /// Waits until it is free.
    ///
    /// # Errors
    /// As a lock of the standard library: somebody panicked inside.
    pub(super) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        let _door = lock(&self.door);
        self.inside.lock()
    }

    /// What is inside, if nobody is there and nobody waits; who panicked there counts as being there.
    pub(super) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let _door = self.door.try_lock().ok()?;
        self.inside.try_lock().ok()
    }
}

impl<T: fmt::Debug> fmt::Debug for Fair<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inside.fmt(f)
    }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use std::sync::{Arc, PoisonError};

    use super::*;
    use crate::sync::thread;

    #[test]
    fn who_waits_is_next_however_soon_another_comes_again() {
        for _ in 0..200 {
            let fair = Arc::new(Fair::new(Vec::new()));
            let inside = fair.lock().unwrap_or_else(PoisonError::into_inner);
            let waits = thread::spawn({
                let fair = Arc::clone(&fair);
                move || fair.lock().unwrap_or_else(PoisonError::into_inner).push("who waited")
            });
            while fair.door.try_lock().is_ok() {
                thread::yield_now();
            }
            assert!(fair.try_lock().is_none());
            drop(inside);
            fair.lock().unwrap_or_else(PoisonError::into_inner).push("who came again");
            waits.join().unwrap();
            let inside = fair.lock().unwrap_or_else(PoisonError::into_inner);
            assert_eq!(*inside, ["who waited", "who came again"]);
        }
    }
}
