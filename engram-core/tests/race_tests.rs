//! Laws that hold however the threads of the driver are interleaved.
//!
//! The code is the product's own; its threads and locks are shuttle's (`engram_core`'s feature
//! `shuttle`), which runs one thread at a time and chooses which. A law that waits for ever fails
//! as a deadlock. Each disk call is a moment at which others may run. See `race/mod.rs`.
#![expect(clippy::panic, clippy::print_stdout, clippy::print_stderr, reason = "tests")]

mod race;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Waker};

use engram_core::storage::wal::report::WalState;
use engram_core::store::{ListQuery, Pending, Remembered};
use engram_core::{Condition, Error, ErrorKind, Options, Store};
use shuttle::future::block_on;
use shuttle::rand::{Rng as _, thread_rng};
use shuttle::thread;

use race::{disk, explore, image, options};
use support::disk::{Fault, Image, Kind, MemDisk, Op, Unsynced};
use support::{DIR, contents, draft};

/// A segment holds four episodes of it.
fn text(version: u64) -> String {
    format!("{version:03} {}", "x".repeat(3_000))
}

fn version(what: &str) -> u64 {
    what[..3].parse().unwrap()
}

fn start(image: &Image) -> (Arc<MemDisk>, Store) {
    let disk = disk(image);
    let store = Store::open(DIR, options(&disk)).unwrap();
    (disk, store)
}

fn again(disk: &MemDisk) -> Store {
    Store::open(DIR, options(&MemDisk::of(&disk.image()))).unwrap()
}

/// Blocks on a change or awaits it, as chance has it.
fn settle<T>(pending: Result<Pending<T>, Error>) -> Result<T, Error> {
    let pending = pending?;
    if thread_rng().gen_bool(0.5) { pending.wait() } else { block_on(pending) }
}

fn keep(store: &Store, id: &str, version: u64) -> Result<Remembered, Error> {
    settle(store.remember("s", draft(id, text(version)), Condition::Any))
}

fn found(store: &Store, id: &str) -> Option<(u64, u64)> {
    match store.get("s", id) {
        Ok(stored) => Some((stored.lsn, version(&stored.episode.what))),
        Err(Error::NoEpisode { .. }) => None,
        Err(e) => panic!("{id}: {e}"),
    }
}

/// Threads with a result each.
fn all<T: 'static>(threads: Vec<thread::JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

#[test]
fn of_writers_that_race_for_one_id_one_wins_and_each_sees_its_own() {
    explore(10, || {
        let (disk, store) = start(&Image::new());
        let writers = (0..3).map(|n| {
            let store = store.clone();
            thread::spawn(move || {
                let own = format!("own{n}");
                let first = keep(&store, &own, 1).unwrap().lsn;
                assert_eq!(found(&store, &own), Some((first, 1)));
                let race = store.remember("s", draft("prize", text(n)), Condition::Absent);
                let prize = settle(race).map(|kept| kept.lsn);
                if let Ok(lsn) = prize {
                    assert_eq!(found(&store, "prize"), Some((lsn, n)));
                }
                assert!(found(&store, "prize").is_some());
                let last = keep(&store, &own, 2).unwrap();
                assert!(last.replaced && last.lsn > first);
                assert_eq!(found(&store, &own), Some((last.lsn, 2)));
                (first, prize, last.lsn)
            })
        });
        let ends = all(writers.collect());
        let won: Vec<u64> = ends.iter().filter_map(|(_, prize, _)| prize.clone().ok()).collect();
        assert_eq!(won.len(), 1, "{ends:?}");
        for (first, prize, last) in &ends {
            match prize {
                Ok(lsn) => assert!(first < lsn && lsn < last),
                Err(e) => assert_eq!(e.kind(), ErrorKind::Precondition),
            }
        }
        let lsns: BTreeSet<u64> =
            ends.iter().flat_map(|&(first, _, last)| [first, last]).chain(won).collect();
        assert_eq!(lsns.len(), 7, "an LSN was given twice");
        // Acknowledged means synced.
        let crashed = disk.crash(Unsynced::Lost);
        drop(store);
        let store = Store::open(DIR, options(&crashed)).unwrap();
        assert_eq!(contents(&store).values().map(|(lsn, _)| lsn).count(), 4);
        for (n, (_, _, last)) in ends.iter().enumerate() {
            assert_eq!(found(&store, &format!("own{n}")), Some((*last, 2)));
        }
    });
}

#[test]
fn a_full_queue_answers_busy_and_loses_nothing() {
    explore(10, || {
        let disk = disk(&Image::new());
        let store = Store::open(DIR, Options { queue_max: 1, ..options(&disk) }).unwrap();
        let writers = (0..3u64).map(|n| {
            let store = store.clone();
            thread::spawn(move || {
                let id = format!("e{n}");
                match store.remember("s", draft(&id, text(n)), Condition::Any) {
                    Ok(pending) if n == 0 => {
                        drop(pending);
                        None
                    }
                    Ok(pending) => {
                        let lsn = settle(Ok(pending)).unwrap().lsn;
                        assert_eq!(found(&store, &id), Some((lsn, n)));
                        Some(true)
                    }
                    Err(Error::Busy { queued: 1, bound: 1 }) => Some(false),
                    Err(e) => panic!("{e}"),
                }
            })
        });
        let ends = all(writers.collect());
        // Whoever comes when the others are answered finds room.
        while let Err(e) = keep(&store, "last", 9) {
            assert_eq!(e.kind(), ErrorKind::Busy);
            thread::yield_now();
        }
        store.close().unwrap();
        assert_eq!(store.wal().dead_bytes, 0);
        let store = again(&disk);
        for (n, end) in ends.into_iter().enumerate() {
            let there = found(&store, &format!("e{n}")).is_some();
            assert!(end.is_none_or(|kept| kept == there), "e{n}");
        }
        assert!(found(&store, "last").is_some());
    });
}

#[test]
fn a_handle_that_moves_between_tasks_or_is_dropped_goes_its_way() {
    explore(10, || {
        let (disk, store) = start(&Image::new());
        let mut moving = store.remember("s", draft("moving", text(1)), Condition::Any).unwrap();
        let poll = Pin::new(&mut moving).poll(&mut Context::from_waker(Waker::noop()));
        let other = store.clone();
        let awaiting = thread::spawn(move || match poll {
            std::task::Poll::Ready(kept) => kept.unwrap().lsn,
            std::task::Poll::Pending => settle(Ok(moving)).unwrap().lsn,
        });
        let dropping = thread::spawn(move || {
            drop(other.remember("s", draft("dropped", text(2)), Condition::Any).unwrap());
            keep(&other, "after", 3).unwrap().lsn
        });
        let (moved, after) = (awaiting.join().unwrap(), dropping.join().unwrap());
        assert_eq!(found(&store, "moving"), Some((moved, 1)));
        assert_eq!(found(&store, "after"), Some((after, 3)));
        assert_eq!(found(&store, "dropped").unwrap().1, 2, "it was queued before");
        drop(store);
        assert_eq!(contents(&again(&disk)).len(), 3);
    });
}

#[test]
fn over_the_ends_of_segments_and_a_close_each_change_is_kept_or_refused() {
    explore(10, || {
        let (disk, store) = start(&Image::new());
        let writers = (0..2u64).map(|n| {
            let store = store.clone();
            thread::spawn(move || {
                let put = |version| match keep(&store, &format!("w{n}.{version}"), version) {
                    Ok(kept) => Some(kept.lsn),
                    Err(Error::Closed) => None,
                    Err(e) => panic!("{e}"),
                };
                (0..5).map(put).collect::<Vec<_>>()
            })
        });
        let writers: Vec<_> = writers.collect();
        let closing = store.clone();
        let closer = thread::spawn(move || {
            let at = thread_rng().gen_range(0..8);
            for _ in 0..20 {
                if closing.wal().head_lsn >= at {
                    break;
                }
                thread::yield_now();
            }
            closing.close().unwrap();
        });
        let ends = all(writers);
        closer.join().unwrap();
        store.close().unwrap();
        let before = contents(&store);
        drop(store);
        let store = again(&disk);
        assert!(store.incidents().is_empty() && store.recovery_report().failed.total() == 0);
        assert_eq!(contents(&store), before);
        let mut kept = 0;
        for (n, lsns) in ends.iter().enumerate() {
            let refused = lsns.iter().position(Option::is_none).unwrap_or(lsns.len());
            assert!(lsns[refused..].iter().all(Option::is_none), "accepted after the close");
            assert!(lsns[..refused].is_sorted());
            for (version, lsn) in lsns.iter().enumerate() {
                let there = found(&store, &format!("w{n}.{version}")).map(|(lsn, _)| lsn);
                assert_eq!(there, *lsn);
                kept += usize::from(lsn.is_some());
            }
        }
        assert_eq!(before.len(), kept);
    });
}

/// Ten episodes in three segments, every second one already dead.
fn half_dead() -> Image {
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

/// What was acknowledged, for readers to hold an answer against.
#[derive(Default)]
struct Told {
    version: AtomicU64,
    forgotten: AtomicBool,
}

fn read(store: &Store, told: &Told) {
    let at_least = told.version.load(Ordering::SeqCst);
    let (_, version) = found(store, "e2").expect("it is only ever replaced");
    assert!(version >= at_least, "version {version} after {at_least} was acknowledged");
    let gone = told.forgotten.load(Ordering::SeqCst);
    let there = found(store, "e4").is_some();
    assert!(!(gone && there), "forgotten, and read");
    assert!(found(store, "e0").is_some() && found(store, "e9").is_some());
}

fn read_all(store: &Store, told: &Told) {
    let gone = told.forgotten.load(Ordering::SeqCst);
    let at_least = told.version.load(Ordering::SeqCst);
    let page = store.list("s", &ListQuery::default()).unwrap();
    assert!(page.unreadable.is_empty(), "{:?}", page.unreadable);
    let mut seen = BTreeMap::new();
    for stored in page.episodes {
        let other = seen.insert(stored.episode.id.clone(), version(&stored.episode.what));
        assert_eq!(other, None, "{} is listed twice", stored.episode.id);
    }
    assert!(!(gone && seen.contains_key("e4")), "forgotten, and listed");
    assert!(seen.get("e2").is_some_and(|version| *version >= at_least), "{seen:?}");
    for id in ["e0", "e1", "e3", "e6", "e7", "e8", "e9"] {
        assert!(seen.contains_key(id), "{id} is not in {:?}", seen.keys());
    }
}

#[test]
fn while_compaction_moves_frames_readers_see_the_newest_and_nothing_forgotten() {
    let image = half_dead();
    explore(10, move || {
        let (disk, store) = start(&image);
        let told = Arc::new(Told::default());
        let mut threads = Vec::new();
        for _ in 0..2 {
            let (store, told) = (store.clone(), Arc::clone(&told));
            threads.push(thread::spawn(move || {
                read(&store, &told);
                read_all(&store, &told);
                read(&store, &told);
            }));
        }
        let (writer, acknowledged) = (store.clone(), Arc::clone(&told));
        threads.push(thread::spawn(move || {
            for version in 1..3 {
                keep(&writer, "e2", version).unwrap();
                acknowledged.version.store(version, Ordering::SeqCst);
            }
            settle(writer.forget("s", "e4", Condition::Any)).unwrap();
            acknowledged.forgotten.store(true, Ordering::SeqCst);
        }));
        let compacting = store.clone();
        threads.push(thread::spawn(move || {
            compacting.compact_from_memory().unwrap();
        }));
        all(threads);
        // A pass that drops the last older frame of a key leaves its tombstone to the next one.
        let passes = (0..3).map(|_| store.compact_from_memory().unwrap()).collect::<Vec<_>>();
        assert_eq!(store.wal().dead_bytes, 0, "{passes:?}");
        store.close().unwrap();
        let (before, wal, spaces) = (contents(&store), store.wal(), store.spaces());
        assert_eq!(before.len(), 8);
        drop(store);
        let store = again(&disk);
        assert!(store.incidents().is_empty());
        assert_eq!(contents(&store), before);
        assert_eq!(store.spaces(), spaces);
        assert_eq!(store.wal().live_bytes, wal.live_bytes);
        assert_eq!(store.wal().dead_bytes, 0);
    });
}

#[test]
fn while_compaction_runs_by_itself_what_is_replaced_forgotten_and_closed_stays_so() {
    let image = half_dead();
    explore(10, move || {
        let disk = disk(&image);
        let own = Options { compact_automatically: true, ..options(&disk) };
        let store = Store::open(DIR, own).unwrap();
        let told = Arc::new(Told::default());
        let (writer, acknowledged) = (store.clone(), Arc::clone(&told));
        let writing = thread::spawn(move || {
            for version in 1..4 {
                keep(&writer, "e2", version).unwrap();
                acknowledged.version.store(version, Ordering::SeqCst);
            }
            settle(writer.forget("s", "e4", Condition::Any)).unwrap();
            acknowledged.forgotten.store(true, Ordering::SeqCst);
        });
        let (reader, other) = (store.clone(), Arc::clone(&told));
        let reading = thread::spawn(move || {
            read(&reader, &other);
            read_all(&reader, &other);
        });
        read(&store, &told);
        writing.join().unwrap();
        // In the middle of whatever compaction does.
        store.close().unwrap();
        reading.join().unwrap();
        let (before, spaces) = (contents(&store), store.spaces());
        drop(store);
        let store = again(&disk);
        assert!(store.incidents().is_empty());
        assert_eq!(contents(&store), before);
        assert_eq!(store.spaces(), spaces);
        assert_eq!(found(&store, "e2").unwrap().1, 3);
        assert_eq!(found(&store, "e4"), None);
    });
}

#[test]
fn whoever_asks_for_compaction_is_answered_in_a_close_too() {
    let image = half_dead();
    explore(10, move || {
        let (disk, store) = start(&image);
        let before = contents(&store);
        let asking = (0..2).map(|_| {
            let store = store.clone();
            thread::spawn(move || match store.compact_from_memory() {
                Ok(_) | Err(Error::Closed) => {}
                Err(e) => panic!("{e}"),
            })
        });
        let mut threads: Vec<_> = asking.collect();
        for _ in 0..2 {
            let store = store.clone();
            threads.push(thread::spawn(move || store.close().unwrap()));
        }
        all(threads);
        drop(store);
        let store = again(&disk);
        assert!(store.incidents().is_empty());
        assert_eq!(contents(&store), before);
    });
}

#[test]
fn after_a_failed_sync_everyone_is_answered_and_nothing_is_acknowledged() {
    explore(10, || {
        let (disk, store) = start(&Image::new());
        let (first, times) = (thread_rng().gen_range(0..6), thread_rng().gen_range(1..3));
        disk.fail(Fault { op: Op::Sync, path: ".seg", first, times, kind: Kind::Eio });
        let poisoned = Arc::new(AtomicBool::new(false));
        let writers = (0..3u64).map(|n| {
            let (store, poisoned) = (store.clone(), Arc::clone(&poisoned));
            thread::spawn(move || {
                let mut kept = Vec::new();
                for at in 0..4 {
                    let before = poisoned.load(Ordering::SeqCst);
                    match keep(&store, &format!("w{n}.{at}"), at) {
                        Ok(done) => {
                            assert!(!before, "acknowledged after a failed sync was told");
                            kept.push((at, done.lsn));
                        }
                        Err(e) => {
                            assert_eq!(e.kind(), ErrorKind::Poisoned, "{e}");
                            assert_eq!(store.state(), WalState::Poisoned);
                            assert!(store.poisoned_by().is_some());
                            poisoned.store(true, Ordering::SeqCst);
                        }
                    }
                }
                kept
            })
        });
        let writers: Vec<_> = writers.collect();
        let compacting = store.clone();
        let asking = thread::spawn(move || compacting.compact_from_memory().map(drop));
        let ends = all(writers);
        if let Err(e) = asking.join().unwrap() {
            assert_eq!(e.kind(), ErrorKind::Poisoned, "{e}");
        }
        // Reads go on; what was refused never shows.
        let count = ends.iter().map(Vec::len).sum::<usize>();
        assert_eq!(contents(&store).len(), count);
        let crashed = disk.crash(Unsynced::Lost);
        drop(store);
        let store = Store::open(DIR, options(&crashed)).unwrap();
        for (n, kept) in ends.iter().enumerate() {
            for &(at, lsn) in kept {
                assert_eq!(found(&store, &format!("w{n}.{at}")), Some((lsn, at)));
            }
        }
    });
}

#[test]
fn recovery_on_many_threads_is_recovery_on_one() {
    let image = half_dead();
    explore(5, move || {
        let alone = contents(&Store::open(DIR, options(&MemDisk::of(&image))).unwrap());
        let disk = disk(&image);
        let threads = thread_rng().gen_range(2..5);
        let many = Options { recovery_threads: threads, ..options(&disk) };
        let store = Store::open(DIR, many.clone()).unwrap();
        assert_eq!(contents(&store), alone);
        assert!(store.incidents().is_empty());
        drop(store);
        // A device that fails ends all threads, with an error, and the next start goes well.
        let (op, first) = (
            if thread_rng().gen_bool(0.5) { Op::Read } else { Op::Open },
            thread_rng().gen_range(0..12),
        );
        disk.fail(Fault { op, path: ".seg", first, times: 1, kind: Kind::Eio });
        let failed = Store::open(DIR, many.clone());
        disk.heal();
        match failed {
            Ok(store) => assert_eq!(contents(&store), alone),
            Err(e) => assert!(!e.to_string().is_empty()),
        }
        assert_eq!(contents(&Store::open(DIR, many.clone()).unwrap()), alone);
    });
}
