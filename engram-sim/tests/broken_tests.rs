//! The simulator is itself tested: engines and disks that break one promise each, and how many
//! seeds it takes until a law notices.

use std::sync::atomic::{AtomicUsize, Ordering};

use engram_core::sim::Broken;
use engram_sim::act::Plan;
use engram_sim::disk::BrokenDisk;
use engram_sim::tally::Tally;
use engram_sim::world::{Sabotage, run};

/// What is broken, and within how many seeds, from 0 on, it must be caught: about three times
/// what it took when it was measured.
const BROKEN: [(Sabotage, u64); 20] = [
    (Sabotage::Engine(Broken::AckBeforeSync), 3000),
    (Sabotage::Engine(Broken::FailedSyncIgnored), 3000),
    (Sabotage::Engine(Broken::HeaderChecksumIgnored), 3000),
    (Sabotage::Engine(Broken::PayloadChecksumIgnored), 3000),
    (Sabotage::Engine(Broken::SaltIgnored), 3000),
    (Sabotage::Engine(Broken::DamageCutAsTail), 3000),
    (Sabotage::Engine(Broken::NoQuarantine), 3000),
    (Sabotage::Engine(Broken::GenerationReversed), 3000),
    (Sabotage::Engine(Broken::LsnReused), 3000),
    (Sabotage::Engine(Broken::TombstoneDroppedEarly), 3000),
    (Sabotage::Engine(Broken::UnknownDropped), 3000),
    (Sabotage::Engine(Broken::UndecodableDropped), 3000),
    (Sabotage::Engine(Broken::SurvivorsNotRewritten), 3000),
    (Sabotage::Engine(Broken::InputsRemovedEarly), 3000),
    (Sabotage::Engine(Broken::IncidentForgotten), 3000),
    (Sabotage::Disk(BrokenDisk::SyncNothing), 3000),
    (Sabotage::Disk(BrokenDisk::SyncDirNothing), 3000),
    (Sabotage::Disk(BrokenDisk::RenameBeforeData), 3000),
    (Sabotage::Disk(BrokenDisk::SyncAllButLast), 3000),
    (Sabotage::Disk(BrokenDisk::RenameForgotten), 3000),
];

/// The first seed that notices, and what it says.
fn caught(sabotage: Sabotage, seeds: u64) -> Option<(u64, String)> {
    (0..seeds).find_map(|seed| {
        let found = run(&Plan::new(seed, &[]), Some(sabotage), &mut Tally::default());
        found.err().map(|violation| (seed, violation.what))
    })
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
        let (sabotage, seeds) = BROKEN[number];
        let found = caught(sabotage, seeds);
        println!("{sabotage:?} {found:.160?}");
    });
}
