//! Time and randomness, as seams: the engine never asks the system itself.
//!
//! Deliberately absent: sleeping. The engine owns no thread, so it has nothing to wait with.

use std::fmt::Debug;
use std::time::Duration;

pub use jiff::Timestamp;

/// Where the engine gets the time from.
pub trait Clock: Send + Sync + Debug {
    /// The wall clock, to the nanosecond. It may jump.
    fn now(&self) -> Timestamp;
    /// Time since some fixed moment; never goes back.
    fn elapsed(&self) -> Duration;
}

/// Where the engine gets random bytes from: salts, keys, ids.
pub trait Rng: Send + Sync + Debug {
    /// Fills `bytes`. The bytes are unpredictable: a salt keeps users from forging frames.
    fn fill(&self, bytes: &mut [u8]);

    /// Eight of them.
    fn u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// The system's clock.
#[derive(Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl Default for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the seam's real side")]
    fn default() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

/// The kernel's random bytes.
#[derive(Debug, Default)]
pub struct SystemRng;

impl Rng for SystemRng {
    fn fill(&self, bytes: &mut [u8]) {
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            // The call fails only when interrupted; trying again is all there is to do.
            if let Ok(n) = rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty()) {
                done += n;
            }
        }
    }
}
