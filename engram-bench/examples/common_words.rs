//! Prints the words that are said everywhere, for `engram-core/src/index/text/common.rs`.
//!
//! ```text
//! make chitchat && cargo run --release -p engram-bench --example common_words -- FILE.jsonl
//! ```
//! `FILE.jsonl` is an import file, the chat corpus. Of each stem that at least fifty of ten thousand
//! texts hold it says how many do, most first. What stands in the table is this list without the
//! words that only say what the corpus is about (its studies, its films, itself).

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io::Write as _;

use engram_core::index::words::{each, stem};

/// Of ten thousand texts, at least so many.
const LEAST: usize = 50;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("which file? usage: common_words FILE.jsonl")?;
    let (mut texts, mut having) = (0_usize, BTreeMap::<String, usize>::new());
    for line in std::fs::read_to_string(path)?.lines() {
        let episode: serde_json::Value = serde_json::from_str(line)?;
        let mut stems = BTreeSet::new();
        each(episode["what"].as_str().unwrap_or_default(), |word, _| {
            stems.insert(stem(word).into_owned());
        });
        texts += 1;
        for stem in stems {
            *having.entry(stem).or_default() += 1;
        }
    }
    let share = |count: usize| count * 10_000 / texts.max(1);
    let mut common: Vec<(usize, &String)> = having
        .iter()
        .map(|(stem, &count)| (share(count), stem))
        .filter(|&(share, _)| share >= LEAST)
        .collect();
    common.sort_by(|one, other| other.0.cmp(&one.0).then(one.1.cmp(other.1)));
    let mut out = std::io::stdout().lock();
    for (share, stem) in common {
        writeln!(out, "{stem} {share}")?;
    }
    Ok(())
}
