//! Laws of the commands that talk to a server, against a fake one.

#![allow(clippy::unwrap_used, reason = "a test's helper fails the test")]

mod support;

use std::fs;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use support::fake::{Request, serve};
use support::{engram, stderr, stdout};

/// Path and body of each request.
type Seen = Arc<Mutex<Vec<(String, String)>>>;

/// A fake that notes every request for an episode batch, and answers what `answer` says.
fn noting(
    answer: impl Fn(&Request, usize) -> (u16, &'static str, String) + Send + Sync + 'static,
) -> (String, Seen) {
    let seen = Seen::default();
    let notes = Arc::clone(&seen);
    let url = serve(move |request| {
        if request.method == "GET" {
            return (200, "", "{}".into());
        }
        let mut notes = notes.lock().unwrap();
        notes.push((request.path.clone(), request.body.clone()));
        answer(request, notes.len())
    });
    (url, seen)
}

fn accept_all(request: &Request, _: usize) -> (u16, &'static str, String) {
    let accepted = request.body.lines().count();
    (200, "", json!({ "accepted": accepted, "rejected": [] }).to_string())
}

#[test]
fn a_problem_is_one_sentence_on_stderr() {
    let dir = tempfile::tempdir().unwrap();
    let url = serve(|_| {
        let problem = json!({ "type": "/problems/no-episode", "detail": "no episode \"x\"" });
        (404, "content-type: application/problem+json\r\n", problem.to_string())
    });
    let output = engram(dir.path()).args(["get", "x", "--server", &url]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output), "engram: no episode \"x\"\n");
    assert_eq!(stdout(&output), "");
}

#[test]
fn remember_sends_what_it_was_told() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("v.json"), "[0.5, -1]\n").unwrap();
    let (url, seen) = noting(|request, _| {
        assert!(request.head.contains("if-none-match: *"));
        (201, "", json!({ "id": "a/b", "space": "s", "lsn": 7 }).to_string())
    });
    let output = engram(dir.path())
        .args(["remember", "-", "--server", &url, "--space", "s", "--id", "a/b", "--new"])
        .args(["--who", "Ann", "--who", "Bob", "--where", "home", "--confidence", "0.5"])
        .args(["--when", "2025-01-01T00:00:00Z", "--metadata", "{\"k\": 1e400}"])
        .args(["--embedding", "v.json"])
        .write_stdin("two\nlines\n")
        .output()
        .unwrap();
    assert_eq!(stdout(&output), "remembered a/b in s (LSN 7)\n", "{}", stderr(&output));
    let (path, body) = seen.lock().unwrap().remove(0);
    assert_eq!(path, "/v1/spaces/s/episodes");
    // Numbers travel as they were written.
    assert!(body.contains("{\"k\": 1e400}") && body.contains("[0.5, -1]"), "{body}");
    let start = r#"{"id":"a/b","what":"two\nlines","when":"2025-01-01T00:00:00Z","where":"home","#;
    assert!(body.starts_with(start), "{body}");
}

#[test]
fn import_gives_the_same_ids_at_every_run_and_keeps_given_ones() {
    let dir = tempfile::tempdir().unwrap();
    let text = "\u{feff}{\"what\":\"a\"}\r\n\n{\"what\":\"a\"}\n{\"id\":\"mine\",\"what\":\"b\"}";
    fs::write(dir.path().join("x.jsonl"), text).unwrap();
    let run = || {
        let (url, seen) = noting(accept_all);
        let output =
            engram(dir.path()).args(["import", "x.jsonl", "--server", &url]).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(stdout(&output).starts_with("imported 3 episodes, 0 were already there"));
        let seen = seen.lock().unwrap();
        let mut ids: Vec<String> = seen
            .iter()
            .flat_map(|(_, body)| body.lines())
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().into())
            .collect();
        ids.sort();
        ids
    };
    let ids = run();
    assert_eq!(ids, run());
    assert_eq!(ids[2], "mine");
    assert_eq!(ids[1], format!("{}-2", ids[0]));
}

#[test]
fn import_counts_what_is_there_and_names_what_was_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (url, _) = noting(|request, _| {
        assert!(request.head.contains("if-none-match: *"));
        let mut rejected = Vec::new();
        for (index, line) in request.body.lines().enumerate() {
            let problem = if line.contains("there") {
                json!({ "type": "/problems/precondition", "status": 412, "detail": "exists" })
            } else if line.contains("bad") {
                json!({ "type": "/problems/limit", "status": 422, "detail": "what: is bad" })
            } else {
                continue;
            };
            rejected.push(json!({ "index": index, "error": problem }));
        }
        let accepted = request.body.lines().count() - rejected.len();
        (200, "", json!({ "accepted": accepted, "rejected": rejected }).to_string())
    });
    let import = |text: &'static str| {
        engram(dir.path())
            .args(["import", "-", "--server", &url])
            .write_stdin(text)
            .output()
            .unwrap()
    };
    let output = import("{\"what\":\"new\"}\n{\"what\":\"there\"}\n");
    assert!(output.status.success());
    assert!(stdout(&output).contains("imported 1 episodes, 1 were already there, 0 refused"));
    let output = import("{\"what\":\"new\"}\n\n{\"what\":\"bad\"}\n{\"what\":\"x\",\"space\":1}\n");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output), "line 3: what: is bad\nline 4: space: must be a string\n");
    assert!(stdout(&output).contains("imported 1 episodes, 0 were already there, 2 refused"));
}

#[test]
fn import_waits_where_it_is_asked_to_and_sends_again() {
    let dir = tempfile::tempdir().unwrap();
    let (url, seen) = noting(|request, count| match count {
        1 => (429, "retry-after: 0\r\n", json!({ "detail": "busy" }).to_string()),
        2 => (503, "retry-after: 0\r\n", json!({ "detail": "recovering" }).to_string()),
        _ => accept_all(request, count),
    });
    let mut command = engram(dir.path());
    let command = command.args(["import", "-", "--server", &url]).write_stdin("{\"what\":\"x\"}");
    assert!(stdout(&command.output().unwrap()).starts_with("imported 1 "));
    assert_eq!(seen.lock().unwrap().len(), 3);
}

#[test]
fn import_stops_on_a_full_disk_and_says_how_to_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (url, seen) = noting(|_, _| (507, "", json!({ "detail": "the disk is full" }).to_string()));
    let output = engram(dir.path())
        .args(["import", "-", "--server", &url])
        .write_stdin("{\"what\":\"x\"}")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("the disk is full") && said.contains("same import again"), "{said}");
    assert!(stdout(&output).starts_with("stopped early: imported 0 "));
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[test]
fn import_with_replace_asks_for_no_precondition() {
    let dir = tempfile::tempdir().unwrap();
    let (url, _) = noting(|request, count| {
        assert!(!request.head.contains("if-none-match"));
        accept_all(request, count)
    });
    let mut command = engram(dir.path());
    let command = command.args(["import", "-", "--replace", "--json", "--server", &url]);
    let output = command.write_stdin("{\"what\":\"x\"}").output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["imported"], 1);
}

#[test]
fn an_export_is_imported_into_the_spaces_it_came_from() {
    let dir = tempfile::tempdir().unwrap();
    let a = r#"{"id":"1","space":"a","what":"x","lsn":1,"recorded_at":"2025-01-01T00:00:00Z"}"#;
    let b = r#"{"id":"2","space":"b","what":"y","lsn":2,"recorded_at":"2025-01-01T00:00:00Z"}"#;
    let url = serve(move |request| {
        let body = match &*request.path {
            "/v1/spaces" => {
                let space = |name| json!({ "name": name, "episodes": 1, "bytes": 1 });
                json!({ "spaces": [space("a"), space("b")] }).to_string()
            }
            path if path.starts_with("/v1/spaces/a/episodes?embedding=base64") => {
                format!("{{\"episodes\":[{a}],\"next_cursor\":null}}")
            }
            path if path.contains("cursor=c%2F1") => {
                format!("{{\"episodes\":[{b}],\"next_cursor\":null}}")
            }
            _ => "{\"episodes\":[],\"next_cursor\":\"c/1\"}".into(),
        };
        (200, "", body)
    });
    let output = engram(dir.path()).args(["export", "--server", &url]).output().unwrap();
    assert_eq!(stdout(&output), format!("{a}\n{b}\n"));
    let to_file = ["export", "--server", &url, "--output", "out.jsonl"];
    let said = engram(dir.path()).args(to_file).output().unwrap();
    assert_eq!(stdout(&said), "exported 2 episodes of 2 spaces to out.jsonl\n");
    let exported = fs::read_to_string(dir.path().join("out.jsonl")).unwrap();
    assert_eq!(exported, stdout(&output));

    let (url, seen) = noting(accept_all);
    engram(dir.path()).args(["import", "out.jsonl", "--server", &url]).assert().success();
    let mut seen = seen.lock().unwrap().clone();
    seen.sort();
    let expected = [("a", r#"{"id":"1","what":"x"}"#), ("b", r#"{"id":"2","what":"y"}"#)];
    for ((path, body), (space, line)) in seen.iter().zip(expected) {
        assert_eq!(*path, format!("/v1/spaces/{space}/episodes/batch"));
        assert_eq!(body.trim(), line);
    }
}

/// Metadata comes as it was laid out, and what stood alone on a line of it was another episode.
#[test]
fn an_episode_is_one_line_of_an_export_and_a_space_that_went_meanwhile_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let url = serve(|request| {
        let space = |name| json!({ "name": name, "episodes": 1, "bytes": 1 });
        let laid_out = "{\"id\":\"1\",\"metadata\":{\r\n\"a\":\n{\"what\":\"x\\n\"}\n}}";
        match &*request.path {
            "/v1/spaces" => {
                (200, "", json!({ "spaces": [space("gone"), space("kept")] }).to_string())
            }
            path if path.starts_with("/v1/spaces/gone/") => {
                (404, "", json!({ "detail": "no space \"gone\"" }).to_string())
            }
            _ => (200, "", format!("{{\"episodes\":[{laid_out}],\"next_cursor\":null}}")),
        }
    });
    let output = engram(dir.path()).args(["export", "--server", &url]).output().unwrap();
    let line = "{\"id\":\"1\",\"metadata\":{  \"a\": {\"what\":\"x\\n\"} }}\n";
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), line.to_owned()));
    // What is no file is written to, not replaced.
    let to_device = ["export", "--server", &url, "--output", "/dev/null"];
    engram(dir.path()).args(to_device).assert().success();
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
    fs::write(dir.path().join("real.jsonl"), "old").unwrap();
    std::os::unix::fs::symlink("real.jsonl", dir.path().join("link.jsonl")).unwrap();
    let to_link = ["export", "--server", &url, "--output", "link.jsonl"];
    engram(dir.path()).args(to_link).assert().success();
    assert_eq!(fs::read_to_string(dir.path().join("real.jsonl")).unwrap(), line);
    assert!(fs::symlink_metadata(dir.path().join("link.jsonl")).unwrap().is_symlink());
}

#[test]
fn an_id_that_is_typed_is_forgotten_whatever_space_the_settings_file_names() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("engram.toml"), "[forget]\nwhole_space = \"prod\"\n").unwrap();
    let (url, seen) = noting(|_, _| (204, "", String::new()));
    engram(dir.path()).args(["forget", "note", "--server", &url]).assert().success();
    let paths: Vec<String> = seen.lock().unwrap().iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(paths, ["/v1/spaces/default/episodes/note"]);
}

/// Three episodes on two pages, the second with one that cannot be read.
fn two_pages() -> String {
    serve(|request| {
        let episode = |n: u32| json!({ "id": n.to_string(), "what": "w", "when": "t", "who": [] });
        let limit = request.path.split("limit=").nth(1).unwrap().split('&').next().unwrap();
        let body = match (request.path.contains("cursor=c1"), limit) {
            (false, _) => json!({ "episodes": [episode(3), episode(2)], "next_cursor": "c1" }),
            (true, "1") => json!({ "episodes": [episode(1)], "next_cursor": "c2" }),
            (true, _) => json!({ "episodes": [episode(1)], "next_cursor": null,
                "unreadable": ["record 7 fails\u{1b} its checksum"] }),
        };
        (200, "", body.to_string())
    })
}

#[test]
fn list_goes_on_over_short_pages_until_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    let url = two_pages();
    let list = |more: &[&str]| {
        engram(dir.path()).args(["list", "--server", &url]).args(more).output().unwrap()
    };
    let three = list(&["--limit", "3"]);
    assert_eq!(three.status.code(), Some(0), "{}", stderr(&three));
    let lines = "t  3  w\nt  2  w\nt  1  w\nmore: --cursor c2\n";
    assert_eq!(stdout(&three), lines);
    let two: Value = serde_json::from_str(&stdout(&list(&["--limit", "2", "--json"]))).unwrap();
    assert_eq!(two["next_cursor"], "c1");
    assert_eq!(two["episodes"].as_array().unwrap().len(), 2);
    assert_eq!(two.get("unreadable"), None);
    for more in [&["--json"][..], &["--json", "--all"]] {
        let all = list(more);
        assert_eq!(all.status.code(), Some(1));
        let answer: Value = serde_json::from_str(&stdout(&all)).unwrap();
        assert_eq!(answer["next_cursor"], Value::Null);
        assert_eq!(answer["episodes"].as_array().unwrap().len(), 3);
        assert_eq!(answer["unreadable"].as_array().unwrap().len(), 1);
        let told = stderr(&all);
        assert_eq!(
            told,
            "engram: an episode cannot be read: record 7 fails\u{fffd} its checksum\n"
        );
    }
}

#[test]
fn an_export_goes_on_over_what_cannot_be_read_and_ends_with_1() {
    let dir = tempfile::tempdir().unwrap();
    let url = serve(|request| {
        let body = match &*request.path {
            "/v1/spaces" => json!({ "spaces": [{ "name": "a", "episodes": 2, "bytes": 1 }] }),
            path if path.contains("cursor=c1") => {
                json!({ "episodes": [{ "id": "1" }], "next_cursor": null })
            }
            _ => json!({ "episodes": [], "next_cursor": "c1", "unreadable": ["rot"] }),
        };
        (200, "", body.to_string())
    });
    let args = ["export", "--server", &url, "--output", "out.jsonl"];
    let output = engram(dir.path()).args(args).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "exported 1 episode of 1 space to out.jsonl\n");
    let told = stderr(&output);
    assert!(told.starts_with("engram: an episode cannot be read: rot\n"), "{told}");
    assert!(told.contains("1 episode could not be read"), "{told}");
    let kept = fs::read_to_string(dir.path().join("out.jsonl")).unwrap();
    assert_eq!(kept, "{\"id\":\"1\"}\n");
}

/// A directory that the v0.1.0 program wrote.
fn fixture(name: &str) -> String {
    format!("{}/../engram-core/tests/fixtures/legacy/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_v0_1_0_directory_is_imported_as_its_last_changes_left_it() {
    let dir = tempfile::tempdir().unwrap();
    let (url, seen) = noting(accept_all);
    let source = fixture("special");
    let output = engram(dir.path()).args(["import", &source, "--server", &url]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let seen = seen.lock().unwrap();
    assert!(seen.iter().all(|(path, _)| path == "/v1/spaces/default/episodes/batch"));
    let lines = seen.iter().flat_map(|(_, body)| body.lines());
    let episodes = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut ids: Vec<String> = episodes
        .map(|episode| {
            assert_eq!(episode["embedding"].as_array().unwrap().len(), 768);
            episode["id"].as_str().unwrap().to_owned()
        })
        .collect();
    ids.sort();
    assert_eq!(ids, ["sp0000", "sp0002", "sp0003"], "sp0001 was deleted");
}

#[test]
fn what_cannot_be_read_of_a_v0_1_0_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for (name, imported, code, told) in
        [("corrupt3", 47, 1, "not understood: "), ("torn", 49, 0, "unfinished end: ")]
    {
        let (url, _) = noting(accept_all);
        let source = fixture(name);
        let output =
            engram(dir.path()).args(["import", &source, "--server", &url]).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{name}: {}", stderr(&output));
        assert!(stdout(&output).starts_with(&format!("imported {imported} ")), "{name}");
        assert!(stderr(&output).starts_with(told), "{name}: {}", stderr(&output));
    }
}

#[test]
fn a_directory_without_a_v0_1_0_log_is_no_source() {
    let dir = tempfile::tempdir().unwrap();
    let (url, _) = noting(accept_all);
    let output = engram(dir.path()).args(["import", ".", "--server", &url]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("holds no v0.1.0 log"), "{}", stderr(&output));
}

#[test]
fn a_reader_that_goes_away_ends_the_command_quietly() {
    let dir = tempfile::tempdir().unwrap();
    let long = "x".repeat(1 << 20);
    let url = serve(move |_| (200, "", format!("{{\"x\":\"{long}\"}}")));
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_engram"))
        .args(["spaces", "--json", "--server", &url])
        .current_dir(dir.path())
        .env("XDG_CONFIG_HOME", dir.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}
