//! The lanes: each sends its batches one after the other, waits where the server asks for it, and
//! counts what came of every line.

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::ProgressBar;
use serde::Deserialize;

use super::batch::Batch;
use crate::client::{Answer, Client, Method, segment};
use crate::failure::{Failure, Outcome};

/// Media type of a batch.
const NDJSON: &str = "application/x-ndjson";
/// Most refused lines whose reason is shown.
const REASONS_MAX: usize = 20;
/// Longest that one batch waits for a server that is busy, recovering, or gone.
const PATIENCE: Duration = Duration::from_mins(2);
/// Wait where the server names none.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Longest single wait, whatever the server names.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);

/// What came of the lines so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Lines that the server took.
    pub(super) imported: u64,
    /// Lines whose episode was there already.
    pub(super) there: u64,
    /// Lines that were refused for another reason.
    pub(super) rejected: u64,
    /// The first of those, by line number, and why.
    pub(super) reasons: BTreeMap<u64, String>,
    /// What else a person should know.
    pub(super) notes: Vec<String>,
    /// How many of the refused are told in `reasons` and `notes`.
    pub(super) told: u64,
}

/// What the lanes share.
#[derive(Debug)]
pub(super) struct Shared {
    replace: bool,
    bar: ProgressBar,
    state: Mutex<State>,
    stopped: Condvar,
}

#[derive(Debug, Default)]
struct State {
    tally: Tally,
    stopped: Option<Failure>,
}

/// The answer to a batch.
#[derive(Debug, Deserialize)]
struct Accepted {
    accepted: u64,
    #[serde(default)]
    rejected: Vec<Rejected>,
}

#[derive(Debug, Deserialize)]
struct Rejected {
    index: usize,
    error: Problem,
}

#[derive(Debug, Default, Deserialize)]
struct Problem {
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    status: u16,
    #[serde(default)]
    detail: String,
}

impl Shared {
    /// For lanes that replace what exists, or leave it.
    pub(super) fn new(replace: bool, bar: ProgressBar) -> Self {
        Self { replace, bar, state: Mutex::default(), stopped: Condvar::new() }
    }

    /// Where progress is shown.
    pub(super) fn bar(&self) -> &ProgressBar {
        &self.bar
    }

    /// Notes a refused line.
    pub(super) fn reject(&self, number: u64, reason: &str) {
        reject(&mut self.lock().tally, number, reason);
    }

    /// Notes an entry that could not be read.
    pub(super) fn lose(&self, what: String) {
        let tally = &mut self.lock().tally;
        tally.rejected += 1;
        if tally.notes.len() < REASONS_MAX {
            tally.told += 1;
            tally.notes.push(what);
        }
    }

    /// Notes what a person should know.
    pub(super) fn note(&self, what: String) {
        self.lock().tally.notes.push(what);
    }

    /// What came of it all, and why it stopped early, if it did.
    pub(super) fn finish(self) -> (Tally, Option<Failure>) {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        (state.tally, state.stopped)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self, failure: Failure) {
        self.lock().stopped.get_or_insert(failure);
        self.stopped.notify_all();
    }

    /// Whether something ended the import.
    pub(super) fn is_stopped(&self) -> bool {
        self.lock().stopped.is_some()
    }

    /// Waits; says whether to go on after it.
    fn pause(&self, time: Duration) -> bool {
        let still = |state: &mut State| state.stopped.is_none();
        let waited = self.stopped.wait_timeout_while(self.lock(), time, still);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.stopped.is_none()
    }

    fn nothing_yet(&self) -> bool {
        let state = self.lock();
        state.tally.imported == 0 && state.tally.there == 0
    }

    /// Counts what the server said of a batch.
    fn count(&self, batch: &Batch, answer: &Accepted) {
        let mut state = self.lock();
        state.tally.imported += answer.accepted;
        for Rejected { index, error } in &answer.rejected {
            if error.status == 412 {
                state.tally.there += 1;
            } else {
                let number = batch.numbers.get(*index).copied().unwrap_or_default();
                reject(&mut state.tally, number, &error.detail);
            }
        }
        drop(state);
        self.bar.inc(batch.read);
    }

    /// Counts a batch that the server refused whole.
    fn count_refused(&self, batch: &Batch, reason: &str) {
        let mut state = self.lock();
        for number in &batch.numbers {
            reject(&mut state.tally, *number, reason);
        }
        drop(state);
        self.bar.inc(batch.read);
    }
}

fn reject(tally: &mut Tally, number: u64, reason: &str) {
    tally.rejected += 1;
    tally.told += u64::from(tally.reasons.insert(number, reason.to_owned()).is_none());
    if tally.reasons.len() > REASONS_MAX {
        tally.told -= u64::from(tally.reasons.pop_last().is_some());
    }
}

/// Sends batches until there are no more, or until something ends the import.
pub(super) fn run(client: &Client, batches: &Receiver<Batch>, shared: &Shared) {
    for batch in batches {
        if shared.is_stopped() {
            return;
        }
        if let Err(failure) = deliver(client, &batch, shared) {
            shared.stop(failure);
            return;
        }
    }
}

/// Sends one batch, as often as it takes: sending it twice is the same as once.
fn deliver(client: &Client, batch: &Batch, shared: &Shared) -> Outcome {
    let path = format!("/v1/spaces/{}/episodes/batch", segment(&batch.space));
    let headers: &[(&str, &str)] = if shared.replace { &[] } else { &[("if-none-match", "*")] };
    let mut waited = Duration::ZERO;
    loop {
        let (wait, problem) = match client.send(Method::Post(NDJSON), &path, headers, &batch.body) {
            Ok(answer) => match judge(&answer)? {
                Verdict::Done(accepted) => {
                    shared.count(batch, &accepted);
                    return Ok(());
                }
                Verdict::Refused(reason) => {
                    shared.count_refused(batch, &reason);
                    return Ok(());
                }
                Verdict::Later(wait, problem) => (wait, problem),
            },
            Err(none) if none.unreachable && shared.nothing_yet() => return Err(none.into()),
            Err(none) => (RETRY_AFTER, none.message),
        };
        if waited >= PATIENCE {
            return Err(Failure::failed(format!("{problem}; {AGAIN}")));
        }
        waited += wait;
        shared.bar.set_message("waiting for the server");
        if !shared.pause(wait) {
            return Ok(());
        }
        shared.bar.set_message("");
    }
}

/// What to do after an import that stopped.
const AGAIN: &str = "run the same import again then: it goes on where it stopped";

/// What an answer means for its batch.
enum Verdict {
    /// Some lines were taken, each other was refused for its own reason.
    Done(Accepted),
    /// All were refused for one reason.
    Refused(String),
    /// Try again after so long; why.
    Later(Duration, String),
}

fn judge(answer: &Answer) -> Outcome<Verdict> {
    if answer.ok() {
        return answer.json().map(Verdict::Done);
    }
    let said = answer.problem();
    let problem: Problem = serde_json::from_slice(&answer.body).unwrap_or_default();
    // The types are the server's, and stable.
    let hopeless = matches!(&*problem.r#type, "/problems/poisoned" | "/problems/cannot-open");
    match answer.status {
        400 | 413 | 422 => Ok(Verdict::Refused(said)),
        408 | 429 | 503 if !hopeless => {
            let wait = answer.retry_after.unwrap_or(RETRY_AFTER);
            Ok(Verdict::Later(wait.clamp(RETRY_AFTER / 10, RETRY_AFTER_MAX), said))
        }
        503 | 507 => Err(Failure::failed(format!("{said}; {AGAIN}"))),
        _ => Err(Failure::failed(said)),
    }
}
