//! Laws of `--embedder openai`, in the real binary: against endpoints that answer, that do not, and
//! that answer nonsense.

#![allow(clippy::unwrap_used, reason = "a test's helper fails the test")]

mod support;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use support::endpoint::{BAD, Endpoint, Mood};
use support::live::{Live, wait_for};
use support::{engram, plain, stderr, stdout};

const REEMBED: &str = "/v1/spaces/default/reembed";

/// `engram start` with an endpoint.
fn command(dir: &Path, endpoint: &Endpoint, model: &str) -> Command {
    let mut command = plain(dir);
    command.args(["start", "--listen", "127.0.0.1:0", "--log", "json", "--log-level", "debug"]);
    command.args(["--data", "data"]).args(endpoint.flags(model));
    command.env("ENGRAM_EMBEDDER_KEY", "sk-very-secret");
    command
}

fn start(dir: &Path, endpoint: &Endpoint, model: &str) -> Live {
    of(command(dir, endpoint, model))
}

fn of(command: Command) -> Live {
    let server = Live::of(command);
    server.wait_until_ready();
    server
}

fn post(server: &Live, path: &str, body: &Value) -> (u16, Value) {
    let reply = server.http().call("POST", path, body.to_string().as_bytes()).unwrap();
    (reply.status, reply.json())
}

fn remember(server: &Live, id: &str, what: &str) {
    let episode = json!({ "id": id, "what": what });
    let (status, answer) = post(server, "/v1/spaces/default/episodes", &episode);
    assert_eq!(status, 201, "{answer}");
}

fn remember_many(server: &Live, episodes: usize) {
    let batch: Vec<Value> = (0..episodes)
        .map(|n| json!({ "id": format!("{n}"), "what": format!("day {n}") }))
        .collect();
    let (status, answer) = post(server, "/v1/spaces/default/episodes/batch", &Value::from(batch));
    assert_eq!((status, &answer["accepted"]), (200, &json!(episodes)), "{answer}");
}

fn recall(server: &Live, text: &str) -> Value {
    let cue = json!({ "text": text, "explain": true });
    let (status, answer) = post(server, "/v1/spaces/default/recall", &cue);
    assert_eq!(status, 200, "{answer}");
    answer
}

fn wait_for_state(server: &Live, state: &str) -> Value {
    wait_for(state, || Some(server.http().get(REEMBED)).filter(|told| told["state"] == state))
}

#[test]
fn an_episode_is_embedded_by_the_endpoint_and_found_by_its_meaning() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start();
    let server = start(dir.path(), &endpoint, "m");
    remember(&server, "tea", "green tea in the garden");
    remember(&server, "storm", "a storm at sea");
    let done = wait_for_state(&server, "done");
    let expected = json!({ "space": "default", "state": "done", "model": "m", "dimension": 16,
        "episodes": 2, "embedded": 2, "waiting": 0, "refused": 0 });
    assert_eq!(done, expected);
    let answer = recall(&server, "garden tea");
    assert_eq!(answer["episodes"][0]["episode"]["id"], "tea");
    assert_eq!(answer["episodes"][0]["why"]["vector"]["rank"], 1);
    assert_eq!((&answer["explain"]["model"], &answer["degraded"]), (&json!("m"), &Value::Null));

    let (path, body) = endpoint.bodies().remove(0);
    assert_eq!(path, "/v1/embeddings");
    assert_eq!((&body["model"], &body["encoding_format"]), (&json!("m"), &json!("float")));
    assert!(
        endpoint.heads().iter().all(|head| head.contains("authorization: bearer sk-very-secret\n"))
    );

    let episode = json!({ "what": "x", "embedding": [1, 2] });
    let (status, refused) = post(&server, "/v1/spaces/default/episodes", &episode);
    assert_eq!((status, &refused["type"]), (409, &json!("/problems/dimension")));
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("16 dimensions of the model \"m\", this one has 2"), "{detail}");
    let episode = json!({ "what": "x", "embedding": vec![0; 16], "embedding_model": "n" });
    let (status, refused) = post(&server, "/v1/spaces/default/episodes", &episode);
    assert_eq!((status, &refused["type"]), (409, &json!("/problems/model")));
    assert_eq!((&refused["bound"], &refused["value"]), (&json!("m"), &json!("n")));
    let cue = json!({ "embedding": vec![0; 16], "embedding_model": "n" });
    assert_eq!(post(&server, "/v1/spaces/default/recall", &cue).0, 409);

    let (status, log) = server.stop();
    assert_eq!(status.code(), Some(0));
    assert_eq!(support::live::complaints(&log), [""; 0]);
    assert!(!log.join("\n").contains("sk-very-secret"));
}

#[test]
fn whatever_the_endpoint_does_words_find_and_later_everything_is_embedded() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start();
    let mut impatient = command(dir.path(), &endpoint, "m");
    impatient.args(["--embedder-timeout", "200ms", "--embedder-cue-timeout", "100ms"]);
    let server = of(impatient);
    for (number, mood) in BAD.into_iter().enumerate() {
        endpoint.be(mood);
        remember(&server, &format!("{mood:?}"), &format!("storm number {number} at sea"));
        let answer = recall(&server, &format!("number {number}"));
        let found = answer["episodes"].as_array().unwrap();
        assert!(
            found.iter().any(|one| one["episode"]["id"] == format!("{mood:?}")),
            "{mood:?}: {answer}"
        );
        assert!(answer["degraded"].is_string(), "{mood:?}: {answer}");
        assert_eq!(answer["explain"]["vectors"], "unavailable");
        let status = wait_for_state(&server, "unavailable");
        let cause = status["cause"].as_str().unwrap();
        assert!(!cause.is_empty() && !cause.contains("sk-very-secret"), "{mood:?}: {cause}");
        endpoint.be(Mood::Good);
        wait_for_state(&server, "done");
        // After the last failure a cue's request may still be held against it for a moment.
        let answer = wait_for("meaning", || {
            let answer = recall(&server, &format!("number {number}"));
            answer.get("degraded").is_none().then_some(answer)
        });
        assert!(answer["episodes"][0]["why"]["vector"].is_object(), "{mood:?}: {answer}");
    }
    let metrics = server.http().call("GET", "/metrics", b"").unwrap().text();
    assert!(metrics.contains("engram_space_unembedded_episodes{space=\"default\"} 0\n"));
    let failed = metrics
        .lines()
        .find(|line| line.starts_with("engram_embedder_requests_total{outcome=\"failed\"}"));
    let failed: f64 = failed.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(failed >= 11.0, "{failed}");
    let (status, log) = server.stop();
    assert_eq!(status.code(), Some(0));
    assert!(!log.join("\n").contains("sk-very-secret"));
}

#[test]
fn an_endpoint_may_be_started_after_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let place = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = place.local_addr().unwrap();
    drop(place);
    let url = format!("http://{address}/v1");
    let mut starting = plain(dir.path());
    starting.args(["start", "--listen", "127.0.0.1:0", "--log", "json", "--data", "data"]);
    starting.args(["--embedder", "openai", "--embedder-model", "m", "--embedder-dimension", "16"]);
    starting.args(["--embedder-url", &url]);
    let server = of(starting);
    remember(&server, "a", "tea");
    let status = wait_for_state(&server, "unavailable");
    assert!(status["cause"].as_str().unwrap().ends_with("nobody answers there"), "{status}");
    assert_eq!(status["waiting"], 1);
    let late = Endpoint::on(TcpListener::bind(address).unwrap());
    wait_for_state(&server, "done");
    assert_eq!(late.texts(), ["tea"]);
    let complaints = server.complaints();
    assert_eq!(complaints.len(), 1, "said once: {complaints:?}");
    server.stop_cleanly();
}

#[test]
fn a_killed_reembed_goes_on_after_the_restart() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start();
    let server = start(dir.path(), &endpoint, "old");
    remember_many(&server, 2_000);
    wait_for_state(&server, "done");
    assert_eq!(endpoint.texts().len(), 2_000);
    server.stop_cleanly();

    let server = start(dir.path(), &endpoint, "new");
    wait_for("the index", || {
        let told = server.http().get(REEMBED);
        (told["state"] == "foreign" && told["embedded"] == 2_000).then_some(())
    });
    let answer = recall(&server, "which was day 7?");
    assert!(answer["degraded"].as_str().unwrap().contains("engram reembed"), "{answer}");
    // The first answer is for the question whether it answers at all.
    endpoint.hang_after(1 + 12);
    let output = engram(dir.path())
        .args(["reembed", "--space", "default", "--no-wait", "--server", &server.url])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains(" of 2000 episodes embedded by new, "), "{}", stdout(&output));
    wait_for("twelve batches", || {
        let told = server.http().get(REEMBED);
        (told["embedded"] == 12 * 64).then_some(())
    });
    let answer = recall(&server, "which was day 7?");
    assert!(answer["unembedded"].as_u64().unwrap() > 0, "partial, and said so: {answer}");
    server.kill();

    endpoint.be(Mood::Good);
    let server = start(dir.path(), &endpoint, "new");
    let done = wait_for_state(&server, "done");
    assert_eq!((&done["embedded"], &done["model"]), (&json!(2_000), &json!("new")));
    let asked = endpoint.texts().iter().filter(|text| text.starts_with("day ")).count();
    // Of 768 that came, and a batch that did not, all but the last few were saved.
    let again = asked - 2 * 2_000;
    assert!(again <= 768 + 64 - 256, "{again} were asked for again");
    let answer = recall(&server, "which was day 7?");
    assert_eq!((answer.get("degraded"), answer.get("unembedded")), (None, None), "{answer}");
    let output = engram(dir.path()).args(["reembed", "--server", &server.url]).output().unwrap();
    assert_eq!(stdout(&output), "default: 2000 of 2000 episodes embedded by new\n");
    server.stop_cleanly();
}

#[test]
fn spaces_of_given_vectors_are_only_reembedded_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start();
    let server = start(dir.path(), &endpoint, "m");
    let episode = json!({ "id": "a", "what": "tea", "embedding": [1, 2] });
    assert_eq!(post(&server, "/v1/spaces/default/episodes", &episode).0, 201);
    let reembed = |more: &[&str]| {
        let mut command = engram(dir.path());
        command.args(["reembed", "--server", &server.url]).args(more).output().unwrap()
    };
    let output = reembed(&[]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), ""));
    assert!(stderr(&output).contains("default: left as it is"), "{}", stderr(&output));
    let output = reembed(&["--space", "default"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("--replace-given"), "{}", stderr(&output));
    assert_eq!(reembed(&["--replace-given"]).status.code(), Some(2));
    assert_eq!(reembed(&["--space", "none"]).status.code(), Some(1));
    let output = reembed(&["--space", "default", "--replace-given"]);
    assert_eq!(stdout(&output), "default: 1 of 1 episode embedded by m\n", "{}", stderr(&output));
    let got = server.http().get("/v1/spaces/default/episodes/a");
    assert_eq!(got["embedding"], json!([1.0, 2.0]), "it stays as it was given");
    let (status, refused) = post(&server, &format!("{REEMBED}?replace_given=yes"), &Value::Null);
    assert_eq!((status, &refused["field"]), (400, &json!("replace_given")));
    server.stop_cleanly();
}

#[test]
fn settings_that_cannot_be_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let whole = ["--embedder-url", "http://127.0.0.1:1/v1", "--embedder-model", "m"];
    let openai = |more: &[&'static str]| [&["--embedder", "openai"], more].concat();
    let with = |more: &[&'static str]| [&["--embedder", "openai"], &whole[..], more].concat();
    fs::write(dir.path().join("empty.key"), "\n").unwrap();
    for (flags, said) in [
        (openai(&[]), "--embedder-url: needed"),
        (openai(&whole[..2]), "--embedder-model: needed"),
        (with(&[]), "--embedder-dimension: needed"),
        (with(&["--embedder-dimension", "0"]), "--embedder-dimension"),
        (with(&["--embedder-dimension", "5000"]), "--embedder-dimension"),
        (with(&["--embedder-dimension", "2", "--embedder-batch", "0"]), "1 to 2048"),
        (with(&["--embedder-dimension", "2", "--embedder-timeout", "1ms"]), "100ms to 10m"),
        (with(&["--embedder-dimension", "2", "--embedder-cue-timeout", "1h"]), "10ms to 1m"),
        (with(&["--embedder-dimension", "2", "--embedder-key-file", "none.key"]), "none.key"),
        (with(&["--embedder-dimension", "2", "--embedder-key-file", "empty.key"]), "a key is"),
        (vec!["--embedder-model", "m"], "--embedder-model: goes with --embedder openai"),
        (vec!["--embedder", "ollama"], "builtin, none, openai"),
    ] {
        let mut command = engram(dir.path());
        let output = command.arg("start").args(&flags).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{flags:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "");
    }
    let ftp = ["--embedder-url", "ftp://h/v1", "--embedder-model", "m"];
    let flags = [&openai(&ftp)[..], &["--embedder-dimension", "2"]].concat();
    let output = engram(dir.path()).arg("start").args(flags).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("no http or https URL"), "{}", stderr(&output));
    fs::write(dir.path().join("engram.toml"), "embedder = \"openai\"\nembedder_dimension = 9999\n")
        .unwrap();
    let output = engram(dir.path()).arg("start").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("key `embedder_dimension`"), "{}", stderr(&output));
}
