//! The upkeep thread: what is made ahead, compaction, gauges.
//!
//! It steps machines and waits between them; what is due is said by [`crate::store::policy`].

mod ahead;

use std::sync::Arc;
use std::sync::PoisonError;
use std::time::Duration;

use self::ahead::Ahead;
use super::{Asked, Shared, lock};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::storage::wal::compact::{Compaction, Progress};
use crate::storage::wal::knowledge::Knowledge as _;
use crate::storage::wal::report::{CompactionStats, WalState};
use crate::storage::wal::segments::Segment;
use crate::store::directory::Directory;
use crate::store::options::Drive;
use crate::store::policy::{Bounds, Job, View, next_job, seal_early};
use crate::sync::atomic::Ordering;
use crate::sync::thread;

/// How often maintenance looks while there are changes.
const MAINTENANCE_EVERY: Duration = Duration::from_millis(100);

/// How often it looks while there are none.
const MAINTENANCE_IDLE: Duration = Duration::from_secs(5);

/// The first pause after a failed compaction; it doubles up to the longest.
const BACK_OFF_MIN: Duration = Duration::from_secs(1);

const BACK_OFF_MAX: Duration = Duration::from_mins(1);

/// How long nobody must have written for what was asked for to go at full speed.
const QUIET_AFTER: Duration = Duration::from_millis(100);

/// Most steps of a spare that is late, in a turn that may have one of compaction.
const STEPS_BESIDE_A_RUN: usize = 8;

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// There is more to do at once.
    Busy,
    /// There is more to do, but not before the limit of speed allows it.
    Held,
    /// Nothing is due.
    Idle,
    /// The store is closing.
    Closed,
}

/// Spares, ballast and compaction.
#[derive(Debug)]
pub(super) struct Upkeep {
    shared: Arc<Shared>,
    ahead: Ahead,
    run: Option<Box<Compaction>>,
    /// Those who asked for a pass over all that is dead now.
    requested: Option<Requested>,
    not_before: Duration,
    back_off: Duration,
    /// Segments whose last run failed, and until when others come first.
    set_aside: Vec<(u32, Duration)>,
    looked_at: u64,
    /// Batches when compaction last looked, and when there were more than before.
    written: (u64, Duration),
    /// When it may take the next one.
    step_not_before: Duration,
}

/// A pass over all that is dead, for those who asked for it.
#[derive(Debug)]
struct Requested {
    asked: Vec<Asked>,
    stats: CompactionStats,
    /// LSNs that the pass has still to look at.
    range: (u64, u64),
}

impl Upkeep {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            ahead: Ahead::new(Arc::clone(&shared)),
            shared,
            run: None,
            requested: None,
            not_before: Duration::ZERO,
            back_off: BACK_OFF_MIN,
            set_aside: Vec::new(),
            looked_at: u64::MAX,
            written: (0, Duration::ZERO),
            step_not_before: Duration::ZERO,
        }
    }

    pub(super) fn run(mut self) {
        loop {
            match self.turn() {
                Turn::Busy | Turn::Held => self.pace(),
                Turn::Idle => self.wait(),
                Turn::Closed => return,
            }
        }
    }

    /// A part of each thing that is due.
    pub(super) fn turn(&mut self) -> Turn {
        let (closing, asked) = {
            let mut orders = lock(&self.shared.orders);
            orders.look = false;
            (orders.closing, std::mem::take(&mut orders.compact))
        };
        if closing {
            return Turn::Closed;
        }
        if self.shared.state() == WalState::Poisoned {
            self.stop(asked);
            return Turn::Idle;
        }
        if self.requested.is_none() && !asked.is_empty() {
            self.begin_request(asked);
        } else if !asked.is_empty() {
            // Who asks during a pass is answered by a pass of its own.
            lock(&self.shared.orders).compact.extend(asked);
        }
        let steps = if self.run.is_some() { STEPS_BESIDE_A_RUN } else { 1 };
        let filling = self.ahead.turn(steps);
        let compacts = self.compact();
        self.gauges();
        let behind = compacts != Turn::Idle && self.is_behind(self.shared.options.segment_bytes);
        if self.shared.behind.swap(behind, Ordering::AcqRel) && !behind {
            self.shared.wake_writer();
        }
        if filling { Turn::Busy } else { compacts }
    }

    /// On a poisoned log nothing is made ahead and nothing moves; who asks is told why.
    fn stop(&mut self, asked: Vec<Asked>) {
        self.run = None;
        let e = Error::Poisoned { cause: self.shared.poisoned_by().unwrap_or_default() };
        self.refuse_request(&e);
        for asked in asked {
            asked.answer(Err(e.clone()));
        }
        if self.shared.behind.swap(false, Ordering::AcqRel) {
            self.shared.wake_writer();
        }
    }

    /// A step of the compaction that runs, if one does: it needs no writer. Says whether it
    /// goes on.
    pub(super) fn go_on(&mut self) -> bool {
        self.run.is_some() && self.compact() == Turn::Busy
    }

    /// Begins a pass. The active segment is sealed first, if it holds a dead byte.
    fn begin_request(&mut self, asked: Vec<Asked>) {
        // Who asks shall hear of every segment, also of one that failed a moment ago.
        self.set_aside.clear();
        let shared = &self.shared;
        {
            let mut engine = shared.engine();
            let active = engine.writer.active_number();
            let dead = shared.memory.look(|directory| directory.usage(active).dead);
            if dead > 0
                && let Err(e) = engine.writer.sync().and_then(|()| engine.writer.rotate())
            {
                tracing::debug!(cause = %e, "the active segment could not be sealed for a pass");
            }
            shared.writer_needs.store(true, Ordering::Release);
            shared.publish(&engine.writer);
        }
        let range = (1, shared.seen.head_lsn.load(Ordering::Acquire));
        self.requested = Some(Requested { asked, stats: CompactionStats::default(), range });
        self.not_before = Duration::ZERO;
        self.step_not_before = Duration::ZERO;
    }

    fn now(&self) -> Duration {
        self.shared.env.clock.elapsed()
    }

    fn wait(&mut self) {
        let orders = lock(&self.shared.orders);
        if orders.closing || orders.look || !orders.compact.is_empty() {
            return;
        }
        // Disarmed before the look: a batch that the look misses wakes us.
        self.shared.maintenance_armed.swap(false, Ordering::AcqRel);
        let batches = self.shared.batches.load(Ordering::Relaxed);
        let changed = batches != self.looked_at;
        self.looked_at = batches;
        if changed {
            self.shared.maintenance_armed.store(true, Ordering::Release);
        }
        let waiting = self.requested.is_some() || self.shared.state() != WalState::Ready;
        let pause = if changed || waiting { MAINTENANCE_EVERY } else { MAINTENANCE_IDLE };
        drop(
            self.shared
                .maintain
                .wait_timeout(orders, pause)
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    /// Waits until the next step of what is under way.
    fn pace(&self) {
        let fill = self.ahead.pause();
        let step = self.run.as_ref().map(|_| self.step_not_before.saturating_sub(self.now()));
        match fill.into_iter().chain(step).min() {
            // For ever is too long: the limit gives way to garbage that comes faster.
            Some(pause) if !pause.is_zero() => self.rest(pause.min(MAINTENANCE_EVERY)),
            // Whoever waits for this core goes on now, and not when the time is up.
            _ => thread::yield_now(),
        }
    }

    /// One step of compaction.
    fn compact(&mut self) -> Turn {
        if self.shared.state() == WalState::Poisoned {
            self.stop(Vec::new());
            return Turn::Idle;
        }
        if self.run.is_none() && !self.begin_run() {
            return Turn::Idle;
        }
        let begun = self.now();
        let batches = self.shared.batches.load(Ordering::Relaxed);
        if batches != self.written.0 {
            self.written = (batches, begun);
        }
        if begun < self.step_not_before && !self.limit_gives_way() {
            return Turn::Held;
        }
        let Some(mut run) = self.run.take() else { return Turn::Idle };
        match run.step(&self.shared.memory) {
            Ok(Progress::More { bytes }) => {
                self.run = Some(run);
                self.throttle(bytes, begun);
            }
            Ok(Progress::Done(stats)) => self.run_done(&stats),
            Err(e) => self.run_failed(&run.input_numbers(), &e),
        }
        Turn::Busy
    }

    /// What the policy sees, without segments whose last run failed a moment ago: one that cannot
    /// be rewritten must not keep all others from it.
    fn views(&mut self) -> Vec<View> {
        let now = self.now();
        self.set_aside.retain(|&(_, until)| until > now);
        let mut views = self.shared.views();
        for view in &mut views {
            view.eligible &= !self.set_aside.iter().any(|&(number, _)| number == view.number);
        }
        views
    }

    fn begin_run(&mut self) -> bool {
        let automatic = self.shared.options.compact_automatically;
        if self.now() < self.not_before || (!automatic && self.requested.is_none()) {
            return false;
        }
        let bounds = self.shared.bounds(self.requested.as_ref().map(|requested| requested.range));
        self.seal_early(&bounds);
        let Some(job) = next_job(&self.views(), &bounds) else {
            self.finish_request();
            return false;
        };
        match self.begin_job(&job) {
            Ok(Some(run)) => {
                self.run = Some(Box::new(run));
                true
            }
            Ok(None) => {
                self.finish_request();
                false
            }
            Err(e) => {
                self.run_failed(&job.numbers, &e);
                false
            }
        }
    }

    fn begin_job(&mut self, job: &Job) -> Result<Option<Compaction>> {
        let shared = &self.shared;
        let mut inputs: Vec<_> =
            job.numbers.iter().filter_map(|&number| shared.segments.get(number)).collect();
        let durable = shared.make_reasons_durable()?;
        if shared.state() == WalState::Full {
            let given_up = self.ahead.give_up_ballast();
            tracing::debug!(given_up, "the disk is full: compaction takes the ballast's room");
        }
        if !self.has_room(&mut inputs)? {
            return Ok(None);
        }
        if let (Some(requested), Some(last)) = (&mut self.requested, inputs.last())
            && job.reason == "requested"
        {
            // Those that were left out for want of room come next.
            requested.range.0 = last.end + 1;
        }
        let shared = &self.shared;
        Compaction::begin(
            Arc::clone(&shared.env),
            Arc::clone(&shared.segments),
            Arc::clone(&shared.quarantine),
            inputs,
            durable,
            job.reason,
        )
        .map(Some)
    }

    /// Leaves inputs out, the last first, until there is room for what the others keep. Says
    /// whether a run over these is of use.
    fn has_room(&self, inputs: &mut Vec<Segment>) -> Result<bool> {
        let env = &self.shared.env;
        let available = env.disk.available_bytes(&env.dir).unwrap_or(u64::MAX);
        let dead = |segment: &Segment| self.shared.memory.look(|d| d.usage(segment.number).dead);
        let kept = |segment: &Segment| segment.bytes.saturating_sub(dead(segment));
        while inputs.len() > 1 && inputs.iter().map(kept).sum::<u64>() > available {
            inputs.pop();
        }
        // One segment without garbage was only to be joined with others.
        let worth = inputs.len() > 1 || inputs.iter().any(|s| s.needs_rewrite || dead(s) > 0);
        let needed = inputs.iter().map(kept).sum();
        if worth && needed > available {
            return Err(Error::DiskFull { available, needed, dir: env.dir.clone() });
        }
        Ok(worth)
    }

    /// Seals the active segment when its garbage is worth it.
    fn seal_early(&self, bounds: &Bounds) {
        let number = self.shared.seen.active_number.load(Ordering::Acquire);
        let (active, total) = self.shared.memory.look(|d| (d.usage(number), d.total_usage().live));
        // A read found damage in it: sealed, it can be rewritten.
        let damaged = self.shared.segments.get(number).is_some_and(|s| s.needs_rewrite);
        if !damaged && !seal_early(active, total, bounds) {
            return;
        }
        let mut engine = self.shared.engine();
        if engine.writer.active_number() != number || engine.writer.poisoned().is_some() {
            return;
        }
        if let Err(e) = engine.writer.sync().and_then(|()| engine.writer.rotate()) {
            tracing::debug!(cause = %e, "the active segment could not be sealed early");
        }
        self.shared.writer_needs.store(true, Ordering::Release);
        self.shared.publish(&engine.writer);
        drop(engine);
        self.shared.wake_maintenance();
    }

    fn run_done(&mut self, stats: &CompactionStats) {
        self.back_off = BACK_OFF_MIN;
        self.shared.env.metrics.compacted(stats);
        tracing::info!(
            reason = stats.reason,
            segments_in = stats.segments_in,
            frames_kept = stats.frames_kept,
            frames_dropped = stats.frames_dropped,
            bytes_reclaimed = stats.bytes_reclaimed,
            duration_seconds = stats.duration_seconds,
            "compacted"
        );
        if let Some(requested) = &mut self.requested {
            requested.stats.add(stats);
        }
    }

    /// The one of some segments whose file an error names; all of them where it names none.
    fn at_fault(&self, inputs: &[u32], e: &Error) -> Vec<u32> {
        let is_named = |number: u32| {
            let Error::Io { path, .. } = e else { return false };
            let segment = self.shared.segments.get(number);
            segment.is_some_and(|it| self.shared.env.wal_path(&it.name.file_name()) == *path)
        };
        let one = inputs.iter().copied().find(|&number| is_named(number));
        one.map_or_else(|| inputs.to_vec(), |one| vec![one])
    }

    fn run_failed(&mut self, inputs: &[u32], e: &Error) {
        let first = self.back_off == BACK_OFF_MIN;
        let retry_at_once = matches!(e, Error::Damaged { .. }) && first;
        if !retry_at_once {
            tracing::warn!(cause = %e, retry_in = ?self.back_off, "compaction failed; the log is as it was");
            self.not_before = self.now() + self.back_off;
            // Longer than the longest pause, after which others come first.
            let until = self.now() + 2 * BACK_OFF_MAX;
            let aside = self.at_fault(inputs, e);
            self.set_aside.extend(aside.into_iter().map(|number| (number, until)));
        }
        self.back_off = (self.back_off * 2).min(BACK_OFF_MAX);
        // Once: the ballast is made again while there is room, and would be given up for ever.
        if let Error::Io { .. } | Error::DiskFull { .. } = e
            && first
            && self.ahead.give_up_ballast()
        {
            self.not_before = Duration::ZERO;
        }
        self.shared.env.metrics.compaction_runs_failed.increment(1);
        if !retry_at_once {
            self.refuse_request(e);
        }
    }

    fn refuse_request(&mut self, e: &Error) {
        if let Some(requested) = self.requested.take() {
            for asked in requested.asked {
                asked.answer(Err(e.clone()));
            }
        }
    }

    fn finish_request(&mut self) {
        if let Some(Requested { asked, mut stats, .. }) = self.requested.take() {
            "requested".clone_into(&mut stats.reason);
            for asked in asked {
                asked.answer(Ok(stats.clone()));
            }
        }
    }

    /// Puts the next step off as long as the limit asks for after one of so many bytes.
    fn throttle(&mut self, bytes: u64, begun: Duration) {
        let rate = self.shared.options.compaction_bytes_per_second_max;
        let micros = bytes.saturating_mul(1_000_000).checked_div(rate);
        let pause = micros.filter(|_| !self.limit_gives_way()).map(Duration::from_micros);
        self.step_not_before = pause.map_or(Duration::ZERO, |pause| begun.saturating_add(pause));
    }

    /// Where garbage comes faster than it goes; and for what was asked for, as long as nobody writes: there is
    /// nobody to disturb.
    fn limit_gives_way(&self) -> bool {
        let quiet = || {
            let since = self.now().saturating_sub(self.written.1);
            since >= QUIET_AFTER && self.shared.engine.try_lock().is_some()
        };
        // Whoever steps the store waits in vain for time to pass.
        let steps = self.shared.options.drive == Drive::Steps;
        let asked = || self.requested.is_some() && (steps || quiet());
        self.is_behind(self.shared.options.segment_bytes / 2) || asked()
    }

    /// Waits, unless the store is closing or somebody called.
    fn rest(&self, pause: Duration) {
        let orders = lock(&self.shared.orders);
        if !orders.closing && !orders.look {
            let waited = self.shared.maintain.wait_timeout(orders, pause);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Whether garbage comes faster than it goes. The log must not grow without bound: first the
    /// speed limit gives way, then the writer waits.
    fn is_behind(&self, slack: u64) -> bool {
        let usage = self.shared.memory.look(Directory::total_usage);
        usage.dead > usage.live.saturating_add(slack)
    }

    fn gauges(&self) {
        let shared = &self.shared;
        let metrics = &shared.env.metrics;
        let (usage, episodes, spaces) =
            shared.memory.look(|d| (d.total_usage(), d.episodes(), d.spaces_count()));
        Metrics::set(&metrics.live_bytes, usage.live);
        Metrics::set(&metrics.dead_bytes, usage.dead);
        Metrics::set(&metrics.episodes, episodes);
        Metrics::set(&metrics.spaces, spaces);
        Metrics::set(&metrics.segments, shared.segments.count());
        Metrics::set(&metrics.preallocated_bytes, shared.preallocated_bytes());
    }
}
