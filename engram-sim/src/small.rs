//! Small worlds, all of them: every workload of a few operations, a crash before each changing
//! call of its last operation and after it, and every subset of what was not synced then.
//!
//! The random runs find what takes many acts; here nothing short is left to chance. A crash in
//! an operation that is not the last is that of a shorter workload. Deliberately absent: bad
//! calls of the disk and damage at rest, which [`crate::world`] draws.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use engram_core::storage::wal::report::Incident;

use crate::act::{Act, End, Kind, Plan, Put};
use crate::dice::{Dice, mix};
use crate::disk::SimDisk;
use crate::disk::state::{Chosen, Fate, State};
use crate::legacy;
use crate::model::{Change, Model};
use crate::tally::Tally;
use crate::world::World;

/// So many unsynced changes at most are taken in every combination.
pub const EXHAUSTIVE_CHANGES_MAX: usize = 6;
/// Of more changes, so many combinations are drawn, beside none, all, and each alone.
pub const DRAWN_COMBINATIONS: u64 = 8;
/// One crash of so many has its recovery cut short too, at each of its changing calls.
pub const NESTED_ONE_OF: u64 = 16;
/// After one crash of so many the memory is used further, and after another power is lost.
pub const USED_ONE_OF: u64 = 8;
/// The most operations of a workload that the numbers of workloads allow for.
pub const DEPTH_MAX: u32 = 12;

const SMALL_BYTES: u16 = 60;
/// Two of these do not fit into a segment.
const BIG_BYTES: u16 = 6000;

const fn put(id: u8, bytes: u16) -> Act {
    Act::Put(Put { space: 0, id, bytes, dimension: 0, absent: false, forget: false })
}

/// What a workload is made of. An operation that comes twice overwrites, or finds nothing to do.
const OPERATIONS: [Act; 9] = [
    put(0, SMALL_BYTES),
    put(1, BIG_BYTES),
    Act::Del { space: 0, id: 0 },
    Act::DelSpace { space: 0 },
    Act::Batch { space: 0, count: 3, bytes: 300 },
    Act::Compact,
    Act::Upkeep(40),
    Act::Quiet,
    Act::Restart { end: End::Close, again: Vec::new() },
];

/// What a workload begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// An empty directory.
    Empty,
    /// A v0.1.0 directory.
    Legacy,
    /// Sealed segments with dead frames in them.
    Garbage,
}

const FIRSTS: [First; 3] = [First::Empty, First::Legacy, First::Garbage];

/// One workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    number: u64,
    first: First,
    acts: Vec<Act>,
}

/// How many workloads have at most so many operations.
#[must_use]
pub fn workloads(depth: u32) -> u64 {
    let of_length = |length| (OPERATIONS.len() as u64).pow(length);
    FIRSTS.len() as u64 * (0..=depth.min(DEPTH_MAX)).map(of_length).sum::<u64>()
}

impl Workload {
    /// A workload by its number; shorter ones come first.
    #[must_use]
    pub fn new(number: u64) -> Self {
        let (kinds, firsts) = (OPERATIONS.len() as u64, FIRSTS.len() as u64);
        let place = |n: u64| usize::try_from(n).unwrap_or(0);
        let mut rest = number / firsts;
        let mut length = 0;
        while rest >= kinds.pow(length) && length < DEPTH_MAX {
            rest -= kinds.pow(length);
            length += 1;
        }
        let mut acts = Vec::new();
        for _ in 0..length {
            acts.push(OPERATIONS[place(rest % kinds)].clone());
            rest /= kinds;
        }
        Self { number, first: FIRSTS[place(number % firsts)], acts }
    }

    fn plan(&self) -> Plan {
        Plan {
            seed: self.number,
            segment_bytes: 16 << 10,
            automatic: true,
            durable: true,
            kinds: vec![Kind::Kill, Kind::PowerLoss],
            legacy: self.first == First::Legacy,
            recalls: false,
            moves: false,
            acts: Vec::new(),
        }
    }

    /// Runs it, and crashes its last operation everywhere.
    ///
    /// # Errors
    /// The crash after which something did not hold, and what.
    pub fn run(&self, tally: &mut Tally) -> Result<(), String> {
        let mut world = World::new(&self.plan(), None);
        let result = self.run_in(&mut world);
        engram_core::sim::set_schema(1);
        tally.add(&world.tally);
        result.map_err(|what| self.story(&what))
    }

    fn run_in(&self, world: &mut World) -> Result<(), String> {
        let mut acts = self.acts.clone();
        let mut before_that = Vec::new();
        if self.first == First::Garbage {
            before_that.extend([put(1, BIG_BYTES), put(2, BIG_BYTES), put(0, SMALL_BYTES)]);
            before_that.extend([put(2, SMALL_BYTES), Act::Del { space: 0, id: 0 }]);
        }
        let last = acts.pop();
        before_that.extend(acts);
        if last.is_none() && before_that.is_empty() {
            world.disk.watch();
        }
        world.begin(&mut Dice::new(self.number), &[])?;
        for (number, act) in before_that.iter().enumerate() {
            world.act(act, &mut Dice::new(number as u64))?;
        }
        let before = if let Some(last) = &last {
            let before = world.model.clone();
            world.disk.watch();
            world.act(last, &mut Dice::new(before_that.len() as u64))?;
            before
        } else {
            self.before_the_first_start()
        };
        Crashes::new(world, &before).all()
    }

    /// What callers know of a memory that never ran: a take-over may end or not.
    fn before_the_first_start(&self) -> Model {
        let mut model = Model::default();
        if self.first == First::Legacy {
            for (key, known) in legacy::episodes() {
                model.doubt(Change::Put(key, Box::new(known.episode), known.schema));
            }
        }
        model
    }

    fn story(&self, what: &str) -> String {
        let (number, depth) = (self.number, self.acts.len());
        format!("{self}\n{what}\nAgain: engram-sim --small {depth} --seed {number}")
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.first {
            First::Empty => "A new memory",
            First::Legacy => "A memory taken over from v0.1.0",
            First::Garbage => "A memory with dead frames in sealed segments",
        })?;
        for (number, act) in self.acts.iter().enumerate() {
            write!(f, "\n{:>3}. {act}", number + 1)?;
        }
        Ok(())
    }
}

/// How a life ends.
#[derive(Debug, Clone)]
enum Ended {
    Killed,
    /// Power is lost; of the unsynced changes those are kept whose bit is set.
    PowerLost(Vec<bool>),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::PowerLost(kept) = self else { return write!(f, "the process is killed") };
        let bits: String = kept.iter().map(|&kept| if kept { '1' } else { '0' }).collect();
        write!(f, "power is lost, of the unsynced changes ({bits}) those with a 1 are kept")
    }
}

/// The crashes of one operation.
struct Crashes<'a> {
    world: &'a mut World,
    /// What callers know before the operation, and behind it.
    models: [Model; 2],
    known: Vec<Incident>,
    states: Vec<State>,
    seen: HashSet<u64>,
}

impl<'a> Crashes<'a> {
    fn new(world: &'a mut World, before: &Model) -> Self {
        let states = world.disk.snapshots();
        let mut during = world.model.clone();
        during.promise_only(before);
        let models = [during, world.model.clone()];
        world.disk.kill();
        world.store = None;
        let known = world.known.clone();
        Self { world, models, known, states, seen: HashSet::new() }
    }

    fn all(&mut self) -> Result<(), String> {
        let states = std::mem::take(&mut self.states);
        for (call, state) in states.iter().enumerate() {
            let is_last = call + 1 == states.len();
            let result = self.crash(state, is_last);
            result.map_err(|what| format!("It crashes at changing call {call}: {what}"))?;
        }
        Ok(())
    }

    fn crash(&mut self, state: &State, is_last: bool) -> Result<(), String> {
        self.recover(state, is_last, &Ended::Killed)?;
        let changes = state.unsynced();
        if changes <= EXHAUSTIVE_CHANGES_MAX {
            let mut tree = Tree::default();
            while tree.more {
                tree.at = 0;
                let after = state.after_crash(&mut tree);
                self.recover(&after, is_last, &Ended::PowerLost(tree.bits.clone()))?;
                tree.advance();
            }
            return Ok(());
        }
        let mut dice = Dice::new(self.world.tally.crashes);
        let mut sets = vec![vec![false; changes], vec![true; changes]];
        for alone in 0..changes {
            sets.push((0..changes).map(|at| at == alone).collect());
            sets.push((0..changes).map(|at| at != alone).collect());
        }
        for _ in 0..DRAWN_COMBINATIONS {
            sets.push((0..changes).map(|_| dice.per_mille(500)).collect());
        }
        for bits in sets {
            let after = state.after_crash(&mut Chosen::new(&bits));
            self.recover(&after, is_last, &Ended::PowerLost(bits))?;
        }
        Ok(())
    }

    /// One crash, unless the same was seen: recovery, and of some the recovery's crashes.
    fn recover(&mut self, state: &State, is_last: bool, ended: &Ended) -> Result<(), String> {
        if !self.seen.insert(mix(state.digest() ^ u64::from(is_last))) {
            return Ok(());
        }
        let number = self.world.tally.crashes;
        self.world.tally.crashes += 1;
        let calls = self.start(state.clone(), is_last, &[]);
        let calls = calls.map_err(|what| format!("{ended}.\n{what}"))?;
        if number.is_multiple_of(USED_ONE_OF) {
            let used = self.use_further();
            used.map_err(|what| format!("{ended}, and the memory is used further.\n{what}"))?;
        }
        if number % USED_ONE_OF == 1 {
            // What was shown once stays.
            let lost = self.lose_power();
            lost.map_err(|what| format!("{ended}, and after recovery power is lost.\n{what}"))?;
        }
        if !number.is_multiple_of(NESTED_ONE_OF) {
            return Ok(());
        }
        for call in 0..calls.min(255) {
            self.world.tally.crashes += 1;
            let again = [u8::try_from(call).unwrap_or(u8::MAX)];
            self.start(state.clone(), is_last, &again).map_err(|what| {
                format!("{ended}, and recovery crashes at its changing call {call}.\n{what}")
            })?;
        }
        Ok(())
    }

    /// Opens what a crash left, and holds it to the laws. Gives the changing calls of that.
    fn start(&mut self, state: State, is_last: bool, again: &[u8]) -> Result<u64, String> {
        let world = &mut *self.world;
        world.disk.kill();
        world.store = None;
        world.disk = SimDisk::new(state);
        world.model = self.models[usize::from(is_last)].clone();
        world.known.clone_from(&self.known);
        world.begin(&mut Dice::new(world.tally.crashes), again)?;
        Ok(world.disk.changing_calls())
    }

    fn use_further(&mut self) -> Result<(), String> {
        let dice = &mut Dice::new(self.world.tally.crashes);
        self.world.act(&put(3, SMALL_BYTES), dice)?;
        self.world.act(&Act::Upkeep(40), dice)
    }

    fn lose_power(&mut self) -> Result<(), String> {
        let dice = &mut Dice::new(self.world.tally.crashes);
        self.world.act(&Act::Restart { end: End::PowerLoss, again: Vec::new() }, dice)
    }
}

/// Walks through every combination of choices, however many each asks for.
#[derive(Debug)]
struct Tree {
    bits: Vec<bool>,
    at: usize,
    more: bool,
}

impl Default for Tree {
    fn default() -> Self {
        Self { bits: Vec::new(), at: 0, more: true }
    }
}

impl Tree {
    /// On to the next combination: the last change that was lost is kept.
    fn advance(&mut self) {
        self.bits.truncate(self.at);
        while self.bits.pop_if(|kept| *kept).is_some() {}
        match self.bits.last_mut() {
            Some(lost) => *lost = true,
            None => self.more = false,
        }
    }
}

impl Fate for Tree {
    fn kept(&mut self) -> bool {
        if self.at == self.bits.len() {
            self.bits.push(false);
        }
        self.at += 1;
        self.bits[self.at - 1]
    }
}

/// Runs the workloads with these numbers on some threads; [`workloads`] says how many there are.
/// Violations are told, up to `violations_max`; then it stops.
#[must_use]
pub fn campaign(numbers: Range<u64>, jobs: usize, violations_max: u64, tell: fn(&str)) -> Tally {
    let (next, stop) = (AtomicU64::new(numbers.start), AtomicBool::new(false));
    let sum = Mutex::new(Tally::default());
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= numbers.end {
                return;
            }
            let mut tally = Tally { seeds: 1, ..Tally::default() };
            let result = Workload::new(number).run(&mut tally);
            tally.violations = u64::from(result.is_err());
            let Ok(mut sum) = sum.lock() else { return };
            sum.add(&tally);
            if let Err(story) = result
                && sum.violations <= violations_max
            {
                tell(&format!("workload {number}:\n{story}\n"));
                stop.fetch_or(sum.violations >= violations_max, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(work);
        }
    });
    sum.into_inner().unwrap_or_default()
}
