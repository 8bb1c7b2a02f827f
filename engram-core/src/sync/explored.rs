//! What the race checks need and shuttle does not have: waits that time out.

use std::sync::{Arc, LockResult, PoisonError};
use std::time::Duration;

use shuttle::rand::{Rng as _, thread_rng};
use shuttle::sync::MutexGuard;
use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::thread;

/// A shorter pause is a beat, and ends by itself: at a moment of the scheduler's choice.
const BEAT_MAX: Duration = Duration::from_secs(1);

/// A longer one is a safety net. One in so many times out; the others end by a notification
/// only, so that who is woken by nothing but the net is found.
const TIMES_OUT_ONE_IN: u32 = 4;

/// A condition variable without a clock.
#[derive(Debug, Default)]
pub(crate) struct Condvar(Arc<shuttle::sync::Condvar>);

/// Whether a wait timed out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub(crate) fn timed_out(self) -> bool {
        self.0
    }
}

type Waited<'a, T> = LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)>;

impl Condvar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }

    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        self.0.wait(guard)
    }

    pub(crate) fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        pause: Duration,
    ) -> Waited<'a, T> {
        let ends = pause < BEAT_MAX || thread_rng().gen_ratio(1, TIMES_OUT_ONE_IN);
        let alarm = ends.then(|| Alarm::set(&self.0));
        let waited = self.0.wait(guard);
        let timed_out = WaitTimeoutResult(alarm.is_some_and(Alarm::off));
        match waited {
            Ok(guard) => Ok((guard, timed_out)),
            Err(e) => Err(PoisonError::new((e.into_inner(), timed_out))),
        }
    }

    pub(crate) fn wait_timeout_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        pause: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Waited<'a, T> {
        let mut result = WaitTimeoutResult(false);
        while condition(&mut guard) && !result.timed_out() {
            (guard, result) = self.wait_timeout(guard, pause)?;
        }
        Ok((guard, result))
    }
}

/// A thread that wakes a waiter at a moment of the scheduler's choice.
struct Alarm {
    rang: Arc<AtomicBool>,
    off: Arc<AtomicBool>,
}

impl Alarm {
    fn set(condvar: &Arc<shuttle::sync::Condvar>) -> Self {
        let (rang, off) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let alarm = Self { rang: Arc::clone(&rang), off: Arc::clone(&off) };
        let condvar = Arc::clone(condvar);
        thread::spawn(move || {
            while !off.load(Ordering::SeqCst) {
                rang.store(true, Ordering::SeqCst);
                condvar.notify_all();
                thread::yield_now();
            }
        });
        alarm
    }

    /// Ends it. Says whether it rang.
    fn off(self) -> bool {
        self.off.store(true, Ordering::SeqCst);
        self.rang.load(Ordering::SeqCst)
    }
}
