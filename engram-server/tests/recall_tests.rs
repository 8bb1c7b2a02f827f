//! Recall over a socket: cues of each kind, what the answer says, and every way to be refused.
#![expect(clippy::unwrap_used, reason = "what goes wrong here fails the test")]

mod support;

use std::path::Path;
use std::sync::Arc;

use engram_core::episode::limits;
use engram_core::metrics::{Metrics, schema};
use engram_core::{Options, Store};
use engram_server::{CUE_BODY_BYTES_MAX, Config, MetricsExporter, Opening};
use serde_json::{Value, json};
use support::{Answer, Client, Running};
use tempfile::TempDir;

const EPISODES: &str = "/v1/spaces/s/episodes";
const RECALL: &str = "/v1/spaces/s/recall";
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

fn opening(dir: &Path, exporter: &MetricsExporter) -> Opening {
    let options = Options {
        segment_bytes: limits::SEGMENT_BYTES_MIN,
        compact_automatically: false,
        recovery_threads: 1,
        metrics: Arc::new(Metrics::new(exporter.recorder())),
        ..Options::default()
    };
    let (progress, dir) = (Arc::clone(&options.progress), dir.to_owned());
    let open = Box::new(move || Store::open(dir, options));
    Opening { open, progress, durability: "always".into() }
}

/// A server over three episodes, and a connection to it.
async fn start() -> (TempDir, Running, Client) {
    let dir = TempDir::new().unwrap();
    let exporter = MetricsExporter::new(schema::ALL.iter().map(|f| (f.name, f.buckets)));
    let server = Running::start(Config::default(), opening(dir.path(), &exporter), exporter).await;
    let mut client = server.connect().await;
    while client.get("/readyz").await.status != 200 {}
    for episode in [
        json!({"id": "tea", "what": "ann made green tea", "when": "2026-01-01T00:00:00Z",
            "where": "kitchen", "who": ["ann"], "embedding": [1, 0], "confidence": 0.9,
            "metadata": {"mood": "calm", "cups": 2}}),
        json!({"id": "talk", "what": "ann and bob talked about tea", "when": "2026-01-02T00:00:00Z",
            "where": "garden", "who": ["ann", "bob"], "embedding": [0.6, 0.8], "confidence": 0.5}),
        json!({"id": "rain", "what": "it rained all day", "when": "2026-01-03T00:00:00Z",
            "where": "garden", "embedding": [0, 1], "metadata": {"mood": "calm"}}),
    ] {
        assert_eq!(client.post(EPISODES, &episode).await.status, 201);
    }
    (dir, server, client)
}

impl Client {
    async fn post(&mut self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &JSON, body.to_string()).await
    }

    /// Recalls, once the index has all.
    async fn recall(&mut self, path: &str, cue: &Value) -> Value {
        loop {
            let answer = self.post(path, cue).await;
            assert_eq!(answer.status, 200, "{cue}: {answer:?}");
            let answer = answer.json();
            if answer.get("pending").is_none() {
                return answer;
            }
        }
    }

    /// The ids that a cue gives, sorted.
    async fn ids(&mut self, cue: &Value) -> Vec<String> {
        let answer = self.recall(RECALL, cue).await;
        let episodes = answer["episodes"].as_array().unwrap().iter();
        let mut ids: Vec<String> =
            episodes.map(|one| one["episode"]["id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    }
}

#[tokio::test]
async fn each_field_of_a_cue_does_its_part() {
    let (_dir, server, mut client) = start().await;
    for (cue, ids) in [
        (json!({"text": "rained"}), &["rain"][..]),
        (json!({"text": "tea"}), &["talk", "tea"]),
        (json!({"text": "tea", "who": "bob"}), &["talk"]),
        (json!({"who": "ann"}), &["talk", "tea"]),
        (json!({"who": ["ann", "bob"]}), &["talk"]),
        (json!({"where": "garden"}), &["rain", "talk"]),
        (json!({"where": "garden", "who": [], "text": null}), &["rain", "talk"]),
        (json!({"from": "2026-01-02T00:00:00Z"}), &["rain", "talk"]),
        (json!({"to": "2026-01-02T01:00:00+01:00"}), &["tea"]),
        (json!({"metadata": {"mood": "calm"}}), &["rain", "tea"]),
        (json!({"metadata": {"mood": "calm", "cups": 2}}), &["tea"]),
        (json!({"min_confidence": 0.9}), &["rain", "tea"]),
        (json!({"embedding": [1, 0], "limit": 1}), &["tea"]),
        (json!({"embedding": "AAAAAAAAgD8=", "limit": 1}), &["rain"]),
        (json!({"text": "nothing of this"}), &[]),
    ] {
        assert_eq!(client.ids(&cue).await, ids, "{cue}");
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn an_answer_says_why_each_episode_is_there() {
    let (_dir, server, mut client) = start().await;
    let cue = json!({"text": "green tea", "embedding": [1, 0], "explain": true});
    let answer = client.recall(RECALL, &cue).await;
    assert!(answer["took_ms"].as_f64() > Some(0.0), "{answer}");
    let first = &answer["episodes"][0];
    assert_eq!(first["episode"]["id"], "tea");
    assert_eq!(first["episode"].get("embedding"), None);
    assert_eq!(
        (&first["why"]["vector"]["rank"], &first["why"]["text"]["rank"]),
        (&json!(1), &json!(1))
    );
    assert!(first["why"]["vector"]["similarity"].as_f64() > Some(0.99), "{first}");
    assert!(first["why"]["text"]["bm25"].as_f64() > Some(0.0), "{first}");
    let number = |value: &Value| value.as_f64().unwrap();
    for one in answer["episodes"].as_array().unwrap() {
        let why = &one["why"];
        let part = |name: &str| why.get(name).map_or(0.0, |signal| number(&signal["part"]));
        let parts =
            part("vector") + part("text") + number(&why["recency"]) + number(&why["confidence"]);
        assert!((parts - number(&one["score"])).abs() < 1e-5, "{one}");
    }
    let explain = answer["explain"].as_object().unwrap();
    assert_eq!((&explain["indexed"], &explain["model"]), (&json!(3), &json!("given")));
    for name in ["vectors", "by_vector", "by_text"] {
        assert!(explain.contains_key(name), "{answer}");
    }

    let words = client.recall(RECALL, &json!({"text": "rained"})).await;
    assert_eq!(words["episodes"][0]["why"].get("vector"), None, "{words}");
    for absent in ["explain", "pending", "unreadable"] {
        assert_eq!(words.get(absent), None, "{words}");
    }
    for (form, embedding) in [("list", json!([1.0, 0.0])), ("base64", json!("AACAPwAAAAA="))] {
        let path = format!("{RECALL}?embedding={form}");
        let answer = client.recall(&path, &json!({"text": "green"})).await;
        assert_eq!(answer["episodes"][0]["episode"]["embedding"], embedding);
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn bad_cues_are_refused_with_field_bound_and_value_and_change_nothing() {
    let (_dir, server, mut client) = start().await;
    let before = client.get("/v1/wal").await.json()["head_lsn"].as_u64().unwrap();
    let nan = "AADAfwAAwH8=";
    let mut cases = vec![
        (json!({}), 422, "limit", "cue"),
        (json!({"limit": 3, "explain": true}), 422, "limit", "cue"),
        (json!({"text": ""}), 422, "limit", "text"),
        (json!({"text": "t", "limit": 0}), 422, "limit", "limit"),
        (json!({"text": "t", "limit": 1001}), 422, "limit", "limit"),
        (json!({"text": "t", "limit": "x"}), 400, "malformed", "limit"),
        (json!({"embedding": [1, 2, 3]}), 409, "dimension", "embedding"),
        (json!({"embedding": [1e39, 0]}), 422, "limit", "embedding"),
        (json!({"embedding": nan}), 422, "limit", "embedding"),
        (json!({"embedding": []}), 422, "limit", "embedding"),
        (json!({"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}), 422, "limit", "to"),
        (json!({"from": "yesterday"}), 400, "malformed", "from"),
        (json!({"who": 5}), 400, "malformed", "who"),
        (json!({"who": ""}), 422, "limit", "who"),
        (json!({"metadata": [1]}), 422, "limit", "metadata"),
        (json!({"min_confidence": 2}), 422, "limit", "min_confidence"),
        (json!({"text": "t", "weights": {"vector": -1}}), 422, "limit", "weights.vector"),
        (json!({"text": "t", "weights": {"recency": 1001}}), 422, "limit", "weights.recency"),
        (json!({"text": "t", "weights": {"text": 1e300}}), 400, "malformed", "weights.text"),
        (json!({"text": "t", "weights": {"colour": 1}}), 400, "malformed", "weights.colour"),
        (json!({"text": "t", "colour": "red"}), 400, "malformed", "colour"),
        (json!({"text": "t".repeat(limits::CUE_BYTES_MAX + 1)}), 413, "too-large", "text"),
        (json!({"text": "t".repeat(1 << 20)}), 413, "too-large", "body"),
        (json!([]), 400, "malformed", "cue"),
    ];
    cases.push((json!({"where": "p".repeat(257)}), 413, "too-large", "where"));
    for (cue, status, slug, field) in cases {
        let problem = client.post(RECALL, &cue).await.problem(status, slug);
        assert_eq!(problem["field"], field, "{problem}");
        assert!(problem["bound"].is_string() && problem["value"].is_string(), "{problem}");
    }
    let both = client.post(RECALL, &json!({"embedding": [1, 2, 3]})).await.json();
    assert_eq!((&both["bound"], &both["value"]), (&json!("2 dimensions"), &json!("3 dimensions")));
    for (body, field) in [
        ("", "cue"),
        ("{\"text\":", "text"),
        ("{\"text\":\"t\"} x", "cue"),
        ("{\"text\":\"t\",\"text\":\"u\"}", "text"),
        ("{\"embedding\":[1e999,0]}", "embedding"),
        ("{\"embedding\":[NaN,0]}", "embedding"),
    ] {
        let problem = client.send("POST", RECALL, &JSON, body).await.problem(400, "malformed");
        assert_eq!(problem["field"], field, "{body}: {problem}");
    }
    for media in ["text/plain", "application/x-ndjson"] {
        let headers = [("content-type", media)];
        let answer = client.send("POST", RECALL, &headers, "{\"text\":\"t\"}").await;
        answer.problem(415, "unsupported-media-type");
    }
    assert_eq!(client.send("POST", RECALL, &[], "{\"text\":\"tea\"}").await.status, 200);
    let got = client.get(RECALL).await;
    got.problem(405, "method-not-allowed");
    assert_eq!(got.headers["allow"], "POST");
    // An idle mark may have come meanwhile.
    let after = client.get("/v1/wal").await.json()["head_lsn"].as_u64().unwrap();
    assert!((before..=before + 1).contains(&after), "{before} became {after}");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_recall_never_makes_a_space() {
    let (_dir, server, mut client) = start().await;
    for space in ["t", "Bad", "%C3%A4", "spaces"] {
        let path = format!("/v1/spaces/{space}/recall");
        client.post(&path, &json!({"text": "t"})).await.problem(404, "no-space");
    }
    let spaces = client.get("/v1/spaces").await.json();
    assert_eq!(spaces["spaces"].as_array().unwrap().len(), 1);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn the_largest_legal_cue_fits_however_it_is_escaped() {
    let (_dir, server, mut client) = start().await;
    let escaped = |bytes: usize| "\u{1}".repeat(bytes);
    let who: Vec<String> = (0..limits::WHO_MAX).map(|_| escaped(limits::WHO_BYTES_MAX)).collect();
    let cue = json!({"text": escaped(limits::CUE_BYTES_MAX), "who": who,
        "where": escaped(limits::WHERE_BYTES_MAX), "embedding": [-0.123_456_789_012_345_68, 1],
        "metadata": {"m": "m".repeat(limits::METADATA_BYTES_MAX - 8)}});
    let numbers = 25 * limits::DIMENSIONS_MAX;
    assert!(cue.to_string().len() + numbers < CUE_BODY_BYTES_MAX, "{}", cue.to_string().len());
    assert_eq!(client.post(RECALL, &cue).await.status, 200);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn recalls_that_were_answered_are_counted() {
    let (_dir, server, mut client) = start().await;
    client.post(RECALL, &json!({"text": "tea"})).await;
    client.post(RECALL, &json!({"who": "ann"})).await;
    client.post(RECALL, &json!({})).await.problem(422, "limit");
    let figures = client.get("/metrics").await;
    let text = String::from_utf8(figures.body.to_vec()).unwrap();
    assert!(text.contains("engram_recall_duration_seconds_count 2\n"), "{text}");
    let route = "route=\"/v1/spaces/{space}/recall\",method=\"POST\",status=\"2xx\"";
    assert!(text.contains(&format!("_count{{{route}}} 2\n")), "{text}");
    server.stop().await.unwrap();
}
