//! Far embedders: asked in batches and in the background, for episodes that are durable already and
//! found by their words.
//!
//! Whoever remembers never waits here, and no lock is held while an embedder is asked. When it fails
//! it is left alone for a while, longer each time; a cue that comes meanwhile is told so at once.
//! The thread is not waited for when the store closes: it may be in the middle of a slow answer,
//! and what it does with one is of use to nobody then.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use smallvec::smallvec;

use super::indexing::{PORTION_EPISODES, SpaceCell};
use super::{Shared, lock};
use crate::embedder::{NotEmbedded, Purpose, Reach};
use crate::error::{Error, Result};
use crate::index::space::{Basis, Source, SpaceIndex};
use crate::record::Definition;
use crate::store::change::{Answers, Change, Redefine};
use crate::store::directory::{Directory, Entry};
use crate::store::options::Options;
use crate::sync::thread;
use crate::sync::{Condvar, Mutex};

/// Bytes of a text that are embedded, at most: models read no more than some thousand words.
pub(crate) const TEXT_BYTES_MAX: usize = 16 << 10;

/// Bytes of texts that are sent at a time, unless one text alone has more.
const BATCH_BYTES_MAX: usize = 256 << 10;

/// Episodes that cannot be read now, at most, for which those behind them are not held up.
const UNREADABLE_PASSED: usize = 64;

/// A text that every embedder takes.
pub(crate) const PROBE: &str = "engram";

/// How long it is left alone after its first failure; twice as long after each that follows.
const BACK_OFF_MIN: Duration = Duration::from_millis(500);

/// Longest that it is left alone, unless it asks for more.
const BACK_OFF_MAX: Duration = Duration::from_mins(1);

/// Longest that it may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(15);

/// What is known of the embedder, and who waits for it.
#[derive(Debug)]
pub(crate) struct Embedding {
    /// What a space without embeddings is fixed to.
    configured: Option<Definition>,
    /// The model of an embedder that is near.
    near: Option<Arc<str>>,
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Debug, Default)]
struct State {
    closing: bool,
    /// Something waits that was not looked at.
    armed: bool,
    failures: u32,
    /// By the clock that only runs forward.
    not_before: Duration,
    cause: Option<String>,
    refusal_told: bool,
}

/// How many vectors of a space there are, and are not.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    pub(crate) embedded: u64,
    pub(crate) waiting: u64,
    pub(crate) refused: u64,
}

/// What a space without embeddings is fixed to by this configuration.
pub(super) fn configured(options: &Options) -> Option<Definition> {
    let embedder = options.embedder.as_ref()?;
    let Reach::Far { dimension, .. } = embedder.reach() else { return None };
    Some(Definition { dimension, model: Some(Arc::from(embedder.model())), made: true })
}

impl Embedding {
    pub(super) fn new(options: &Options) -> Self {
        let configured = configured(options);
        let embedder = options.embedder.as_ref().filter(|_| configured.is_none());
        Self {
            configured,
            near: embedder.map(|embedder| Arc::from(embedder.model())),
            state: Mutex::default(),
            work: Condvar::new(),
        }
    }

    /// What a space without embeddings is fixed to; `None` where the embedder is near, or there is
    /// none.
    pub(crate) fn configured(&self) -> Option<&Definition> {
        self.configured.as_ref()
    }

    /// Whether texts are embedded at all.
    pub(crate) fn embeds(&self) -> bool {
        self.configured.is_some() || self.near.is_some()
    }

    /// The name of the model that embeds texts.
    pub(crate) fn model(&self) -> Option<&Arc<str>> {
        self.near.as_ref().or_else(|| self.configured.as_ref()?.model.as_ref())
    }

    /// Whether the embedder is near.
    pub(super) fn is_near(&self) -> bool {
        self.near.is_some()
    }

    /// Whether the embedder is far.
    pub(super) fn is_far(&self) -> bool {
        self.configured.is_some()
    }

    /// Something may wait for a vector.
    pub(crate) fn arm(&self) {
        if self.is_far() {
            lock(&self.state).armed = true;
            self.work.notify_all();
        }
    }

    pub(super) fn close(&self) {
        lock(&self.state).closing = true;
        self.work.notify_all();
    }

    fn closing(&self) -> bool {
        lock(&self.state).closing
    }

    /// Why it gave no vectors when it was last asked, if it did not.
    pub(crate) fn failing(&self) -> Option<String> {
        lock(&self.state).cause.clone()
    }

    fn left_alone(&self, now: Duration) -> Option<String> {
        let state = lock(&self.state);
        state.cause.clone().filter(|_| now < state.not_before)
    }

    fn failed(&self, cause: &str, retry_after: Option<Duration>, now: Duration) {
        let mut state = lock(&self.state);
        if state.closing || !self.is_far() {
            return;
        }
        let doubled = BACK_OFF_MIN.saturating_mul(1 << state.failures.min(16));
        let asked_for = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
        let pause = doubled.min(BACK_OFF_MAX).max(asked_for);
        state.failures = state.failures.saturating_add(1);
        state.not_before = now.saturating_add(pause);
        let first = state.cause.replace(cause.to_owned()).is_none();
        drop(state);
        if first {
            tracing::warn!(
                cause,
                "the embedder gives no vectors; episodes are kept, found by their words, and embedded when it does"
            );
        } else {
            tracing::debug!(cause, ?pause, "the embedder still gives no vectors");
        }
    }

    fn answered(&self) {
        let mut state = lock(&self.state);
        state.failures = 0;
        state.not_before = Duration::ZERO;
        if state.cause.take().is_some() {
            drop(state);
            tracing::info!("the embedder gives vectors again");
            self.work.notify_all();
        }
    }

    /// Waits until there is something to do and it may be done. Says whether the store is still open.
    fn wait(&self, now: impl Fn() -> Duration) -> bool {
        let mut state = lock(&self.state);
        loop {
            if state.closing {
                return false;
            }
            let pause = state.not_before.saturating_sub(now());
            if state.armed && pause.is_zero() {
                state.armed = false;
                return true;
            }
            state = if state.armed {
                let waited = self.work.wait_timeout(state, pause);
                waited.unwrap_or_else(PoisonError::into_inner).0
            } else {
                self.work.wait(state).unwrap_or_else(PoisonError::into_inner)
            };
        }
    }
}

impl Shared {
    /// What the vectors of a space are, or will be.
    pub(crate) fn basis(&self, directory: &Directory, space_key: u64) -> Basis {
        let since = directory.defined_at(space_key);
        let configured = self.embedding.configured.as_ref();
        match directory.definition(space_key).or(configured) {
            Some(definition) => Basis {
                source: if definition.made { Source::Made } else { Source::Given },
                model: definition.model.clone(),
                dimension: definition.dimension,
                since,
                embeds: configured == Some(definition),
            },
            None => Basis {
                source: if self.embedding.is_near() { Source::Made } else { Source::None },
                model: self.embedding.near.clone(),
                dimension: 0,
                since,
                embeds: self.embedding.is_near(),
            },
        }
    }

    /// How far the vectors of a space with so many episodes are.
    pub(crate) fn embedding_figures(
        &self,
        space_key: u64,
        basis: &Basis,
        episodes: u64,
    ) -> Figures {
        // Before the index is looked at: what arrives meanwhile is counted twice rather than never.
        let on_the_way = self.on_the_way(space_key);
        let of_index = |index: &SpaceIndex| {
            if *index.basis() != *basis {
                return (0, Figures::default());
            }
            let embedded = index.vectors().map_or(0, |vectors| vectors.len() - index.unclaimed());
            let (waiting, refused) = (index.waiting_len() as u64, index.refused_len() as u64);
            (index.len() as u64, Figures { embedded: embedded as u64, waiting, refused })
        };
        let made = self.look_at_index(space_key, of_index);
        let (indexed, figures) = made.unwrap_or_default();
        // What the index does not have yet may have a saved vector, and may not. Where vectors are
        // made on the spot it is made with them.
        let coming = basis.embeds && (self.embedding.is_far() || made.is_some());
        let coming = if coming {
            // One that is replaced may be here as it was, and its successor on the way.
            episodes.saturating_sub(indexed).max(on_the_way)
        } else {
            0
        };
        Figures { waiting: (figures.waiting + coming).min(episodes), ..figures }
    }

    /// Asks the embedder, unless it is better left alone.
    pub(crate) fn embed(
        &self,
        texts: &[&str],
        purpose: Purpose,
    ) -> Result<Vec<Option<Vec<f32>>>, NotEmbedded> {
        if purpose == Purpose::Cue
            && let Some(cause) = self.embedding.left_alone(self.env.clock.elapsed())
        {
            return Err(unavailable(cause));
        }
        self.ask(texts, purpose)
    }

    /// Asks the embedder, whatever it did before. Holds no lock meanwhile.
    pub(crate) fn ask(
        &self,
        texts: &[&str],
        purpose: Purpose,
    ) -> Result<Vec<Option<Vec<f32>>>, NotEmbedded> {
        let Some(embedder) = self.options.embedder.as_ref() else {
            let cause = "no embedder is configured".into();
            return Err(NotEmbedded::Refused { cause });
        };
        let Reach::Far { dimension, .. } = embedder.reach() else {
            return embedder.embed(texts, purpose);
        };
        let clock = &self.env.clock;
        let began = clock.elapsed();
        let cut: Vec<&str> = texts.iter().map(|text| beginning(text)).collect();
        let answer = catch_unwind(AssertUnwindSafe(|| embedder.embed(&cut, purpose)))
            .unwrap_or_else(|_| Err(unavailable("it panicked; please report it".into())))
            .and_then(|vectors| check(vectors, texts.len(), dimension));
        let now = clock.elapsed();
        self.env.metrics.embedder_asked(answer.is_ok(), now.saturating_sub(began));
        match &answer {
            Err(NotEmbedded::Unavailable { cause, retry_after }) => {
                self.embedding.failed(cause, *retry_after, now);
            }
            Ok(_) => self.embedding.answered(),
            // Its taste says nothing about how it is.
            Err(NotEmbedded::Refused { .. }) => {}
        }
        answer
    }

    /// Says that nothing new is embedded in a space, where another model made its vectors.
    pub(super) fn tell_foreign(&self, space_key: u64) {
        let (basis, name) = self.memory.look(|directory| {
            let name = directory.space_name(space_key).unwrap_or_default().to_owned();
            (self.basis(directory, space_key), name)
        });
        if basis.source == Source::Made && !basis.embeds {
            tracing::warn!(
                space = name,
                vectors_of = basis.model.as_deref(),
                configured = self.embedding.model().map(|model| &**model),
                "the space holds vectors of another model than the configured one: its texts are found by words until engram reembed moves it over"
            );
        }
    }

    /// Starts the thread that asks a far embedder.
    pub(super) fn spawn_embedding(self: &Arc<Self>) -> Result<()> {
        if !self.embedding.is_far() {
            return Ok(());
        }
        let shared = Arc::clone(self);
        let run = move || {
            while catch_unwind(AssertUnwindSafe(|| shared.embed_loop())).is_err() {
                tracing::error!("the thread that embeds texts panicked; please report it");
            }
        };
        let spawned = thread::Builder::new().name("engram-embed".into()).spawn(run);
        spawned.map(drop).map_err(|e| Error::io("start a thread for", &self.env.dir, &e))
    }

    fn embed_loop(self: &Arc<Self>) {
        while self.embedding.wait(|| self.env.clock.elapsed()) {
            loop {
                let cells = self.cells();
                // One batch of each space in turn: a large one must not keep others waiting.
                let round: Result<Vec<bool>, NotEmbedded> =
                    cells.iter().map(|cell| self.embed_far(cell)).collect();
                match round {
                    Ok(worked) if !worked.contains(&true) => break,
                    Ok(_) if self.embedding.closing() => return,
                    Ok(_) => {}
                    Err(_) => {
                        self.embedding.arm();
                        break;
                    }
                }
            }
        }
    }

    /// One batch of a space. Says whether there was one.
    fn embed_far(self: &Arc<Self>, cell: &SpaceCell) -> Result<bool, NotEmbedded> {
        if cell.look(|index| index.waiting_len() == 0 || !index.basis().embeds) {
            return Ok(false);
        }
        self.fix(cell)?;
        let worked = self.embed_some(cell)?;
        if !self.embedding.closing() {
            self.save_progress(cell);
        }
        Ok(worked)
    }

    /// Makes vectors of some episodes of a space that wait for them. Says whether there were any.
    pub(super) fn embed_some(&self, cell: &SpaceCell) -> Result<bool, NotEmbedded> {
        let Some(embedder) = self.options.embedder.as_ref() else { return Ok(false) };
        let most = match embedder.reach() {
            Reach::Near => PORTION_EPISODES,
            Reach::Far { batch, .. } => batch.max(1),
        };
        let ahead = most.saturating_add(UNREADABLE_PASSED);
        let (basis, waiting) = cell.look(|index| (index.basis().clone(), index.waiting(ahead)));
        if waiting.is_empty() || !basis.embeds {
            return Ok(false);
        }
        let mut batch: Vec<(u64, String)> = Vec::with_capacity(waiting.len());
        let (mut bytes, mut worked) = (0usize, false);
        for (key, lsn) in waiting {
            if batch.len() == most {
                break;
            }
            let wanted = |entry: &Entry| (entry.lsn == lsn).then_some(());
            let text = match self.read_entry(key, wanted) {
                Ok(Some(stored)) => super::indexing::words(&stored.episode),
                // Gone, or never to be read again: whoever asks for it hears why.
                Ok(None) | Err(Error::Damaged { .. } | Error::Undecodable { .. }) => String::new(),
                // It may be read later, and the embedder has no part in it.
                Err(e) => {
                    tracing::debug!(lsn, cause = %e, "an episode has no vector yet");
                    continue;
                }
            };
            if text.trim().is_empty() {
                cell.change(|index| index.embedded(lsn, None));
                worked = true;
                continue;
            }
            bytes += beginning(&text).len();
            if bytes > BATCH_BYTES_MAX && !batch.is_empty() {
                break;
            }
            batch.push((lsn, text));
        }
        if !batch.is_empty() {
            self.embed_batch(cell, &basis, &batch)?;
        }
        Ok(worked || !batch.is_empty())
    }

    /// Asks for the vectors of a batch. Of one that is refused, by halves, until it is known whose
    /// text is to blame.
    fn embed_batch(
        &self,
        cell: &SpaceCell,
        basis: &Basis,
        batch: &[(u64, String)],
    ) -> Result<(), NotEmbedded> {
        let texts: Vec<&str> = batch.iter().map(|(_, text)| text.as_str()).collect();
        match self.embed(&texts, Purpose::Episodes) {
            Ok(vectors) => {
                cell.change(|index| {
                    // Those of an earlier model are of no use.
                    if index.basis() == basis {
                        for ((lsn, _), vector) in batch.iter().zip(&vectors) {
                            index.embedded(*lsn, vector.as_deref());
                        }
                    }
                });
                Ok(())
            }
            Err(NotEmbedded::Refused { cause }) => {
                if let [(lsn, _)] = batch {
                    // Where it takes no text at all, it and not the text is to blame.
                    if let Err(e) = self.embed(&[PROBE], Purpose::Episodes) {
                        return Err(self.put_off(e.to_string()));
                    }
                    cell.change(|index| index.refuse(*lsn));
                    self.tell_refusal(*lsn, &cause);
                    return Ok(());
                }
                let (first, second) = batch.split_at(batch.len() / 2);
                self.embed_batch(cell, basis, first)?;
                self.embed_batch(cell, basis, second)
            }
            Err(e) => Err(e),
        }
    }

    fn tell_refusal(&self, lsn: u64, cause: &str) {
        if std::mem::replace(&mut lock(&self.embedding.state).refusal_told, true) {
            tracing::debug!(lsn, cause, "the embedder refuses a text");
        } else {
            tracing::warn!(
                lsn,
                cause,
                "the embedder refuses a text; its episode is found by words alone; of others like it only the number is told"
            );
        }
    }

    /// Nothing more is asked for a while.
    fn put_off(&self, cause: String) -> NotEmbedded {
        self.embedding.failed(&cause, None, self.env.clock.elapsed());
        unavailable(cause)
    }

    /// Fixes a space to the configured model before its first vector is made.
    fn fix(self: &Arc<Self>, cell: &SpaceCell) -> Result<(), NotEmbedded> {
        let Some(configured) = self.embedding.configured() else { return Ok(()) };
        let name = self.memory.look(|directory| {
            let name = directory.space_name(cell.space_key).map(str::to_owned);
            name.filter(|_| directory.definition(cell.space_key).is_none())
        });
        let Some(name) = name else { return Ok(()) };
        let definition = configured.clone();
        let change = Change::define(cell.space_key, &name, definition, Redefine::Nothing);
        self.define(change).map_err(|e| self.put_off(e.to_string()))?;
        // The index hears of it before it is given vectors.
        let mut retries = true;
        while self.work_off(cell, std::mem::take(&mut retries), |_| PORTION_EPISODES) {}
        Ok(())
    }

    /// Says in the log whose vectors a space holds from now on, and waits until that is durable.
    pub(crate) fn define(self: &Arc<Self>, change: Change) -> Result<()> {
        let answered =
            |answers: Answers| answers.into_iter().next().unwrap_or(Err(Error::Closed)).map(drop);
        self.submit(smallvec![Ok(change)], answered)?.wait()
    }
}

fn unavailable(cause: String) -> NotEmbedded {
    NotEmbedded::Unavailable { cause, retry_after: None }
}

/// What of a text is embedded.
fn beginning(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or(text)
}

/// Vectors are only believed when they are as many, as long and as finite as they must be.
fn check(
    vectors: Vec<Option<Vec<f32>>>,
    texts: usize,
    dimension: u32,
) -> Result<Vec<Option<Vec<f32>>>, NotEmbedded> {
    if vectors.len() != texts {
        let cause = format!("it gave {} vectors for {texts} texts", vectors.len());
        return Err(unavailable(cause));
    }
    for vector in vectors.iter().flatten() {
        if u32::try_from(vector.len()).ok() != Some(dimension) {
            let found = vector.len();
            return Err(unavailable(format!(
                "it gave vectors of {found} dimensions, and {dimension} are configured; correct \
                 --embedder-dimension or --embedder-model"
            )));
        }
        if vector.iter().any(|value| !value.is_finite()) {
            return Err(unavailable("it gave a vector with a number that is not finite".into()));
        }
    }
    Ok(vectors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = "ä".repeat(TEXT_BYTES_MAX);
        assert_eq!(beginning(&text).len(), TEXT_BYTES_MAX);
        let text = format!("x{text}");
        assert_eq!(beginning(&text).len(), TEXT_BYTES_MAX - 1);
        assert_eq!(beginning("short"), "short");
    }

    #[test]
    fn vectors_that_cannot_be_right_are_refused_with_the_reason() {
        let good = || Some(vec![0.5, -1.0]);
        assert!(check(vec![good(), None], 2, 2).is_ok());
        for (vectors, said) in [
            (vec![good()], "1 vectors for 2 texts"),
            (vec![good(), Some(vec![1.0; 3])], "3 dimensions, and 2 are configured"),
            (vec![Some(vec![0.0, f32::NAN]), good()], "not finite"),
        ] {
            let refused = check(vectors, 2, 2).unwrap_err().to_string();
            assert!(refused.contains(said), "{refused}");
        }
    }
}
