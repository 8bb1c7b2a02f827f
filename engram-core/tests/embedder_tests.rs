//! Laws of far embedders, over the public API: slow ones, those that fail, and those that change.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helper fails the test")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use engram_core::embedder::{Builtin, Embedder, NotEmbedded, Purpose, Reach};
use engram_core::store::{EmbeddingState, EmbeddingStatus, Pending};
use engram_core::{Condition, Cue, Draft, Error, Options, Recollection, Store};

/// What the fake does when it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Good,
    /// Does not answer for episodes until it is good again.
    Hanging,
    Down,
    Panics,
    WrongDimension,
    WrongCount,
    NotFinite,
    /// Refuses texts with the word `poison`.
    Fussy,
    /// Refuses every text.
    Misconfigured,
}

#[derive(Debug)]
struct Fake {
    model: &'static str,
    dimension: u32,
    mood: Mutex<Mood>,
    changed: Condvar,
    asked: Mutex<Vec<String>>,
    hangs: AtomicBool,
}

impl Fake {
    fn new(model: &'static str, dimension: u32) -> Arc<Self> {
        Arc::new(Self {
            model,
            dimension,
            mood: Mutex::new(Mood::Good),
            changed: Condvar::new(),
            asked: Mutex::default(),
            hangs: AtomicBool::new(false),
        })
    }

    fn be(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
        self.changed.notify_all();
    }

    /// Texts of episodes that it was asked for, so far.
    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn vector(&self, text: &str) -> Vec<f32> {
        let mut vector = vec![0.01; self.dimension as usize];
        for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
            let hash = word.bytes().fold(7usize, |sum, b| sum.wrapping_mul(31) + usize::from(b));
            vector[hash % self.dimension as usize] += 1.0;
        }
        vector
    }
}

impl Embedder for Fake {
    fn model(&self) -> &str {
        self.model
    }

    fn reach(&self) -> Reach {
        Reach::Far { dimension: self.dimension, batch: 8 }
    }

    fn embed(
        &self,
        texts: &[&str],
        purpose: Purpose,
    ) -> Result<Vec<Option<Vec<f32>>>, NotEmbedded> {
        let mut mood = self.mood.lock().unwrap();
        while *mood == Mood::Hanging && purpose == Purpose::Episodes {
            self.hangs.store(true, Ordering::Release);
            mood = self.changed.wait(mood).unwrap();
        }
        let now = *mood;
        drop(mood);
        let mood = now;
        let refused = || Err(NotEmbedded::Refused { cause: "not to my taste".into() });
        match mood {
            Mood::Down => {
                let cause = "out of order".to_owned();
                return Err(NotEmbedded::Unavailable { cause, retry_after: None });
            }
            Mood::Panics => panic!("as the test wants"),
            Mood::Misconfigured => return refused(),
            Mood::Fussy if texts.iter().any(|text| text.contains("poison")) => return refused(),
            _ => {}
        }
        let mut vectors: Vec<_> = texts.iter().map(|text| Some(self.vector(text))).collect();
        let first = vectors[0].as_mut().unwrap();
        match mood {
            Mood::WrongDimension => first.push(1.0),
            Mood::NotFinite => first[0] = f32::NAN,
            Mood::WrongCount => drop(vectors.pop()),
            _ if purpose == Purpose::Episodes => {
                self.asked.lock().unwrap().extend(texts.iter().map(|&text| text.to_owned()));
            }
            _ => {}
        }
        Ok(vectors)
    }
}

fn open(dir: &Path, embedder: Option<Arc<dyn Embedder>>) -> Store {
    Store::open(dir, Options { embedder, ..Options::default() }).expect("it opens")
}

fn with(dir: &Path, fake: &Arc<Fake>) -> Store {
    open(dir, Some(Arc::<Fake>::clone(fake)))
}

fn keep(store: &Store, draft: Draft) -> Result<u64, Error> {
    store.remember("s", draft, Condition::Any).and_then(Pending::wait).map(|done| done.lsn)
}

fn remember(store: &Store, id: &str, what: &str) -> u64 {
    keep(store, Draft { id: Some(id.into()), ..Draft::of(what) }).expect("kept")
}

fn recall(store: &Store, cue: &Cue) -> Recollection {
    store.recall("s", cue).expect("recalled")
}

fn ids(answer: &Recollection) -> Vec<&str> {
    answer.episodes.iter().map(|one| one.stored.episode.id.as_str()).collect()
}

/// Asks until the status is so; a test that asks too long fails.
fn wait_for(store: &Store, so: impl Fn(&EmbeddingStatus) -> bool) -> EmbeddingStatus {
    // Nobody ever sends: a pause that ends by itself.
    let (_keep, pause) = mpsc::channel::<()>();
    for _ in 0..30_000 {
        let status = store.embedding_status("s").expect("a status");
        if so(&status) {
            return status;
        }
        assert_eq!(pause.recv_timeout(Duration::from_millis(2)), Err(RecvTimeoutError::Timeout));
    }
    panic!("waited in vain: {:?}", store.embedding_status("s"));
}

fn wait_until_done(store: &Store) -> EmbeddingStatus {
    wait_for(store, |status| status.state == EmbeddingState::Done)
}

/// A cue whose words stand in no episode: only meaning can find something.
fn explained(text: &str) -> Cue {
    Cue { explain: true, ..Cue::of(text) }
}

#[test]
fn remembering_never_waits_for_the_embedder() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new("m", 16);
    fake.be(Mood::Hanging);
    let store = with(dir.path(), &fake);
    for n in 0..40 {
        remember(&store, &format!("{n}"), &format!("day {n} of the journey"));
    }
    wait_for(&store, |_| fake.hangs.load(Ordering::Acquire));
    // It hangs now, and neither readers nor writers notice.
    remember(&store, "late", "a late supper");
    let answer = recall(&store, &explained("supper"));
    assert_eq!(ids(&answer)[0], "late");
    assert_eq!((answer.degraded, answer.unembedded), (None, 41));
    assert_eq!(store.index_info(&store.spaces()[0].name).unembedded, 41);
    fake.be(Mood::Good);
    let status = wait_until_done(&store);
    assert_eq!((status.embedded, status.waiting, status.refused), (41, 0, 0));
    assert_eq!(status.model.as_deref(), Some("m"));
    let answer = recall(&store, &explained("supper"));
    assert_eq!((answer.degraded, answer.unembedded), (None, 0));
    let explained = answer.explained.unwrap();
    assert_eq!((explained.vectors, explained.model.as_deref()), ("exact", Some("m")));
    assert_eq!(explained.by_vector, 41);
    store.close().unwrap();
}

#[test]
fn a_store_closes_while_its_embedder_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new("m", 16);
    fake.be(Mood::Hanging);
    let store = with(dir.path(), &fake);
    remember(&store, "a", "tea");
    wait_for(&store, |_| fake.hangs.load(Ordering::Acquire));
    store.close().unwrap();
    drop(store);
    let again = Fake::new("m", 16);
    let store = with(dir.path(), &again);
    wait_until_done(&store);
    assert_eq!(again.asked(), ["tea"]);
    fake.be(Mood::Good);
}

#[test]
fn while_the_embedder_is_down_words_find_and_later_everything_is_embedded() {
    let dir = tempfile::tempdir().unwrap();
    for mood in [Mood::Down, Mood::Panics, Mood::WrongDimension, Mood::WrongCount, Mood::NotFinite]
    {
        let dir = dir.path().join(format!("{mood:?}"));
        let fake = Fake::new("m", 16);
        fake.be(mood);
        let store = with(&dir, &fake);
        remember(&store, "a", "green tea in the garden");
        remember(&store, "b", "a storm at sea");
        let answer = recall(&store, &explained("storm"));
        assert_eq!(ids(&answer), ["b"], "{mood:?}");
        let reason = answer.degraded.expect("a reason");
        assert!(!reason.is_empty());
        assert_eq!(answer.unembedded, 2, "{mood:?}");
        assert_eq!(answer.explained.unwrap().vectors, "unavailable");
        let status = wait_for(&store, |status| status.state == EmbeddingState::Unavailable);
        assert!(status.cause.is_some());
        fake.be(Mood::Good);
        wait_until_done(&store);
        let answer = recall(&store, &explained("storm"));
        assert_eq!(ids(&answer)[0], "b");
        assert_eq!((answer.degraded, answer.unembedded), (None, 0), "{mood:?}");
        assert!(answer.episodes[0].why.vector.is_some());
        store.close().unwrap();
    }
}

#[test]
fn a_wrong_dimension_is_told_with_both_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new("m", 16);
    fake.be(Mood::WrongDimension);
    let store = with(dir.path(), &fake);
    remember(&store, "a", "tea");
    let status = wait_for(&store, |status| status.cause.is_some());
    let cause = status.cause.unwrap();
    assert!(cause.contains("17") && cause.contains("16"), "{cause}");
    store.close().unwrap();
}

#[test]
fn a_text_that_is_refused_costs_no_other_its_vector() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new("m", 16);
    fake.be(Mood::Fussy);
    let store = with(dir.path(), &fake);
    for n in 0..30 {
        let taste = if n % 10 == 3 { "poison" } else { "sugar" };
        remember(&store, &format!("{n}"), &format!("{taste} number {n}"));
    }
    let status = wait_until_done(&store);
    assert_eq!((status.embedded, status.refused), (27, 3));
    let answer = recall(&store, &Cue::of("poison"));
    let (found, meant): (Vec<_>, Vec<_>) = (ids(&answer), vec!["3", "13", "23"]);
    assert!(meant.iter().all(|id| found.contains(id)), "words find them: {found:?}");
    assert_eq!(answer.unembedded, 3);
    // Asked for, they are tried again.
    fake.be(Mood::Good);
    store.reembed("s", false).unwrap();
    assert_eq!(wait_until_done(&store).embedded, 30);
    store.close().unwrap();
}

#[test]
fn an_embedder_that_refuses_everything_is_at_fault_itself() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new("m", 16);
    fake.be(Mood::Misconfigured);
    let store = with(dir.path(), &fake);
    for n in 0..20 {
        remember(&store, &format!("{n}"), "tea");
    }
    let status = wait_for(&store, |status| status.state == EmbeddingState::Unavailable);
    assert_eq!((status.waiting, status.refused), (20, 0));
    fake.be(Mood::Good);
    assert_eq!(wait_until_done(&store).embedded, 20);
    store.close().unwrap();
}

#[test]
fn a_space_is_fixed_by_configuration_as_it_is_by_a_vector() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new("m", 4);
    fake.be(Mood::Down);
    let store = with(dir.path(), &fake);
    remember(&store, "text", "tea");
    // In the order of the log, and so at once, whether the embedder answers or not.
    let draft = |embedding| Draft { embedding, ..Draft::of("x") };
    let refused = keep(&store, draft(vec![1.0; 3])).unwrap_err();
    let Error::Dimension { expected: 4, found: 3, ref model, .. } = refused else {
        panic!("{refused}");
    };
    assert_eq!(model.as_deref(), Some("m"));
    let of = |model: &str| Some(model.to_owned());
    let other = Draft { embedding_model: of("n"), ..draft(vec![1.0; 4]) };
    let refused = keep(&store, other).unwrap_err();
    assert!(matches!(refused, Error::Model { .. }), "{refused}");
    assert!(refused.to_string().contains("\"m\"") && refused.to_string().contains("\"n\""));
    let cue = Cue { embedding: vec![1.0; 3], ..Cue::default() };
    assert!(matches!(store.recall("s", &cue), Err(Error::Dimension { .. })));
    let cue = Cue { embedding: vec![1.0; 4], embedding_model: of("n"), ..Cue::default() };
    assert!(matches!(store.recall("s", &cue), Err(Error::Model { .. })));
    // A caller who has the model's vector already may bring it.
    let same = Draft {
        id: Some("own".into()),
        embedding_model: of("m"),
        ..draft(vec![0.0, 9.0, 0.0, 0.0])
    };
    keep(&store, same).unwrap();
    let cue = Cue { embedding: vec![0.0, 1.0, 0.0, 0.0], ..Cue::default() };
    assert_eq!(ids(&recall(&store, &cue)), ["own"]);
    fake.be(Mood::Good);
    wait_until_done(&store);
    assert_eq!(fake.asked(), ["tea"], "what came with a vector is not embedded");
    assert_eq!(ids(&recall(&store, &cue))[0], "own");
    let space = store.spaces().remove(0);
    assert_eq!((space.dimension, space.model.as_deref()), (Some(4), Some("m")));
    // A space whose first episode brings a vector is its callers'.
    let given = Draft { embedding: vec![1.0; 3], ..Draft::of("x") };
    let kept = store.remember("given", given, Condition::Any).and_then(Pending::wait);
    kept.unwrap();
    let text = store.remember("given", Draft::of("text"), Condition::Any).and_then(Pending::wait);
    text.unwrap();
    assert_eq!(store.embedding_status("given").unwrap().state, EmbeddingState::Given);
    assert!(store.recall("given", &Cue::of("text")).unwrap().degraded.is_none());
    store.close().unwrap();
    assert_eq!(fake.asked(), ["tea"]);
}

#[test]
fn a_forgotten_space_is_free_again() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new("m", 4);
    let store = with(dir.path(), &fake);
    remember(&store, "a", "tea");
    wait_until_done(&store);
    store.forget_space("s").and_then(Pending::wait).unwrap();
    keep(&store, Draft { embedding: vec![1.0, 2.0], ..Draft::of("x") }).unwrap();
    let cue = Cue { embedding: vec![1.0, 2.0], ..Cue::default() };
    assert_eq!(recall(&store, &cue).episodes.len(), 1);
    assert_eq!(store.embedding_status("s").unwrap().state, EmbeddingState::Given);
    store.close().unwrap();
}

#[test]
fn a_start_asks_for_no_vector_a_second_time() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new("m", 16);
    let store = with(dir.path(), &fake);
    for n in 0..50 {
        remember(&store, &format!("{n}"), &format!("number {n}"));
    }
    wait_until_done(&store);
    store.close().unwrap();
    drop(store);
    let again = Fake::new("m", 16);
    let store = with(dir.path(), &again);
    assert_eq!(wait_until_done(&store).embedded, 50);
    let answer = recall(&store, &explained("number 7"));
    assert_eq!(answer.explained.unwrap().by_vector, 50);
    assert_eq!(again.asked(), [""; 0]);
    store.close().unwrap();
}

#[test]
fn vectors_of_two_models_are_never_mixed_and_reembed_migrates() {
    let dir = tempfile::tempdir().unwrap();
    let store = with(dir.path(), &Fake::new("old", 16));
    for n in 0..30 {
        remember(&store, &format!("{n}"), &format!("number {n}"));
    }
    wait_until_done(&store);
    store.close().unwrap();
    drop(store);

    let new = Fake::new("new", 16);
    let store = with(dir.path(), &new);
    remember(&store, "late", "number late");
    let answer = recall(&store, &explained("number 7"));
    let reason = answer.degraded.clone().expect("a reason");
    for said in ["\"old\"", "\"new\"", "engram reembed"] {
        assert!(reason.contains(said), "{reason}");
    }
    assert!(ids(&answer).contains(&"7"), "words find it");
    assert!(answer.episodes.iter().all(|one| one.why.vector.is_none()));
    let status = wait_for(&store, |status| status.embedded == 30);
    assert_eq!((status.state, status.model.as_deref()), (EmbeddingState::Foreign, Some("old")));
    assert_eq!(new.asked(), [""; 0], "nothing is embedded by itself");
    // A caller with the old model is still served.
    let old = Cue { embedding: Fake::new("old", 16).vector("number 7"), ..Cue::default() };
    assert_eq!(recall(&store, &old).episodes.len(), 30);

    new.be(Mood::Down);
    let refused = store.reembed("s", false).unwrap_err();
    assert!(matches!(refused, Error::Embedder { .. }), "{refused}");
    assert_eq!(store.embedding_status("s").unwrap().state, EmbeddingState::Foreign);
    new.be(Mood::Hanging);
    let status = store.reembed("s", false).unwrap();
    assert_eq!((status.state, status.waiting), (EmbeddingState::Running, 31));
    let answer = recall(&store, &explained("number 7"));
    assert_eq!((answer.degraded, answer.unembedded), (None, 31), "partial, and said so");
    new.be(Mood::Good);
    assert_eq!(wait_until_done(&store).embedded, 31);
    assert_eq!(new.asked().len(), 31);
    assert_eq!(store.reembed("s", false).unwrap().state, EmbeddingState::Done);
    store.close().unwrap();
    drop(store);
    // It is durable.
    let store = with(dir.path(), &new);
    wait_until_done(&store);
    assert_eq!(new.asked().len(), 31);
    store.close().unwrap();
}

#[test]
fn reembedding_a_space_of_given_vectors_is_said_twice_and_changes_no_episode() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new("m", 16);
    let store = with(dir.path(), &fake);
    let given = |id: &str, what: &str| Draft {
        id: Some(id.into()),
        embedding: vec![1.0, 0.5],
        ..Draft::of(what)
    };
    let lsn = keep(&store, given("a", "tea")).unwrap();
    keep(&store, given("b", "storm")).unwrap();
    remember(&store, "c", "no vector");
    let before = store.get("s", "a").unwrap();
    let refused = store.reembed("s", false).unwrap_err();
    assert!(matches!(refused, Error::GivenVectors { dimension: 2, .. }), "{refused}");
    assert_eq!(fake.asked(), [""; 0]);

    store.reembed("s", true).unwrap();
    assert_eq!(wait_until_done(&store).embedded, 3);
    assert_eq!(fake.asked().len(), 3);
    assert_eq!(store.get("s", "a").unwrap(), before);
    assert_eq!((before.lsn, before.episode.embedding), (lsn, vec![1.0, 0.5]));
    let answer = recall(&store, &explained("storm"));
    assert_eq!(ids(&answer)[0], "b");
    assert!(answer.episodes[0].why.vector.is_some());
    // Callers' old vectors are another dimension now.
    assert!(matches!(keep(&store, given("d", "x")), Err(Error::Dimension { expected: 16, .. })));
    store.close().unwrap();
    drop(store);

    let store = with(dir.path(), &fake);
    assert_eq!(wait_until_done(&store).embedded, 3);
    assert_eq!(fake.asked().len(), 3);
    store.close().unwrap();
}

#[test]
fn a_space_can_be_given_back_to_the_built_in_embedder() {
    let dir = tempfile::tempdir().unwrap();
    let store = with(dir.path(), &Fake::new("m", 16));
    remember(&store, "hotel", "We found a cheap hotel near the station.");
    remember(&store, "dog", "The neighbour's dog barked all night.");
    wait_until_done(&store);
    store.close().unwrap();
    drop(store);

    let store = open(dir.path(), None);
    assert!(matches!(store.reembed("s", false), Err(Error::NoEmbedder)));
    assert!(recall(&store, &Cue::of("hotel")).degraded.is_some());
    store.close().unwrap();
    drop(store);

    for round in 0..2 {
        let store = open(dir.path(), Some(Arc::new(Builtin)));
        if round == 0 {
            assert!(recall(&store, &Cue::of("hotel")).degraded.is_some());
            store.reembed("s", false).unwrap();
        }
        let answer = recall(&store, &explained("an inexpensive place to sleep"));
        assert_eq!(ids(&answer)[0], "hotel");
        assert_eq!((answer.degraded, answer.unembedded), (None, 0));
        // The built-in vectors fix nothing.
        let space = store.spaces().remove(0);
        assert_eq!((space.dimension, space.model), (None, None));
        store.close().unwrap();
    }
    let store = open(dir.path(), Some(Arc::new(Builtin)));
    keep(&store, Draft { embedding: vec![1.0, 2.0], ..Draft::of("x") }).unwrap();
    assert_eq!(store.embedding_status("s").unwrap().state, EmbeddingState::Given);
    store.close().unwrap();
}

#[test]
fn a_space_of_the_built_in_embedder_goes_over_when_another_is_configured() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Some(Arc::new(Builtin)));
    remember(&store, "a", "tea");
    recall(&store, &Cue::of("tea"));
    store.close().unwrap();
    drop(store);
    let fake = Fake::new("m", 16);
    let store = with(dir.path(), &fake);
    let status = wait_until_done(&store);
    assert_eq!((status.embedded, status.model.as_deref()), (1, Some("m")));
    assert_eq!(store.spaces()[0].dimension, Some(16), "fixed now");
    store.close().unwrap();
}

#[test]
fn what_is_forgotten_while_it_is_embedded_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new("m", 16);
    fake.be(Mood::Hanging);
    let store = with(dir.path(), &fake);
    remember(&store, "a", "tea");
    remember(&store, "b", "storm");
    wait_for(&store, |_| fake.hangs.load(Ordering::Acquire));
    store.forget("s", "a", Condition::Any).and_then(Pending::wait).unwrap();
    remember(&store, "b", "calm");
    fake.be(Mood::Good);
    let status = wait_until_done(&store);
    assert_eq!((status.episodes, status.embedded), (1, 1));
    let answer = recall(&store, &explained("calm"));
    assert_eq!(ids(&answer), ["b"]);
    assert_eq!(answer.degraded, None);
    assert_eq!(answer.explained.unwrap().by_vector, 1);
    store.close().unwrap();
}

#[test]
fn a_long_text_is_embedded_by_its_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new("m", 16);
    let store = with(dir.path(), &fake);
    remember(&store, "a", &"ä".repeat(100_000));
    wait_until_done(&store);
    assert_eq!(fake.asked()[0].len(), 16 << 10);
    store.close().unwrap();
}

#[test]
fn damaged_saved_vectors_are_asked_for_again() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new("m", 16);
    let store = with(dir.path(), &fake);
    remember(&store, "a", "tea");
    wait_until_done(&store);
    store.close().unwrap();
    drop(store);
    flip_a_bit(&dir.path().join("index"));
    let store = with(dir.path(), &fake);
    wait_until_done(&store);
    assert_eq!(fake.asked(), ["tea", "tea"]);
    assert!(recall(&store, &explained("tea")).episodes[0].why.vector.is_some());
    store.close().unwrap();
}

#[expect(clippy::disallowed_methods, reason = "damages a file as no caller of the engine would")]
fn flip_a_bit(directory: &Path) {
    let file = std::fs::read_dir(directory).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
}
