//! Opening: lock, recover, take v0.1.0 files over, start the threads.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::directory::Directory;
use super::{Inner, Options, takeover};
use crate::disk::Lock;
use crate::driver::{Driver, Parts, check_writable};
use crate::episode::limits;
use crate::error::{Error, Result};
use crate::record::Keys;
use crate::storage::wal::env::Env;
use crate::storage::wal::knowledge::Knowledge;
use crate::storage::wal::plan::SegmentFacts;
use crate::storage::wal::recover::{RecoverOptions, Recovered, Recovery, RecoveryProgress};
use crate::storage::wal::report::RecoveryReport;
use crate::storage::wal::survey::{Contents, Surveyed, scan};

/// The lock file's name.
pub(crate) const LOCK_NAME: &str = "LOCK";
pub(super) fn open(dir: &Path, options: Options) -> Result<Inner> {
    check_options(&options)?;
    let env = Arc::new(Env {
        disk: Arc::clone(&options.disk),
        clock: Arc::clone(&options.clock),
        rng: Arc::clone(&options.rng),
        metrics: Arc::clone(&options.metrics),
        dir: dir.to_owned(),
    });
    env.disk.create_dir(dir).map_err(|e| Error::io("make the data directory", dir, &e))?;
    let lock = take_lock(&env)?;
    check_writable(&env)?;
    let recovery = Recovery::begin(
        Arc::clone(&env),
        RecoverOptions {
            mode: options.recovery,
            accepted: options.accept_loss.clone(),
            segment_bytes_max: options.segment_bytes,
            dry: false,
        },
    )?;
    let mut directory = Directory::default();
    let recovery = replay(&env, recovery, &mut directory, &options)?;
    let Recovered { mut writer, segments, quarantine, identity, mut report } =
        recovery.finish(&mut directory)?;
    let keys = Keys::new(identity.secret);
    directory = takeover::take_over(&env, &keys, &mut writer, directory, &quarantine, &mut report)?;
    env.metrics.recovered(&report);
    let parts = Parts { env, options, segments, quarantine, directory, writer };
    let driver = Driver::start(parts)?;
    report.compaction = driver.shared.next_compaction();
    log_summary(&report);
    let report = Arc::new(report);
    Ok(Inner { driver, keys, report, lock: Mutex::new(Some(lock)) })
}

fn check_options(options: &Options) -> Result<()> {
    let (min, max) = (limits::SEGMENT_BYTES_MIN, limits::SEGMENT_BYTES_MAX);
    if (min..=max).contains(&options.segment_bytes) {
        return Ok(());
    }
    Err(Error::Limit {
        field: "segment-bytes",
        problem: "out of range",
        bound: format!("{min} to {max} bytes"),
        value: format!("{} bytes", options.segment_bytes),
        too_large: options.segment_bytes > max,
    })
}

fn take_lock(env: &Env) -> Result<Box<dyn Lock>> {
    let path = env.dir.join(LOCK_NAME);
    match env.disk.lock(&path) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(Error::Locked { path, holder: String::new() }),
        Err(e) => Err(Error::io("lock", path, &e)),
    }
}

type Scanned = Result<(SegmentFacts, Contents)>;

/// Scans the segments on as many threads as there are cores, and absorbs them in order. A
/// scanner that runs ahead waits, so that only a few segments' contents are held at once.
pub(crate) fn replay(
    env: &Arc<Env>,
    mut recovery: Recovery,
    memory: &mut dyn Knowledge,
    options: &Options,
) -> Result<Recovery> {
    let tasks: Vec<Surveyed> = recovery.tasks().to_vec();
    options.progress.begin(recovery.survey().bytes());
    let threads = match options.recovery_threads {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        n => n,
    };
    let tolerant = recovery.tolerant();
    if threads <= 1 || tasks.len() <= 1 {
        for task in &tasks {
            let (facts, contents) = scan(env, task, tolerant, &options.progress)?;
            recovery.absorb(task, facts, contents, memory)?;
        }
        return Ok(recovery);
    }
    let ahead = Ahead::new(tasks.len(), threads);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(tasks.len()) {
            scope.spawn(|| ahead.work(env, &tasks, tolerant, &options.progress));
        }
        let mut result = Ok(());
        for (at, task) in tasks.iter().enumerate() {
            let scanned = ahead.take(at);
            if result.is_ok() {
                result = scanned
                    .and_then(|(facts, contents)| recovery.absorb(task, facts, contents, memory));
            }
        }
        result
    })?;
    Ok(recovery)
}

/// Results of scans, taken in order, made at most a few ahead.
struct Ahead {
    next: AtomicUsize,
    window: usize,
    state: Mutex<AheadState>,
    changed: Condvar,
}

struct AheadState {
    taken: usize,
    done: Vec<Option<Scanned>>,
}

impl Ahead {
    fn new(tasks: usize, threads: usize) -> Self {
        let done = (0..tasks).map(|_| None).collect();
        Self {
            next: AtomicUsize::new(0),
            window: threads,
            state: Mutex::new(AheadState { taken: 0, done }),
            changed: Condvar::new(),
        }
    }

    fn work(&self, env: &Env, tasks: &[Surveyed], tolerant: bool, progress: &RecoveryProgress) {
        loop {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(task) = tasks.get(at) else { return };
            {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                while at > state.taken + self.window {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
            let scanned = scan(env, task, tolerant, progress);
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(place) = state.done.get_mut(at) {
                *place = Some(scanned);
            }
            drop(state);
            self.changed.notify_all();
        }
    }

    fn take(&self, at: usize) -> Scanned {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(scanned) = state.done.get_mut(at).and_then(Option::take) {
                state.taken = at;
                drop(state);
                self.changed.notify_all();
                return scanned;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// One line, whatever happened.
fn log_summary(report: &RecoveryReport) {
    tracing::info!(
        recovered = report.recovered,
        failed = report.failed.total(),
        damaged = report.failed.damaged,
        undecodable = report.failed.undecodable,
        tail = report.failed.tail,
        corruption_rate = report.corruption_rate,
        duration_seconds = report.duration_seconds,
        bytes_per_second = report.bytes_per_second,
        compaction = report.compaction,
        "recovered the log"
    );
}
