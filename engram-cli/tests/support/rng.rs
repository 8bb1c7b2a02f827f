//! Chance that can be repeated: `SplitMix64` from a seed, which a failing test prints.

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// Numbers from a seed; says the seed when the test that owns it fails.
#[derive(Debug)]
pub(crate) struct Rng {
    seed: u64,
    state: u64,
    tells: bool,
}

impl Rng {
    /// From `ENGRAM_TEST_SEED`, else another one each time.
    pub(crate) fn of_this_run() -> Self {
        let given = std::env::var("ENGRAM_TEST_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            u64::from(now.subsec_nanos()) ^ (now.as_secs() << 20)
        });
        Self { seed, state: seed, tells: true }
    }

    /// Another one that hangs on this one alone.
    pub(crate) fn fork(&mut self) -> Self {
        let seed = self.next();
        Self { seed, state: seed, tells: false }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to, not including, `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// The same for places in memory.
    pub(crate) fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).unwrap()
    }
}

impl Drop for Rng {
    fn drop(&mut self) {
        if self.tells && std::thread::panicking() {
            drop(writeln!(std::io::stderr(), "to repeat: ENGRAM_TEST_SEED={}", self.seed));
        }
    }
}
