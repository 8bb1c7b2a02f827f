//! Cues that break a limit, or do not fit the space, get a typed error, and nothing is changed by
//! them: not the log, not the spaces, not the files, not what a good cue is answered.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helper fails the test")]

mod support;

use std::fmt::Write as _;
use std::sync::Arc;

use engram_core::episode::limits;
use engram_core::recall::{Cue, Weights};
use engram_core::store::Drive;
use engram_core::{Condition, Draft, Error, ErrorKind, Options, Store, Timestamp};

use support::disk::{Image, MemDisk};
use support::{DIR, contents, draft, remember};

fn world() -> (Arc<MemDisk>, Store) {
    let disk = MemDisk::new();
    let options = Options { drive: Drive::Steps, ..support::options(&disk) };
    let store = Store::open(DIR, options).unwrap();
    remember(&store, "tea", "ann made green tea");
    remember(&store, "rain", "it rained all day");
    let north = Draft { embedding: vec![0.0, 1.0], ..draft("north", "the north") };
    store.remember("given", north, Condition::Any).unwrap().wait().unwrap();
    (disk, store)
}

/// All that anyone can see of a memory.
fn seen(disk: &MemDisk, store: &Store) -> (Image, String) {
    let mut told = String::new();
    for (space, cue) in [
        ("s", Cue { explain: true, ..Cue::of("green tea") }),
        ("given", Cue { explain: true, embedding: vec![1.0, 1.0], ..Cue::default() }),
    ] {
        let weights = Weights { recency: 0.0, ..Weights::default() };
        let answer = store.recall(space, &Cue { weights, ..cue }).unwrap();
        writeln!(told, "{answer:?}").unwrap();
    }
    // Last: the figures of an index come with the first recall.
    let (contents, spaces, head) = (contents(store), store.spaces(), store.wal().head_lsn);
    write!(told, "{contents:?} {spaces:?} {head:?}").unwrap();
    (disk.image(), told)
}

fn at(second: i64) -> Option<Timestamp> {
    Timestamp::from_second(second).ok()
}

fn weighing(weights: Weights) -> Cue {
    Cue { weights, ..Cue::of("tea") }
}

#[test]
fn a_cue_that_breaks_a_limit_is_refused_by_its_field_and_changes_nothing() {
    let (disk, store) = world();
    let before = seen(&disk, &store);
    let with = |change: &dyn Fn(&mut Cue)| {
        let mut cue = Cue::of("tea");
        change(&mut cue);
        cue
    };
    let mut cases: Vec<(Cue, &str)> = vec![
        (Cue::default(), "cue"),
        (Cue { limit: Some(5), explain: true, ..Cue::default() }, "cue"),
        (Cue::of(""), "text"),
        (Cue::of("x".repeat(limits::CUE_BYTES_MAX + 1)), "text"),
        (Cue::of("x".repeat(1 << 20)), "text"),
        (with(&|cue| cue.limit = Some(0)), "limit"),
        (with(&|cue| cue.limit = Some(limits::LIST_MAX + 1)), "limit"),
        (with(&|cue| cue.limit = Some(usize::MAX)), "limit"),
        (with(&|cue| cue.embedding = vec![0.5; limits::DIMENSIONS_MAX + 1]), "embedding"),
        (with(&|cue| (cue.from, cue.to) = (at(2), at(1))), "to"),
        (with(&|cue| cue.place = Some("p".repeat(limits::WHERE_BYTES_MAX + 1))), "where"),
        (with(&|cue| cue.who = vec!["w".into(); limits::WHO_MAX + 1]), "who"),
        (with(&|cue| cue.who = vec!["w".repeat(limits::WHO_BYTES_MAX + 1)]), "who"),
        (with(&|cue| cue.who = vec!["ann".into(), String::new()]), "who"),
    ];
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        cases.push((with(&|cue| cue.embedding = vec![1.0, bad]), "embedding"));
        let even = Weights::default();
        cases.push((weighing(Weights { vector: bad, ..even }), "weights.vector"));
        cases.push((weighing(Weights { text: bad, ..even }), "weights.text"));
        cases.push((weighing(Weights { recency: bad, ..even }), "weights.recency"));
        cases.push((weighing(Weights { confidence: bad, ..even }), "weights.confidence"));
    }
    for bad in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        cases.push((with(&|cue| cue.min_confidence = Some(bad)), "min_confidence"));
    }
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(limits::METADATA_BYTES_MAX));
    for bad in ["", "{", "[]", "1", "null", "{\"a\":}", "{\"a\":1}}", &deep, &large] {
        cases.push((with(&|cue| cue.metadata = Some(bad.into())), "metadata"));
    }
    for (cue, field) in cases {
        for space in ["s", "given", "nowhere"] {
            match store.recall(space, &cue) {
                Err(Error::Limit { field: named, .. }) => assert_eq!(named, field, "{cue:.200?}"),
                other => panic!("{field}: {other:?}"),
            }
        }
        let after = seen(&disk, &store);
        assert_eq!(after.1, before.1, "{field}");
        assert!(after.0 == before.0, "{field} changed files");
    }
}

#[test]
fn a_cue_that_does_not_fit_its_space_names_both_and_changes_nothing() {
    let (disk, store) = world();
    let before = seen(&disk, &store);
    let embedding = |length: usize| Cue { embedding: vec![0.5; length], ..Cue::default() };
    for (length, text) in [(1, None), (3, None), (3, Some("tea")), (limits::DIMENSIONS_MAX, None)] {
        let cue = Cue { text: text.map(str::to_owned), ..embedding(length) };
        let refused = store.recall("given", &cue).unwrap_err();
        let found = u32::try_from(length).unwrap();
        let same = matches!(&refused, Error::Dimension { space, expected: 2, found: told, .. }
            if space == "given" && *told == found);
        assert!(same, "{refused:?}");
        let refused = store.recall("s", &cue).unwrap_err();
        let same = matches!(&refused, Error::NoVectors { space, found: told }
            if space == "s" && *told == found);
        assert!(same, "{refused:?}");
    }
    for space in ["nowhere", "", "Not a name", "s/", "given "] {
        for cue in [Cue::of("tea"), embedding(2), Cue { from: at(0), ..Cue::default() }] {
            let refused = store.recall(space, &cue).unwrap_err();
            assert!(matches!(&refused, Error::NoSpace { space: told } if told == space));
            assert_eq!(refused.kind(), ErrorKind::NotFound);
        }
    }
    assert!(seen(&disk, &store) == before, "a refusal changed something");
    let first = store.remember("nowhere", Draft::of("made on write"), Condition::Any);
    first.unwrap().wait().unwrap();
    assert_eq!(store.recall("nowhere", &Cue::of("write")).unwrap().episodes.len(), 1);
}
