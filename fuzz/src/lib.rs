//! Throws bytes at everything in Engram that reads bytes from outside, and says what must hold
//! whatever they are.
//!
//! A target is a function of its input that panics when a law is broken. Who chooses the inputs is
//! another matter: libFuzzer, which follows coverage (`make fuzz`); the corpus and the random
//! bytes of `tests/replay_tests.rs`; or one file at a time (`engram-fuzz run`). Deliberately absent: laws
//! about time. Work is counted where it can be, in bytes read; libFuzzer's own limit does the rest.
#![expect(
    clippy::missing_panics_doc,
    reason = "a target panics when a law is broken: it is how it answers"
)]

pub mod config;
pub mod cue;
pub mod disk;
pub mod frame;
pub mod havoc;
pub mod json;
pub mod meter;
pub mod recovery;
pub mod scan;
pub mod source;
pub mod takeover;

/// Something that reads bytes from outside, and its laws.
#[derive(Debug)]
pub struct Target {
    /// Its name: on the command line, and of its directory in the corpus.
    pub name: &'static str,
    /// Runs one input; panics when a law is broken.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Inputs are not made longer than this.
    pub input_bytes_max: usize,
}

/// Every target.
pub const TARGETS: [Target; 7] = [
    Target { name: "frame", run: frame::run, seeds: frame::seeds, input_bytes_max: 4 << 10 },
    Target { name: "scan", run: scan::run, seeds: scan::seeds, input_bytes_max: 4 << 10 },
    Target {
        name: "recovery",
        run: recovery::run,
        seeds: recovery::seeds,
        input_bytes_max: 1 << 10,
    },
    Target {
        name: "takeover",
        run: takeover::run,
        seeds: takeover::seeds,
        input_bytes_max: 32 << 10,
    },
    Target { name: "json", run: json::run, seeds: json::seeds, input_bytes_max: 16 << 10 },
    Target { name: "cue", run: cue::run, seeds: cue::seeds, input_bytes_max: 16 << 10 },
    Target { name: "config", run: config::run, seeds: config::seeds, input_bytes_max: 2 << 10 },
];

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
