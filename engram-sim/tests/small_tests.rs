//! All workloads of one operation, crashed everywhere. `make sim-small` runs longer ones.
#![allow(clippy::print_stdout, reason = "tests may panic, and tell")]

use engram_sim::small::{Workload, campaign, workloads};

#[test]
fn every_crash_of_every_workload_of_one_operation_keeps_the_laws() {
    let tally = campaign(0..workloads(1), 2, 1, |line| println!("{line}"));
    assert_eq!(tally.violations, 0);
    assert_eq!(tally.seeds, workloads(1));
    assert!(tally.crashes > 10_000, "{tally}");
}

#[test]
fn each_number_is_a_workload_of_its_own() {
    let mut all: Vec<String> =
        (0..workloads(2)).map(|number| Workload::new(number).to_string()).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len() as u64, workloads(2));
}
