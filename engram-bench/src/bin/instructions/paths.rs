//! The paths that are counted, each with its preparation, which is not.

use std::path::{Path, PathBuf};

use engram_core::store::Drive;
use engram_core::{Condition, Cue, Draft, Durability, Options, Store};

use crate::Outcome;

/// Real sentences, a thousand of them.
const CHATS: &str = include_str!("../../../../engram-core/tests/fixtures/chitchat-sample.jsonl");
const SPACE: &str = "bench";
const TEXT_BYTES: usize = 3500;

/// A path, and how many of its operations are the few and the many.
#[derive(Debug)]
pub(crate) struct HotPath {
    pub(crate) name: &'static str,
    pub(crate) few: u64,
    pub(crate) many: u64,
    /// Makes what it needs, in a directory of its own, given the operations.
    pub(crate) prepare: Option<fn(&Path, u64) -> Outcome<()>>,
    pub(crate) run: fn(&Path, u64) -> Outcome<()>,
}

/// All of them.
pub(crate) const PATHS: [HotPath; 4] = [
    // An episode of 3.5 KB from draft to answer.
    HotPath { name: "remember", few: 200, many: 600, prepare: None, run: remember },
    // A frame of such an episode from file to directory.
    HotPath { name: "recover", few: 500, many: 1500, prepare: Some(remember), run: recover },
    // A question by words and meaning over a thousand sentences.
    HotPath { name: "recall", few: 20, many: 60, prepare: Some(keep_chats), run: recall },
    // The vector of one sentence.
    HotPath { name: "embed", few: 200, many: 1000, prepare: None, run: embed },
];

/// An empty directory.
pub(crate) fn fresh(dir: &Path) -> Outcome<PathBuf> {
    if dir.exists() {
        std::fs::remove_dir_all(dir)?;
    }
    std::fs::create_dir_all(dir)?;
    Ok(dir.canonicalize()?)
}

/// Without threads, and as a durable store but for the syncs: they cost time and no instructions.
fn open(data: &Path) -> Outcome<Store> {
    let options = Options {
        durability: Durability::Never,
        drive: Drive::Steps,
        recovery_threads: 1,
        index_in_background: false,
        ..Options::default()
    };
    Ok(Store::open(data, options)?)
}

fn remember(data: &Path, operations: u64) -> Outcome<()> {
    let store = open(data)?;
    for number in 0..operations {
        let id = Some(format!("e{number:011}"));
        let draft = Draft { id, ..Draft::of("w".repeat(TEXT_BYTES)) };
        store.remember(SPACE, draft, Condition::Any)?.wait()?;
    }
    Ok(store.close()?)
}

fn recover(data: &Path, operations: u64) -> Outcome<()> {
    let store = open(data)?;
    let recovered = store.recovery_report().recovered;
    if recovered < operations {
        return Err(format!("{recovered} of {operations} were recovered").into());
    }
    Ok(store.close()?)
}

fn sentences() -> Outcome<Vec<String>> {
    let what = |line| -> Outcome<String> {
        let episode: serde_json::Value = serde_json::from_str(line)?;
        Ok(episode["what"].as_str().ok_or("an episode without what")?.to_owned())
    };
    CHATS.lines().map(what).collect()
}

fn keep_chats(data: &Path, _operations: u64) -> Outcome<()> {
    let store = open(data)?;
    for (number, what) in sentences()?.into_iter().enumerate() {
        let draft = Draft { id: Some(format!("e{number:011}")), ..Draft::of(what) };
        store.remember(SPACE, draft, Condition::Any)?.wait()?;
    }
    Ok(store.close()?)
}

/// The index is made by the first of them, and cancels out with the start.
fn recall(data: &Path, operations: u64) -> Outcome<()> {
    let store = open(data)?;
    let sentences = sentences()?;
    for text in sentences.iter().step_by(7).cycle().take(usize::try_from(operations)?) {
        let cue = Cue { text: Some(text.clone()), limit: Some(10), ..Cue::default() };
        store.recall(SPACE, &cue)?;
    }
    Ok(store.close()?)
}

fn embed(_data: &Path, operations: u64) -> Outcome<()> {
    let embedder = engram_embed::Embedder::built_in()?;
    let sentences = sentences()?;
    let texts = sentences.iter().cycle().take(usize::try_from(operations)?);
    let vectors = texts.filter(|text| embedder.embed(text).is_some()).count();
    if vectors == 0 {
        return Err("nothing was embedded".into());
    }
    Ok(())
}
