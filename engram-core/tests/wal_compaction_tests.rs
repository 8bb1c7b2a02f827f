//! Laws of compaction: it gives back what is dead, and nothing else ever changes.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "tests"
)]

mod support;

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engram_core::Error;
use engram_core::metrics::Metrics;
use engram_core::storage::wal::report::WalState;
use engram_core::store::Drive;
use engram_core::{Condition, Options, Store};

use support::disk::{Fault, Image, Kind, MemDisk, Op, Unsynced};
use support::gauges::Figures;
use support::{
    Contents, DIR, FakeClock, contents, forget, mix, open, options, remember, until, wal,
};

/// A text of about `bytes`, unlike any other of another `seed`.
fn text(seed: u64, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 16);
    let mut state = seed;
    while text.len() < bytes {
        state = mix(state);
        write!(text, "{state:016x}").unwrap();
    }
    text
}

/// Three segments and a bit: overwritten, forgotten and live episodes in each, a space that was
/// forgotten, and one with embeddings.
fn littered() -> (Image, Contents) {
    let disk = MemDisk::new();
    let store = open(&disk);
    let v = || engram_core::Draft { embedding: vec![1.0; 8], ..support::draft("v", "vector") };
    store.remember("v", v(), Condition::Any).unwrap().wait().unwrap();
    for n in 0..10 {
        let draft = support::draft(&format!("g{n}"), text(1000 + n, 4000));
        store.remember("gone", draft, Condition::Any).unwrap().wait().unwrap();
    }
    for n in 0..160u64 {
        remember(&store, &format!("e{}", n % 60), text(n, 20_000));
        if n % 5 == 4 {
            forget(&store, &format!("e{}", n % 60));
        }
        if n == 80 {
            store.forget_space("gone").unwrap().wait().unwrap();
            store.remember("v", v(), Condition::Any).unwrap().wait().unwrap();
        }
    }
    assert!(store.wal().segments.len() >= 3);
    store.close().unwrap();
    (disk.image(), contents(&store))
}

fn log_files(disk: &MemDisk) -> Vec<String> {
    let image = disk.image();
    let names = image.keys().filter(|path| path.starts_with(wal("")));
    names.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

/// Only the log's own segments, its spare, its ballast and the note of its head are there.
fn check_no_file_left_over(disk: &MemDisk, store: &Store, at: &str) {
    let known: Vec<String> = store.wal().segments.into_iter().map(|s| s.file).collect();
    let found = log_files(disk);
    // The spare is being made under its own name.
    let left = found.iter().filter(|name| !known.contains(name) && !name.starts_with("spare"));
    let left: Vec<_> = left.filter(|name| !["ballast", "head"].contains(&name.as_str())).collect();
    assert!(left.is_empty(), "{left:?} left over, {at}");
}

fn holds(disk: &MemDisk, needle: &str) -> bool {
    let image = disk.image();
    image
        .iter()
        .filter(|(path, _)| path.starts_with(wal("")))
        .any(|(_, bytes)| memchr::memmem::find(bytes, needle.as_bytes()).is_some())
}

#[test]
fn compaction_keeps_the_memory_and_gives_the_garbage_back() {
    let (image, memory) = littered();
    let disk = MemDisk::of(&image);
    let store = open(&disk);
    assert_eq!(contents(&store), memory);
    let before: u64 = store.wal().segments.iter().map(|s| s.bytes).sum();
    let stats = store.compact_from_memory().unwrap();
    assert!(stats.frames_dropped > 80 && stats.bytes_reclaimed > before / 3, "{stats:?}");
    assert_eq!(contents(&store), memory);
    check_no_file_left_over(&disk, &store, "after compaction");
    drop(store);
    let store = open(&disk);
    assert_eq!(contents(&store), memory);
    let report = store.recovery_report();
    assert_eq!(report.failed.total(), 0);
    assert!(report.incidents.is_empty(), "{report:?}");
}

#[test]
fn a_crash_at_any_call_of_compaction_leaves_the_memory_as_it_was() {
    let (image, memory) = littered();
    for n in 0.. {
        let disk = MemDisk::of(&image);
        let store = open(&disk);
        disk.crash_at(n);
        let compacted = store.compact_from_memory();
        if !disk.is_crashed() {
            compacted.unwrap();
            assert!(n > 20, "compaction took only {n} calls");
            return;
        }
        for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Torn(n), Unsynced::Torn(!n)] {
            let at = format!("crash at call {n}, unsynced {unsynced:?}");
            let disk = disk.crash(unsynced);
            let store = open(&disk);
            let report = store.recovery_report();
            assert_eq!(contents(&store), memory, "{at}");
            assert_eq!((report.failed.damaged, &report.lost_lsns[..]), (0, &[][..]), "{at}");
            check_no_file_left_over(&disk, &store, &at);
            store.compact_from_memory().unwrap();
            assert_eq!(contents(&store), memory, "{at}");
            store.close().unwrap();
            drop(store);
            let store = open(&disk);
            assert_eq!(contents(&store), memory, "{at}");
            assert!(store.recovery_report().incidents.is_empty(), "{at}");
        }
    }
}

#[test]
fn a_failed_call_of_compaction_harms_nothing_and_is_counted() {
    let (image, memory) = littered();
    for n in 0.. {
        let at = format!("call {n} failed");
        let disk = MemDisk::of(&image);
        let figures = Figures::default();
        let metrics = Arc::new(Metrics::new(&figures));
        let store = Store::open(DIR, Options { metrics, ..options(&disk) }).unwrap();
        disk.fail_at(n, Kind::Eio);
        let compacted = store.compact_from_memory();
        if !disk.has_failed() {
            compacted.unwrap();
            return;
        }
        assert_eq!(contents(&store), memory, "{at}");
        let failed = figures.count("engram_wal_compaction_runs_total{outcome=failed}");
        // A pass seals the active segment first; what fails there poisons the writer, and is said.
        let told = matches!(compacted, Err(Error::Poisoned { .. })) || failed == 1;
        assert!(compacted.is_ok() || told, "{at}: {failed} failed runs, {compacted:?}");
        if store.state() != WalState::Poisoned {
            // A failure of compaction never stops writers, and the next run does the work.
            remember(&store, "after", "x");
            forget(&store, "after");
            store.compact_from_memory().unwrap();
        }
        assert_eq!(contents(&store), memory, "{at}");
        let disk = disk.crash(Unsynced::Lost);
        let store = open(&disk);
        assert_eq!(contents(&store), memory, "{at}");
        assert_eq!(store.recovery_report().failed.damaged, 0, "{at}");
        check_no_file_left_over(&disk, &store, &at);
    }
}

#[test]
fn a_run_whose_directory_sync_failed_does_not_hide_a_later_wider_one() {
    let disk = MemDisk::new();
    let store = open(&disk);
    let fill = |store: &Store, from: u64| {
        for n in from..from + 60 {
            remember(store, &format!("e{}", n % 7), text(n, 20_000));
        }
    };
    fill(&store, 0);
    // The commit's rename happens; what follows it fails.
    disk.fail(Fault { op: Op::SyncDir, path: "wal", first: 1, times: 1, kind: Kind::Eio });
    assert!(store.compact_from_memory().is_err());
    disk.heal();
    fill(&store, 60);
    store.compact_from_memory().unwrap();
    let memory = contents(&store);
    drop(store);
    let store = open(&disk);
    assert_eq!(contents(&store), memory);
    check_no_file_left_over(&disk, &store, "after a restart");
}

#[test]
fn compaction_with_nothing_to_reclaim_writes_nothing() {
    let disk = MemDisk::new();
    let store = open(&disk);
    for n in 0..120 {
        remember(&store, &format!("e{n}"), text(n, 20_000));
    }
    store.compact_from_memory().unwrap();
    let calls = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&calls);
    disk.observe(move |call| {
        // The next segment and the ballast are made, and unused ends given back, meanwhile.
        let is_upkeep = call.op == Op::SetLen || call.path.extension().is_none();
        if call.op.changes() && !is_upkeep {
            seen.lock().unwrap().push((call.op, call.path.clone()));
        }
    });
    let stats = store.compact_from_memory().unwrap();
    assert_eq!((stats.segments_in, stats.frames_dropped), (0, 0), "{stats:?}");
    // An idle mark may be left meanwhile: a write and a sync.
    let calls = calls.lock().unwrap().clone();
    let of_mark = |(op, _): &(Op, _)| matches!(op, Op::Write | Op::Sync);
    assert!(calls.len() <= 2 && calls.iter().all(of_mark), "{calls:?}");
}

#[test]
fn forgotten_and_overwritten_text_leaves_the_logs_bytes() {
    let disk = MemDisk::new();
    let store = open(&disk);
    remember(&store, "kept", "the text that stays");
    remember(&store, "secret", "canary-one");
    remember(&store, "secret", "canary-two");
    remember(&store, "other", "canary-three");
    remember(&store, "other", "replaced");
    store
        .remember("x", support::draft("a", "canary-four"), Condition::Any)
        .unwrap()
        .wait()
        .unwrap();
    forget(&store, "secret");
    store.forget_space("x").unwrap().wait().unwrap();
    store.compact_from_memory().unwrap();
    for canary in ["canary-one", "canary-two", "canary-three", "canary-four"] {
        assert!(!holds(&disk, canary), "{canary} is still in the log");
    }
    assert!(holds(&disk, "the text that stays"));
    // Nothing of it comes back, and the tombstones, needed no longer, are gone too.
    let memory = contents(&store);
    drop(store);
    let store = open(&disk);
    assert_eq!(contents(&store), memory);
    assert_eq!(memory.len(), 2);
}

#[test]
fn forgotten_text_leaves_within_the_time_that_was_promised() {
    let disk = MemDisk::new();
    let clock = Arc::new(FakeClock::default());
    let with = |clock: &Arc<FakeClock>| Options {
        clock: Arc::clone(clock) as _,
        compact_automatically: true,
        forget_erase_max: Duration::from_hours(1),
        ..options(&disk)
    };
    let store = Store::open(DIR, with(&clock)).unwrap();
    remember(&store, "secret", "canary");
    for n in 0..50 {
        remember(&store, &format!("e{n}"), text(n, 1000));
    }
    forget(&store, "secret");
    // So little garbage is no reason to run, but time is.
    drop(store);
    let store = Store::open(DIR, with(&clock)).unwrap();
    assert!(holds(&disk, "canary"));
    clock.advance(Duration::from_hours(1));
    drop(store);
    let store = Store::open(DIR, with(&clock)).unwrap();
    until("the forgotten text is erased", || !holds(&disk, "canary"));
    assert_eq!(contents(&store).len(), 50);
}

#[test]
fn forgetting_most_of_a_memory_gives_its_disk_back() {
    let disk = MemDisk::new();
    let store = open(&disk);
    for n in 0..300u64 {
        remember(&store, &format!("e{n}"), text(n, 20_000));
    }
    let before: u64 = store.wal().segments.iter().map(|s| s.bytes).sum();
    for n in (0..300).filter(|n| n % 10 != 0) {
        forget(&store, &format!("e{n}"));
    }
    store.compact_from_memory().unwrap();
    let after: u64 = store.wal().segments.iter().map(|s| s.bytes).sum();
    assert!(after * 5 <= before, "{before} bytes became {after}");
    assert_eq!(contents(&store).len(), 30);
    let memory = contents(&store);
    drop(store);
    assert_eq!(contents(&open(&disk)), memory);
}

#[test]
fn overwriting_the_same_keys_for_ever_stays_bounded() {
    for segment_bytes in [1 << 20, 64 << 20] {
        let disk = MemDisk::new();
        let with = Options { compact_automatically: true, segment_bytes, ..options(&disk) };
        let store = Store::open(DIR, with).unwrap();
        let size = |store: &Store| -> u64 {
            let status = store.wal();
            status.segments.iter().map(|s| s.bytes).sum::<u64>()
        };
        for round in 0..40u64 {
            for n in 0..20 {
                remember(&store, &format!("e{n}"), text(round * 100 + n, 20_000));
            }
            let live = store.wal().live_bytes;
            let bound = 3 * live + 2 * (1 << 20);
            until("compaction catches up", || size(&store) <= bound);
        }
        assert_eq!(contents(&store).len(), 20);
    }
}

#[test]
fn stats_and_metrics_equal_the_ground_truth() {
    let disk = MemDisk::new();
    let figures = Figures::default();
    let metrics = Arc::new(Metrics::new(&figures));
    let store = Store::open(DIR, Options { metrics, ..options(&disk) }).unwrap();
    for n in 0..30 {
        remember(&store, &format!("e{n}"), "text");
    }
    for n in 0..10 {
        remember(&store, &format!("e{n}"), "newer");
    }
    for n in 20..30 {
        forget(&store, &format!("e{n}"));
    }
    let before: u64 = store.wal().segments.iter().filter(|s| s.sealed).map(|s| s.bytes).sum();
    assert_eq!(before, 0);
    let stats = store.compact_from_memory().unwrap();
    // Ten were replaced, ten forgotten, and their ten tombstones have nothing older left; an
    // idle mark may have been left among them.
    let marks = stats.frames_dropped - 30;
    assert!(marks <= 3, "{stats:?}");
    assert_eq!((stats.segments_in, stats.segments_out, stats.frames_kept), (1, 1, 20));
    let outputs = store.wal().segments.into_iter().filter(|s| s.sealed);
    assert_eq!(outputs.map(|s| s.bytes).sum::<u64>(), stats.bytes_after);
    assert_eq!(stats.bytes_reclaimed, stats.bytes_before - stats.bytes_after);
    assert_eq!(figures.count("engram_wal_compaction_runs_total{outcome=ok}"), 1);
    assert_eq!(figures.count("engram_wal_compaction_runs_total{outcome=failed}"), 0);
    assert_eq!(figures.count("engram_wal_compaction_frames_kept_total"), 20);
    assert_eq!(figures.count("engram_wal_compaction_frames_dropped_total"), 30 + marks);
    let reclaimed = figures.count("engram_wal_compaction_bytes_reclaimed_total");
    assert_eq!(reclaimed, stats.bytes_reclaimed);
    assert_eq!(figures.samples("engram_wal_compaction_duration_seconds"), 1);
    assert_eq!(store.wal().dead_bytes, 0);
}

#[test]
fn a_tombstone_stays_as_long_as_an_older_frame_of_its_key_may_be_there() {
    let disk = MemDisk::new();
    let store = open(&disk);
    // The oldest segment holds the episode and, mostly, live ones; the newest its tombstone.
    remember(&store, "victim", "canary");
    for n in 0..60 {
        remember(&store, &format!("live{n}"), text(n, 20_000));
    }
    forget(&store, "victim");
    let memory = contents(&store);
    for unsynced in [Unsynced::Lost, Unsynced::Kept] {
        let store = open(&disk.crash(unsynced));
        assert_eq!(contents(&store), memory);
        store.compact_from_memory().unwrap();
        assert_eq!(contents(&store), memory);
    }
}

#[test]
fn writers_go_on_while_compaction_runs() {
    let disk = MemDisk::new();
    let store = open(&disk);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4u64)
            .map(|writer| {
                let store = &store;
                scope.spawn(move || {
                    let mut last = 0;
                    for n in 0..60 {
                        let id = format!("w{writer}-{}", n % 12);
                        let lsn = remember(store, &id, text(writer * 1000 + n, 10_000));
                        assert!(lsn > last, "LSNs rise in the order of acknowledgements");
                        last = lsn;
                        let read = store.get("s", &id).unwrap();
                        assert_eq!(read.lsn, lsn);
                    }
                })
            })
            .collect();
        while !writers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            store.compact_from_memory().unwrap();
        }
    });
    let memory = contents(&store);
    assert_eq!(memory.len(), 48);
    for (writer, n) in (0..4u64).flat_map(|writer| (0..12).map(move |n| (writer, n))) {
        let (_, episode) = &memory[&("s".to_owned(), format!("w{writer}-{n}"))];
        assert_eq!(episode.what, text(writer * 1000 + 48 + n, 10_000));
    }
    drop(store);
    assert_eq!(contents(&open(&disk)), memory);
}

#[test]
fn temporary_files_are_removed_at_start() {
    let (mut image, memory) = littered();
    image.insert(wal("00000000000000000001-00000000000000000009-000001.seg.tmp"), vec![7; 100]);
    image.insert(wal("spare"), vec![1; 5000]);
    image.insert(wal("spare.tmp"), vec![1; 5000]);
    let disk = MemDisk::of(&image);
    disk.say_available((1 << 20) - 1);
    let store = open(&disk);
    assert_eq!(contents(&store), memory);
    let mut others = log_files(&disk);
    // There is a ballast if the store of before had the time to make one.
    others.retain(|name| !name.ends_with(".seg") && name != "ballast");
    assert_eq!(others, ["head"]);
}

#[test]
fn damage_that_comes_while_running_is_quarantined_named_and_gone_after_compaction() {
    let disk = MemDisk::new();
    let store = open(&disk);
    for n in 0..80 {
        remember(&store, &format!("e{n}"), text(n, 20_000));
    }
    let mut memory = contents(&store);
    store.close().unwrap();
    let mut image = disk.image();
    let disk = MemDisk::of(&image);
    let store = open(&disk);
    let first = store.wal().segments[0].file.clone();
    assert!(store.wal().segments[0].sealed);
    let at = memchr::memmem::find(&image[&wal(&first)], text(7, 20_000).as_bytes()).unwrap();
    disk.flip(&wal(&first), at + 100, 3);
    image.clear();
    let damaged = store.get("s", "e7").unwrap_err();
    assert!(matches!(damaged, Error::Damaged { .. }), "{damaged}");
    // The first run finds it, the second one deals with it.
    let lsn = memory.remove(&("s".to_owned(), "e7".to_owned())).unwrap().0;
    store.compact_from_memory().unwrap();
    assert_eq!(contents(&store), memory);
    let incidents = store.incidents();
    assert_eq!(incidents.len(), 1, "{incidents:?}");
    assert_eq!(incidents[0].lsns, [[lsn, lsn]]);
    assert_eq!(store.quarantine().unwrap().len(), 1);
    drop(store);
    let store = open(&disk);
    assert_eq!(contents(&store), memory);
    assert_eq!(store.recovery_report().failed.total(), 0);
    assert_eq!(store.incidents().len(), 1);
}

/// A store that is moved by steps and compacts by itself, on a disk that does not give all of it: what the
/// refusals name is accepted.
fn open_over(hidden: &Arc<MemDisk>, clock: &Arc<FakeClock>) -> Store {
    let mut accepted = Vec::new();
    loop {
        let with = Options {
            accept_loss: accepted.clone(),
            compact_automatically: true,
            drive: Drive::Steps,
            clock: Arc::clone(clock) as _,
            ..options(hidden)
        };
        match Store::open(DIR, with) {
            Ok(store) => return store,
            Err(Error::Unreadable { first, last, .. }) => accepted.push((first, last)),
            Err(e) => panic!("{e}"),
        }
    }
}

/// Episodes of 20 kB in the space `other`, named by these numbers.
fn fill_other(store: &Store, name: &str, numbers: std::ops::Range<u64>) {
    for n in numbers {
        let draft = support::draft(&format!("{name}{n}"), text(n, 20_000));
        store.remember("other", draft, Condition::Any).unwrap().wait().unwrap();
    }
}

/// The same disk, which does not give the frame of this LSN.
fn without_frame(disk: &Arc<MemDisk>, lsn: u64) -> Arc<MemDisk> {
    let frames = support::frames_of(disk);
    let frame = frames.iter().find(|frame| frame.lsn == lsn).unwrap();
    let hidden = MemDisk::of(&disk.image());
    hidden.lose_sectors(&wal(&frame.file), frame.offset / 512 * 512, frame.offset + 1000);
    hidden
}

/// Bytes that a start could not read may be there at the next one, and with them what was forgotten. (The
/// forget found nothing older then, and compaction dropped it.)
#[test]
fn a_forget_outlives_what_a_start_could_not_read() {
    for whole_space in [false, true] {
        let disk = MemDisk::new();
        let store = open(&disk);
        let lsn = remember(&store, "victim", text(0, 20_000));
        fill_other(&store, "a", 0..60);
        if whole_space {
            store.forget_space("s").unwrap().wait().unwrap();
        } else {
            forget(&store, "victim");
        }
        fill_other(&store, "b", 0..60);
        for n in 0..40 {
            store.forget("other", &format!("b{n}"), Condition::Any).unwrap().wait().unwrap();
        }
        store.close().unwrap();
        drop(store);
        let hidden = without_frame(&disk, lsn);
        let clock = Arc::new(FakeClock::default());
        let store = open_over(&hidden, &clock);
        let memory = contents(&store);
        let dead = || store.wal().dead_bytes;
        let before = dead();
        // The segment that cannot be read is set aside; others are rewritten.
        for _ in 0..200 {
            clock.advance(Duration::from_secs(1));
            let _more = store.stepper().upkeep();
        }
        assert!(dead() < before / 2, "{before} bytes became {}", dead());
        drop(store);
        // The device gives it again.
        let store = open(&MemDisk::of(&hidden.image()));
        let back = contents(&store);
        assert_eq!(back.keys().find(|(space, _)| space == "s"), None, "{whole_space}: it is back");
        assert!(memory.keys().all(|key| back.contains_key(key)), "{whole_space}");
    }
}

/// The same where an older forget of the key stands before what could not be read.
#[test]
fn a_second_forget_outlives_it_too() {
    let disk = MemDisk::new();
    let store = open(&disk);
    remember(&store, "victim", text(0, 20_000));
    fill_other(&store, "a", 0..30);
    forget(&store, "victim");
    fill_other(&store, "a", 30..70);
    let lsn = remember(&store, "victim", text(1, 20_000));
    fill_other(&store, "b", 0..60);
    forget(&store, "victim");
    fill_other(&store, "c", 0..60);
    for (name, to) in [("a", 40), ("c", 45)] {
        for n in 0..to {
            store.forget("other", &format!("{name}{n}"), Condition::Any).unwrap().wait().unwrap();
        }
    }
    store.close().unwrap();
    let hidden = without_frame(&disk, lsn);
    let clock = Arc::new(FakeClock::default());
    let store = open_over(&hidden, &clock);
    for _ in 0..400 {
        clock.advance(Duration::from_secs(1));
        let _more = store.stepper().upkeep();
    }
    drop(store);
    let store = open(&MemDisk::of(&hidden.image()));
    assert!(store.get("s", "victim").is_err(), "it is back");
}

/// What was lost is named before it leaves the log, or it stays there to be found again.
#[test]
fn damage_stays_as_long_as_the_list_of_incidents_cannot_be_written() {
    let disk = MemDisk::new();
    let store = open(&disk);
    for n in 0..80 {
        remember(&store, &format!("e{n}"), text(n, 20_000));
    }
    let first = store.wal().segments[0].file.clone();
    let at = memchr::memmem::find(&disk.image()[&wal(&first)], text(7, 20_000).as_bytes()).unwrap();
    disk.flip(&wal(&first), at + 100, 3);
    store.get("s", "e7").unwrap_err();
    disk.fail_for_ever(Op::Create, "incidents", Kind::Enospc);
    for _ in 0..3 {
        assert!(store.compact_from_memory().is_err());
        assert!(log_files(&disk).contains(&first));
    }
    drop(store);
    let store = open(&MemDisk::of(&disk.image()));
    assert_eq!(store.recovery_report().failed.damaged, 1);
    assert_eq!(store.incidents().len(), 1);
}

/// A pass that has no room for all of a job's segments at a time takes the others next. (It called the pass
/// done, and what was forgotten in them stayed.)
#[test]
fn a_pass_with_little_room_leaves_no_segment_out() {
    let disk = MemDisk::new();
    let store = open(&disk);
    for n in 0..160 {
        remember(&store, &format!("e{n}"), text(n, 20_000));
    }
    for n in (0..160).filter(|n| n % 5 > 0) {
        forget(&store, &format!("e{n}"));
    }
    store.close().unwrap();
    let segments = store.wal().segments;
    assert!(segments.len() > 3);
    drop(store);
    let disk = MemDisk::of(&disk.image());
    // Room for what one of them keeps; two would be joined.
    disk.say_available(300_000);
    let store = open(&disk);
    store.compact_from_memory().unwrap();
    let dead = store.wal().segments.iter().filter(|s| s.sealed && s.dead_bytes > 1 << 16).count();
    assert_eq!(dead, 0, "{:?}", store.wal().segments);
}

/// The pause after failures and the time that a segment is set aside ended together: then the one that
/// cannot be read came first again, and all others waited for ever.
#[test]
fn a_segment_that_cannot_be_read_keeps_no_other_from_compaction() {
    let disk = MemDisk::new();
    let clock = Arc::new(FakeClock::default());
    let figures = Figures::default();
    let with = Options {
        compact_automatically: true,
        clock: Arc::clone(&clock) as _,
        metrics: Arc::new(Metrics::new(&figures)),
        ..options(&disk)
    };
    let store = Store::open(DIR, with).unwrap();
    let fill = |name: &str| {
        let before = log_files(&disk);
        for n in 0..11 {
            remember(&store, &format!("{name}{n}"), text(n, 100_000));
        }
        let segment = before.into_iter().rfind(|file| file.ends_with(".seg")).unwrap();
        // Compaction looks at it once its unused end is given back.
        until("it is sealed", || disk.image()[&wal(&segment)].len() < 1 << 20);
        segment
    };
    let forget = |name: &str| {
        for n in 0..8 {
            store.forget("s", &format!("{name}{n}"), Condition::Any).unwrap().wait().unwrap();
        }
    };
    let (bad, good) = (fill("bad"), fill("good"));
    disk.fail_for_ever(Op::Read, bad.clone().leak(), Kind::Eio);
    // Counted when it is over: the pause after it is of the time before the next round.
    let failed = || figures.count("engram_wal_compaction_runs_total{outcome=failed}");
    let is_there = |file: &String| log_files(&disk).contains(file);
    let round = |n: u64, seconds: u64| {
        let before = failed();
        clock.advance(Duration::from_secs(seconds));
        remember(&store, "tick", text(n, 10));
        until("compaction tries", || failed() > before || !is_there(&good));
    };
    forget("bad");
    (0..10).for_each(|n| round(n, 121));
    forget("good");
    let mut rounds = 0;
    while is_there(&good) {
        assert!(rounds < 10, "the good one still waits");
        round(rounds, 61);
        rounds += 1;
    }
    assert!(is_there(&bad));
}

/// The limit holds compaction back, and nothing else: while it waits for its next step, the writer's next
/// segment is made. (It was not, and every other rotation had to make its own.)
#[test]
fn while_the_limit_holds_compaction_back_the_next_segment_is_made() {
    let disk = MemDisk::new();
    let clock = Arc::new(FakeClock::default());
    // A step and the next one are three days apart.
    let slow = Options {
        clock: clock.clone(),
        drive: Drive::Steps,
        compact_automatically: true,
        compaction_bytes_per_second_max: 1,
        ..options(&disk)
    };
    let store = Store::open(DIR, slow).unwrap();
    for n in (0..100).chain(0..30) {
        remember(&store, &format!("e{n}"), text(n, 20_000));
    }
    let turns = |turns: usize| {
        for _ in 0..turns {
            let _more = store.stepper().upkeep();
        }
    };
    let output_bytes = || {
        let image = disk.image();
        let output = image.iter().find(|(path, _)| path.to_string_lossy().ends_with(".seg.tmp"));
        output.map_or(0, |(_, bytes)| bytes.len())
    };
    let has_spare = || disk.image().get(&wal("spare")).is_some_and(|bytes| bytes.len() == 1 << 20);
    turns(40);
    let written = output_bytes();
    assert!(written > 0 && has_spare());
    let rotations = store.wal().segments.len();
    for n in 100.. {
        if store.wal().segments.len() > rotations {
            break;
        }
        remember(&store, &format!("e{n}"), text(n, 20_000));
    }
    assert!(!has_spare());
    turns(40);
    assert!(has_spare(), "the next segment waits for compaction");
    assert_eq!(output_bytes(), written, "the limit does not hold");
    let memory = contents(&store);
    for _ in 0..200 {
        clock.advance(Duration::from_hours(96));
        turns(1);
    }
    assert_eq!(output_bytes(), 0);
    let figures = store.wal();
    assert!(figures.dead_bytes < 100_000, "{figures:?}");
    assert_eq!(contents(&store), memory);
}

/// The next segment takes the name of one that was sealed before its first record came. (Compaction joined
/// that one with its neighbours, and removed the file that had its name by then.)
#[test]
fn compaction_leaves_its_name_to_the_segment_that_follows_an_empty_one() {
    let mut disk = MemDisk::new();
    let steps = |disk: &Arc<MemDisk>| {
        let by_steps =
            Options { drive: Drive::Steps, compact_automatically: true, ..options(disk) };
        Store::open(DIR, by_steps).unwrap()
    };
    // A start after a crash leaves a small segment behind.
    for n in 0..6 {
        let store = steps(&disk);
        remember(&store, &format!("a{n}"), "text");
        remember(&store, &format!("b{n}"), "text");
        disk = disk.crash(Unsynced::Kept);
    }
    // No segment of the least size holds this, and the one that is made for it cannot get its name: the
    // active one is sealed, and nothing follows it.
    let big = || support::draft("big", text(1, 1 << 20));
    let refused = |disk: &MemDisk, store: &Store| {
        disk.fail_for_ever(Op::Rename, ".seg", Kind::Enospc);
        let refused = store.remember("s", big(), Condition::Any).unwrap().wait();
        assert!(matches!(refused, Err(Error::DiskFull { .. })), "{refused:?}");
        disk.heal();
    };
    refused(&disk, &steps(&disk));
    let image = disk.crash(Unsynced::Kept).image();
    // However far compaction is when the name is taken.
    for before in 0..40 {
        let disk = MemDisk::of(&image);
        let store = steps(&disk);
        refused(&disk, &store);
        let segments = store.wal().segments;
        assert_eq!((segments.len(), segments[7].last_lsn + 1), (8, segments[7].first_lsn));
        assert!(segments.iter().all(|s| s.sealed && s.bytes < 16 << 10));
        let turns = |turns: usize| (0..turns).filter(|_| store.stepper().upkeep()).count();
        turns(before);
        store.remember("s", big(), Condition::Any).unwrap().wait().unwrap();
        turns(200);
        let memory = contents(&store);
        assert_eq!(memory.len(), 13);
        let restarted = open(&disk.crash(Unsynced::Kept));
        assert_eq!(contents(&restarted), memory, "after {before} turns");
    }
}
