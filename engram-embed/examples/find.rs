//! How often the embedder finds the right episode of `engram-bench/eval`.
//!
//! `cargo run --release -p engram-embed --example find [DISTRACTORS.jsonl]`
//!
//! Distractors are lines with a field `what`, such as `scripts/embedder/measure.py` writes; that
//! script also compares with the whole model and with BM25.

#![expect(clippy::print_stdout, reason = "this is what it is for")]

use std::error::Error;
use std::path::Path;

use engram_embed::Embedder;
use serde_json::Value;

/// An episode's id and its vector; distractors have an empty id.
type Candidate = (String, Vec<f32>);

fn main() -> Result<(), Box<dyn Error>> {
    let embedder = Embedder::built_in()?;
    let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../engram-bench/eval"));
    let mut lines = read(&dir.join("episodes.jsonl"))?;
    for file in std::env::args().skip(1) {
        lines.extend(read(Path::new(&file))?);
    }
    let candidates: Vec<Candidate> = lines
        .iter()
        .filter_map(|line| Some((text(line, "id"), embedder.embed(&text(line, "what"))?)))
        .collect();

    let questions = read(&dir.join("questions.jsonl"))?;
    let (mut first, mut ten, mut reciprocal) = (0.0, 0.0, 0.0);
    for question in &questions {
        let Some(rank) = rank(embedder, question, &candidates) else { continue };
        first += f64::from(u8::from(rank == 1));
        ten += f64::from(u8::from(rank <= 10));
        reciprocal += 1.0 / f64::from(rank);
    }
    let all = f64::from(u32::try_from(questions.len())?);
    println!("{} candidates, {all} questions", lines.len());
    println!(
        "hit@1 {:.1} %, hit@10 {:.1} %, MRR {:.3}",
        100.0 * first / all,
        100.0 * ten / all,
        reciprocal / all
    );
    Ok(())
}

/// The place, from 1, of the best of a question's answers.
fn rank(embedder: &Embedder, question: &Value, candidates: &[Candidate]) -> Option<u32> {
    let wanted = embedder.embed(&text(question, "text"))?;
    let near = |vector: &[f32]| -> f32 { vector.iter().zip(&wanted).map(|(a, b)| a * b).sum() };
    let mut order: Vec<(f32, &str)> =
        candidates.iter().map(|(id, vector)| (near(vector), id.as_str())).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    let answers = question["answers"].as_array()?;
    let right = |id: &str| answers.iter().any(|answer| answer.as_str() == Some(id));
    (1..).zip(order).find_map(|(rank, (_, id))| right(id).then_some(rank))
}

fn read(path: &Path) -> Result<Vec<Value>, Box<dyn Error>> {
    let content = std::fs::read_to_string(path)?;
    Ok(content.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

fn text(line: &Value, field: &str) -> String {
    line[field].as_str().unwrap_or_default().to_owned()
}
