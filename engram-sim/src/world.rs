//! One run: a plan's acts, done to the real engine on a simulated disk, with the oracle beside.
//!
//! What must hold is in `law`; this file only does what the plan says.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use engram_core::metrics::Metrics;
use engram_core::sim::{self, Broken};
use engram_core::storage::wal::report::Incident;
use engram_core::store::{Pending, Scale};
use engram_core::{Condition, Draft, Episode, Error, Store, Timestamp};

use crate::act::{Act, End, Hit, Plan, Put};
use crate::dice::{Dice, SimClock, mix};
use crate::disk::state::{Chosen, Image, State};
use crate::disk::{BrokenDisk, Faults, SimDisk};
use crate::figures::Figures;
use crate::frames::{DIR, frames};
use crate::model::{Change, Key, Memory, Model};
use crate::tally::Tally;

/// Sizes of a simulated log: a few frames fill a segment.
pub const SCALE: Scale = Scale {
    segment_bytes_min: 16 << 10,
    step_bytes: 4 << 10,
    reserved_from_bytes: 1 << 10,
    garbage_bytes_min: 512,
    active_garbage_bytes_min: 1024,
    saved_vectors_min: 3,
    graph_vectors_min: 4,
    scan_vectors_max: 4,
};

/// What did not hold, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The act, by its place in the plan.
    pub act: usize,
    /// What.
    pub what: String,
}

/// What is broken on purpose, to see whether it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sabotage {
    /// The engine breaks a promise.
    Engine(Broken),
    /// The disk does.
    Disk(BrokenDisk),
}

/// A run under way.
#[derive(Debug)]
pub struct World {
    pub(crate) disk: SimDisk,
    pub(crate) store: Option<Store>,
    pub(crate) model: Model,
    pub(crate) figures: Figures,
    pub(crate) tally: Tally,
    pub(crate) durable: bool,
    /// Schemas known by the engine that runs, and by the next one.
    pub(crate) version: u16,
    pub(crate) next_version: u16,
    pub(crate) plan: Plan,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) lives: u64,
    pub(crate) sabotage: Option<Sabotage>,
    pub(crate) trace: Option<fn(&str)>,
    pub(crate) hits: Vec<(u64, Hit)>,
    /// The files as they were when the last life began.
    pub(crate) before: Image,
    /// Faults of disks that are gone.
    pub(crate) faults: Faults,
    pub(crate) digest: u64,
    /// Incidents known before this life began.
    pub(crate) known: Vec<Incident>,
    /// Names of files that were ever hit: what the device did not give at one start may be found
    /// damaged at a later one.
    pub(crate) ever_hit: BTreeSet<String>,
    /// Counters of recovery, as they were at the last start.
    pub(crate) counters: [u64; 4],
}

/// Runs a plan to its end.
///
/// # Errors
/// What did not hold.
pub fn run(plan: &Plan, sabotage: Option<Sabotage>, tally: &mut Tally) -> Result<u64, Violation> {
    run_told(plan, sabotage, tally, None)
}

/// [`run`], with every act and every call of the disk told.
///
/// # Errors
/// What did not hold.
pub fn run_told(
    plan: &Plan,
    sabotage: Option<Sabotage>,
    tally: &mut Tally,
    trace: Option<fn(&str)>,
) -> Result<u64, Violation> {
    let mut world = World::new(plan, sabotage);
    world.trace = trace;
    world.sabotage();
    let result = world.live();
    sim::break_promise(None);
    sim::set_schema(1);
    world.end_disk();
    let mut own = world.tally.clone();
    own.add_faults(&world.faults);
    tally.add(&own);
    result.map(|()| world.digest)
}

impl World {
    /// A world at its beginning.
    #[must_use]
    pub fn new(plan: &Plan, sabotage: Option<Sabotage>) -> Self {
        let mut state = State::default();
        if plan.legacy {
            state = State::of(crate::legacy::image());
        }
        state.add_dir(std::path::Path::new(DIR));
        let figures = Figures::default();
        let metrics = Arc::new(Metrics::new(&figures));
        let world = Self {
            disk: SimDisk::new(state),
            store: None,
            model: Model::default(),
            figures,
            tally: Tally::default(),
            durable: plan.durable,
            version: 1,
            next_version: 1,
            plan: plan.clone(),
            metrics,
            clock: Arc::default(),
            lives: 0,
            sabotage,
            trace: None,
            hits: Vec::new(),
            before: Image::new(),
            faults: Faults::default(),
            digest: 0,
            known: Vec::new(),
            ever_hit: BTreeSet::new(),
            counters: [0; 4],
        };
        world.sabotage();
        world
    }

    pub(crate) fn sabotage(&self) {
        self.disk.trace(self.trace);
        match self.sabotage {
            Some(Sabotage::Disk(broken)) => self.disk.break_promise(Some(broken)),
            Some(Sabotage::Engine(broken)) => sim::break_promise(Some(broken)),
            None => sim::break_promise(None),
        }
    }

    fn live(&mut self) -> Result<(), Violation> {
        let acts = self.plan.acts.clone();
        let blame = |act: usize| move |what: String| Violation { act, what };
        self.begin(&mut Dice::new(self.plan.seed), &[]).map_err(blame(0))?;
        for (number, (seed, act)) in acts.iter().enumerate() {
            self.disk.roll(mix(*seed));
            if let Some(tell) = self.trace {
                tell(&format!("act {number}: {act}"));
            }
            self.act(act, &mut Dice::new(*seed)).map_err(blame(number))?;
            if self.plan.recalls {
                self.beside(&mut Dice::new(mix(!seed))).map_err(blame(number))?;
            }
            if self.disk.is_dead() {
                let mut dice = Dice::new(mix(seed ^ 7));
                let end = self.end_after_crash(&mut dice);
                self.restart(end, &[], &mut dice).map_err(blame(number))?;
            }
        }
        self.disk.heal();
        self.disk.set_room(None);
        let last = acts.len();
        self.restart(End::Close, &[], &mut Dice::new(1)).map_err(blame(last))?;
        self.hits.clear();
        self.next_version = crate::replay::SCHEMA_NEWEST;
        self.restart(End::Close, &[], &mut Dice::new(2)).map_err(blame(last))
    }

    pub(crate) fn end_after_crash(&self, dice: &mut Dice) -> End {
        let loses = self.plan.kinds.contains(&crate::act::Kind::PowerLoss);
        if loses && dice.per_mille(700) { End::PowerLoss } else { End::Kill }
    }

    pub(crate) fn act(&mut self, act: &Act, dice: &mut Dice) -> Result<(), String> {
        self.tally.operations += 1;
        match act {
            Act::Put(put) => self.crowd(&[*put], dice, false),
            Act::Crowd(puts) => self.crowd(puts, dice, true),
            Act::Del { space, id } => {
                let put = Put { space: *space, id: *id, ..FORGET };
                self.crowd(&[put], dice, false)
            }
            Act::DelSpace { space } => self.forget_space(&space_name(*space)),
            Act::Batch { space, count, bytes } => self.batch(*space, *count, *bytes, dice),
            Act::Upkeep(turns) => {
                let mut idle = false;
                for _ in 0..*turns {
                    idle = self.store.as_ref().is_none_or(|store| !store.stepper().upkeep());
                    if idle {
                        break;
                    }
                }
                self.check_now(idle)
            }
            Act::Quiet => {
                self.clock.pass(Duration::from_secs(dice.below(70)));
                if let Some(store) = &self.store {
                    store.stepper().quiet();
                }
                Ok(())
            }
            Act::Compact => self.compact(),
            Act::Restart { end, again } => self.restart(*end, again, dice),
            Act::CrashAt(n) => {
                self.disk.crash_at(Some(u64::from(*n)));
                Ok(())
            }
            Act::Trouble(op, n, trouble) => {
                self.disk.plan(*op, u64::from(*n), *trouble);
                Ok(())
            }
            Act::Room(kib) => {
                self.disk.set_room(kib.map(|kib| u64::from(kib) << 10));
                Ok(())
            }
            Act::Version(schema) => {
                self.next_version = *schema;
                Ok(())
            }
            Act::Damage(hit) => {
                self.hits.push((dice.next(), *hit));
                Ok(())
            }
        }
    }

    /// Changes by several callers. With `stepped`, the writer and the upkeep take turns.
    fn crowd(&mut self, puts: &[Put], dice: &mut Dice, stepped: bool) -> Result<(), String> {
        let Some(store) = self.store.clone() else { return Ok(()) };
        let mut waiting = Vec::new();
        for put in puts {
            let key = key_of(put.space, put.id);
            if put.forget {
                let pending = store.forget(&key.0, &key.1, Condition::Any);
                waiting.push((Change::Del(key), put, pending.map(Waiting::Forget)));
                continue;
            }
            // An older version knows nothing of dimensions that a newer one defined.
            let dimension = if self.version < 2 { 0 } else { put.dimension };
            let draft = draft(put, dimension, dice);
            let episode = expected(&draft)?;
            let condition = if put.absent { Condition::Absent } else { Condition::Any };
            let pending = store.remember(&key.0, draft, condition);
            let change = Change::Put(key, Box::new(episode), self.version);
            waiting.push((change, put, pending.map(Waiting::Remember)));
        }
        if stepped {
            let turns = store.stepper();
            let mut aside = Dice::new(!dice.clone().next());
            for _ in 0..200 {
                let more = turns.write();
                if dice.per_mille(400) {
                    let _idle = turns.upkeep();
                }
                if self.plan.recalls && aside.per_mille(150) {
                    let changes: Vec<&Change> = waiting.iter().map(|(change, ..)| change).collect();
                    self.recall_between(&store, &changes)?;
                }
                if !more {
                    break;
                }
            }
        }
        // As the engine decides: each over what those before it do, though nobody knows yet that they did.
        let mut would_be = self.model.now().clone();
        let mut failed = false;
        for (change, put, pending) in waiting {
            let expected = expect(self.model.now(), &change, put.absent);
            let is_refused = expect(&would_be, &change, put.absent).is_some();
            let (queued, outcome) = match pending {
                Ok(Waiting::Remember(pending)) => (true, pending.wait().map(|done| done.lsn)),
                Ok(Waiting::Forget(pending)) => (true, pending.wait().map(|done| done.lsn)),
                Err(e) => (false, Err(e)),
            };
            if !is_refused {
                would_be.apply(&change, 0);
            }
            // What is refused makes no frame, whatever becomes of those before it.
            // Where acknowledged means written, what was applied fails when the sync that is due then does.
            let excused = failed && !self.durable;
            failed |= matches!(outcome, Err(Error::Poisoned { .. }));
            self.outcome(change, outcome, queued && !is_refused, expected, excused)?;
        }
        Ok(())
    }

    fn outcome(
        &mut self,
        change: Change,
        outcome: Result<u64, Error>,
        queued: bool,
        expected: Option<&'static str>,
        excused: bool,
    ) -> Result<(), String> {
        let told = match outcome {
            Ok(lsn) => {
                self.acknowledged(change, lsn, expected)?;
                return Ok(());
            }
            Err(Error::Poisoned { .. }) => {
                if queued {
                    self.model.doubt(change);
                }
                return Ok(());
            }
            Err(Error::DiskFull { .. }) => return self.may_be_full(),
            Err(Error::Dimension { .. }) => "dimension",
            Err(Error::Precondition { .. }) => "precondition",
            Err(Error::NoEpisode { .. }) => "no episode",
            Err(Error::NoSpace { .. }) => "no space",
            Err(e) => return Err(format!("a change was refused: {e}")),
        };
        if expected == Some(told) || excused {
            return Ok(());
        }
        Err(format!("a change was refused ({told}), by what callers know it must be {expected:?}"))
    }

    fn acknowledged(
        &mut self,
        change: Change,
        lsn: u64,
        expected: Option<&'static str>,
    ) -> Result<(), String> {
        self.tally.acknowledged += 1;
        if let Some(why) = expected {
            // What a lost forget had covered may still be forgotten once more.
            if !matches!(change, Change::Del(_)) || !self.tally.damaged() {
                return Err(format!("a change was made that must be refused ({why}): {change:?}"));
            }
        }
        if lsn <= self.model.highest_lsn {
            let highest = self.model.highest_lsn;
            return Err(format!("LSN {lsn} was given again: {highest} was seen before"));
        }
        if self.durable && self.disk.log_sync_failed() && !self.is_durable(lsn) {
            return Err(format!("LSN {lsn} was acknowledged after a failed sync"));
        }
        if self.model.in_doubt() {
            return Err(format!("LSN {lsn} was acknowledged behind a change that failed"));
        }
        self.model.acknowledge(change, lsn, self.durable);
        Ok(())
    }

    /// Whether a frame would outlive a power loss that spares nothing unsynced.
    fn is_durable(&self, lsn: u64) -> bool {
        let durable = self.disk.state().after_crash(&mut Chosen::new(&[]));
        frames(&durable.image()).iter().any(|frame| frame.header.lsn == lsn)
    }

    fn may_be_full(&self) -> Result<(), String> {
        let full = self.disk.is_bounded() || self.disk.faults().enospc > 0;
        if full { Ok(()) } else { Err("refused for want of room, and there is room".into()) }
    }

    fn forget_space(&mut self, space: &str) -> Result<(), String> {
        let Some(store) = self.store.clone() else { return Ok(()) };
        let change = Change::DelSpace(space.to_owned());
        let expected = expect(self.model.now(), &change, false);
        let pending = store.forget_space(space);
        let queued = pending.is_ok();
        let outcome = pending.and_then(Pending::wait).map(|done| done.lsn);
        self.outcome(change, outcome, queued, expected, false)
    }

    fn batch(&mut self, space: u8, count: u8, bytes: u16, dice: &mut Dice) -> Result<(), String> {
        let Some(store) = self.store.clone() else { return Ok(()) };
        let puts = (0..count).map(|id| Put { space, id, bytes, forget: false, ..FORGET });
        let drafts: Vec<Draft> = puts.map(|put| draft(&put, 0, dice)).collect();
        let name = space_name(space);
        let mut changes = Vec::new();
        for (id, draft) in (0..count).zip(&drafts) {
            let episode = Box::new(expected(draft)?);
            changes.push(Change::Put(key_of(space, id), episode, self.version));
        }
        let drafts = drafts.into_iter().map(Ok).collect();
        let pending = match store.remember_batch(&name, drafts, Condition::Any) {
            Ok(pending) => pending,
            Err(Error::Poisoned { .. }) => return Ok(()),
            Err(e) => return Err(format!("a batch was refused: {e}")),
        };
        match pending.wait() {
            Ok(done) => {
                let refused: Vec<usize> = done.rejected.iter().map(|(index, _)| *index).collect();
                for (_, e) in &done.rejected {
                    match e {
                        Error::DiskFull { .. } => self.may_be_full()?,
                        e => return Err(format!("an episode of a batch was refused: {e}")),
                    }
                }
                let mut kept = changes.into_iter().enumerate();
                let kept = kept.by_ref().filter(|(index, _)| !refused.contains(index));
                let kept: Vec<Change> = kept.map(|(_, change)| change).collect();
                if kept.len() != done.accepted {
                    return Err(format!("{} accepted, {} not refused", done.accepted, kept.len()));
                }
                // A definition of the space may take an LSN, so only the ends are told.
                let last = done.last_lsn.unwrap_or(0);
                let count = kept.len() as u64;
                for (number, change) in kept.into_iter().enumerate() {
                    let lsn = (last + 1 + number as u64).saturating_sub(count);
                    self.acknowledged(change, lsn, None)?;
                }
                Ok(())
            }
            Err(Error::Poisoned { .. }) => {
                for change in changes {
                    self.model.doubt(change);
                }
                if self.may_be_full().is_ok() {
                    self.model.expect_gaps();
                }
                Ok(())
            }
            Err(Error::DiskFull { .. }) => self.may_be_full(),
            Err(e) => Err(format!("a batch was refused: {e}")),
        }
    }

    fn compact(&mut self) -> Result<(), String> {
        let Some(store) = self.store.clone() else { return Ok(()) };
        match store.compact_from_memory() {
            Ok(stats) => crate::law::compacted(&stats)?,
            Err(e @ Error::Damaged { .. }) if !self.tally.damaged() => {
                return Err(format!("compaction found damage where there is none: {e}"));
            }
            // Whatever went wrong, the memory is as it was.
            Err(
                Error::Io { .. }
                | Error::Unreadable { .. }
                | Error::DiskFull { .. }
                | Error::Poisoned { .. }
                | Error::Damaged { .. },
            ) => {}
            Err(e) => return Err(format!("compaction failed: {e}")),
        }
        self.check_now(true)
    }
}

const FORGET: Put = Put { space: 0, id: 0, bytes: 0, dimension: 0, absent: false, forget: true };

enum Waiting {
    Remember(Pending<engram_core::store::Remembered>),
    Forget(Pending<engram_core::store::Forgotten>),
}

/// The name of a space.
#[must_use]
pub fn space_name(number: u8) -> String {
    format!("s{number}")
}

/// Space and id by their numbers.
#[must_use]
pub fn key_of(space: u8, id: u8) -> Key {
    (space_name(space), format!("e{id}"))
}

/// An episode to remember, of text that no other has.
#[must_use]
pub fn draft(put: &Put, dimension: u8, dice: &mut Dice) -> Draft {
    let mut what = format!("{:x} ", dice.next());
    let wanted = usize::from(put.bytes).max(1);
    while what.len() < wanted {
        what.push_str("and so on ");
    }
    what.truncate(wanted);
    let second = 1_700_000_000 + i64::try_from(dice.below(1000)).unwrap_or(0);
    Draft {
        id: Some(key_of(put.space, put.id).1),
        what,
        when: Timestamp::from_second(second).ok(),
        who: if dice.per_mille(200) { vec!["Ann".into()] } else { Vec::new() },
        embedding: crate::recall::direction(&mut Dice::new(!dice.clone().next()), dimension.into()),
        ..Draft::default()
    }
}

/// What a draft must be read back as.
///
/// # Errors
/// A draft that breaks a limit: a mistake of the simulator.
pub fn expected(draft: &Draft) -> Result<Episode, String> {
    draft.clone().check(Timestamp::UNIX_EPOCH, String::new).map_err(|e| e.to_string())
}

/// Why a change must be refused, where this is there; `None` when it must not.
fn expect(now: &Memory, change: &Change, absent: bool) -> Option<&'static str> {
    match change {
        Change::Put(key, episode, _) => {
            let given = u32::try_from(episode.embedding.len()).unwrap_or(u32::MAX);
            let dimension = now.dimensions.get(&key.0);
            if given > 0 && dimension.is_some_and(|&dimension| dimension != given) {
                return Some("dimension");
            }
            (absent && now.episodes.contains_key(key)).then_some("precondition")
        }
        Change::Del(key) => (!now.episodes.contains_key(key)).then_some("no episode"),
        Change::DelSpace(space) => (!now.has_space(space)).then_some("no space"),
    }
}
