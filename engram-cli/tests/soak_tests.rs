//! The log gives back what is dead, and never grows without bound, while writers go on.
//!
//! Short forms in the gate; `ENGRAM_SOAK=1` (`make soak`) is the promise's own size.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helper fails the test")]

mod support;

use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use support::http::Http;
use support::live::{Live, wait_for};
use support::{chat, files};

const MIB: u64 = 1 << 20;

fn long() -> bool {
    std::env::var_os("ENGRAM_SOAK").is_some()
}

/// Tells a figure, past the test's capture.
fn tell(figure: &str) {
    drop(writeln!(std::io::stderr(), "{figure}"));
}

/// Real messages, ten to an episode; one string, for it is sent often.
fn messages(turn: usize, sample: &[Value]) -> String {
    let some = sample.iter().cycle().skip(turn * 3 % sample.len()).take(10);
    some.map(|message| message["what"].as_str().unwrap()).collect::<Vec<_>>().join("\n")
}

/// Remembers episodes of these numbers, 1,000 a request.
fn remember(http: &mut Http, space: &str, numbers: std::ops::Range<usize>, turn: usize) {
    let sample = chat::sample();
    let all: Vec<usize> = numbers.collect();
    for some in all.chunks(1_000) {
        let batch: Vec<Value> = some
            .iter()
            .map(|number| json!({"id": number.to_string(), "what": messages(number + turn, &sample)}))
            .collect();
        let path = format!("/v1/spaces/{space}/episodes/batch");
        let reply = http.must("POST", &path, Value::from(batch).to_string().as_bytes());
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.json()["accepted"], some.len());
    }
}

/// What the log takes of the disk, without what is only held ready; `None` while that changes.
fn disk_use(http: &mut Http, data: &Path) -> Option<u64> {
    let mut ready = || http.get("/v1/wal")["preallocated_bytes"].as_u64().unwrap();
    let before = ready();
    let used = files::disk_use(&data.join("wal"));
    (before == ready()).then(|| used.saturating_sub(before))
}

#[test]
fn forgetting_nine_tenths_gives_the_disk_back_at_the_default_segment_size() {
    forget_nine_tenths(&[]);
}

#[test]
fn forgetting_nine_tenths_gives_the_disk_back_at_1_mib_segments() {
    forget_nine_tenths(&["--segment-bytes", "1MiB"]);
}

fn forget_nine_tenths(more: &[&str]) {
    let count = if long() { 200_000 } else { 20_000 };
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Live::start(dir.path(), &data, more);
    let mut http = server.http();
    remember(&mut http, "old", 0..count, 0);
    let before = wait_for("the log to rest", || disk_use(&mut http, &data));
    let going_on = AtomicBool::new(true);
    let (kept, after) = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (mut http, going_on) = (server.http(), &going_on);
                scope.spawn(move || write_beside(&mut http, writer, going_on))
            })
            .collect();
        let forgetters = (0..8).map(|part| {
            let mut http = server.http();
            scope.spawn(move || {
                for number in (part..count).step_by(8).filter(|number| number % 10 != 0) {
                    let path = format!("/v1/spaces/old/episodes/{number}");
                    let reply = http.must("DELETE", &path, b"");
                    assert_eq!(reply.status, 204, "{number}: {}", reply.text());
                }
            })
        });
        forgetters.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
        going_on.store(false, Ordering::SeqCst);
        let kept: Vec<usize> = writers.into_iter().map(|thread| thread.join().unwrap()).collect();
        let after = wait_for("the disk to be given back", || {
            disk_use(&mut http, &data).filter(|now| now * 5 <= before)
        });
        (kept, after)
    });
    tell(&format!(
        "forgot 90 % of {count}, {more:?}: {before} to {after} bytes, {} % given back, beside {} \
         other writes",
        100 - 100 * after / before,
        kept.iter().sum::<usize>(),
    ));
    for (writer, turns) in kept.into_iter().enumerate() {
        let there = http.episodes(&format!("beside-{writer}"));
        let all = (0..50.min(turns)).all(|slot| {
            let last = (turns - 1 - slot) / 50 * 50 + slot;
            let newest = if last < turns { last } else { last - 50 };
            there[&slot.to_string()]["metadata"]["turn"] == newest
        });
        assert!(all && there.len() == 50.min(turns), "writer {writer} misses writes");
    }
    let sample = chat::sample();
    let there = http.episodes("old");
    assert_eq!(there.len(), count / 10);
    for (id, episode) in there {
        let number: usize = id.parse().unwrap();
        assert!(number.is_multiple_of(10) && episode["what"] == messages(number, &sample), "{id}");
    }
    assert_eq!(server.complaints(), [""; 0]);
}

/// Overwrites 50 episodes in turn until told to stop; every write must be acknowledged.
fn write_beside(http: &mut Http, writer: usize, going_on: &AtomicBool) -> usize {
    let mut turn = 0;
    while going_on.load(Ordering::SeqCst) || turn < 100 {
        let id = (turn % 50).to_string();
        let body = json!({"id": id, "what": "beside", "metadata": {"turn": turn}}).to_string();
        let path = format!("/v1/spaces/beside-{writer}/episodes");
        let reply = http.must("POST", &path, body.as_bytes());
        assert!(matches!(reply.status, 200 | 201), "{}", reply.text());
        turn += 1;
    }
    turn
}

#[test]
fn overwriting_for_ever_keeps_the_log_bounded_at_the_default_segment_size() {
    overwrite_for_long(64 * MIB, &[]);
}

#[test]
fn overwriting_for_ever_keeps_the_log_bounded_at_1_mib_segments() {
    overwrite_for_long(MIB, &["--segment-bytes", "1MiB"]);
}

fn overwrite_for_long(segment_bytes: u64, more: &[&str]) {
    let (count, turns) = if long() { (10_000, 100) } else { (2_000, 20) };
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Live::start(dir.path(), &data, more);
    let mut http = server.http();
    let (mut most, mut most_files, mut live) = (0, 0, 0);
    for turn in 0..turns {
        remember(&mut http, "same", 0..count, turn);
        live = http.get("/v1/wal")["live_bytes"].as_u64().unwrap();
        // On a busy machine compaction may be late, but it needs nobody to come.
        let bound = 3 * live + 2 * segment_bytes;
        wait_for(&format!("turn {turn}: the log to be below {bound} bytes"), || {
            let now = disk_use(&mut http, &data)?;
            most = most.max(now);
            most_files = most_files.max(files::below(&data.join("wal")).len());
            (now < bound).then_some(())
        });
    }
    tell(&format!(
        "overwrote {count} episodes {turns} times, {more:?}: {live} bytes live, at most {most} on \
         disk ({} % of that), in at most {most_files} files",
        100 * most / live,
    ));
    assert_eq!(http.episodes("same").len(), count);
    assert_eq!(server.complaints(), [""; 0]);
}
