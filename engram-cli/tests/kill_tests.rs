//! The server is killed at random moments under 32 clients, again and again on one directory:
//! what was acknowledged is there, byte for byte, and what was forgotten is not.
//!
//! `ENGRAM_KILL_ROUNDS` says how often (`make kill-test`: 20).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helper fails the test")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use serde_json::{Value, json};
use support::chat;
use support::http::Http;
use support::live::{Live, complaints};
use support::rng::Rng;

const CLIENTS: usize = 32;
const SPACE: &str = "chitchat";
/// Ids of each client: few, so that they are overwritten and forgotten often.
const IDS: u64 = 60;

/// What an episode may be now: one of these, `None` for not there. One alone when it is certain.
type Possible = Vec<Option<Value>>;
type Model = BTreeMap<String, Possible>;

/// A client between two runs of the server.
struct Client {
    number: usize,
    rng: Rng,
    model: Model,
    /// The highest LSN that was acknowledged.
    lsn: u64,
}

fn rounds() -> u64 {
    std::env::var("ENGRAM_KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

#[test]
fn sigkill_under_load_loses_nothing_at_the_default_segment_size() {
    kill_rounds(&[]);
}

#[test]
fn sigkill_under_load_loses_nothing_at_1_mib_segments() {
    kill_rounds(&["--segment-bytes", "1MiB"]);
}

fn kill_rounds(more: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut rng = Rng::of_this_run();
    let sample = chat::sample();
    let client = |number| Client { number, rng: rng.fork(), model: Model::new(), lsn: 0 };
    let mut clients: Vec<Client> = (0..CLIENTS).map(client).collect();
    let mut server = Live::start(dir.path(), &data, more);
    for round in 0..rounds() {
        let acknowledged = 200 + rng.below(3_000);
        let jitter = Duration::from_micros(rng.below(3_000));
        let (sender, told) = channel();
        let url = server.url.clone();
        std::thread::scope(|scope| {
            for client in &mut clients {
                let (url, sample, sender) = (&url, &sample, sender.clone());
                scope.spawn(move || client.run(url, sample, &sender));
            }
            drop(sender);
            let log = kill_after(server, &told, acknowledged, jitter);
            assert_eq!(complaints(&log), [""; 0], "round {round}: a running server complains");
        });
        // Now and then it is killed while it recovers, too.
        while rng.below(3) == 0 {
            let begun = Live::spawn(dir.path(), &data, more);
            pause(Duration::from_micros(rng.below(30_000)));
            let log = begun.kill();
            assert_eq!(complaints(&log), [""; 0], "round {round}: a recovery complains");
        }
        verify_offline(dir.path(), &data);
        server = Live::start(dir.path(), &data, more);
        assert_eq!(server.complaints(), [""; 0], "round {round}");
        check(&mut server.http(), &mut clients, round);
    }
    server.stop_cleanly();
    let server = Live::start(dir.path(), &data, more);
    assert_eq!(server.complaints(), [""; 0]);
    check(&mut server.http(), &mut clients, rounds());
}

fn pause(time: Duration) {
    let (_keep, never) = channel::<()>();
    assert!(never.recv_timeout(time).is_err(), "nobody sends");
}

/// Kills the server once so many changes were acknowledged, and a moment later.
fn kill_after(server: Live, told: &Receiver<()>, count: u64, jitter: Duration) -> Vec<String> {
    for _ in 0..count {
        told.recv().unwrap();
    }
    pause(jitter);
    server.kill()
}

fn verify_offline(dir: &Path, data: &Path) {
    let args = ["wal", "verify", "--json", "--data", data.to_str().unwrap()];
    let output = support::engram(dir).args(args).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "a kill is no damage: {}", support::stdout(&output));
}

impl Client {
    /// Changes until the server is gone.
    fn run(&mut self, url: &str, sample: &[Value], told: &Sender<()>) {
        let mut http = Http::new(url);
        loop {
            let done = match self.rng.below(10) {
                0 | 1 => self.forget(&mut http),
                2 => self.batch(&mut http, sample),
                _ => self.remember(&mut http, sample),
            };
            if done.is_err() {
                return;
            }
            // The receiver is gone once enough was acknowledged.
            told.send(()).ok();
        }
    }

    fn id(&mut self) -> String {
        format!("client-{}-{}", self.number, self.rng.below(IDS))
    }

    /// An episode of real messages: one, or many of a conversation.
    fn episode(&mut self, id: &str, sample: &[Value]) -> Value {
        let (first, count) = (self.rng.index(sample.len()), 1 + self.rng.index(40));
        let messages = sample.iter().cycle().skip(first).take(count);
        let what: Vec<&str> = messages.map(|message| message["what"].as_str().unwrap()).collect();
        let one = &sample[first];
        json!({
            "id": id, "what": what.join("\n"), "when": one["when"], "who": one["who"],
            "metadata": {"turn": self.rng.below(1 << 40)},
        })
    }

    /// What is sent may be there from now on.
    fn may_be(&mut self, id: &str, state: Option<Value>) {
        self.model.entry(id.into()).or_insert_with(|| vec![None]).push(state);
    }

    /// What was acknowledged is there and nothing else.
    fn is(&mut self, id: &str, state: Option<Value>) {
        self.model.insert(id.into(), vec![state]);
    }

    fn acknowledged(&mut self, lsn: u64) {
        assert!(lsn > self.lsn, "LSN {lsn} after {}", self.lsn);
        self.lsn = lsn;
    }

    fn remember(&mut self, http: &mut Http, sample: &[Value]) -> std::io::Result<()> {
        let id = self.id();
        let episode = self.episode(&id, sample);
        self.may_be(&id, Some(episode.clone()));
        let path = format!("/v1/spaces/{SPACE}/episodes");
        let reply = http.call("POST", &path, episode.to_string().as_bytes())?;
        assert!(matches!(reply.status, 200 | 201), "{}", reply.text());
        self.acknowledged(reply.json()["lsn"].as_u64().unwrap());
        self.is(&id, Some(episode));
        Ok(())
    }

    fn forget(&mut self, http: &mut Http) -> std::io::Result<()> {
        let id = self.id();
        let there = self.model.get(&id).is_some_and(|possible| possible[0].is_some());
        self.may_be(&id, None);
        let reply = http.call("DELETE", &format!("/v1/spaces/{SPACE}/episodes/{id}"), b"")?;
        assert_eq!(reply.status, if there { 204 } else { 404 }, "{id}: {}", reply.text());
        self.is(&id, None);
        Ok(())
    }

    fn batch(&mut self, http: &mut Http, sample: &[Value]) -> std::io::Result<()> {
        let first = self.rng.below(IDS - 20);
        let ids = (first..first + 1 + self.rng.below(20)).map(|n| (n, self.number));
        let ids: Vec<String> = ids.map(|(n, number)| format!("client-{number}-{n}")).collect();
        let batch: Vec<Value> = ids.iter().map(|id| self.episode(id, sample)).collect();
        for (id, episode) in ids.iter().zip(&batch) {
            self.may_be(id, Some(episode.clone()));
        }
        let path = format!("/v1/spaces/{SPACE}/episodes/batch");
        let body = Value::from(batch.clone()).to_string();
        let reply = http.call("POST", &path, body.as_bytes())?;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let answer = reply.json();
        assert_eq!(answer["accepted"], ids.len(), "{answer}");
        assert!(answer["first_lsn"].as_u64().unwrap() > self.lsn, "{answer}");
        self.acknowledged(answer["last_lsn"].as_u64().unwrap());
        for (id, episode) in ids.into_iter().zip(batch) {
            self.is(&id, Some(episode));
        }
        Ok(())
    }
}

/// Everything that is certain is so, everything else is one of what it may be, and is then known.
fn check(http: &mut Http, clients: &mut [Client], round: u64) {
    let mut there = http.episodes(SPACE);
    let live = there.len() as u64;
    let acknowledged = clients.iter().map(|client| client.lsn).max().unwrap();
    for client in clients.iter_mut() {
        for (id, possible) in &mut client.model {
            let back = there.remove(id);
            let fits = |state: &&Option<Value>| match (state, &back) {
                (None, None) => true,
                (Some(sent), Some(back)) => chat::same(sent, back),
                _ => false,
            };
            let Some(known) = possible.iter().find(fits).cloned() else {
                let certain = possible.len() == 1;
                panic!("round {round}: {id} (certain: {certain}) should be {possible:?}: {back:?}");
            };
            *possible = vec![known];
        }
    }
    assert!(there.is_empty(), "round {round}: nobody sent {there:?}");
    let report = http.get("/v1/wal/recovery");
    assert_eq!(report["failed"]["damaged"], 0, "{report}");
    assert_eq!(report["failed"]["undecodable"], 0, "{report}");
    assert_eq!(report["lost_lsns"], json!([]), "{report}");
    assert!(report["recovered"].as_u64().unwrap() >= live, "{report}");
    assert!(report["head_lsn"].as_u64().unwrap() >= acknowledged, "{acknowledged}: {report}");
    let wal = http.get("/v1/wal");
    assert_eq!(wal["state"], "ready");
    assert_eq!(wal["head_lsn"], wal["synced_lsn"], "{wal}");
    let probe = json!({"id": "probe", "what": "probe"}).to_string();
    let path = "/v1/spaces/probes/episodes";
    let lsn = http.must("POST", path, probe.as_bytes()).json()["lsn"].as_u64().unwrap();
    assert!(lsn > acknowledged, "LSN {lsn} was given before: {acknowledged} was acknowledged");
    for client in clients {
        client.lsn = client.lsn.max(lsn);
    }
}
