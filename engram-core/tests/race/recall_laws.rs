//! Who recalls while others remember, replace and forget.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use engram_core::recall::{Cue, Weights};
use engram_core::{Condition, Store};
use shuttle::rand::{Rng as _, thread_rng};
use shuttle::thread;

use super::explore;
use super::world::{all, keep, settle, start};
use crate::support::disk::Image;
use crate::support::draft;

/// Remembers a few words, so that much fits between two of them.
fn say(store: &Store, id: &str, what: &str) {
    settle(store.remember("s", draft(id, what), Condition::Any)).unwrap();
}

/// What is recalled, and how many are said to be missing.
fn recalled(store: &Store) -> (BTreeSet<String>, usize) {
    let words = Weights { vector: 0.0, ..Weights::default() };
    let cue = match thread_rng().gen_range(0..3) {
        0 => Cue { min_confidence: Some(0.5), ..Cue::default() },
        1 => Cue { weights: words, ..Cue::of("harbour") },
        _ => Cue::of("the harbour"),
    };
    let answer = store.recall("s", &cue).unwrap();
    assert!(answer.unreadable.is_empty(), "{:?}", answer.unreadable);
    let ids: Vec<String> =
        answer.episodes.into_iter().map(|one| one.stored.episode.id.clone()).collect();
    let count = ids.len();
    let ids = BTreeSet::from_iter(ids);
    assert_eq!(ids.len(), count, "recalled twice");
    (ids, answer.pending)
}

#[test]
fn a_recall_misses_nothing_acknowledged_and_gives_nothing_forgotten() {
    explore(|| {
        let (_disk, store) = start(&Image::new());
        for id in ["stays", "changes", "goes"] {
            say(&store, id, "a boat in the harbour");
        }
        let gone = Arc::new(AtomicBool::new(false));
        let writer = {
            let (store, gone) = (store.clone(), Arc::clone(&gone));
            thread::spawn(move || {
                say(&store, "changes", "two boats in the harbour");
                settle(store.forget("s", "goes", Condition::Any)).unwrap();
                gone.store(true, Ordering::SeqCst);
                say(&store, "changes", "three boats in the harbour");
            })
        };
        let own = {
            let store = store.clone();
            thread::spawn(move || {
                say(&store, "own", "a boat of its own in the harbour");
                let (ids, pending) = recalled(&store);
                assert!(ids.contains("own") || pending > 0, "{ids:?}");
                settle(store.forget("s", "own", Condition::Any)).unwrap();
                let (ids, _) = recalled(&store);
                assert!(!ids.contains("own"), "{ids:?}");
            })
        };
        let reader = {
            let (store, gone) = (store.clone(), Arc::clone(&gone));
            thread::spawn(move || {
                for _ in 0..2 {
                    let forgotten = gone.load(Ordering::SeqCst);
                    let (ids, pending) = recalled(&store);
                    let there = ids.contains("stays") && ids.contains("changes");
                    assert!(there || pending > 0, "{ids:?}");
                    assert!(!(forgotten && ids.contains("goes")), "{ids:?}");
                }
            })
        };
        all(vec![writer, own, reader]);
    });
}

#[test]
fn a_space_that_is_forgotten_and_begun_anew_is_recalled_as_it_is() {
    explore(|| {
        let (_disk, store) = start(&Image::new());
        for n in 0..3 {
            say(&store, &format!("old{n}"), "an old boat in the harbour");
        }
        let reader = {
            let store = store.clone();
            thread::spawn(move || {
                // Before, after, or between the two: then there is no space.
                let cue = Cue { min_confidence: Some(0.5), ..Cue::default() };
                if let Ok(answer) = store.recall("s", &cue) {
                    let new = answer.episodes.iter().any(|one| one.stored.episode.id == "new");
                    let old = answer.episodes.len() - usize::from(new);
                    assert!(old == 0 || !new, "{answer:?}");
                }
            })
        };
        settle(store.forget_space("s")).unwrap();
        say(&store, "new", "a new boat in the harbour");
        let (ids, pending) = recalled(&store);
        assert!(pending > 0 || ids == BTreeSet::from(["new".to_owned()]), "{ids:?}");
        all(vec![reader]);
        keep(&store, "big", 1).unwrap();
        let (ids, _) = recalled(&store);
        assert!(!ids.iter().any(|id| id.starts_with("old")), "{ids:?}");
    });
}
