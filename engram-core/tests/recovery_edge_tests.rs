//! Recovery where two things go wrong at once.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use engram_core::store::{Durability, Options, Store};
use engram_core::{Error, inspect};
use support::disk::{Image, Kind, MemDisk, Op, Unsynced};
use support::{DIR, FakeClock, contents, open, options, remember, wal};

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
