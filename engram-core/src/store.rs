//! The memory's face: remember, recall, forget, and what operators ask.

pub mod commit;
pub mod directory;
pub mod policy;

mod open;
mod takeover;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;

use commit::{Answers, Change, Done, What};
use directory::{Entry, TimeCursor};

use crate::clock::{Clock, Rng, SystemClock, SystemRng};
use crate::disk::real::RealDisk;
use crate::disk::{Disk, read_exact_at};
use crate::driver::Driver;
use crate::episode::{Draft, StoredEpisode, check_space, limits};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::record::{self, Instant, Keys, Record};
use crate::storage::wal::frame::{self, HEADER_BYTES, Header};
use crate::storage::wal::knowledge::{Knowledge as _, Place};
use crate::storage::wal::quarantine;
pub use crate::storage::wal::recover::RecoveryProgress;
use crate::storage::wal::report::{
    CompactionStats, Incident, QuarantineItem, RecoveryMode, RecoveryReport, SegmentStatus,
    WalState, WalStatus,
};

/// When an acknowledged change is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Acknowledged means synced.
    #[default]
    Always,
    /// Acknowledged means written; synced at least this often.
    Interval(Duration),
    /// Acknowledged means written; synced when the system likes.
    Never,
}

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// When an acknowledged change is on disk.
    pub durability: Durability,
    /// What recovery does about damage.
    pub recovery: RecoveryMode,
    /// LSN ranges to go on without, when they are missing or unreadable.
    pub accept_loss: Vec<(u64, u64)>,
    /// Largest segment, in bytes.
    pub segment_bytes: u64,
    /// Most changes that may wait for the writer.
    pub queue_max: usize,
    /// Fastest that compaction may copy, in bytes per second; 0 for no limit.
    pub compaction_bytes_per_second_max: u64,
    /// Longest that forgotten bytes stay in the log.
    pub forget_erase_max: Duration,
    /// Whether compaction runs by itself.
    pub compact_automatically: bool,
    /// Threads that read the log at recovery; 0 for as many as there are cores.
    pub recovery_threads: usize,
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub rng: Arc<dyn Rng>,
    /// Where figures go.
    pub metrics: Arc<Metrics>,
    /// Recovery's progress, for whoever watches.
    pub progress: Arc<RecoveryProgress>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::Always,
            recovery: RecoveryMode::Salvage,
            accept_loss: Vec::new(),
            segment_bytes: limits::SEGMENT_BYTES_DEFAULT,
            queue_max: 65_536,
            compaction_bytes_per_second_max: 0,
            forget_erase_max: Duration::from_secs(24 * 60 * 60),
            compact_automatically: true,
            recovery_threads: 0,
            disk: Arc::new(RealDisk),
            clock: Arc::new(SystemClock::default()),
            rng: Arc::new(SystemRng),
            metrics: Arc::new(Metrics::noop()),
            progress: Arc::new(RecoveryProgress::default()),
        }
    }
}

impl std::fmt::Display for Durability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::Interval(every) => write!(f, "interval={}ms", every.as_millis()),
            Self::Never => f.write_str("never"),
        }
    }
}

/// What must hold for a change to be made; decided in LSN order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Condition {
    /// Nothing.
    #[default]
    Any,
    /// No episode of this id exists (`If-None-Match: *`).
    Absent,
    /// The episode is the one of this LSN (`If-Match`).
    Lsn(u64),
}

/// An acknowledged `remember`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// The id, made if none was given.
    pub id: String,
    /// The change's LSN.
    pub lsn: u64,
    /// Whether an episode of that id was there before.
    pub replaced: bool,
}

/// An acknowledged batch.
#[derive(Debug, Clone, Default)]
pub struct BatchOutcome {
    /// How many were kept.
    pub accepted: usize,
    /// The LSN of the first one kept.
    pub first_lsn: Option<u64>,
    /// The LSN of the last one kept.
    pub last_lsn: Option<u64>,
    /// Those refused: their index in the batch, and why.
    pub rejected: Vec<(usize, Error)>,
}

/// An acknowledged `forget` of one episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forgotten {
    /// The change's LSN.
    pub lsn: u64,
}

/// An acknowledged `forget_space`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpaceForgotten {
    /// The change's LSN.
    pub lsn: u64,
    /// How many episodes it forgot.
    pub episodes: u64,
}

pub use crate::driver::Pending;
pub(crate) use open::LOCK_NAME;
pub(crate) use takeover::{LegacyFile, find as find_legacy};

/// Which episodes a list gives, newest first.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// Not older than this.
    pub from: Option<Timestamp>,
    /// Older than this.
    pub to: Option<Timestamp>,
    /// With this person in `who`.
    pub who: Option<String>,
    /// At this place.
    pub place: Option<String>,
    /// At most so many, 1 to 1,000; 50 if `None`.
    pub limit: Option<usize>,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

/// One page of a list.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The episodes, newest first.
    pub episodes: Vec<StoredEpisode>,
    /// Where the next page begins, if there may be one.
    pub next_cursor: Option<String>,
}

/// One space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceInfo {
    /// Its name.
    pub name: String,
    /// Its episodes.
    pub episodes: u64,
    /// Bytes of log that they take.
    pub bytes: u64,
    /// The dimension of its embeddings, once there is one.
    pub dimension: Option<u32>,
}

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
    lock: std::sync::Mutex<Option<Box<dyn crate::disk::Lock>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(e) = self.driver.close() {
            tracing::warn!(cause = %e, "the log was closed without a mark");
        }
    }
}

/// Tries to read a frame before the place that memory gives is believed to be wrong.
const READ_TRIES: usize = 8;
/// Episodes looked at under one lock while listing.
const LIST_CHUNK: usize = 256;

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
        let change = self.prepare(&Arc::from(space), draft, condition)?;
        self.inner.driver.shared.submit(vec![Ok(change)], |answers| {
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
        let space: Arc<str> = Arc::from(space);
        let changes: Vec<Result<Change>> =
            drafts.into_iter().map(|draft| self.prepare(&space, draft?, condition)).collect();
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
            space: Arc::from(space),
            id: id.to_owned(),
            condition,
            what: What::Forget,
            payload_crc: frame::crc(&payload),
            payload,
        };
        let convert = |answers| only(answers).map(|done| Forgotten { lsn: done.lsn });
        self.inner.driver.shared.submit(vec![Ok(change)], convert)
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
            space: Arc::from(space),
            id: String::new(),
            condition: Condition::Any,
            what: What::ForgetSpace,
            payload_crc: frame::crc(&payload),
            payload,
        };
        self.inner.driver.shared.submit(vec![Ok(change)], |answers| {
            only(answers).map(|done| SpaceForgotten { lsn: done.lsn, episodes: done.forgotten })
        })
    }

    /// One episode, read from the log and verified.
    ///
    /// # Errors
    /// [`Error::NoEpisode`]; [`Error::Damaged`] and [`Error::Undecodable`] where its bytes
    /// cannot be given back.
    pub fn get(&self, space: &str, id: &str) -> Result<StoredEpisode> {
        let none = || Error::NoEpisode { space: space.to_owned(), id: id.to_owned() };
        let key = self.inner.keys.episode(space, id);
        let found = self.read_entry(key, |entry| {
            if entry.undecodable().is_none() && *entry.id != *id { None } else { Some(()) }
        })?;
        found.ok_or_else(none)
    }

    /// Episodes of a space, newest first.
    ///
    /// # Errors
    /// [`Error::NoSpace`]; [`Error::Limit`] for the limit, the cursor, or a range that ends
    /// before it begins.
    pub fn list(&self, space: &str, query: &ListQuery) -> Result<Page> {
        let limit = check_list(query)?;
        let space_key = self.inner.keys.space(space);
        let memory = &self.inner.driver.shared.memory;
        if memory.look(|directory| directory.space_episodes(space_key)).is_none() {
            return Err(Error::NoSpace { space: space.to_owned() });
        }
        let mut before = query.cursor.as_deref().map(parse_cursor).transpose()?;
        let (from, to) = (query.from.map(Instant::from), query.to.map(Instant::from));
        let mut page = Page::default();
        loop {
            let chunk: Vec<(TimeCursor, u64)> = memory.look(|directory| {
                directory
                    .newest_first(space_key, from, to, before)
                    .take(LIST_CHUNK)
                    .map(|(cursor, entry)| (cursor, self.inner.keys.episode(space, &entry.id)))
                    .collect()
            });
            let last = chunk.len() < LIST_CHUNK;
            for (cursor, key) in chunk {
                before = Some(cursor);
                // It may have been forgotten or replaced since we looked.
                let same = |entry: &Entry| (entry.lsn == cursor.lsn).then_some(());
                let Some(stored) = self.read_entry(key, same)? else { continue };
                if wanted(&stored, query) {
                    page.episodes.push(stored);
                }
                if page.episodes.len() == limit {
                    page.next_cursor = Some(format_cursor(cursor));
                    return Ok(page);
                }
            }
            if last {
                return Ok(page);
            }
        }
    }

    /// The spaces, by name.
    #[must_use]
    pub fn spaces(&self) -> Vec<SpaceInfo> {
        let views = self.inner.driver.shared.memory.look(directory::Directory::spaces);
        views
            .into_iter()
            .map(|view| SpaceInfo {
                name: view.name,
                episodes: view.episodes,
                bytes: view.bytes,
                dimension: view.dimension,
            })
            .collect()
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
        let quarantine_bytes = shared.quarantine.bytes();
        Metrics::set(&shared.env.metrics.quarantine_bytes, quarantine_bytes);
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
                .map(|(segment, usage)| SegmentStatus {
                    file: segment.name.file_name(),
                    first_lsn: segment.header.start,
                    last_lsn: segment.end,
                    generation: segment.name.generation(),
                    sealed: segment.sealed,
                    bytes: segment.bytes,
                    live_bytes: usage.live,
                    dead_bytes: usage.dead,
                })
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

    /// Remembers the intact episodes of a quarantined item again, unless an episode of their
    /// id exists; gives (restored, skipped).
    ///
    /// # Errors
    /// [`Error::NoSuch`], or as [`Store::remember`].
    pub fn quarantine_restore(&self, name: &str) -> Result<(u64, u64)> {
        let frames = quarantine::frames(self.env().disk.as_ref(), &self.env().dir, name)?;
        let (mut restored, mut skipped) = (0, 0);
        for (header, payload) in frames {
            let Some(Record::Remember(remember)) = record::decode(&header, &payload) else {
                skipped += 1;
                continue;
            };
            let (space, id) = (remember.space, remember.id);
            let dimension = remember.dimension();
            let change = Change {
                key: self.inner.keys.episode(space, id),
                space_key: self.inner.keys.space(space),
                space: Arc::from(space),
                id: id.to_owned(),
                condition: Condition::Absent,
                what: What::Remember { dimension },
                payload_crc: header.payload_crc,
                payload: payload.clone(),
            };
            match self.inner.driver.shared.submit(vec![Ok(change)], only)?.wait() {
                Ok(_) => restored += 1,
                Err(Error::Precondition { .. } | Error::Dimension { .. }) => skipped += 1,
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
        self.inner.driver.shared.compact_now()
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
    fn prepare(&self, space: &Arc<str>, draft: Draft, condition: Condition) -> Result<Change> {
        let env = self.env();
        let now = env.clock.now();
        let episode = draft.check(now, || new_id(env.rng.as_ref(), now))?;
        Ok(prepare_episode(&self.inner.keys, space, episode, now, condition))
    }

    /// Reads the frame of a key, if it has an entry and `accept` takes it.
    fn read_entry(
        &self,
        key: u64,
        accept: impl Fn(&Entry) -> Option<()>,
    ) -> Result<Option<StoredEpisode>> {
        let shared = &self.inner.driver.shared;
        let mut failed = None;
        for _ in 0..READ_TRIES {
            let found = shared.memory.look(|directory| {
                let entry = directory.get(key)?;
                accept(entry)?;
                Some((entry.place, entry.lsn, entry.undecodable()))
            });
            let Some((place, lsn, undecodable)) = found else { return Ok(None) };
            if let Some((kind, schema)) = undecodable {
                return Err(Error::Undecodable { lsn, kind: kind.0, schema });
            }
            // Compaction may have moved the frame since we looked: then look again.
            match self.read_place(place, key, lsn) {
                Ok(Some(stored)) => return Ok(Some(stored)),
                Ok(None) => {}
                Err(e) => {
                    if failed.replace((place, e)).is_some_and(|(old, _)| old == place) {
                        break;
                    }
                }
            }
        }
        let Some((place, e)) = failed else { return Err(Error::Closed) };
        if matches!(e, Error::Damaged { .. }) {
            // Compaction quarantines and names it.
            shared.segments.update(place.segment, |segment| segment.needs_rewrite = segment.sealed);
            shared.wake_maintenance();
        }
        Err(e)
    }

    fn read_place(&self, place: Place, key: u64, lsn: u64) -> Result<Option<StoredEpisode>> {
        let shared = &self.inner.driver.shared;
        let name = || {
            let segment = shared.segments.get(place.segment);
            segment.map_or_else(String::new, |segment| segment.name.file_name())
        };
        let io = |e: std::io::Error| Error::io("read", self.env().wal_path(&name()), &e);
        let Some(file) = shared.segments.file(place.segment).map_err(io)? else { return Ok(None) };
        let mut bytes = vec![0; place.bytes as usize];
        read_exact_at(file.as_ref(), &mut bytes, u64::from(place.offset)).map_err(io)?;
        let damaged = || Error::Damaged { file: name(), offset: u64::from(place.offset), lsn };
        let header = Header::decode(&bytes).ok_or_else(damaged)?;
        let payload = bytes.get(HEADER_BYTES..).unwrap_or_default();
        if header.lsn != lsn || header.key != key || header.payload_crc != frame::crc(payload) {
            return Err(damaged());
        }
        let undecodable = || Error::Undecodable { lsn, kind: header.kind.0, schema: header.schema };
        let Some(Record::Remember(remember)) = record::decode(&header, payload) else {
            return Err(undecodable());
        };
        let (episode, recorded_at) = remember.episode().ok_or_else(undecodable)?;
        let space = remember.space.to_owned();
        Ok(Some(StoredEpisode { space, lsn, recorded_at, episode }))
    }
}

/// The change that keeps a checked episode.
fn prepare_episode(
    keys: &Keys,
    space: &Arc<str>,
    episode: crate::Episode,
    now: Timestamp,
    condition: Condition,
) -> Change {
    let id = episode.id.clone();
    let dimension = u32::try_from(episode.embedding.len()).unwrap_or(u32::MAX);
    let payload = record::encode_remember(space, episode, now);
    Change {
        key: keys.episode(space, &id),
        space_key: keys.space(space),
        space: Arc::clone(space),
        id,
        condition,
        what: What::Remember { dimension },
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

fn check_list(query: &ListQuery) -> Result<usize> {
    let limit = query.limit.unwrap_or(limits::LIST_DEFAULT);
    if !(1..=limits::LIST_MAX).contains(&limit) {
        return Err(Error::Limit {
            field: "limit",
            problem: "out of range",
            bound: format!("1 to {}", limits::LIST_MAX),
            value: limit.to_string(),
            too_large: false,
        });
    }
    if let (Some(from), Some(to)) = (query.from, query.to)
        && from > to
    {
        return Err(Error::Limit {
            field: "to",
            problem: "before `from`",
            bound: format!("not before {from}"),
            value: to.to_string(),
            too_large: false,
        });
    }
    Ok(limit)
}

fn wanted(stored: &StoredEpisode, query: &ListQuery) -> bool {
    let who = query.who.as_ref().is_none_or(|who| stored.episode.who.contains(who));
    let place = query.place.as_ref().is_none_or(|p| stored.episode.place.as_ref() == Some(p));
    who && place
}

fn format_cursor(cursor: TimeCursor) -> String {
    format!("{:x}.{:x}.{:x}", cursor.when.seconds, cursor.when.nanos, cursor.lsn)
}

fn parse_cursor(text: &str) -> Result<TimeCursor> {
    let parse = || {
        let mut parts = text.split('.');
        let seconds = u64::from_str_radix(parts.next()?, 16).ok()?.cast_signed();
        let nanos = u32::from_str_radix(parts.next()?, 16).ok()?;
        let lsn = u64::from_str_radix(parts.next()?, 16).ok()?;
        parts.next().is_none().then_some(TimeCursor { when: Instant { seconds, nanos }, lsn })
    };
    parse().ok_or_else(|| Error::Limit {
        field: "cursor",
        problem: "not one of ours",
        bound: "the next_cursor of the page before".into(),
        value: format!("{:?}", text.chars().take(40).collect::<String>()),
        too_large: false,
    })
}
