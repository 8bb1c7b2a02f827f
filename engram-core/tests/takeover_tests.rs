//! Laws of taking over v0.1.0: all that can be read becomes the memory once, whatever comes between.
#![expect(clippy::unwrap_used, reason = "tests")]

mod legacy_log;
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engram_core::disk::Disk;
use engram_core::storage::legacy::{self, FailureKind, Layout};
use engram_core::storage::wal::report::RecoveryMode;
use engram_core::storage::wal::report::{Failed, IncidentKind};
use engram_core::{Condition, Draft, Episode, Error, Options, Store, inspect};

use legacy_log::{Record, Sketch, joined, sketch};
use support::disk::{Image, Kind, MemDisk, Op, Unsynced};
use support::hush::warnings_of;
use support::{DIR, contents, open, options, remember};

/// Two logs of v0.1.0 in the space `default` and one in another, in several layouts: with a record
/// deleted in the next file, one damaged, one that is no text, and a torn end.
fn old_logs() -> Image {
    let delete = Record { entry_type: 3, payload: b"b".to_vec() };
    let (first, at) = joined(&[
        sketch("a").record(Layout::G1),
        sketch("b").record(Layout::G2),
        sketch("hit").record(Layout::G3),
        sketch("c").record(Layout::G4),
    ]);
    let mut first = first;
    first[at[2] + 200] ^= 1;
    let newer = Sketch { what: "newer".into(), ..sketch("a") };
    let not_text = Record { entry_type: 3, payload: vec![0xFF] };
    let (second, _) = joined(&[delete, newer.record(Layout::G4), not_text]);
    let (mut other, at) =
        joined(&[sketch("d").record(Layout::G3), sketch("cut").record(Layout::G3)]);
    other.truncate(at[1] + 1_000);
    let files = [
        ("wal/wal-000000006b03893d.log", first),
        ("wal/wal-000000006b03893e.log", second),
        ("other/wal/wal-000000006b03893d.log", other),
    ];
    files.into_iter().map(|(name, bytes)| (Path::new(DIR).join(name), bytes)).collect()
}

/// What the old logs hold that could not be read, as their reader says.
fn failures(image: &Image) -> Failed {
    let mut failed = Failed::default();
    for failure in image.values().flat_map(|bytes| legacy::read(bytes).failures) {
        match failure.kind {
            FailureKind::Damaged => failed.damaged += 1,
            FailureKind::Undecodable => failed.undecodable += 1,
            FailureKind::Tail => failed.tail += 1,
        }
    }
    failed
}

fn legacy_name(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "log")
}

/// What a take-over leaves: the memory, what it names, and what became of the old files.
type Outcome = (BTreeMap<(String, String), Episode>, Vec<String>, BTreeMap<PathBuf, Vec<u8>>);

fn outcome(disk: &Arc<MemDisk>, store: &Store) -> Outcome {
    let memory = contents(store).into_iter().map(|(key, (_, episode))| (key, episode)).collect();
    let incidents = store.incidents();
    // A crash may tear the log's own end; that is no matter of the old files.
    let old = incidents.iter().filter(|incident| legacy_name(&incident.file));
    let mut incidents: Vec<String> = old.map(|incident| incident.id.clone()).collect();
    incidents.sort();
    let mut files = disk.image();
    files.retain(|path, _| legacy_name(&path.to_string_lossy()));
    (memory, incidents, files)
}

#[test]
fn what_could_not_be_read_of_an_old_log_is_counted_listed_and_kept() {
    let image = old_logs();
    let failed = failures(&image);
    assert_eq!(failed, Failed { damaged: 1, undecodable: 1, tail: 1 });
    let disk = MemDisk::of(&image);
    let looked: Arc<dyn Disk> = disk.clone();
    let seen = inspect::inspect(&looked, Path::new(DIR)).unwrap();
    assert_eq!((seen.report.failed, seen.legacy_files.len()), (failed, image.len()));
    let store = open(&disk);
    let report = store.recovery_report();
    assert_eq!(report.failed, failed);
    let legacy = report.legacy.clone().unwrap();
    assert_eq!((legacy.files, legacy.failed), (image.len() as u64, failed));
    assert_eq!((legacy.recovered, report.recovered), (seen.report.recovered, legacy.recovered));
    let count = |kind| store.incidents().iter().filter(|i| i.verdict == kind).count() as u64;
    let listed = Failed {
        damaged: count(IncidentKind::Damaged),
        undecodable: count(IncidentKind::Undecodable),
        tail: count(IncidentKind::Tail),
    };
    assert_eq!(listed, failed);
    let quarantine = Path::new(DIR).join("quarantine");
    for (path, bytes) in image {
        let relative = path.strip_prefix(DIR).unwrap().to_string_lossy().replace('/', "-");
        assert_eq!(disk.image()[&quarantine.join(format!("v0.1.0-{relative}"))], bytes);
    }
}

#[test]
fn a_take_over_interrupted_at_any_call_and_run_again_ends_in_the_same_memory() {
    let image = old_logs();
    let disk = MemDisk::of(&image);
    let store = open(&disk);
    let reference = outcome(&disk, &store);
    let ids: Vec<_> = reference.0.keys().map(|(space, id)| format!("{space}/{id}")).collect();
    assert_eq!(ids, ["default/a", "default/c", "other/d"]);
    assert_eq!(reference.0[&("default".to_owned(), "a".to_owned())].what, "newer");
    assert_eq!(reference.1.len(), 3, "{:?}", reference.1);
    assert_eq!(reference.2.len(), image.len());
    drop(store);
    for n in 0.. {
        let disk = MemDisk::of(&image);
        disk.say_available((1 << 20) - 1);
        disk.crash_at(n);
        let opened = Store::open(DIR, options(&disk));
        if !disk.is_crashed() {
            assert!(opened.is_ok() && n > 20, "only {n} calls");
            return;
        }
        for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Torn(n)] {
            let at = format!("crash at call {n}, unsynced {unsynced:?}");
            let disk = disk.crash(unsynced);
            let store = Store::open(DIR, options(&disk)).unwrap_or_else(|e| panic!("{e}, {at}"));
            assert_eq!(outcome(&disk, &store), reference, "{at}");
            drop(store);
            let (store, warnings) = warnings_of(|| open(&disk));
            assert_eq!(warnings, Vec::<String>::new(), "{at}");
            assert_eq!(outcome(&disk, &store), reference, "{at}");
            assert_eq!(store.recovery_report().legacy, None, "{at}: taken over again");
        }
    }
}

#[test]
fn an_old_program_that_ran_again_is_taken_over_again_beside_what_it_left_before() {
    let image = old_logs();
    let disk = MemDisk::of(&image);
    drop(open(&disk));
    // It wrote another file of the same name: all but the first record of the old one.
    let (path, bytes) = image.iter().find(|(path, _)| path.starts_with("/data/wal")).unwrap();
    let first = legacy::read(bytes).entries[0].bytes;
    let shorter = bytes[usize::try_from(first).unwrap()..].to_vec();
    let mut both = disk.image();
    both.insert(path.clone(), shorter.clone());
    let disk = MemDisk::of(&both);
    let store = open(&disk);
    assert_eq!(store.recovery_report().legacy.as_ref().unwrap().files, 1);
    remember(&store, "new", "x");
    let kept: Vec<Vec<u8>> = disk
        .image()
        .into_iter()
        .filter(|(path, _)| path.to_string_lossy().contains("quarantine/v0.1.0-wal-"))
        .map(|(_, bytes)| bytes)
        .collect();
    assert!(kept.contains(bytes) && kept.contains(&shorter));
}

#[test]
fn strict_recovery_refuses_an_old_log_that_cannot_all_be_read_and_changes_nothing() {
    let image = old_logs();
    let disk = MemDisk::of(&image);
    let strict = || Options { recovery: RecoveryMode::Strict, ..options(&disk) };
    let refused = Store::open(DIR, strict()).unwrap_err();
    // One is damaged and one no text; a torn end is normal.
    assert!(matches!(refused, Error::Strict { count: 2, .. }), "{refused}");
    assert!(refused.to_string().contains("wal/wal-000000006b03893d.log at byte"), "{refused}");
    let after = disk.image();
    assert!(image.iter().all(|(path, bytes)| after.get(path) == Some(bytes)));
    // What was taken over before is no reason to refuse.
    drop(open(&disk));
    Store::open(DIR, strict()).unwrap();
}

#[test]
fn spaces_of_any_name_are_taken_over_and_those_that_are_not_legal_now_are_named() {
    let (log, _) = joined(&[sketch("a").record(Layout::G4)]);
    let spaces = ["index", "quarantine", "wal", "My Agent"];
    let path = |space: &str| Path::new(DIR).join(space).join("wal/wal-000000006b03893d.log");
    let disk = MemDisk::of(&spaces.iter().map(|space| (path(space), log.clone())).collect());
    let store = open(&disk);
    assert!(spaces.iter().all(|space| store.get(space, "a").is_ok()));
    let notes = store.recovery_report().legacy.clone().unwrap().notes;
    assert!(notes.len() == 1 && notes[0].contains("My Agent"), "{notes:?}");
    assert!(spaces.iter().all(|space| !disk.image().contains_key(&path(space))));
}

/// Who was told only by the report of one start was told nothing after a crash.
#[test]
fn an_entry_that_cannot_be_an_episode_here_is_listed_where_it_stands() {
    let disk = MemDisk::new();
    let store = open(&disk);
    let draft = Draft { embedding: vec![1.0; 8], ..support::draft("e", "of another dimension") };
    store.remember("default", draft, Condition::Any).unwrap().wait().unwrap();
    store.close().unwrap();
    drop(store);
    let (log, at) = joined(&[sketch("a").record(Layout::G4), sketch("b").record(Layout::G4)]);
    let mut image = disk.image();
    image.insert(Path::new(DIR).join("wal/wal-000000006b03893d.log"), log);
    let disk = MemDisk::of(&image);
    let store = open(&disk);
    assert_eq!((contents(&store).len(), store.recovery_report().failed.undecodable), (1, 2));
    let mut listed = store.incidents();
    listed.reverse();
    let offsets: Vec<u64> = listed.iter().map(|incident| incident.offset).collect();
    assert_eq!(offsets, at.iter().map(|&at| at as u64).collect::<Vec<_>>());
    assert!(listed.iter().all(|incident| incident.verdict == IncidentKind::Undecodable));
    assert_eq!(store.recovery_report().incidents, listed);
    drop(store);
    assert_eq!(open(&disk).incidents().len(), 2);
}

#[test]
fn an_old_log_that_cannot_be_moved_is_moved_by_a_later_start() {
    let image = old_logs();
    let disk = MemDisk::of(&image);
    disk.fail_for_ever(Op::Rename, "v0.1.0-", Kind::Enospc);
    let (store, warnings) = warnings_of(|| open(&disk));
    assert_eq!(contents(&store).len(), 3);
    let told = warnings.iter().filter(|told| told.contains("stays where it is")).count();
    assert_eq!(told, image.len(), "{warnings:?}");
    assert!(image.keys().all(|path| disk.image().contains_key(path)));
    drop(store);
    // It is all in the log, the last segment of it: nothing of it is refused, or told again.
    let strict = Options { recovery: RecoveryMode::Strict, ..options(&disk) };
    let store = Store::open(DIR, strict).unwrap();
    let report = store.recovery_report();
    assert_eq!((report.legacy.clone(), report.incidents.len()), (None, 0), "{report:?}");
    assert_eq!(store.incidents().len(), 3);
    drop(store);
    disk.heal();
    let store = open(&disk);
    assert_eq!(contents(&store).len(), 3);
    assert!(image.keys().all(|path| !disk.image().contains_key(path)));
    assert_eq!(store.recovery_report().legacy, None);
}
