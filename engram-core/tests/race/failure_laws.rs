//! When something fails under everybody's hands: a sync, the power, the room, a thread.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use engram_core::storage::wal::report::WalState;
use engram_core::{Condition, Durability, Error, ErrorKind, Options, Store};
use shuttle::rand::{Rng as _, thread_rng};
use shuttle::thread;

use super::compaction_laws::Acknowledged;
use super::world::{again, all, found, half_dead, keep, settle, start, text};
use super::{disk, explore, image, options};
use crate::support::disk::{Fault, Image, Kind, MemDisk, Op, Unsynced};
use crate::support::{DIR, contents, draft};

#[test]
fn after_a_failed_sync_everyone_is_answered_and_nothing_is_acknowledged() {
    explore(|| {
        let disk = disk(&Image::new());
        let always = thread_rng().gen_bool(0.6);
        let every = Duration::from_micros(10);
        let durability = if always { Durability::Always } else { Durability::Interval(every) };
        let store = Store::open(DIR, Options { durability, ..options(&disk) }).unwrap();
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
        // Reads go on. What is only told when it is synced is not shown before.
        let (count, shown) = (ends.iter().map(Vec::len).sum::<usize>(), contents(&store).len());
        assert!(shown == count || (shown > count && !always));
        if !always {
            return;
        }
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
    // More segments than the threads may run ahead.
    let image = image(|store| {
        for n in 0..28 {
            keep(store, &format!("e{}", n % 11), n).unwrap();
        }
        store.forget("s", "e5", Condition::Any).unwrap().wait().unwrap();
    });
    explore(move || {
        let alone = contents(&Store::open(DIR, options(&MemDisk::of(&image))).unwrap());
        let disk = disk(&image);
        let threads = thread_rng().gen_range(2..4);
        let many = Options { recovery_threads: threads, ..options(&disk) };
        let store = Store::open(DIR, many.clone()).unwrap();
        assert_eq!(contents(&store), alone);
        assert!(store.incidents().is_empty());
        drop(store);
        // A device that fails ends all threads, with an error, and the next start goes well.
        let op = if thread_rng().gen_bool(0.5) { Op::Read } else { Op::Open };
        let first = thread_rng().gen_range(0..40);
        disk.fail(Fault { op, path: ".seg", first, times: 1, kind: Kind::Eio });
        let failed = Store::open(DIR, many.clone());
        disk.heal();
        if let Ok(store) = failed {
            assert_eq!(contents(&store), alone);
        }
        assert_eq!(contents(&Store::open(DIR, many.clone()).unwrap()), alone);
    });
}

#[test]
fn a_crash_while_compaction_and_writers_run_takes_only_what_no_sync_covered() {
    let image = half_dead();
    explore(move || {
        let disk = disk(&image);
        let durability = match thread_rng().gen_range(0..3) {
            0 => Durability::Always,
            1 => Durability::Interval(Duration::from_micros(40)),
            _ => Durability::Never,
        };
        let store = Store::open(DIR, Options { durability, ..options(&disk) }).unwrap();
        disk.crash_at(thread_rng().gen_range(0..80));
        let told = Arc::new(Acknowledged::default());
        let (writer, acknowledged) = (store.clone(), Arc::clone(&told));
        let writing = thread::spawn(move || {
            for version in 1..9 {
                if keep(&writer, "e2", version).is_err() {
                    return version;
                }
                acknowledged.version.store(version, Ordering::SeqCst);
                if version == 3 && settle(writer.forget("s", "e4", Condition::Any)).is_ok() {
                    acknowledged.forgotten.store(true, Ordering::SeqCst);
                }
            }
            8
        });
        let compacting = store.clone();
        let asking = thread::spawn(move || {
            // Refused by the crash, at the latest.
            for _ in 0..3 {
                if compacting.compact_from_memory().is_err() {
                    return;
                }
            }
        });
        let submitted = writing.join().unwrap();
        asking.join().unwrap();
        let unsynced = match thread_rng().gen_range(0..3) {
            0 => Unsynced::Lost,
            1 => Unsynced::Kept,
            _ => Unsynced::Torn(thread_rng().r#gen()),
        };
        let crashed = disk.crash(unsynced);
        drop(store);
        let store = Store::open(DIR, options(&crashed)).unwrap();
        let report = store.recovery_report();
        assert_eq!((report.failed.damaged, report.failed.undecodable), (0, 0));
        let (_, version) = found(&store, "e2").expect("no version of it was durably replaced");
        let at_least = told.version.load(Ordering::SeqCst);
        assert!(version <= submitted, "never submitted");
        if durability == Durability::Always {
            assert!(version >= at_least, "acknowledged: {at_least}, recovered: {version}");
            assert!(!(told.forgotten.load(Ordering::SeqCst) && found(&store, "e4").is_some()));
        }
        for (id, version) in
            [("e0", 0), ("e1", 1), ("e3", 1), ("e6", 0), ("e7", 0), ("e8", 0), ("e9", 0)]
        {
            assert_eq!(found(&store, id).map(|(_, version)| version), Some(version), "{id}");
        }
        assert_eq!(found(&store, "e5"), None, "forgotten long before");
    });
}

#[test]
fn on_a_full_disk_everyone_is_answered_and_writing_resumes_when_there_is_room() {
    let image = half_dead();
    explore(move || {
        let disk = disk(&image);
        let own = Options { compact_automatically: true, ..options(&disk) };
        let store = Store::open(DIR, own).unwrap();
        disk.set_capacity(Some(disk.used() + thread_rng().gen_range(0..30_000)));
        let writers = (0..2u64).map(|n| {
            let store = store.clone();
            thread::spawn(move || {
                let put = |version| match keep(&store, &format!("w{n}.{version}"), version) {
                    Ok(kept) => Some(kept.lsn),
                    Err(Error::DiskFull { .. }) => None,
                    Err(e) => panic!("{e}"),
                };
                (0..12).map(put).collect::<Vec<_>>()
            })
        });
        let writers: Vec<_> = writers.collect();
        let forgetter = store.clone();
        let forgetting = thread::spawn(move || {
            for id in ["e0", "e4"] {
                settle(forgetter.forget("s", id, Condition::Any)).unwrap();
                assert_eq!(found(&forgetter, id), None);
            }
        });
        let ends = all(writers);
        forgetting.join().unwrap();
        assert_ne!(store.state(), WalState::Poisoned, "{:?}", store.poisoned_by());
        disk.set_capacity(None);
        keep(&store, "last", 9).unwrap();
        store.close().unwrap();
        let before = contents(&store);
        drop(store);
        let store = again(&disk);
        assert!(store.incidents().is_empty());
        assert_eq!(contents(&store), before);
        let mut refused = 0;
        for (n, lsns) in ends.iter().enumerate() {
            for (version, lsn) in lsns.iter().enumerate() {
                let there = found(&store, &format!("w{n}.{version}")).map(|(lsn, _)| lsn);
                assert_eq!(there, *lsn);
                refused += usize::from(lsn.is_none());
            }
        }
        assert!(refused > 0, "it was never full");
        assert_eq!((found(&store, "e0"), found(&store, "e4")), (None, None));
    });
}

/// Makes one of the next changing calls panic, on whichever thread makes it.
fn panic_once(disk: &MemDisk) {
    let left = AtomicU64::new(thread_rng().gen_range(0..40));
    let moment = shuttle::sync::atomic::AtomicBool::new(false);
    disk.observe(move |call| {
        moment.load(Ordering::SeqCst);
        let at = if call.op.changes() { left.fetch_sub(1, Ordering::SeqCst) } else { 1 };
        if at == 0 {
            // Without the panic's hook, which would take the schedule for a failed one.
            std::panic::resume_unwind(Box::new("a driver's bug"));
        }
    });
}

#[test]
fn when_a_thread_of_the_log_panics_everyone_is_answered_and_what_was_acknowledged_stays() {
    let image = half_dead();
    explore(move || {
        let (disk, store) = start(&image);
        let before = contents(&store).len();
        panic_once(&disk);
        let writers = (0..2u64).map(|n| {
            let store = store.clone();
            thread::spawn(move || {
                let put = |at| match keep(&store, &format!("w{n}.{at}"), at) {
                    Ok(kept) => Some(kept.lsn),
                    Err(e) => {
                        assert_eq!(e.kind(), ErrorKind::Poisoned, "{e}");
                        assert_eq!(store.state(), WalState::Poisoned);
                        None
                    }
                };
                (0..3).map(put).collect::<Vec<_>>()
            })
        });
        let writers: Vec<_> = writers.collect();
        let asking = (0..2).map(|_| {
            let store = store.clone();
            thread::spawn(move || {
                if let Err(e) = store.compact_from_memory() {
                    assert_eq!(e.kind(), ErrorKind::Poisoned, "{e}");
                }
            })
        });
        all(asking.collect());
        let ends = all(writers);
        disk.observe(|_| {});
        let kept: Vec<u64> = ends.iter().flatten().copied().flatten().collect();
        assert_eq!(contents(&store).len(), before + kept.len());
        store.close().unwrap();
        let crashed = disk.crash(Unsynced::Lost);
        drop(store);
        let store = Store::open(DIR, options(&crashed)).unwrap();
        for (n, lsns) in ends.iter().enumerate() {
            for (at, lsn) in lsns.iter().enumerate().filter(|(_, lsn)| lsn.is_some()) {
                assert_eq!(found(&store, &format!("w{n}.{at}")), Some((lsn.unwrap(), at as u64)));
            }
        }
    });
}

/// A waker is its caller's own code: neither the log nor anybody else suffers when it panics.
#[test]
fn when_somebodys_waker_panics_everyone_is_answered_and_writing_goes_on() {
    struct Panicking;

    impl Wake for Panicking {
        fn wake(self: Arc<Self>) {
            panic!("a waker that panics");
        }
    }

    explore(|| {
        let (_disk, store) = start(&Image::new());
        let mut awaited = store.remember("s", draft("awaited", text(0)), Condition::Any).unwrap();
        let waker = Waker::from(Arc::new(Panicking));
        let polled = Pin::new(&mut awaited).poll(&mut Context::from_waker(&waker));
        let writers = (1..4).map(|n| {
            let store = store.clone();
            thread::spawn(move || keep(&store, &format!("e{n}"), n).unwrap())
        });
        all(writers.collect());
        let kept = match polled {
            Poll::Ready(kept) => kept,
            Poll::Pending => awaited.wait(),
        };
        assert_eq!(kept.unwrap().id, "awaited");
        assert_eq!(store.state(), WalState::Ready);
    });
}
