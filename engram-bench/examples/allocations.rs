//! How many allocations one `remember` makes in the library, on all threads together.
//!
//! ```text
//! cargo run --release -p engram-bench --example allocations
//! ```
//! The drafts are made before, and the first calls do not count: buffers have grown by then. With
//! 32 writers, they wait for each other only before and after. Growing an allocation counts as
//! one. A program of its own: its allocator counts, which no other measurement should pay.

use std::alloc::System;
use std::error::Error;
use std::io::Write as _;
use std::path::Path;
use std::sync::Barrier;
use std::thread;

use engram_core::{Condition, Draft, Options, Store};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CALLS: usize = 6400;
const RECORD_BYTES: usize = 3500;
/// Of the log alone; the indexes are made behind it, on threads of their own.
const MOST: f64 = 3.0;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Whose ids they are.
#[derive(Debug, Clone, Copy)]
enum Ids {
    Given,
    Made,
}

fn drafts(writer: usize, calls: usize, ids: Ids) -> Vec<Draft> {
    let id = |number| match ids {
        Ids::Given => Some(format!("e{writer:03}{number:08}")),
        Ids::Made => None,
    };
    (0..calls).map(|n| Draft { id: id(n), ..Draft::of("w".repeat(RECORD_BYTES)) }).collect()
}

/// Allocations of one call, of so many writers at once.
fn count(store: &Store, writers: usize, ids: Ids) -> Outcome<f64> {
    let all_ready = Barrier::new(writers + 1);
    let all_done = Barrier::new(writers + 1);
    let write = |writer: usize| -> Outcome<()> {
        let mut drafts = drafts(writer, 2 * CALLS / writers, ids);
        let counted = drafts.split_off(CALLS / writers);
        let remember = |drafts: Vec<Draft>| -> Outcome<()> {
            for draft in drafts {
                store.remember("bench", draft, Condition::Any)?.wait()?;
            }
            Ok(())
        };
        let warm = remember(drafts);
        all_ready.wait();
        let outcome = remember(counted);
        all_done.wait();
        warm.and(outcome)
    };
    thread::scope(|scope| {
        let spawn = |writer| scope.spawn(move || write(writer));
        let threads: Vec<_> = (0..writers).map(spawn).collect();
        all_ready.wait();
        let region = Region::new(ALLOCATOR);
        all_done.wait();
        let change = region.change();
        for thread in threads {
            thread.join().map_err(|_| "a writer panicked")??;
        }
        let all = u32::try_from(change.allocations + change.reallocations)?;
        Ok(f64::from(all) / f64::from(u32::try_from(CALLS)?))
    })
}

fn main() -> Outcome<()> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench/allocations");
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "allocations of one remember of {RECORD_BYTES} bytes, target <= {MOST}:")?;
    for (name, index) in [("the log alone", false), ("with its defaults", true)] {
        for (writers, ids) in [(1, Ids::Given), (1, Ids::Made), (32, Ids::Given), (32, Ids::Made)] {
            let mut options = Options { index_in_background: index, ..Options::default() };
            if !index {
                options.embedder = None;
            }
            let store = Store::open(dir.join(format!("{index}-{writers}-{ids:?}")), options)?;
            let mean = count(&store, writers, ids)?;
            store.close()?;
            let verdict = match (index, mean <= MOST) {
                (true, _) => "",
                (false, true) => ": met",
                (false, false) => ": NOT MET",
            };
            let ids = format!("{ids:?}").to_lowercase();
            writeln!(stdout, "{name}, {writers:2} writers, ids {ids:5} {mean:6.2}{verdict}")?;
        }
    }
    Ok(std::fs::remove_dir_all(&dir)?)
}
