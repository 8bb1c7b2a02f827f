//! The story that Engram grew from, on the real binary: logs of v0.1.0, damaged and not, become
//! memories; nothing readable is lost, nothing is said twice.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helper fails the test")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use support::http::Http;
use support::live::Live;
use support::rng::Rng;
use support::{chat, engram, files, stderr, stdout};

fn wal_of(set: &str) -> std::path::PathBuf {
    chat::fixtures().join("legacy").join(set).join("wal")
}

/// What a perfect salvage of a fixture recovers.
fn recoverable(set: &str) -> Vec<Value> {
    let manifest = chat::fixtures().join("legacy").join(set).join("manifest.json");
    let manifest: Value = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
    let all = manifest["episodes"].as_array().unwrap().iter();
    let there: Vec<Value> = all.filter(|e| e["recoverable"] == true).cloned().collect();
    assert_eq!(manifest["must_recover"], there.len());
    there
}

fn check_values(http: &mut Http, space: &str, truth: &[Value]) {
    assert_eq!(http.episodes(space).len(), truth.len(), "{space}");
    for old in truth {
        let id = old["id"].as_str().unwrap();
        let new = http.get(&format!("/v1/spaces/{space}/episodes/{id}"));
        assert_eq!(new["what"], old["what"], "{id}");
        let time = |value: &Value| value.as_str().unwrap().parse::<Timestamp>().unwrap();
        assert_eq!(time(&new["when"]), time(&old["when"]), "{id}");
        assert_eq!(new["where"], old["where_location"], "{id}");
        let nobody = json!([]);
        let who = if old["who"].is_null() { &nobody } else { &old["who"] };
        let new_who = if new["who"].is_null() { &nobody } else { &new["who"] };
        assert_eq!(new_who, who, "{id}");
        let number = |value: &Value| value.as_f64().unwrap().to_bits();
        assert_eq!(number(&new["confidence"]), number(&old["encoding_confidence"]), "{id}");
        let mut bytes = Vec::new();
        for number in new["embedding"].as_array().unwrap() {
            // As any client reads it: the text of the number, into an f32.
            bytes.extend(number.to_string().parse::<f32>().unwrap().to_le_bytes());
        }
        let hex = old["embedding_sha256"].as_str().unwrap();
        let digest = Sha256::digest(&bytes);
        let pairs = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16));
        assert!(pairs.map(Result::unwrap).eq(digest), "{id}: another embedding");
        assert_eq!(new["metadata"]["v0_1"]["recall_count"], old["recall_count"], "{id}");
    }
}

fn metric(http: &mut Http, series: &str) -> u64 {
    let text = http.must("GET", "/metrics", b"").text();
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.unwrap_or_else(|| panic!("no {series}:\n{text}")).trim().parse().unwrap()
}

/// The contents of all files below a directory whose names v0.1.0 gave.
fn logs_below(dir: &Path) -> Vec<Vec<u8>> {
    let is_log = |path: &&std::path::PathBuf| path.extension().is_some_and(|e| e == "log");
    files::below(dir).iter().filter(is_log).map(|path| fs::read(path).unwrap()).collect()
}

/// The quarantine holds these logs, byte for byte, and nowhere else is one left.
fn check_moved(data: &Path, logs: &[Vec<u8>]) {
    let kept: Vec<Vec<u8>> =
        files::below(&data.join("quarantine")).iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(logs.iter().all(|log| kept.contains(log)), "a log is not in the quarantine whole");
    let left: Vec<_> = files::below(data)
        .into_iter()
        .filter(|path| !path.starts_with(data.join("quarantine")))
        .filter(|path| path.extension().is_some_and(|e| e == "log"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Failed entries: damaged, undecodable, tail.
fn story(set: &str, place: &str, space: &str, failed: [u64; 3]) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    files::copy(&wal_of(set), &data.join(place));
    let (truth, logs) = (recoverable(set), logs_below(&data));
    let server = Live::start(dir.path(), &data, &[]);
    let mut http = server.http();
    check_values(&mut http, space, &truth);
    let report = http.get("/v1/wal/recovery");
    assert_eq!(report["recovered"], truth.len(), "{report}");
    assert_eq!(metric(&mut http, "engram_wal_recovery_successes_total"), truth.len() as u64);
    for (reason, count) in ["damaged", "undecodable", "tail"].into_iter().zip(failed) {
        assert_eq!(report["failed"][reason], count, "{report}");
        let series = format!("engram_wal_recovery_failures_total{{reason=\"{reason}\"}}");
        assert_eq!(metric(&mut http, &series), count, "{reason}");
    }
    support::live::wait_for("the gauges", || {
        (metric(&mut http, "engram_episodes") == truth.len() as u64).then_some(())
    });
    let reply = http.must("POST", "/v1/wal/compact", b"");
    assert_eq!(reply.status, 200, "{}", reply.text());
    check_moved(&data, &logs);
    check_values(&mut http, space, &truth);
    if failed == [0; 3] {
        assert_eq!(server.complaints(), [""; 0], "nothing failed, so there is nothing to say");
    }
    let incidents = http.get("/v1/wal/incidents")["incidents"].as_array().unwrap().len();
    server.kill();
    for _ in 0..2 {
        let server = Live::start(dir.path(), &data, &[]);
        let mut http = server.http();
        check_values(&mut http, space, &truth);
        check_moved(&data, &logs);
        assert_eq!(metric(&mut http, "engram_wal_recovery_failures_total{reason=\"damaged\"}"), 0);
        let now = http.get("/v1/wal/incidents")["incidents"].as_array().unwrap().len();
        assert_eq!(now, incidents);
        let (status, log) = server.stop();
        assert_eq!(status.code(), Some(0));
        assert_eq!(support::live::complaints(&log), [""; 0]);
    }
}

#[test]
fn the_three_that_were_called_corrupt_come_back() {
    story("legacy3", "wal", "default", [0, 0, 0]);
}

#[test]
fn what_is_truly_not_understood_is_kept_and_named() {
    story("corrupt3", "wal", "default", [0, 3, 0]);
}

#[test]
fn a_torn_v0_1_0_log_gives_all_that_was_finished() {
    story("torn", "wal", "default", [0, 0, 1]);
}

#[test]
fn a_bad_header_of_a_v0_1_0_record_costs_nothing() {
    story("badheader", "wal", "default", [0, 0, 0]);
}

#[test]
fn many_v0_1_0_segments_become_one_memory() {
    story("multi", "wal", "default", [0, 0, 0]);
}

#[test]
fn a_directory_of_a_space_becomes_that_space() {
    story("legacy3", "sam-and-friends/wal", "sam-and-friends", [0, 0, 0]);
}

#[test]
fn what_v0_1_0_deleted_stays_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    files::copy(&wal_of("special"), &data.join("wal"));
    let server = Live::start(dir.path(), &data, &[]);
    let there: Vec<String> = server.http().episodes("default").into_keys().collect();
    assert_eq!(there, ["sp0000", "sp0002", "sp0003"]);
}

/// The first so many records of the fixture's log.
fn first_records(set: &str, count: usize) -> Vec<u8> {
    let log = fs::read(&files::below(&wal_of(set))[0]).unwrap();
    let mut end = 0;
    for _ in 0..count {
        let length: [u8; 4] = log[end + 24..end + 28].try_into().unwrap();
        end += 64 + usize::try_from(u32::from_le_bytes(length)).unwrap();
    }
    log[..end].to_vec()
}

#[test]
fn of_two_directories_of_the_default_space_wal_is_the_older() {
    let remembered = first_records("special", 4);
    for (older_is_whole, there) in [(false, 3), (true, 4)] {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let (whole, part) = if older_is_whole {
            (data.join("wal"), data.join("default/wal"))
        } else {
            (data.join("default/wal"), data.join("wal"))
        };
        files::copy(&wal_of("special"), &whole);
        fs::create_dir_all(&part).unwrap();
        fs::write(part.join("wal-0000000000000001.log"), &remembered).unwrap();
        let server = Live::start(dir.path(), &data, &[]);
        let episodes = server.http().episodes("default");
        assert_eq!(episodes.len(), there, "older is whole: {older_is_whole}");
        assert_eq!(server.complaints(), [""; 0]);
    }
}

#[test]
fn a_take_over_that_is_killed_again_and_again_ends_right() {
    let mut rng = Rng::of_this_run();
    let truth = recoverable("legacy3");
    for _ in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        files::copy(&wal_of("legacy3"), &data.join("wal"));
        files::copy(&wal_of("multi"), &data.join("other/wal"));
        let logs = logs_below(&data);
        for _ in 0..6 {
            let begun = Live::spawn(dir.path(), &data, &[]);
            let (_keep, never) = channel::<()>();
            assert!(never.recv_timeout(Duration::from_micros(rng.below(60_000))).is_err());
            assert_eq!(support::live::complaints(&begun.kill()), [""; 0]);
        }
        let server = Live::start(dir.path(), &data, &[]);
        check_values(&mut server.http(), "default", &truth);
        check_values(&mut server.http(), "other", &recoverable("multi"));
        check_moved(&data, &logs);
        assert_eq!(server.complaints(), [""; 0]);
        server.stop_cleanly();
    }
}

fn run(dir: &Path, args: &[&str]) -> std::process::Output {
    let mut command = engram(dir);
    command.args(args).output().unwrap()
}

/// What a command that must do well says.
fn said(dir: &Path, args: &[&str]) -> String {
    let output = run(dir, args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    stdout(&output)
}

#[test]
fn a_v0_1_0_directory_can_be_imported_into_a_running_server() {
    let dir = tempfile::tempdir().unwrap();
    let old = dir.path().join("old");
    files::copy(&wal_of("legacy3"), &old.join("wal"));
    let before = logs_below(&old);
    let server = Live::start(dir.path(), &dir.path().join("data"), &[]);
    for imported in [50, 0] {
        let done = said(dir.path(), &["import", "old", "--json", "--server", &server.url]);
        let done: Value = serde_json::from_str(&done).unwrap();
        assert_eq!(
            (&done["imported"], &done["already_there"]),
            (&json!(imported), &json!(50 - imported))
        );
        check_values(&mut server.http(), "default", &recoverable("legacy3"));
    }
    assert_eq!(logs_below(&old), before, "an import only reads");
}

#[test]
fn what_is_exported_can_be_imported_and_exported_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let first = Live::start(dir.path(), &dir.path().join("first"), &[]);
    let sample = chat::path();
    said(dir.path(), &["import", sample.to_str().unwrap(), "--server", &first.url]);
    files::copy(&wal_of("legacy3"), &dir.path().join("old/wal"));
    said(dir.path(), &["import", "old", "--server", &first.url]);
    let exported = said(dir.path(), &["export", "--server", &first.url]);
    assert_eq!(exported.lines().count(), 1_050);
    fs::write(dir.path().join("all.jsonl"), &exported).unwrap();
    let second = Live::start(dir.path(), &dir.path().join("second"), &[]);
    for imported in [1_050, 0] {
        let args = ["import", "all.jsonl", "--json", "--server", &second.url];
        let done: Value = serde_json::from_str(&said(dir.path(), &args)).unwrap();
        assert_eq!(done["imported"], imported, "{done}");
    }
    let again = said(dir.path(), &["export", "--server", &second.url]);
    let sorted = |text: &str| {
        let mut lines: Vec<BTreeMap<String, Value>> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        // The log's own marks of an episode are each server's own.
        for line in &mut lines {
            line.retain(|name, _| name != "lsn" && name != "recorded_at");
        }
        lines.sort_by_key(|line| format!("{} {}", line["space"], line["id"]));
        lines
    };
    assert!(sorted(&exported) == sorted(&again), "the second export differs");
}

/// The frames that a server leaves which is killed when a batch of a hundred was acknowledged.
fn killed_after_a_batch(dir: &Path, data: &Path) -> Vec<Value> {
    let server = Live::start(dir, data, &[]);
    let batch: Vec<Value> =
        (0..100).map(|n| json!({"id": format!("b{n:03}"), "what": "x".repeat(200)})).collect();
    let batch = Value::from(batch).to_string();
    let path = "/v1/spaces/default/episodes/batch";
    assert_eq!(server.http().must("POST", path, batch.as_bytes()).status, 200);
    server.kill();
    let frames = said(dir, &["wal", "dump", "--json", "--data", "data"]);
    frames.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_left_the_log_can_be_listed_shown_restored_and_purged() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    // Killed at once, before an idle mark says that the batch is on disk.
    let begun = |turn: usize| {
        if turn > 0 {
            fs::remove_dir_all(&data).unwrap();
        }
        let frames = killed_after_a_batch(dir.path(), &data);
        frames.iter().all(|frame| frame["lsn"].as_u64() <= Some(100)).then_some(frames)
    };
    let frames = (0..20).find_map(begun).expect("always killed too late");
    let tenth = frames.iter().find(|frame| frame["id"] == "b010").unwrap();
    let path = data.join("wal").join(tenth["file"].as_str().unwrap());
    let mut bytes = fs::read(&path).unwrap();
    bytes[usize::try_from(tenth["offset"].as_u64().unwrap()).unwrap() + 100] ^= 1;
    fs::write(&path, bytes).unwrap();

    let server = Live::start(dir.path(), &data, &[]);
    assert_eq!(server.http().episodes("default").len(), 10);
    let online =
        said(dir.path(), &["wal", "quarantine", "list", "--json", "--server", &server.url]);
    server.stop_cleanly();
    let list = said(dir.path(), &["wal", "quarantine", "list", "--json", "--data", "data"]);
    let parsed: [Value; 2] = [&online, &list].map(|text| serde_json::from_str(text).unwrap());
    assert_eq!(parsed[0]["items"], parsed[1]["items"]);
    let [item] = parsed[1]["items"].as_array().unwrap().as_slice() else { panic!("{list}") };
    assert_eq!(item["restorable"].as_array().unwrap().len(), 89, "{item}");
    let name = item["name"].as_str().unwrap();
    let shown = said(dir.path(), &["wal", "quarantine", "show", name, "--data", "data"]);
    assert!(shown.starts_with(name) && shown.contains("\n00000000  "), "{shown}");
    let restored = said(dir.path(), &["wal", "quarantine", "restore", name, "--data", "data"]);
    assert!(restored.starts_with("restored 89 records of "), "{restored}");
    let again = said(dir.path(), &["wal", "quarantine", "restore", name, "--data", "data"]);
    assert!(again.starts_with("restored 0 records of "), "{again}");
    let server = Live::start(dir.path(), &data, &[]);
    assert_eq!(server.http().episodes("default").len(), 99);
    let incidents = server.http().get("/v1/wal/incidents");
    assert_eq!(server.complaints(), [""; 0]);
    server.stop_cleanly();
    said(dir.path(), &["wal", "quarantine", "purge", name, "--data", "data"]);
    let list = said(dir.path(), &["wal", "quarantine", "list", "--data", "data"]);
    assert_eq!(list, "the quarantine is empty\n");
    let output = run(dir.path(), &["wal", "quarantine", "show", name, "--data", "data"]);
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    let server = Live::start(dir.path(), &data, &[]);
    assert_eq!(server.http().get("/v1/wal/incidents"), incidents, "incidents outlive a purge");
}

/// It was said once, to nobody.
#[test]
fn damage_that_a_visit_finds_is_said_to_who_visits() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Live::start(dir.path(), &data, &[]);
    for id in ["a", "b"] {
        let body = json!({"id": id, "what": "x".repeat(300)}).to_string();
        server.http().must("POST", "/v1/spaces/default/episodes", body.as_bytes());
    }
    server.stop_cleanly();
    let segment = data.join("wal/00000000000000000001.seg");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[8192 + 100] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let output = run(dir.path(), &["wal", "compact", "--data", "data"]);
    assert!(output.status.success());
    assert!(stderr(&output).contains("1 record was lost (LSN 1)"), "{}", stderr(&output));
    let again = run(dir.path(), &["wal", "compact", "--data", "data"]);
    assert_eq!(stderr(&again), "");
}

#[test]
fn compaction_can_be_asked_for_with_and_without_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Live::start(dir.path(), &data, &[]);
    let mut http = server.http();
    let overwrite = |http: &mut Http| {
        for turn in 0..200 {
            let body = json!({"id": (turn % 20).to_string(), "what": "x".repeat(300)}).to_string();
            let reply = http.must("POST", "/v1/spaces/default/episodes", body.as_bytes());
            assert!(reply.status < 300);
        }
    };
    overwrite(&mut http);
    let told = said(dir.path(), &["wal", "compact", "--server", &server.url]);
    // Idle marks go, too, if there was the time for any.
    let dropped = told.split_once(" dropped").and_then(|(text, _)| text.rsplit(' ').next());
    let dropped: u64 = dropped.unwrap().parse().unwrap();
    assert!(told.starts_with("compacted ") && (180..200).contains(&dropped), "{told}");
    overwrite(&mut http);
    server.stop_cleanly();
    let told = said(dir.path(), &["wal", "compact", "--json", "--data", "data"]);
    let stats: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(stats["frames_dropped"].as_u64().unwrap() / 100, 2, "{stats}");
    // What a visit leaves is a mark, and no more.
    let told = said(dir.path(), &["wal", "compact", "--json", "--data", "data"]);
    let stats: Value = serde_json::from_str(&told).unwrap();
    assert!(
        stats["bytes_reclaimed"].as_u64().unwrap() < 100 && stats["frames_kept"] == 0,
        "{stats}"
    );
    assert_eq!(Live::start(dir.path(), &data, &[]).http().episodes("default").len(), 20);
}

#[test]
fn a_stop_leaves_a_mark_as_its_last_frame() {
    let dir = tempfile::tempdir().unwrap();
    let server = Live::start(dir.path(), &dir.path().join("data"), &[]);
    said(dir.path(), &["remember", "the last word", "--server", &server.url]);
    server.stop_cleanly();
    let frames = said(dir.path(), &["wal", "dump", "--json", "--data", "data"]);
    let last: Value = serde_json::from_str(frames.lines().last().unwrap()).unwrap();
    // An idle mark may have come before.
    assert!(last["kind"] == "mark" && last["lsn"].as_u64() >= Some(2), "{frames}");
}

#[test]
fn the_other_durabilities_start_say_so_and_keep_all_over_a_stop() {
    for durability in ["interval=20ms", "never"] {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let server = Live::start(dir.path(), &data, &["--durability", durability]);
        let mut http = server.http();
        for number in 0..50 {
            let body = json!({"id": number.to_string(), "what": "x"}).to_string();
            let reply = http.must("POST", "/v1/spaces/default/episodes", body.as_bytes());
            assert_eq!(reply.status, 201, "{}", reply.text());
        }
        assert_eq!(http.get("/v1/wal")["durability"], durability);
        server.stop_cleanly();
        let server = Live::start(dir.path(), &data, &[]);
        assert_eq!(server.http().episodes("default").len(), 50, "{durability}");
        assert_eq!(server.complaints(), [""; 0]);
    }
}

#[test]
fn a_look_at_a_live_directory_says_that_it_is_live() {
    let dir = tempfile::tempdir().unwrap();
    let server = Live::start(dir.path(), &dir.path().join("data"), &[]);
    said(dir.path(), &["remember", "now", "--server", &server.url]);
    for command in ["verify", "inspect"] {
        let told = said(dir.path(), &["wal", command, "--data", "data"]);
        assert!(told.starts_with("a process has this log open: "), "{told}");
    }
    let output = run(dir.path(), &["wal", "verify", "--json", "--data", "data"]);
    assert!(stderr(&output).starts_with("engram: a process has this log open: "), "{output:?}");
    assert!(serde_json::from_str::<Value>(&stdout(&output)).is_ok(), "{output:?}");
    server.stop_cleanly();
    let told = said(dir.path(), &["wal", "verify", "--data", "data"]);
    assert!(!told.contains("a process"), "{told}");
}

#[test]
fn a_directory_that_cannot_be_written_is_refused_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let read_only = dir.path().join("read-only");
    fs::create_dir(&read_only).unwrap();
    let Some(_mounted) = support::faults::Small::mount_read_only(&read_only) else { return };
    let data = read_only.join("data");
    for place in [&read_only, &data] {
        let args = ["start", "--listen", "127.0.0.1:0", "--data", place.to_str().unwrap()];
        let output = run(dir.path(), &args);
        assert_eq!(output.status.code(), Some(1));
        let told = stderr(&output);
        let clear = ["cannot", read_only.to_str().unwrap(), "Read-only file system"];
        assert!(clear.iter().all(|word| told.contains(word)), "{told}");
    }
}

#[test]
fn a_missing_segment_is_named_and_so_is_the_flag_that_goes_on_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let more = ["--segment-bytes", "1MiB"];
    let server = Live::start(dir.path(), &data, &more);
    let mut http = server.http();
    for number in 0..60 {
        let body = json!({"id": format!("{number:02}"), "what": "x".repeat(60_000)}).to_string();
        let reply = http.must("POST", "/v1/spaces/default/episodes", body.as_bytes());
        assert_eq!(reply.status, 201, "{}", reply.text());
    }
    let wal = http.get("/v1/wal");
    let gone = &wal["segments"][1];
    let (first, last) = (gone["first_lsn"].as_u64().unwrap(), gone["last_lsn"].as_u64().unwrap());
    assert_eq!(gone["sealed"], true);
    server.stop_cleanly();
    fs::remove_file(data.join("wal").join(gone["file"].as_str().unwrap())).unwrap();

    let output = run(dir.path(), &["wal", "verify", "--json", "--data", "data"]);
    assert_ne!(output.status.code(), Some(0), "{}", stdout(&output));
    let flag = format!("--accept-loss {first}-{last}");
    let server = Live::spawn(dir.path(), &data, &more);
    let problem = support::live::wait_for("the gap to be named", || {
        let reply = server.http().must("GET", "/readyz", b"");
        (reply.status == 503 && reply.json()["type"] == "/problems/gap").then(|| reply.json())
    });
    assert!(problem["detail"].as_str().unwrap().contains(&flag), "{flag}: {problem}");
    support::live::wait_for("the log to name it too", || {
        server.complaints().iter().any(|line| line.contains(&flag)).then_some(())
    });
    // The gap was told; that it stops when asked to is no further failure.
    let (status, log) = server.stop();
    assert_eq!(status.code(), Some(0), "{log:?}");
    assert!(log.iter().any(|line| line.contains("stopped")), "{log:?}");
    assert_eq!(log.iter().filter(|line| line.contains(&flag)).count(), 1, "{log:?}");

    let range = format!("{first}-{last}");
    let server = Live::start(dir.path(), &data, &[&more[..], &["--accept-loss", &range]].concat());
    let there = server.http().episodes("default").len() as u64;
    assert_eq!(there, 60 - (last - first + 1), "all but the missing ones");
    server.stop_cleanly();
    let server = Live::start(dir.path(), &data, &more);
    assert_eq!(server.http().episodes("default").len() as u64, there, "accepted once, for ever");
    assert_eq!(server.complaints(), [""; 0]);
}

#[test]
fn promtool_has_no_complaint_about_a_live_scrape() {
    let dir = tempfile::tempdir().unwrap();
    let server = Live::start(dir.path(), &dir.path().join("data"), &[]);
    said(dir.path(), &["remember", "something to count", "--server", &server.url]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/check-metrics.sh");
    let scrape = format!("{}/metrics", server.url);
    let output = std::process::Command::new(script).arg(scrape).output().unwrap();
    if stderr(&output).starts_with("skipped: ") {
        return support::faults::skip(stderr(&output).trim_start_matches("skipped: ").trim());
    }
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
}
