//! Tiny worlds, and words for what happens in them.

use std::sync::Arc;

use engram_core::store::{Pending, Remembered};
use engram_core::{Condition, Error, Store};
use shuttle::future::block_on;
use shuttle::rand::{Rng as _, thread_rng};
use shuttle::thread;

use super::{disk, image, options};
use crate::support::disk::{Image, MemDisk};
use crate::support::{DIR, draft};

/// A segment holds four episodes of it.
pub fn text(version: u64) -> String {
    format!("{version:03} {}", "x".repeat(3_000))
}

pub fn version(what: &str) -> u64 {
    what[..3].parse().unwrap()
}

pub fn start(image: &Image) -> (Arc<MemDisk>, Store) {
    let disk = disk(image);
    let store = Store::open(DIR, options(&disk)).unwrap();
    (disk, store)
}

pub fn again(disk: &MemDisk) -> Store {
    Store::open(DIR, options(&MemDisk::of(&disk.image()))).unwrap()
}

/// Blocks on a change or awaits it, as chance has it.
pub fn settle<T>(pending: Result<Pending<T>, Error>) -> Result<T, Error> {
    let pending = pending?;
    if thread_rng().gen_bool(0.5) { pending.wait() } else { block_on(pending) }
}

pub fn keep(store: &Store, id: &str, version: u64) -> Result<Remembered, Error> {
    settle(store.remember("s", draft(id, text(version)), Condition::Any))
}

pub fn found(store: &Store, id: &str) -> Option<(u64, u64)> {
    match store.get("s", id) {
        Ok(stored) => Some((stored.lsn, version(&stored.episode.what))),
        Err(Error::NoEpisode { .. }) => None,
        Err(e) => panic!("{id}: {e}"),
    }
}

/// Threads with a result each.
pub fn all<T: 'static>(threads: Vec<thread::JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

/// Ten episodes in three segments, every second one already dead.
pub fn half_dead() -> Image {
    image(|store| {
        for n in 0..10 {
            keep(store, &format!("e{n}"), 0).unwrap();
        }
        for n in [1, 3] {
            keep(store, &format!("e{n}"), 1).unwrap();
        }
        store.forget("s", "e5", Condition::Any).unwrap().wait().unwrap();
    })
}

/// Waits for what others do, for so long that they must have done it.
pub fn until(what: &str, mut happened: impl FnMut() -> bool) {
    for _ in 0..5_000 {
        if happened() {
            return;
        }
        thread::yield_now();
    }
    panic!("never happened: {what}");
}
