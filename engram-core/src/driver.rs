//! The only threads: one steps the writer, one makes spares and steps the compactor, one feeds the indexes,
//! and one asks an embedder on the network, if there is any.
//!
//! A caller that blocks on its change and finds the writer idle steps it itself: a lonely
//! writer then pays no hand-over between threads. Everything that decides anything is a step
//! machine elsewhere; this file only waits, locks and calls.

mod asked;
mod batch;
mod embedding;
mod fair;
mod indexing;
mod memory;
mod pending;
mod replay;
mod stepper;
mod threads;
mod upkeep;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use asked::{Asked, CompactSlot};
use embedding::Embedding;
pub(crate) use embedding::PROBE;
use fair::Fair;
use indexing::Indexing;
pub(crate) use memory::Memory;
pub use pending::Pending;
use pending::{Slot, Ticket};
pub(crate) use replay::replay;
pub use stepper::Stepper;
use upkeep::Upkeep;

use crate::disk::write_all_at;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::storage::wal::env::{Env, is_full, remove_if_there};
use crate::storage::wal::knowledge::Knowledge as _;
use crate::storage::wal::prealloc::Surplus;
use crate::storage::wal::quarantine::Quarantine;
use crate::storage::wal::report::{CompactionStats, WalState};
use crate::storage::wal::segments::Segments;
use crate::storage::wal::writer::Writer;
use crate::store::change::{Answers, Changes, Group};
use crate::store::commit::Committer;
use crate::store::directory::Directory;
use crate::store::options::{Drive, Durability, Options};
use crate::store::policy::{Bounds, View, next_job};
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::sync::stand_back;
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Condvar, Mutex, MutexGuard};

/// Bytes of changes that may wait, beside their number.
const QUEUE_BYTES_MAX: usize = 256 << 20;

/// The year 2020 in seconds since 1970: a machine whose clock says less has not been told the time.
const CLOCK_IS_SET_FROM: i64 = 1_577_836_800;

/// Most used slots that are kept for the next groups.
const SLOTS_KEPT_MAX: usize = 256;

/// Why a log is poisoned that a thread of it panicked.
const PANICKED: &str = "a thread of the log panicked";

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What those are told who are told nothing else.
fn unanswered() -> Error {
    if thread::panicking() { Error::Poisoned { cause: PANICKED.into() } } else { Error::Closed }
}

#[derive(Debug, Default)]
struct Queue {
    groups: VecDeque<Group<Ticket>>,
    changes: usize,
    bytes: usize,
    closing: bool,
    /// The writer's thread waits, and nobody has woken it yet. Waking nobody costs a system call.
    writer_waits: bool,
    /// Slots that have been answered, the oldest first.
    slots: VecDeque<Arc<Slot>>,
}

impl Queue {
    /// A slot for the next group: a used one, unless whoever waited there has not left yet.
    fn slot(&mut self) -> Arc<Slot> {
        let mut used = self.slots.pop_front().unwrap_or_default();
        match Arc::get_mut(&mut used) {
            Some(slot) => *slot = Slot::default(),
            None => used = Arc::default(),
        }
        used
    }

    /// Takes back slots that have been answered.
    fn take_back(&mut self, answered: &mut Vec<Arc<Slot>>) {
        let room = SLOTS_KEPT_MAX.saturating_sub(self.slots.len());
        self.slots.extend(answered.drain(..).take(room));
    }
}

#[derive(Debug)]
struct Engine {
    writer: Writer,
    committer: Committer<Ticket>,
    /// Where what waits is taken from the queue to; empty in between.
    taken: VecDeque<Group<Ticket>>,
    /// Slots of the last batch, to go back to the queue.
    answered: Vec<Arc<Slot>>,
    /// Those of them at which somebody blocks; empty in between.
    blocked: Vec<Arc<Slot>>,
    /// When the log was last synced by an interval.
    synced_at: Duration,
}

impl Engine {
    fn new(writer: Writer, committer: Committer<Ticket>) -> Self {
        let (taken, answered, blocked) = (VecDeque::new(), Vec::new(), Vec::new());
        Self { writer, committer, taken, answered, blocked, synced_at: Duration::ZERO }
    }
}

/// What any thread may see of the writer without waiting for it.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) head_lsn: AtomicU64,
    pub(crate) synced_lsn: AtomicU64,
    pub(crate) active_number: AtomicU32,
    pub(crate) unused_bytes: AtomicU64,
    pub(crate) spare_bytes: AtomicU64,
    pub(crate) ballast_bytes: AtomicU64,
    /// Of a spare or ballast that is being made.
    pub(crate) filling_bytes: AtomicU64,
    full: AtomicBool,
    poisoned: AtomicBool,
    cause: Mutex<Option<String>>,
}

#[derive(Debug, Default)]
struct Orders {
    compact: Vec<Asked>,
    closing: bool,
    look: bool,
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
    /// Those whose answers are there and whom nobody has woken yet.
    asleep: Mutex<VecDeque<Arc<Slot>>>,
    engine: Fair<Engine>,
    /// Groups of the last batch: who is alone steps the writer itself.
    last_batch: AtomicU64,
    /// Batches so far.
    batches: AtomicU64,
    /// The writer's thread has been told that a mark will be due.
    mark_armed: AtomicBool,
    orders: Mutex<Orders>,
    maintain: Condvar,
    maintenance_armed: AtomicBool,
    /// The writer has no next segment, or something to give back.
    writer_needs: AtomicBool,
    /// Compaction runs, and garbage comes faster than it goes.
    behind: AtomicBool,
    indexing: Indexing,
    pub(crate) embedding: Embedding,
}

/// The threads of one open store.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Without threads: whose turn it is when somebody says so.
    upkeep: Mutex<Option<Upkeep>>,
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
        let Parts { env, options, segments, quarantine, mut directory, writer } = parts;
        directory.start_feeding();
        let indexing = Indexing::new(env.scale.scan_vectors_max);
        let committer =
            Committer::new(options.durability).with_configured(embedding::configured(&options));
        let embedding = Embedding::new(&options);
        let shared = Arc::new(Shared {
            env,
            options,
            segments,
            quarantine,
            memory: Memory::new(directory),
            seen: Seen::default(),
            queue: Mutex::default(),
            work: Condvar::new(),
            asleep: Mutex::default(),
            engine: Fair::new(Engine::new(writer, committer)),
            last_batch: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            mark_armed: AtomicBool::new(false),
            orders: Mutex::default(),
            maintain: Condvar::new(),
            maintenance_armed: AtomicBool::new(true),
            writer_needs: AtomicBool::new(true),
            behind: AtomicBool::new(false),
            indexing,
            embedding,
        });
        shared.publish(&shared.engine().writer);
        let driver = Self {
            shared: Arc::clone(&shared),
            threads: Mutex::default(),
            upkeep: Mutex::default(),
        };
        if shared.options.drive == Drive::Steps {
            *lock(&driver.upkeep) = Some(Upkeep::new(shared));
            return Ok(driver);
        }
        match driver.spawn_all() {
            Ok(()) => Ok(driver),
            Err(e) => {
                // No thread of it may work on a directory that somebody else can open now.
                driver
                    .close()
                    .unwrap_or_else(|e| tracing::error!(cause = %e, "the log cannot be closed"));
                Err(e)
            }
        }
    }

    fn spawn_all(&self) -> Result<()> {
        self.spawn("engram-writer", |shared| shared.write_loop())?;
        self.spawn("engram-upkeep", |shared| Upkeep::new(Arc::clone(shared)).run())?;
        if self.shared.options.index_in_background {
            self.spawn("engram-index", |shared| {
                stand_back();
                shared.index_loop();
            })?;
            self.shared.spawn_embedding()?;
        }
        Ok(())
    }

    /// Starts a thread. When it panics, the log is poisoned, and it goes on to answer whoever
    /// waits.
    fn spawn(&self, name: &str, run: fn(&Arc<Shared>)) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let run = move || {
            while catch_unwind(AssertUnwindSafe(|| run(&shared))).is_err() {
                let writer = &mut shared.engine().writer;
                writer.poison(PANICKED.into());
                shared.publish(writer);
            }
        };
        let thread = thread::Builder::new().name(name.into()).spawn(run);
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
        self.shared.close_indexing();
        self.shared.embedding.close();
        // Whoever else closes waits here until the log is closed.
        let mut threads = lock(&self.threads);
        let upkeep = lock(&self.upkeep).take();
        if threads.is_empty() && upkeep.is_none() {
            return Ok(());
        }
        if let Some(mut upkeep) = upkeep {
            self.shared.write_all();
            upkeep.turn();
        }
        for thread in threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the log panicked");
            }
        }
        let mut engine = self.shared.engine();
        if let Err(e) = engine.writer.check_poison() {
            // What was acknowledged is on the disk, unless that was not asked for.
            return if self.shared.options.durability == Durability::Always {
                Ok(())
            } else {
                Err(e)
            };
        }
        let closed = engine.writer.mark();
        std::mem::take(&mut engine.writer.surplus).into_iter().for_each(Surplus::give_back);
        self.shared.publish(&engine.writer);
        drop(engine);
        if self.shared.options.index_in_background {
            self.shared.save_indexes(true);
        }
        closed
    }

    /// Runs compaction over all that is dead, and waits for it.
    pub(crate) fn compact_now(&self) -> Result<CompactionStats> {
        let slot = Arc::new(CompactSlot::default());
        {
            let mut orders = lock(&self.shared.orders);
            if orders.closing {
                return Err(Error::Closed);
            }
            orders.compact.push(Asked::new(Arc::clone(&slot)));
            orders.look = true;
        }
        self.shared.maintain.notify_one();
        if let Some(upkeep) = lock(&self.upkeep).as_mut() {
            self.shared.write_all();
            while !slot.is_answered() {
                upkeep.turn();
            }
        }
        slot.wait()
    }
}

impl Shared {
    /// Queues changes; they go their way when somebody waits for them or drops the handle.
    pub(crate) fn submit<T>(
        self: &Arc<Self>,
        changes: Changes,
        convert: fn(Answers) -> Result<T>,
    ) -> Result<Pending<T>> {
        self.refuse_poisoned()?;
        let count = changes.len();
        let bytes: usize = changes.iter().flatten().map(|change| change.payload.len()).sum();
        let slot = {
            let mut queue = lock(&self.queue);
            if queue.closing {
                return Err(Error::Closed);
            }
            let (changes_max, bytes_max) = (self.options.queue_max, QUEUE_BYTES_MAX);
            let over = if queue.changes + count > changes_max {
                Some((queue.changes, changes_max, "changes"))
            } else {
                (queue.bytes + bytes > bytes_max).then_some((queue.bytes, bytes_max, "bytes"))
            };
            if let Some((queued, bound, unit)) = over.filter(|_| queue.changes > 0) {
                let e = Error::Busy { queued, bound, unit };
                drop(queue);
                self.env.metrics.write_refused(&e);
                return Err(e);
            }
            queue.changes += count;
            queue.bytes += bytes;
            Metrics::set(&self.env.metrics.queue_depth, queue.changes as u64);
            let slot = queue.slot();
            queue.groups.push_back(Group { changes, ticket: Ticket::new(Arc::clone(&slot)) });
            slot
        };
        let shared = Arc::clone(self);
        Ok(Pending::new(slot, shared, convert))
    }

    /// The writer and its batch. Whoever panicked while holding them poisoned the log: what was
    /// half done is not known.
    fn engine(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(|panicked| {
            let mut engine = panicked.into_inner();
            engine.writer.poison(PANICKED.into());
            self.publish(&engine.writer);
            engine
        })
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

    /// Without threads: goes on until nothing waits.
    fn write_all(&self) {
        let mut engine = self.engine();
        if engine.committer.is_busy() {
            while !self.step_batch(&mut engine) {}
        }
        self.commit_once(&mut engine);
    }

    fn wake_writer(&self) {
        // Taking the lock keeps the wake-up from falling between a look and a wait.
        if std::mem::take(&mut lock(&self.queue).writer_waits) {
            self.work.notify_one();
        }
    }

    /// Steps the writer, if it is idle and there is no crowd; else leaves it to its thread.
    fn lead_or_hand_over(&self) {
        if self.options.drive == Drive::Steps {
            return self.write_all();
        }
        if self.last_batch.load(Ordering::Relaxed) <= 1
            && !self.behind.load(Ordering::Acquire)
            && let Some(mut engine) = self.engine.try_lock()
        {
            self.commit_once(&mut engine);
            drop(engine);
            if lock(&self.queue).groups.is_empty() {
                return;
            }
        }
        self.wake_writer();
    }

    /// Tells the threads, once per quiet time, that there is something to look at.
    fn arm(&self, writer: &Writer) {
        if self.options.durability != Durability::Never
            && !self.mark_armed.swap(true, Ordering::AcqRel)
        {
            self.wake_writer();
        }
        if !writer.has_spare() || !writer.surplus.is_empty() {
            if !self.writer_needs.swap(true, Ordering::AcqRel) {
                self.wake_maintenance();
            }
        } else if !self.maintenance_armed.swap(true, Ordering::AcqRel) {
            // As in `wake_writer`.
            drop(lock(&self.orders));
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
        self.seen.active_number.store(writer.active_number(), Ordering::Release);
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

    /// A frame may leave the log only for a reason that is on disk: syncs what a weaker
    /// durability left. Gives the synced LSN.
    fn make_reasons_durable(&self) -> Result<u64> {
        if self.options.durability != Durability::Always {
            let mut engine = self.engine();
            let synced = engine.writer.sync();
            self.publish(&engine.writer);
            synced?;
        }
        Ok(self.seen.synced_lsn.load(Ordering::Acquire))
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
                    first_lsn: segment.header.start,
                    last_lsn: segment.end,
                    eligible: segment.sealed
                        && !segment.keep
                        // Sealed before its first record came, it gives its name to the one that follows.
                        && segment.end >= segment.header.start
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
        match next_job(&self.views(), &self.bounds(None)) {
            Some(job) => format!("rewrites {} segments ({})", job.numbers.len(), job.reason),
            None => "nothing to do".into(),
        }
    }

    fn bounds(&self, everything: Option<(u64, u64)>) -> Bounds {
        let now = self.env.clock.now().as_second();
        let max = i64::try_from(self.options.forget_erase_max.as_secs()).unwrap_or(i64::MAX);
        // A clock that was not set yet tells nothing of others.
        let is_set = now >= CLOCK_IS_SET_FROM;
        let forgotten_after = if is_set { now.saturating_add(max) } else { i64::MAX };
        Bounds {
            segment_bytes_max: self.options.segment_bytes,
            garbage_bytes_min: self.env.scale.garbage_bytes_min,
            active_garbage_bytes_min: self.env.scale.active_garbage_bytes_min,
            // Half the time is left for the run itself, and for a run that fails.
            forgotten_before: now.saturating_sub(max / 2),
            forgotten_after,
            everything,
        }
    }
}

impl Shared {
    /// Spares, ballast, and the unused part of the active segment.
    pub(crate) fn preallocated_bytes(&self) -> u64 {
        let seen = &self.seen;
        [&seen.unused_bytes, &seen.spare_bytes, &seen.ballast_bytes, &seen.filling_bytes]
            .iter()
            .map(|bytes| bytes.load(Ordering::Relaxed))
            .sum()
    }
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
    match check() {
        // A full disk is no reason not to open: reads and forgets go on.
        Err(e) if !is_full(&e) => Err(Error::io("write to", &env.dir, &e)),
        _ => Ok(()),
    }
}
