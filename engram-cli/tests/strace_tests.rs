//! The binary's system calls fail, one kind after another, at the first such call, the second, and
//! so on, on one directory that goes through it all: what was acknowledged is there after a kill,
//! byte for byte, what was refused is said why, and the start after that is quiet.
//!
//! `ENGRAM_STRACE_CALLS` says up to which call (`make strace-test`: 24).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helper fails the test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::chat;
use support::faults::{Injection, skip};
use support::http::{Http, Reply};
use support::live::{Live, complaints, wait_for};

const PATH: &str = "/v1/spaces/s/episodes";
const SMALL_SEGMENTS: [&str; 2] = ["--segment-bytes", "1MiB"];

const WRITE: &str = "pwrite64";
const SYNC: &str = "fdatasync";
const SYNC_DIR: &str = "fsync";
const RENAME: &str = "rename,renameat,renameat2";
const UNLINK: &str = "unlink,unlinkat";
const OPEN: &str = "open,openat";
const CUT: &str = "ftruncate";

/// Up to which call of a kind each fault is tried.
fn calls_max() -> u32 {
    std::env::var("ENGRAM_STRACE_CALLS").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The calls that fail: some of the first few in the gate, each one of many in the long form; and
/// all from the third on, and all.
fn moments(some: &[u32]) -> Vec<String> {
    let few = some.iter().copied().filter(|_| calls_max() == 0);
    few.chain(1..=calls_max())
        .map(|n| n.to_string())
        .chain(["3+".to_owned(), "1+".to_owned()])
        .collect()
}

/// What may be there under each id: the last acknowledged state, and what nobody was told of.
#[derive(Debug, Default)]
struct Truth(BTreeMap<String, Vec<Option<Value>>>);

impl Truth {
    /// What an answer to a change means; an answer that refuses must say why.
    fn hear(&mut self, id: &str, change: Option<&Value>, reply: &Reply) {
        let possible = self.0.entry(id.to_owned()).or_insert_with(|| vec![None]);
        match reply.status {
            200 | 201 | 204 => *possible = vec![change.cloned()],
            404 => assert!(change.is_none() && possible.contains(&None), "{id}: {}", reply.text()),
            507 => assert_eq!(reply.json()["type"], "/problems/disk-full", "{}", reply.text()),
            503 => {
                assert_eq!(reply.json()["type"], "/problems/poisoned", "{}", reply.text());
                possible.push(change.cloned());
            }
            status => panic!("{status} for {id}: {}", reply.text()),
        }
    }

    /// Each id is in one of its possible states. From here on it is in that one.
    fn check(&mut self, there: &BTreeMap<String, Value>, what: &str) {
        for (id, possible) in &mut self.0 {
            let back = there.get(id);
            let is = |state: &&Option<Value>| match (state, back) {
                (Some(sent), Some(back)) => chat::same(sent, back),
                (None, None) => true,
                _ => false,
            };
            let found = possible.iter().find(is).cloned();
            let Some(found) = found else {
                panic!("{what}: {id} is {}", back.map_or("not there", |_| "not what it was"))
            };
            *possible = vec![found];
        }
        assert!(there.keys().all(|id| self.0.contains_key(id)), "{what}: invented");
    }
}

fn episode(id: &str, turn: usize) -> Value {
    let line = format!("{id} in turn {turn}, word for word. ");
    json!({"id": id, "what": line.repeat(60_000 / line.len() + turn % 7), "who": [id]})
}

/// Remembers, overwrites, forgets, fills some segments, and asks for compaction. Gives every
/// refusal.
fn work(http: &mut Http, turn: usize, truth: &mut Truth) -> Vec<Reply> {
    let mut refusals = Vec::new();
    for step in 0..22 {
        let id = format!("e{}", (turn * 3 + step) % 11);
        let sent = episode(&id, turn * 100 + step);
        let forget = step % 5 == 4;
        let reply = if forget {
            http.must("DELETE", &format!("{PATH}/{id}"), b"")
        } else {
            http.must("POST", PATH, sent.to_string().as_bytes())
        };
        truth.hear(&id, (!forget).then_some(&sent), &reply);
        let poisoned = refusals.iter().any(|reply: &Reply| reply.status == 503);
        assert!(!poisoned || reply.status == 503, "acknowledged after a failure: {}", reply.text());
        if reply.status >= 500 {
            refusals.push(reply);
        }
    }
    let compacted = http.must("POST", "/v1/wal/compact", b"");
    assert!(compacted.status == 200 || compacted.status >= 500, "{}", compacted.text());
    if compacted.status != 200 {
        assert!(compacted.json()["detail"].is_string(), "{}", compacted.text());
    }
    refusals
}

/// The health that a server shows after what it answered; it goes on by itself, or says that it
/// cannot.
fn check_health(http: &mut Http, refusals: &[Reply], truth: &mut Truth, what: &str) {
    let poisoned = refusals.iter().any(|reply| reply.status == 503);
    let state = http.get("/v1/wal")["state"].as_str().unwrap().to_owned();
    assert!(!poisoned || state == "poisoned", "{what}: {state}");
    let ready = http.must("GET", "/readyz", b"").status;
    assert_eq!(ready, if state == "poisoned" { 503 } else { 200 }, "{what}: {state}");
    assert_eq!(http.must("GET", "/livez", b"").status, 200, "{what}");
    if state == "poisoned" {
        let reply = http.must("POST", PATH, episode("late", 1).to_string().as_bytes());
        assert_eq!(reply.status, 503, "{what}: {}", reply.text());
        return;
    }
    let sent = episode("late", refusals.len());
    let resumed = || Some(http.must("POST", PATH, sent.to_string().as_bytes()));
    let reply = wait_for("writing to go on", {
        let mut resumed = resumed;
        move || resumed().filter(|reply| reply.status < 300)
    });
    truth.hear("late", Some(&sent), &reply);
}

/// The calls, how they fail, and a refusal that somebody must have heard; none where only work in
/// the background is hit.
type Fault = (&'static str, &'static str, Option<u16>);

/// One directory, and every fault in turn. Each start is also the quiet one after the fault before.
fn sweep(faults: &[Fault], some: &[u32]) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut truth = Truth::default();
    let mut turn = 0;
    for &(calls, error, seen) in faults {
        let (mut hits, mut outcomes) = (0, BTreeSet::new());
        for when in moments(some) {
            let what = format!("{calls}:{error}:when={when}");
            let server = Live::start(dir.path(), &data, &SMALL_SEGMENTS);
            let mut http = server.http();
            truth.check(&http.episodes("s"), &what);
            assert_eq!(server.complaints(), [""; 0], "before {what}");
            let report = http.get("/v1/wal/recovery");
            assert_eq!(report["failed"]["damaged"], 0, "before {what}: {report}");
            let counted = Injection::counted(&server, calls, &format!("{error}:when={when}"));
            let Some(counted) = counted else { return };
            let refusals = work(&mut http, turn, &mut truth);
            // Readers see what was acknowledged, also while it fails.
            hits += counted.end();
            outcomes.extend(refusals.iter().map(|reply| reply.status));
            truth.check_visible(&http.episodes("s"), &what);
            check_health(&mut http, &refusals, &mut truth, &what);
            let log = server.kill();
            assert!(log.iter().all(|line| !line.contains("panicked")), "{what}: {log:?}");
            turn += 1;
        }
        assert!(hits > 0, "{calls}:{error}: no call was hit");
        let heard = seen.is_none_or(|status| outcomes.contains(&status));
        assert!(heard, "{calls}:{error}: nobody was refused with {seen:?}: {outcomes:?}");
    }
    for _ in 0..2 {
        let server = Live::start(dir.path(), &data, &SMALL_SEGMENTS);
        truth.check(&server.http().episodes("s"), "at the end");
        assert_eq!(server.complaints(), [""; 0]);
        server.stop_cleanly();
    }
}

impl Truth {
    /// The same while the server runs: what nobody was told of is not seen.
    fn check_visible(&self, there: &BTreeMap<String, Value>, what: &str) {
        for (id, possible) in &self.0 {
            let same = match (&possible[0], there.get(id)) {
                (Some(sent), Some(back)) => chat::same(sent, back),
                (None, None) => true,
                _ => false,
            };
            assert!(same, "{what}: {id} is not as it was acknowledged");
        }
    }
}

#[test]
fn whatever_write_or_sync_fails_nothing_acknowledged_is_lost() {
    let faults = [
        (WRITE, "error=EIO", Some(503)),
        (WRITE, "error=ENOSPC", Some(507)),
        (SYNC, "error=EIO", Some(503)),
    ];
    sweep(&faults, &[1, 2, 3, 5, 9]);
}

#[test]
fn whatever_name_cannot_be_made_or_removed_nothing_acknowledged_is_lost() {
    let faults = [
        (RENAME, "error=EIO", Some(503)),
        (RENAME, "error=ENOSPC", Some(507)),
        (UNLINK, "error=EIO", None),
        (SYNC_DIR, "error=EIO", Some(503)),
    ];
    sweep(&faults, &[1, 2, 3]);
}

#[test]
fn whatever_file_cannot_be_opened_or_cut_nothing_acknowledged_is_lost() {
    let faults = [
        (OPEN, "error=EMFILE", Some(503)),
        (OPEN, "error=ENOSPC", Some(507)),
        (CUT, "error=EIO", None),
    ];
    sweep(&faults, &[1, 2, 4]);
}

/// Starts a server of which a system call fails, as `trace` tells. `None` where it ended by itself, with
/// the code and the words of a refusal.
fn start_under(dir: &Path, data: &Path, calls: &str, fault: &str, trace: &Path) -> Option<Live> {
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-e", &format!("trace={calls}"), "-o"]).arg(trace);
    command.args(["-e", &format!("inject={calls}:{fault}")]);
    let plain = support::plain(dir);
    command.arg(plain.get_program()).current_dir(dir).stdin(Stdio::null());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.args(["start", "--listen", "127.0.0.1:0", "--log", "json", "--data"]).arg(data);
    command.args(SMALL_SEGMENTS);
    Live::of_or_end(command, |status, log| {
        assert!(status.code().is_some_and(|code| code != 0), "{calls}:{fault}: {status}\n{log}");
        assert!(!log.contains("panicked"), "{calls}:{fault}: {log}");
        assert!(log.len() > 20, "{calls}:{fault}: ended without a word");
    })
}

#[test]
fn a_start_that_fails_at_any_call_says_so_and_the_next_one_has_it_all() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut truth = Truth::default();
    let mut turn = 0;
    let faults = [
        (WRITE, "error=EIO"),
        (WRITE, "error=ENOSPC"),
        (SYNC, "error=EIO"),
        (SYNC_DIR, "error=EIO"),
        (RENAME, "error=EIO"),
        (UNLINK, "error=EIO"),
        (OPEN, "error=EMFILE"),
    ];
    let (mut refusals, mut answers) = (0, 0);
    for (calls, error) in faults {
        let mut injected = 0;
        for when in moments(&[1, 2]) {
            // A log of some segments that was killed: the start has to cut, seal and sweep.
            let server = Live::start(dir.path(), &data, &SMALL_SEGMENTS);
            let Some(probe) = Injection::counted(&server, CUT, "error=EIO:when=60000") else {
                return;
            };
            drop(probe);
            let mut http = server.http();
            truth.check(&http.episodes("s"), &format!("before {calls}:{error}:when={when}"));
            assert!(work(&mut http, turn, &mut truth).is_empty());
            server.kill();
            // Of its own opens, not the loader's, in the middle of the start.
            let at = if calls == OPEN && !when.contains('+') {
                format!("{}", when.parse::<u32>().unwrap() + 14)
            } else if calls == OPEN {
                "18+".to_owned()
            } else {
                when
            };
            let trace = dir.path().join("trace");
            match start_under(dir.path(), &data, calls, &format!("{error}:when={at}"), &trace) {
                None => refusals += 1,
                Some(server) => {
                    answers += 1;
                    if server.wait_until_settled() {
                        truth.check_visible(&server.http().episodes("s"), &format!("{calls}:{at}"));
                    }
                }
            }
            let traced = fs::read_to_string(&trace).unwrap();
            injected += traced.matches("(INJECTED)").count();
            turn += 1;
        }
        assert!(injected > 0, "{calls}:{error} came to no call");
    }
    assert!(refusals > 0 && answers > 0, "{refusals} ended, {answers} served");
    for _ in 0..2 {
        let server = Live::start(dir.path(), &data, &SMALL_SEGMENTS);
        truth.check(&server.http().episodes("s"), "at the end");
        assert_eq!(server.complaints(), [""; 0]);
        server.stop_cleanly();
    }
}

/// A library that makes the kernel take half of what each `pwrite` offers: honest short writes.
fn halving_library(dir: &Path) -> Option<PathBuf> {
    let (source, library) = (dir.join("half.c"), dir.join("half.so"));
    let code = "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <unistd.h>\n\
        #include <fcntl.h>\n#include <stdlib.h>\n\
        static ssize_t half(const char *name, int fd, const void *b, size_t n, off64_t at) {\n\
          ssize_t (*real)(int, const void *, size_t, off64_t) = dlsym(RTLD_NEXT, name);\n\
          const char *mark = getenv(\"HALVED\");\n\
          if (mark) close(open(mark, O_CREAT | O_WRONLY, 0600));\n\
          return real(fd, b, n > 1 ? n / 2 : n, at);\n\
        }\n\
        ssize_t pwrite64(int fd, const void *b, size_t n, off64_t at) \
          { return half(\"pwrite64\", fd, b, n, at); }\n\
        ssize_t pwrite(int fd, const void *b, size_t n, off_t at) \
          { return half(\"pwrite\", fd, b, n, at); }\n";
    fs::write(&source, code).unwrap();
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source)
        .arg("-ldl")
        .output();
    match built {
        Ok(done) if done.status.success() => Some(library),
        Ok(done) => {
            skip(&format!("no short writes: {}", String::from_utf8_lossy(&done.stderr)));
            None
        }
        Err(e) => {
            skip(&format!("no short writes, a C compiler cannot be started: {e}"));
            None
        }
    }
}

#[test]
fn writes_that_take_half_of_what_they_are_given_are_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let Some(library) = halving_library(dir.path()) else { return };
    let mark = dir.path().join("halved");
    let mut command = support::plain(dir.path());
    command.env("LD_PRELOAD", &library).env("HALVED", &mark);
    command.args(["start", "--listen", "127.0.0.1:0", "--log", "json", "--data"]).arg(&data);
    command.args(SMALL_SEGMENTS);
    let server = Live::of(command);
    server.wait_until_ready();
    if !mark.exists() {
        skip("no short writes: the binary does not write through the C library");
        return;
    }
    let mut truth = Truth::default();
    let mut http = server.http();
    for turn in 0..3 {
        assert!(work(&mut http, turn, &mut truth).is_empty(), "a short write was refused");
    }
    assert_eq!(http.get("/v1/wal")["state"], "ready");
    server.kill();
    for _ in 0..2 {
        let server = Live::start(dir.path(), &data, &SMALL_SEGMENTS);
        truth.check(&server.http().episodes("s"), "after short writes");
        assert_eq!(server.complaints(), [""; 0]);
        server.stop_cleanly();
    }
}

/// What the kernel says that it wrote and did not is a disk that lies: no program can know at once,
/// but nothing false is ever read back, and what it cost is named.
#[test]
fn a_disk_that_lies_about_a_write_is_found_out_by_the_checksums() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut server = Live::start(dir.path(), &data, &SMALL_SEGMENTS);
    let mut truth: BTreeMap<String, Value> = BTreeMap::new();
    let mut lost = 0;
    for when in [2, 3] {
        let what = format!("a lie at write {when}");
        let mut http = server.http();
        // Each thread's writes are counted, and the zeros of what is made ahead shall not be hit.
        wait_for("what is made ahead", || {
            let whole =
                |name| fs::metadata(data.join("wal").join(name)).is_ok_and(|m| m.len() == 1 << 20);
            (whole("spare") && whole("ballast")).then_some(())
        });
        // The first two blocks of one write never come: that of the frame before, which stands there
        // already, and the next one.
        let fault = format!("retval=8192:when={when}");
        let Some(lie) = Injection::counted(&server, WRITE, &fault) else { return };
        for step in 0..6 {
            let id = format!("lie-{when}-{step}");
            let sent = episode(&id, step);
            let reply = http.must("POST", PATH, sent.to_string().as_bytes());
            assert_eq!(reply.status, 201, "{what}: {}", reply.text());
            truth.insert(id, sent);
        }
        assert_eq!(lie.end(), 1, "{what}");
        server.kill();
        server = Live::start(dir.path(), &data, &SMALL_SEGMENTS);
        let mut http = server.http();
        let there = http.episodes("s");
        for (id, back) in &there {
            assert!(chat::same(&truth[id], back), "{what}: {id} is not what it was");
        }
        let gone = truth.keys().filter(|id| !there.contains_key(*id)).count();
        assert_eq!(gone, lost + 1, "{what}: one write was hit");
        lost = gone;
        let report = http.get("/v1/wal/recovery");
        assert_eq!(report["failed"]["damaged"], 1, "{what}: {report}");
        assert_eq!(report["lost_lsns"].as_array().unwrap().len(), 1, "{what}: {report}");
    }
    server.stop_cleanly();
    let server = Live::start(dir.path(), &data, &SMALL_SEGMENTS);
    assert_eq!(server.http().episodes("s").len(), truth.len() - lost);
    let (_, log) = server.stop();
    assert_eq!(complaints(&log), [""; 0]);
}
