//! Disks that are full, syncs that fail, writes that write nothing: nothing acknowledged is lost,
//! nothing is acknowledged that is not on disk, and whoever is refused is told why.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helper fails the test")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::chat;
use support::faults::{Injection, Small};
use support::http::{Http, Reply};
use support::live::{Live, wait_for};

const PATH: &str = "/v1/spaces/chitchat/episodes";
const CLIENTS: usize = 8;

/// What was acknowledged, and what may be there besides.
#[derive(Debug, Default)]
struct Told {
    kept: BTreeMap<String, Value>,
    unknown: BTreeMap<String, Value>,
    refusals: Vec<Reply>,
}

impl Told {
    fn add(&mut self, other: Self) {
        self.kept.extend(other.kept);
        self.unknown.extend(other.unknown);
        self.refusals.extend(other.refusals);
    }
}

/// An episode of some kilobytes of real messages.
fn episode(id: &str, turn: usize) -> Value {
    thread_local! {
        static SAMPLE: Vec<Value> = chat::sample();
    }
    SAMPLE.with(|sample| {
        let messages = sample.iter().cycle().skip(turn * 7 % sample.len()).take(100);
        let what: Vec<&str> = messages.map(|m| m["what"].as_str().unwrap()).collect();
        let one = &sample[turn % sample.len()];
        json!({"id": id, "what": what.join("\n"), "when": one["when"], "who": one["who"]})
    })
}

fn remember(http: &mut Http, episode: &Value) -> Reply {
    http.must("POST", PATH, episode.to_string().as_bytes())
}

/// Clients that remember until each has been refused, or has remembered `count`.
fn crowd(server: &Live, name: &str, count: usize) -> Told {
    let refused = AtomicBool::new(false);
    let mut told = Told::default();
    std::thread::scope(|scope| {
        let run = |client: usize| {
            let mut http = server.http();
            let refused = &refused;
            move || {
                let mut told = Told::default();
                for turn in 0..count {
                    let id = format!("{name}-{client}-{turn}");
                    let sent = episode(&id, turn + client * 31);
                    let after = refused.load(Ordering::SeqCst);
                    let reply = remember(&mut http, &sent);
                    match reply.status {
                        201 => {
                            assert!(!after, "{id} was acknowledged after a failed sync");
                            told.kept.insert(id, sent);
                        }
                        status => {
                            if status == 503 {
                                refused.store(true, Ordering::SeqCst);
                                told.unknown.insert(id, sent);
                            }
                            told.refusals.push(reply);
                            if told.refusals.len() == 3 {
                                return told;
                            }
                        }
                    }
                }
                told
            }
        };
        let threads: Vec<_> = (0..CLIENTS).map(|client| scope.spawn(run(client))).collect();
        for thread in threads {
            told.add(thread.join().unwrap());
        }
    });
    told
}

/// All that was acknowledged is there; what is there besides may be there.
fn check(http: &mut Http, told: &Told) {
    let there = http.episodes("chitchat");
    for (id, sent) in &told.kept {
        let back =
            there.get(id).unwrap_or_else(|| panic!("{id} was acknowledged and is not there"));
        assert!(chat::same(sent, back), "{sent}\ncame back as\n{back}");
    }
    for (id, back) in there {
        let sent = told.kept.get(&id).or_else(|| told.unknown.get(&id));
        assert!(sent.is_some_and(|sent| chat::same(sent, &back)), "{id} should not be there");
    }
}

fn metric(http: &mut Http, series: &str) -> u64 {
    let text = http.must("GET", "/metrics", b"").text();
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.unwrap_or_else(|| panic!("no {series}:\n{text}")).trim().parse().unwrap()
}

#[test]
fn a_full_disk_refuses_and_loses_nothing_at_the_default_segment_size() {
    full_disk(48, &[]);
}

#[test]
fn a_full_disk_refuses_and_loses_nothing_at_1_mib_segments() {
    full_disk(16, &["--segment-bytes", "1MiB"]);
}

fn full_disk(mebibytes: u64, more: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    let Some(_small) = Small::mount(&disk, mebibytes) else { return };
    let data = disk.join("data");
    let filler = disk.join("filler");
    fs::write(&filler, vec![1; usize::try_from(mebibytes << 20).unwrap() * 5 / 8]).unwrap();
    let server = Live::start(dir.path(), &data, more);
    let mut http = server.http();
    let mut told = crowd(&server, "first", usize::MAX);
    assert!(told.kept.len() > 100, "{} were kept", told.kept.len());
    for reply in &told.refusals {
        assert_eq!(reply.status, 507, "{}", reply.text());
        assert!(reply.head.contains("retry-after: "), "{}", reply.head);
        let problem = reply.json();
        assert_eq!(problem["type"], "/problems/disk-full");
        let detail = problem["detail"].as_str().unwrap();
        let clear = ["full", "free", disk.to_str().unwrap()];
        assert!(clear.iter().all(|word| detail.contains(word)), "{detail}");
    }
    // The next segment's file may have been under way: its room is used up first.
    let mut extra = 0;
    wait_for("the log to say that it is full", || {
        let id = format!("more-{extra}");
        let sent = episode(&id, extra);
        extra += 1;
        let reply = remember(&mut http, &sent);
        if reply.status == 201 {
            told.kept.insert(id, sent);
        }
        let is_full = http.get("/v1/wal")["state"] == "full";
        let told_so = metric(&mut http, "engram_wal_disk_full") == 1;
        (reply.status == 507 && is_full && told_so).then_some(())
    });
    assert_eq!(http.must("GET", "/readyz", b"").status, 200);
    check(&mut http, &told);
    // Forgets have room of their own.
    for id in told.kept.keys().take(20).cloned().collect::<Vec<_>>() {
        let reply = http.must("DELETE", &format!("{PATH}/{id}"), b"");
        assert_eq!(reply.status, 204, "{}", reply.text());
        told.kept.remove(&id);
    }
    check(&mut http, &told);

    fs::remove_file(&filler).unwrap();
    let sent = episode("resumed", 5);
    wait_for("writing to resume", || (remember(&mut http, &sent).status == 201).then_some(()));
    told.kept.insert("resumed".into(), sent);
    told.refusals.clear();
    let after = crowd(&server, "second", 20);
    assert!(after.refusals.is_empty(), "{:?}", after.refusals[0].text());
    told.add(after);
    check(&mut http, &told);
    assert_eq!(http.get("/v1/wal")["state"], "ready");
    assert_eq!(metric(&mut http, "engram_wal_disk_full"), 0);
    restarts(dir.path(), &data, server, &told, more);
}

/// Kills, starts, checks; stops, starts, checks. No start has a complaint.
fn restarts(dir: &Path, data: &Path, server: Live, told: &Told, more: &[&str]) {
    server.kill();
    for _ in 0..2 {
        let server = Live::start(dir, data, more);
        check(&mut server.http(), told);
        let mut http = server.http();
        let report = http.get("/v1/wal/recovery");
        assert_eq!(report["failed"]["damaged"], 0, "{report}");
        assert_eq!(report["lost_lsns"], json!([]), "{report}");
        let reply = remember(&mut http, told.kept.values().next().unwrap());
        assert_eq!(reply.status, 200, "{}", reply.text());
        let (status, log) = server.stop();
        assert_eq!(status.code(), Some(0));
        assert_eq!(support::live::complaints(&log), [""; 0]);
    }
}

/// What poisons the log, under a crowd.
fn poisoned_by(inject: &str, more: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Live::start(dir.path(), &data, more);
    let mut told = crowd(&server, "before", 20);
    assert!(told.refusals.is_empty());
    let Some(injection) = Injection::on(&server, inject) else { return };
    told.add(crowd(&server, "during", 2_000));
    assert_eq!(told.refusals.len(), CLIENTS * 3, "{inject}: not every client was refused");
    for reply in &told.refusals {
        assert_eq!(reply.status, 503, "{inject}: {}", reply.text());
        let problem = reply.json();
        assert_eq!(problem["type"], "/problems/poisoned");
        assert_eq!(problem["outcome"], "unknown");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("unknown") && detail.contains("restart"), "{detail}");
    }
    // It stays so when the fault goes away: a failed sync is never tried again.
    drop(injection);
    let mut http = server.http();
    assert_eq!(remember(&mut http, &episode("late", 1)).status, 503);
    let id = told.kept.keys().next().unwrap();
    assert_eq!(http.must("DELETE", &format!("{PATH}/{id}"), b"").status, 503);
    assert_eq!(http.must("GET", "/readyz", b"").status, 503);
    assert_eq!(http.must("GET", "/livez", b"").status, 200);
    assert_eq!(http.get("/v1/wal")["state"], "poisoned");
    assert_eq!(metric(&mut http, "engram_wal_poisoned"), 1);
    let there = http.episodes("chitchat");
    assert_eq!(there.len(), told.kept.len(), "readers see what was acknowledged, and only that");
    restarts(dir.path(), &data, server, &told, more);
}

#[test]
fn after_one_failed_sync_nothing_is_acknowledged() {
    poisoned_by("fdatasync:error=EIO:when=5", &[]);
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_at_1_mib_segments() {
    poisoned_by("fdatasync:error=EIO:when=40+", &["--segment-bytes", "1MiB"]);
}

#[test]
fn after_syncs_that_fail_for_ever_nothing_is_acknowledged() {
    poisoned_by("fdatasync:error=EIO:when=5+", &[]);
}

#[test]
fn after_a_failed_write_nothing_is_acknowledged() {
    poisoned_by("pwrite64:error=EIO:when=3", &[]);
}

#[test]
fn a_write_that_writes_nothing_is_a_failed_write() {
    poisoned_by("pwrite64:retval=0:when=3", &[]);
}

#[test]
fn a_segment_that_cannot_be_named_loses_nothing() {
    poisoned_by("rename,renameat,renameat2:error=EIO:when=1+", &["--segment-bytes", "1MiB"]);
}

#[test]
fn a_stop_after_a_failed_sync_still_ends_well_and_a_start_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Live::start(dir.path(), &data, &[]);
    let Some(_injection) = Injection::on(&server, "fdatasync:error=EIO:when=9+") else { return };
    let told = crowd(&server, "x", 2_000);
    assert!(!told.refusals.is_empty(), "no sync failed");
    let (status, log) = server.stop();
    assert_eq!(status.code(), Some(0), "{log:?}");
    let server = Live::start(dir.path(), &data, &[]);
    check(&mut server.http(), &told);
    assert_eq!(server.complaints(), [""; 0]);
}

#[test]
fn no_acknowledgement_comes_before_a_slow_sync_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Live::start(dir.path(), &data, &[]);
    let Some(_injection) = Injection::on(&server, "fdatasync:delay_enter=50000") else { return };
    let fastest = |client: usize| {
        let mut http = server.http();
        let each = (0..5).map(|turn| {
            let sent = episode(&format!("{client}-{turn}"), turn);
            let began = Instant::now();
            assert_eq!(remember(&mut http, &sent).status, 201);
            began.elapsed()
        });
        each.min().unwrap()
    };
    let alone = fastest(0);
    let (fastest, url) = (&fastest, &server.url);
    let crowded = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (1..=CLIENTS).map(|client| scope.spawn(move || fastest(client))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).min().unwrap()
    });
    let bound = Duration::from_millis(50);
    assert!(alone >= bound && crowded >= bound, "{url}: {alone:?}, {crowded:?}");
}

#[test]
fn a_write_without_room_is_refused_and_the_next_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Live::start(dir.path(), &data, &[]);
    let mut told = crowd(&server, "before", 20);
    server.wait_for_idle_mark();
    let Some(injection) = Injection::on(&server, "pwrite64:error=ENOSPC:when=2") else { return };
    let mut http = server.http();
    for turn in 0..6 {
        let id = format!("during-{turn}");
        let sent = episode(&id, turn);
        let reply = remember(&mut http, &sent);
        match reply.status {
            201 => drop(told.kept.insert(id, sent)),
            507 => told.refusals.push(reply),
            _ => panic!("{}", reply.text()),
        }
    }
    assert!(!told.refusals.is_empty(), "no write was refused");
    drop(injection);
    let sent = episode("resumed", 5);
    wait_for("writing to resume", || (remember(&mut http, &sent).status == 201).then_some(()));
    told.kept.insert("resumed".into(), sent);
    check(&mut http, &told);
    restarts(dir.path(), &data, server, &told, &[]);
}

#[test]
fn a_compaction_that_cannot_rename_leaves_the_log_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let more = ["--segment-bytes", "1MiB"];
    let server = Live::start(dir.path(), &data, &more);
    let mut told = crowd(&server, "kept", 30);
    let mut http = server.http();
    for id in told.kept.keys().take(60).cloned().collect::<Vec<_>>() {
        assert_eq!(http.must("DELETE", &format!("{PATH}/{id}"), b"").status, 204);
        told.kept.remove(&id);
    }
    // What is dead stands in a sealed segment: the writer has nothing to rename for it.
    let mut extra = 0;
    while http.get("/v1/wal")["segments"].as_array().unwrap().len() < 3 {
        let id = format!("more-{extra}");
        let sent = episode(&id, extra);
        assert_eq!(remember(&mut http, &sent).status, 201);
        told.kept.insert(id, sent);
        extra += 1;
    }
    server.wait_for_idle_mark();
    let Some(injection) = Injection::on(&server, "rename,renameat,renameat2:error=EIO:when=1+")
    else {
        return;
    };
    let reply = http.must("POST", "/v1/wal/compact", b"");
    assert!(reply.status >= 500, "{}", reply.text());
    check(&mut http, &told);
    drop(injection);
    assert_eq!(http.get("/v1/wal")["state"], "ready");
    let reply = wait_for("compaction to work again", || {
        Some(http.must("POST", "/v1/wal/compact", b"")).filter(|reply| reply.status == 200)
    });
    assert!(reply.json()["bytes_reclaimed"].as_u64().unwrap() > 0, "{}", reply.text());
    check(&mut http, &told);
    restarts(dir.path(), &data, server, &told, &more);
}
