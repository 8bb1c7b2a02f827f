//! Remember, forget and recall at once, on real threads: no recall gives what was forgotten before
//! it was asked, and none misses what was acknowledged before it was asked.
//!
//! Each writer owns its ids and counts its changes to each; what it keeps says the count. So whoever
//! recalls knows, by looking at the counts before and after, which versions the answer may have,
//! and whether it may lack the episode. Vectors are in a graph, and indexes are saved and loaded
//! between the rounds. `ENGRAM_RECALL_SECONDS` says how long each form runs (`make recall-test`).

#![allow(clippy::panic, clippy::unwrap_used, reason = "a law's helpers fail by panicking")]
#![allow(clippy::print_stdout, reason = "the long form tells what it did")]
#![expect(clippy::disallowed_methods, reason = "the long form looks at the clock")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use engram_core::recall::{Cue, Recollection, Weights};
use engram_core::store::{Pending, Scale};
use engram_core::{Condition, Draft, Options, Store, Timestamp};

const WRITERS: usize = 4;
const READERS: usize = 3;
const IDS: usize = 30;
/// Episodes that stay as they are, so that there is a graph at once.
const STILL: usize = 150;
const DIMENSION: usize = 12;
/// Changes of each writer in a round.
const CHANGES: u64 = 150;

/// Whose vectors the space has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vectors {
    BuiltIn,
    Given,
}

/// An episode that changes: how many changes were begun, and how many acknowledged.
#[derive(Debug, Default)]
struct Counted {
    begun: AtomicU64,
    done: AtomicU64,
}

/// Every fifth change forgets; none yet is change 0.
fn is_there(change: u64) -> bool {
    !change.is_multiple_of(5)
}

struct World {
    store: Store,
    vectors: Vectors,
    all: Vec<Vec<Counted>>,
    over: AtomicBool,
    recalls: AtomicU64,
    partial: AtomicU64,
}

fn name(writer: usize) -> String {
    format!("writer {}", ["Ann", "Bob", "Cid", "Dan"][writer])
}

/// A direction for each version of each episode.
fn direction(seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut component = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f32::from(u16::try_from(state >> 48).unwrap()) - 32_767.5
    };
    (0..DIMENSION).map(|_| component()).collect()
}

fn seed(writer: usize, id: usize, change: u64) -> u64 {
    (writer * IDS + id) as u64 * 1_000_003 + change
}

fn word(writer: usize, id: usize, change: u64) -> String {
    format!("w{writer}i{id}n{change}")
}

impl World {
    fn open(dir: &Path, vectors: Vectors, all: Vec<Vec<Counted>>) -> Self {
        let scale = Scale {
            saved_vectors_min: 20,
            graph_vectors_min: 20,
            scan_vectors_max: 20,
            ..Scale::default()
        };
        let options = Options { scale, segment_bytes: 1 << 20, ..Options::default() };
        let store = Store::open(dir, options).unwrap();
        let (over, recalls, partial) = Default::default();
        Self { store, vectors, all, over, recalls, partial }
    }

    fn draft(&self, id: String, who: String, word: &str, seed: u64) -> Draft {
        let given = self.vectors == Vectors::Given;
        Draft {
            id: Some(id),
            who: vec![who],
            when: Timestamp::from_second(1_700_000_000 + (seed % 1000).cast_signed()).ok(),
            embedding: if given { direction(seed) } else { Vec::new() },
            confidence: Some(0.5),
            ..Draft::of(format!("{word} lay in the harbour"))
        }
    }

    /// Episodes that stay, and a graph of their vectors.
    fn prepare(&self) {
        for still in 0..STILL {
            let draft = self.draft(
                format!("still{still}"),
                "Eve".into(),
                &format!("ship{still}"),
                still as u64,
            );
            let kept = self.store.remember("s", draft, Condition::Any);
            kept.unwrap().wait().unwrap();
        }
        loop {
            let cue = Cue { explain: true, ..self.meaning(7) };
            let answer = self.store.recall("s", &cue).unwrap();
            if answer.explained.is_some_and(|explained| explained.vectors == "graph") {
                return;
            }
            std::thread::yield_now();
        }
    }

    /// A cue that every episode answers, by its vector alone.
    fn meaning(&self, seed: u64) -> Cue {
        let weights = Weights { text: 0.0, ..Weights::default() };
        match self.vectors {
            Vectors::Given => Cue { embedding: direction(seed), weights, ..Cue::default() },
            Vectors::BuiltIn => Cue { weights, ..Cue::of("boats by the sea") },
        }
    }

    fn write(&self, writer: usize, changes: u64, until: Option<Instant>) {
        let mut rng = writer as u64 + 1;
        for _ in 0..changes {
            rng =
                rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if until.is_some_and(|until| Instant::now() >= until) {
                break;
            }
            let id = usize::try_from(rng >> 33).unwrap() % IDS;
            self.change(writer, id);
        }
    }

    /// Makes the next change of an episode, and asks for it.
    fn change(&self, writer: usize, id: usize) {
        let counted = &self.all[writer][id];
        let change = counted.done.load(Ordering::Acquire) + 1;
        counted.begun.store(change, Ordering::Release);
        let key = format!("w{writer}i{id}");
        if is_there(change) {
            let (word, seed) = (word(writer, id, change), seed(writer, id, change));
            let draft = self.draft(key.clone(), name(writer), &word, seed);
            let kept = self.store.remember("s", draft, Condition::Any);
            kept.and_then(Pending::wait).unwrap();
        } else {
            let gone = self.store.forget("s", &key, Condition::Any);
            gone.and_then(Pending::wait).unwrap();
        }
        counted.done.store(change, Ordering::Release);
        let has = |change: u64, cue: Cue| {
            let answer = self.ask(&cue);
            let word = format!("{} ", word(writer, id, change));
            let found =
                answer.episodes.iter().any(|one| one.stored.episode.what.starts_with(&word));
            (found, answer)
        };
        let words = Weights { vector: 0.0, ..Weights::default() };
        for weights in [words, Weights::default()] {
            let (found, answer) = has(change, Cue { weights, ..Cue::of(word(writer, id, change)) });
            assert!(
                found == is_there(change) || answer.pending > 0,
                "change {change} of {key}, by {weights:?}: {answer:?}"
            );
            let (old, answer) =
                has(change - 1, Cue { weights, ..Cue::of(word(writer, id, change - 1)) });
            assert!(!old, "what change {change} took of {key} is recalled: {answer:?}");
        }
        self.look(Some(writer), Cue { who: vec![name(writer)], ..Cue::default() });
    }

    fn ask(&self, cue: &Cue) -> Recollection {
        let answer = self.store.recall("s", cue).unwrap();
        assert!(answer.unreadable.is_empty(), "{:?}", answer.unreadable);
        self.recalls.fetch_add(1, Ordering::Relaxed);
        self.partial.fetch_add(u64::from(answer.pending > 0), Ordering::Relaxed);
        answer
    }

    fn counts(&self, of: impl Fn(&Counted) -> &AtomicU64) -> Vec<Vec<u64>> {
        let load = |counted: &Counted| of(counted).load(Ordering::Acquire);
        self.all.iter().map(|ids| ids.iter().map(load).collect()).collect()
    }

    /// Recalls all, or all of a writer's, and holds the answer against what may be there.
    fn look(&self, of: Option<usize>, cue: Cue) {
        let told = format!("{cue:?}");
        let before = self.counts(|counted| &counted.done);
        let answer = self.ask(&Cue { limit: Some(1000), ..cue });
        let after = self.counts(|counted| &counted.begun);
        let mut given: BTreeMap<&str, &str> = BTreeMap::new();
        for one in &answer.episodes {
            let episode = &one.stored.episode;
            let twice = given.insert(&episode.id, &episode.what);
            assert!(twice.is_none(), "{} is recalled twice: {told}", episode.id);
        }
        for writer in (0..WRITERS).filter(|&writer| of.is_none_or(|of| of == writer)) {
            for id in 0..IDS {
                let key = format!("w{writer}i{id}");
                let may = before[writer][id]..=after[writer][id];
                if let Some(what) = given.remove(&*key) {
                    let version = what.split(' ').next().unwrap().rsplit('n').next().unwrap();
                    let version: u64 = version.parse().unwrap();
                    assert!(may.contains(&version), "{key}: {version} is not in {may:?}: {told}");
                    continue;
                }
                let may_lack = may.clone().any(|change| !is_there(change)) || answer.pending > 0;
                assert!(may_lack, "{key} is missed, which was there through {may:?}: {told}");
            }
        }
        let still = given.len() + answer.pending;
        let all_still = if of.is_some() { 0 } else { STILL };
        assert!(still >= all_still && given.len() <= all_still, "{given:?}: {told}");
    }

    fn read(&self, reader: usize) {
        let range = Cue { from: Some(Timestamp::UNIX_EPOCH), ..Cue::default() };
        let words = Weights { vector: 0.0, ..Weights::default() };
        let mut turn = reader as u64;
        while !self.over.load(Ordering::Acquire) {
            let writer = usize::try_from(turn).unwrap() % WRITERS;
            let cue = match turn % 6 {
                0 => Cue { min_confidence: Some(0.4), ..Cue::default() },
                1 => range.clone(),
                2 => Cue { weights: words, ..Cue::of("harbour") },
                3 => self.meaning(turn),
                4 => Cue { who: vec![name(writer)], ..self.meaning(turn) },
                _ => Cue { who: vec![name(writer)], ..Cue::of("the harbour") },
            };
            self.look((turn % 6 >= 4).then_some(writer), cue);
            turn += 1;
        }
    }

    /// Writers and readers at once.
    fn round(&self, changes: u64, until: Option<Instant>) {
        std::thread::scope(|scope| {
            let writers: Vec<_> =
                (0..WRITERS).map(|n| scope.spawn(move || self.write(n, changes, until))).collect();
            for reader in 0..READERS {
                scope.spawn(move || self.read(reader));
            }
            let ends: Vec<_> =
                writers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
            self.over.store(true, Ordering::Release);
            for end in ends {
                end.unwrap();
            }
        });
    }
}

fn runs(vectors: Vectors) {
    let seconds: Option<u64> =
        std::env::var("ENGRAM_RECALL_SECONDS").ok().and_then(|text| text.parse().ok());
    let until = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let dir = tempfile::tempdir().unwrap();
    let mut all: Vec<Vec<Counted>> =
        (0..WRITERS).map(|_| (0..IDS).map(|_| Counted::default()).collect()).collect();
    let (mut rounds, mut recalls, mut partial) = (0u64, 0, 0);
    loop {
        let world = World::open(dir.path(), vectors, all);
        if rounds > 0 {
            // A start, with saved vectors, changes no answer.
            world.look(None, world.meaning(rounds));
            world.look(None, Cue { min_confidence: Some(0.0), ..Cue::default() });
        } else {
            world.prepare();
        }
        world.round(if until.is_some() { CHANGES * 20 } else { CHANGES }, until);
        rounds += 1;
        recalls += world.recalls.load(Ordering::Relaxed);
        partial += world.partial.load(Ordering::Relaxed);
        world.store.close().unwrap();
        all = world.all;
        let over = until.map_or(rounds == 2, |until| Instant::now() >= until);
        if over {
            break;
        }
    }
    let changes: u64 =
        all.iter().flatten().map(|counted| counted.done.load(Ordering::Relaxed)).sum();
    println!(
        "{vectors:?}: {rounds} rounds, {changes} changes, {recalls} recalls, {partial} partial"
    );
    assert!(partial * 100 <= recalls, "{partial} of {recalls} answers said that they are partial");
}

#[test]
fn no_recall_misses_or_resurrects_anything_with_built_in_vectors() {
    runs(Vectors::BuiltIn);
}

#[test]
fn no_recall_misses_or_resurrects_anything_with_given_vectors() {
    runs(Vectors::Given);
}
