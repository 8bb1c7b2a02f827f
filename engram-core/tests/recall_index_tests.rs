//! Laws of the indexes behind recall: what they know is what the log says, whatever became of
//! their saved files, and in whatever order things came to them.
#![allow(clippy::unwrap_used, reason = "a test's helper fails the test")]

mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engram_core::recall::{Cue, Recollection, Weights};
use engram_core::store::{Drive, ListQuery, Pending, Scale};
use engram_core::{Condition, Draft, Durability, Options, Store, Timestamp};

use support::disk::{Fault, Image, Kind, MemDisk, Op};
use support::{DIR, FakeRng, draft, forget, frames_of, remember, wal};

/// A store that does nothing by itself, and saves few vectors as well.
fn options(disk: &Arc<MemDisk>) -> Options {
    let scale = Scale { saved_vectors_min: 4, ..Scale::default() };
    Options { scale, drive: Drive::Steps, ..support::options(disk) }
}

fn open(disk: &Arc<MemDisk>) -> Store {
    Store::open(DIR, options(disk)).unwrap()
}

fn given(store: &Store, id: &str, embedding: &[f32]) {
    let draft = Draft { embedding: embedding.to_vec(), ..draft(id, format!("given {id}")) };
    store.remember("s", draft, Condition::Any).unwrap().wait().unwrap();
}

fn recall(store: &Store, cue: Cue) -> Recollection {
    let answer = store.recall("s", &Cue { explain: true, limit: Some(500), ..cue }).unwrap();
    assert!(answer.pending == 0 && answer.unreadable.is_empty(), "{answer:?}");
    answer
}

fn by_meaning(text: &str) -> Cue {
    Cue { weights: Weights { text: 0.0, ..Weights::default() }, ..Cue::of(text) }
}

fn by_vector(embedding: &[f32]) -> Cue {
    Cue { embedding: embedding.to_vec(), ..Cue::default() }
}

fn ids(answer: &Recollection) -> BTreeSet<String> {
    answer.episodes.iter().map(|one| one.stored.episode.id.clone()).collect()
}

fn set<const N: usize>(ids: [&str; N]) -> BTreeSet<String> {
    ids.map(str::to_owned).into()
}

/// Texts that have little to do with each other.
fn text(n: usize) -> String {
    let what = ["hotel", "dog", "flight", "dinner", "garden", "river", "server", "song"];
    let where_to = ["Lisbon", "Tokyo", "Rome", "Cairo", "Lima"];
    format!("the {} in {} {n}", what[n % 8], where_to[n / 8 % 5])
}

fn similarities(answer: &Recollection) -> Vec<(String, f32)> {
    let similarity = |one: &engram_core::recall::Recalled| {
        (one.stored.episode.id.clone(), one.why.vector.map_or(-1.0, |why| why.value))
    };
    answer.episodes.iter().map(similarity).collect()
}

/// The one saved file.
fn saved(image: &Image) -> PathBuf {
    let mut files =
        image.keys().filter(|path| path.parent() == Some(&Path::new(DIR).join("index")));
    let file = files.next().expect("an index was saved").clone();
    assert!(files.next().is_none(), "one file for one space");
    file
}

#[test]
fn a_space_that_begins_anew_in_one_batch_has_vectors_of_its_new_kind() {
    // Forgotten and begun again in one batch, the index heard of both at once, put the new in
    // among the old, and took its vectors for theirs: they were never found by meaning again.
    let disk = MemDisk::new();
    let store = open(&disk);
    given(&store, "old", &[1.0, 0.0]);
    assert_eq!(ids(&recall(&store, by_vector(&[1.0, 0.0]))), set(["old"]));

    let gone = store.forget_space("s").unwrap();
    let made = store.remember("s", draft("made", "a dog barked"), Condition::Any).unwrap();
    made.wait().unwrap();
    assert_eq!(ids(&recall(&store, by_meaning("the puppy"))), set(["made"]));
    gone.wait().unwrap();

    let gone = store.forget_space("s").unwrap();
    let new = Draft { embedding: vec![0.0, 1.0, 0.0], ..draft("new", "of three dimensions") };
    store.remember("s", new, Condition::Any).unwrap().wait().unwrap();
    assert_eq!(ids(&recall(&store, by_vector(&[0.0, 1.0, 1.0]))), set(["new"]));
    gone.wait().unwrap();
    assert_eq!(ids(&recall(&store, by_vector(&[0.0, 1.0, 1.0]))), set(["new"]));
}

#[test]
fn saved_vectors_are_of_the_kind_that_the_space_has_or_not_used() {
    let disk = MemDisk::new();
    let store = open(&disk);
    for n in 0..6u8 {
        given(&store, &format!("{n}"), &[1.0, f32::from(n)]);
    }
    recall(&store, by_vector(&[1.0, 0.0]));
    store.close().unwrap();
    let old = disk.image();
    let file = saved(&old);
    let store = open(&disk);
    store.forget_space("s").unwrap().wait().unwrap();
    for n in 0..6u8 {
        given(&store, &format!("{n}"), &[1.0, 0.0, f32::from(n)]);
    }
    store.close().unwrap();
    // The file of the former dimension, as if the last save had failed.
    let mut image = disk.image();
    image.insert(file.clone(), old[&file].clone());
    let store = open(&MemDisk::of(&image));
    assert_eq!(recall(&store, by_vector(&[1.0, 0.0, 1.0])).episodes.len(), 6);
}

#[test]
fn vectors_of_two_dimensions_in_one_space_are_told_apart() {
    // Damage that hits the end of a space and what its next life was fixed to leaves episodes of
    // both. Whichever was indexed first decided for all; the others were never found by meaning.
    let disk = MemDisk::new();
    let store = open(&disk);
    remember(&store, "gone", "its place is given to the new one");
    for id in ["three", "four"] {
        given(&store, id, &[1.0, 0.5, 0.25]);
    }
    forget(&store, "gone");
    store.forget_space("s").unwrap().wait().unwrap();
    given(&store, "new", &[1.0, 0.5]);
    store.close().unwrap();
    let frames = frames_of(&disk);
    let end_of_space = frames.iter().position(|frame| frame.kind == "forget_space").unwrap();
    assert_eq!(frames[end_of_space + 1].kind, "space_defined");
    let without = |lost: usize| {
        let mut image = disk.image();
        for frame in &frames[end_of_space..end_of_space + lost] {
            let start = usize::try_from(frame.offset).unwrap();
            let end = start + usize::try_from(frame.bytes).unwrap();
            image.get_mut(&wal(&frame.file)).unwrap()[start..end].fill(0);
        }
        let store = open(&MemDisk::of(&image));
        assert_eq!(store.list("s", &ListQuery::default()).unwrap().episodes.len(), 3);
        store
    };
    let store = without(2);
    assert_eq!(store.spaces()[0].dimension, Some(3));
    assert_eq!(ids(&recall(&store, by_vector(&[1.0, 0.0, 0.0]))), set(["three", "four"]));
    let store = without(1);
    assert_eq!(store.spaces()[0].dimension, Some(2));
    assert_eq!(ids(&recall(&store, by_vector(&[1.0, 0.0]))), set(["new"]));
}

#[test]
fn a_saved_vector_is_not_given_to_another_episode_of_the_same_lsn() {
    // The log was taken back to an older copy, beside a newer index; then its LSNs were given
    // again, and the new episodes got the vectors of those that had them before.
    for durability in [Durability::Always, Durability::Never] {
        let disk = MemDisk::new();
        let with = |disk: &Arc<MemDisk>| Options { durability, ..options(disk) };
        let store = Store::open(DIR, with(&disk)).unwrap();
        remember(&store, "first", "the first of all");
        store.close().unwrap();
        let before = disk.image();
        let store = Store::open(DIR, with(&disk)).unwrap();
        for n in 0..20 {
            remember(&store, &format!("e{n}"), text(n));
        }
        recall(&store, by_meaning("a dog"));
        store.close().unwrap();
        let mut image = before;
        let file = saved(&disk.image());
        image.insert(file.clone(), disk.image()[&file].clone());
        let disk = MemDisk::of(&image);
        let store = Store::open(DIR, with(&disk)).unwrap();
        for n in 0..20 {
            remember(&store, &format!("e{n}"), text(n + 7));
        }
        for n in [0, 5, 19] {
            let answer = recall(&store, by_meaning(&text(n + 7)));
            assert_eq!(answer.episodes.len(), 21);
            let (id, similarity) = similarities(&answer).swap_remove(0);
            assert_eq!(id, format!("e{n}"), "{durability}");
            assert!(similarity > 0.98, "{durability}: {similarity}");
        }
    }
}

#[test]
fn an_index_knows_nothing_that_a_crash_takes_out_of_the_log() {
    let disk = MemDisk::new();
    let never = Options { durability: Durability::Never, ..options(&disk) };
    let store = Store::open(DIR, never).unwrap();
    for n in 0..20 {
        remember(&store, &format!("e{n}"), text(n));
    }
    recall(&store, by_meaning("a dog"));
    assert!(store.wal().synced_lsn < store.wal().head_lsn);
    store.stepper().save_indexes();
    saved(&disk.image());
    assert_eq!(store.wal().synced_lsn, store.wal().head_lsn, "the log is not behind its index");
}

#[test]
fn a_store_that_closes_before_its_index_has_caught_up_saves_all_of_it() {
    let disk = MemDisk::new();
    let store = open(&disk);
    let drafts = (0..600).map(|n| Ok(draft(&format!("e{n}"), text(n)))).collect();
    store.remember_batch("s", drafts, Condition::Any).and_then(Pending::wait).unwrap();
    let cue = || by_meaning("a walk by the water");
    let before = similarities(&recall(&store, cue()));
    store.close().unwrap();
    let file = saved(&disk.image());
    let length = disk.image()[&file].len();
    let store = open(&disk);
    assert!(store.stepper().index(), "some of it");
    // An episode without words the embedder knows has no vector, and takes some slot.
    forget(&store, "e599");
    remember(&store, "wordless", "…");
    store.close().unwrap();
    let now = disk.image()[&file].len();
    assert!(now.abs_diff(length) < length / 100, "{now} bytes, of {length}");
    let store = open(&disk);
    let mut after = similarities(&recall(&store, cue()));
    after.retain(|(id, _)| id != "wordless");
    let gone: Vec<_> = before.into_iter().filter(|(id, _)| id != "e599").collect();
    let least = after.len().min(gone.len());
    assert!(least > 490 && after[..least] == gone[..least], "the same vectors for the same texts");
}

/// Ten made vectors and some forgotten ones, saved; and what is asked of them.
fn world() -> (Image, PathBuf) {
    let disk = MemDisk::new();
    let store = open(&disk);
    for n in 0..14 {
        remember(&store, &format!("e{n}"), text(n));
    }
    for n in 10..14 {
        forget(&store, &format!("e{n}"));
    }
    recall(&store, by_meaning("a dog"));
    store.close().unwrap();
    let image = disk.image();
    let file = saved(&image);
    (image, file)
}

fn answers(image: &Image) -> String {
    let store = open(&MemDisk::of(image));
    let mut told = String::new();
    for cue in
        [by_meaning("a walk by the water"), Cue::of("hotel in Tokyo"), Cue::of("\"dinner in\"")]
    {
        let answer = recall(&store, cue);
        assert!(answer.explained.as_ref().is_some_and(|explained| explained.indexed == 10));
        writeln!(told, "{:?}", similarities(&answer)).unwrap();
    }
    told
}

#[test]
fn a_saved_index_that_is_flipped_or_cut_anywhere_changes_no_answer() {
    let every: usize =
        std::env::var("ENGRAM_INDEX_EVERY").ok().and_then(|text| text.parse().ok()).unwrap_or(61);
    let (image, file) = world();
    let good = image[&file].clone();
    let mut without = image.clone();
    without.remove(&file);
    let truth = answers(&without);
    assert_eq!(answers(&image), truth, "whole");
    let mut hurt = image;
    let mut check = |bytes: Vec<u8>, how: &str, at: usize| {
        hurt.insert(file.clone(), bytes);
        assert_eq!(answers(&hurt), truth, "{how} at {at} of {}", good.len());
    };
    let rng = FakeRng::new(good.len() as u64);
    // The head, where the few numbers are, whole.
    for at in (0..64).chain((64..good.len()).step_by(every)) {
        let mut flipped = good.clone();
        flipped[at] ^= 1 << rng.below(8);
        check(flipped, "flipped", at);
        check(good[..at].to_vec(), "cut", at);
        if at % 512 == 0 || every == 1 {
            let mut zeroed = good.clone();
            zeroed[at / 512 * 512..].iter_mut().take(512).for_each(|byte| *byte = 0);
            check(zeroed, "zeroed", at);
        }
    }
    let mut longer = good.clone();
    longer.extend(&good[..100]);
    check(longer, "longer", good.len());
}

#[test]
fn a_crash_at_any_call_of_a_save_changes_no_answer_and_leaves_no_litter() {
    let (image, file) = world();
    let mut without = image.clone();
    without.remove(&file);
    let truth = answers(&without);
    for begin in [&image, &without] {
        for call in 0.. {
            let disk = MemDisk::of(begin);
            let store = open(&disk);
            recall(&store, Cue::of("hotel"));
            disk.crash_at(call);
            store.stepper().save_indexes();
            let crashed = disk.is_crashed();
            drop(store);
            for seed in 0..4 {
                let after = disk.crash(support::disk::Unsynced::Torn(seed));
                assert_eq!(answers(&after.image()), truth, "call {call}, seed {seed}");
                // Whoever saves next tidies up.
                let store = open(&after);
                recall(&store, Cue::of("hotel"));
                store.close().unwrap();
                saved(&after.image());
            }
            if !crashed {
                break;
            }
        }
    }
}

#[test]
fn what_cannot_be_saved_leaves_no_half_file_behind() {
    let (mut image, file) = world();
    image.remove(&file);
    let disk = MemDisk::of(&image);
    let store = open(&disk);
    recall(&store, Cue::of("hotel"));
    let fault = |op| Fault { op, path: "index", first: 0, times: 1, kind: Kind::Enospc };
    for op in [Op::Write, Op::Sync, Op::Rename] {
        disk.fail(fault(op));
        store.stepper().save_indexes();
        let left =
            disk.image().into_keys().filter(|path| path.starts_with(Path::new(DIR).join("index")));
        assert_eq!(left.collect::<Vec<_>>(), Vec::<PathBuf>::new(), "{op:?}");
    }
    store.stepper().save_indexes();
    assert_eq!(saved(&disk.image()), file);
}

#[test]
fn what_rounding_lets_through_does_not_starve_the_answer() {
    // The index knows confidences to seven digits. Those just below the bound came through it,
    // were taken out again when they were read, and left no room for those that are above.
    let disk = MemDisk::new();
    let store = open(&disk);
    let confident = |n: usize, confidence: f64| {
        let when = Timestamp::from_second(i64::try_from(n).unwrap()).ok();
        let draft = draft(&format!("e{n}"), text(n));
        Ok(Draft { confidence: Some(confidence), when, ..draft })
    };
    let sure = (0..10).map(|n| confident(n, 0.9));
    let nearly = (10..3_000).map(|n| confident(n, 0.9 - 1e-12));
    store
        .remember_batch("s", sure.chain(nearly).collect(), Condition::Any)
        .and_then(Pending::wait)
        .unwrap();
    for cue in [Cue::default(), Cue::of("somewhere else"), by_meaning("a dog")] {
        let cue = Cue { min_confidence: Some(0.9), limit: Some(10), ..cue };
        let answer = store.recall("s", &cue).unwrap();
        let expected: BTreeSet<String> = (0..10).map(|n| format!("e{n}")).collect();
        assert_eq!(ids(&answer), expected, "{cue:?}");
    }
}

#[test]
fn what_cannot_be_read_is_said_to_be_missing_until_it_can() {
    let disk = MemDisk::new();
    let store = open(&disk);
    for n in 0..5 {
        remember(&store, &format!("e{n}"), text(n));
    }
    let all = Cue { min_confidence: Some(0.0), ..Cue::default() };
    disk.fail(Fault { op: Op::Read, path: ".seg", first: 2, times: 2, kind: Kind::Eio });
    let answer = store.recall("s", &all).unwrap();
    assert_eq!(answer.episodes.len() + answer.pending, 5, "{answer:?}");
    assert!(answer.pending > 0);
    assert_eq!(recall(&store, all.clone()).episodes.len(), 5);
    // Damage that is met by the index alone is no reason to be silent either.
    remember(&store, "hurt", "soon to be damaged");
    let image = disk.image();
    let (path, at) = image
        .iter()
        .find_map(|(path, bytes)| {
            let found = bytes.windows(4).position(|window| window == b"soon");
            found.map(|at| (path.clone(), at))
        })
        .unwrap();
    disk.flip(&path, at, 0);
    let answer = store.recall("s", &all).unwrap();
    assert_eq!((answer.episodes.len(), answer.pending), (5, 1), "{answer:?}");
}
