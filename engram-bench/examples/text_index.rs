//! Measures the text index over the texts of an import file.
//!
//! ```text
//! cargo run --release -p engram-bench --example text_index -- FILE.jsonl
//! ```
//! It indexes the `what` of each line on one core, and asks what is a question of six to twelve
//! words among them, each alone and through filters. Deliberately absent: the log and the server;
//! this is the index by itself.

use std::hint::black_box;
use std::io::Write;
use std::time::{Duration, Instant};

use engram_core::index::bits::Bits;
use engram_core::index::text::{Query, Texts};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const LIMIT: usize = 10;

fn main() -> Outcome {
    let path = std::env::args().nth(1).ok_or("which file? usage: text_index FILE.jsonl")?;
    let mut texts = Vec::new();
    for line in std::fs::read_to_string(path)?.lines() {
        let episode: serde_json::Value = serde_json::from_str(line)?;
        texts.extend(episode.get("what").and_then(|what| what.as_str()).map(str::to_owned));
    }
    let mut out = std::io::stdout().lock();

    let resident = resident()?;
    let begin = Instant::now();
    let mut index = Texts::new();
    for (slot, text) in (0..).zip(&texts) {
        index.set(slot, text);
    }
    let took = begin.elapsed();
    let rate = f64::from(u32::try_from(index.len())?) / took.as_secs_f64();
    writeln!(out, "{} texts, {} terms in {took:?}: {rate:.0}/s", index.len(), index.terms())?;
    let grown = self::resident()?.saturating_sub(resident);
    writeln!(out, "says {} bytes, resident memory grew by {grown}", index.bytes())?;

    let is_question =
        |text: &&String| text.ends_with('?') && (6..=12).contains(&text.split_whitespace().count());
    let asked: Vec<&String> = texts.iter().filter(is_question).step_by(7).take(1_000).collect();
    let plain: Vec<Query> =
        asked.iter().map(|text| Query::parse(&text.replace('"', " "))).collect();
    let end = u32::try_from(texts.len())?;
    ask(&mut out, "questions", &index, &plain, None)?;
    for part in [2, 10, 100, 1_000, 10_000] {
        let bits: Bits =
            (0..end).filter(|slot| slot.wrapping_mul(0x9E37_79B1) % part == 0).collect();
        ask(&mut out, &format!("one of {part}"), &index, &plain, Some(&bits))?;
    }
    let pair = |text: &&String| {
        let words: Vec<&str> = text.split_whitespace().collect();
        Query::parse(&format!("\"{} {}\"", words[2], words[3]))
    };
    let phrases: Vec<Query> = asked.iter().map(pair).collect();
    ask(&mut out, "phrases of two", &index, &phrases, None)?;
    let start = |text: &&String| {
        let word = text.split_whitespace().max_by_key(|word| word.len()).unwrap_or_default();
        Query::parse(&format!("{}*", word.chars().take(4).collect::<String>()))
    };
    let prefixes: Vec<Query> = asked.iter().map(start).collect();
    ask(&mut out, "prefixes of four", &index, &prefixes, None)?;

    let mut times = Vec::new();
    for slot in (0..end).step_by(usize::try_from(end / 10_000 + 1)?) {
        let begin = Instant::now();
        black_box(index.remove(slot));
        times.push(begin.elapsed());
    }
    told(&mut out, "remove", times)
}

fn ask(
    out: &mut impl Write,
    name: &str,
    index: &Texts,
    queries: &[Query],
    allowed: Option<&Bits>,
) -> Outcome {
    let mut times = Vec::new();
    for _ in 0..3 {
        times.clear();
        for query in queries {
            let begin = Instant::now();
            black_box(index.search(query, LIMIT, allowed));
            times.push(begin.elapsed());
        }
    }
    told(out, name, times)
}

fn told(out: &mut impl Write, name: &str, mut times: Vec<Duration>) -> Outcome {
    times.sort();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    let worst = times.last().copied().unwrap_or_default();
    writeln!(out, "{name}: p50 {:?}, p99 {:?}, worst {worst:?}", at(50), at(99))?;
    Ok(())
}

/// Bytes of memory of this process's own, as Linux has it.
fn resident() -> Result<usize, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib: usize =
        line.and_then(|line| line.split_whitespace().next()).ok_or("no RssAnon")?.parse()?;
    Ok(kib * 1_024)
}
