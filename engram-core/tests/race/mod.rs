//! How interleavings are explored: rounds of tiny worlds, half of them under a random scheduler,
//! half under one that makes few, well-placed changes of priority (PCT). A round is a function
//! of its seed, so a failing one is run again by it.
#![allow(
    unreachable_pub,
    clippy::panic,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "test support"
)]

mod compaction_laws;
mod failure_laws;
mod recall_laws;
pub mod world;

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use engram_core::clock::{Clock, Rng, SystemClock, SystemRng};
use engram_core::disk::Disk;
use engram_core::store::Scale;
use engram_core::{Options, Store};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

use crate::support::disk::{Image, MemDisk};
use crate::support::{DIR, FakeClock, FakeRng, mix};

/// Executions of one scheduler in one round.
const ROUND: usize = 40;
/// Changes of priority that PCT makes in one execution.
const DEPTH: usize = 3;
/// Far more than any of these worlds needs: who comes here goes round in circles.
const STEPS_MAX: usize = 400_000;
/// Rounds of each law in the gate, and the seed that they come from.
const ROUNDS: u64 = 5;
const SEED: u64 = 0x0E46_7A11;

fn from_env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Runs a world under many interleavings. The gate runs a few rounds, always the same ones;
/// `ENGRAM_RACE_SECONDS` runs new ones for so long, `ENGRAM_RACE_SEED` one round again.
pub fn explore(world: impl Fn() + Clone + Send + Sync + 'static) {
    let law = std::thread::current().name().unwrap_or_default().to_owned();
    if let Some(seed) = from_env("ENGRAM_RACE_SEED") {
        return round(&law, seed, &world);
    }
    let Some(seconds) = from_env("ENGRAM_RACE_SECONDS") else {
        (0..ROUNDS).for_each(|n| round(&law, mix(SEED ^ n), &world));
        return;
    };
    let started = SystemRng.u64();
    let until = clock() + Duration::from_secs(seconds);
    let mut done = 0;
    while clock() < until {
        round(&law, mix(started ^ done), &world);
        done += 1;
    }
    let schedules = done * 2 * ROUND as u64;
    println!("{law}: {schedules} schedules in {seconds} s");
}

fn clock() -> Duration {
    static CLOCK: OnceLock<SystemClock> = OnceLock::new();
    CLOCK.get_or_init(SystemClock::default).elapsed()
}

fn round(law: &str, seed: u64, world: &(impl Fn() + Clone + Send + Sync + 'static)) {
    let _told = Told { law, seed };
    run(RandomScheduler::new_from_seed(seed, ROUND), world.clone());
    run(PctScheduler::new_from_seed(seed, DEPTH, ROUND), world.clone());
}

fn run(scheduler: impl Scheduler + 'static, world: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    config.failure_persistence = FailurePersistence::None;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(world);
}

/// Says how to see a failure again.
struct Told<'a> {
    law: &'a str,
    seed: u64,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { law, seed } = self;
            eprintln!(
                "\nagain: ENGRAM_RACE_SEED={seed} cargo test -p engram-core --features shuttle \
                 --test race_tests {law}"
            );
        }
    }
}

/// Options for a world of few bytes: a segment holds five of [`TEXT`], a step of compaction one.
pub fn options(disk: &Arc<MemDisk>) -> Options {
    Options {
        segment_bytes: 16 << 10,
        scale: Scale {
            segment_bytes_min: 16 << 10,
            step_bytes: 4 << 10,
            garbage_bytes_min: 1 << 10,
            active_garbage_bytes_min: 1 << 10,
            ..Scale::default()
        },
        compact_automatically: false,
        compaction_bytes_per_second_max: 0,
        recovery_threads: 1,
        disk: Arc::clone(disk) as Arc<dyn Disk>,
        clock: Arc::new(FakeClock::default()),
        rng: Arc::new(FakeRng::new(7)),
        ..Options::default()
    }
}

/// A disk on which every call is a moment at which others may run.
pub fn disk(image: &Image) -> Arc<MemDisk> {
    let disk = MemDisk::of(image);
    let moment = AtomicBool::new(false);
    disk.observe(move |_| {
        moment.load(Ordering::SeqCst);
    });
    disk
}

/// What a store leaves on its disk after `life`: where a world begins.
pub fn image(life: impl Fn(&Store) + Send + Sync + 'static) -> Image {
    let left = Arc::new(Mutex::new(Image::new()));
    let image = Arc::clone(&left);
    run(RandomScheduler::new_from_seed(SEED, 1), move || {
        let disk = MemDisk::new();
        let store = Store::open(DIR, options(&disk)).unwrap();
        life(&store);
        store.close().unwrap();
        *image.lock().unwrap() = disk.image();
    });
    Arc::try_unwrap(left).unwrap().into_inner().unwrap()
}
