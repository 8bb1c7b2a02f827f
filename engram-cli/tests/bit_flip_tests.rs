//! Single bits of a log of 1,000 real episodes are flipped, anywhere: at most the frame that was
//! hit is lost, and named; all others come back byte for byte; the second start is silent; and
//! `engram wal verify` says beforehand what `engram start` says then.
//!
//! `ENGRAM_FLIPS` says how many in each of the two tests (`make flip-test`).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helper fails the test")]

mod support;

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::live::{Live, complaints};
use support::rng::Rng;
use support::{chat, engram, files, stderr, stdout};

const SPACE: &str = "chitchat";

/// A log at rest, and what it holds.
struct Made {
    dir: tempfile::TempDir,
    episodes: BTreeMap<String, Value>,
    /// What `wal dump` says of each frame.
    frames: Vec<Value>,
}

/// Which bit.
#[derive(Debug, Clone)]
struct Flip {
    file: PathBuf,
    offset: u64,
    bit: u8,
}

#[test]
fn a_flipped_bit_after_a_clean_stop_costs_the_frame_that_it_hit() {
    flip_many(&made(Live::stop_cleanly));
}

#[test]
fn a_flipped_bit_after_a_kill_that_followed_idling_costs_the_frame_that_it_hit() {
    flip_many(&made(|server| {
        server.wait_for_idle_mark();
        server.kill();
    }));
}

/// 1,000 episodes, one request each, remembered by the real binary.
fn made(end: impl FnOnce(Live)) -> Made {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Live::start(dir.path(), &data, &[]);
    let sample = chat::sample();
    std::thread::scope(|scope| {
        for part in sample.chunks(sample.len() / 8) {
            let mut http = server.http();
            scope.spawn(move || {
                for episode in part {
                    let path = format!("/v1/spaces/{SPACE}/episodes");
                    let reply = http.must("POST", &path, episode.to_string().as_bytes());
                    assert_eq!(reply.status, 201, "{}", reply.text());
                }
            });
        }
    });
    let episodes = server.http().episodes(SPACE);
    assert_eq!(episodes.len(), 1_000);
    assert!(sample.iter().all(|sent| chat::same(sent, &episodes[sent["id"].as_str().unwrap()])));
    end(server);
    let args = ["wal", "dump", "--json", "--data", data.to_str().unwrap()];
    let output = engram(dir.path()).args(args).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let frames = stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    Made { dir, episodes, frames }
}

fn flip_many(made: &Made) {
    let flips = std::env::var("ENGRAM_FLIPS").ok().and_then(|text| text.parse().ok());
    let flips: usize = flips.unwrap_or(20);
    let mut rng = Rng::of_this_run();
    // Chosen beforehand, so that a seed means the same flips on any machine.
    let chosen: Vec<Flip> = (0..flips).map(|number| choose(made, &mut rng, number)).collect();
    std::thread::scope(|scope| {
        for part in chosen.chunks(flips.div_ceil(2)) {
            scope.spawn(move || part.iter().for_each(|flip| check(made, flip)));
        }
    });
}

/// Half of the flips fall anywhere, half where something was written.
fn choose(made: &Made, rng: &mut Rng, number: usize) -> Flip {
    let data = made.dir.path().join("data");
    let wal = files::below(&data.join("wal"));
    let used = |path: &Path| {
        let is = |frame: &&Value| path.ends_with(frame["file"].as_str().unwrap());
        let ends = made.frames.iter().filter(is);
        ends.map(|frame| frame["offset"].as_u64().unwrap() + frame["bytes"].as_u64().unwrap()).max()
    };
    let lengths: Vec<u64> = wal
        .iter()
        .map(|path| {
            let all = fs::metadata(path).unwrap().len();
            if number.is_multiple_of(2) { all } else { used(path).unwrap_or(0) }
        })
        .collect();
    let mut at = rng.below(lengths.iter().sum());
    for (path, length) in wal.iter().zip(lengths) {
        if at < length {
            let file = path.strip_prefix(&data).unwrap().to_owned();
            return Flip { file, offset: at, bit: u8::try_from(rng.below(8)).unwrap() };
        }
        at -= length;
    }
    panic!("no file below {}", data.display());
}

fn apply(data: &Path, flip: &Flip) {
    let file = OpenOptions::new().read(true).write(true).open(data.join(&flip.file)).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, flip.offset).unwrap();
    file.write_all_at(&[byte[0] ^ (1 << flip.bit)], flip.offset).unwrap();
}

fn check(made: &Made, flip: &Flip) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    files::copy(&made.dir.path().join("data"), &data);
    apply(&data, flip);
    let hit = made.frames.iter().find(|frame| {
        let (offset, bytes) = (frame["offset"].as_u64().unwrap(), frame["bytes"].as_u64().unwrap());
        flip.file.ends_with(frame["file"].as_str().unwrap())
            && (offset..offset + bytes).contains(&flip.offset)
    });
    let (exit, foreseen) = verify(dir.path(), &data);
    let server = Live::start(dir.path(), &data, &[]);
    let mut http = server.http();
    let report = http.get("/v1/wal/recovery");
    for member in ["recovered", "failed", "lost_lsns", "corruption_rate", "head_lsn"] {
        assert_eq!(report[member], foreseen[member], "{flip:?}: {member}\n{foreseen}\n{report}");
    }
    let names = |report: &Value| -> Vec<Value> {
        let incidents = report["incidents"].as_array().unwrap().iter();
        incidents.map(|incident| incident["id"].clone()).collect()
    };
    assert_eq!(names(&report), names(&foreseen), "{flip:?}\n{foreseen}\n{report}");
    let damaged = report["failed"]["damaged"].as_u64().unwrap();
    // A bit in the zeros behind the last mark looks like a write that a crash cut off.
    let is_tail = |incident: &Value| incident["verdict"] == "tail";
    let found = !report["incidents"].as_array().unwrap().iter().all(is_tail);
    assert_eq!(exit, Some(i32::from(found)), "{flip:?}\n{report}");
    assert!(found || damaged == 0, "{flip:?}\n{report}");
    let lost: Vec<Value> = report["lost_lsns"].as_array().unwrap().clone();
    let lsn = hit.map(|frame| &frame["lsn"]);
    match (lost.as_slice(), lsn) {
        ([], _) => {}
        ([range], Some(lsn)) => assert_eq!([&range[0], &range[1]], [lsn, lsn], "{flip:?}"),
        _ => panic!("{flip:?} in {hit:?} lost {lost:?}\n{report}"),
    }
    let remembered = hit.filter(|frame| frame["kind"] == "remember");
    let mut expected = made.episodes.clone();
    if let Some(frame) = remembered {
        assert_eq!((lost.len(), damaged), (1, 1), "{flip:?} in {frame}\n{report}");
        expected.remove(frame["id"].as_str().unwrap());
    }
    assert!(http.episodes(SPACE) == expected, "{flip:?}: not all others are as they were");
    let incidents = http.get("/v1/wal/incidents")["incidents"].as_array().unwrap().len();
    assert_eq!(incidents, names(&report).len(), "{flip:?}\n{report}");
    assert!(incidents <= 1 && (incidents == 1 || remembered.is_none()), "{flip:?}\n{report}");
    server.stop_cleanly();

    let server = Live::start(dir.path(), &data, &[]);
    let mut http = server.http();
    assert!(http.episodes(SPACE) == expected, "{flip:?}: not the same after a second start");
    let again = http.get("/v1/wal/incidents")["incidents"].as_array().unwrap().len();
    assert_eq!(again, incidents, "{flip:?}: a second start finds more");
    let (status, log) = server.stop();
    assert_eq!(status.code(), Some(0), "{flip:?}");
    assert_eq!(complaints(&log), [""; 0], "{flip:?}: the second start is not silent");
}

fn verify(dir: &Path, data: &Path) -> (Option<i32>, Value) {
    let args = ["wal", "verify", "--json", "--data", data.to_str().unwrap()];
    let output = engram(dir).args(args).output().unwrap();
    let report = serde_json::from_slice(&output.stdout);
    (output.status.code(), report.unwrap_or_else(|e| panic!("{e}: {}", stderr(&output))))
}
