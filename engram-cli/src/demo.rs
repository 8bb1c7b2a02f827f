//! `engram demo`: the story in one minute, on the real binary, with every claim checked.
//!
//! It starts `engram start` in a temporary directory, kills it, damages its log, and looks. A
//! claim that does not hold ends the demo with exit code 1. It ends only processes that it started,
//! and removes what it made.

mod server;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use engram_core::inspect::{self, FrameDump};
use engram_core::storage::wal::report::RecoveryReport;
use serde::Deserialize;
use server::Stage;

use crate::args::DemoArgs;
use crate::client::{Client, Method, query};
use crate::engine;
use crate::failure::{Failure, Outcome};
use crate::out;
use crate::overview::{ranges, recovery_in_words};

/// A fortnight of a small team, one episode on each line.
const SAMPLE: &str = include_str!("demo/sample.jsonl");
/// What is remembered one by one, before the sample.
const SPOKEN: [(&str, &str); 4] = [
    ("coffee", "The user takes her coffee without sugar, and said so twice."),
    ("deadline", "The report for the board is due on Friday at noon, not on Monday."),
    ("backup-code", "The spare key hangs behind the blue folder, second shelf."),
    ("name", "She would rather be called Sam than Samantha."),
];
/// The space that the story plays in.
const SPACE: &str = "demo";

/// Episodes by id, as the server shows them.
type Memory = BTreeMap<String, String>;

/// `engram demo`.
pub(crate) fn demo(args: &DemoArgs) -> Outcome {
    let stage = Stage::new(args.keep)?;
    let told = tell(&stage);
    if args.keep {
        out::line(&format!("\nkept: {}", stage.data().display()))?;
    }
    stage.clear();
    told?;
    out::line("\nEvery claim above was checked, and held.")
}

fn tell(stage: &Stage) -> Outcome {
    let known = act_one(stage)?;
    let hit = act_two(stage)?;
    act_three(stage, &known, &hit)?;
    act_four(stage, &known, &hit)
}

/// Remember, kill, restart: all there.
fn act_one(stage: &Stage) -> Outcome<Memory> {
    out::line("1. Remember, then pull the plug.")?;
    let server = stage.start()?;
    for (id, what) in SPOKEN {
        let lsn = remember(server.client(), id, what)?;
        out::line(&format!("   acknowledged as LSN {lsn}, so it is on disk: {what}"))?;
    }
    let (first, last) = remember_sample(server.client())?;
    let known = memory(server.client())?;
    let count = SPOKEN.len() + SAMPLE.lines().count();
    claim(
        known.len() == count,
        &format!("{count} episodes are there, the sample's as LSN {first} to {last}"),
    )?;
    server.kill()?;
    out::line("   The server was killed (SIGKILL): no goodbye, no flush.")?;
    let server = stage.start()?;
    claim(
        memory(server.client())? == known,
        "after the restart all of them are there, byte for byte",
    )?;
    server.kill()?;
    Ok(known)
}

/// Damage one frame while the server is dead: `wal verify` names it.
fn act_two(stage: &Stage) -> Outcome<FrameDump> {
    out::line("\n2. Killed again, and now one bit on the disk goes bad.")?;
    let hit = middle_frame(&stage.data())?;
    flip_bit(&stage.data(), &hit)?;
    let id = hit.id.as_deref().unwrap_or("?");
    out::line(&format!(
        "   Flipped one bit of {}, in the frame of {id:?} (LSN {}).",
        hit.file, hit.lsn
    ))?;
    let (code, report) = stage.run(&["wal", "verify", "--json"])?;
    let report: RecoveryReport = serde_json::from_slice(&report)
        .map_err(|e| Failure::failed(format!("`wal verify --json` is no report: {e}")))?;
    claim(
        code == Some(1) && report.lost_lsns == [[hit.lsn, hit.lsn]],
        &format!(
            "`engram wal verify` exits 1 and names it: lost LSN {}",
            ranges(&report.lost_lsns)
        ),
    )?;
    Ok(hit)
}

/// Restart on the damage: one is lost and named, everything else is there.
fn act_three(stage: &Stage, known: &Memory, hit: &FrameDump) -> Outcome {
    out::line("\n3. Restart on the damaged log.")?;
    let server = stage.start()?;
    let report: RecoveryReport = server.client().get("/v1/wal/recovery")?.json()?;
    out::line(&format!("   It says: {}.", recovery_in_words(&report)))?;
    claim(
        report.failed.damaged == 1 && report.lost_lsns == [[hit.lsn, hit.lsn]],
        &format!("one record is lost, and named: LSN {}", hit.lsn),
    )?;
    let rest = without(known, hit);
    claim(
        memory(server.client())? == rest,
        &format!("the other {} episodes are there, byte for byte", rest.len()),
    )?;
    let answer = server.client().get("/v1/wal/quarantine")?;
    let kept: Kept = answer.json()?;
    claim(!kept.items.is_empty(), "the damaged bytes are kept in the quarantine, with a report")?;
    server.kill()
}

/// Restart again: quiet. Stop: clean.
fn act_four(stage: &Stage, known: &Memory, hit: &FrameDump) -> Outcome {
    out::line("\n4. And once more.")?;
    let server = stage.start()?;
    claim(memory(server.client())? == without(known, hit), "all of them are still there")?;
    let lsn = remember(server.client(), "afterwards", "The memory goes on after the damage.")?;
    claim(lsn > hit.lsn, &format!("it remembers on, as LSN {lsn}: no number is given twice"))?;
    let (code, log) = server.stop()?;
    claim(code == Some(0), "asked to stop (SIGTERM), it seals the log and exits 0")?;
    let loud: Vec<&str> = log.lines().filter(|line| is_loud(line)).collect();
    claim(
        loud.is_empty(),
        &format!("this start had nothing to complain about ({} lines of log)", log.lines().count()),
    )?;
    Ok(())
}

#[derive(Debug, Deserialize)]
struct Kept {
    items: Vec<serde::de::IgnoredAny>,
}

/// Says a claim that holds; ends the demo on one that does not.
fn claim(holds: bool, what: &str) -> Outcome {
    if holds {
        return out::line(&format!("   ✓ {what}"));
    }
    out::line(&format!("   ✗ {what}"))?;
    Err(Failure::failed(format!("the demo's claim does not hold: {what}")))
}

fn remember(client: &Client, id: &str, what: &str) -> Outcome<u64> {
    #[derive(Deserialize)]
    struct Acknowledged {
        lsn: u64,
    }
    let body = serde_json::json!({ "id": id, "what": what }).to_string();
    let path = format!("/v1/spaces/{SPACE}/episodes");
    let answer = client.send(Method::Post("application/json"), &path, &[], body.as_bytes())?;
    Ok(answer.success()?.json::<Acknowledged>()?.lsn)
}

fn remember_sample(client: &Client) -> Outcome<(u64, u64)> {
    #[derive(Deserialize)]
    struct Acknowledged {
        first_lsn: u64,
        last_lsn: u64,
    }
    let path = format!("/v1/spaces/{SPACE}/episodes/batch");
    let media = Method::Post("application/x-ndjson");
    let answer = client.send(media, &path, &[], SAMPLE.as_bytes())?.success()?;
    let Acknowledged { first_lsn, last_lsn } = answer.json()?;
    Ok((first_lsn, last_lsn))
}

/// All that the server has, each episode as its JSON, LSN and time of recording included.
fn memory(client: &Client) -> Outcome<Memory> {
    #[derive(Deserialize)]
    struct Page {
        episodes: Vec<serde_json::Map<String, serde_json::Value>>,
    }
    let parameters = query(&[("limit", Some("1000"))]);
    let page: Page = client.get(&format!("/v1/spaces/{SPACE}/episodes{parameters}"))?.json()?;
    let entry = |episode: serde_json::Map<String, serde_json::Value>| {
        let id = episode.get("id").and_then(|id| id.as_str()).unwrap_or_default().to_owned();
        (id, serde_json::Value::Object(episode).to_string())
    };
    Ok(page.episodes.into_iter().map(entry).collect())
}

fn without(known: &Memory, hit: &FrameDump) -> Memory {
    let mut rest = known.clone();
    if let Some(id) = &hit.id {
        rest.remove(id);
    }
    rest
}

/// A frame with frames before and after it, so that the log knows it was synced.
fn middle_frame(data: &Path) -> Outcome<FrameDump> {
    let mut frames = Vec::new();
    inspect::dump(&engine::disk(), data, &mut |frame| {
        if frame.kind == "remember" && frame.verdict == "frame" {
            frames.push(frame);
        }
        Ok(())
    })?;
    let middle = frames.len() / 2;
    frames.into_iter().nth(middle).ok_or_else(|| Failure::failed("the log holds no frame"))
}

/// Flips one bit in the middle of a frame.
fn flip_bit(data: &Path, frame: &FrameDump) -> Outcome {
    let name = Path::new(&frame.file);
    let path =
        if data.join(name).is_file() { data.join(name) } else { data.join("wal").join(name) };
    let at = frame.offset + frame.bytes * 3 / 4;
    let flip = || {
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at)?;
        file.write_all_at(&[byte[0] ^ 1], at)?;
        file.sync_all()
    };
    flip().map_err(|e| Failure::failed(format!("cannot damage {}: {e}", path.display())))
}

/// Whether a line of the server's log is a warning or worse.
fn is_loud(line: &str) -> bool {
    #[derive(Deserialize)]
    struct Event {
        level: String,
    }
    // What is no event at all is loud too: a panic, a message of the system's.
    let event: Result<Event, _> = serde_json::from_str(line);
    event.map_or(true, |event| matches!(&*event.level, "WARN" | "ERROR"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_made_of_episodes_with_ids_of_their_own() {
        let mut ids = std::collections::BTreeSet::new();
        for line in SAMPLE.lines() {
            let episode: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(ids.insert(episode["id"].as_str().unwrap().to_owned()), "{line}");
            assert!(!episode["what"].as_str().unwrap().is_empty());
        }
    }

    #[test]
    fn warnings_and_strangers_are_loud() {
        assert!(!is_loud(r#"{"level":"INFO","message":"x"}"#));
        assert!(is_loud(r#"{"level":"WARN","message":"x"}"#));
        assert!(is_loud("thread 'main' panicked"));
    }
}
