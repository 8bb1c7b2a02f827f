//! The memory's face: remember, recall, forget, and what operators ask.

pub mod answers;
pub mod change;
pub mod commit;
pub mod directory;
mod open;
pub mod options;
pub mod policy;
mod read;
mod recall;
pub mod reembed;
mod takeover;

use std::cmp::Reverse;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use smallvec::smallvec;

use change::{Answers, Change, Changes, Done, What};

use crate::clock::Rng;
use crate::driver::Driver;
use crate::episode::{Draft, check_space, limits};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::record::{self, Definition, Keys, Record};
use crate::storage::wal::frame::{self, Kind};
use crate::storage::wal::knowledge::Knowledge as _;
use crate::storage::wal::quarantine;
use crate::storage::wal::report::{
    CompactionStats, Incident, QuarantineItem, RecoveryReport, WalState, WalStatus,
};
pub use crate::storage::wal::survey::RecoveryProgress;
use crate::sync::Mutex;
use crate::sync::atomic::Ordering;

pub use answers::{
    BatchOutcome, Condition, Forgotten, IndexInfo, ListQuery, Page, Remembered, SpaceForgotten,
    SpaceInfo,
};
pub use options::{Drive, Durability, Options};
pub use reembed::{EmbeddingState, EmbeddingStatus};

pub use crate::driver::{Pending, Stepper};
pub use crate::storage::wal::env::Scale;
pub(crate) use open::LOCK_NAME;
pub(crate) use takeover::{LegacyFile, failure_incident, find as find_legacy};

/// A memory in a data directory. Cheap to clone; the last clone closes it.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    driver: Driver,
    keys: Keys,
    report: Arc<RecoveryReport>,
    /// Held for as long as the directory is ours.
    lock: Mutex<Option<Box<dyn crate::disk::Lock>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(e) = self.driver.close() {
            tracing::warn!(cause = %e, "the log was closed without a mark");
        }
    }
}

impl Store {
    /// Opens or makes the memory in a directory, recovering whatever is there.
    ///
    /// # Errors
    /// Another process has it, a newer format, a gap in the log, v0.1.0 files that cannot be
    /// taken over, or what the disk said.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Self> {
        open::open(dir.as_ref(), options).map(|inner| Self { inner: Arc::new(inner) })
    }

    /// Reads the log and makes the memory from it: [`Store::open`] under its older name.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn recover_from_wal(
        dir: impl AsRef<Path>,
        options: Options,
    ) -> Result<(Self, Arc<RecoveryReport>)> {
        let store = Self::open(dir, options)?;
        let report = store.recovery_report();
        Ok((store, report))
    }

    /// Keeps an episode; one of the same id is replaced.
    ///
    /// # Errors
    /// A field over its limit, a full queue, a poisoned log; the handle tells the others.
    pub fn remember(
        &self,
        space: &str,
        draft: Draft,
        condition: Condition,
    ) -> Result<Pending<Remembered>> {
        check_space(space)?;
        let change = self.prepare(space, draft, condition)?;
        self.inner.driver.shared.submit(smallvec![Ok(change)], |answers| {
            let Done { id, lsn, replaced, .. } = only(answers)?;
            Ok(Remembered { id, lsn, replaced })
        })
    }

    /// Keeps many; a bad one never spoils its neighbours. `drafts` may hold what the caller
    /// already refused (say, unreadable JSON), so that indexes stay right.
    ///
    /// # Errors
    /// A batch over its limit, an illegal space, a full queue, a poisoned log.
    pub fn remember_batch(
        &self,
        space: &str,
        drafts: Vec<Result<Draft>>,
        condition: Condition,
    ) -> Result<Pending<BatchOutcome>> {
        check_space(space)?;
        if drafts.len() > limits::BATCH_EPISODES_MAX {
            return Err(Error::Limit {
                field: "batch",
                problem: "too many episodes",
                bound: format!("{} episodes", limits::BATCH_EPISODES_MAX),
                value: format!("{} episodes", drafts.len()),
                too_large: true,
            });
        }
        let changes: Changes =
            drafts.into_iter().map(|draft| self.prepare(space, draft?, condition)).collect();
        let bytes: usize = changes.iter().flatten().map(|change| change.payload.len()).sum();
        if bytes > limits::BATCH_BYTES_MAX {
            return Err(Error::Limit {
                field: "batch",
                problem: "too large",
                bound: format!("{} bytes", limits::BATCH_BYTES_MAX),
                value: format!("{bytes} bytes"),
                too_large: true,
            });
        }
        self.inner.driver.shared.submit(changes, batch_outcome)
    }

    /// Forgets one.
    ///
    /// # Errors
    /// The handle says [`Error::NoEpisode`] when there is none.
    pub fn forget(
        &self,
        space: &str,
        id: &str,
        condition: Condition,
    ) -> Result<Pending<Forgotten>> {
        let keys = &self.inner.keys;
        let payload = record::encode_forget(space, id, self.env().clock.now());
        let change = Change {
            key: keys.episode(space, id),
            space_key: keys.space(space),
            id: id.to_owned(),
            condition,
            what: What::Forget,
            definition: None,
            payload_crc: frame::crc(&payload),
            payload,
        };
        let convert = |answers| only(answers).map(|done| Forgotten { lsn: done.lsn });
        let pending = self.inner.driver.shared.submit(smallvec![Ok(change)], convert)?;
        Ok(pending.forgetting(keys.space(space)))
    }

    /// Forgets a whole space.
    ///
    /// # Errors
    /// The handle says [`Error::NoSpace`] when there is none.
    pub fn forget_space(&self, space: &str) -> Result<Pending<SpaceForgotten>> {
        let space_key = self.inner.keys.space(space);
        let payload = record::encode_forget(space, "", self.env().clock.now());
        let change = Change {
            key: space_key,
            space_key,
            id: String::new(),
            condition: Condition::Any,
            what: What::ForgetSpace,
            definition: None,
            payload_crc: frame::crc(&payload),
            payload,
        };
        let convert = |answers| {
            only(answers).map(|done| SpaceForgotten { lsn: done.lsn, episodes: done.forgotten })
        };
        let pending = self.inner.driver.shared.submit(smallvec![Ok(change)], convert)?;
        Ok(pending.forgetting(space_key))
    }

    /// The spaces, by name.
    #[must_use]
    pub fn spaces(&self) -> Vec<SpaceInfo> {
        let views = self.inner.driver.shared.memory.look(directory::Directory::spaces);
        let info = |view: directory::SpaceView| {
            let fixed = view.definition;
            SpaceInfo {
                name: view.name,
                episodes: view.episodes,
                bytes: view.bytes,
                dimension: fixed.as_ref().map(|fixed| fixed.dimension),
                model: fixed.and_then(|fixed| Some(fixed.model?.to_string())),
            }
        };
        views.into_iter().map(info).collect()
    }

    /// The index of a space at this moment, so that two looks at one memory may differ.
    #[must_use]
    pub fn index_info(&self, space: &str) -> IndexInfo {
        let shared = &self.inner.driver.shared;
        let space_key = self.inner.keys.space(space);
        let (basis, episodes) = shared.memory.look(|directory| {
            let episodes = directory.space_episodes(space_key).unwrap_or_default();
            (shared.basis(directory, space_key), episodes)
        });
        let figures = shared.embedding_figures(space_key, &basis, episodes);
        let bytes = shared.look_at_index(space_key, |index| index.bytes() as u64);
        IndexInfo {
            bytes: bytes.unwrap_or_default(),
            unembedded: figures.waiting + figures.refused,
        }
    }

    /// Bytes in the quarantine now, which another process may purge; its gauge shows them from now on.
    #[must_use]
    pub fn quarantine_bytes(&self) -> u64 {
        self.inner.driver.shared.quarantine.bytes()
    }

    /// The log at this moment.
    #[must_use]
    pub fn wal(&self) -> WalStatus {
        let shared = &self.inner.driver.shared;
        let segments = shared.segments.list();
        let (usages, total) = shared.memory.look(|directory| {
            let usages: Vec<_> = segments.iter().map(|s| directory.usage(s.number)).collect();
            (usages, directory.total_usage())
        });
        let quarantine_bytes = self.quarantine_bytes();
        WalStatus {
            state: self.state(),
            durability: shared.options.durability.to_string(),
            head_lsn: shared.seen.head_lsn.load(Ordering::Acquire),
            synced_lsn: shared.seen.synced_lsn.load(Ordering::Acquire),
            live_bytes: total.live,
            dead_bytes: total.dead,
            preallocated_bytes: shared.preallocated_bytes(),
            quarantine_bytes,
            segments: segments
                .into_iter()
                .zip(usages)
                .map(|(segment, usage)| segment.status(usage))
                .collect(),
        }
    }

    /// What the log is doing.
    #[must_use]
    pub fn state(&self) -> WalState {
        self.inner.driver.shared.state()
    }

    /// Why the log is poisoned, if it is.
    #[must_use]
    pub fn poisoned_by(&self) -> Option<String> {
        self.inner.driver.shared.poisoned_by()
    }

    /// What the last recovery found and did.
    #[must_use]
    pub fn recovery_report(&self) -> Arc<RecoveryReport> {
        Arc::clone(&self.inner.report)
    }

    /// Every incident ever, newest first.
    #[must_use]
    pub fn incidents(&self) -> Vec<Incident> {
        self.inner.driver.shared.quarantine.incidents()
    }

    /// What is kept in the quarantine.
    ///
    /// # Errors
    /// What the disk said.
    pub fn quarantine(&self) -> Result<Vec<QuarantineItem>> {
        quarantine::list(self.env().disk.as_ref(), &self.env().dir)
    }

    /// Remembers the intact episodes of a quarantined item again, in their newest version, unless an
    /// episode of their id exists or the item holds a forget of them; gives (restored, skipped).
    ///
    /// # Errors
    /// [`Error::NoSuch`], or as [`Store::remember`].
    pub fn quarantine_restore(&self, name: &str) -> Result<(u64, u64)> {
        let mut frames = quarantine::frames(self.env().disk.as_ref(), &self.env().dir, name)?;
        // Of two versions of an episode the newer one, wherever it stands; none that a frame of the
        // item forgets.
        frames.sort_by_key(|(header, _)| Reverse(header.lsn));
        let mut forgotten = HashSet::new();
        let (mut restored, mut skipped) = (0, 0);
        for (header, payload) in frames {
            match header.kind {
                Kind::FORGET => forgotten.insert(header.key),
                Kind::FORGET_SPACE => forgotten.insert(header.space_key),
                _ => false,
            };
            let is_gone = [header.key, header.space_key].iter().any(|key| forgotten.contains(key));
            let Some(Record::Remember(remember)) =
                record::decode(&header, &payload).filter(|_| !is_gone)
            else {
                skipped += 1;
                continue;
            };
            let (space, id) = (remember.space, remember.id);
            let dimension = remember.dimension();
            let change = Change {
                key: self.inner.keys.episode(space, id),
                space_key: self.inner.keys.space(space),
                id: id.to_owned(),
                condition: Condition::Absent,
                what: What::Remember { dimension },
                definition: (dimension > 0).then(|| Definition::given(dimension)),
                payload_crc: header.payload_crc,
                payload: payload.clone(),
            };
            match self.inner.driver.shared.submit(smallvec![Ok(change)], only)?.wait() {
                Ok(_) => restored += 1,
                Err(Error::Precondition { .. } | Error::Dimension { .. } | Error::Model { .. }) => {
                    skipped += 1;
                }
                Err(e) => return Err(e),
            }
        }
        Ok((restored, skipped))
    }

    /// Drops from the log, now, all that memory knows to be dead (blocking).
    ///
    /// # Errors
    /// What the disk said; the log is then as it was.
    pub fn compact_from_memory(&self) -> Result<CompactionStats> {
        self.inner.driver.compact_now()
    }

    /// What moves a store that was opened with [`Drive::Steps`].
    #[must_use]
    pub fn stepper(&self) -> Stepper<'_> {
        Stepper { driver: &self.inner.driver }
    }

    /// The figures.
    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.env().metrics)
    }

    /// Stops accepting, finishes what was accepted, leaves a mark, and gives the directory up.
    /// Reads go on.
    ///
    /// # Errors
    /// When the end of the log could not be synced.
    pub fn close(&self) -> Result<()> {
        let closed = self.inner.driver.close();
        drop(self.inner.lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take());
        closed
    }

    /// The data directory.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.env().dir.clone()
    }

    fn env(&self) -> &crate::storage::wal::env::Env {
        &self.inner.driver.shared.env
    }

    /// Checks and encodes an episode, on its caller's thread.
    fn prepare(&self, space: &str, draft: Draft, condition: Condition) -> Result<Change> {
        let env = self.env();
        let now = env.clock.now();
        let model = draft.embedding_model.as_deref().map(Arc::from);
        let episode = draft.check(now, || new_id(env.rng.as_ref(), now))?;
        let change = prepare_episode(&self.inner.keys, space, episode, now, condition);
        let definition = change.definition.map(|definition| Definition { model, ..definition });
        Ok(Change { definition, ..change })
    }
}

/// The change that keeps a checked episode.
fn prepare_episode(
    keys: &Keys,
    space: &str,
    episode: crate::Episode,
    now: Timestamp,
    condition: Condition,
) -> Change {
    let dimension = u32::try_from(episode.embedding.len()).unwrap_or(u32::MAX);
    let (payload, id) = record::encode_remember(space, episode, now);
    Change {
        key: keys.episode(space, &id),
        space_key: keys.space(space),
        id,
        condition,
        what: What::Remember { dimension },
        definition: (dimension > 0).then(|| Definition::given(dimension)),
        payload_crc: frame::crc(&payload),
        payload,
    }
}

fn only(answers: Answers) -> Result<Done> {
    answers.into_iter().next().unwrap_or(Err(Error::Closed))
}

fn batch_outcome(answers: Answers) -> Result<BatchOutcome> {
    let mut outcome = BatchOutcome::default();
    for (index, answer) in answers.into_iter().enumerate() {
        match answer {
            Ok(done) => {
                outcome.accepted += 1;
                outcome.first_lsn = outcome.first_lsn.or(Some(done.lsn));
                outcome.last_lsn = Some(done.lsn);
            }
            Err(e @ Error::Poisoned { .. }) => return Err(e),
            Err(e) => outcome.rejected.push((index, e)),
        }
    }
    // A whole batch refused for one reason that is not its own is that refusal.
    if outcome.accepted == 0
        && let Some((_, Error::DiskFull { .. })) = outcome.rejected.first()
        && let Some((_, e)) = outcome.rejected.pop()
    {
        return Err(e);
    }
    Ok(outcome)
}

/// A `UUIDv7`: ids made later sort later.
fn new_id(rng: &dyn Rng, now: Timestamp) -> String {
    let mut random = [0; 10];
    rng.fill(&mut random);
    let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid().to_string()
}
