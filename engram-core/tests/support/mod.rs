//! What the laws of the log are tested with: a disk in memory that fails and crashes when told
//! to, a clock and random bytes that repeat, and words for what a memory holds.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "test support: each test program uses its part of it"
)]

pub mod disk;
pub mod gauges;
pub mod hush;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engram_core::clock::{Clock, Rng};
use engram_core::disk::Disk;
use engram_core::inspect::{self, FrameDump};
use engram_core::store::ListQuery;
use engram_core::{Condition, Draft, Episode, Options, Store, Timestamp};

use disk::MemDisk;

/// Where the stores of these tests are.
pub const DIR: &str = "/data";

/// All frames of the log.
pub fn frames_of(disk: &Arc<MemDisk>) -> Vec<FrameDump> {
    let disk = Arc::clone(disk) as Arc<dyn Disk>;
    let mut frames = Vec::new();
    inspect::dump(&disk, Path::new(DIR), &mut |frame| {
        frames.push(frame);
        Ok(())
    })
    .unwrap();
    frames
}

/// A path in the log's directory.
pub fn wal(name: &str) -> PathBuf {
    Path::new(DIR).join("wal").join(name)
}

/// A clock that moves only when told to; each look at it is a microsecond later.
#[derive(Debug, Default)]
pub struct FakeClock {
    micros: AtomicU64,
}

impl FakeClock {
    pub fn advance(&self, by: Duration) {
        self.micros.fetch_add(u64::try_from(by.as_micros()).unwrap(), Ordering::Relaxed);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        let micros = self.micros.fetch_add(1, Ordering::Relaxed);
        let start = 1_790_000_000_000_000i64;
        Timestamp::from_microsecond(start + i64::try_from(micros).unwrap()).unwrap()
    }

    fn elapsed(&self) -> Duration {
        Duration::from_micros(self.micros.fetch_add(1, Ordering::Relaxed))
    }
}

/// `SplitMix64`: the same seed gives the same bytes.
#[derive(Debug)]
pub struct FakeRng(Mutex<u64>);

impl FakeRng {
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }

    pub fn below(&self, bound: u64) -> u64 {
        self.u64() % bound
    }
}

/// One step of `SplitMix64`.
pub fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Rng for FakeRng {
    fn fill(&self, bytes: &mut [u8]) {
        let mut state = self.0.lock().unwrap();
        for chunk in bytes.chunks_mut(8) {
            *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let word = mix(*state).to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

/// A store on `disk` that does nothing by itself: 1 MiB segments, compaction on request and without a
/// limit (the clock hardly moves), one thread to recover with.
pub fn options(disk: &Arc<MemDisk>) -> Options {
    static SEED: AtomicU64 = AtomicU64::new(1);
    Options {
        segment_bytes: 1 << 20,
        compact_automatically: false,
        compaction_bytes_per_second_max: 0,
        recovery_threads: 1,
        disk: Arc::clone(disk) as Arc<dyn Disk>,
        clock: Arc::new(FakeClock::default()),
        rng: Arc::new(FakeRng::new(SEED.fetch_add(1, Ordering::Relaxed))),
        ..Options::default()
    }
}

pub fn open(disk: &Arc<MemDisk>) -> Store {
    Store::open(DIR, options(disk)).unwrap()
}

pub fn draft(id: &str, what: impl Into<String>) -> Draft {
    Draft { id: Some(id.into()), ..Draft::of(what) }
}

/// Keeps an episode in space `s`; gives its LSN.
pub fn remember(store: &Store, id: &str, what: impl Into<String>) -> u64 {
    store.remember("s", draft(id, what), Condition::Any).unwrap().wait().unwrap().lsn
}

pub fn forget(store: &Store, id: &str) -> u64 {
    store.forget("s", id, Condition::Any).unwrap().wait().unwrap().lsn
}

/// All that a memory holds: space and id to LSN and episode, read from the log and verified.
pub type Contents = BTreeMap<(String, String), (u64, Episode)>;

pub fn contents(store: &Store) -> Contents {
    let mut all = Contents::new();
    for space in store.spaces() {
        let mut cursor = None;
        loop {
            let query = ListQuery { limit: Some(1000), cursor, ..ListQuery::default() };
            let page = store.list(&space.name, &query).unwrap();
            for stored in page.episodes {
                let same = store.get(&space.name, &stored.episode.id).unwrap();
                assert_eq!(same, stored);
                let key = (stored.space, stored.episode.id.clone());
                assert!(all.insert(key, (stored.lsn, stored.episode)).is_none(), "listed twice");
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        let listed = all.keys().filter(|(name, _)| *name == space.name).count();
        assert_eq!(listed as u64, space.episodes, "{space:?}");
    }
    all
}

/// Waits, without a clock, until something that another thread does has happened.
pub fn until(what: &str, mut happened: impl FnMut() -> bool) {
    for _ in 0..20_000_000u64 {
        if happened() {
            return;
        }
        std::thread::yield_now();
    }
    panic!("never happened: {what}");
}
