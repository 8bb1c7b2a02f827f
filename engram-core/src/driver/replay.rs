//! Scans a log's segments on several threads, and absorbs them in order.

use std::sync::{Arc, PoisonError};

use crate::error::Result;
use crate::storage::wal::contents::{Contents, Room};
use crate::storage::wal::env::Env;
use crate::storage::wal::knowledge::Knowledge;
use crate::storage::wal::plan::SegmentFacts;
use crate::storage::wal::recover::Recovery;
use crate::storage::wal::survey::{RecoveryProgress, Surveyed, scan};
use crate::store::options::Options;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Condvar, Mutex, cores, thread};

type Scanned = Result<(SegmentFacts, Contents)>;

/// Scans the segments on as many threads as there are cores, and absorbs them in order. A
/// scanner that runs ahead waits, so that only a few segments' contents are held at once. The last
/// one is scanned first: it has its full length, and at the end nobody would share that work.
pub(crate) fn replay(
    env: &Arc<Env>,
    mut recovery: Recovery,
    memory: &mut dyn Knowledge,
    options: &Options,
) -> Result<Recovery> {
    let tasks: Vec<Surveyed> = recovery.tasks().to_vec();
    options.progress.begin(recovery.survey().bytes());
    let threads = match options.recovery_threads {
        0 => cores(),
        n => n,
    };
    if threads <= 1 || tasks.len() <= 1 {
        let mut room = Room::default();
        for task in &tasks {
            let tolerant = recovery.tolerant(task);
            let (facts, contents) = scan(env, task, tolerant, &options.progress, room)?;
            room = recovery.absorb(task, facts, contents, memory)?;
        }
        return Ok(recovery);
    }
    let tolerant: Vec<bool> = tasks.iter().map(|task| recovery.tolerant(task)).collect();
    let ahead = Ahead::new(tasks.len(), threads);
    thread::scope(|scope| {
        for _ in 0..threads.min(tasks.len()) {
            scope.spawn(|| ahead.work(env, &tasks, &tolerant, &options.progress));
        }
        let mut result = Ok(());
        for (at, task) in tasks.iter().enumerate() {
            let scanned = ahead.take(at);
            if result.is_ok() {
                result = scanned
                    .and_then(|(facts, contents)| recovery.absorb(task, facts, contents, memory))
                    .map(|room| ahead.give_back(room));
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
    rooms: Vec<Room>,
}

impl Ahead {
    fn new(tasks: usize, threads: usize) -> Self {
        let done = (0..tasks).map(|_| None).collect();
        Self {
            next: AtomicUsize::new(0),
            window: threads,
            state: Mutex::new(AheadState { taken: 0, done, rooms: Vec::new() }),
            changed: Condvar::new(),
        }
    }

    fn work(&self, env: &Env, tasks: &[Surveyed], tolerant: &[bool], progress: &RecoveryProgress) {
        loop {
            let turn = self.next.fetch_add(1, Ordering::Relaxed);
            let last = tasks.len() - 1;
            let at = turn.checked_sub(1).unwrap_or(last);
            let Some(task) = tasks.get(at).filter(|_| turn <= last) else { return };
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            while turn > 0 && at > state.taken + self.window {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let room = state.rooms.pop().unwrap_or_default();
            drop(state);
            let tolerant = tolerant.get(at).copied().unwrap_or(false);
            let scanned = scan(env, task, tolerant, progress, room);
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(place) = state.done.get_mut(at) {
                *place = Some(scanned);
            }
            drop(state);
            self.changed.notify_all();
        }
    }

    fn give_back(&self, room: Room) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).rooms.push(room);
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
