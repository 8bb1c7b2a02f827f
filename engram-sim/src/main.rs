//! `engram-sim`: runs seeds of the simulator, one or many.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a command line tool: it prints, and looks at the clock"
)]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use engram_sim::act::{Kind, Plan};
use engram_sim::shrink::shrink;
use engram_sim::tally::Tally;
use engram_sim::{small, world};

/// Runs the engine over bad disks, and holds it to its promises.
#[derive(Debug, Parser)]
struct Args {
    /// Run this seed only (or from this one on, with --seeds or --seconds).
    #[arg(long)]
    seed: Option<u64>,
    /// Run so many seeds.
    #[arg(long)]
    seeds: Option<u64>,
    /// Run fresh seeds for so long.
    #[arg(long)]
    seconds: Option<u64>,
    /// Run these acts of the seed only, by number from 0.
    #[arg(long, value_delimiter = ',')]
    only: Vec<usize>,
    /// Kinds of trouble to leave out.
    #[arg(long, value_delimiter = ',', value_parser = Kind::parse)]
    without: Vec<Kind>,
    /// Tell every act and every call of the disk.
    #[arg(long)]
    trace: bool,
    /// Threads; each runs seeds of its own.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Run all workloads of up to so many operations with all their crashes (or, with --seed, the
    /// one of that number, or --seeds from there on).
    #[arg(long)]
    small: Option<u32>,
    /// Stop after so many violations.
    #[arg(long, default_value_t = 3)]
    violations_max: u64,
}

struct Campaign<'a> {
    args: &'a Args,
    next: AtomicU64,
    until: Option<Instant>,
    last: u64,
    tally: Mutex<Tally>,
    stop: AtomicBool,
}

impl Campaign<'_> {
    fn work(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed > self.last || self.until.is_some_and(|until| Instant::now() >= until) {
                return;
            }
            self.run(seed);
        }
    }

    fn run(&self, seed: u64) {
        let mut plan = Plan::new(seed, &self.args.without);
        if !self.args.only.is_empty() {
            plan = plan.only(&self.args.only);
        }
        let mut tally = Tally { seeds: 1, ..Tally::default() };
        let tell: fn(&str) = |line| println!("{line}");
        let trace = self.args.trace.then_some(tell);
        let result = world::run_told(&plan, None, &mut tally, trace);
        tally.violations = u64::from(result.is_err());
        let all = {
            let Ok(mut sum) = self.tally.lock() else { return };
            sum.add(&tally);
            sum.violations
        };
        if let Err(violation) = result
            && all <= self.args.violations_max
        {
            let mut shrunk = shrink(&plan, &violation, None);
            if !self.args.only.is_empty() {
                // By their numbers in the seed's whole plan.
                let only = &self.args.only;
                shrunk.kept = shrunk.kept.iter().filter_map(|&at| only.get(at).copied()).collect();
            }
            println!("seed {seed}:\n{}", shrunk.story(&self.args.without));
            self.stop.fetch_or(all >= self.args.violations_max, Ordering::Relaxed);
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let begun = Instant::now();
    if let Some(depth) = args.small {
        let first = args.seed.unwrap_or(0);
        let count = args.seeds.or(args.seed.map(|_| 1)).unwrap_or(u64::MAX);
        let numbers = first..first.saturating_add(count).min(small::workloads(depth));
        let tell = |line: &str| println!("{line}");
        let tally = small::campaign(numbers, args.jobs, args.violations_max, tell);
        let seconds = begun.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate, rounded")]
        let rate = tally.crashes as f64 / seconds;
        println!(
            "workloads of up to {depth} operations: {} crash points in {seconds:.1} s, {rate:.0} a second",
            tally.crashes
        );
        println!("{tally}");
        return if tally.violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let fresh = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() << 20);
    let first = args.seed.unwrap_or(if args.seconds.is_some() { fresh } else { 0 });
    let alone = args.seed.is_some() && args.seeds.is_none() && args.seconds.is_none();
    let count = if alone { Some(1) } else { args.seeds };
    let campaign = Campaign {
        args: &args,
        next: AtomicU64::new(first),
        until: args.seconds.map(|seconds| begun + Duration::from_secs(seconds)),
        last: count.map_or(u64::MAX, |count| first.saturating_add(count - 1)),
        tally: Mutex::default(),
        stop: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(|| campaign.work());
        }
    });
    let Ok(tally) = campaign.tally.lock() else { return ExitCode::FAILURE };
    println!("seeds from {first}, {:.1} s", begun.elapsed().as_secs_f64());
    println!("{tally}");
    if tally.violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
