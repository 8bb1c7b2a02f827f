//! What the engine counts: handles to every series, registered at once so that each exists at 0
//! before anything happened.
//!
//! The recorder is the caller's, and local: a library must not claim the process's global one,
//! and two stores in one process may report to two places. Counters only rise, from 0 at the
//! process's start; nothing is kept across restarts, since Prometheus' `rate` knows resets.
//! Deliberately absent: the server's families, which it describes and registers itself, and the
//! series of episodes by space, whose label is only known while running; it is described here.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, NoopRecorder, Recorder};

use crate::error::{Error, ErrorKind};
use crate::storage::wal::report::{CompactionStats, Failed, IncidentKind, RecoveryReport};

pub mod schema;

/// Handles to every series of the engine; cheap to use from any thread.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Entries recovered.
    pub recovery_successes: Counter,
    /// Entries lost to damage; see [`Metrics::recovery_failed`].
    pub recovery_failures_damaged: Counter,
    /// Entries not understood by this version.
    pub recovery_failures_undecodable: Counter,
    /// Entries of an unfinished tail.
    pub recovery_failures_tail: Counter,
    /// Seconds of one recovery.
    pub recovery_duration: Histogram,
    /// Good runs of compaction; see [`Metrics::compacted`].
    pub compaction_runs_ok: Counter,
    /// Failed ones.
    pub compaction_runs_failed: Counter,
    /// Bytes given back.
    pub compaction_bytes_reclaimed: Counter,
    /// Seconds of one good run.
    pub compaction_duration: Histogram,
    /// Frames left out.
    pub compaction_frames_dropped: Counter,
    /// Frames copied.
    pub compaction_frames_kept: Counter,
    /// Segments.
    pub segments: Gauge,
    /// Bytes that the memory needs.
    pub live_bytes: Gauge,
    /// Bytes that wait for compaction.
    pub dead_bytes: Gauge,
    /// Bytes held ready.
    pub preallocated_bytes: Gauge,
    /// Bytes in quarantine.
    pub quarantine_bytes: Gauge,
    /// The highest LSN given.
    pub head_lsn: Gauge,
    /// The highest LSN synced.
    pub synced_lsn: Gauge,
    /// Seconds of one sync.
    pub sync_duration: Histogram,
    /// Records of one write.
    pub batch_records: Histogram,
    /// Bytes of one write.
    pub batch_bytes: Histogram,
    /// Changes that wait.
    pub queue_depth: Gauge,
    /// Changes refused because the queue was full; see [`Metrics::write_refused`].
    pub writes_refused_busy: Counter,
    /// Changes refused because the disk was full.
    pub writes_refused_disk_full: Counter,
    /// Changes refused because the log is poisoned.
    pub writes_refused_poisoned: Counter,
    /// 1 once the log is poisoned.
    pub poisoned: Gauge,
    /// 1 while the disk is full.
    pub disk_full: Gauge,
    /// Frames neither needed nor proven dead.
    pub unexplained_frames: Gauge,
    /// Episodes of all spaces.
    pub episodes: Gauge,
    /// Spaces.
    pub spaces: Gauge,
    /// Answers of an embedder on the network; see [`Metrics::embedder_asked`].
    pub embedder_requests_ok: Counter,
    /// Times that it gave none.
    pub embedder_requests_failed: Counter,
    /// Seconds of one request to it.
    pub embedder_request_duration: Histogram,
    /// Seconds of one recall; see [`Metrics::recalled`].
    pub recall_duration: Histogram,
    /// By verdict, in the order of [`IncidentKind::ALL`].
    incidents: [Counter; IncidentKind::ALL.len()],
}

impl Default for Metrics {
    fn default() -> Self {
        Self::noop()
    }
}

impl Metrics {
    /// Describes every family of the engine to `recorder`, and registers every series of them
    /// whose labels are known.
    /// The recorder is needed no longer than this call.
    #[must_use]
    pub fn new(recorder: &dyn Recorder) -> Self {
        describe(recorder);
        let to = Registrar(recorder);
        to.gauge(
            schema::BUILD_INFO,
            &[("version", env!("CARGO_PKG_VERSION")), ("schema_version", schema::SCHEMA_VERSION)],
        )
        .set(1.0);
        let failures = |why| to.counter(schema::WAL_RECOVERY_FAILURES_TOTAL, &[("reason", why)]);
        let runs = |how| to.counter(schema::WAL_COMPACTION_RUNS_TOTAL, &[("outcome", how)]);
        let asked = |how| to.counter(schema::EMBEDDER_REQUESTS_TOTAL, &[("outcome", how)]);
        let refused = |why| to.counter(schema::WAL_WRITES_REFUSED_TOTAL, &[("reason", why)]);
        Self {
            recovery_successes: to.counter(schema::WAL_RECOVERY_SUCCESSES_TOTAL, &[]),
            recovery_failures_damaged: failures("damaged"),
            recovery_failures_undecodable: failures("undecodable"),
            recovery_failures_tail: failures("tail"),
            recovery_duration: to.histogram(schema::WAL_RECOVERY_DURATION_SECONDS),
            compaction_runs_ok: runs("ok"),
            compaction_runs_failed: runs("failed"),
            compaction_bytes_reclaimed: to.counter(schema::WAL_COMPACTION_BYTES_RECLAIMED, &[]),
            compaction_duration: to.histogram(schema::WAL_COMPACTION_DURATION_SECONDS),
            compaction_frames_dropped: to.counter(schema::WAL_COMPACTION_FRAMES_DROPPED_TOTAL, &[]),
            compaction_frames_kept: to.counter(schema::WAL_COMPACTION_FRAMES_KEPT_TOTAL, &[]),
            segments: to.gauge(schema::WAL_SEGMENTS, &[]),
            live_bytes: to.gauge(schema::WAL_LIVE_BYTES, &[]),
            dead_bytes: to.gauge(schema::WAL_DEAD_BYTES, &[]),
            preallocated_bytes: to.gauge(schema::WAL_PREALLOCATED_BYTES, &[]),
            quarantine_bytes: to.gauge(schema::WAL_QUARANTINE_BYTES, &[]),
            head_lsn: to.gauge(schema::WAL_HEAD_LSN, &[]),
            synced_lsn: to.gauge(schema::WAL_SYNCED_LSN, &[]),
            sync_duration: to.histogram(schema::WAL_SYNC_DURATION_SECONDS),
            batch_records: to.histogram(schema::WAL_BATCH_RECORDS),
            batch_bytes: to.histogram(schema::WAL_BATCH_BYTES),
            queue_depth: to.gauge(schema::WAL_QUEUE_DEPTH, &[]),
            writes_refused_busy: refused("busy"),
            writes_refused_disk_full: refused("disk_full"),
            writes_refused_poisoned: refused("poisoned"),
            poisoned: to.gauge(schema::WAL_POISONED, &[]),
            disk_full: to.gauge(schema::WAL_DISK_FULL, &[]),
            unexplained_frames: to.gauge(schema::WAL_UNEXPLAINED_FRAMES, &[]),
            episodes: to.gauge(schema::EPISODES, &[]),
            spaces: to.gauge(schema::SPACES, &[]),
            embedder_requests_ok: asked("ok"),
            embedder_requests_failed: asked("failed"),
            embedder_request_duration: to.histogram(schema::EMBEDDER_REQUEST_DURATION_SECONDS),
            recall_duration: to.histogram(schema::RECALL_DURATION_SECONDS),
            incidents: IncidentKind::ALL
                .map(|kind| to.counter(schema::WAL_INCIDENTS_TOTAL, &[("verdict", kind.name())])),
        }
    }

    /// Handles that count nothing.
    #[must_use]
    pub fn noop() -> Self {
        Self::new(&NoopRecorder)
    }

    /// Counts one whole recovery: successes, failures and duration. Not its incidents: those
    /// count once in their life ([`Metrics::incident`]), a report names known ones too.
    pub fn recovered(&self, report: &RecoveryReport) {
        self.recovery_successes.increment(report.recovered);
        self.recovery_failed(report.failed);
        self.recovery_duration.record(report.duration_seconds);
    }

    /// Counts entries that could not be recovered.
    pub fn recovery_failed(&self, failed: Failed) {
        self.recovery_failures_damaged.increment(failed.damaged);
        self.recovery_failures_undecodable.increment(failed.undecodable);
        self.recovery_failures_tail.increment(failed.tail);
    }

    /// Counts a good run of compaction.
    pub fn compacted(&self, stats: &CompactionStats) {
        self.compaction_runs_ok.increment(1);
        self.compaction_bytes_reclaimed.increment(stats.bytes_reclaimed);
        self.compaction_frames_dropped.increment(stats.frames_dropped);
        self.compaction_frames_kept.increment(stats.frames_kept);
        self.compaction_duration.record(stats.duration_seconds);
    }

    /// Counts an incident that was never seen before.
    pub fn incident(&self, kind: IncidentKind) {
        for (counter, each) in self.incidents.iter().zip(IncidentKind::ALL) {
            if each == kind {
                counter.increment(1);
            }
        }
    }

    /// Counts a recall that was answered, and how long that took.
    pub fn recalled(&self, took: Duration) {
        self.recall_duration.record(took.as_secs_f64());
    }

    /// Counts a request to an embedder on the network, and how long that took.
    pub fn embedder_asked(&self, ok: bool, took: Duration) {
        let counter = if ok { &self.embedder_requests_ok } else { &self.embedder_requests_failed };
        counter.increment(1);
        self.embedder_request_duration.record(took.as_secs_f64());
    }

    /// Counts a change that was not taken, where the log and not the change was the reason.
    pub fn write_refused(&self, error: &Error) {
        match error.kind() {
            ErrorKind::Busy => self.writes_refused_busy.increment(1),
            ErrorKind::DiskFull => self.writes_refused_disk_full.increment(1),
            ErrorKind::Poisoned => self.writes_refused_poisoned.increment(1),
            _ => {}
        }
    }

    /// Sets a gauge of things or bytes.
    pub fn set(gauge: &Gauge, value: u64) {
        gauge.set(float(value));
    }

    /// Records a number of things or bytes.
    pub fn record(histogram: &Histogram, value: u64) {
        histogram.record(float(value));
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact to 2^53; the format knows only floats")]
#[expect(clippy::as_conversions, reason = "there is no other way from u64 to f64")]
fn float(value: u64) -> f64 {
    value as f64
}

fn describe(recorder: &dyn Recorder) {
    for family in schema::ALL.iter().filter(|family| !family.is_servers()) {
        let unit = Some(match family.unit {
            schema::Unit::Count => metrics::Unit::Count,
            schema::Unit::Bytes => metrics::Unit::Bytes,
            schema::Unit::Seconds => metrics::Unit::Seconds,
        });
        let (name, help) = (family.name.into(), family.help.into());
        match family.kind {
            schema::Kind::Counter => recorder.describe_counter(name, unit, help),
            schema::Kind::Gauge => recorder.describe_gauge(name, unit, help),
            schema::Kind::Histogram => recorder.describe_histogram(name, unit, help),
        }
    }
}

/// Registers series with a recorder that is not the global one.
struct Registrar<'a>(&'a dyn Recorder);

type Labels<'a> = &'a [(&'static str, &'static str)];

impl Registrar<'_> {
    const METADATA: Metadata<'static> = Metadata::new("engram", Level::INFO, None);

    fn counter(&self, name: &'static str, labels: Labels<'_>) -> Counter {
        self.0.register_counter(&key(name, labels), &Self::METADATA)
    }

    fn gauge(&self, name: &'static str, labels: Labels<'_>) -> Gauge {
        self.0.register_gauge(&key(name, labels), &Self::METADATA)
    }

    fn histogram(&self, name: &'static str) -> Histogram {
        self.0.register_histogram(&key(name, &[]), &Self::METADATA)
    }
}

fn key(name: &'static str, labels: Labels<'_>) -> Key {
    let labels: Vec<Label> =
        labels.iter().map(|(name, value)| Label::from_static_parts(name, value)).collect();
    Key::from_parts(name, labels)
}
