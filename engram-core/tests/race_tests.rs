//! Laws that hold however the threads of the driver are interleaved.
//!
//! The code is the product's own; its threads and locks are shuttle's (`engram_core`'s feature
//! `shuttle`), which runs one thread at a time and chooses which. A law that waits for ever fails
//! as a deadlock. Each disk call is a moment at which others may run. Here is what writers are
//! promised; `race/compaction_laws.rs`, `race/failure_laws.rs` and `race/recall_laws.rs` have the
//! rest, `race/mod.rs` how schedules are chosen.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a law's helpers fail by panicking")]

mod race;
mod support;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use engram_core::{Condition, Durability, Error, ErrorKind, Options, Store};
use shuttle::rand::{Rng as _, thread_rng};
use shuttle::thread;

use race::world::{again, all, found, keep, settle, start, text, until};
use race::{disk, explore, options};
use support::disk::{Image, Unsynced};
use support::{DIR, contents, draft};

#[test]
fn of_writers_that_race_for_one_id_one_wins_and_each_sees_its_own() {
    explore(|| {
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
        assert_eq!(contents(&store).len(), 4);
        for (n, (_, _, last)) in ends.iter().enumerate() {
            assert_eq!(found(&store, &format!("own{n}")), Some((*last, 2)));
        }
    });
}

#[test]
fn a_full_queue_answers_busy_and_loses_nothing() {
    explore(|| {
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
                    Err(Error::Busy { queued: 1, bound: 1, unit: "changes" }) => Some(false),
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

/// The writer wakes two, and each of them two more: nobody may be left asleep.
#[test]
fn a_crowd_that_is_answered_by_one_batch_wakes_each_other() {
    explore(|| {
        let (_disk, store) = start(&Image::new());
        let writers = (0..7).map(|n| {
            let store = store.clone();
            thread::spawn(move || {
                let id = format!("e{n}");
                let pending = store.remember("s", draft(&id, text(n)), Condition::Any).unwrap();
                let kept = pending.wait().unwrap();
                assert_eq!(found(&store, &id), Some((kept.lsn, n)));
            })
        });
        all(writers.collect());
    });
}

/// Where answers are put is used again for other callers, once nobody looks there any more.
#[test]
fn an_answer_stays_its_own_callers_however_late_it_is_taken() {
    explore(|| {
        let (_disk, store) = start(&Image::new());
        let writers = (0..2).map(|n| {
            let store = store.clone();
            thread::spawn(move || {
                let late = format!("late{n}");
                let pending = store.remember("s", draft(&late, text(0)), Condition::Any);
                for version in 0..3 {
                    let id = format!("e{n}");
                    assert_eq!(keep(&store, &id, version).unwrap().id, id);
                }
                let kept = settle(pending).unwrap();
                assert_eq!((found(&store, &late), kept.id), (Some((kept.lsn, 0)), late));
            })
        });
        all(writers.collect());
    });
}

#[test]
fn a_handle_that_moves_between_tasks_or_is_dropped_goes_its_way() {
    explore(|| {
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
    explore(|| {
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

#[test]
fn what_an_interval_leaves_is_synced_when_everybody_is_quiet() {
    explore(|| {
        let disk = disk(&Image::new());
        let durability = Durability::Interval(Duration::from_hours(1));
        let store = Store::open(DIR, Options { durability, ..options(&disk) }).unwrap();
        for version in 0..3 {
            let lsn = keep(&store, "e", version).unwrap().lsn;
            if thread_rng().gen_bool(0.5) {
                until("the idle log is synced", || store.wal().synced_lsn >= lsn);
            }
        }
        until("the idle log is synced", || store.wal().synced_lsn == store.wal().head_lsn);
    });
}
