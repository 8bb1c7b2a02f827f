//! The memory's public face, on a real disk.

use engram_core::store::{Condition, ListQuery, Options, Store};
use engram_core::{Draft, Error};

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
