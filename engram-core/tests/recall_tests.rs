//! Laws of recall, over the public API.

#![expect(clippy::disallowed_methods, reason = "damages files as no caller of the engine would")]

use std::collections::BTreeSet;
use std::path::Path;

use engram_core::recall::{Cue, Recollection, Weights};
use engram_core::store::Pending;
use engram_core::{Condition, Draft, Error, Options, Store, Timestamp};

fn open(dir: &Path) -> Store {
    Store::open(dir, Options::default()).expect("it opens")
}

fn remember(store: &Store, id: &str, what: &str) {
    keep(store, Draft { id: Some(id.into()), ..Draft::of(what) });
}

fn keep(store: &Store, draft: Draft) {
    store.remember("s", draft, Condition::Any).and_then(Pending::wait).expect("kept");
}

fn forget(store: &Store, id: &str) {
    store.forget("s", id, Condition::Any).and_then(Pending::wait).expect("forgotten");
}

fn recall(store: &Store, cue: &Cue) -> Recollection {
    let answer = store.recall("s", cue).expect("recalled");
    assert_eq!(answer.pending, 0);
    assert!(answer.unreadable.is_empty(), "{:?}", answer.unreadable);
    answer
}

fn ids(answer: &Recollection) -> Vec<&str> {
    answer.episodes.iter().map(|one| one.stored.episode.id.as_str()).collect()
}

fn at(second: i64) -> Option<Timestamp> {
    Timestamp::from_second(second).ok()
}

const EVENTS: [(&str, &str); 6] = [
    ("hotel", "We found a cheap hotel near the station in Lisbon last spring."),
    ("dinner", "Dinner with Maria was expensive, the fish was cold."),
    ("flight", "The flight to Tokyo was delayed by four hours."),
    ("dog", "The neighbour's dog barked all night."),
    ("deploy", "The deployment failed because the certificate had expired."),
    ("胡同", "我们在北京的胡同里散步"),
];

fn with_events(dir: &Path) -> Store {
    let store = open(dir);
    for (id, what) in EVENTS {
        remember(&store, id, what);
    }
    store
}

#[test]
fn what_was_remembered_is_recalled_at_once_by_words_and_by_meaning() {
    let dir = tempfile::tempdir().unwrap();
    let store = with_events(dir.path());
    for (cue, id) in [
        ("what was said about the cheap hotel last spring?", "hotel"),
        ("an inexpensive place to sleep", "hotel"),
        ("the puppy kept us awake", "dog"),
        ("\"four hours\"", "flight"),
        ("certif*", "deploy"),
        ("北京", "胡同"),
    ] {
        let answer = recall(&store, &Cue::of(cue));
        assert_eq!(ids(&answer)[0], id, "{cue}: {:?}", answer.episodes);
    }
}

#[test]
fn the_parts_of_a_score_add_up_and_a_weight_of_zero_switches_a_signal_off() {
    let dir = tempfile::tempdir().unwrap();
    let store = with_events(dir.path());
    let only = |vector, text| Weights { vector, text, recency: 0.0, confidence: 0.0 };
    for weights in [Weights::default(), only(1.0, 0.0), only(0.0, 1.0), only(2.0, 3.0)] {
        let answer = recall(&store, &Cue { weights, ..Cue::of("a cheap hotel") });
        assert!(!answer.episodes.is_empty());
        for one in &answer.episodes {
            let part = |signal: Option<engram_core::recall::Signal>| signal.map_or(0.0, |s| s.part);
            let sum = part(one.why.vector) + part(one.why.text);
            assert!((one.score - sum - one.why.recency - one.why.confidence).abs() < 1e-5);
            assert!(weights.vector > 0.0 || one.why.vector.is_none());
            assert!(weights.text > 0.0 || one.why.text.is_none());
        }
        let scores: Vec<f32> = answer.episodes.iter().map(|one| one.score).collect();
        assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    }
    let nothing = Cue { weights: only(0.0, 0.0), ..Cue::of("a cheap hotel") };
    assert!(recall(&store, &nothing).episodes.is_empty());
}

#[test]
fn each_signal_is_asked_of_what_only_the_other_one_found() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let animals = ["puppy", "hound", "terrier", "kitten", "horse"];
    let drafts = (0..600).map(|n: usize| {
        let animal = animals[n % animals.len()];
        let more = "and on ".repeat(n % 7);
        Ok(Draft::of(format!("the {animal} ran on {more}to the gate, day {n}")))
    });
    store.remember_batch("s", drafts.collect(), Condition::Any).unwrap().wait().unwrap();
    let answer =
        recall(&store, &Cue { limit: Some(100), ..Cue::of("did the puppy run to a gate?") });
    assert_eq!(answer.episodes.len(), 100);
    for one in &answer.episodes {
        assert!(one.why.vector.is_some() && one.why.text.is_some(), "{:?}", one.why);
    }
}

#[test]
fn filters_never_starve_the_answer() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let drafts = (0..2_000).map(|n: i64| {
        Ok(Draft {
            id: Some(format!("{n}")),
            who: if n % 200 == 7 { vec!["ann".into(), "bob".into()] } else { vec!["bob".into()] },
            place: (n % 200 == 8).then(|| "Rome".into()),
            metadata: Some(format!(r#"{{"n": {}, "odd": {}}}"#, n % 200, n % 2 == 1)),
            confidence: Some(if n % 200 == 9 { 0.9 } else { 0.3 }),
            when: at(n),
            ..Draft::of(format!("the weather was fine on day {n} of the journey"))
        })
    });
    let kept = store.remember_batch("s", drafts.collect(), Condition::Any).unwrap().wait().unwrap();
    assert_eq!(kept.accepted, 2_000);
    let base = || Cue { limit: Some(10), ..Cue::of("what about the stormy sea?") };
    for (cue, rest) in [
        (Cue { who: vec!["bob".into(), "ann".into()], ..base() }, 7),
        (Cue { place: Some("Rome".into()), ..base() }, 8),
        (Cue { metadata: Some(r#"{"n": 11.0, "odd": true}"#.into()), ..base() }, 11),
        (Cue { min_confidence: Some(0.9), ..base() }, 9),
    ] {
        for cue in [cue.clone(), Cue { text: None, ..cue }] {
            let answer = recall(&store, &cue);
            let all: BTreeSet<i64> =
                answer.episodes.iter().map(|one| one.stored.episode.when.as_second()).collect();
            assert_eq!(all.len(), 10, "{cue:?}");
            assert!(all.iter().all(|n| n % 200 == rest), "{cue:?} {all:?}");
        }
    }
    let range = Cue { from: at(500), to: at(510), ..base() };
    let answer = recall(&store, &range);
    assert_eq!(answer.episodes.len(), 10);
    assert!(
        answer.episodes.iter().all(|o| (500..510).contains(&o.stored.episode.when.as_second()))
    );
    let nobody = Cue { who: vec!["eve".into()], ..base() };
    assert!(recall(&store, &nobody).episodes.is_empty());
}

#[test]
fn without_text_the_newest_come_first() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in [3, 1, 4, 1, 5, 9, 2, 6] {
        keep(&store, Draft { when: at(n), who: vec!["ann".into()], ..Draft::of(format!("{n}")) });
    }
    let newest = |cue: Cue| -> Vec<i64> {
        let answer = recall(&store, &Cue { limit: Some(4), ..cue });
        answer.episodes.iter().map(|one| one.stored.episode.when.as_second()).collect()
    };
    assert_eq!(newest(Cue { from: at(1), ..Cue::default() }), [9, 6, 5, 4]);
    assert_eq!(newest(Cue { from: at(2), to: at(6), ..Cue::default() }), [5, 4, 3, 2]);
    assert_eq!(newest(Cue { who: vec!["ann".into()], ..Cue::default() }), [9, 6, 5, 4]);
    assert_eq!(newest(Cue { from: at(7), to: at(8), ..Cue::default() }), [0; 0]);
}

#[test]
fn what_was_forgotten_or_replaced_never_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = with_events(dir.path());
    recall(&store, &Cue::of("hotel"));
    forget(&store, "hotel");
    remember(&store, "dog", "The cat slept.");
    for cue in ["cheap hotel in Lisbon", "a dog barked all night"] {
        let answer = recall(&store, &Cue::of(cue));
        assert!(!ids(&answer).contains(&"hotel"), "{cue}");
        assert!(answer.episodes.iter().all(|one| !one.stored.episode.what.contains("barked")));
    }
    assert_eq!(ids(&recall(&store, &Cue::of("cat")))[0], "dog");
    store.forget_space("s").unwrap().wait().unwrap();
    assert!(matches!(store.recall("s", &Cue::of("cat")), Err(Error::NoSpace { .. })));
    remember(&store, "new", "A new beginning.");
    assert_eq!(ids(&recall(&store, &Cue::of("cat hotel dog fish"))), ["new"]);
}

#[test]
fn vectors_that_callers_give_are_compared_in_full_precision() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    remember(&store, "text", "no vector of its own");
    assert!(recall(&store, &Cue::of("vector")).episodes[0].why.vector.is_some());
    let cue = |embedding: Vec<f32>| Cue { embedding, limit: Some(5), ..Cue::default() };
    let refused = store.recall("s", &cue(vec![1.0, 0.0]));
    assert!(matches!(refused, Err(Error::NoVectors { found: 2, .. })), "{refused:?}");
    // So close to each other that eight bits cannot tell them apart.
    for n in 0..200u16 {
        let angle = f32::from(n) * 1e-4;
        let embedding = vec![angle.cos(), angle.sin(), 0.0];
        keep(&store, Draft { id: Some(format!("{n}")), embedding, ..Draft::of("near") });
    }
    let answer = recall(&store, &cue(vec![2.0, 0.0, 0.0]));
    let similarities: Vec<f32> =
        answer.episodes.iter().map(|one| one.why.vector.unwrap().value).collect();
    assert_eq!(answer.episodes.len(), 5);
    assert!(similarities.iter().all(|&s| s > 0.999_9), "{similarities:?}");
    let refused = store.recall("s", &cue(vec![1.0, 0.0]));
    assert!(matches!(refused, Err(Error::Dimension { expected: 3, found: 2, .. })));
    // Text is no longer embedded: the space has vectors of another model.
    let answer = recall(&store, &Cue::of("vector"));
    assert_eq!(ids(&answer), ["text"]);
    assert!(answer.episodes[0].why.vector.is_none());
}

#[test]
fn a_restart_changes_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let cues = ["cheap hotel", "delayed", "an animal", "北京"];
    let answers = |store: &Store| -> Vec<Vec<(String, Option<f32>)>> {
        let one = |cue: &&str| {
            let answer = recall(store, &Cue::of(*cue));
            let of = |one: &engram_core::recall::Recalled| {
                (one.stored.episode.id.clone(), one.why.text.map(|signal| signal.value))
            };
            answer.episodes.iter().map(of).collect()
        };
        cues.iter().map(one).collect()
    };
    let before = answers(&with_events(dir.path()));
    assert_eq!(answers(&open(dir.path())), before);
}

#[test]
fn of_what_is_said_again_and_again_the_newest_come_first() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    // Not in the order of time, and in places that others had before.
    for n in 0..100 {
        remember(&store, &format!("former{n}"), "something else");
    }
    for n in 0..50 {
        forget(&store, &format!("former{}", n * 2));
    }
    for n in 0..700_i64 {
        let (id, when) = (format!("e{n}"), at(n * 379 % 700));
        keep(&store, Draft { id: Some(id), when, ..Draft::of("good morning everybody") });
    }
    let expected: Vec<String> = (0..5)
        .map(|place| (0..700).find(|n| n * 379 % 700 == 699 - place).unwrap())
        .map(|n| format!("e{n}"))
        .collect();
    let (words, meaning) = (
        Weights { vector: 0.0, ..Weights::default() },
        Weights { text: 0.0, ..Weights::default() },
    );
    for weights in [Weights::default(), words, meaning] {
        let weights = Weights { recency: 0.0, ..weights };
        let cue = Cue { limit: Some(5), weights, ..Cue::of("good morning") };
        assert_eq!(ids(&recall(&store, &cue)), expected, "{weights:?}");
    }
}

#[test]
fn bad_cues_are_refused_by_name_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = with_events(dir.path());
    let head = store.wal().head_lsn;
    for (cue, field) in [
        (Cue::default(), "cue"),
        (Cue::of(""), "text"),
        (Cue::of("x".repeat(1 << 20)), "text"),
        (Cue { limit: Some(0), ..Cue::of("x") }, "limit"),
        (Cue { limit: Some(1_001), ..Cue::of("x") }, "limit"),
        (Cue { embedding: vec![f32::NAN], ..Cue::default() }, "embedding"),
        (Cue { from: at(2), to: at(1), ..Cue::default() }, "to"),
        (Cue { metadata: Some("[1]".into()), ..Cue::default() }, "metadata"),
        (Cue { min_confidence: Some(1.5), ..Cue::default() }, "min_confidence"),
    ] {
        match store.recall("s", &cue) {
            Err(Error::Limit { field: named, .. }) => assert_eq!(named, field),
            other => panic!("{field}: {other:?}"),
        }
    }
    assert!(matches!(store.recall("nowhere", &Cue::of("x")), Err(Error::NoSpace { .. })));
    assert_eq!(store.spaces().len(), 1);
    assert_eq!(store.wal().head_lsn, head);
}

/// Enough episodes that their vectors are worth saving.
fn many(store: &Store) {
    let subjects = ["hotel", "dog", "flight", "dinner", "garden", "river", "server", "song"];
    let drafts = (0..2_400).map(|n: usize| {
        let subject = subjects[n % subjects.len()];
        let other = subjects[n / subjects.len() % subjects.len()];
        let draft = Draft::of(format!("note {n}: the {subject} and the {other}"));
        Ok(Draft { id: Some(format!("{n}")), when: at(0), ..draft })
    });
    let batch = store.remember_batch("s", drafts.collect(), Condition::Any);
    batch.and_then(Pending::wait).expect("kept");
}

fn saved_file(dir: &Path) -> std::path::PathBuf {
    let mut files = std::fs::read_dir(dir.join("index")).expect("a directory of saved vectors");
    let file = files.next().expect("vectors were saved").expect("its name").path();
    assert!(files.next().is_none());
    file
}

#[test]
fn saved_vectors_that_are_damaged_cut_or_gone_change_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let answers = |store: &Store| -> Vec<String> {
        let one = |cue| {
            let cue = Cue { limit: Some(20), ..Cue::of(cue) };
            format!("{:?}", recall(store, &cue).episodes)
        };
        ["a walk by the water", "note 77", "music"].into_iter().map(one).collect()
    };
    let store = open(dir.path());
    many(&store);
    let before = answers(&store);
    drop(store);
    let file = saved_file(dir.path());
    let good = std::fs::read(&file).unwrap();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 4;
        bytes
    };
    let length = good.len();
    let cases: Vec<Option<Vec<u8>>> = vec![
        Some(good.clone()),
        Some(flipped(3)),
        Some(flipped(9)),
        Some(flipped(40)),
        Some(flipped(length / 2)),
        Some(flipped(length - 1)),
        Some(good[..length / 3].to_vec()),
        Some(Vec::new()),
        None,
    ];
    for (number, case) in cases.into_iter().enumerate() {
        match case {
            Some(bytes) => std::fs::write(&file, bytes).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        assert_eq!(answers(&open(dir.path())), before, "case {number}");
        assert_eq!(std::fs::read(&file).unwrap().len(), length, "saved again, case {number}");
    }
}

#[test]
fn saved_vectors_of_what_was_forgotten_are_gone_after_the_next_save() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    many(&store);
    recall(&store, &Cue::of("x"));
    drop(store);
    let before = std::fs::read(saved_file(dir.path())).unwrap();
    let store = open(dir.path());
    forget(&store, "77");
    recall(&store, &Cue::of("x"));
    drop(store);
    let after = std::fs::read(saved_file(dir.path())).unwrap();
    assert!(after.len() < before.len(), "{} {}", after.len(), before.len());
    let store = open(dir.path());
    store.forget_space("s").unwrap().wait().unwrap();
    drop(store);
    assert_eq!(std::fs::read_dir(dir.path().join("index")).unwrap().count(), 0);
}

#[test]
fn an_answer_ends_at_its_bound_of_bytes_and_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options { index_in_background: false, ..Options::default() };
    let store = Store::open(dir.path(), options).expect("it opens");
    let large = 66;
    for n in 0..large {
        remember(&store, &n.to_string(), &"w".repeat(1 << 20));
    }
    let newest = Cue { from: at(0), limit: Some(1000), ..Cue::default() };
    let answer = recall(&store, &newest);
    assert!(answer.truncated);
    assert_eq!(ids(&answer), (2..large).rev().map(|n| n.to_string()).collect::<Vec<_>>());
    let few = recall(&store, &Cue { limit: Some(64), ..newest });
    assert_eq!((few.episodes.len(), few.truncated), (64, false), "it has all that was asked for");
}
