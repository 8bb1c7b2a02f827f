//! The HTTP interface over a real store: what INTERFACE.md promises, asked for over a socket.
#![expect(clippy::unwrap_used, reason = "what goes wrong here fails the test")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use engram_core::episode::limits;
use engram_core::{Options, Store};
use engram_server::{Config, MetricsExporter, Opening};
use serde_json::{Value, json};
use support::{Answer, Client, Running};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const EPISODES: &str = "/v1/spaces/s/episodes";
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];
const NDJSON: [(&str, &str); 1] = [("content-type", "application/x-ndjson")];

fn opening(dir: &Path) -> Opening {
    let options = Options {
        segment_bytes: limits::SEGMENT_BYTES_MIN,
        queue_max: 1024,
        compact_automatically: false,
        recovery_threads: 1,
        ..Options::default()
    };
    let (progress, dir) = (Arc::clone(&options.progress), dir.to_owned());
    let open = Box::new(move || Store::open(dir, options));
    Opening { open, progress, durability: "always".into() }
}

/// A server over a new memory, and a connection to it.
async fn start() -> (TempDir, Running, Client) {
    let dir = TempDir::new().unwrap();
    let (server, client) = start_in(dir.path(), Config::default()).await;
    (dir, server, client)
}

async fn start_in(dir: &Path, config: Config) -> (Running, Client) {
    let server = Running::start(config, opening(dir), MetricsExporter::default()).await;
    let mut client = server.connect().await;
    loop {
        let answer = client.get("/readyz").await;
        if answer.status == 200 {
            return (server, client);
        }
        answer.problem(503, "recovering");
    }
}

impl Client {
    async fn post(&mut self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &JSON, body.to_string()).await
    }

    async fn delete(&mut self, path: &str) -> Answer {
        self.send("DELETE", path, &[], "").await
    }

    async fn whats(&mut self, path: &str) -> Vec<String> {
        let page = self.get(path).await.json();
        let whats = page["episodes"].as_array().unwrap().iter();
        whats.map(|episode| episode["what"].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test]
async fn who_asks_for_the_head_gets_it_alone() {
    let (_dir, server, mut client) = start().await;
    client.post(EPISODES, &json!({"id": "a", "what": "w"})).await;
    let path = format!("{EPISODES}/a");
    let head = client.send("HEAD", &path, &[], "").await;
    // Were a body sent all the same, the next answer would not be understood.
    let whole = client.get(&path).await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    assert_eq!(head.headers["content-length"], whole.body.len().to_string());
    assert_eq!(head.headers["etag"], whole.headers["etag"]);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn an_episode_is_kept_read_replaced_and_forgotten() {
    let (_dir, server, mut client) = start().await;
    let episode = json!({"id": "i/ä 1", "what": "w", "when": "2026-01-31T12:00:00Z",
        "where": "p", "who": ["ann"], "embedding": [1.0, -0.1], "confidence": 0.3,
        "metadata": {"k": 1}});
    let kept = client.post(EPISODES, &episode).await;
    assert_eq!(kept.status, 201);
    let lsn = kept.json()["lsn"].as_u64().unwrap();
    assert_eq!(kept.json(), json!({"id": "i/ä 1", "space": "s", "lsn": lsn}));
    assert_eq!(kept.headers["etag"], format!("\"{lsn}\""));

    let path = format!("{EPISODES}/i%2F%C3%A4%201");
    let got = client.get(&path).await;
    assert_eq!(got.status, 200);
    let mut answer = got.json();
    assert!(answer.as_object_mut().unwrap().remove("recorded_at").is_some());
    let mut expected = episode.clone();
    expected["space"] = json!("s");
    expected["lsn"] = json!(lsn);
    // Numbers of an embedding come back as the shortest text of the f32 that they are.
    assert_eq!(answer, expected);
    let base64 = client.get(&format!("{path}?embedding=base64")).await.json();
    assert_eq!(base64["embedding"], "AACAP83MzL0=");
    let none = client.get(&format!("{path}?embedding=none")).await.json();
    assert_eq!(none.get("embedding"), None);
    let tag = format!("\"{lsn}\"");
    let unchanged = client.send("GET", &path, &[("if-none-match", &tag)], "").await;
    assert_eq!((unchanged.status.as_u16(), unchanged.body.len()), (304, 0));

    let replaced = client.post(EPISODES, &json!({"id": "i/ä 1", "what": "v"})).await;
    assert_eq!(replaced.status, 200);
    assert!(replaced.json()["lsn"].as_u64().unwrap() > lsn);
    assert_eq!(client.delete(&path).await.status, 204);
    client.delete(&path).await.problem(404, "no-episode");
    client.get(&path).await.problem(404, "no-episode");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn an_episode_without_an_id_gets_one() {
    let (_dir, server, mut client) = start().await;
    let kept = client.post(EPISODES, &json!({"what": "w"})).await;
    let id = kept.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(client.get(&format!("{EPISODES}/{id}")).await.json()["what"], "w");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn an_episode_named_batch_is_one_like_any_other() {
    let (_dir, server, mut client) = start().await;
    client.post(EPISODES, &json!({"id": "batch", "what": "w"})).await;
    let path = format!("{EPISODES}/batch");
    assert_eq!(client.get(&path).await.json()["what"], "w");
    assert_eq!(client.delete(&path).await.status, 204);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn preconditions_are_held() {
    let (_dir, server, mut client) = start().await;
    let body = json!({"id": "i", "what": "w"}).to_string();
    let absent = [("if-none-match", "*")];
    let first = client.send("POST", EPISODES, &absent, body.clone()).await;
    assert_eq!(first.status, 201);
    client.send("POST", EPISODES, &absent, body.clone()).await.problem(412, "precondition");
    let tag = first.headers["etag"].to_str().unwrap().to_owned();
    let matching = [("if-match", tag.as_str())];
    assert_eq!(client.send("POST", EPISODES, &matching, body.clone()).await.status, 200);
    client.send("POST", EPISODES, &matching, body).await.problem(412, "precondition");
    let path = format!("{EPISODES}/i");
    client.send("DELETE", &path, &matching, "").await.problem(412, "precondition");
    assert_eq!(client.get(&path).await.status, 200);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn bad_input_is_refused_with_field_bound_and_value_and_changes_nothing() {
    let (_dir, server, mut client) = start().await;
    client.post(EPISODES, &json!({"id": "i", "what": "w", "embedding": [1, 2]})).await;
    let before = client.get("/v1/wal").await.json()["head_lsn"].as_u64().unwrap();
    let cases = [
        (json!({"what": ""}), 422, "limit", "what"),
        (json!({"what": "w".repeat(limits::WHAT_BYTES_MAX + 1)}), 413, "too-large", "what"),
        (json!({"what": "w", "id": ""}), 422, "limit", "id"),
        (json!({"what": "w", "id": "i".repeat(257)}), 413, "too-large", "id"),
        (json!({"what": "w", "confidence": 1.1}), 422, "limit", "confidence"),
        (json!({"what": "w", "embedding": [1, 2, 3]}), 409, "dimension", "embedding"),
        (json!({"what": "w", "embedding": [1e39, 2]}), 422, "limit", "embedding"),
        (json!({"what": "w", "metadata": [1]}), 422, "limit", "metadata"),
        (json!({"what": "w", "colour": "red"}), 400, "malformed", "colour"),
        (json!({"what": 5}), 400, "malformed", "what"),
    ];
    for (body, status, slug, field) in cases {
        let problem = client.post(EPISODES, &body).await.problem(status, slug);
        assert_eq!(problem["field"], field);
        assert!(problem["bound"].is_string() && problem["value"].is_string(), "{problem}");
    }
    let body = json!({"what": "w"});
    let problem = client.post("/v1/spaces/Bad/episodes", &body).await.problem(422, "limit");
    assert_eq!(problem["field"], "space");
    let long = format!("{EPISODES}?limit=1001");
    assert_eq!(client.get(&long).await.problem(422, "limit")["field"], "limit");
    // An idle mark may have come meanwhile.
    let after = client.get("/v1/wal").await.json()["head_lsn"].as_u64().unwrap();
    assert!((before..=before + 1).contains(&after), "{before} became {after}");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn the_largest_legal_episode_fits_however_it_is_escaped() {
    let (_dir, server, mut client) = start().await;
    let what = "\u{1}".repeat(limits::WHAT_BYTES_MAX);
    let embedding = vec![-0.123_456_78; limits::DIMENSIONS_MAX];
    let body = json!({"id": "i", "what": what, "embedding": embedding,
        "metadata": {"m": "m".repeat(limits::METADATA_BYTES_MAX - 8)}});
    assert_eq!(client.post(EPISODES, &body).await.status, 201);
    let got = client.get(&format!("{EPISODES}/i")).await.json();
    assert_eq!(got["what"].as_str().unwrap(), what);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_batch_keeps_the_good_and_names_the_bad() {
    let (_dir, server, mut client) = start().await;
    let batch = format!("{EPISODES}/batch");
    let lines = "{\"id\":\"a\",\"what\":\"a\"}\nnonsense\n{\"id\":\"b\",\"what\":\"\"}\n\
                 {\"id\":\"c\",\"what\":\"c\"}\n";
    let array = "[{\"id\":\"a\",\"what\":\"a\"},[],{\"id\":\"b\",\"what\":\"\"},\
                 {\"id\":\"c\",\"what\":\"c\"}]";
    for (headers, body) in [(&NDJSON, lines), (&JSON, array)] {
        let answer = client.send("POST", &batch, headers, body).await;
        assert_eq!(answer.status, 200);
        let outcome = answer.json();
        assert_eq!(outcome["accepted"], 2, "{outcome}");
        assert!(outcome["last_lsn"].as_u64() > outcome["first_lsn"].as_u64(), "{outcome}");
        let rejected = outcome["rejected"].as_array().unwrap();
        let told: Vec<_> = rejected.iter().map(|one| (&one["index"], &one["error"])).collect();
        assert_eq!(told.len(), 2, "{outcome}");
        assert_eq!((told[0].0, &told[0].1["type"]), (&json!(1), &json!("/problems/malformed")));
        assert_eq!((told[1].0, &told[1].1["type"]), (&json!(2), &json!("/problems/limit")));
        assert_eq!(told[1].1["field"], "what");
    }
    let skip = [("content-type", "application/x-ndjson"), ("if-none-match", "*")];
    let more = "{\"id\":\"a\",\"what\":\"other\"}\n{\"id\":\"d\",\"what\":\"d\"}\n";
    let outcome = client.send("POST", &batch, &skip, more).await.json();
    assert_eq!(outcome["accepted"], 1, "{outcome}");
    assert_eq!(outcome["rejected"][0]["error"]["type"], "/problems/precondition", "{outcome}");
    assert_eq!(client.get(&format!("{EPISODES}/a")).await.json()["what"], "a");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn lists_are_newest_first_filtered_and_paged() {
    let (_dir, server, mut client) = start().await;
    for day in 1..=5 {
        let body = json!({"what": format!("day {day}"), "when": format!("2026-01-0{day}T00:00:00Z"),
            "who": [if day % 2 == 0 { "ann" } else { "bob" }], "where": "home", "embedding": [1]});
        assert_eq!(client.post(EPISODES, &body).await.status, 201);
    }
    assert_eq!(client.whats(EPISODES).await, ["day 5", "day 4", "day 3", "day 2", "day 1"]);
    let path = format!("{EPISODES}?from=2026-01-02T00:00:00Z&to=2026-01-05T00:00:00%2B00:00");
    assert_eq!(client.whats(&path).await, ["day 4", "day 3", "day 2"]);
    let path = format!("{EPISODES}?who=ann&where=home");
    assert_eq!(client.whats(&path).await, ["day 4", "day 2"]);
    let mut cursor = None;
    let mut seen = Vec::new();
    loop {
        let from = cursor.map_or(String::new(), |cursor: String| format!("&cursor={cursor}"));
        let page = client.get(&format!("{EPISODES}?limit=2{from}")).await.json();
        for episode in page["episodes"].as_array().unwrap() {
            assert_eq!(episode.get("embedding"), None, "lists leave embeddings out");
            seen.push(episode["what"].as_str().unwrap().to_owned());
        }
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = Some(next.to_owned());
    }
    assert_eq!(seen, ["day 5", "day 4", "day 3", "day 2", "day 1"]);
    client.get("/v1/spaces/none/episodes").await.problem(404, "no-space");
    let other_bytes = client.get(&format!("{EPISODES}?who=%FF")).await;
    assert_eq!(other_bytes.problem(400, "malformed")["field"], "who");
    let no_time = client.get(&format!("{EPISODES}?from=soon")).await;
    let told = no_time.problem(400, "malformed")["detail"].to_string();
    assert!(told.contains("from") && !told.contains("stored"), "{told}");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_space_is_listed_and_forgotten_whole() {
    let (_dir, server, mut client) = start().await;
    for what in ["a", "b"] {
        client.post(EPISODES, &json!({"what": what})).await;
    }
    let spaces = client.get("/v1/spaces").await.json();
    assert_eq!(spaces["spaces"][0]["name"], "s");
    assert_eq!(spaces["spaces"][0]["episodes"], 2);
    let figures = client.get("/metrics").await;
    let text = String::from_utf8(figures.body.to_vec()).unwrap();
    assert!(text.contains("engram_space_episodes{space=\"s\"} 2\n"), "{text}");
    for (name, value) in [("if-match", "\"1\""), ("if-none-match", "*")] {
        let refused = client.send("DELETE", "/v1/spaces/s", &[(name, value)], "").await;
        assert_eq!(refused.problem(400, "malformed")["field"], name);
    }
    let forgotten = client.delete("/v1/spaces/s").await;
    assert_eq!((forgotten.status.as_u16(), &forgotten.json()["episodes"]), (200, &json!(2)));
    client.delete("/v1/spaces/s").await.problem(404, "no-space");
    assert_eq!(client.get("/v1/spaces").await.json(), json!({"spaces": []}));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn the_log_tells_about_itself() {
    let (_dir, server, mut client) = start().await;
    for _ in 0..3 {
        client.post(EPISODES, &json!({"id": "i", "what": "w"})).await;
    }
    let wal = client.get("/v1/wal").await.json();
    assert_eq!(wal["state"], "ready");
    assert_eq!(wal["head_lsn"], wal["synced_lsn"]);
    assert!(wal["dead_bytes"].as_u64() > Some(0), "{wal}");
    let report = client.get("/v1/wal/recovery").await.json();
    assert_eq!((&report["recovered"], &report["mode"]), (&json!(0), &json!("salvage")));
    assert_eq!(client.get("/v1/wal/incidents").await.json(), json!({"incidents": []}));
    assert_eq!(client.get("/v1/wal/quarantine").await.json(), json!({"items": []}));
    let stats = client.send("POST", "/v1/wal/compact", &[], "").await;
    assert_eq!((stats.status.as_u16(), &stats.json()["reason"]), (200, &json!("requested")));
    let path = "/v1/wal/quarantine/none/restore";
    client.send("POST", path, &[], "").await.problem(404, "not-found");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_stop_and_a_start() {
    let (dir, server, mut client) = start().await;
    client.post(EPISODES, &json!({"id": "i", "what": "w"})).await;
    server.stop().await.unwrap();
    let (server, mut client) = start_in(dir.path(), Config::default()).await;
    assert_eq!(client.get(&format!("{EPISODES}/i")).await.json()["what"], "w");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_stalled_or_oversized_body_is_refused_and_others_go_on() {
    let dir = TempDir::new().unwrap();
    let config = Config { body_timeout: Duration::from_millis(50), ..Config::default() };
    let (server, mut client) = start_in(dir.path(), config).await;
    let cases = [
        ("content-length: 100\r\n\r\n{\"what\":", "HTTP/1.1 408 ", "/problems/timeout"),
        ("transfer-encoding: chunked\r\n\r\n5\r\n{\"wha", "HTTP/1.1 408 ", "/problems/timeout"),
        ("content-length: 99999999\r\n\r\n{", "HTTP/1.1 413 ", "/problems/too-large"),
        // What came fast earns no minutes for the rest.
        (
            &format!("content-length: 4000000\r\n\r\n{}", " ".repeat(3_900_000)),
            "HTTP/1.1 408 ",
            "/problems/timeout",
        ),
    ];
    for (rest, status, slug) in cases {
        let mut stalled = TcpStream::connect(server.address).await.unwrap();
        let head = format!("POST {EPISODES} HTTP/1.1\r\nhost: engram\r\nconnection: close\r\n");
        stalled.write_all(format!("{head}{rest}").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stalled.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with(status) && answer.contains(slug), "{rest}: {answer}");
        assert_eq!(client.post(EPISODES, &json!({"what": "w"})).await.status, 201);
    }
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_read_slowly_is_whole_though_the_server_stops() {
    let (_dir, server, mut client) = start().await;
    for n in 0..7 {
        let body = json!({"id": n.to_string(), "what": "w".repeat(1 << 20)});
        assert_eq!(client.post(EPISODES, &body).await.status, 201);
    }
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    let head = format!("GET {EPISODES} HTTP/1.1\r\nhost: engram\r\nconnection: close\r\n\r\n");
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 1000];
    slow.read_exact(&mut answer).await.unwrap();
    let stopping = tokio::spawn(server.stop());
    // So long a connection may stay that has nothing under way.
    let _closed_or_reset = idle.read_to_end(&mut Vec::new()).await;
    slow.read_to_end(&mut answer).await.unwrap();
    assert!(answer.len() > 7 << 20 && answer.ends_with(b"}"), "{} bytes came", answer.len());
    stopping.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_while_the_server_stops_is_kept() {
    let (dir, server, _client) = start().await;
    let (acknowledge, mut acknowledged) = tokio::sync::mpsc::unbounded_channel();
    for writer in 0..32 {
        let mut client = server.connect().await;
        let acknowledge = acknowledge.clone();
        tokio::spawn(async move {
            for number in 0.. {
                let id = format!("{writer}-{number}");
                let body = json!({"id": id, "what": "w"}).to_string();
                match client.try_send("POST", EPISODES, &JSON, body).await {
                    Ok(answer) if answer.status == 201 => acknowledge.send(id).unwrap(),
                    _ => return,
                }
            }
        });
    }
    drop(acknowledge);
    let mut ids = vec![acknowledged.recv().await.unwrap()];
    server.stop().await.unwrap();
    while let Some(id) = acknowledged.recv().await {
        ids.push(id);
    }
    let (server, mut client) = start_in(dir.path(), Config::default()).await;
    for id in ids {
        assert_eq!(client.get(&format!("{EPISODES}/{id}")).await.status, 200, "{id}");
    }
    server.stop().await.unwrap();
}
