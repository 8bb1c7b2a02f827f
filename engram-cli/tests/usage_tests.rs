//! Laws of the command line: exit codes, where settings come from, and what errors say.

#![allow(clippy::unwrap_used, reason = "a test's helper fails the test")]

mod support;

use std::fs;

use support::{NOBODY, engram, stderr, stdout};

#[test]
fn wrong_usage_exits_2_and_says_nothing_on_stdout() {
    let dir = tempfile::tempdir().unwrap();
    for args in [
        &["nonsense"][..],
        &[],
        &["get"],
        &["start", "--segment-bytes", "1048575"],
        &["start", "--durability", "sometimes"],
        &["start", "--recovery", "hope"],
        &["start", "--accept-loss", "9-3"],
        &["start", "--listen", "7432"],
        &["status", "--server", "https://localhost"],
        &["remember", "x", "--metadata", "[]"],
        &["remember", "x", "--confidence", "NaN"],
        &["remember", "x", "--confidence", "inf"],
        &["remember", "x", "--confidence", "3"],
        &["list", "--limit", "0"],
        &["list", "--limit", "1001"],
        &["forget"],
        &["wal", "quarantine", "purge"],
    ] {
        let output = engram(dir.path()).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{args:?}");
    }
}

#[test]
fn help_and_version_exit_0() {
    let dir = tempfile::tempdir().unwrap();
    for args in [&["--help"][..], &["--version"], &["start", "-h"], &["man"]] {
        engram(dir.path()).args(args).assert().success();
    }
    let page = engram(dir.path()).args(["man", "wal", "verify"]).output().unwrap();
    assert!(stdout(&page).contains("engram\\-wal\\-verify"), "{}", stdout(&page));
    assert!(stdout(&page).contains("\\-\\-json"));
    let none = engram(dir.path()).args(["man", "wal", "nothing"]).output().unwrap();
    assert_eq!(none.status.code(), Some(2));
    assert!(stderr(&none).contains("verify"), "{}", stderr(&none));
    engram(dir.path()).args(["completions", "bash"]).assert().success();
}

#[test]
fn a_server_that_is_not_there_is_named_with_the_next_step() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("x.jsonl"), "{\"what\":\"x\"}\n").unwrap();
    for args in
        [&["status"][..], &["remember", "x"], &["get", "x"], &["export"], &["import", "x.jsonl"]]
    {
        let output = engram(dir.path()).args(args).args(["--server", NOBODY]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let said = stderr(&output);
        assert!(said.contains(NOBODY) && said.contains("engram start"), "{args:?}: {said}");
    }
}

/// The server that `engram spaces` goes to shows in its complaint.
fn asked(command: &mut assert_cmd::Command) -> String {
    stderr(&command.output().unwrap())
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let spaces = || {
        let mut command = engram(dir.path());
        command.arg("spaces");
        command
    };
    // Somebody may listen there.
    let help = engram(dir.path()).args(["spaces", "--help"]).output().unwrap();
    assert!(stdout(&help).contains("[default: http://127.0.0.1:7432]"), "{}", stdout(&help));
    fs::write(dir.path().join("engram.toml"), "server = \"http://127.0.0.1:2\"").unwrap();
    assert!(asked(&mut spaces()).contains("127.0.0.1:2;"), "the file");
    let variable = ("ENGRAM_SERVER", "http://127.0.0.1:3");
    assert!(asked(spaces().env(variable.0, variable.1)).contains("127.0.0.1:3;"), "the variable");
    let said = asked(spaces().env(variable.0, variable.1).args(["--server", "http://127.0.0.1:4"]));
    assert!(said.contains("127.0.0.1:4;"), "the flag: {said}");
    fs::write(dir.path().join("other.toml"), "server = \"http://127.0.0.1:5\"").unwrap();
    assert!(asked(spaces().args(["--config", "other.toml"])).contains("127.0.0.1:5;"));
    assert!(asked(spaces().env("ENGRAM_CONFIG", "other.toml")).contains("127.0.0.1:5;"));
}

#[test]
fn the_settings_file_is_found_in_the_usual_place_too() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("engram")).unwrap();
    let text = "server = \"http://127.0.0.1:6\"";
    fs::write(dir.path().join("engram/engram.toml"), text).unwrap();
    assert!(asked(engram(dir.path()).arg("spaces")).contains("127.0.0.1:6;"));
}

#[test]
fn a_bad_setting_is_named_with_file_key_and_bound() {
    let dir = tempfile::tempdir().unwrap();
    for (text, parts) in [
        ("segment_bytes = 5", &["`segment_bytes`", "\"5\"", "1048576", "--segment-bytes"][..]),
        ("durability = \"maybe\"", &["`durability`", "maybe", "interval=20ms"]),
        ("recovery = \"maybe\"", &["`recovery`", "salvage or strict"]),
        ("durabilty = \"always\"", &["`durabilty`", "unknown", "durability"]),
        ("listen = [\"a\"]", &["`listen`", "not a list"]),
        ("listen = = 1", &["line 1"]),
        ("data = { x = { y = 1 } }", &["`data.x`"]),
    ] {
        fs::write(dir.path().join("engram.toml"), text).unwrap();
        let output = engram(dir.path()).arg("start").output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        let said = stderr(&output);
        assert!(said.starts_with("engram: engram.toml: "), "{said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{text}: {said}");
    }
    let output = engram(dir.path()).args(["spaces", "--config", "none.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("none.toml"));
}

#[test]
fn a_wrong_path_becomes_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    for args in [&["wal", "compact"][..], &["wal", "quarantine", "restore", "x"]] {
        let output = engram(dir.path()).args(args).args(["--data", "empty"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(stderr(&output).contains("holds no memory"), "{args:?}: {}", stderr(&output));
    }
    assert_eq!(fs::read_dir(dir.path().join("empty")).unwrap().count(), 0);
}

#[test]
fn verify_that_could_not_look_exits_2() {
    let dir = tempfile::tempdir().unwrap();
    for data in ["none", "."] {
        let output = engram(dir.path()).args(["wal", "verify", "--data", data]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{data}: {}", stderr(&output));
    }
}
