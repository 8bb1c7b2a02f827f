//! Serving while there is no store: opening, failing to open, clients that stall.

mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use engram_core::{Error, Options, Result, Store};
use engram_server::{Config, MetricsExporter, Opening};
use support::Running;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn opening(open: impl FnOnce() -> Result<Store> + Send + 'static) -> Opening {
    Opening { open: Box::new(open), progress: Arc::default(), durability: "always".into() }
}

/// An opening that fails when the sender is dropped, and not sooner.
fn held() -> (mpsc::Sender<()>, Opening) {
    let (hold, until_dropped) = mpsc::channel();
    let opening = opening(move || {
        let _dropped = until_dropped.recv();
        Err(locked())
    });
    (hold, opening)
}

fn locked() -> Error {
    Error::Locked { path: PathBuf::from("d/LOCK") }
}

async fn start(config: Config, opening: Opening) -> Running {
    Running::start(config, opening, MetricsExporter::default()).await
}

#[tokio::test]
async fn it_lives_before_it_is_ready_and_tells_how_far_recovery_is() {
    let (hold, opening) = held();
    opening.progress.bytes_total.store(200, Ordering::Relaxed);
    opening.progress.bytes_done.store(50, Ordering::Relaxed);
    let server = start(Config::default(), opening).await;
    let mut client = server.connect().await;
    assert_eq!(client.get("/livez").await.status, 200);
    let answer = client.get("/readyz").await;
    let problem = answer.problem(503, "recovering");
    assert_eq!(problem["progress"], serde_json::json!({"bytes_done": 50, "bytes_total": 200}));
    assert_eq!(answer.headers["retry-after"], "1");
    drop(hold);
    assert!(matches!(server.ended().await, Err(Error::Locked { .. })));
}

#[tokio::test]
async fn a_stop_does_not_wait_for_recovery() {
    let (hold, opening) = held();
    let server = start(Config::default(), opening).await;
    server.connect().await.get("/livez").await;
    assert!(server.stop().await.is_ok());
    drop(hold);
}

#[tokio::test]
async fn a_gap_in_the_log_is_told_at_readyz_until_the_server_is_stopped() {
    let why = "wal/1.log is gone".to_owned();
    let gap = opening(move || Err(Error::Missing { first: 5, last: 9, why }));
    let server = start(Config::default(), gap).await;
    let mut client = server.connect().await;
    // The first answers may come while opening is still under way.
    let problem = loop {
        let answer = client.get("/readyz").await;
        if answer.json()["type"] != "/problems/recovering" {
            break answer.problem(503, "gap");
        }
    };
    assert!(problem["detail"].as_str().unwrap().contains("--accept-loss 5-9"), "{problem}");
    assert_eq!(client.get("/livez").await.status, 200);
    assert!(server.stop().await.is_ok(), "it was told already, and a stop was asked for");
}

#[tokio::test]
async fn a_gap_ends_serving_when_so_configured() {
    let gap = opening(|| Err(Error::Missing { first: 5, last: 9, why: String::new() }));
    let config = Config { stay_when_log_has_gap: false, ..Config::default() };
    assert!(matches!(start(config, gap).await.ended().await, Err(Error::Missing { .. })));
}

#[tokio::test]
async fn a_panic_while_opening_ends_serving_with_an_error() {
    let broken = opening(|| panic!("a defect"));
    let outcome = start(Config::default(), broken).await.ended().await;
    assert!(matches!(outcome, Err(Error::Io { action: "open", .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_head_that_never_ends_costs_only_its_own_connection() {
    let (hold, opening) = held();
    let header_read_timeout = Duration::from_millis(50);
    let server = start(Config { header_read_timeout, ..Config::default() }, opening).await;
    let mut stalled = TcpStream::connect(server.address).await.unwrap();
    stalled.write_all(b"GET /livez HTTP/1.1\r\nhost: engram\r\nx-").await.unwrap();
    let mut rest = Vec::new();
    // Ends when the server closes the connection.
    let _reset_or_end = stalled.read_to_end(&mut rest).await;
    assert_eq!(server.connect().await.get("/livez").await.status, 200);
    server.stop().await.unwrap();
    drop(hold);
}

#[tokio::test]
async fn when_connections_run_out_the_idlest_gives_way_to_newcomers() {
    let (hold, opening) = held();
    let server = start(Config { connections_max: 4, ..Config::default() }, opening).await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(TcpStream::connect(server.address).await.unwrap());
        // Each newcomer is served, however many idle.
        assert_eq!(server.connect().await.get("/livez").await.status, 200);
    }
    // The first of them was asked to leave: its connection has come to an end.
    assert_eq!(idle[0].read(&mut [0; 8]).await.unwrap_or(0), 0);
    server.stop().await.unwrap();
    drop(hold);
}

#[tokio::test]
async fn a_stop_waits_only_so_long_for_clients_that_stall() {
    let (hold, opening) = held();
    let shutdown_timeout = Duration::from_millis(50);
    let server = start(Config { shutdown_timeout, ..Config::default() }, opening).await;
    let mut stalled = TcpStream::connect(server.address).await.unwrap();
    stalled.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
    server.connect().await.get("/livez").await;
    server.stop().await.unwrap();
    assert_eq!(stalled.read(&mut [0; 8]).await.unwrap_or(0), 0);
    drop(hold);
}

#[tokio::test]
async fn a_client_that_sends_all_before_it_listens_still_hears_the_refusal() {
    let (hold, opening) = held();
    let server = start(Config::default(), opening).await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    let body = vec![b'x'; 20 << 20];
    let head = "POST /v1/spaces/s/episodes HTTP/1.1\r\nhost: engram\r\ncontent-length: ";
    for _ in 0..2 {
        client.write_all(format!("{head}{}\r\n\r\n", body.len()).as_bytes()).await.unwrap();
        client.write_all(&body).await.unwrap();
        let mut status = [0; 12];
        client.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 503");
        // The rest of the answer, up to the end of its JSON; the connection is then free again.
        while client.read_u8().await.unwrap() != b'}' {}
        assert_eq!(client.read_u8().await.unwrap(), b'}');
    }
    server.stop().await.unwrap();
    drop(hold);
}

#[tokio::test]
async fn a_client_that_was_told_to_go_on_still_hears_that_it_said_too_much() {
    const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
    const PIECE_BYTES: usize = 1 << 20;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let server = start(Config::default(), opening(|| Store::open(path, Options::default()))).await;
    while server.connect().await.get("/readyz").await.status != 200 {}
    let mut client = TcpStream::connect(server.address).await.unwrap();
    let piece =
        [format!("{PIECE_BYTES:x}\r\n").into_bytes(), vec![b'x'; PIECE_BYTES], b"\r\n".into()];
    let piece = piece.concat();
    for (expects, answer) in [("100-continue", CONTINUE), ("the best", b"")] {
        let head =
            "POST /v1/spaces/s/episodes HTTP/1.1\r\nhost: engram\r\ntransfer-encoding: chunked";
        client.write_all(format!("{head}\r\nexpect: {expects}\r\n\r\n").as_bytes()).await.unwrap();
        let mut told = vec![0; answer.len()];
        client.read_exact(&mut told).await.unwrap();
        assert_eq!(told, answer, "{expects}");
        for _ in 0..24 {
            client.write_all(&piece).await.unwrap();
        }
        client.write_all(b"0\r\n\r\n").await.unwrap();
        let mut status = [0; 12];
        client.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 413", "{expects}");
        // Up to the end of its JSON; the connection is then free again.
        while client.read_u8().await.unwrap() != b'}' {}
    }
    server.stop().await.unwrap();
}
