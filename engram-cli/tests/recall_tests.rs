//! Laws of `engram recall`: against a fake server, and against a real one.

#![allow(clippy::unwrap_used, reason = "a test's helper fails the test")]

mod support;

use std::fs;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use support::fake::serve;
use support::{NOBODY, Server, engram, stderr, stdout};

/// Path and body of each request.
type Seen = Arc<Mutex<Vec<(String, String)>>>;

/// A fake that answers every recall alike, and what it was asked.
fn answering(answer: &Value) -> (String, Seen) {
    let seen = Seen::default();
    let notes = Arc::clone(&seen);
    let answer = answer.to_string();
    let url = serve(move |request| {
        notes.lock().unwrap().push((request.path.clone(), request.body.clone()));
        (200, "", answer.clone())
    });
    (url, seen)
}

fn two() -> Value {
    json!({
        "episodes": [
            { "episode": { "id": "a", "what": "green tea\u{1b}[2J\nmore", "when": "t", "who": ["ann"] },
              "score": 0.9739,
              "why": { "vector": { "rank": 1, "similarity": 0.7123, "part": 0.5 },
                       "text": { "rank": 3, "bm25": 7.1, "part": 0.47 },
                       "recency": 0.004, "confidence": 0.01 } },
            { "episode": { "id": "b", "what": "w", "when": "t", "who": [] },
              "score": 0.01, "why": { "recency": 0.0, "confidence": 0.01 } },
        ],
        "took_ms": 0.812,
    })
}

#[test]
fn recall_sends_what_it_was_told() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("v.json"), "[0.5, -1]\n").unwrap();
    let (url, seen) = answering(&two());
    let output = engram(dir.path())
        .args(["recall", "green tea", "--server", &url, "--space", "a b", "--limit", "7"])
        .args(["--from", "2025-01-01T00:00:00Z", "--to", "2026-01-01T00:00:00Z"])
        .args(["--where", "home", "--who", "Ann", "--who", "Bob", "--metadata", "{\"k\": 1e400}"])
        .args(["--min-confidence", "0.5", "--embedding", "v.json", "--explain"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let (path, body) = seen.lock().unwrap().remove(0);
    assert_eq!(path, "/v1/spaces/a%20b/recall");
    let cue = r#"{"text":"green tea","embedding":[0.5, -1],"from":"2025-01-01T00:00:00Z","to":"2026-01-01T00:00:00Z","where":"home","who":["Ann","Bob"],"metadata":{"k": 1e400},"min_confidence":0.5,"limit":7,"explain":true}"#;
    assert_eq!(body, cue);

    engram(dir.path()).args(["recall", "--who", "Ann", "--server", &url]).assert().success();
    let (path, body) = seen.lock().unwrap().remove(0);
    assert_eq!((path.as_str(), body.as_str()), ("/v1/spaces/default/recall", r#"{"who":["Ann"]}"#));
}

#[test]
fn people_get_a_line_and_a_reason_and_programs_the_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (url, _) = answering(&two());
    let recall = |more: &[&str]| {
        engram(dir.path()).args(["recall", "tea", "--server", &url]).args(more).output().unwrap()
    };
    let lines = "t  a  ann: green tea\u{fffd}[2J…\n    0.97  meaning 1st (0.71), words 3rd\n\
                 t  b  w\n";
    assert_eq!(stdout(&recall(&[])), lines);
    let answer: Value = serde_json::from_str(&stdout(&recall(&["--json"]))).unwrap();
    assert_eq!(answer, two());
}

#[test]
fn how_it_was_found_is_told_when_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (url, _) = answering(&json!({ "episodes": [], "took_ms": 0.8, "explain": {
        "indexed": 120, "allowed": 7, "vectors": "exact", "model": "given", "by_vector": 5,
        "by_text": 2 } }));
    let output =
        engram(dir.path()).args(["recall", "tea", "--explain", "--server", &url]).output().unwrap();
    let line = "found in 0.8 ms: 120 episodes indexed, 7 let through by the filters; by meaning 5, \
                vectors exact (given); by words 2\n";
    assert_eq!(stdout(&output), line, "{}", stderr(&output));
}

#[test]
fn what_the_answer_lacks_is_said_on_stderr() {
    let dir = tempfile::tempdir().unwrap();
    let lacking = json!({ "episodes": [], "took_ms": 1, "pending": 1 });
    let (url, _) = answering(&lacking);
    let output = engram(dir.path()).args(["recall", "x", "--server", &url]).output().unwrap();
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), ""));
    let told = "engram: 1 episode is not in the index yet; the answer may lack some\n";
    assert_eq!(stderr(&output), told);

    let (url, _) = answering(&json!({ "episodes": [], "took_ms": 1, "unreadable": ["rot"] }));
    for more in [&[][..], &["--json"]] {
        let mut command = engram(dir.path());
        let output = command.args(["recall", "x", "--server", &url]).args(more).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(stderr(&output), "engram: an episode cannot be read: rot\n");
    }
}

#[test]
fn wrong_cues_exit_2_and_what_cannot_be_answered_1() {
    let dir = tempfile::tempdir().unwrap();
    for args in [
        &[][..],
        &["--limit", "5"],
        &["--explain"],
        &["x", "--limit", "0"],
        &["x", "--limit", "1001"],
        &["x", "--metadata", "[]"],
        &["x", "--min-confidence", "2"],
        &["x", "y"],
    ] {
        let mut command = engram(dir.path());
        let output = command.args(["recall", "--server", NOBODY]).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{args:?}");
    }
    let output = engram(dir.path()).args(["recall", "x", "--server", NOBODY]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("engram start"), "{}", stderr(&output));
}

#[test]
fn what_was_remembered_is_recalled_from_a_real_server() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &dir.path().join("data"), &[]);
    let run = |args: &[&str]| {
        engram(dir.path()).args(args).args(["--server", &server.url]).output().unwrap()
    };
    for (id, what, who) in [("a", "ann made green tea", "ann"), ("b", "it rained", "bob")] {
        let kept = run(&["remember", what, "--id", id, "--who", who]);
        assert!(kept.status.success(), "{}", stderr(&kept));
    }
    let recalled = |args: &[&str]| -> Vec<String> {
        loop {
            let output = run(&[&["recall", "--json"], args].concat());
            assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
            let answer: Value = serde_json::from_str(&stdout(&output)).unwrap();
            if answer.get("pending").is_none() {
                let episodes = answer["episodes"].as_array().unwrap().iter();
                return episodes
                    .map(|one| one["episode"]["id"].as_str().unwrap().to_owned())
                    .collect();
            }
        }
    };
    assert_eq!(recalled(&["rained"])[0], "b");
    assert_eq!(recalled(&["--who", "ann"]), ["a"]);
    assert_eq!(recalled(&["--min-confidence", "1"]).len(), 2);
    let people = stdout(&run(&["recall", "tea"]));
    assert!(people.contains("  a  ann: ann made green tea\n    "), "{people}");
    assert!(people.contains("words 1st\n"), "{people}");
    let none = run(&["recall", "x", "--space", "none"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(stderr(&none).starts_with("engram: no space \"none\"; "), "{}", stderr(&none));
    let bad = run(&["recall", "--from", "yesterday"]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(stderr(&bad).starts_with("engram: from: "), "{}", stderr(&bad));
    let (status, _, _) = server.stop();
    assert_eq!(status.code(), Some(0));
}
