//! Laws of the metrics' schema: its names are well formed, the docs tell what the code
//! exports, and what is registered is exactly what the schema says.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engram_core::Error;
use engram_core::metrics::Metrics;
use engram_core::metrics::schema::{self, ALL, Family, Kind, SCHEMA_VERSION, Unit};
use engram_core::storage::wal::report::{CompactionStats, Failed, IncidentKind, RecoveryReport};
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString,
};

/// A value that remembers: a sum for counters, the last one for gauges, a count for histograms.
#[derive(Debug, Default)]
struct Cell(AtomicU64);

impl CounterFn for Cell {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }
    fn absolute(&self, _: u64) {
        panic!("a counter of ours never jumps");
    }
}

impl GaugeFn for Cell {
    fn increment(&self, _: f64) {}
    fn decrement(&self, _: f64) {}
    fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }
}

impl HistogramFn for Cell {
    fn record(&self, _: f64) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Seen {
    described: BTreeMap<String, (Kind, Option<metrics::Unit>, String)>,
    series: BTreeMap<String, (Kind, Arc<Cell>)>,
}

/// A recorder that lists what it is told.
#[derive(Debug, Default)]
struct Listing(Mutex<Seen>);

impl Listing {
    fn describe(&self, name: &KeyName, kind: Kind, unit: Option<metrics::Unit>, help: &str) {
        let row = (kind, unit, help.to_owned());
        let before = self.0.lock().unwrap().described.insert(name.as_str().to_owned(), row);
        assert_eq!(before, None, "{} is described twice", name.as_str());
    }

    fn register(&self, key: &Key, kind: Kind) -> Arc<Cell> {
        let cell = Arc::new(Cell::default());
        let before = self.0.lock().unwrap().series.insert(series(key), (kind, Arc::clone(&cell)));
        assert!(before.is_none(), "{key} is registered twice");
        cell
    }

    fn value(&self, series: &str) -> u64 {
        let seen = self.0.lock().unwrap();
        seen.series
            .get(series)
            .unwrap_or_else(|| panic!("no series {series}"))
            .1
            .0
            .load(Ordering::Relaxed)
    }
}

fn series(key: &Key) -> String {
    let labels: Vec<String> =
        key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
    format!("{}{{{}}}", key.name(), labels.join(","))
}

impl Recorder for Listing {
    fn describe_counter(&self, name: KeyName, unit: Option<metrics::Unit>, help: SharedString) {
        self.describe(&name, Kind::Counter, unit, &help);
    }
    fn describe_gauge(&self, name: KeyName, unit: Option<metrics::Unit>, help: SharedString) {
        self.describe(&name, Kind::Gauge, unit, &help);
    }
    fn describe_histogram(&self, name: KeyName, unit: Option<metrics::Unit>, help: SharedString) {
        self.describe(&name, Kind::Histogram, unit, &help);
    }
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.register(key, Kind::Counter))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.register(key, Kind::Gauge))
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.register(key, Kind::Histogram))
    }
}

/// Every combination of the fixed labels of a family.
fn expected_series(family: &Family) -> Vec<String> {
    let mut rows = vec![String::new()];
    for label in family.labels {
        let pair = |row: &String, value: &&str| {
            let comma = if row.is_empty() { "" } else { "," };
            format!("{row}{comma}{}={value}", label.name)
        };
        rows = rows
            .iter()
            .flat_map(|row| label.values.iter().map(move |value| pair(row, value)))
            .collect();
    }
    rows.iter().map(|labels| format!("{}{{{labels}}}", family.name)).collect()
}

#[test]
fn the_five_promised_names_are_exact() {
    let promised = [
        (schema::WAL_RECOVERY_SUCCESSES_TOTAL, "engram_wal_recovery_successes_total"),
        (schema::WAL_RECOVERY_FAILURES_TOTAL, "engram_wal_recovery_failures_total"),
        (schema::WAL_RECOVERY_DURATION_SECONDS, "engram_wal_recovery_duration_seconds"),
        (schema::WAL_COMPACTION_RUNS_TOTAL, "engram_wal_compaction_runs_total"),
        (schema::WAL_COMPACTION_BYTES_RECLAIMED, "engram_wal_compaction_bytes_reclaimed_total"),
    ];
    for (constant, name) in promised {
        assert_eq!(constant, name);
        assert!(ALL.iter().any(|family| family.name == name), "{name} is not in the table");
    }
    assert_eq!(SCHEMA_VERSION, "1.5.0");
}

/// The rules of `promtool check metrics`, and of this house.
#[test]
fn names_follow_the_rules_of_prometheus() {
    let mut names = BTreeSet::new();
    for family in ALL {
        let name = family.name;
        let parts: Vec<&str> = name.split('_').collect();
        assert!(names.insert(name), "{name} is declared twice");
        assert!(name.starts_with("engram_"), "{name}");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
        assert_eq!(name.ends_with("_total"), family.kind == Kind::Counter, "{name}: _total");
        for suffix in ["_bucket", "_count", "_sum"] {
            assert!(!name.ends_with(suffix), "{name}: {suffix} is a histogram's own");
        }
        for word in ["counter", "gauge", "histogram", "summary", "untyped"] {
            assert!(!parts.contains(&word), "{name} names its type");
        }
        for unit in ["s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "milliseconds", "minutes"]
        {
            assert!(!parts.contains(&unit), "{name}: {unit} is no base unit");
        }
        match family.unit {
            Unit::Bytes => assert!(parts.contains(&"bytes"), "{name} does not name its unit"),
            Unit::Seconds => assert!(name.ends_with("_seconds"), "{name} does not name its unit"),
            Unit::Count => {
                assert!(!parts.contains(&"bytes") && !parts.contains(&"seconds"), "{name}");
            }
        }
        assert!(
            family.help.ends_with('.') && !family.help.contains('|'),
            "{name}: {}",
            family.help
        );
        for label in family.labels {
            assert!(!["le", "quantile"].contains(&label.name), "{name}: reserved label");
        }
    }
}

#[test]
fn histograms_and_only_they_have_rising_buckets() {
    for family in ALL {
        assert_eq!(family.buckets.is_empty(), family.kind != Kind::Histogram, "{}", family.name);
        assert!(family.buckets.is_sorted_by(|a, b| a < b), "{}: {:?}", family.name, family.buckets);
        assert!(family.buckets.iter().all(|bound| bound.is_finite() && *bound > 0.0));
    }
}

#[test]
fn label_values_are_those_of_the_engine() {
    assert_eq!(schema::INCIDENT_VERDICTS, IncidentKind::ALL.map(IncidentKind::name));
}

#[test]
fn every_fixed_series_exists_from_the_start_and_no_other() {
    let listing = Listing::default();
    let _metrics = Metrics::new(&listing);
    let seen = listing.0.lock().unwrap();

    let described: Vec<&str> = seen.described.keys().map(String::as_str).collect();
    let engines = || ALL.iter().filter(|family| !family.is_servers());
    let mut declared: Vec<&str> = engines().map(|family| family.name).collect();
    declared.sort_unstable();
    assert_eq!(described, declared);

    let mut expected = BTreeMap::new();
    for family in engines() {
        let (kind, unit, help) = &seen.described[family.name];
        assert_eq!((*kind, help.as_str()), (family.kind, family.help), "{}", family.name);
        assert!(unit.is_some(), "{} is described without a unit", family.name);
        if family.is_fixed() {
            expected.extend(expected_series(family).into_iter().map(|one| (one, family.kind)));
        }
    }
    let registered: BTreeMap<String, Kind> =
        seen.series.iter().map(|(series, (kind, _))| (series.clone(), *kind)).collect();
    assert_eq!(registered, expected);

    for (series, (_, cell)) in &seen.series {
        let value = cell.0.load(Ordering::Relaxed);
        let wanted = if series.starts_with(schema::BUILD_INFO) { 1.0_f64.to_bits() } else { 0 };
        assert_eq!(value, wanted, "{series} does not begin at its first value");
    }
}

#[test]
fn helpers_count_where_their_names_say() {
    let listing = Listing::default();
    let metrics = Metrics::new(&listing);
    metrics.recovered(&RecoveryReport {
        recovered: 7,
        failed: Failed { damaged: 1, undecodable: 2, tail: 3 },
        ..RecoveryReport::default()
    });
    metrics.compacted(&CompactionStats {
        frames_kept: 4,
        frames_dropped: 5,
        bytes_reclaimed: 6,
        ..CompactionStats::default()
    });
    for kind in IncidentKind::ALL {
        metrics.incident(kind);
    }
    metrics.incident(IncidentKind::Legacy);
    metrics.write_refused(&Error::Busy { queued: 1, bound: 1, unit: "changes" });
    metrics.write_refused(&Error::Poisoned { cause: "test".into() });
    metrics.write_refused(&Error::NoSpace { space: "s".into() });
    metrics.recalled(Duration::from_micros(700));
    Metrics::set(&metrics.head_lsn, 9);

    for (series, wanted) in [
        ("engram_wal_recovery_successes_total{}", 7),
        ("engram_wal_recovery_failures_total{reason=damaged}", 1),
        ("engram_wal_recovery_failures_total{reason=undecodable}", 2),
        ("engram_wal_recovery_failures_total{reason=tail}", 3),
        ("engram_wal_recovery_duration_seconds{}", 1),
        ("engram_wal_compaction_runs_total{outcome=ok}", 1),
        ("engram_wal_compaction_runs_total{outcome=failed}", 0),
        ("engram_wal_compaction_frames_kept_total{}", 4),
        ("engram_wal_compaction_frames_dropped_total{}", 5),
        ("engram_wal_compaction_bytes_reclaimed_total{}", 6),
        ("engram_wal_incidents_total{verdict=damaged}", 1),
        ("engram_wal_incidents_total{verdict=legacy}", 2),
        ("engram_wal_writes_refused_total{reason=busy}", 1),
        ("engram_wal_writes_refused_total{reason=poisoned}", 1),
        ("engram_wal_writes_refused_total{reason=disk_full}", 0),
        ("engram_recall_duration_seconds{}", 1),
        ("engram_wal_head_lsn{}", 9.0_f64.to_bits()),
    ] {
        assert_eq!(listing.value(series), wanted, "{series}");
    }
}

/// A family as the docs write it.
fn row(family: &Family) -> String {
    let labels: Vec<String> = family
        .labels
        .iter()
        .map(|label| match label.values {
            // The values of `engram_build_info` change with every release.
            [] | [_] => format!("`{}`", label.name),
            values => format!("`{}`: {}", label.name, values.join(", ")),
        })
        .collect();
    let labels = if labels.is_empty() { "none".to_owned() } else { labels.join("; ") };
    format!("| `{}` | {} | {labels} | {} |", family.name, family.kind.name(), family.help)
}

#[test]
fn the_changelog_tells_every_series_of_this_version() {
    let docs = include_str!("../../docs/metrics-schema-changelog.md");
    let newest = docs.split("\n## ").nth(1).unwrap_or_default();
    assert!(newest.starts_with(&format!("{SCHEMA_VERSION}:")), "newest entry: {newest}");
    for version in ["1.5.0", "1.4.0", "1.3.0", "1.2.0", "1.1.0", "1.0.0"] {
        assert!(docs.contains(&format!("\n## {version}: ")), "{version} has no entry");
    }
    let told: Vec<&str> = newest.lines().filter(|line| line.starts_with("| `")).collect();
    let exported: Vec<String> = ALL.iter().map(row).collect();
    assert_eq!(told, exported, "the table should read:\n{}\n", exported.join("\n"));
}
