//! Recovery where two things go wrong at once.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use engram_core::Error;
use engram_core::disk::Disk as _;
use engram_core::inspect::{self, FrameDump};
use engram_core::storage::wal::report::{Incident, IncidentKind, RecoveryMode};
use engram_core::store::{Condition, Durability, ListQuery, Options, Store};
use support::disk::{Image, Kind, MemDisk, Op, Unsynced};
use support::{DIR, FakeClock, contents, frames_of, open, options, remember, wal};

const FIRST: &str = "00000000000000000001.seg";

/// One acknowledged batch, no mark behind it, and a torn write behind that.
fn first_batch_and_a_torn_write() -> Image {
    let disk = MemDisk::new();
    let store = open(&disk);
    remember(&store, "kept", "acknowledged");
    let mut image = disk.crash(Unsynced::Kept).image();
    let end = {
        let disk: Arc<dyn engram_core::disk::Disk> = MemDisk::of(&image);
        let mut end = 0;
        inspect::dump(&disk, Path::new(DIR), &mut |frame| {
            if frame.kind == "remember" {
                end = usize::try_from(frame.offset + frame.bytes).unwrap();
            }
            Ok(())
        })
        .unwrap();
        end
    };
    let bytes = image.get_mut(&wal(FIRST)).unwrap();
    bytes[end..].fill(0);
    bytes[end..end + 100].fill(0xAB);
    image
}

/// A start removes the spare of the process that died. Its room was held until somebody was served, and
/// on a full disk the quarantine did without.
#[test]
fn what_a_start_removes_makes_room_for_what_it_keeps() {
    let mut image = first_batch_and_a_torn_write();
    image.insert(wal("spare"), vec![0; 4 << 20]);
    let disk = MemDisk::of(&image);
    disk.set_capacity(Some(disk.used()));
    let store = open(&disk);
    let incidents = store.recovery_report().incidents.clone();
    assert_eq!(incidents.len(), 1, "{incidents:?}");
    assert_eq!(incidents[0].verdict, IncidentKind::Tail);
    assert!(incidents[0].quarantined_as.is_some(), "{incidents:?}");
    drop(store);
    let store = open(&disk);
    assert!(store.recovery_report().incidents.is_empty());
    assert_eq!(contents(&store).len(), 1);
}

#[test]
fn a_tail_that_cannot_be_kept_stays_even_where_nothing_else_of_its_segment_does() {
    let image = first_batch_and_a_torn_write();
    let disk = MemDisk::of(&image);
    disk.fail_for_ever(Op::Create, "quarantine", Kind::Enospc);
    disk.fail_for_ever(Op::CreateDir, "quarantine", Kind::Enospc);
    let store = open(&disk);
    assert_eq!(contents(&store).len(), 1);
    let lsn = remember(&store, "new", "x");
    assert!(lsn > 2, "an LSN of the tail was given again");
    drop(store);
    assert_eq!(disk.image()[&wal(FIRST)], image[&wal(FIRST)], "the tail left its place");
    disk.heal();
    for _ in 0..2 {
        let store = open(&disk);
        assert_eq!(contents(&store).len(), 2);
    }
}

#[test]
fn an_interval_holds_while_changes_never_pause() {
    let disk = MemDisk::new();
    let clock = Arc::new(FakeClock::default());
    let durability = Durability::Interval(Duration::from_millis(20));
    let shared: Arc<dyn engram_core::clock::Clock> = clock.clone();
    let store = Store::open(DIR, Options { durability, clock: shared, ..options(&disk) }).unwrap();
    for n in 0..5 {
        clock.advance(Duration::from_millis(25));
        let lsn = remember(&store, &format!("e{n}"), "x");
        assert!(store.wal().synced_lsn >= lsn, "acknowledged and an interval old, not synced");
    }
}

#[test]
fn a_log_that_lost_what_checks_it_goes_on_behind_an_accepted_loss() {
    let disk = MemDisk::new();
    let store = open(&disk);
    let lost_lsn = remember(&store, "e", "x");
    drop(store);
    let mut image = disk.image();
    let bytes = image.get_mut(&wal(FIRST)).unwrap();
    for copy in [20, 4096 + 20] {
        bytes[copy] ^= 1;
    }
    let damaged = bytes.clone();
    let disk = MemDisk::of(&image);
    let refused = Store::open(DIR, options(&disk)).unwrap_err();
    let Error::Missing { first, last, .. } = refused else { panic!("{refused}") };
    assert!((first..=last).contains(&lost_lsn));
    let accept = Options { accept_loss: vec![(first, last)], ..options(&disk) };
    let store = Store::open(DIR, accept).unwrap();
    assert!(contents(&store).is_empty());
    assert_eq!(store.recovery_report().lost_lsns, [[first, last]]);
    assert!(remember(&store, "again", "y") > last, "an LSN was given twice");
    let kept = store.quarantine().unwrap();
    assert_eq!(disk.image()[&Path::new(DIR).join("quarantine").join(&kept[0].name)], damaged);
    drop(store);
    assert_eq!(contents(&open(&disk)).len(), 1);
}

/// Flips a bit in the payload of the frame of this LSN, on the disk itself.
fn rot(disk: &Arc<MemDisk>, lsn: u64) {
    let looked: Arc<dyn engram_core::disk::Disk> = disk.clone();
    let mut found = None;
    inspect::dump(&looked, Path::new(DIR), &mut |frame| {
        if frame.lsn == lsn && frame.kind == "remember" {
            found = Some((frame.file, frame.offset));
        }
        Ok(())
    })
    .unwrap();
    let (file, offset) = found.unwrap();
    disk.flip(&wal(&file), usize::try_from(offset).unwrap() + 70, 0);
}

/// Fills and seals a segment of 1 MiB behind what was remembered before.
fn seal(store: &Store, name: &str) {
    for n in 0..3 {
        remember(store, &format!("{name}{n}"), "f".repeat(400_000));
    }
}

#[test]
fn what_was_forgotten_after_its_newest_version_rotted_stays_forgotten() {
    let disk = MemDisk::new();
    let store = open(&disk);
    remember(&store, "k", "old");
    seal(&store, "a");
    let newest = remember(&store, "k", "new");
    seal(&store, "b");
    rot(&disk, newest);
    assert!(matches!(store.get("s", "k"), Err(Error::Damaged { .. })));
    let page = store.list("s", &ListQuery { limit: Some(1000), ..ListQuery::default() }).unwrap();
    assert_eq!(
        (page.episodes.len(), page.unreadable.len()),
        (6, 1),
        "one bad frame hides no other"
    );
    // Compaction finds the damage, names it, and drops the entry; an older frame is in the log.
    let mut passes = 0;
    while store.compact_from_memory().is_err() {
        passes += 1;
        assert!(passes < 5, "compaction never passes the damage");
    }
    assert!(matches!(store.get("s", "k"), Err(Error::NoEpisode { .. })));
    store.forget("s", "k", Condition::Any).unwrap().wait().unwrap();
    for _ in 0..2 {
        store.compact_from_memory().unwrap();
    }
    drop(store);
    let store = open(&disk);
    assert!(matches!(store.get("s", "k"), Err(Error::NoEpisode { .. })), "it came back");
    assert_eq!(store.incidents().len(), 1);
}

#[test]
fn a_footer_is_written_only_behind_synced_frames() {
    let disk = MemDisk::new();
    let store = open(&disk);
    seal(&store, "a");
    seal(&store, "b");
    let looked: Arc<dyn engram_core::disk::Disk> = disk.clone();
    let mut footers = Vec::new();
    inspect::dump(&looked, Path::new(DIR), &mut |frame| {
        if frame.kind == "footer" {
            footers.push((frame.lsn, frame.synced_lsn));
        }
        Ok(())
    })
    .unwrap();
    assert!(!footers.is_empty());
    assert!(footers.iter().all(|(end, synced)| end == synced), "{footers:?}");
}

#[test]
fn who_closes_second_waits_for_the_first() {
    let disk = MemDisk::new();
    let store = open(&disk);
    for n in 0..100 {
        remember(&store, &format!("e{n}"), "x");
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let store = store.clone();
            let disk = Arc::clone(&disk);
            scope.spawn(move || {
                store.close().unwrap();
                // The mark is on the disk by the time that anybody hears "closed".
                let image = disk.crash(Unsynced::Lost);
                assert_eq!(contents(&open(&image)).len(), 100);
            });
        }
    });
}

#[test]
fn a_missing_last_segment_is_named_and_its_lsns_are_never_given_again() {
    let disk = MemDisk::new();
    let store = open(&disk);
    seal(&store, "a");
    let kept = contents(&store);
    seal(&store, "b");
    let head = store.wal().head_lsn;
    let segments = store.wal().segments;
    drop(store);
    let last = segments.last().unwrap();
    let mut image = disk.image();
    image.remove(&wal(&last.file)).unwrap();
    let disk = MemDisk::of(&image);
    let refused = Store::open(DIR, options(&disk)).unwrap_err();
    let Error::Missing { first, last: to, .. } = refused else { panic!("{refused}") };
    assert_eq!(first, last.first_lsn);
    assert!(to >= head);
    let looked: Arc<dyn engram_core::disk::Disk> = disk.clone();
    let seen = inspect::inspect(&looked, Path::new(DIR)).unwrap();
    assert_eq!(seen.report.incidents.len(), 1, "verify says what a start would");
    let accept = Options { accept_loss: vec![(first, to)], ..options(&disk) };
    let store = Store::open(DIR, accept).unwrap();
    let left = contents(&store);
    assert!(left.keys().all(|key| !kept.contains_key(key) || left[key] == kept[key]));
    assert!(remember(&store, "new", "x") > to);
    drop(store);
    let store = open(&disk);
    assert_eq!(contents(&store).len(), left.len() + 1);
    assert_eq!(store.incidents().len(), 1);
}

#[test]
fn a_log_whose_segments_are_all_gone_is_not_taken_for_a_new_one() {
    let disk = MemDisk::new();
    let store = open(&disk);
    remember(&store, "e", "x");
    drop(store);
    let mut image = disk.image();
    image.retain(|path, _| path.extension().is_none_or(|ending| ending != "seg"));
    let refused = Store::open(DIR, options(&MemDisk::of(&image))).unwrap_err();
    assert!(matches!(refused, Error::Missing { first: 1, .. }), "{refused}");
}

/// A log whose last recovery wrote frames again that no later frame vouches for, and their LSNs.
fn written_again() -> (Arc<MemDisk>, Vec<u64>) {
    let disk = MemDisk::new();
    let store = open(&disk);
    let lsns = (0..3).map(|n| remember(&store, &format!("e{n}"), "x")).collect();
    // Killed: nothing but the frames themselves says that they were synced.
    let disk = disk.crash(Unsynced::Lost);
    drop(store);
    let store = open(&disk);
    assert_eq!(contents(&store).len(), 3);
    let disk = disk.crash(Unsynced::Lost);
    drop(store);
    (disk, lsns)
}

#[test]
fn rot_in_the_last_of_what_a_recovery_wrote_again_is_named_and_its_lsn_not_given_again() {
    // In the header, in the payload, in both, and the whole frame read as zeros.
    for places in [vec![20], vec![70], vec![20, 70], (0..400).collect()] {
        let (disk, lsns) = written_again();
        let last = *lsns.last().unwrap();
        let looked: Arc<dyn engram_core::disk::Disk> = disk.clone();
        let mut found = None;
        inspect::dump(&looked, Path::new(DIR), &mut |frame| {
            found = (frame.lsn == last).then_some((frame.file, frame.offset)).or(found.take());
            Ok(())
        })
        .unwrap();
        let (file, offset) = found.unwrap();
        let mut image = disk.image();
        let bytes = image.get_mut(&wal(&file)).unwrap();
        for &place in &places {
            let byte = &mut bytes[usize::try_from(offset).unwrap() + place];
            *byte = if places.len() > 2 { 0 } else { *byte ^ 1 };
        }
        let disk = MemDisk::of(&image);
        let store = open(&disk);
        let report = store.recovery_report();
        assert_eq!(report.lost_lsns, [[last, last]], "{places:?}");
        assert_eq!(report.failed.damaged, 1, "{places:?}");
        assert_eq!(contents(&store).len(), 2);
        assert!(remember(&store, "new", "y") > last, "{places:?}: an LSN was given twice");
        drop(store);
        let store = open(&disk);
        assert_eq!(contents(&store).len(), 3);
        assert_eq!(store.incidents().len(), 1, "{places:?}: named twice");
    }
}

#[test]
fn lsns_that_a_recovery_skipped_are_not_counted_among_those_that_rot_beside_them_cost() {
    let disk = MemDisk::new();
    let store = open(&disk);
    let first = remember(&store, "first", "x");
    remember(&store, "torn", "y".repeat(2_000));
    // The last one is torn, so its LSN, and those that might have followed, are skipped.
    let mut image = disk.image();
    let (_, bytes) = image.iter_mut().find(|(path, _)| path.ends_with(FIRST)).unwrap();
    let end = bytes.iter().rposition(|&byte| byte == b'y').unwrap();
    bytes[end - 1_000..=end].fill(0);
    drop(store);
    let disk = MemDisk::of(&image);
    let store = open(&disk);
    let next = remember(&store, "next", "z");
    assert!(next > first + 2, "{next}: nothing was skipped");
    remember(&store, "witness", "z");
    drop(store);
    rot(&disk, first);
    let store = open(&disk);
    assert_eq!(store.recovery_report().lost_lsns, [[first, first]]);
    assert_eq!(store.recovery_report().failed.damaged, 1);
    assert_eq!(contents(&store).len(), 2);
}

/// A log of a sealed and an active segment, and its frames.
fn two_segments(closed: bool) -> (Image, Vec<FrameDump>) {
    let disk = MemDisk::new();
    let store = open(&disk);
    seal(&store, "a");
    for n in 0..5 {
        remember(&store, &format!("e{n}"), "x".repeat(1_500));
    }
    if closed {
        store.close().unwrap();
    }
    drop(store);
    let looked: Arc<dyn engram_core::disk::Disk> = disk.clone();
    let mut frames = Vec::new();
    inspect::dump(&looked, Path::new(DIR), &mut |frame| {
        frames.push(frame);
        Ok(())
    })
    .unwrap();
    (disk.image(), frames)
}

/// Loses sectors of a file, and holds a start to the law: refused and named, and what is accepted
/// costs nothing that can be read.
fn check_lost_sectors(image: &Image, vouched: u64, file: &str, first: u64, end: u64) {
    let at = format!("{file}: {first} to {end}");
    let truth = contents(&open(&MemDisk::of(image)));
    let head = open(&MemDisk::of(image)).wal().head_lsn;
    let disk = MemDisk::of(image);
    disk.lose_sectors(&wal(file), first, end);
    let mut accepted: Vec<(u64, u64)> = Vec::new();
    let store = loop {
        let accept = Options { accept_loss: accepted.clone(), ..options(&disk) };
        match Store::open(DIR, accept) {
            Ok(store) => break store,
            Err(Error::Unreadable { first, last, .. } | Error::Missing { first, last, .. }) => {
                assert!(first <= last, "{at}: {first} to {last}");
                assert!(!accepted.contains(&(first, last)), "{at}: accepted in vain: {accepted:?}");
                accepted.push((first, last));
            }
            Err(e) => panic!("{at}: {e}"),
        }
    };
    let named = |lsn: u64| accepted.iter().any(|&(first, last)| (first..=last).contains(&lsn));
    let there = contents(&store);
    for (key, (lsn, episode)) in &truth {
        match there.get(key) {
            Some((_, back)) => assert_eq!(back, episode, "{at}"),
            // Of the very last batch nothing but its own frames says that it was synced.
            None => assert!(named(*lsn) || *lsn > vouched, "{at}: {lsn} is gone: {accepted:?}"),
        }
    }
    assert!(there.keys().all(|key| truth.contains_key(key)), "{at}: invented");
    assert!(remember(&store, "new", "y") > head, "{at}: an LSN was given twice");
    let (left, incidents) = (contents(&store), store.incidents().len());
    drop(store);
    // It goes on where the device never gets better; and the second start finds nothing new.
    let accept = Options { accept_loss: accepted.clone(), ..options(&disk) };
    let store = Store::open(DIR, accept).unwrap();
    assert_eq!(contents(&store), left, "{at}");
    // A tail that the quarantine could not take in, for it cannot be read whole, stays where it is;
    // behind the cut it is named once more, as unreadable.
    let tails = store.incidents().iter().filter(|i| i.verdict == IncidentKind::Tail).count();
    let now = store.incidents().len();
    assert!(now == incidents || now == incidents + tails, "{at}: {incidents} became {now}");
}

#[test]
fn what_the_device_does_not_give_is_refused_and_named_and_costs_no_more_than_was_accepted() {
    for closed in [false, true] {
        let (image, frames) = two_segments(closed);
        let mut checked = 0;
        for FrameDump { file, offset, bytes, .. } in &frames {
            let (first, end) = (offset, offset + bytes);
            // The sector that the frame begins in, the one it ends in, and from it to the file's end.
            let all = image[&wal(file)].len() as u64;
            for (from, to) in [(*first, first + 1), (end - 1, end), (*first, all)] {
                let (from, to) = (from / 512 * 512, to.next_multiple_of(512).min(all));
                // What can still be read says what was synced. Readers work around blocks of 4 KiB.
                let block = from / 4096 * 4096..to.next_multiple_of(4096);
                let hit = |f: &&FrameDump| {
                    f.file == *file && f.offset < block.end && block.start < f.offset + f.bytes
                };
                let left = frames.iter().filter(|frame| !hit(frame));
                let vouched = left.map(|frame| frame.synced_lsn).max().unwrap();
                check_lost_sectors(&image, vouched, file, from, to);
                checked += 1;
            }
        }
        assert!(checked > 20, "{checked}");
    }
}

/// Recovery judged a segment by its name alone: a renamed one could take another's place, have
/// that one removed as obsolete, or make compaction run for ever.
#[test]
fn a_segment_under_another_name_is_refused_and_nothing_is_changed() {
    let disk = MemDisk::new();
    drop(open(&disk));
    let store = open(&disk);
    remember(&store, "e", "x");
    let image = disk.crash(Unsynced::Kept).image();
    for other in
        ["00000000000000000007.seg", "00000000000000000001-00000000000000000009-000001.seg"]
    {
        let mut image = image.clone();
        let bytes = image[&wal(FIRST)].clone();
        image.insert(wal(other), bytes);
        let disk = MemDisk::of(&image);
        let refused = Store::open(DIR, options(&disk)).unwrap_err();
        assert!(matches!(&refused, Error::Misnamed { says, .. } if says == FIRST), "{refused}");
        assert!(refused.to_string().contains(other), "{refused}");
        let after = disk.image();
        assert!(image.iter().all(|(path, bytes)| after.get(path) == Some(bytes)));
    }
}

/// The copy for the quarantine was read in whole blocks, and a block that the file's end cut short
/// was kept as zeros.
#[test]
fn what_is_left_of_a_header_that_the_files_end_cuts_is_kept_before_it_is_written_again() {
    let disk = MemDisk::new();
    let store = open(&disk);
    remember(&store, "e", "x");
    let mut image = disk.crash(Unsynced::Kept).image();
    image.get_mut(&wal(FIRST)).unwrap().truncate(4096 + 40);
    let was = image[&wal(FIRST)][4096..].to_vec();
    let disk = MemDisk::of(&image);
    drop(open(&disk));
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let kept: Vec<Vec<u8>> = disk
        .image()
        .into_iter()
        .filter(|(path, _)| path.parent().is_some_and(|dir| dir.ends_with("quarantine")))
        .filter(|(path, _)| name(path).contains("-at-4096-512-") && !name(path).ends_with("json"))
        .map(|(_, bytes)| bytes)
        .collect();
    assert_eq!(kept.len(), 1, "{:?}", disk.image().keys().collect::<Vec<_>>());
    assert_eq!(kept[0][..40], was);
}

#[test]
fn of_two_versions_in_one_item_of_the_quarantine_the_newer_one_comes_back() {
    let disk = MemDisk::new();
    let store = open(&disk);
    remember(&store, "kept", "acknowledged");
    let drafts = ["torn", "old", "new"].map(|what| {
        let id = if what == "torn" { what } else { "e" };
        Ok(support::draft(id, what))
    });
    store.remember_batch("s", drafts.into(), Condition::Any).unwrap().wait().unwrap();
    let mut image = disk.crash(Unsynced::Kept).image();
    let frames = frames_of(&MemDisk::of(&image));
    let torn = frames.iter().find(|frame| frame.id.as_deref() == Some("torn")).unwrap();
    let last = frames.iter().rfind(|frame| frame.kind == "remember").unwrap();
    let log = image.get_mut(&wal(FIRST)).unwrap();
    log[usize::try_from(torn.offset).unwrap()..][..80].fill(0);
    log[usize::try_from(last.offset + last.bytes).unwrap()..].fill(0);
    let store = open(&MemDisk::of(&image));
    let item = store.quarantine().unwrap().remove(0);
    assert_eq!(item.restorable.len(), 2);
    assert_eq!(store.quarantine_restore(&item.name).unwrap(), (1, 1));
    assert_eq!(store.get("s", "e").unwrap().episode.what, "new");
}

/// Two copies of a lost file that turn up one after the other are both kept.
#[test]
fn a_file_that_turns_up_takes_no_other_items_place_in_the_quarantine() {
    let disk = MemDisk::new();
    let store = open(&disk);
    seal(&store, "a");
    remember(&store, "b", "x");
    store.close().unwrap();
    drop(store);
    let mut image = disk.image();
    let lost = image.remove(&wal(FIRST)).unwrap();
    let disk = MemDisk::of(&image);
    let Err(Error::Missing { first, last, .. }) = Store::open(DIR, options(&disk)) else {
        panic!("it is not missed");
    };
    let accept = Options { accept_loss: vec![(first, last)], ..options(&disk) };
    drop(Store::open(DIR, accept).unwrap());
    let mut image = disk.image();
    let mut other = lost.clone();
    other[9000] ^= 1;
    for copy in [&lost, &other] {
        image.insert(wal(FIRST), copy.clone());
        let disk = MemDisk::of(&image);
        drop(open(&disk));
        image = disk.image();
    }
    let kept = |copy: &Vec<u8>| {
        image.iter().any(|(path, bytes)| path.starts_with("/data/quarantine") && bytes == copy)
    };
    assert!(kept(&lost) && kept(&other));
}

/// The system lists a link with the length of its own text: the newest segment looked empty, and another one
/// took its place.
#[test]
fn a_segment_that_was_moved_and_linked_to_is_the_segment() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let whole = || Options { compact_automatically: false, ..Options::default() };
    let store = Store::open(&data, whole()).unwrap();
    let lsns = ["a", "b", "c"].map(|id| remember(&store, id, "text"));
    drop(store);
    let (file, elsewhere) = (data.join("wal").join(FIRST), dir.path().join("elsewhere"));
    engram_core::disk::real::RealDisk.rename(&file, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
    let store = Store::open(&data, whole()).unwrap();
    assert_eq!(contents(&store).len(), 3);
    assert!(remember(&store, "d", "text") > lsns[2]);
    store.close().unwrap();
    drop(store);
    assert_eq!(contents(&Store::open(&data, whole()).unwrap()).len(), 4);
}

/// What a kill leaves of a store with three episodes of this text, but for what was made ahead.
fn killed_without_ballast(what: &str) -> Arc<MemDisk> {
    let disk = MemDisk::new();
    let store = open(&disk);
    for n in 0..3 {
        remember(&store, &format!("e{n}"), what);
    }
    let mut image = disk.crash(Unsynced::Kept).image();
    image.retain(|path, _| !path.ends_with("ballast") && !path.ends_with("spare"));
    MemDisk::of(&image)
}

/// Frames may end in zeros, and the room that is given back may still be too little.
#[test]
fn what_is_given_back_on_a_full_disk_ends_behind_the_last_frame() {
    let disk = killed_without_ballast("text\0\0\0\0");
    disk.set_capacity(Some(disk.used() + 64 * 1024 - (1 << 20)));
    Store::open(DIR, options(&disk)).unwrap_err();
    let given_back = disk.image()[&wal(FIRST)].len();
    assert!(given_back < 1 << 20, "{given_back}");
    // There is room again.
    let store = open(&MemDisk::of(&disk.image()));
    assert_eq!(contents(&store).len(), 3);
    assert_eq!(store.get("s", "e2").unwrap().episode.what, "text\0\0\0\0");
}

#[test]
fn a_full_disk_without_ballast_opens_by_the_room_that_the_last_segment_does_not_use() {
    let disk = killed_without_ballast("text");
    disk.set_capacity(Some(disk.used() + 64 * 1024));
    let store = open(&disk);
    assert_eq!(contents(&store).len(), 3);
    store.forget("s", "e0", Condition::Any).unwrap().wait().unwrap();
    drop(store);
    assert_eq!(contents(&open(&disk)).len(), 2);
}

#[test]
fn bytes_behind_the_end_of_a_segment_are_damage_to_strict_recovery_and_to_a_look() {
    let disk = MemDisk::new();
    let store = open(&disk);
    seal(&store, "a");
    store.close().unwrap();
    drop(store);
    let mut image = disk.image();
    image.get_mut(&wal(FIRST)).unwrap().extend([0, 0, 7, 0]);
    let disk = MemDisk::of(&image);
    let looked: Arc<dyn engram_core::disk::Disk> = disk.clone();
    let seen = inspect::inspect(&looked, Path::new(DIR)).unwrap();
    assert_eq!(seen.report.incidents.len(), 1, "{:?}", seen.report);
    let strict = Options { recovery: RecoveryMode::Strict, ..options(&disk) };
    let refused = Store::open(DIR, strict).unwrap_err();
    assert!(matches!(refused, Error::Strict { count: 1, .. }), "{refused}");
    assert_eq!(disk.image()[&wal(FIRST)], image[&wal(FIRST)]);
    let store = open(&disk);
    let ids = |incidents: Vec<Incident>| incidents.into_iter().map(|i| i.id).collect::<Vec<_>>();
    assert_eq!(ids(store.incidents()), ids(seen.report.incidents));
}
