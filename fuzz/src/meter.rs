//! Counts what is allocated while a target runs, and holds it to a bound that grows with the input.

use std::sync::{Mutex, PoisonError};

use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// The counter is the process's: targets that run side by side take turns.
static TURN: Mutex<()> = Mutex::new(());

/// The most that may be allocated at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// Whatever the input is, in bytes.
    pub fixed_bytes: usize,
    /// For each byte of the input.
    pub per_byte: usize,
}

impl Bound {
    /// Runs something that reads `input_bytes` bytes.
    pub fn hold<T>(self, what: &str, input_bytes: usize, run: impl FnOnce() -> T) -> T {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let before = ALLOCATED.current_usage();
        ALLOCATED.reset_peak_usage();
        let result = run();
        let peak = ALLOCATED.peak_usage().saturating_sub(before);
        drop(turn);
        let allowed = self.fixed_bytes + self.per_byte * input_bytes;
        assert!(
            peak <= allowed,
            "{what}: {peak} bytes were allocated for {input_bytes} bytes of input; {allowed} may be"
        );
        result
    }
}
