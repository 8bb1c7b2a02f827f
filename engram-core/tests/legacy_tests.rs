//! Laws of reading v0.1.0: its own files against their manifests.
#![expect(clippy::disallowed_methods, reason = "tests read their fixtures")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helpers panic")]

use std::path::{Path, PathBuf};

use engram_core::Episode;
use engram_core::storage::legacy::{Change, Entry, FailureKind, Layout, Log, is_legacy_name, read};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn fixture(set: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/legacy").join(set)
}

/// The logs of a folder, in the order of file name.
fn logs(set: &str) -> Vec<Log> {
    let mut names: Vec<_> = std::fs::read_dir(fixture(set).join("wal"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| is_legacy_name(name))
        .collect();
    names.sort();
    names.iter().map(|name| read(&bytes(set, name))).collect()
}

fn bytes(set: &str, name: &str) -> Vec<u8> {
    std::fs::read(fixture(set).join("wal").join(name)).unwrap()
}

fn manifest(set: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixture(set).join("manifest.json")).unwrap()).unwrap()
}

fn remembered(entry: &Entry) -> &Episode {
    match &entry.change {
        Change::Remember(episode) => episode,
        other => panic!("expected an episode, got {other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|d| char::from_digit(d.into(), 16).unwrap())
        .collect()
}

/// Every field of an episode is what the manifest says, to the bit.
fn assert_exact(entry: &Entry, want: &Value) {
    let episode = remembered(entry);
    let id = want["id"].as_str().unwrap();
    assert_eq!(episode.id, id);
    assert_eq!(entry.sequence, want["sequence"].as_u64(), "{id}");
    assert_eq!(episode.what, want["what"].as_str().unwrap(), "{id}");
    let seconds = i128::from(want["when_unix_seconds"].as_i64().unwrap());
    let nanos = i128::from(want["when_subsec_nanos"].as_i64().unwrap());
    assert_eq!(episode.when.as_nanosecond(), seconds * 1_000_000_000 + nanos, "{id}");
    assert_eq!(episode.place.as_deref(), want["where_location"].as_str(), "{id}");
    let who: Vec<_> = want["who"].as_array().into_iter().flatten().collect();
    assert_eq!(episode.who, who.iter().map(|w| w.as_str().unwrap()).collect::<Vec<_>>(), "{id}");
    let confidence = want["encoding_confidence"].as_f64().unwrap();
    assert_eq!(episode.confidence.to_bits(), confidence.to_bits(), "{id}");
    let raw: Vec<u8> = episode.embedding.iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(hex(&Sha256::digest(&raw)), want["embedding_sha256"].as_str().unwrap(), "{id}");
    for (value, bits) in
        episode.embedding.iter().zip(want["embedding_first4_bits"].as_array().unwrap())
    {
        assert_eq!(u64::from(value.to_bits()), bits.as_u64().unwrap(), "{id}");
    }
    let metadata: Value = serde_json::from_str(episode.metadata.as_ref().unwrap()).unwrap();
    for field in [
        "vividness_confidence",
        "reliability_confidence",
        "last_recall",
        "recall_count",
        "decay_rate",
        "decay_function",
        "embedding_provenance",
    ] {
        // A manifest of layout G2 leaves out the provenance that is not there.
        let want = want.get(field).unwrap_or(&Value::Null);
        assert_eq!(metadata["v0_1"].get(field), Some(want), "{id} {field}");
    }
}

/// What is recovered of a set is exactly what its manifest calls recoverable, in its order.
fn check(set: &str) -> Vec<Log> {
    let (logs, manifest) = (logs(set), manifest(set));
    let entries: Vec<_> = logs.iter().flat_map(|log| &log.entries).collect();
    let episodes = manifest["episodes"].as_array().unwrap();
    let want: Vec<_> = episodes.iter().filter(|e| e["recoverable"] == true).collect();
    assert_eq!(want.len() as u64, manifest["must_recover"].as_u64().unwrap());
    assert_eq!(entries.len(), want.len(), "{set}");
    for (entry, want) in entries.iter().zip(want) {
        assert_exact(entry, want);
        let layout = match want.get("layout").and_then(Value::as_str) {
            Some("G2") => Layout::G2,
            _ => Layout::G3,
        };
        assert_eq!(entry.layout, Some(layout));
        assert!(!entry.ambiguous);
        assert!(entry.rescued || entry.notes.is_empty(), "{:?}", entry.notes);
    }
    logs
}

fn failures(logs: &[Log]) -> Vec<FailureKind> {
    logs.iter().flat_map(|log| &log.failures).map(|failure| failure.kind).collect()
}

#[test]
fn a_clean_log_is_recovered_whole_and_exactly() {
    assert_eq!(failures(&check("clean")), []);
}

#[test]
fn the_three_corrupt_entries_of_the_first_report_were_never_corrupt() {
    let logs = check("legacy3");
    assert_eq!(failures(&logs), []);
    let old = |log: &Log| log.entries.iter().filter(|e| e.layout == Some(Layout::G2)).count();
    assert_eq!(logs.iter().map(old).sum::<usize>(), 3);
}

#[test]
fn intact_but_undecodable_is_not_called_damaged() {
    let logs = check("corrupt3");
    assert_eq!(failures(&logs), [FailureKind::Undecodable; 3]);
    let details: Vec<_> = logs[0].failures.iter().map(|f| f.detail.as_str()).collect();
    for (detail, (field, tag)) in
        details.iter().zip([("embedding_provenance", 51), ("who", 154), ("where_location", 102)])
    {
        assert!(detail.contains(field) && detail.contains(&tag.to_string()), "{detail}");
    }
}

#[test]
fn a_cut_payload_is_a_tail() {
    let logs = check("torn");
    assert_eq!(failures(&logs), [FailureKind::Tail]);
    assert_eq!(logs[0].failures[0].bytes, 64 + 1000);
}

#[test]
fn a_damaged_header_costs_nothing_when_its_payload_is_whole() {
    let logs = check("badheader");
    assert_eq!(failures(&logs), []);
    let rescued: Vec<_> = logs[0].entries.iter().filter(|e| e.rescued).collect();
    assert_eq!(rescued.len(), 1);
    assert_eq!(rescued[0].offset, 79_061);
}

#[test]
fn segments_are_read_in_the_order_of_their_names_and_sequences_mean_nothing() {
    let logs = check("multi");
    assert_eq!(failures(&logs), []);
    assert_eq!(logs.iter().map(|log| log.entries.len()).collect::<Vec<_>>(), [15, 15, 0, 20]);
}

#[test]
fn deletes_are_read_and_what_v0_1_0_never_replayed_is_ignored() {
    let logs = logs("special");
    assert_eq!(failures(&logs), []);
    let changes: Vec<_> = logs[0]
        .entries
        .iter()
        .map(|entry| match &entry.change {
            Change::Remember(episode) => format!("+{}", episode.id),
            Change::Forget { id } => format!("-{id}"),
            Change::Ignored { entry_type } => format!("{entry_type}"),
        })
        .collect();
    assert_eq!(changes, ["+sp0000", "+sp0001", "+sp0002", "+sp0003", "-sp0001", "5", "2"]);
}

#[test]
fn only_what_v0_1_0_took_for_its_log_has_a_legacy_name() {
    for yes in ["wal-000000006b0387c5.log", "wal-.log", "wal-x.y.log"] {
        assert!(is_legacy_name(yes), "{yes}");
    }
    for no in ["wal-000000006b0387c5.log.tmp", "wal-1", "wal-log", "000.log", "wal-1.LOG", ""] {
        assert!(!is_legacy_name(no), "{no}");
    }
}
