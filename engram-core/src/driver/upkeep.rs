//! The upkeep thread: spares, ballast, compaction, gauges.
//!
//! It steps machines and waits between them; what is due is said by [`crate::store::policy`].

use std::sync::Arc;
use std::sync::PoisonError;
use std::time::Duration;

use super::{Asked, Shared, lock, trim};
use crate::disk::Open;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::storage::wal::compact::{Compaction, Progress};
use crate::storage::wal::env::{is_full, remove_if_there};
use crate::storage::wal::knowledge::Knowledge as _;
use crate::storage::wal::prealloc::{Filled, ZeroFill};
use crate::storage::wal::report::{CompactionStats, WalState};
use crate::storage::wal::segment::{BALLAST_NAME, SPARE_NAME};
use crate::storage::wal::segments::Segment;
use crate::store::directory::Directory;
use crate::store::policy::{Bounds, Job, View, next_job, seal_early, spare_is_late};
use crate::sync::atomic::Ordering;
use crate::sync::thread;

/// How often maintenance looks while there are changes.
const MAINTENANCE_EVERY: Duration = Duration::from_millis(100);

/// How often it looks while there are none.
const MAINTENANCE_IDLE: Duration = Duration::from_secs(5);

/// The first pause after a failed compaction; it doubles up to the longest.
const BACK_OFF_MIN: Duration = Duration::from_secs(1);

const BACK_OFF_MAX: Duration = Duration::from_mins(1);

/// How long it waits between two steps of a spare that is not late: 64 MB/s. A segment of zeros all at
/// once holds up every sync beside it.
const FILL_PAUSE: Duration = Duration::from_millis(4);

/// Steps of a spare that is late, to one of compaction.
const STEPS_BESIDE_A_RUN: usize = 4;

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// There is more to do at once.
    Busy,
    /// Nothing is due.
    Idle,
    /// The store is closing.
    Closed,
}

/// Spares, ballast and compaction.
#[derive(Debug)]
pub(super) struct Upkeep {
    shared: Arc<Shared>,
    spare: Option<ZeroFill>,
    /// The writer has no next segment.
    spare_wanted: bool,
    /// Bytes that the active segment had left when the spare was begun.
    left_at_begin: u64,
    ballast: Option<ZeroFill>,
    ballast_wanted: bool,
    run: Option<Box<Compaction>>,
    /// Those who asked for a pass over all that is dead now.
    requested: Option<Requested>,
    not_before: Duration,
    back_off: Duration,
    /// Segments whose last run failed, and until when others come first.
    set_aside: Vec<(u32, Duration)>,
    spare_not_before: Duration,
    looked_at: u64,
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
            shared,
            spare: None,
            spare_wanted: false,
            left_at_begin: 0,
            ballast: None,
            ballast_wanted: true,
            run: None,
            requested: None,
            not_before: Duration::ZERO,
            back_off: BACK_OFF_MIN,
            set_aside: Vec::new(),
            spare_not_before: Duration::ZERO,
            looked_at: u64::MAX,
        }
    }

    pub(super) fn run(mut self) {
        loop {
            match self.turn() {
                Turn::Busy => self.pace(),
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
        self.ask_writer();
        let mut busy = self.make_spare();
        // Beside a step of compaction, which is longer.
        for _ in 1..STEPS_BESIDE_A_RUN {
            if self.run.is_some() && self.spare_is_late() {
                busy |= self.make_spare();
            }
        }
        busy |= self.make_ballast();
        let filling = [&self.spare, &self.ballast].into_iter().flatten();
        let filling = filling.map(ZeroFill::done_bytes).sum();
        self.shared.seen.filling_bytes.store(filling, Ordering::Relaxed);
        let compacts = self.compact();
        busy |= compacts;
        self.gauges();
        let behind = compacts && self.is_behind(self.shared.options.segment_bytes);
        if self.shared.behind.swap(behind, Ordering::AcqRel) && !behind {
            self.shared.wake_writer();
        }
        if busy { Turn::Busy } else { Turn::Idle }
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
        self.run.is_some() && self.compact()
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

    /// Waits between two steps of a file of zeros, unless it is late.
    fn pace(&self) {
        if self.run.is_some() || (self.spare.is_none() && self.ballast.is_none()) {
            // Whoever waits for this core goes on now, and not when the time is up.
            return thread::yield_now();
        }
        if !self.spare_is_late() {
            self.rest(FILL_PAUSE);
        }
    }

    fn spare_is_late(&self) -> bool {
        let left = self.shared.seen.unused_bytes.load(Ordering::Relaxed);
        self.spare.as_ref().is_some_and(|fill| {
            spare_is_late(fill.done_bytes(), fill.bytes(), self.left_at_begin, left)
        })
    }

    /// Sees what the writer needs. Its lock is not easily had while it writes, so this is not for
    /// every turn.
    fn ask_writer(&mut self) {
        if self.spare.is_some() || !self.shared.writer_needs.swap(false, Ordering::AcqRel) {
            return;
        }
        let mut engine = self.shared.engine();
        self.spare_wanted = !engine.writer.has_spare();
        let ends = std::mem::take(&mut engine.writer.trim);
        drop(engine);
        trim(ends);
    }

    /// One step towards the next spare. Says whether there is more to do.
    fn make_spare(&mut self) -> bool {
        let fill = match self.spare.take() {
            Some(fill) => Ok(Some(fill)),
            None => self.begin_spare(),
        };
        let shared = Arc::clone(&self.shared);
        match fill.and_then(|fill| fill.map(|fill| fill.step(&shared.env)).transpose()) {
            Ok(None) => return false,
            Ok(Some(Filled::More(fill))) => self.spare = Some(fill),
            Ok(Some(Filled::Done(spare))) => {
                let writer = &mut shared.engine().writer;
                writer.give_spare(spare);
                shared.publish(writer);
                self.spare_wanted = false;
            }
            Err(e) => return self.spare_failed(&e),
        }
        true
    }

    fn begin_spare(&mut self) -> std::io::Result<Option<ZeroFill>> {
        let shared = &self.shared;
        if !self.spare_wanted || self.now() < self.spare_not_before {
            return Ok(None);
        }
        let bytes = {
            let writer = &shared.engine().writer;
            if writer.poisoned().is_some() {
                return Ok(None);
            }
            self.left_at_begin = writer.unused_bytes();
            writer.next_segment_bytes()
        };
        let room = shared.env.disk.available_bytes(&shared.env.dir).unwrap_or(u64::MAX);
        let bytes = if room < bytes * 2 { shared.env.scale.segment_bytes_min } else { bytes };
        if room < bytes {
            self.spare_not_before = self.now() + MAINTENANCE_EVERY;
            return Ok(None);
        }
        ZeroFill::begin(&shared.env, SPARE_NAME, bytes).map(Some)
    }

    fn spare_failed(&mut self, e: &std::io::Error) -> bool {
        self.spare_not_before = self.now() + MAINTENANCE_EVERY;
        if !is_full(e) {
            tracing::debug!(cause = %e, "no spare segment could be made");
        }
        false
    }

    /// Keeps room for compaction on a full disk.
    fn make_ballast(&mut self) -> bool {
        let fill = match self.ballast.take() {
            Some(fill) => Ok(Some(fill)),
            None => self.begin_ballast(),
        };
        let shared = Arc::clone(&self.shared);
        match fill.and_then(|fill| fill.map(|fill| fill.step(&shared.env)).transpose()) {
            Ok(None) => return false,
            Ok(Some(Filled::More(fill))) => self.ballast = Some(fill),
            Ok(Some(Filled::Done(ballast))) => {
                self.ballast_wanted = false;
                shared.seen.ballast_bytes.store(ballast.bytes, Ordering::Relaxed);
            }
            Err(e) => return self.spare_failed(&e),
        }
        true
    }

    fn begin_ballast(&mut self) -> std::io::Result<Option<ZeroFill>> {
        let env = &self.shared.env;
        let spare = self.shared.seen.spare_bytes.load(Ordering::Relaxed);
        if !self.ballast_wanted || spare == 0 || self.now() < self.spare_not_before {
            return Ok(None);
        }
        if env.disk.available_bytes(&env.dir).unwrap_or(0) < spare * 4 {
            return Ok(None);
        }
        let have = env.disk.open(&env.wal_path(BALLAST_NAME), Open::Read);
        if let Ok(bytes) = have.and_then(|file| file.len())
            && bytes >= spare
        {
            self.ballast_wanted = false;
            self.shared.seen.ballast_bytes.store(bytes, Ordering::Relaxed);
            return Ok(None);
        }
        ZeroFill::begin(env, BALLAST_NAME, spare).map(Some)
    }

    /// Gives the ballast up, so that compaction has room. Says whether there was one.
    fn give_up_ballast(&mut self) -> bool {
        let env = &self.shared.env;
        self.ballast_wanted = true;
        self.shared.seen.ballast_bytes.store(0, Ordering::Relaxed);
        remove_if_there(env.disk.as_ref(), &env.wal_path(BALLAST_NAME)).unwrap_or(false)
    }

    /// One step of compaction. Says whether there is more to do.
    fn compact(&mut self) -> bool {
        if self.shared.state() == WalState::Poisoned {
            self.stop(Vec::new());
            return false;
        }
        if self.run.is_none() && !self.begin_run() {
            return false;
        }
        let Some(mut run) = self.run.take() else { return false };
        match run.step(&self.shared.memory) {
            Ok(Progress::More { bytes }) => {
                self.run = Some(run);
                self.throttle(bytes);
            }
            Ok(Progress::Done(stats)) => self.run_done(&stats),
            Err(e) => self.run_failed(&run.input_numbers(), &e),
        }
        true
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
        if let (Some(requested), Some(last)) = (&mut self.requested, inputs.last())
            && job.reason == "requested"
        {
            requested.range.0 = last.end + 1;
        }
        if shared.state() == WalState::Full {
            let given_up = self.give_up_ballast();
            tracing::debug!(given_up, "the disk is full: compaction takes the ballast's room");
        }
        if !self.has_room(&mut inputs)? {
            return Ok(None);
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
        self.shared.env.metrics.compaction_runs_failed.increment(1);
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
            && self.give_up_ballast()
        {
            self.not_before = Duration::ZERO;
        }
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

    /// Waits as long as the rate asks for.
    fn throttle(&self, bytes: u64) {
        let rate = self.shared.options.compaction_bytes_per_second_max;
        if rate == 0
            || bytes == 0
            || self.requested.is_some()
            || self.is_behind(self.shared.options.segment_bytes / 2)
        {
            return;
        }
        self.rest(Duration::from_micros(bytes.saturating_mul(1_000_000) / rate));
    }

    /// Waits, unless the store is closing; for less when somebody calls.
    fn rest(&self, pause: Duration) {
        let orders = lock(&self.shared.orders);
        if !orders.closing {
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
