//! The server is killed while it saves its indexes, again and again on one directory; and the saved
//! files are flipped and cut. What is recalled afterwards is what a server recalls that finds no
//! saved index at all.
//!
//! `ENGRAM_INDEX_KILLS` says how often it is killed, `ENGRAM_INDEX_FLIPS` how often a file is hit
//! (`make index-kill-test`).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helper fails the test")]
#![allow(clippy::print_stdout, reason = "the long form tells what it met")]

mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::http::Http;
use support::live::{Live, complaints, wait_for};
use support::rng::Rng;
use support::{chat, files};

/// Enough of each space that its vectors are saved.
const EPISODES: usize = 2_600;
const DIMENSION: usize = 24;

fn times(name: &str, gate: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(gate)
}

fn embedding(n: u64) -> Vec<f64> {
    let mut state = n;
    let mut component = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(state >> 40).unwrap()) / f64::from(1 << 23) - 1.0
    };
    (0..DIMENSION).map(|_| component()).collect()
}

/// The episode of a number, in its so-manieth version.
fn episode(sample: &[Value], space: &str, n: usize, version: u64) -> Value {
    let place = n + usize::try_from(version).unwrap() * 131;
    let words = |at: usize| sample[at % sample.len()]["what"].as_str().unwrap();
    let what = format!("{} {} {n} of {version}", words(place), words(place * 7 + 3));
    let mut episode = json!({
        "id": format!("e{n}"), "what": what, "who": [format!("someone {}", n % 40)],
        "when": "2026-01-01T00:00:00Z",
    });
    if space == "given" {
        episode["embedding"] = json!(embedding(n as u64 * 1000 + version));
    }
    episode
}

fn keep(http: &mut Http, space: &str, episodes: &[Value]) {
    let path = format!("/v1/spaces/{space}/episodes/batch");
    let reply = http.must("POST", &path, Value::from(episodes.to_vec()).to_string().as_bytes());
    assert_eq!(reply.json()["accepted"], episodes.len(), "{}", reply.text());
}

const SPACES: [&str; 2] = ["made", "given"];

/// What a server recalls, as far as no clock has a part in it.
fn answers(server: &Live) -> Vec<String> {
    let mut http = server.http();
    let weights = json!({"recency": 0});
    let mut cues = vec![
        ("given", json!({"embedding": embedding(3), "limit": 50, "weights": weights})),
        ("given", json!({"embedding": embedding(77_007), "who": "someone 7", "weights": weights})),
        ("made", json!({"text": "what did you do at the weekend?", "weights": weights})),
        ("made", json!({"text": "music", "who": "someone 3", "weights": weights})),
        ("made", json!({"text": "food", "weights": {"text": 0, "recency": 0}, "limit": 100})),
    ];
    for space in SPACES {
        cues.push((space, json!({"who": "someone 12", "limit": 1000})));
        cues.push((space, json!({"text": "guitar weekend", "limit": 20, "weights": weights})));
    }
    let mut told = Vec::new();
    for (space, cue) in cues {
        let path = format!("/v1/spaces/{space}/recall");
        let answer = wait_for("the whole answer", || {
            let reply = http.must("POST", &path, cue.to_string().as_bytes());
            assert_eq!(reply.status, 200, "{cue}: {}", reply.text());
            Some(reply.json()).filter(|answer| answer.get("pending").is_none())
        });
        let one = |one: &Value| {
            format!("{} {} {:.4}", one["episode"]["id"], one["episode"]["lsn"], one["score"])
        };
        let episodes = answer["episodes"].as_array().unwrap();
        assert!(!episodes.is_empty(), "{cue}");
        let all: Vec<String> = episodes.iter().map(one).collect();
        told.push(format!("{cue}: {all:?}"));
    }
    told
}

/// Fails with the first answer that differs. (Cues are such that no two texts are equally good where
/// the candidates end: which of them is left out is decided by where they stand in memory.)
fn same(answers: &[String], truth: &[String], told: &str) {
    for (answer, truth) in answers.iter().zip(truth) {
        assert_eq!(answer, truth, "{told}");
    }
    assert_eq!(answers.len(), truth.len());
}

/// What a directory answers, and what it answers without its saved indexes.
fn compare(dir: &Path, data: &Path, told: &str) -> Live {
    let bare = dir.join("bare");
    files::copy(data, &bare);
    fs::remove_dir_all(bare.join("index")).ok();
    let server = Live::start(dir, &bare, &[]);
    let truth = answers(&server);
    assert_eq!(complaints(&server.kill()), [""; 0]);
    fs::remove_dir_all(&bare).unwrap();
    let server = Live::start(dir, data, &[]);
    same(&answers(&server), &truth, told);
    assert_eq!(server.complaints(), [""; 0], "{told}");
    server
}

fn half_written(data: &Path) -> Vec<PathBuf> {
    let all = files::below(&data.join("index")).into_iter();
    all.filter(|path| path.extension().is_some_and(|end| end == "tmp")).collect()
}

fn begun(dir: &Path, data: &Path, sample: &[Value]) -> Live {
    let server = Live::start(dir, data, &[]);
    for space in SPACES {
        let all: Vec<Value> = (0..EPISODES).map(|n| episode(sample, space, n, 0)).collect();
        keep(&mut server.http(), space, &all);
    }
    answers(&server);
    server
}

#[test]
fn killed_while_it_saves_its_indexes_a_server_recalls_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut rng = Rng::of_this_run();
    let sample = chat::sample();
    let mut server = begun(dir.path(), &data, &sample);
    let (mut halves, mut ended) = (0, 0);
    let rounds = times("ENGRAM_INDEX_KILLS", 3);
    for round in 1.. {
        // Some come too late.
        if round > rounds && (halves > 0 || round > rounds + 20) {
            break;
        }
        for space in SPACES {
            let some = (0..40).map(|_| episode(&sample, space, rng.index(EPISODES), round));
            let some: Vec<Value> = some.collect();
            let mut http = server.http();
            keep(&mut http, space, &some);
            for _ in 0..3 {
                let path = format!("/v1/spaces/{space}/episodes/e{}", rng.below(EPISODES as u64));
                let reply = http.must("DELETE", &path, b"");
                assert!(matches!(reply.status, 204 | 404), "{}", reply.text());
            }
        }
        answers(&server);
        // From the moment that half a file is there, a little while; sometimes for the second one.
        let (skipped, spins) = (rng.below(2), rng.below(40_000));
        let mut over = false;
        let log = server.kill_while_closing(|has_ended| {
            let mut seen = Vec::new();
            while seen.len() < 1 + usize::try_from(skipped).unwrap() && !over {
                for path in half_written(&data) {
                    if !seen.contains(&path) {
                        seen.push(path);
                    }
                }
                over = has_ended();
            }
            (0..spins).for_each(|_| std::hint::spin_loop());
        });
        assert_eq!(complaints(&log), [""; 0], "round {round}");
        halves += u64::from(!half_written(&data).is_empty());
        ended += u64::from(over);
        server = compare(dir.path(), &data, &format!("round {round}"));
    }
    println!("killed with half a file: {halves}, too late: {ended}");
    assert!(halves > 0, "none was killed with half a file");
    server.stop_cleanly();
    assert_eq!(half_written(&data), Vec::<PathBuf>::new(), "litter");
    assert_eq!(files::below(&data.join("index")).len(), SPACES.len());
    compare(dir.path(), &data, "at the end").stop_cleanly();
}

#[test]
fn flipped_or_cut_indexes_change_no_answer_of_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut rng = Rng::of_this_run();
    begun(dir.path(), &data, &chat::sample()).stop_cleanly();
    let good: Vec<(PathBuf, Vec<u8>)> = files::below(&data.join("index"))
        .into_iter()
        .map(|path| (path.clone(), fs::read(&path).unwrap()))
        .collect();
    assert_eq!(good.len(), SPACES.len());
    let server = Live::start(dir.path(), &data, &[]);
    let truth = answers(&server);
    server.kill();
    for round in 0..times("ENGRAM_INDEX_FLIPS", 4) {
        let mut told = String::new();
        for (path, bytes) in &good {
            let (mut bytes, at) = (bytes.clone(), rng.index(bytes.len()));
            match round % 4 {
                0 => bytes[at] ^= 1 << rng.below(8),
                1 => bytes.truncate(at),
                2 => bytes[at..].iter_mut().take(4096).for_each(|byte| *byte = 0),
                _ => {
                    let from = rng.index(bytes.len() - 512);
                    let sector = bytes[from..from + 512].to_vec();
                    let at = at.min(bytes.len() - 512);
                    bytes[at..at + 512].copy_from_slice(&sector);
                }
            }
            write!(told, "{} at {at}, {} bytes; ", path.display(), bytes.len()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let server = Live::start(dir.path(), &data, &[]);
        same(&answers(&server), &truth, &format!("round {round}: {told}"));
        assert_eq!(complaints(&server.kill()), [""; 0], "round {round}: {told}");
    }
}
