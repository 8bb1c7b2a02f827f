//! While compaction moves frames: what readers see, and what is there afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use engram_core::storage::wal::knowledge::Usage;
use engram_core::store::ListQuery;
use engram_core::store::policy::{Bounds, View, next_job, seal_early};
use engram_core::{Condition, Error, Options, Store};
use shuttle::rand::{Rng as _, thread_rng};
use shuttle::thread;

use super::world::{again, all, found, half_dead, keep, settle, start, until, version};
use super::{disk, explore, options};
use crate::support::{DIR, contents};

/// What was acknowledged, for readers to hold an answer against.
#[derive(Default)]
pub struct Acknowledged {
    pub version: AtomicU64,
    pub forgotten: AtomicBool,
}

fn read(store: &Store, told: &Acknowledged) {
    let at_least = told.version.load(Ordering::SeqCst);
    let (_, version) = found(store, "e2").expect("it is only ever replaced");
    assert!(version >= at_least, "version {version} after {at_least} was acknowledged");
    let gone = told.forgotten.load(Ordering::SeqCst);
    let there = found(store, "e4").is_some();
    assert!(!(gone && there), "forgotten, and read");
    assert!(found(store, "e0").is_some() && found(store, "e9").is_some());
}

fn read_all(store: &Store, told: &Acknowledged) {
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
    explore(move || {
        let (disk, store) = start(&image);
        let told = Arc::new(Acknowledged::default());
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
fn a_reader_that_is_overtaken_by_compaction_finds_the_frame_where_it_went() {
    let image = half_dead();
    explore(move || {
        let (_, store) = start(&image);
        let reader = store.clone();
        let reading = thread::spawn(move || {
            for id in ["e0", "e2"] {
                assert!(found(&reader, id).is_some());
            }
        });
        store.compact_from_memory().unwrap();
        reading.join().unwrap();
    });
}

#[test]
fn while_compaction_runs_by_itself_what_is_replaced_forgotten_and_closed_stays_so() {
    let image = half_dead();
    explore(move || {
        let disk = disk(&image);
        let own = Options { compact_automatically: true, ..options(&disk) };
        let store = Store::open(DIR, own).unwrap();
        let told = Arc::new(Acknowledged::default());
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
    explore(move || {
        let (disk, store) = start(&image);
        let before = contents(&store);
        let asking = (0..2).map(|_| {
            let store = store.clone();
            thread::spawn(move || match store.compact_from_memory() {
                Ok(_) | Err(Error::Closed) => {}
                Err(e) => panic!("{e}"),
            })
        });
        let asking: Vec<_> = asking.collect();
        let closing = (0..2).map(|_| {
            let (store, disk) = (store.clone(), Arc::clone(&disk));
            thread::spawn(move || {
                store.close().unwrap();
                disk.changing_calls()
            })
        });
        let closed = all(closing.collect());
        all(asking);
        drop(store);
        let calls = disk.changing_calls();
        assert_eq!(closed, [calls, calls], "closed, and written on");
        let store = again(&disk);
        assert!(store.incidents().is_empty());
        assert_eq!(contents(&store), before);
    });
}

/// Whether the policy would have compaction run.
fn is_due(store: &Store) -> bool {
    let usage = |live, dead| Usage { live, dead, forgotten_since: None };
    let status = store.wal();
    let views: Vec<View> = (0u32..)
        .zip(&status.segments)
        .map(|(number, segment)| View {
            number,
            first_lsn: segment.first_lsn,
            last_lsn: segment.last_lsn,
            eligible: segment.sealed,
            needs_rewrite: false,
            bytes: segment.bytes,
            usage: usage(segment.live_bytes, segment.dead_bytes),
        })
        .collect();
    let bounds = Bounds {
        segment_bytes_max: 16 << 10,
        garbage_bytes_min: 1 << 10,
        active_garbage_bytes_min: 1 << 10,
        forgotten_before: 0,
        forgotten_after: i64::MAX,
        everything: None,
    };
    let active = views.iter().find(|view| !view.eligible);
    let seal = active.is_some_and(|view| seal_early(view.usage, status.live_bytes, &bounds));
    seal || next_job(&views, &bounds).is_some()
}

#[test]
fn garbage_goes_by_itself_when_everybody_is_quiet() {
    let image = half_dead();
    explore(move || {
        let disk = disk(&image);
        let own = Options { compact_automatically: true, ..options(&disk) };
        let store = Store::open(DIR, own).unwrap();
        for id in ["e0", "e2"] {
            keep(&store, id, 1).unwrap();
            if thread_rng().gen_bool(0.5) {
                until("compaction did what is due", || !is_due(&store));
            }
        }
        until("compaction did what is due", || !is_due(&store));
    });
}
