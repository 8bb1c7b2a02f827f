//! How well recall answers: hybrid beside words alone and vectors alone.
//!
//! ```text
//! eval [SET] [DISTRACTORS]
//! ```
//! `SET` (`engram-bench/eval` if left out) holds `episodes.jsonl`, a line
//! `{"id", "what", "when"?, "where"?, "who"?}` each, and `questions.jsonl`, a line
//! `{"text", "answers": [id, ...]}` each. `DISTRACTORS` is an import file whose episodes, at most
//! 5,000 of them, are remembered beside the set. A question's rank is that of its best answer
//! among the first 100; hit@n counts ranks up to n, MRR is the mean of 1 / rank.

use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use engram_core::{Condition, Cue, Draft, Options, Store, Weights};
use serde_json::Value;

const DISTRACTORS_MAX: usize = 5_000;
const DEPTH: usize = 100;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let set = arguments.next().unwrap_or_else(|| here.join("eval"));
    let distractors = arguments.next();
    let dir = here.join("../target/eval");
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    let store = Store::open(&dir, Options::default())?;
    let episodes = lines(&set.join("episodes.jsonl"))?;
    remember(&store, &episodes)?;
    let mut beside = distractors.map_or_else(|| Ok(Vec::new()), |path| lines(&path))?;
    beside.truncate(DISTRACTORS_MAX);
    remember(&store, &beside)?;
    let questions = lines(&set.join("questions.jsonl"))?;

    let plain = Weights { recency: 0.0, confidence: 0.0, ..Weights::default() };
    let ways = [
        ("words", Weights { vector: 0.0, ..plain }),
        ("vectors", Weights { text: 0.0, ..plain }),
        ("hybrid", Weights::default()),
    ];
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{} episodes, {} others, {} questions",
        episodes.len(),
        beside.len(),
        questions.len()
    )?;
    writeln!(out, "{:<8} {:>7} {:>7} {:>7}", "", "hit@1", "hit@10", "MRR")?;
    for (name, weights) in ways {
        let ranks = ranks(&store, &questions, weights)?;
        let all = f64::from(u32::try_from(questions.len())?);
        let sum = |of: fn(u32) -> f64| ranks.iter().flatten().copied().map(of).sum::<f64>() / all;
        let (first, tenth) = (sum(|rank| within(rank, 1)), sum(|rank| within(rank, 10)));
        let mrr = sum(|rank| 1.0 / f64::from(rank));
        writeln!(out, "{name:<8} {first:>7.3} {tenth:>7.3} {mrr:>7.3}")?;
    }
    Ok(())
}

fn within(rank: u32, most: u32) -> f64 {
    f64::from(u8::from(rank <= most))
}

/// For each question, the rank of its best answer.
fn ranks(store: &Store, questions: &[Value], weights: Weights) -> Outcome<Vec<Option<u32>>> {
    let mut ranks = Vec::new();
    for question in questions {
        let text = question["text"].as_str().ok_or("a question without `text`")?;
        let answers = question["answers"].as_array().ok_or("a question without `answers`")?;
        let cue = Cue { weights, limit: Some(DEPTH), ..Cue::of(text) };
        let found = store.recall("eval", &cue)?.episodes;
        let right = |id: &str| answers.iter().any(|answer| answer.as_str() == Some(id));
        let right = (1..).zip(&found).find(|(_, one)| right(&one.stored.episode.id));
        ranks.push(right.map(|(rank, _)| rank));
    }
    Ok(ranks)
}

fn remember(store: &Store, episodes: &[Value]) -> Outcome<()> {
    for chunk in episodes.chunks(1_000) {
        let drafts = chunk.iter().map(|episode| Ok(draft(episode))).collect();
        let kept = store.remember_batch("eval", drafts, Condition::Any)?.wait()?;
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
