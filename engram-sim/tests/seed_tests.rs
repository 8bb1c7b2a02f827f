//! Runs of fixed seeds: kept ones that found bugs, a few hundred more, and each the same twice.
#![allow(clippy::panic, clippy::print_stdout, reason = "tests may panic, and tell")]

use engram_sim::act::Plan;
use engram_sim::disk::BrokenDisk;
use engram_sim::shrink::shrink;
use engram_sim::tally::Tally;
use engram_sim::world::{Sabotage, run};

const KEPT: &str = include_str!("../seeds.txt");

fn run_seed(seed: u64, only: &[usize], tally: &mut Tally) -> u64 {
    run_plan(Plan::new(seed, &[]), seed, only, tally)
}

fn run_plan(mut plan: Plan, seed: u64, only: &[usize], tally: &mut Tally) -> u64 {
    if !only.is_empty() {
        plan = plan.only(only);
    }
    run(&plan, None, tally).unwrap_or_else(|violation| {
        panic!("seed {seed}:\n{}", shrink(&plan, &violation, None).story(&[]))
    })
}

/// Seed, `only=`, comment.
fn kept() -> Vec<(u64, Vec<usize>, &'static str)> {
    let lines = KEPT.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let parse = |line: &'static str| {
        let (seed, rest) = line.split_once(' ').expect("a seed has a comment");
        let (only, comment) = match rest.strip_prefix("only=") {
            Some(rest) => rest.split_once(' ').expect("a seed has a comment"),
            None => ("", rest),
        };
        let acts = only.split(',').filter(|act| !act.is_empty());
        let acts = acts.map(|act| act.parse().expect("the number of an act")).collect();
        (seed.parse().expect("a seed"), acts, comment)
    };
    lines.map(parse).collect()
}

#[test]
fn seeds_that_found_bugs_pass() {
    let seeds = kept();
    assert!(seeds.len() >= 15, "seeds.txt lost some");
    for (seed, only, comment) in seeds {
        println!("{seed}: {comment}");
        // With recalls, and as it was when nobody recalled.
        for recalls in [false, true] {
            let plan = Plan { recalls, ..Plan::new(seed, &[]) };
            run_plan(plan, seed, &only, &mut Tally::default());
        }
    }
}

#[test]
fn the_first_seeds_pass_and_meet_every_kind_of_trouble() {
    let mut tally = Tally::default();
    for seed in 0..200 {
        run_seed(seed, &[], &mut tally);
    }
    assert!(tally.crashes > 500 && tally.crashes_in_recovery > 100, "{tally}");
    let faults = tally.faults;
    let least = [faults.read_eio, faults.write_eio, faults.sync_eio, faults.enospc, faults.short];
    assert!(least.iter().all(|&count| count > 10) && tally.hits > 100, "{tally}");
    assert!(tally.recalls > 1_000 && tally.index_hits > 1, "{tally}");
}

#[test]
fn the_same_seed_gives_the_same_run_on_any_thread() {
    let digests = || -> Vec<(u64, Tally)> {
        let digest = |seed| {
            let mut tally = Tally::default();
            (run_seed(seed, &[], &mut tally), tally)
        };
        (200..240).map(digest).collect()
    };
    let here = digests();
    assert_eq!(here, digests(), "a second time");
    let there = std::thread::spawn(digests).join().expect("another thread");
    assert_eq!(here, there, "on another thread");
    let mut different: Vec<u64> = here.iter().map(|(digest, _)| *digest).collect();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), here.len(), "each seed's run is its own");
}

#[test]
fn a_failing_run_is_made_short_and_still_fails() {
    let sabotage = Some(Sabotage::Disk(BrokenDisk::SyncNothing));
    let plan = Plan::new(0, &[]);
    let found = run(&plan, sabotage, &mut Tally::default()).expect_err("a disk that syncs nothing");
    let shrunk = shrink(&plan, &found, sabotage);
    assert!(shrunk.plan.acts.len() <= 4, "{}", shrunk.story(&[]));
    run(&shrunk.plan, sabotage, &mut Tally::default()).expect_err("the shrunk run");
    assert!(shrunk.story(&[]).contains("make sim SEED=0 ONLY="), "{}", shrunk.story(&[]));
}
