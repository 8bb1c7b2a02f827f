//! Laws of commit: what is acknowledged is on the disk, what fails is said.
#![expect(clippy::panic, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::time::Duration;

use engram_core::storage::wal::report::WalState;
use engram_core::store::{Drive, Pending};
use engram_core::{Condition, Draft, Durability, Error, ErrorKind, Options, Store};

use support::disk::{Fault, Kind, MemDisk, Op, Unsynced};
use support::{DIR, FakeClock, contents, draft, forget, open, options, remember, until, wal};

fn what_of(store: &Store, id: &str) -> Option<String> {
    match store.get("s", id) {
        Ok(stored) => Some(stored.episode.what),
        Err(Error::NoEpisode { .. }) => None,
        Err(e) => panic!("{id}: {e}"),
    }
}

fn try_remember(store: &Store, id: &str, what: &str) -> Result<u64, Error> {
    Ok(store.remember("s", draft(id, what), Condition::Any)?.wait()?.lsn)
}

#[test]
fn nothing_is_acknowledged_after_a_failed_sync() {
    for times in [1, u64::MAX] {
        for before in [0, 1, 7] {
            let disk = MemDisk::new();
            let store = open(&disk);
            for n in 0..before {
                remember(&store, &format!("e{n}"), "acknowledged");
            }
            let fault = Fault { op: Op::Sync, path: ".seg", first: 0, times, kind: Kind::Eio };
            disk.fail(fault);
            let refused = try_remember(&store, "refused", "unknown").unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Poisoned, "{refused}");
            let again = Arc::new(AtomicBool::new(false));
            let seen = Arc::clone(&again);
            disk.observe(move |call| {
                if call.op == Op::Sync && call.path.to_string_lossy().contains(".seg") {
                    seen.store(true, Ordering::SeqCst);
                }
            });
            for n in 0..5 {
                let later = try_remember(&store, &format!("later{n}"), "x").unwrap_err();
                assert_eq!(later.kind(), ErrorKind::Poisoned);
            }
            let e = store.forget("s", "e0", Condition::Any).and_then(Pending::wait);
            assert_eq!(e.unwrap_err().kind(), ErrorKind::Poisoned);
            assert!(!again.load(Ordering::SeqCst), "a failed sync is never tried again");
            assert_eq!(store.state(), WalState::Poisoned);
            for n in 0..before {
                assert_eq!(what_of(&store, &format!("e{n}")).as_deref(), Some("acknowledged"));
            }
            assert_eq!(what_of(&store, "refused"), None, "not visible: nobody acknowledged it");
            for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Torn(before)] {
                let store = open(&disk.crash(unsynced));
                for n in 0..before {
                    assert_eq!(what_of(&store, &format!("e{n}")).as_deref(), Some("acknowledged"));
                }
                assert_eq!(store.recovery_report().failed.damaged, 0);
                remember(&store, "after", "x");
            }
        }
    }
}

/// The second of two that create one id, or forget one, is answered from what the first one did: where
/// that came to nothing, so did the answer.
#[test]
fn an_answer_that_rests_on_a_change_of_its_batch_fails_with_it() {
    for (op, kind, refusal) in
        [(Op::Sync, Kind::Eio, ErrorKind::Poisoned), (Op::Write, Kind::Enospc, ErrorKind::DiskFull)]
    {
        let disk = MemDisk::new();
        let store = open(&disk);
        remember(&store, "there", "x");
        // Without a spare being made meanwhile.
        until("a spare is made", || store.wal().preallocated_bytes > 1 << 20);
        disk.fail(Fault { op, path: ".seg", first: 0, times: 1, kind });
        let create = || store.remember("s", draft("new", "y"), Condition::Absent).unwrap();
        let forget = || store.forget("s", "there", Condition::Any).unwrap();
        let created = [create(), create()];
        let forgotten = [forget(), forget()];
        let kinds = created.into_iter().map(|one| one.wait().unwrap_err().kind());
        assert_eq!(kinds.collect::<Vec<_>>(), [refusal; 2], "{op:?}");
        let kinds = forgotten.into_iter().map(|one| one.wait().unwrap_err().kind());
        assert_eq!(kinds.collect::<Vec<_>>(), [refusal; 2], "{op:?}");
        assert_eq!(what_of(&store, "there").as_deref(), Some("x"));
    }
}

#[test]
fn an_acknowledgement_waits_for_the_sync() {
    let disk = MemDisk::new();
    let store = open(&disk);
    let synced = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&synced);
    disk.observe(move |call| {
        if call.op == Op::Sync && call.path.to_string_lossy().contains(".seg") {
            seen.store(true, Ordering::SeqCst);
        }
    });
    for n in 0..20 {
        synced.store(false, Ordering::SeqCst);
        remember(&store, &format!("e{n}"), "x");
        assert!(synced.load(Ordering::SeqCst));
        let lost = open(&MemDisk::of(&disk.image()));
        assert_eq!(contents(&lost).len(), n + 1);
    }
}

#[test]
fn a_crash_at_any_call_keeps_all_that_was_acknowledged() {
    // Over a rotation: texts of 60 kB in segments of 1 MiB.
    for n in 0.. {
        let disk = MemDisk::new();
        let store = open(&disk);
        disk.crash_at(n);
        let mut acknowledged = BTreeMap::new();
        let mut forgotten = Vec::new();
        for i in 0..24 {
            let id = format!("e{i}");
            let what = format!("{i} ").repeat(20_000);
            if try_remember(&store, &id, &what).is_ok() {
                acknowledged.insert(id, what);
            }
            if i % 6 == 5 {
                let id = format!("e{}", i - 2);
                if store.forget("s", &id, Condition::Any).and_then(Pending::wait).is_ok() {
                    acknowledged.remove(&id);
                    forgotten.push(id);
                } else {
                    // Unknown: either is right.
                    acknowledged.remove(&id);
                }
            }
        }
        let done = !disk.is_crashed();
        for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Torn(n), Unsynced::Torn(!n)] {
            let at = format!("crash at call {n}, unsynced {unsynced:?}");
            let disk = disk.crash(unsynced);
            let store = open(&disk);
            for (id, what) in &acknowledged {
                assert_eq!(what_of(&store, id).as_ref(), Some(what), "{id}, {at}");
            }
            for id in &forgotten {
                assert_eq!(what_of(&store, id), None, "{id}, {at}");
            }
            let report = store.recovery_report();
            assert_eq!(report.failed.damaged, 0, "{at}: {report:?}");
            let lsn = remember(&store, "after", "x");
            assert!(lsn > report.head_lsn, "{at}");
            let memory = contents(&store);
            drop(store);
            let store = open(&disk);
            assert_eq!(contents(&store), memory, "{at}");
            assert_eq!(store.recovery_report().failed.total(), 0, "{at}");
        }
        if done {
            assert!(n > 50, "only {n} calls");
            return;
        }
    }
}

#[test]
fn a_full_disk_refuses_and_damages_nothing() {
    let disk = MemDisk::new();
    let clock = Arc::new(FakeClock::default());
    let with = Options { clock: Arc::clone(&clock) as _, ..options(&disk) };
    let store = Store::open(DIR, with).unwrap();
    let text = |n: usize| format!("{n} ").repeat(10_000);
    let mut kept = BTreeMap::new();
    for n in 0..10 {
        remember(&store, &format!("e{n}"), text(n));
        kept.insert(format!("e{n}"), text(n));
    }
    until("spare and ballast are made", || {
        disk.image().keys().any(|path| path.ends_with("ballast"))
    });
    disk.set_capacity(Some(disk.used()));
    let mut refused = Vec::new();
    for n in 10..200 {
        match try_remember(&store, &format!("e{n}"), &text(n)) {
            Ok(_) => {
                kept.insert(format!("e{n}"), text(n));
            }
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::DiskFull, "{e}");
                refused.push(format!("e{n}"));
            }
        }
    }
    assert!(refused.len() > 50, "the disk was never full");
    assert_eq!(store.state(), WalState::Full);
    for id in ["e0", "e1", "e2"] {
        forget(&store, id);
        kept.remove(id);
    }
    for (id, what) in &kept {
        assert_eq!(what_of(&store, id).as_ref(), Some(what));
    }
    let copy = MemDisk::of(&disk.image());
    let after = open(&copy);
    assert_eq!(contents(&after).len(), kept.len());
    assert!(refused.iter().all(|id| what_of(&after, id).is_none()), "a refused one reappeared");
    assert_eq!(after.recovery_report().failed.total(), 0);
    disk.set_capacity(None);
    clock.advance(Duration::from_secs(1));
    until("there is room again", || store.state() == WalState::Ready);
    remember(&store, "resumed", "x");
    for unsynced in [Unsynced::Lost, Unsynced::Kept] {
        let store = open(&disk.crash(unsynced));
        assert_eq!(contents(&store).len(), kept.len() + 1);
        assert_eq!(store.recovery_report().failed.damaged, 0);
    }
}

/// It poisoned the log: a full disk is to refuse, and to go on by itself.
#[test]
fn a_full_disk_that_cannot_name_the_next_segment_refuses_and_goes_on() {
    for (op, path) in [(Op::Rename, ".seg"), (Op::SyncDir, "wal"), (Op::Create, "head")] {
        let disk = MemDisk::new();
        let store = open(&disk);
        remember(&store, "first", "x");
        disk.fail(Fault { op, path, first: 0, times: 1, kind: Kind::Enospc });
        let mut kept = 1;
        let mut refused = false;
        for n in 0..200 {
            match try_remember(&store, &format!("e{n}"), &"y".repeat(20_000)) {
                Ok(_) => kept += 1,
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::DiskFull, "{op:?}: {e}");
                    refused = true;
                }
            }
        }
        assert_eq!(store.state(), WalState::Ready, "{op:?}");
        assert!(store.wal().segments.len() > 2, "{op:?}: it went on in other segments");
        assert!(refused || op == Op::Create, "{op:?}: the fault never came");
        assert_eq!(contents(&store).len(), kept);
        let after = open(&disk.crash(Unsynced::Lost));
        assert_eq!((contents(&after).len(), after.recovery_report().failed.total()), (kept, 0));
    }
}

#[test]
fn an_episode_refused_for_want_of_room_leaves_no_space_behind() {
    let disk = MemDisk::new();
    let store = open(&disk);
    disk.say_available(0);
    until("the active segment is full for large ones", || {
        disk.set_capacity(Some(disk.used()));
        disk.fail_for_ever(Op::Create, "spare", Kind::Enospc);
        try_remember(&store, "filler", &"x".repeat(100_000)).is_err()
    });
    let large = Draft { embedding: vec![0.5; 4], ..draft("e", "y".repeat(100_000)) };
    let refused = store.remember("new", large, Condition::Any).unwrap().wait().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::DiskFull, "{refused}");
    let names = |store: &Store| -> Vec<String> {
        store.spaces().into_iter().map(|space| space.name).collect()
    };
    assert_eq!(names(&store), ["s"], "nothing was stored");
    assert_eq!(names(&open(&disk.crash(Unsynced::Kept))), ["s"]);
}

#[test]
fn an_episode_that_fills_a_segment_is_written_though_no_spare_waits() {
    let disk = MemDisk::new();
    // The spare is not made before the end; the writer makes its segments itself.
    let done = Arc::new((Mutex::new(false), Condvar::new()));
    let wait = Arc::clone(&done);
    let made = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&made);
    disk.observe(move |call| {
        if call.op == Op::Create && call.path.ends_with("spare") {
            let mut done = wait.0.lock().unwrap();
            while !*done {
                done = wait.1.wait(done).unwrap();
            }
        } else if call.op == Op::Create && call.path.ends_with("spare.tmp") {
            let segments = count.fetch_add(1, Ordering::SeqCst);
            assert!(segments < 8, "segment after segment is made for one episode");
        }
    });
    let store = open(&disk);
    let outcome: Result<Vec<u64>, Error> =
        (0..3).map(|n| try_remember(&store, &format!("e{n}"), &"x".repeat(900_000))).collect();
    *done.0.lock().unwrap() = true;
    done.1.notify_all();
    outcome.unwrap();
    assert!(made.load(Ordering::SeqCst) <= 3);
}

#[test]
fn a_write_refused_for_want_of_room_never_comes_back() {
    // The write of a frame itself meets the full disk, in the middle.
    for first in 0..3 {
        let disk = MemDisk::new();
        let store = open(&disk);
        let mut kept = Vec::new();
        let fault = Fault { op: Op::Write, path: ".seg", first, times: 1, kind: Kind::Enospc };
        disk.fail(fault);
        for n in 0..6 {
            let id = format!("e{n}");
            match try_remember(&store, &id, "text") {
                Ok(_) => kept.push(id),
                Err(e) => assert_eq!(e.kind(), ErrorKind::DiskFull, "{e}"),
            }
        }
        assert_eq!(kept.len(), 5);
        for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Torn(first)] {
            let store = open(&disk.crash(unsynced));
            let found: Vec<String> = contents(&store).into_keys().map(|(_, id)| id).collect();
            assert_eq!(found, kept);
        }
    }
}

#[test]
fn of_many_who_create_one_id_exactly_one_wins() {
    let store = open(&MemDisk::new());
    for round in 0..20 {
        let id = format!("e{round}");
        let barrier = Barrier::new(16);
        let winners = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for n in 0..16 {
                let (store, barrier, winners, id) = (&store, &barrier, &winners, &id);
                scope.spawn(move || {
                    barrier.wait();
                    let what = format!("by {n}");
                    let pending = store.remember("s", draft(id, &what), Condition::Absent).unwrap();
                    match pending.wait() {
                        Ok(done) => winners.lock().unwrap().push((done.lsn, what)),
                        Err(e) => assert_eq!(e.kind(), ErrorKind::Precondition, "{e}"),
                    }
                });
            }
        });
        let winners = winners.into_inner().unwrap();
        assert_eq!(winners.len(), 1, "{winners:?}");
        let stored = store.get("s", &id).unwrap();
        assert_eq!((stored.lsn, stored.episode.what), winners[0].clone());
    }
}

#[test]
fn a_precondition_on_an_lsn_is_decided_by_that_lsn() {
    let store = open(&MemDisk::new());
    let first = remember(&store, "e", "one");
    let change = |what: &str, condition| -> Result<u64, Error> {
        Ok(store.remember("s", draft("e", what), condition)?.wait()?.lsn)
    };
    let second = change("two", Condition::Lsn(first)).unwrap();
    assert_eq!(change("three", Condition::Lsn(first)).unwrap_err().kind(), ErrorKind::Precondition);
    let wrong = store.forget("s", "e", Condition::Lsn(first)).unwrap().wait().unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Precondition);
    assert_eq!(what_of(&store, "e").as_deref(), Some("two"));
    store.forget("s", "e", Condition::Lsn(second)).unwrap().wait().unwrap();
    let gone = change("four", Condition::Lsn(second)).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::Precondition);
    change("five", Condition::Absent).unwrap();
}

#[test]
fn a_batch_keeps_its_good_members() {
    let store = open(&MemDisk::new());
    let vector =
        |id: &str, dimensions: usize| Draft { embedding: vec![0.5; dimensions], ..draft(id, "x") };
    let drafts = vec![
        Ok(vector("a", 3)),
        Ok(draft("b", "")),
        Ok(vector("c", 4)),
        Err(Error::NoSuch { what: "readable JSON".into() }),
        Ok(vector("d", 3)),
        Ok(Draft { embedding: vec![f32::NAN], ..draft("e", "x") }),
        Ok(draft("a", "again")),
    ];
    let done = store.remember_batch("s", drafts, Condition::Any).unwrap().wait().unwrap();
    let kinds: Vec<_> = done.rejected.iter().map(|(at, e)| (*at, e.kind())).collect();
    assert_eq!(
        kinds,
        [
            (1, ErrorKind::Invalid),
            (2, ErrorKind::Conflict),
            (3, ErrorKind::NotFound),
            (5, ErrorKind::Invalid)
        ]
    );
    assert_eq!(done.accepted, 3);
    assert!(done.first_lsn < done.last_lsn);
    assert_eq!(what_of(&store, "a").as_deref(), Some("again"));
    assert_eq!(contents(&store).len(), 2);
    let other = store.remember("s", vector("z", 5), Condition::Any).unwrap().wait().unwrap_err();
    assert!(matches!(other, Error::Dimension { expected: 3, found: 5, .. }), "{other}");
}

#[test]
fn a_full_queue_says_busy_and_loses_nothing() {
    let disk = MemDisk::new();
    let store = Store::open(DIR, Options { queue_max: 8, ..options(&disk) }).unwrap();
    // The first sync of the segment waits until it is told to go on.
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let closed = Arc::clone(&gate);
    let waiting = Arc::new(AtomicBool::new(false));
    let arrived = Arc::clone(&waiting);
    disk.observe(move |call| {
        if call.op == Op::Sync && call.path.to_string_lossy().contains(".seg") {
            arrived.store(true, Ordering::SeqCst);
            let mut open = closed.0.lock().unwrap();
            while !*open {
                open = closed.1.wait(open).unwrap();
            }
        }
    });
    std::thread::scope(|scope| {
        let first = scope.spawn(|| remember(&store, "first", "x"));
        until("the writer is in its sync", || waiting.load(Ordering::SeqCst));
        let mut pending = Vec::new();
        let busy = loop {
            let id = format!("e{}", pending.len());
            match store.remember("s", draft(&id, "x"), Condition::Any) {
                Ok(one) => pending.push(one),
                Err(e) => break e,
            }
        };
        assert_eq!(busy.kind(), ErrorKind::Busy, "{busy}");
        assert_eq!(pending.len(), 8);
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
        first.join().unwrap();
        for one in pending {
            one.wait().unwrap();
        }
    });
    assert_eq!(contents(&store).len(), 9);
}

#[test]
fn without_durability_an_acknowledgement_needs_no_sync_and_the_status_says_so() {
    let disk = MemDisk::new();
    let with = Options { durability: Durability::Never, ..options(&disk) };
    let store = Store::open(DIR, with).unwrap();
    disk.fail_for_ever(Op::Sync, ".seg", Kind::Eio);
    let lsn = remember(&store, "e", "x");
    let status = store.wal();
    assert_eq!((status.durability.as_str(), status.head_lsn), ("never", lsn));
    assert!(status.synced_lsn < lsn);
    assert_eq!(contents(&open(&disk.crash(Unsynced::Lost))).len(), 0);

    let disk = MemDisk::new();
    let durability = Durability::Interval(Duration::from_millis(20));
    let store = Store::open(DIR, Options { durability, ..options(&disk) }).unwrap();
    remember(&store, "e", "x");
    assert_eq!(store.wal().durability, "interval=20ms");
    until("the interval's sync", || store.wal().synced_lsn >= 1);
    assert_eq!(contents(&open(&disk.crash(Unsynced::Lost))).len(), 1);
}

/// Where syncs are small they are cheap only over zeros that were written; where they are large, that would
/// write all bytes twice.
#[test]
fn the_next_segment_is_zeros_or_reserved_by_how_much_a_sync_has_to_do() {
    for (bytes, reserved) in [(8_000, false), (100_000, true)] {
        let disk = MemDisk::new();
        let store = Store::open(DIR, Options { drive: Drive::Steps, ..options(&disk) }).unwrap();
        let has = |name: &str| disk.image().get(&wal(name)).is_some_and(|it| it.len() == 1 << 20);
        let text = "x".repeat(bytes);
        for round in 0..4 {
            for n in 0.. {
                remember(&store, &format!("e{round}-{n}"), &text);
                if n > 0 && !has("spare") {
                    break;
                }
                if round == 0 {
                    let _more = store.stepper().upkeep();
                }
            }
            let writes = disk.calls(Op::Write);
            for _ in 0..20 {
                let _more = store.stepper().upkeep();
            }
            assert!(has("spare") && has("ballast"), "{bytes} bytes, round {round}");
            if round > 0 {
                assert_eq!(disk.calls(Op::Write) == writes, reserved, "{bytes}, {round}");
            }
        }
        let memory = contents(&store);
        drop(store);
        assert_eq!(contents(&open(&disk.crash(Unsynced::Lost))), memory);
    }
}
