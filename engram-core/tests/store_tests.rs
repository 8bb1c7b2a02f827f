//! The memory's public face.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use engram_core::disk::Disk;
use engram_core::inspect::inspect;
use engram_core::storage::wal::segment::FRAMES_START;
use engram_core::storage::wal::segments::OPEN_FILES_MAX;
use engram_core::store::{Condition, ListQuery, Options, Scale, Store};
use engram_core::{Draft, Error, Timestamp};

use support::disk::{MemDisk, Op};
use support::{DIR, draft, options, remember, wal};

#[test]
fn what_is_remembered_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options::default()).unwrap();
    let mut lsns = Vec::new();
    for n in 0..100 {
        let draft = Draft { id: Some(format!("e{n}")), ..Draft::of(format!("text {n}")) };
        let done = store.remember("s", draft, Condition::Any).unwrap().wait().unwrap();
        assert!(!done.replaced);
        lsns.push(done.lsn);
    }
    assert!(lsns.is_sorted());
    store.forget("s", "e7", Condition::Any).unwrap().wait().unwrap();
    assert_eq!(store.get("s", "e5").unwrap().episode.what, "text 5");
    assert!(matches!(store.get("s", "e7"), Err(Error::NoEpisode { .. })));
    store.close().unwrap();
    drop(store);
    for _ in 0..3 {
        let store = Store::open(dir.path(), Options::default()).unwrap();
        let report = store.recovery_report();
        assert_eq!(report.recovered, 101, "{report:?}");
        assert_eq!(report.failed.total(), 0);
        assert!(report.incidents.is_empty());
        for n in 0..100 {
            let got = store.get("s", &format!("e{n}"));
            if n == 7 {
                assert!(matches!(got, Err(Error::NoEpisode { .. })));
            } else {
                assert_eq!(got.unwrap().episode.what, format!("text {n}"));
            }
        }
        let page = store.list("s", &ListQuery::default()).unwrap();
        assert_eq!(page.episodes.len(), 50);
    }
}

#[test]
fn an_episode_larger_than_a_segment_gets_a_segment_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let options = || Options { segment_bytes: 1 << 20, ..Options::default() };
    let store = Store::open(dir.path(), options()).unwrap();
    let what = "x".repeat(1 << 20);
    for n in 0..5 {
        let draft = Draft { id: Some(format!("big{n}")), ..Draft::of(what.clone()) };
        store.remember("s", draft, Condition::Any).unwrap().wait().unwrap();
        let small = Draft { id: Some(format!("small{n}")), ..Draft::of("y") };
        store.remember("s", small, Condition::Any).unwrap().wait().unwrap();
    }
    drop(store);
    let store = Store::open(dir.path(), options()).unwrap();
    assert_eq!(store.recovery_report().recovered, 10);
    assert_eq!(store.get("s", "big4").unwrap().episode.what, what);
}

#[test]
fn a_log_of_many_segments_holds_few_of_them_open() {
    /// The head, the lock, the spare, the ballast, what a start reads or gives back.
    const OTHERS_MAX: usize = 16;
    let scale = Scale { segment_bytes_min: 8 << 10, ..Scale::default() };
    let options = |disk| Options { scale, segment_bytes: 8 << 10, ..options(disk) };
    let disk = MemDisk::new();
    let store = Store::open(DIR, options(&disk)).unwrap();
    let segments = OPEN_FILES_MAX + 50;
    for n in 0..segments {
        remember(&store, &format!("e{n}"), format!("{n:6000}"));
    }
    let files = store.wal().segments;
    assert!(files.len() >= segments);
    store.close().unwrap();
    assert!(disk.most_open() <= OPEN_FILES_MAX + OTHERS_MAX, "{}", disk.most_open());

    // Damaged where a start does not hold the file open.
    let disk = MemDisk::of(&disk.image());
    disk.flip(&wal(&files[0].file), usize::try_from(FRAMES_START).unwrap() + 1000, 3);
    let looked = Arc::clone(&disk) as Arc<dyn Disk>;
    assert_eq!(inspect(&looked, Path::new(DIR)).unwrap().report.failed.total(), 1);
    // Where a process serves the log its compaction may remove names during a look.
    assert!(disk.most_open() >= files.len(), "{}", disk.most_open());
    let disk = MemDisk::of(&disk.image());
    let store = Store::open(DIR, options(&disk)).unwrap();
    assert_eq!(store.recovery_report().failed.total(), 1);
    assert!(store.recovery_report().incidents[0].quarantined_as.is_some());
    assert!(matches!(store.get("s", "e0"), Err(Error::NoEpisode { .. })));
    for n in 1..segments {
        assert_eq!(store.get("s", &format!("e{n}")).unwrap().episode.what, format!("{n:6000}"));
    }
    assert!(disk.most_open() <= OPEN_FILES_MAX + OTHERS_MAX, "{}", disk.most_open());
}

fn at_minute(id: &str, minute: u64, what: &str) -> Draft {
    let when = Timestamp::UNIX_EPOCH + Duration::from_secs(60 * minute);
    Draft { when: Some(when), ..draft(id, what) }
}

#[test]
fn an_episode_that_is_replaced_while_a_page_is_read_is_not_missing_from_it() {
    // Replaced while the first of the page is read: in its place, or moved in time.
    // Nobody else reads: the first read is the page's.
    let alone = |disk: &Arc<MemDisk>| {
        let options = Options { index_in_background: false, ..options(disk) };
        Store::open(DIR, options).unwrap()
    };
    for moved_to in [2, 5, 0] {
        let disk = MemDisk::new();
        let store = alone(&disk);
        for (minute, id) in [(1, "a"), (2, "b"), (3, "c")] {
            let kept = store.remember("s", at_minute(id, minute, "old"), Condition::Any);
            kept.unwrap().wait().unwrap();
        }
        let (reads, writer) = (AtomicU64::new(0), store.clone());
        disk.observe(move |call| {
            if call.op == Op::Read && reads.fetch_add(1, Ordering::SeqCst) == 0 {
                let new = writer.remember("s", at_minute("b", moved_to, "new"), Condition::Any);
                new.unwrap().wait().unwrap();
            }
        });
        let page = store.list("s", &ListQuery::default()).unwrap();
        disk.observe(|_| {});
        let ids: String = page.episodes.iter().map(|stored| &*stored.episode.id).collect();
        assert_eq!(ids, "cba", "b moved to {moved_to}");
        let b = page.episodes.iter().find(|stored| stored.episode.id == "b").unwrap();
        assert_eq!(b.episode.what, "new");
    }
    // One that leaves the range that was asked for leaves the page.
    let disk = MemDisk::new();
    let store = alone(&disk);
    for (minute, id) in [(1, "a"), (2, "b")] {
        store.remember("s", at_minute(id, minute, "old"), Condition::Any).unwrap().wait().unwrap();
    }
    let (reads, writer) = (AtomicU64::new(0), store.clone());
    disk.observe(move |call| {
        if call.op == Op::Read && reads.fetch_add(1, Ordering::SeqCst) == 0 {
            let new = writer.remember("s", at_minute("a", 9, "new"), Condition::Any);
            new.unwrap().wait().unwrap();
        }
    });
    let query = ListQuery { to: at_minute("", 3, "").when, ..ListQuery::default() };
    let page = store.list("s", &query).unwrap();
    disk.observe(|_| {});
    let ids: Vec<&str> = page.episodes.iter().map(|stored| &*stored.episode.id).collect();
    assert_eq!(ids, ["b"]);
}
