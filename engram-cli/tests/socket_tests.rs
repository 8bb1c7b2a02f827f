//! Clients that are slow, half gone, gone, or far too many: the others go on.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helper fails the test")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use support::http::{Http, connect, read_reply};
use support::live::{Live, wait_for};

const PATH: &str = "/v1/spaces/default/episodes";

fn remember(http: &mut Http, id: &str) {
    let reply = http.must("POST", PATH, json!({"id": id, "what": id}).to_string().as_bytes());
    assert_eq!(reply.status, 201, "{}", reply.text());
}

fn open(server: &Live) -> TcpStream {
    connect(server.url.trim_start_matches("http://")).unwrap().into_inner()
}

/// A request of a body that is `length` long, of which `sent` is sent.
fn partial(server: &Live, length: usize, sent: &[u8]) -> TcpStream {
    let mut stream = open(server);
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(sent).unwrap();
    stream
}

#[test]
fn clients_that_stall_in_head_or_body_hold_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let server = Live::start(dir.path(), &dir.path().join("data"), &[]);
    let mut stalled = Vec::new();
    for number in 0..200 {
        stalled.push(partial(&server, 1_000, b"{\"what\":\"never "));
        let mut head = open(&server);
        head.write_all(b"POST /v1/spaces/default/episodes HTTP/1.1\r\nho").unwrap();
        stalled.push(head);
        // One byte more each now and then, as such clients do.
        for stream in stalled.iter_mut().rev().take(4) {
            stream.write_all(b"x").unwrap();
        }
        remember(&mut server.http(), &format!("beside-{number}"));
    }
    assert_eq!(server.http().episodes("default").len(), 200, "no half request was kept");
    let began = Instant::now();
    let (status, log) = server.stop();
    assert_eq!(status.code(), Some(0), "{log:?}");
    assert!(began.elapsed() < Duration::from_secs(30), "stalled clients keep it from stopping");
}

#[test]
#[ignore = "waits for the real time limits (30 s); make crowd-test runs it"]
fn slow_heads_and_bodies_are_ended() {
    let dir = tempfile::tempdir().unwrap();
    let server = Live::start(dir.path(), &dir.path().join("data"), &[]);
    let began = Instant::now();
    let body = partial(&server, 1_000, b"{");
    let mut head = open(&server);
    head.write_all(b"GET / HT").unwrap();
    let reply = read_reply(&mut std::io::BufReader::new(body)).unwrap();
    assert_eq!(reply.status, 408, "{}", reply.text());
    assert_eq!(reply.json()["type"], "/problems/timeout");
    let mut rest = Vec::new();
    head.read_to_end(&mut rest).unwrap();
    assert!(began.elapsed() < Duration::from_secs(50), "{:?}", began.elapsed());
    remember(&mut server.http(), "after");
}

#[test]
fn a_half_closed_client_gets_its_answer() {
    let dir = tempfile::tempdir().unwrap();
    let server = Live::start(dir.path(), &dir.path().join("data"), &[]);
    let body = br#"{"id":"half","what":"said, and nothing more to say"}"#;
    for _ in 0..20 {
        let stream = partial(&server, body.len(), body);
        stream.shutdown(Shutdown::Write).unwrap();
        match read_reply(&mut std::io::BufReader::new(stream)) {
            Ok(reply) => assert!(matches!(reply.status, 200 | 201), "{}", reply.text()),
            Err(e) => panic!("no answer to a client that had said all: {e}"),
        }
    }
    let half = partial(&server, 1_000, b"{\"id\":\"never\",");
    half.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    let _read = (&half).read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    let there = server.http().episodes("default");
    assert_eq!(there.keys().collect::<Vec<_>>(), ["half"]);
}

#[test]
fn clients_that_go_away_harm_nobody_and_leave_whole_episodes_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let server = Live::start(dir.path(), &dir.path().join("data"), &[]);
    let mut http = server.http();
    for number in 0..300 {
        let body = json!({"id": format!("gone-{number}"), "what": "x".repeat(5_000)}).to_string();
        let sent = body.len() * (number % 4) / 3;
        drop(partial(&server, body.len(), &body.as_bytes()[..sent]));
        if number % 10 == 0 {
            remember(&mut http, &format!("stayed-{number}"));
        }
    }
    let there = http.episodes("default");
    assert_eq!(there.keys().filter(|id| id.starts_with("stayed")).count(), 30);
    for (id, episode) in there.iter().filter(|(id, _)| id.starts_with("gone")) {
        let number: usize = id["gone-".len()..].parse().unwrap();
        assert_eq!(number % 4, 3, "{id} was not sent whole");
        assert_eq!(episode["what"].as_str().unwrap().len(), 5_000);
    }
    wait_for("the connections to be closed", || {
        let text = http.must("GET", "/metrics", b"").text();
        text.contains("engram_http_connections 1\n").then_some(())
    });
    let (status, log) = server.stop();
    assert_eq!(status.code(), Some(0));
    assert_eq!(support::live::complaints(&log), [""; 0], "clients that go are no event");
}

/// 2,000 in the gate; `ENGRAM_CROWD` says how many.
#[test]
fn thousands_of_idle_connections_hold_up_nobody() {
    let wanted = std::env::var("ENGRAM_CROWD").ok().and_then(|text| text.parse().ok());
    let wanted: u64 = wanted.unwrap_or(2_000);
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let room = limit.maximum.unwrap_or(u64::MAX);
    if room < wanted + 500 {
        let reason = format!("{wanted} connections need more descriptors than {room} (ulimit -n)");
        return support::faults::skip(&reason);
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Live::start(dir.path(), &dir.path().join("data"), &[]);
    let mut http = server.http();
    let mut idle = Vec::new();
    for number in 0..wanted {
        idle.push(open(&server));
        if number % 100 == 0 {
            remember(&mut http, &format!("while-{number}"));
        }
    }
    let fresh = format!("fresh-{wanted}");
    remember(&mut server.http(), &fresh);
    wait_for("all to be connected", || {
        let text = http.must("GET", "/metrics", b"").text();
        let gauge = text.lines().find_map(|line| line.strip_prefix("engram_http_connections "));
        (gauge.unwrap().parse::<u64>().unwrap() >= wanted).then_some(())
    });
    // Any of them may still become a client.
    for stream in idle.iter().step_by(usize::try_from(wanted / 20).unwrap()) {
        (&*stream).write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        assert_eq!(read_reply(&mut reader).unwrap().status, 200);
    }
    assert_eq!(http.episodes("default").len() as u64, wanted.div_ceil(100) + 1);
    let (status, log) = server.stop();
    assert_eq!(status.code(), Some(0));
    assert_eq!(support::live::complaints(&log), [""; 0]);
}
