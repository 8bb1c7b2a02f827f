//! A change on its way, as its caller holds it: to block on, or to await.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use smallvec::smallvec;

use super::{Shared, lock, unanswered};
use crate::error::{Error, Result};
use crate::store::change::Answers;
use crate::sync::{Condvar, Mutex};

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
    /// Somebody blocks. Waking nobody would cost a system call too.
    blocked: bool,
}

impl Slot {
    /// Puts the answers in; who awaits them is woken. Says whether somebody blocks and has still to
    /// be woken.
    fn fill(&self, answers: Answers) -> bool {
        let mut state = lock(&self.state);
        state.answers = Some(answers);
        let (waker, blocked) = (state.waker.take(), state.blocked);
        drop(state);
        // A waker is foreign code: its panic is its own, and holds up neither the log nor the others.
        if let Some(waker) = waker
            && catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err()
        {
            tracing::error!("the waker of a caller panicked");
        }
        blocked
    }

    /// Wakes who blocks, unless he has gone with his answers by himself. Says whether he was there.
    pub(super) fn wake(&self) -> bool {
        // The answers are there, and he who blocks misses no wake-up once the lock is free.
        let waits = lock(&self.state).answers.is_some();
        if waits {
            self.ready.notify_one();
        }
        waits
    }

    fn wait(&self) -> Answers {
        let mut state = lock(&self.state);
        loop {
            if let Some(answers) = state.answers.take() {
                return answers;
            }
            state.blocked = true;
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Who waits for a group's answers. Dropped, it answers all the same: nobody waits for ever.
#[derive(Debug)]
pub(super) struct Ticket(Option<Arc<Slot>>);

impl Ticket {
    pub(super) fn new(slot: Arc<Slot>) -> Self {
        Self(Some(slot))
    }

    /// Answers, and gives back where to, for another group to use; and whether somebody blocks there
    /// who has still to be woken.
    pub(super) fn fill(mut self, answers: Answers) -> Option<(Arc<Slot>, bool)> {
        let slot = self.0.take()?;
        let blocked = slot.fill(answers);
        Some((slot, blocked))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take()
            && slot.fill(smallvec![Err(unanswered())])
        {
            slot.wake();
        }
    }
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
    /// The space that it takes something from.
    forgets_in: Option<u64>,
}

impl<T> Pending<T> {
    pub(super) fn new(
        slot: Arc<Slot>,
        shared: Arc<Shared>,
        convert: fn(Answers) -> Result<T>,
    ) -> Self {
        Self { slot: Some(slot), shared, convert, handed_over: false, forgets_in: None }
    }

    /// For a change that forgets: it is out of the space's index too before it is acknowledged.
    pub(crate) fn forgetting(mut self, space_key: u64) -> Self {
        self.forgets_in = Some(space_key);
        self
    }

    fn settle(&self) {
        if let Some(space_key) = self.forgets_in {
            self.shared.forget_in_index(space_key);
        }
    }

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
        self.shared.wake_some();
        self.settle();
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
            self.settle();
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
