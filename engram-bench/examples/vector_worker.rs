//! The vector index and the built-in embedder for `scripts/bench_recall`, which asks them in turn
//! with others.
//!
//! ```text
//! vector_worker embed TEXTS VECTORS [THREADS]
//! vector_worker index VECTORS QUERIES DIMENSION SAVED [THREADS]
//! ```
//! Files of vectors are little-endian `f32`s, one vector after the other, of length one each.
//!
//! `embed` writes the vector of each line of `TEXTS` and prints its rate as JSON.
//!
//! `index` loads the index from `SAVED`, or builds it and saves it there. Then each line of its
//! input, `exact|scan|walk BREADTH FIRST END`, asks the queries from `FIRST` to before `END`, and is
//! answered by a line `{"nanos": [...], "ranked": [[...]], "rescored": [[...]]}`: the ten
//! best as the index ranks them, and of its candidates as full precision ranks them; the time
//! includes both.

use std::error::Error;
use std::io::{BufRead as _, BufWriter, Write as _};
use std::time::Instant;

use engram_core::index::top::{Scored, Top};
use engram_core::index::vector::Vectors;
use engram_embed::Embedder;
use serde_json::{Value, json};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Answers to a query.
const NEAREST: usize = 10;
/// Candidates that are ranked again in full precision, as `Store::recall` does.
const CANDIDATES: usize = 40;
/// Plans made at a time, as the store's own thread does.
const PLANS: usize = 64;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["embed", texts, vectors, rest @ ..] => embed(texts, vectors, threads(rest)?),
        ["index", vectors, queries, dimension, saved, rest @ ..] => {
            let dimension = dimension.parse()?;
            let (base, queries) = (read(vectors)?, read(queries)?);
            let (index, built) = load_or_build(saved, &base, dimension, threads(rest)?)?;
            say(&json!({
                "vectors": index.len(), "bytes": index.bytes(), "build_seconds": built,
            }))?;
            answer(index, &base, &queries, dimension)
        }
        _ => Err("usage: see the head of this program's source".into()),
    }
}

fn threads(rest: &[&str]) -> Outcome<usize> {
    Ok(rest.first().map_or(Ok(1), |text| text.parse::<usize>())?.max(1))
}

fn say(line: &Value) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn read(path: &str) -> Outcome<Vec<f32>> {
    let bytes = std::fs::read(path)?;
    Ok(bytes.as_chunks::<4>().0.iter().map(|&value| f32::from_le_bytes(value)).collect())
}

fn embed(texts: &str, vectors: &str, threads: usize) -> Outcome<()> {
    let lines = std::fs::read_to_string(texts)?;
    let lines: Vec<&str> = lines.lines().collect();
    let embedder = Embedder::built_in()?;
    let begin = Instant::now();
    let made: Vec<Vec<Option<Vec<f32>>>> = std::thread::scope(|scope| {
        let parts = lines.chunks(lines.len().div_ceil(threads).max(1));
        let all = |part: &[&str]| part.iter().map(|line| embedder.embed(line)).collect();
        let running: Vec<_> =
            parts.map(|part| scope.spawn(move || -> Vec<_> { all(part) })).collect();
        running.into_iter().map(|one| one.join().unwrap_or_default()).collect()
    });
    let seconds = begin.elapsed().as_secs_f64();
    let mut out = BufWriter::new(std::fs::File::create(vectors)?);
    let mut without = 0;
    let dimension = made.iter().flatten().flatten().next().map_or(0, Vec::len);
    for vector in made.iter().flatten() {
        without += usize::from(vector.is_none());
        let nothing = vec![0.0; dimension];
        for value in vector.as_ref().unwrap_or(&nothing) {
            out.write_all(&value.to_le_bytes())?;
        }
    }
    out.flush()?;
    let characters: usize = lines.iter().map(|line| line.len()).sum();
    say(&json!({
        "texts": lines.len(), "bytes": characters, "without_vector": without,
        "threads": threads, "seconds": seconds,
    }))
}

fn load_or_build(
    saved: &str,
    base: &[f32],
    dimension: usize,
    threads: usize,
) -> Outcome<(Vectors, Option<f64>)> {
    if let Ok(bytes) = std::fs::read(saved) {
        return Ok((Vectors::load(&bytes)?.with_scan_max(0), None));
    }
    let mut vectors = Vectors::new(dimension).with_scan_max(0);
    let begin = Instant::now();
    for (slot, vector) in (0..).zip(base.chunks_exact(dimension)) {
        vectors.set(slot, vector);
    }
    build(&mut vectors, threads);
    let seconds = begin.elapsed().as_secs_f64();
    let part = format!("{saved}.part");
    let mut out = BufWriter::new(std::fs::File::create(&part)?);
    vectors.save(|piece| out.write_all(piece))?;
    out.flush()?;
    std::fs::rename(part, saved)?;
    Ok((vectors, Some(seconds)))
}

fn build(vectors: &mut Vectors, threads: usize) {
    while vectors.unlinked_len() > 0 {
        // The graph at first is too small to plan many at once.
        let many = PLANS.min(1 + (vectors.len() - vectors.unlinked_len()) / 16);
        let slots: Vec<u32> = vectors.unlinked().take(many).collect();
        let shared = &*vectors;
        let plans: Vec<_> = std::thread::scope(|scope| {
            let parts = slots.chunks(slots.len().div_ceil(threads));
            let plan = |part: &[u32]| part.iter().filter_map(|&slot| shared.plan(slot)).collect();
            let running: Vec<_> =
                parts.map(|part| scope.spawn(move || -> Vec<_> { plan(part) })).collect();
            running.into_iter().flat_map(|one| one.join().unwrap_or_default()).collect()
        });
        for plan in &plans {
            vectors.link(plan);
        }
    }
}

fn answer(mut index: Vectors, base: &[f32], queries: &[f32], dimension: usize) -> Outcome<()> {
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let parts: Vec<&str> = line.split_whitespace().collect();
        let [way, breadth, first, end] = parts.as_slice() else {
            return Err(format!("not a question: {line}").into());
        };
        let (breadth, first, end) = (breadth.parse()?, first.parse()?, end.parse::<usize>()?);
        index = index.with_scan_max(if *way == "walk" { 0 } else { usize::MAX });
        let (mut nanos, mut ranked, mut rescored) = (Vec::new(), Vec::new(), Vec::new());
        for query in queries.chunks_exact(dimension).take(end).skip(first) {
            let begin = Instant::now();
            let found = match *way {
                "exact" => index.exact(query, CANDIDATES, None),
                _ => index.nearest(query, CANDIDATES, breadth, None),
            };
            let better = rescore(base, query, &found);
            nanos.push(u64::try_from(begin.elapsed().as_nanos())?);
            ranked.push(slots(&found));
            rescored.push(slots(&better));
        }
        say(&json!({"nanos": nanos, "ranked": ranked, "rescored": rescored}))?;
    }
    Ok(())
}

fn slots(found: &[Scored]) -> Vec<u32> {
    found.iter().take(NEAREST).map(|one| one.slot).collect()
}

fn rescore(base: &[f32], query: &[f32], found: &[Scored]) -> Vec<Scored> {
    let mut best = Top::new(NEAREST);
    for &Scored { slot, .. } in found {
        let at = slot as usize * query.len();
        let vector = base.get(at..at + query.len()).unwrap_or_default();
        let mut sums = [0.0_f32; 16];
        for (a, b) in vector.chunks(16).zip(query.chunks(16)) {
            for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
                *sum += a * b;
            }
        }
        best.push(Scored { slot, score: sums.iter().sum() });
    }
    best.into_sorted()
}
