//! Laws of the whole program, on the real engine: start, talk, stop, kill, look.

#![allow(clippy::unwrap_used, reason = "a test's helper fails the test")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use engram_core::store::Scale;
use engram_core::{Condition, Draft, Options, Store};
use serde_json::Value;
use support::{Server, engram, stderr, stdout};

fn json(dir: &Path, url: &str, args: &[&str]) -> Value {
    let output = engram(dir).args(args).args(["--json", "--server", url]).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn what_is_remembered_can_be_got_listed_and_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &dir.path().join("data"), &[]);
    let run = |args: &[&str]| {
        let mut command = engram(dir.path());
        command.args(args).args(["--server", &server.url]).output().unwrap()
    };
    let said = stdout(&run(&["remember", "Sam likes tea", "--id", "tea", "--who", "Sam"]));
    assert!(said.starts_with("remembered tea in default (LSN "), "{said}");
    let said = stdout(&run(&["remember", "Sam likes green tea", "--id", "tea", "--who", "Sam"]));
    assert!(said.starts_with("replaced tea"), "{said}");
    assert_eq!(run(&["remember", "no", "--id", "tea", "--new"]).status.code(), Some(1));
    assert!(stdout(&run(&["get", "tea"])).ends_with("\n\nSam likes green tea\n"));
    assert!(stdout(&run(&["list"])).ends_with("  tea  Sam: Sam likes green tea\n"));
    assert!(stdout(&run(&["spaces"])).contains("default"));
    let status = stdout(&run(&["status"]));
    assert!(status.contains("ready") && status.contains("nothing failed"), "{status}");
    assert_eq!(stdout(&run(&["forget", "tea"])), "forgot tea in default\n");
    assert_eq!(run(&["forget", "tea"]).status.code(), Some(1));
    assert_eq!(run(&["get", "tea"]).status.code(), Some(1));
}

#[test]
fn a_stop_is_clean_and_stdout_carries_the_address_alone() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(dir.path(), &data, &[]);
    let (status, said, log) = server.stop();
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
    assert!(log.contains("data directory"), "{log}");
    assert!(!log.contains("\"WARN\"") && !log.contains("\"ERROR\""), "{log}");
    let output = engram(dir.path()).args(["wal", "verify", "--data", "data"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn a_killed_server_comes_back_with_everything() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(dir.path(), &data, &["--segment-bytes", "1MiB"]);
    let line = |number| format!("{{\"what\":\"{number} {}\"}}\n", "x".repeat(500));
    let lines: Vec<String> = (0..3_000).map(line).collect();
    fs::write(dir.path().join("x.jsonl"), lines.concat()).unwrap();
    let done = json(dir.path(), &server.url, &["import", "x.jsonl"]);
    assert_eq!((&done["imported"], &done["already_there"]), (&3_000.into(), &0.into()));
    server.kill();
    let server = Server::start(dir.path(), &data, &["--segment-bytes", "1MiB"]);
    let done = json(dir.path(), &server.url, &["import", "x.jsonl"]);
    assert_eq!((&done["imported"], &done["already_there"]), (&0.into(), &3_000.into()));
    let all = json(dir.path(), &server.url, &["list", "--all"]);
    assert_eq!(all["episodes"].as_array().unwrap().len(), 3_000);
    let exported = engram(dir.path()).args(["export", "--server", &server.url]).output().unwrap();
    assert_eq!(stdout(&exported).lines().count(), 3_000);
}

#[test]
fn one_data_directory_serves_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(dir.path(), &data, &[]);
    let second = ["start", "--data", "data", "--listen", "127.0.0.1:0"];
    let output = engram(dir.path()).args(second).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("in use by"), "{}", stderr(&output));
    let output = engram(dir.path()).args(["wal", "compact", "--data", "data"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("--server"), "{}", stderr(&output));
    let stats = json(dir.path(), &server.url, &["wal", "compact"]);
    assert_eq!(stats["bytes_reclaimed"], 0);
    let address = server.url.strip_prefix("http://").unwrap();
    let taken = ["start", "--data", "other", "--listen", address];
    let output = engram(dir.path()).args(taken).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("--listen"), "{}", stderr(&output));
}

#[test]
fn the_demo_holds_its_claims() {
    let dir = tempfile::tempdir().unwrap();
    let output = engram(dir.path()).arg("demo").env("TMPDIR", dir.path()).output().unwrap();
    assert!(output.status.success(), "{}\n{}", stdout(&output), stderr(&output));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "the demo cleans up");
}

#[test]
fn a_log_of_more_segments_than_files_may_be_open_at_first_is_looked_at_whole() {
    let dir = tempfile::tempdir().unwrap();
    let scale = Scale { segment_bytes_min: 8 << 10, ..Scale::default() };
    let options = Options { scale, segment_bytes: 8 << 10, ..Options::default() };
    let store = Store::open(dir.path().join("data"), options).unwrap();
    let drafts = (0..100).map(|n| Ok(Draft::of(format!("{n:6000}"))));
    store.remember_batch("s", drafts.collect(), Condition::Any).unwrap().wait().unwrap();
    let segments = store.wal().segments.len();
    assert!(segments >= 100);
    store.close().unwrap();
    for look in ["verify", "inspect", "dump"] {
        let look = format!(
            "ulimit -S -n 40; exec {} wal {look} --data data",
            env!("CARGO_BIN_EXE_engram")
        );
        let output = Command::new("sh").args(["-c", &look]).current_dir(dir.path()).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(0), "{look}: {}", stderr(&output));
    }
}
