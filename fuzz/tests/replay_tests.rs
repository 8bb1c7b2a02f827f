//! The laws of every target, over its corpus and over random inputs near it: a few seconds, the
//! same every time.

#![expect(clippy::disallowed_methods, reason = "reads the corpus, not the engine's data")]

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use engram_fuzz::havoc::{self, Random};
use engram_fuzz::{TARGETS, target};

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let entries = std::fs::read_dir(&dir).expect("the target's corpus");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("an input")).collect()
}

/// What is allocated is counted for the whole process: one target at a time, whoever runs the tests.
static TURN: Mutex<()> = Mutex::new(());

fn replay(name: &str, random_inputs: usize) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let target = target(name).expect("a target");
    let mut known = (target.seeds)();
    known.extend(corpus(name));
    for input in &known {
        (target.run)(input);
    }
    let mut random = Random::new(1);
    for _ in 0..random_inputs {
        (target.run)(&havoc::input(&mut random, &known, target.input_bytes_max));
    }
}

#[test]
fn frames_hold_their_laws() {
    replay("frame", 20_000);
}

#[test]
fn scans_hold_their_laws() {
    replay("scan", 500);
}

#[test]
fn whole_directories_hold_their_laws() {
    replay("recovery", 150);
}

#[test]
fn take_overs_hold_their_laws() {
    replay("takeover", 500);
}

#[test]
fn episodes_as_json_hold_their_laws() {
    replay("json", 10_000);
}

#[test]
fn cues_hold_their_laws() {
    replay("cue", 10_000);
}

#[test]
fn settings_hold_their_laws() {
    replay("config", 300);
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let entries = std::fs::read_dir(dir).expect("the corpus");
    let mut there: Vec<_> = entries.map(|it| it.expect("an entry").file_name()).collect();
    there.sort();
    let mut named: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    named.sort_unstable();
    assert_eq!(there, named);
}
