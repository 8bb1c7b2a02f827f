//! The only threads: one steps the writer, one makes spares and steps the compactor.
//!
//! A caller that blocks on its change and finds the writer idle steps it itself: a lonely
//! writer then pays no hand-over between threads. Everything that decides anything is a step
//! machine elsewhere; this file only waits, locks and calls.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::disk::write_all_at;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::storage::wal::compact::{Compaction, MemoryCell, Progress};
use crate::storage::wal::env::{Env, is_full, remove_if_there};
use crate::storage::wal::knowledge::Knowledge;
use crate::storage::wal::prealloc::{Filled, ZeroFill};
use crate::storage::wal::quarantine::Quarantine;
use crate::storage::wal::report::{CompactionStats, WalState};
use crate::storage::wal::segment::{BALLAST_NAME, SPARE_NAME};
use crate::storage::wal::segments::{Segment, Segments};
use crate::storage::wal::writer::Writer;
use crate::store::commit::{Answers, Committer, DirectoryCell, Group};
use crate::store::directory::Directory;
use crate::store::policy::{Bounds, Job, View, next_job, seal_early};
use crate::store::{Durability, Options};

/// How long the log must be quiet before a mark is left.
const IDLE_MARK_AFTER: Duration = Duration::from_millis(200);
/// How often maintenance looks while there are changes.
const MAINTENANCE_EVERY: Duration = Duration::from_millis(100);
/// How often it looks while there are none.
const MAINTENANCE_IDLE: Duration = Duration::from_secs(5);
/// The first pause after a failed compaction; it doubles up to the longest.
const BACK_OFF_MIN: Duration = Duration::from_secs(1);
const BACK_OFF_MAX: Duration = Duration::from_secs(60);
/// Bytes of changes that may wait, beside their number.
const QUEUE_BYTES_MAX: usize = 256 << 20;

/// The directory behind its lock.
#[derive(Debug, Default)]
pub(crate) struct Memory(RwLock<Directory>);

impl Memory {
    pub(crate) fn new(directory: Directory) -> Self {
        Self(RwLock::new(directory))
    }

    pub(crate) fn into_inner(self) -> Directory {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the directory.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&Directory) -> R) -> R {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl MemoryCell for Memory {
    fn read(&self, look: &mut dyn FnMut(&dyn Knowledge)) {
        look(&*self.0.read().unwrap_or_else(PoisonError::into_inner));
    }

    fn write(&self, change: &mut dyn FnMut(&mut dyn Knowledge)) {
        change(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl DirectoryCell for Memory {
    fn with(&self, look: &mut dyn FnMut(&Directory)) {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner));
    }

    fn with_mut(&self, change: &mut dyn FnMut(&mut Directory)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Where the answers to a group will be.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    state: Mutex<SlotState>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct SlotState {
    answers: Option<Answers>,
    waker: Option<Waker>,
}

impl Slot {
    fn fill(&self, answers: Answers) {
        let mut state = lock(&self.state);
        state.answers = Some(answers);
        let waker = state.waker.take();
        drop(state);
        self.ready.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn wait(&self) -> Answers {
        let mut state = lock(&self.state);
        loop {
            if let Some(answers) = state.answers.take() {
                return answers;
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A change on its way to the disk: block on [`Pending::wait`], or await it.
///
/// Dropped, it goes its way all the same; only nobody hears of its end.
#[derive(Debug)]
pub struct Pending<T> {
    slot: Option<Arc<Slot>>,
    shared: Arc<Shared>,
    convert: fn(Answers) -> Result<T>,
    handed_over: bool,
}

impl<T> Pending<T> {
    /// Blocks until the change is acknowledged or refused.
    ///
    /// # Errors
    /// Why it was refused, or [`Error::Poisoned`] when its outcome is unknown.
    pub fn wait(mut self) -> Result<T> {
        let Some(slot) = self.slot.take() else { return Err(Error::Closed) };
        if !self.handed_over {
            self.shared.lead_or_hand_over();
        }
        let answers = slot.wait();
        (self.convert)(answers)
    }

    fn hand_over(&mut self) {
        if !self.handed_over {
            self.handed_over = true;
            self.shared.wake_writer();
        }
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.hand_over();
        let Some(slot) = &self.slot else { return Poll::Ready(Err(Error::Closed)) };
        let mut state = lock(&slot.state);
        if let Some(answers) = state.answers.take() {
            drop(state);
            self.slot = None;
            return Poll::Ready((self.convert)(answers));
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        if self.slot.is_some() {
            self.hand_over();
        }
    }
}

#[derive(Debug, Default)]
struct Queue {
    groups: VecDeque<Group<Arc<Slot>>>,
    changes: usize,
    bytes: usize,
    closing: bool,
}

#[derive(Debug)]
struct Engine {
    writer: Writer,
    committer: Committer<Arc<Slot>>,
}

/// What any thread may see of the writer without waiting for it.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) head_lsn: AtomicU64,
    pub(crate) synced_lsn: AtomicU64,
    pub(crate) unused_bytes: AtomicU64,
    pub(crate) spare_bytes: AtomicU64,
    pub(crate) ballast_bytes: AtomicU64,
    full: AtomicBool,
    poisoned: AtomicBool,
    cause: Mutex<Option<String>>,
}

#[derive(Debug, Default)]
struct Orders {
    compact: Vec<Arc<CompactSlot>>,
    closing: bool,
    look: bool,
}

#[derive(Debug, Default)]
struct CompactSlot {
    result: Mutex<Option<Result<CompactionStats>>>,
    ready: Condvar,
}

/// What the threads and the callers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) env: Arc<Env>,
    pub(crate) options: Options,
    pub(crate) segments: Arc<Segments>,
    pub(crate) quarantine: Arc<Quarantine>,
    pub(crate) memory: Memory,
    pub(crate) seen: Seen,
    queue: Mutex<Queue>,
    work: Condvar,
    engine: Mutex<Engine>,
    /// Groups of the last batch: who is alone steps the writer itself.
    last_batch: AtomicU64,
    /// Batches so far.
    batches: AtomicU64,
    /// The writer's thread has been told that a mark will be due.
    mark_armed: AtomicBool,
    orders: Mutex<Orders>,
    maintain: Condvar,
    maintenance_armed: AtomicBool,
}

/// The threads of one open store.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the driver is given.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) env: Arc<Env>,
    pub(crate) options: Options,
    pub(crate) segments: Arc<Segments>,
    pub(crate) quarantine: Arc<Quarantine>,
    pub(crate) directory: Directory,
    pub(crate) writer: Writer,
}

impl Driver {
    pub(crate) fn start(parts: Parts) -> Result<Self> {
        let Parts { env, options, segments, quarantine, directory, writer } = parts;
        let committer = Committer::new(options.durability);
        let shared = Arc::new(Shared {
            env,
            options,
            segments,
            quarantine,
            memory: Memory::new(directory),
            seen: Seen::default(),
            queue: Mutex::default(),
            work: Condvar::new(),
            engine: Mutex::new(Engine { writer, committer }),
            last_batch: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            mark_armed: AtomicBool::new(false),
            orders: Mutex::default(),
            maintain: Condvar::new(),
            maintenance_armed: AtomicBool::new(true),
        });
        shared.publish(&lock(&shared.engine).writer);
        let driver = Self { shared: Arc::clone(&shared), threads: Mutex::default() };
        let writer = Arc::clone(&shared);
        driver.spawn("engram-writer", move || writer.write_loop())?;
        driver.spawn("engram-upkeep", move || Maintenance::new(shared).run())?;
        Ok(driver)
    }

    fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
        let thread = std::thread::Builder::new().name(name.into()).spawn(run);
        let thread =
            thread.map_err(|e| Error::io("start a thread for", &self.shared.env.dir, &e))?;
        lock(&self.threads).push(thread);
        Ok(())
    }

    /// Stops accepting, finishes what was accepted, leaves a mark.
    pub(crate) fn close(&self) -> Result<()> {
        lock(&self.shared.queue).closing = true;
        self.shared.work.notify_all();
        lock(&self.shared.orders).closing = true;
        self.shared.maintain.notify_all();
        let threads = std::mem::take(&mut *lock(&self.threads));
        if threads.is_empty() {
            return Ok(());
        }
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the log panicked");
            }
        }
        let mut engine = lock(&self.shared.engine);
        if engine.writer.poisoned().is_some() {
            return Ok(());
        }
        let closed = engine.writer.mark();
        self.shared.publish(&engine.writer);
        closed
    }
}

impl Shared {
    /// Queues changes; they go their way when somebody waits for them or drops the handle.
    pub(crate) fn submit<T>(
        self: &Arc<Self>,
        changes: Vec<Result<crate::store::commit::Change>>,
        convert: fn(Answers) -> Result<T>,
    ) -> Result<Pending<T>> {
        self.refuse_poisoned()?;
        let count = changes.len();
        let bytes: usize = changes.iter().flatten().map(|change| change.payload.len()).sum();
        let slot = Arc::new(Slot::default());
        {
            let mut queue = lock(&self.queue);
            if queue.closing {
                return Err(Error::Closed);
            }
            let bound = self.options.queue_max;
            let over = queue.changes + count > bound || queue.bytes + bytes > QUEUE_BYTES_MAX;
            if over && queue.changes > 0 {
                let e = Error::Busy { queued: queue.changes, bound };
                drop(queue);
                self.env.metrics.write_refused(&e);
                return Err(e);
            }
            queue.changes += count;
            queue.bytes += bytes;
            queue.groups.push_back(Group { changes, ticket: Arc::clone(&slot) });
        }
        let shared = Arc::clone(self);
        Ok(Pending { slot: Some(slot), shared, convert, handed_over: false })
    }

    fn refuse_poisoned(&self) -> Result<()> {
        if !self.seen.poisoned.load(Ordering::Acquire) {
            return Ok(());
        }
        let cause = lock(&self.seen.cause).clone().unwrap_or_default();
        let e = Error::Poisoned { cause };
        self.env.metrics.write_refused(&e);
        Err(e)
    }

    /// What the log is doing.
    pub(crate) fn state(&self) -> WalState {
        if self.seen.poisoned.load(Ordering::Acquire) {
            WalState::Poisoned
        } else if self.seen.full.load(Ordering::Acquire) {
            WalState::Full
        } else {
            WalState::Ready
        }
    }

    /// Why the log is poisoned, if it is.
    pub(crate) fn poisoned_by(&self) -> Option<String> {
        lock(&self.seen.cause).clone()
    }

    fn wake_writer(&self) {
        // Taking the lock keeps the wake-up from falling between a look and a wait.
        drop(lock(&self.queue));
        self.work.notify_one();
    }

    /// Steps the writer, if it is idle and there is no crowd; else leaves it to its thread.
    fn lead_or_hand_over(&self) {
        if self.last_batch.load(Ordering::Relaxed) <= 1
            && let Ok(mut engine) = self.engine.try_lock()
        {
            self.commit_once(&mut engine);
            drop(engine);
            if lock(&self.queue).groups.is_empty() {
                return;
            }
        }
        self.wake_writer();
    }

    /// Takes all that waits, and commits it.
    fn commit_once(&self, engine: &mut Engine) {
        let (groups, changes, bytes) = {
            let mut queue = lock(&self.queue);
            let groups: Vec<_> = queue.groups.drain(..).collect();
            (groups, std::mem::take(&mut queue.changes), std::mem::take(&mut queue.bytes))
        };
        if groups.is_empty() {
            return;
        }
        self.last_batch.store(groups.len() as u64, Ordering::Relaxed);
        Metrics::record(&self.env.metrics.batch_records, changes as u64);
        Metrics::record(&self.env.metrics.batch_bytes, bytes as u64);
        let Engine { writer, committer } = engine;
        let run = AssertUnwindSafe(|| {
            committer.begin(groups);
            committer.run(writer, &self.memory)
        });
        let answered = catch_unwind(run).unwrap_or_else(|_| {
            let e = writer.poison("the writer panicked".into());
            committer.abort(&e)
        });
        self.publish(writer);
        self.batches.fetch_add(1, Ordering::Relaxed);
        for (slot, answers) in answered {
            for e in answers.iter().filter_map(|answer| answer.as_ref().err()) {
                self.env.metrics.write_refused(e);
            }
            slot.fill(answers);
        }
        self.arm(writer);
    }

    /// Tells the threads, once per quiet time, that there is something to look at.
    fn arm(&self, writer: &Writer) {
        if self.options.durability != Durability::Never
            && !self.mark_armed.swap(true, Ordering::AcqRel)
        {
            self.wake_writer();
        }
        if !writer.has_spare() || !writer.trim.is_empty() {
            self.wake_maintenance();
        } else if !self.maintenance_armed.swap(true, Ordering::AcqRel) {
            self.maintain.notify_one();
        }
    }

    pub(crate) fn wake_maintenance(&self) {
        self.maintenance_armed.store(true, Ordering::Release);
        lock(&self.orders).look = true;
        self.maintain.notify_one();
    }

    /// Lets everybody see where the writer is.
    fn publish(&self, writer: &Writer) {
        let metrics = &self.env.metrics;
        self.seen.head_lsn.store(writer.written_lsn(), Ordering::Release);
        self.seen.synced_lsn.store(writer.synced_lsn(), Ordering::Release);
        self.seen.unused_bytes.store(writer.unused_bytes(), Ordering::Relaxed);
        self.seen.spare_bytes.store(writer.spare_bytes(), Ordering::Relaxed);
        self.seen.full.store(writer.is_full(), Ordering::Release);
        Metrics::set(&metrics.head_lsn, writer.written_lsn());
        Metrics::set(&metrics.synced_lsn, writer.synced_lsn());
        if let Some(cause) = writer.poisoned()
            && !self.seen.poisoned.load(Ordering::Acquire)
        {
            *lock(&self.seen.cause) = Some(cause.to_owned());
            self.seen.poisoned.store(true, Ordering::Release);
        }
    }

    fn write_loop(&self) {
        let mut quiet_at = u64::MAX;
        loop {
            let mut queue = lock(&self.queue);
            if queue.groups.is_empty() {
                if queue.closing {
                    return;
                }
                let batches = self.batches.load(Ordering::Relaxed);
                if let Some(pause) = self.pause() {
                    let (locked, timeout) = self
                        .work
                        .wait_timeout(queue, pause)
                        .unwrap_or_else(PoisonError::into_inner);
                    queue = locked;
                    if timeout.timed_out() && queue.groups.is_empty() {
                        drop(queue);
                        self.on_quiet(batches == quiet_at);
                        quiet_at = self.batches.load(Ordering::Relaxed);
                        continue;
                    }
                } else {
                    queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
            }
            Metrics::set(&self.env.metrics.queue_depth, queue.changes as u64);
            let empty = queue.groups.is_empty();
            drop(queue);
            if !empty {
                self.commit_once(&mut lock(&self.engine));
            }
        }
    }

    /// How long the writer's thread may wait; `None` for as long as nobody calls.
    fn pause(&self) -> Option<Duration> {
        if !self.mark_armed.load(Ordering::Acquire) {
            return None;
        }
        match self.options.durability {
            Durability::Interval(every) => Some(every.min(IDLE_MARK_AFTER)),
            Durability::Always | Durability::Never => Some(IDLE_MARK_AFTER),
        }
    }

    /// Nobody called for a while: sync what an interval leaves, and mark the end once.
    fn on_quiet(&self, still: bool) {
        let mut engine = lock(&self.engine);
        if engine.writer.poisoned().is_some() {
            self.mark_armed.store(false, Ordering::Release);
            return;
        }
        let result = if still {
            self.mark_armed.store(false, Ordering::Release);
            engine.writer.mark()
        } else {
            engine.writer.sync()
        };
        if let Err(e) = result {
            tracing::debug!(cause = %e, "the idle log could not be synced");
        }
        self.publish(&engine.writer);
    }

    /// Runs compaction over all that is dead, and waits for it.
    pub(crate) fn compact_now(&self) -> Result<CompactionStats> {
        let slot = Arc::new(CompactSlot::default());
        {
            let mut orders = lock(&self.orders);
            if orders.closing {
                return Err(Error::Closed);
            }
            orders.compact.push(Arc::clone(&slot));
        }
        self.maintain.notify_one();
        let mut result = lock(&slot.result);
        loop {
            if let Some(result) = result.take() {
                return result;
            }
            result = slot.ready.wait(result).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What the policy sees.
    fn views(&self) -> Vec<View> {
        let applied = self.seen.head_lsn.load(Ordering::Acquire);
        let segments = self.segments.list();
        self.memory.look(|directory| {
            segments
                .iter()
                .map(|segment| View {
                    number: segment.number,
                    eligible: segment.sealed
                        && !segment.keep
                        && !segment.header.accepted_loss
                        && segment.end <= applied,
                    needs_rewrite: segment.needs_rewrite,
                    bytes: segment.bytes,
                    usage: directory.usage(segment.number),
                })
                .collect()
        })
    }

    /// What compaction will do next, in words.
    pub(crate) fn next_compaction(&self) -> String {
        match next_job(&self.views(), &self.bounds(false)) {
            Some(job) => format!("rewrites {} segments ({})", job.numbers.len(), job.reason),
            None => "nothing to do".into(),
        }
    }

    fn bounds(&self, everything: bool) -> Bounds {
        let now = self.env.clock.now().as_second();
        // Half the time is left for the run itself, and for a run that fails.
        let max = i64::try_from(self.options.forget_erase_max.as_secs() / 2).unwrap_or(i64::MAX);
        Bounds {
            segment_bytes_max: self.options.segment_bytes,
            forgotten_before: now.saturating_sub(max),
            everything,
        }
    }
}

/// Spares, ballast and compaction.
struct Maintenance {
    shared: Arc<Shared>,
    spare: Option<ZeroFill>,
    ballast: Option<ZeroFill>,
    ballast_wanted: bool,
    run: Option<Box<Compaction>>,
    /// Those who asked for a run, and what it did so far.
    requested: Option<(Vec<Arc<CompactSlot>>, CompactionStats)>,
    not_before: Duration,
    back_off: Duration,
    spare_not_before: Duration,
    looked_at: u64,
}

impl Maintenance {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            spare: None,
            ballast: None,
            ballast_wanted: true,
            run: None,
            requested: None,
            not_before: Duration::ZERO,
            back_off: BACK_OFF_MIN,
            spare_not_before: Duration::ZERO,
            looked_at: u64::MAX,
        }
    }

    fn run(mut self) {
        loop {
            let asked = {
                let mut orders = lock(&self.shared.orders);
                orders.look = false;
                (orders.closing, std::mem::take(&mut orders.compact))
            };
            let (closing, asked) = asked;
            if closing {
                self.stop(asked);
                return;
            }
            if !asked.is_empty() {
                let (slots, _) =
                    self.requested.get_or_insert_with(|| (Vec::new(), CompactionStats::default()));
                slots.extend(asked);
                self.not_before = Duration::ZERO;
            }
            self.trim();
            let mut busy = self.make_spare();
            busy |= self.make_ballast();
            busy |= self.compact();
            self.gauges();
            if !busy {
                self.wait();
            }
        }
    }

    fn now(&self) -> Duration {
        self.shared.env.clock.elapsed()
    }

    fn wait(&mut self) {
        let orders = lock(&self.shared.orders);
        if orders.closing || orders.look || !orders.compact.is_empty() {
            return;
        }
        let batches = self.shared.batches.load(Ordering::Relaxed);
        let changed = batches != self.looked_at;
        self.looked_at = batches;
        self.shared.maintenance_armed.store(changed, Ordering::Release);
        let waiting = self.requested.is_some() || self.shared.state() != WalState::Ready;
        let pause = if changed || waiting { MAINTENANCE_EVERY } else { MAINTENANCE_IDLE };
        drop(
            self.shared
                .maintain
                .wait_timeout(orders, pause)
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    fn stop(mut self, asked: Vec<Arc<CompactSlot>>) {
        self.run = None;
        let requested = self.requested.take().map(|(slots, _)| slots).unwrap_or_default();
        for slot in requested.into_iter().chain(asked) {
            answer(&slot, Err(Error::Closed));
        }
    }

    /// Gives back the unused ends of sealed segments.
    fn trim(&self) {
        let ends = std::mem::take(&mut lock(&self.shared.engine).writer.trim);
        for (file, bytes) in ends {
            if let Err(e) = file.set_len(bytes) {
                tracing::debug!(cause = %e, "a sealed segment keeps its unused end");
            }
        }
    }

    /// One step towards the next spare. Says whether there is more to do.
    fn make_spare(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let fill = match self.spare.take() {
            Some(fill) => fill,
            None => {
                let (wanted, bytes) = {
                    let writer = &lock(&shared.engine).writer;
                    (
                        writer.poisoned().is_none() && !writer.has_spare(),
                        writer.next_segment_bytes(),
                    )
                };
                if !wanted || self.now() < self.spare_not_before {
                    return false;
                }
                let room = shared.env.disk.available_bytes(&shared.env.dir).unwrap_or(u64::MAX);
                let bytes = if room < bytes * 2 {
                    crate::episode::limits::SEGMENT_BYTES_MIN
                } else {
                    bytes
                };
                if room < bytes {
                    self.spare_not_before = self.now() + MAINTENANCE_EVERY;
                    return false;
                }
                match ZeroFill::begin(&shared.env, SPARE_NAME, bytes) {
                    Ok(fill) => fill,
                    Err(e) => return self.spare_failed(&e),
                }
            }
        };
        match fill.step(&shared.env) {
            Ok(Filled::More(fill)) => self.spare = Some(fill),
            Ok(Filled::Done(spare)) => {
                let writer = &mut lock(&shared.engine).writer;
                writer.give_spare(spare);
                shared.publish(writer);
            }
            Err(e) => return self.spare_failed(&e),
        }
        true
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
        let shared = Arc::clone(&self.shared);
        if !self.ballast_wanted && self.ballast.is_none() {
            return false;
        }
        let env = &shared.env;
        let fill = match self.ballast.take() {
            Some(fill) => fill,
            None => {
                let spare = shared.seen.spare_bytes.load(Ordering::Relaxed);
                let room = env.disk.available_bytes(&env.dir).unwrap_or(0);
                if spare == 0 || room < spare * 4 || self.now() < self.spare_not_before {
                    return false;
                }
                let have = env.disk.open(&env.wal_path(BALLAST_NAME), crate::disk::Open::Read);
                if let Ok(bytes) = have.and_then(|file| file.len())
                    && bytes >= spare
                {
                    self.ballast_wanted = false;
                    shared.seen.ballast_bytes.store(bytes, Ordering::Relaxed);
                    return false;
                }
                match ZeroFill::begin(env, BALLAST_NAME, spare) {
                    Ok(fill) => fill,
                    Err(e) => return self.spare_failed(&e),
                }
            }
        };
        match fill.step(env) {
            Ok(Filled::More(fill)) => self.ballast = Some(fill),
            Ok(Filled::Done(ballast)) => {
                self.ballast_wanted = false;
                shared.seen.ballast_bytes.store(ballast.bytes, Ordering::Relaxed);
            }
            Err(e) => return self.spare_failed(&e),
        }
        true
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
            self.finish_request();
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
            Err(e) => self.run_failed(&e),
        }
        true
    }

    fn begin_run(&mut self) -> bool {
        let automatic = self.shared.options.compact_automatically;
        if self.now() < self.not_before || (!automatic && self.requested.is_none()) {
            return false;
        }
        let bounds = self.shared.bounds(self.requested.is_some());
        self.seal_early(&bounds);
        let Some(job) = next_job(&self.shared.views(), &bounds) else {
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
                self.run_failed(&e);
                false
            }
        }
    }

    fn begin_job(&mut self, job: &Job) -> Result<Option<Compaction>> {
        let shared = &self.shared;
        let mut inputs: Vec<_> =
            job.numbers.iter().filter_map(|&number| shared.segments.get(number)).collect();
        let durable = shared.seen.synced_lsn.load(Ordering::Acquire);
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
        let mut engine = lock(&self.shared.engine);
        let number = engine.writer.active_number();
        let (active, total) = self.shared.memory.look(|d| (d.usage(number), d.total_usage().live));
        if !seal_early(active, total, bounds) || engine.writer.poisoned().is_some() {
            return;
        }
        if let Err(e) = engine.writer.sync().and_then(|()| engine.writer.rotate()) {
            tracing::debug!(cause = %e, "the active segment could not be sealed early");
        }
        self.shared.publish(&engine.writer);
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
        if let Some((_, sum)) = &mut self.requested {
            sum.add(stats);
        }
    }

    fn run_failed(&mut self, e: &Error) {
        let first = self.back_off == BACK_OFF_MIN;
        let retry_at_once = matches!(e, Error::Damaged { .. }) && first;
        self.shared.env.metrics.compaction_runs_failed.increment(1);
        if !retry_at_once {
            tracing::warn!(cause = %e, retry_in = ?self.back_off, "compaction failed; the log is as it was");
            self.not_before = self.now() + self.back_off;
        }
        self.back_off = (self.back_off * 2).min(BACK_OFF_MAX);
        // Once: the ballast is made again while there is room, and would be given up for ever.
        if let Error::Io { .. } | Error::DiskFull { .. } = e
            && first
            && self.give_up_ballast()
        {
            self.not_before = Duration::ZERO;
        }
        if !retry_at_once && let Some((slots, _)) = self.requested.take() {
            for slot in slots {
                answer(&slot, Err(e.clone()));
            }
        }
    }

    fn finish_request(&mut self) {
        if let Some((slots, mut stats)) = self.requested.take() {
            "requested".clone_into(&mut stats.reason);
            for slot in slots {
                answer(&slot, Ok(stats.clone()));
            }
        }
    }

    /// Waits as long as the rate asks for.
    fn throttle(&self, bytes: u64) {
        let rate = self.shared.options.compaction_bytes_per_second_max;
        if rate == 0 || bytes == 0 || self.requested.is_some() {
            return;
        }
        let pause = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let orders = lock(&self.shared.orders);
        if !orders.closing {
            drop(
                self.shared
                    .maintain
                    .wait_timeout(orders, pause)
                    .unwrap_or_else(PoisonError::into_inner),
            );
        }
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

impl Shared {
    /// Spares, ballast, and the unused part of the active segment.
    pub(crate) fn preallocated_bytes(&self) -> u64 {
        let seen = &self.seen;
        [&seen.unused_bytes, &seen.spare_bytes, &seen.ballast_bytes]
            .iter()
            .map(|bytes| bytes.load(Ordering::Relaxed))
            .sum()
    }
}

fn answer(slot: &CompactSlot, result: Result<CompactionStats>) {
    *lock(&slot.result) = Some(result);
    slot.ready.notify_all();
}

/// Checks that a directory can be written to, before anything is promised.
pub(crate) fn check_writable(env: &Env) -> Result<()> {
    let path = env.dir.join("write-check.tmp");
    let disk = env.disk.as_ref();
    let check = || {
        remove_if_there(disk, &path)?;
        let file = disk.open(&path, crate::disk::Open::New)?;
        write_all_at(file.as_ref(), b"x", 0)?;
        disk.remove(&path)
    };
    check().map_err(|e| Error::io("write to", &env.dir, &e))
}
