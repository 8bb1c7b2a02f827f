//! Bad cues over a socket: each gets its problem, and afterwards the memory is as it was.
#![expect(clippy::unwrap_used, reason = "what goes wrong here fails the test")]

mod support;

use std::sync::Arc;

use engram_core::episode::limits;
use engram_core::metrics::{Metrics, schema};
use engram_core::{Options, Store};
use engram_server::{Config, MetricsExporter, Opening};
use serde_json::{Value, json};
use support::{Client, Running};
use tempfile::TempDir;

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

async fn start(dir: &TempDir) -> (Running, Client) {
    let exporter = MetricsExporter::new(schema::ALL.iter().map(|f| (f.name, f.buckets)));
    let options = Options {
        recovery_threads: 1,
        metrics: Arc::new(Metrics::new(exporter.recorder())),
        ..Options::default()
    };
    let (progress, dir) = (Arc::clone(&options.progress), dir.path().to_owned());
    let opening = Opening {
        open: Box::new(move || Store::open(dir, options)),
        progress,
        durability: "always".into(),
    };
    let server = Running::start(Config::default(), opening, exporter).await;
    let mut client = server.connect().await;
    while client.get("/readyz").await.status != 200 {}
    for (space, episode) in [
        ("s", json!({"id": "tea", "what": "ann made green tea", "who": ["ann"]})),
        ("s", json!({"id": "rain", "what": "it rained all day", "metadata": {"mood": "calm"}})),
        ("given", json!({"id": "north", "what": "the north", "embedding": [0, 1]})),
    ] {
        let path = format!("/v1/spaces/{space}/episodes");
        assert_eq!(client.send("POST", &path, &JSON, episode.to_string()).await.status, 201);
    }
    (server, client)
}

/// What anyone sees of the memory: spaces, episodes, the head of the log, answers.
async fn seen(client: &mut Client) -> Vec<Value> {
    let mut seen = vec![
        client.get("/v1/spaces").await.json(),
        client.get("/v1/spaces/s/episodes").await.json(),
        client.get("/v1/spaces/given/episodes?embedding=list").await.json(),
    ];
    for field in ["head_lsn", "synced_lsn", "state", "live_bytes", "dead_bytes"] {
        seen.push(client.get("/v1/wal").await.json()[field].clone());
    }
    for (space, cue) in [
        ("s", json!({"text": "green tea", "weights": {"recency": 0}, "explain": true})),
        ("given", json!({"embedding": [1, 1], "weights": {"recency": 0}, "explain": true})),
    ] {
        let path = format!("/v1/spaces/{space}/recall");
        let mut answer = client.send("POST", &path, &JSON, cue.to_string()).await.json();
        answer.as_object_mut().unwrap().remove("took_ms");
        seen.push(answer);
    }
    seen
}

#[tokio::test]
async fn a_bad_cue_gets_its_problem_and_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let (server, mut client) = start(&dir).await;
    // The idle mark may come between two looks.
    let mut before = seen(&mut client).await;
    let range = r#"{"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}"#;
    let megabyte = format!(r#"{{"text": "{}"}}"#, "t".repeat(1 << 20));
    let long = format!(r#"{{"text": "{}"}}"#, "t".repeat(limits::CUE_BYTES_MAX + 1));
    let cases: [(&str, &str, u16, &str); 27] = [
        ("s", "{}", 422, "limit"),
        ("s", r#"{"limit": 5}"#, 422, "limit"),
        ("s", r#"{"text": ""}"#, 422, "limit"),
        ("s", r#"{"text": "t", "limit": 0}"#, 422, "limit"),
        ("s", r#"{"text": "t", "limit": 1001}"#, 422, "limit"),
        ("s", r#"{"text": "t", "limit": -1}"#, 400, "malformed"),
        ("s", r#"{"text": "t", "limit": 1.5}"#, 400, "malformed"),
        ("s", r#"{"text": "t", "limit": 1e99}"#, 400, "malformed"),
        ("given", r#"{"embedding": [1, 2, 3]}"#, 409, "dimension"),
        ("given", r#"{"text": "t", "embedding": [1]}"#, 409, "dimension"),
        ("s", r#"{"embedding": [1, 2]}"#, 409, "no-vectors"),
        ("given", r#"{"embedding": [NaN, 0]}"#, 400, "malformed"),
        ("given", r#"{"embedding": "AADAfwAAAAA="}"#, 422, "limit"),
        ("given", r#"{"embedding": [1e300, 0]}"#, 422, "limit"),
        ("given", r#"{"embedding": "!"}"#, 400, "malformed"),
        ("s", range, 422, "limit"),
        ("s", r#"{"from": "yesterday"}"#, 400, "malformed"),
        ("s", r#"{"who": {"name": "ann"}}"#, 400, "malformed"),
        ("s", r#"{"who": [1]}"#, 400, "malformed"),
        ("s", r#"{"metadata": "mood"}"#, 422, "limit"),
        ("s", r#"{"min_confidence": 2}"#, 422, "limit"),
        ("s", r#"{"where": ["kitchen"]}"#, 400, "malformed"),
        ("s", r#"{"text": "t", "colour": 1}"#, 400, "malformed"),
        ("s", r#"{"text": "t""#, 400, "malformed"),
        ("s", &long, 413, "too-large"),
        ("s", &megabyte, 413, "too-large"),
        ("nowhere", r#"{"text": "t"}"#, 404, "no-space"),
    ];
    for (space, cue, status, slug) in cases {
        let path = format!("/v1/spaces/{space}/recall");
        let answer = client.send("POST", &path, &JSON, cue.to_owned()).await;
        let problem = answer.problem(status, slug);
        assert!(problem["detail"].is_string(), "{problem}");
        let after = seen(&mut client).await;
        // What is idle for long leaves a mark, once: it takes an LSN and nothing else.
        let head = |seen: &[Value]| seen[3].as_u64().unwrap();
        assert!(head(&after) - head(&before) <= 1, "{cue:.80}");
        let same = |at: &usize| before[*at] == after[*at] || matches!(at, 3 | 4);
        let changed = (0..before.len()).find(|at| !same(at));
        assert_eq!(changed, None, "{cue:.80}: {before:?} {after:?}");
        before = after;
    }
    server.stop().await.unwrap();
}
