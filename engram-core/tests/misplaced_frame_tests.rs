//! Frames that a write to the wrong place moved: what stands nowhere else is set aside, named, and
//! can be brought back; a forget among them still forgets.
#![allow(clippy::unwrap_used, reason = "a test's helper fails the test")]

mod support;

use std::ops::Range;
use std::sync::Arc;

use engram_core::inspect::FrameDump;
use engram_core::store::Drive;
use engram_core::{Condition, Error, Options, Store};

use support::disk::{Image, Kind, MemDisk, Op, Unsynced};
use support::{DIR, contents, draft, forget, frames_of, remember, wal};

/// Nothing happens by itself: no mark is left when the log is quiet.
fn open(disk: &Arc<MemDisk>) -> Store {
    Store::open(DIR, Options { drive: Drive::Steps, ..support::options(disk) }).unwrap()
}

/// Nine episodes, with LSNs from 1.
fn nine(store: &Store) {
    for n in 0..9 {
        remember(store, &format!("e{n}"), format!("episode {n}"));
    }
}

/// The same; nothing behind the last four tells that they were synced.
fn five_and_a_batch_of_four(store: &Store) {
    for n in 0..5 {
        remember(store, &format!("e{n}"), format!("episode {n}"));
    }
    let batch = (5..9).map(|n| Ok(draft(&format!("e{n}"), format!("episode {n}"))));
    store.remember_batch("s", batch.collect(), Condition::Any).unwrap().wait().unwrap();
}

/// Fills and seals a segment of 1 MiB behind what was remembered before.
fn seal(store: &Store) {
    for n in 0..3 {
        remember(store, &format!("f{n}"), "f".repeat(400_000));
    }
}

fn range(frame: &FrameDump) -> Range<usize> {
    let start = usize::try_from(frame.offset).unwrap();
    start..start + usize::try_from(frame.bytes).unwrap()
}

/// The frame of one LSN is written where that of another should be, and nowhere else.
fn moved(disk: &Arc<MemDisk>, lsn: u64, to: u64) -> Image {
    let mut image = disk.crash(Unsynced::Kept).image();
    let frames = frames_of(&MemDisk::of(&image));
    let frame = |lsn: u64| frames.iter().find(|frame| frame.lsn == lsn).unwrap();
    let (from, to) = (frame(lsn), frame(to));
    assert!(from.file == to.file && from.bytes <= to.bytes);
    let log = image.get_mut(&wal(&from.file)).unwrap();
    log.copy_within(range(from), range(to).start);
    log[range(from)].fill(0);
    image
}

fn lost(store: &Store) -> Vec<u64> {
    let all = &store.recovery_report().lost_lsns;
    let mut all: Vec<u64> = all.iter().flat_map(|&[first, last]| first..=last).collect();
    all.sort_unstable();
    all
}

fn is_forgotten(store: &Store, id: &str) -> bool {
    matches!(store.get("s", id), Err(Error::NoEpisode { .. }))
}

/// A start that finds nothing new.
fn start_again(store: Store, disk: &Arc<MemDisk>) -> (Store, Arc<MemDisk>) {
    let (found, told) = (contents(&store), store.incidents());
    drop(store);
    let disk = disk.crash(Unsynced::Lost);
    let store = open(&disk);
    assert_eq!(contents(&store), found);
    assert_eq!(store.incidents(), told);
    (store, disk)
}

#[test]
fn the_only_copy_of_an_episode_can_be_brought_back() {
    // It was called stale, and compaction dropped it.
    for (sealed, lsn) in [(false, 8), (false, 9), (true, 8), (true, 9)] {
        let disk = MemDisk::new();
        let store = open(&disk);
        nine(&store);
        if sealed {
            seal(&store);
        }
        let disk = MemDisk::of(&moved(&disk, lsn, 3));
        let store = open(&disk);
        assert_eq!(lost(&store), [3, lsn], "sealed: {sealed}");
        assert!(is_forgotten(&store, "e2") && is_forgotten(&store, &format!("e{}", lsn - 1)));
        let told = store.incidents();
        assert!(told.iter().any(|i| i.detail.contains("quarantine restore")), "{told:?}");
        assert!(remember(&store, "next", "x") > lsn, "an LSN is given once");
        forget(&store, "next");
        let (store, disk) = start_again(store, &disk);
        for _ in 0..3 {
            store.compact_from_memory().unwrap();
        }
        let (store, _disk) = start_again(store, &disk);
        assert_eq!(lost(&store), [0; 0], "sealed: {sealed}");
        let items = store.quarantine().unwrap();
        let item = items.iter().find(|item| item.restorable == [lsn]).unwrap();
        assert_eq!(store.quarantine_restore(&item.name).unwrap(), (1, 0));
        let back = store.get("s", &format!("e{}", lsn - 1)).unwrap();
        assert_eq!(back.episode.what, format!("episode {}", lsn - 1));
    }
}

#[test]
fn a_forget_in_a_wrong_place_still_forgets() {
    for bits in 0..8 {
        let (sealed, last, damaged) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
        let disk = MemDisk::new();
        let store = open(&disk);
        nine(&store);
        let lsn = forget(&store, "e5");
        if !last {
            remember(&store, "e9", "behind it");
        }
        if sealed {
            seal(&store);
        }
        let mut image = moved(&disk, lsn, 3);
        if damaged {
            let place = frames_of(&MemDisk::of(&image)).into_iter().find(|f| f.lsn == lsn).unwrap();
            let log = image.get_mut(&wal(&place.file)).unwrap();
            log[range(&place).start + 70] ^= 1;
        }
        let disk = MemDisk::of(&image);
        let case = format!("sealed: {sealed}, the last one: {last}, damaged: {damaged}");
        let store = open(&disk);
        assert!(is_forgotten(&store, "e5"), "{case}");
        assert_eq!(lost(&store), [3, lsn], "{case}");
        let (mut store, mut disk) = start_again(store, &disk);
        for _ in 0..3 {
            store.compact_from_memory().unwrap();
            (store, disk) = start_again(store, &disk);
            assert!(is_forgotten(&store, "e5"), "{case}");
        }
    }
}

#[test]
fn what_one_batch_left_out_of_order_is_named_once() {
    for (lsn, to) in [(9, 6), (9, 7), (9, 8)] {
        let disk = MemDisk::new();
        let store = open(&disk);
        five_and_a_batch_of_four(&store);
        let disk = MemDisk::of(&moved(&disk, lsn, to));
        let store = open(&disk);
        // Right behind those before it a frame is in order.
        let left = if lsn == to + 1 { 8 } else { 7 };
        assert_eq!(contents(&store).len(), left, "{lsn} in the place of {to}");
        let next = remember(&store, "next", "x");
        assert!(next > 9, "an LSN is given once");
        let (store, _disk) = start_again(store, &disk);
        assert_eq!(store.recovery_report().failed.total(), 0, "{lsn} in the place of {to}");
        assert!(!is_forgotten(&store, "next"));
    }
}

#[test]
fn what_could_not_be_set_aside_at_first_is_at_the_next_start() {
    for (lsn, to) in [(8, 3), (9, 3), (9, 6)] {
        let disk = MemDisk::new();
        let store = open(&disk);
        if to == 3 {
            nine(&store);
        } else {
            five_and_a_batch_of_four(&store);
        }
        let disk = MemDisk::of(&moved(&disk, lsn, to));
        disk.fail_for_ever(Op::Create, "quarantine", Kind::Enospc);
        disk.fail_for_ever(Op::CreateDir, "quarantine", Kind::Enospc);
        let store = open(&disk);
        let found = contents(&store);
        assert_eq!(found.len(), 7, "{lsn} in the place of {to}");
        drop(store);
        disk.heal();
        let store = open(&disk);
        assert_eq!(contents(&store), found);
        let items = store.quarantine().unwrap();
        let restored = items.iter().map(|item| store.quarantine_restore(&item.name).unwrap().0);
        assert_eq!(restored.sum::<u64>(), 1, "{lsn} in the place of {to}: {items:?}");
        assert_eq!(contents(&store).len(), 8);
    }
}

#[test]
fn a_frame_of_another_segment_or_zeros_under_an_open_store_are_noticed_by_compaction() {
    // Compaction took what it read for the whole segment, and the rest was gone without a word.
    for zeros in [false, true] {
        let disk = MemDisk::new();
        let store = open(&disk);
        nine(&store);
        seal(&store);
        seal(&store);
        remember(&store, "f0", "so that there is garbage");
        let frames = frames_of(&MemDisk::of(&disk.image()));
        let victim = frames.iter().rfind(|f| f.file == frames[0].file && f.kind == "remember");
        let victim = victim.unwrap();
        if zeros {
            disk.edit(&wal(&victim.file), |bytes| bytes[range(victim).start..].fill(0));
        } else {
            let other = frames.iter().find(|f| f.file != victim.file && f.bytes == victim.bytes);
            let other = other.unwrap();
            let bytes = disk.image()[&wal(&other.file)][range(other)].to_vec();
            disk.edit(&wal(&victim.file), |log| log[range(victim)].copy_from_slice(&bytes));
        }
        let mut passes = 0;
        while store.compact_from_memory().is_err() {
            passes += 1;
            assert!(passes < 5, "compaction never passes the damage");
        }
        let told = store.incidents();
        let named = |lsn| told.iter().any(|i| i.lsns.iter().any(|l| (l[0]..=l[1]).contains(&lsn)));
        assert!(named(victim.lsn), "zeros: {zeros}: {told:?}");
        let (found, disk) = (contents(&store), disk.crash(Unsynced::Lost));
        drop(store);
        assert_eq!(contents(&open(&disk)), found);
    }
}

/// A start that is cut short at any call, and done again, ends as one that is not.
fn check_every_crash(image: &Image) {
    let whole = open(&MemDisk::of(image));
    let (found, named) = (contents(&whole), lost(&whole));
    for n in 0.. {
        let disk = MemDisk::of(image);
        disk.crash_at(n);
        let opened = Store::open(DIR, Options { drive: Drive::Steps, ..support::options(&disk) });
        if !disk.is_crashed() {
            assert!(n > 10, "a recovery of {n} calls");
            return;
        }
        drop(opened);
        for unsynced in [Unsynced::Lost, Unsynced::Kept] {
            let store = open(&disk.crash(unsynced));
            assert_eq!(contents(&store), found, "crashed at call {n}, {unsynced:?}");
            assert!(lost(&store).iter().all(|lsn| named.contains(lsn)), "crashed at call {n}");
        }
    }
}

#[test]
fn a_crash_at_any_call_of_a_recovery_changes_nothing_of_it() {
    let disk = MemDisk::new();
    let store = open(&disk);
    nine(&store);
    let forgot = forget(&store, "e5");
    for (lsn, to) in [(8, 3), (9, 2), (forgot, 3)] {
        check_every_crash(&moved(&MemDisk::of(&disk.image()), lsn, to));
    }
    // Four frames of a moved sector stand early, and none that is here has a lower LSN behind them.
    let disk = MemDisk::new();
    let store = open(&disk);
    for n in 0..15 {
        remember(&store, &format!("e{n:02}"), format!("{n:02}"));
    }
    let mut image = disk.crash(Unsynced::Kept).image();
    let log = image.get_mut(&wal("00000000000000000001.seg")).unwrap();
    log.copy_within(9216..9728, 8704);
    log[9216..9728].fill(0);
    check_every_crash(&image);
}

#[test]
fn forgets_that_are_lost_side_by_side_all_forget() {
    // The last one stood in a wrong place, and a footer listed it before the one ahead of it.
    let disk = MemDisk::new();
    let store = open(&disk);
    nine(&store);
    seal(&store);
    let early = remember(&store, "g", "g".repeat(500));
    remember(&store, "y", "stays");
    let first = forget(&store, "e1");
    let between = remember(&store, "x", "lost");
    let last = forget(&store, "e3");
    let mut image = moved(&disk, last, early);
    let frames = frames_of(&MemDisk::of(&image));
    let frame = |lsn: u64| frames.iter().find(|frame| frame.lsn == lsn).unwrap();
    let log = image.get_mut(&wal(&frame(first).file)).unwrap();
    log[range(frame(first)).start + 70] ^= 1;
    log[range(frame(between))].fill(0);
    check_every_crash(&image);
    let disk = MemDisk::of(&image);
    let store = open(&disk);
    assert_eq!(lost(&store), [early, first, between, last]);
    let (mut store, mut disk) = start_again(store, &disk);
    for _ in 0..3 {
        assert!(is_forgotten(&store, "e1") && is_forgotten(&store, "e3"));
        store.compact_from_memory().unwrap();
        (store, disk) = start_again(store, &disk);
    }
    assert!(is_forgotten(&store, "e1") && is_forgotten(&store, "e3"));
}
