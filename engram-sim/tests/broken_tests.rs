//! The simulator is itself tested: engines and disks that break one promise each, and how many
//! seeds it takes until a law notices.
#![allow(clippy::panic, clippy::print_stdout, reason = "tests may panic, and tell")]

use std::sync::atomic::{AtomicUsize, Ordering};

use engram_core::sim::Broken;
use engram_sim::act::Plan;
use engram_sim::disk::BrokenDisk;
use engram_sim::staged;
use engram_sim::tally::Tally;
use engram_sim::world::{Sabotage, run};

/// What runs a seed.
type Runner = fn(u64, Option<Sabotage>) -> Result<(), String>;

fn random(seed: u64, sabotage: Option<Sabotage>) -> Result<(), String> {
    let found = run(&Plan::new(seed, &[]), sabotage, &mut Tally::default());
    found.map(drop).map_err(|violation| violation.what)
}

fn former_life(seed: u64, sabotage: Option<Sabotage>) -> Result<(), String> {
    staged::former_life(seed, sabotage, &mut Tally::default())
}

fn damaged_while_running(seed: u64, sabotage: Option<Sabotage>) -> Result<(), String> {
    staged::damaged_while_running(seed, sabotage, &mut Tally::default())
}

fn survivors(seed: u64, sabotage: Option<Sabotage>) -> Result<(), String> {
    staged::survivors(seed, sabotage, &mut Tally::default())
}

fn saved_vectors_hit(seed: u64, sabotage: Option<Sabotage>) -> Result<(), String> {
    staged::saved_vectors_hit(seed, sabotage, &mut Tally::default())
}

fn log_taken_back(seed: u64, sabotage: Option<Sabotage>) -> Result<(), String> {
    staged::log_taken_back(seed, sabotage, &mut Tally::default())
}

/// What is broken, by what it is noticed, and within how many seeds, from 0 on: about three times
/// what it took when it was measured.
const BROKEN: [(Sabotage, Runner, u64); 23] = [
    (Sabotage::Engine(Broken::AckBeforeSync), random, 3),
    (Sabotage::Engine(Broken::FailedSyncIgnored), random, 15),
    (Sabotage::Engine(Broken::HeaderChecksumIgnored), random, 18),
    (Sabotage::Engine(Broken::PayloadChecksumIgnored), random, 3),
    (Sabotage::Engine(Broken::SaltIgnored), former_life, 3),
    (Sabotage::Engine(Broken::DamageCutAsTail), random, 3),
    (Sabotage::Engine(Broken::NoQuarantine), random, 9),
    (Sabotage::Engine(Broken::GenerationReversed), random, 21),
    (Sabotage::Engine(Broken::LsnReused), random, 264),
    (Sabotage::Engine(Broken::TombstoneDroppedEarly), random, 15),
    (Sabotage::Engine(Broken::UnknownDropped), damaged_while_running, 3),
    (Sabotage::Engine(Broken::UndecodableDropped), random, 54),
    (Sabotage::Engine(Broken::SurvivorsNotRewritten), survivors, 3),
    (Sabotage::Engine(Broken::InputsRemovedEarly), random, 21),
    (Sabotage::Engine(Broken::IncidentForgotten), random, 84),
    (Sabotage::Engine(Broken::ForgottenStaysIndexed), random, 6),
    (Sabotage::Engine(Broken::SavedIndexUnchecked), saved_vectors_hit, 3),
    (Sabotage::Engine(Broken::SavedOwnerUnchecked), log_taken_back, 3),
    (Sabotage::Disk(BrokenDisk::SyncNothing), random, 3),
    (Sabotage::Disk(BrokenDisk::SyncDirNothing), random, 3),
    (Sabotage::Disk(BrokenDisk::RenameBeforeData), random, 3),
    (Sabotage::Disk(BrokenDisk::SyncAllButLast), random, 3),
    (Sabotage::Disk(BrokenDisk::RenameForgotten), random, 3),
];

/// The first seed that notices, and what it says.
fn caught(sabotage: Sabotage, by: Runner, seeds: u64) -> Option<(u64, String)> {
    (0..seeds).find_map(|seed| by(seed, Some(sabotage)).err().map(|what| (seed, what)))
}

/// On two threads, `work` for each number below `count`.
fn on_two_threads(count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    work(number);
                }
            });
        }
    });
}

#[test]
fn every_broken_promise_is_noticed_within_its_seeds() {
    on_two_threads(BROKEN.len(), |number| {
        let (sabotage, by, seeds) = BROKEN[number];
        let found = caught(sabotage, by, seeds);
        println!("{sabotage:?}, {seeds} seeds: {found:.160?}");
        assert!(found.is_some(), "{sabotage:?} went unnoticed for {seeds} seeds");
    });
}

#[test]
fn the_same_seeds_are_clean_when_no_promise_is_broken() {
    let most = |by: Runner| {
        let of_it = BROKEN.iter().filter(|(_, of, _)| std::ptr::fn_addr_eq(*of, by));
        of_it.map(|(_, _, seeds)| *seeds).max().expect("each finds something")
    };
    let scenes = [former_life, damaged_while_running, survivors, saved_vectors_hit, log_taken_back];
    for by in [random as Runner].into_iter().chain(scenes) {
        for seed in 0..most(by) {
            assert_eq!(by(seed, None), Ok(()), "seed {seed}");
        }
    }
}
