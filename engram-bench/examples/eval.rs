//! How well recall answers: hybrid beside words alone and vectors alone.
//!
//! ```text
//! eval [--beside IMPORT.jsonl] [SET]...
//! ```
//! A `SET` (`engram-bench/eval` if left out) holds `episodes.jsonl`, a line
//! `{"id", "what", "space"?, "when"?, "where"?, "who"?}` each, and `questions.jsonl`, a line
//! `{"text", "answers": [id, ...], "space"?, "kind"?}` each. A question is asked of its space
//! alone. `--beside` names an import file whose episodes, at most 5,000 of them, are remembered in
//! every space beside the set. A question's rank is that of its best answer among the first 100;
//! hit@n counts ranks up to n, MRR is the mean of 1 / rank. Where questions have kinds, each kind is
//! counted by itself too.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use engram_core::{Condition, Cue, Draft, Options, Store, Weights};
use serde_json::Value;

const DISTRACTORS_MAX: usize = 5_000;
const DEPTH: usize = 100;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let mut arguments = std::env::args_os().skip(1);
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut sets, mut beside) = (Vec::new(), Vec::new());
    while let Some(argument) = arguments.next() {
        if argument == "--beside" {
            let path = arguments.next().ok_or("--beside names an import file")?;
            beside = lines(Path::new(&path))?;
            beside.truncate(DISTRACTORS_MAX);
        } else {
            sets.push(PathBuf::from(argument));
        }
    }
    if sets.is_empty() {
        sets.push(here.join("eval"));
    }
    let dir = here.join("../target/eval");
    let mut out = std::io::stdout().lock();
    for set in sets {
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        let store = Store::open(&dir, Options::default())?;
        write!(out, "{}: ", set.display())?;
        measure(&store, &set, &beside, &mut out)?;
    }
    Ok(())
}

/// Remembers a set, asks its questions in each way, and prints the table.
fn measure(
    store: &Store,
    set: &Path,
    beside: &[Value],
    out: &mut impl std::io::Write,
) -> Outcome<()> {
    let episodes = lines(&set.join("episodes.jsonl"))?;
    let questions = lines(&set.join("questions.jsonl"))?;
    let spaces: BTreeSet<&str> = episodes.iter().map(space).collect();
    for &name in &spaces {
        let own: Vec<&Value> = episodes.iter().filter(|one| space(one) == name).collect();
        remember(store, name, &own)?;
        remember(store, name, &beside.iter().collect::<Vec<_>>())?;
    }
    let (all, others) = (episodes.len(), beside.len());
    let (spaces, asked) = (spaces.len(), questions.len());
    writeln!(out, "{spaces} spaces, {all} episodes, {others} others in each, {asked} questions")?;
    let plain = Weights { recency: 0.0, confidence: 0.0, ..Weights::default() };
    let ways = [
        ("words", Weights { vector: 0.0, ..plain }),
        ("vectors", Weights { text: 0.0, ..plain }),
        ("hybrid", Weights::default()),
    ];
    let kinds: BTreeSet<&str> = questions.iter().filter_map(kind).collect();
    writeln!(out, "{:<8} {:>7} {:>7} {:>7}", "", "hit@1", "hit@10", "MRR")?;
    for (name, weights) in ways {
        let ranks = ranks(store, &questions, weights)?;
        writeln!(out, "{name:<8} {}", figures(&ranks))?;
        for &of in &kinds {
            let pairs = questions.iter().zip(&ranks);
            let own: Vec<_> =
                pairs.filter(|(one, _)| kind(one) == Some(of)).map(|(_, &rank)| rank).collect();
            writeln!(out, "{:<8} {}  {of}, {} questions", "", figures(&own), own.len())?;
        }
    }
    writeln!(out)?;
    Ok(())
}

/// hit@1, hit@10 and MRR.
fn figures(ranks: &[Option<u32>]) -> String {
    let all = u32::try_from(ranks.len()).map_or(f64::INFINITY, f64::from).max(1.0);
    let sum = |of: fn(u32) -> f64| ranks.iter().flatten().copied().map(of).sum::<f64>() / all;
    let (first, tenth) = (sum(|rank| within(rank, 1)), sum(|rank| within(rank, 10)));
    let mrr = sum(|rank| 1.0 / f64::from(rank));
    format!("{first:>7.3} {tenth:>7.3} {mrr:>7.3}")
}

fn within(rank: u32, most: u32) -> f64 {
    f64::from(u8::from(rank <= most))
}

/// The space of an episode or a question.
fn space(line: &Value) -> &str {
    line["space"].as_str().unwrap_or("eval")
}

fn kind(question: &Value) -> Option<&str> {
    question["kind"].as_str()
}

/// For each question, the rank of its best answer.
fn ranks(store: &Store, questions: &[Value], weights: Weights) -> Outcome<Vec<Option<u32>>> {
    let mut ranks = Vec::new();
    for question in questions {
        let text = question["text"].as_str().ok_or("a question without `text`")?;
        let answers = question["answers"].as_array().ok_or("a question without `answers`")?;
        let cue = Cue { weights, limit: Some(DEPTH), ..Cue::of(text) };
        let found = store.recall(space(question), &cue)?.episodes;
        let right = |id: &str| answers.iter().any(|answer| answer.as_str() == Some(id));
        let right = (1..).zip(&found).find(|(_, one)| right(&one.stored.episode.id));
        ranks.push(right.map(|(rank, _)| rank));
    }
    Ok(ranks)
}

fn remember(store: &Store, space: &str, episodes: &[&Value]) -> Outcome<()> {
    for chunk in episodes.chunks(1_000) {
        let drafts = chunk.iter().map(|episode| Ok(draft(episode))).collect();
        let kept = store.remember_batch(space, drafts, Condition::Any)?.wait()?;
        if let Some((index, e)) = kept.rejected.into_iter().next() {
            return Err(format!("episode {index}: {e}").into());
        }
    }
    Ok(())
}

fn draft(episode: &Value) -> Draft {
    let text = |name: &str| episode[name].as_str().map(str::to_owned);
    let who = episode["who"].as_array().into_iter().flatten();
    Draft {
        id: text("id"),
        what: text("what").unwrap_or_default(),
        when: text("when").and_then(|when| when.parse().ok()),
        place: text("where"),
        who: who.filter_map(Value::as_str).map(str::to_owned).collect(),
        ..Draft::default()
    }
}

fn lines(path: &Path) -> Outcome<Vec<Value>> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}
