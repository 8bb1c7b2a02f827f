//! The names of everything that Engram exports, with type, unit, help and labels: one table,
//! from which the registry, the docs' test and the exporter's buckets are made.
//!
//! Pure. Names are promises to dashboards: a change of this table is a change of
//! [`SCHEMA_VERSION`] and a line in `docs/metrics-schema-changelog.md`. Deliberately absent:
//! values, and who sets them ([`super::Metrics`], and the server for its own).

/// The version of this table, by semver: a removed or changed series is a major one.
pub const SCHEMA_VERSION: &str = "1.5.0";

/// What a family of series is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises while the process lives; begins at 0 with it.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations, counted in buckets.
    Histogram,
}

impl Kind {
    /// Its name in the Prometheus text format.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// What a value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
}

/// A label of a family, and the values it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// All its values, each a series that exists from the start at 0; empty when the values are
    /// only known while running.
    pub values: &'static [&'static str],
}

/// All series of one name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Family {
    /// The exported name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What its values count.
    pub unit: Unit,
    /// One sentence for people.
    pub help: &'static str,
    /// Its labels.
    pub labels: &'static [Label],
    /// Upper bounds of a histogram's buckets, rising; the last one (`+Inf`) is left out.
    pub buckets: &'static [f64],
}

impl Family {
    /// Whether every label's values are known, so that all series exist from the start.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.labels.iter().all(|label| !label.values.is_empty())
    }

    /// Whether the server describes and registers it, rather than the engine.
    #[must_use]
    pub fn is_servers(&self) -> bool {
        self.name.starts_with("engram_http_")
    }
}

/// Declares each family once: its constant, and its row of [`ALL`].
macro_rules! families {
    ($($constant:ident = $kind:ident $name:literal in $unit:ident: $help:literal
        $(, by [$($label:literal: $values:expr),+])? $(, buckets $buckets:expr)?;)+) => {
        $(#[doc = $help] pub const $constant: &str = $name;)+

        /// Every family that Engram exports.
        pub const ALL: &[Family] = &[$(Family {
            name: $constant,
            kind: Kind::$kind,
            unit: Unit::$unit,
            help: $help,
            labels: &[$($(Label { name: $label, values: $values }),+)?],
            buckets: { let buckets: &[f64] = &[]; $(let buckets = { let _ = buckets; $buckets };)? buckets },
        }),+];
    };
}

families! {
    WAL_RECOVERY_SUCCESSES_TOTAL = Counter "engram_wal_recovery_successes_total" in Count:
        "Entries of the log that recovery gave back.";
    WAL_RECOVERY_FAILURES_TOTAL = Counter "engram_wal_recovery_failures_total" in Count:
        "Entries of the log that recovery could not give back, by reason.",
        by ["reason": RECOVERY_FAILURE_REASONS];
    WAL_RECOVERY_DURATION_SECONDS = Histogram "engram_wal_recovery_duration_seconds" in Seconds:
        "How long recovery took, from the lock to ready.", buckets RECOVERY_SECONDS_BUCKETS;
    WAL_COMPACTION_RUNS_TOTAL = Counter "engram_wal_compaction_runs_total" in Count:
        "Runs of compaction, by outcome.", by ["outcome": COMPACTION_OUTCOMES];
    WAL_COMPACTION_BYTES_RECLAIMED = Counter "engram_wal_compaction_bytes_reclaimed_total" in Bytes:
        "Bytes of log that compaction gave back.";
    WAL_COMPACTION_DURATION_SECONDS = Histogram "engram_wal_compaction_duration_seconds" in Seconds:
        "How long one good run of compaction took.", buckets COMPACTION_SECONDS_BUCKETS;
    WAL_COMPACTION_FRAMES_DROPPED_TOTAL = Counter "engram_wal_compaction_frames_dropped_total" in Count:
        "Frames that compaction left out, each superseded or forgotten by a named LSN.";
    WAL_COMPACTION_FRAMES_KEPT_TOTAL = Counter "engram_wal_compaction_frames_kept_total" in Count:
        "Frames that compaction copied.";
    WAL_SEGMENTS = Gauge "engram_wal_segments" in Count:
        "Segments of the log, the active one included.";
    WAL_LIVE_BYTES = Gauge "engram_wal_live_bytes" in Bytes:
        "Bytes of frames that the memory needs.";
    WAL_DEAD_BYTES = Gauge "engram_wal_dead_bytes" in Bytes:
        "Bytes of frames that are superseded or forgotten and wait for compaction.";
    WAL_PREALLOCATED_BYTES = Gauge "engram_wal_preallocated_bytes" in Bytes:
        "Bytes held ready: spares, ballast and the unused part of the active segment.";
    WAL_QUARANTINE_BYTES = Gauge "engram_wal_quarantine_bytes" in Bytes:
        "Bytes that left the log and are kept in the quarantine.";
    WAL_HEAD_LSN = Gauge "engram_wal_head_lsn" in Count:
        "The highest log sequence number given.";
    WAL_SYNCED_LSN = Gauge "engram_wal_synced_lsn" in Count:
        "The highest log sequence number known to be on disk.";
    WAL_SYNC_DURATION_SECONDS = Histogram "engram_wal_sync_duration_seconds" in Seconds:
        "How long one sync of the log took.", buckets SYNC_SECONDS_BUCKETS;
    WAL_BATCH_RECORDS = Histogram "engram_wal_batch_records" in Count:
        "Records written with one call.", buckets BATCH_RECORDS_BUCKETS;
    WAL_BATCH_BYTES = Histogram "engram_wal_batch_bytes" in Bytes:
        "Bytes written with one call.", buckets BATCH_BYTES_BUCKETS;
    WAL_QUEUE_DEPTH = Gauge "engram_wal_queue_depth" in Count:
        "Changes that wait for the writer.";
    WAL_WRITES_REFUSED_TOTAL = Counter "engram_wal_writes_refused_total" in Count:
        "Changes that the log did not take, by reason.", by ["reason": REFUSAL_REASONS];
    WAL_POISONED = Gauge "engram_wal_poisoned" in Count:
        "1 once a write or sync has failed and the log takes no more writes, else 0.";
    WAL_DISK_FULL = Gauge "engram_wal_disk_full" in Count:
        "1 while the disk is full and changes are refused, else 0.";
    WAL_INCIDENTS_TOTAL = Counter "engram_wal_incidents_total" in Count:
        "Incidents found for the first time by this process, by verdict.",
        by ["verdict": INCIDENT_VERDICTS];
    WAL_UNEXPLAINED_FRAMES = Gauge "engram_wal_unexplained_frames" in Count:
        "Frames that the memory does not need and no durable reason declares dead; they are kept.";
    EPISODES = Gauge "engram_episodes" in Count: "Episodes in memory, all spaces together.";
    SPACES = Gauge "engram_spaces" in Count: "Spaces in memory.";
    SPACE_EPISODES = Gauge "engram_space_episodes" in Count:
        "Episodes in memory, by space.", by ["space": &[]];
    SPACE_INDEX_BYTES = Gauge "engram_space_index_bytes" in Bytes:
        "Memory that the index of a space takes, about; 0 until it is made.", by ["space": &[]];
    SPACE_UNEMBEDDED_EPISODES = Gauge "engram_space_unembedded_episodes" in Count:
        "Episodes that the embedder has made no vector of yet, or will not, by space.", by ["space": &[]];
    EMBEDDER_REQUESTS_TOTAL = Counter "engram_embedder_requests_total" in Count:
        "Times that an embedder on the network was asked, by outcome.", by ["outcome": EMBEDDER_OUTCOMES];
    EMBEDDER_REQUEST_DURATION_SECONDS = Histogram "engram_embedder_request_duration_seconds" in Seconds:
        "How long an embedder on the network took to answer, or not to.",
        buckets HTTP_SECONDS_BUCKETS;
    RECALL_DURATION_SECONDS = Histogram "engram_recall_duration_seconds" in Seconds:
        "How long a recall that was answered took in the engine, its reads included.",
        buckets RECALL_SECONDS_BUCKETS;
    HTTP_REQUEST_DURATION_SECONDS = Histogram "engram_http_request_duration_seconds" in Seconds:
        "How long a request took, by method, route template and status class.",
        by ["method": &[], "route": &[], "status": &[]], buckets HTTP_SECONDS_BUCKETS;
    HTTP_CONNECTIONS = Gauge "engram_http_connections" in Count: "HTTP connections that are open.";
    BUILD_INFO = Gauge "engram_build_info" in Count:
        "Always 1; its labels name the version of Engram and of this schema.",
        by ["version": &[env!("CARGO_PKG_VERSION")], "schema_version": &[SCHEMA_VERSION]];
}

/// Why an entry could not be recovered.
pub const RECOVERY_FAILURE_REASONS: &[&str] = &["damaged", "undecodable", "tail"];
/// How a run of compaction ended.
pub const COMPACTION_OUTCOMES: &[&str] = &["ok", "failed"];
/// How asking an embedder ended.
pub const EMBEDDER_OUTCOMES: &[&str] = &["ok", "failed"];
/// Why a change was not taken.
pub const REFUSAL_REASONS: &[&str] = &["busy", "disk_full", "poisoned"];
/// What an incident is, in the order of `IncidentKind::ALL`.
pub const INCIDENT_VERDICTS: &[&str] =
    &["damaged", "undecodable", "tail", "missing", "unreadable", "unexplained", "legacy"];

/// From an `NVMe` drive's write cache (some 50 µs) to a device that hangs.
pub const SYNC_SECONDS_BUCKETS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_2, 0.000_3, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1,
    0.25, 0.5, 1.0, 2.5, 10.0,
];
/// From an empty memory to hundreds of gigabytes.
pub const RECOVERY_SECONDS_BUCKETS: &[f64] =
    &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
/// From one small segment to the whole of a large log at a limited speed.
pub const COMPACTION_SECONDS_BUCKETS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
/// Powers of two: group commit doubles under load.
pub const BATCH_RECORDS_BUCKETS: &[f64] =
    &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0];
/// From a frame without an embedding to the largest batch.
pub const BATCH_BYTES_BUCKETS: &[f64] = &[
    256.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
/// From a handful of episodes in memory to a cold disk and a filter that says no to nearly all.
pub const RECALL_SECONDS_BUCKETS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_2, 0.000_3, 0.000_5, 0.000_75, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05,
    0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];
/// From a read of the page cache to a client's patience.
pub const HTTP_SECONDS_BUCKETS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    10.0,
];
