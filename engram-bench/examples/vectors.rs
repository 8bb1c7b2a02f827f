//! Measures the vector index on vectors of one's own: how many of the true nearest it finds, and
//! how long that takes, on one core.
//!
//! ```text
//! vectors BASE QUERIES [DIMENSION [COUNT [THREADS]]]
//! ```
//! Both files hold little-endian `f32`s, one vector after the other, of length one each. Of 256
//! components each, all of them, and one thread to build, unless told otherwise.

use std::error::Error;
use std::io::Write;
use std::time::Instant;

use engram_core::index::bits::Bits;
use engram_core::index::top::{Scored, Top};
use engram_core::index::vector::Vectors;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What must be found.
const NEAREST: usize = 10;
/// Candidates that are ranked again in full precision.
const CANDIDATES: usize = 40;
/// Queries asked at most.
const QUERIES_MAX: usize = 1000;
/// Plans made at a time, as a driver would.
const PLANS: usize = 64;

fn say(line: &str) {
    writeln!(std::io::stdout().lock(), "{line}").unwrap_or_default();
}

fn read(path: &str, values_max: usize) -> Outcome<Vec<f32>> {
    let bytes = std::fs::read(path)?;
    let values = bytes.chunks_exact(4).take(values_max);
    Ok(values.map(|value| f32::from_le_bytes(value.try_into().unwrap_or_default())).collect())
}

/// The true nearest, in full precision.
fn truth(base: &[f32], query: &[f32]) -> Vec<u32> {
    let mut best = Top::new(NEAREST);
    for (slot, vector) in (0..).zip(base.chunks_exact(query.len())) {
        let mut sums = [0.0_f32; 16];
        for (a, b) in vector.chunks(16).zip(query.chunks(16)) {
            for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
                *sum += a * b;
            }
        }
        best.push(Scored { score: sums.iter().sum(), slot });
    }
    best.into_sorted().iter().map(|one| one.slot).collect()
}

fn build(vectors: &mut Vectors, threads: usize) {
    while vectors.unlinked_len() > 0 {
        // The graph at first is too small to plan many at once.
        let many = PLANS.min(1 + vectors.len().saturating_sub(vectors.unlinked_len()) / 16);
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

fn measure(
    name: &str,
    queries: &[f32],
    truths: &[Vec<u32>],
    dimension: usize,
    ask: impl Fn(&[f32]) -> Vec<Scored>,
) {
    let (mut times, mut found, mut covered) = (Vec::new(), 0, 0);
    for (query, truth) in queries.chunks_exact(dimension).zip(truths) {
        let begin = Instant::now();
        let answer = ask(query);
        times.push(begin.elapsed().as_secs_f64() * 1e6);
        let has = |of: &[Scored]| truth.iter().filter(|t| of.iter().any(|o| o.slot == **t)).count();
        found += has(&answer[..NEAREST.min(answer.len())]);
        covered += has(&answer);
    }
    times.sort_by(f64::total_cmp);
    let all: usize = truths.iter().map(Vec::len).sum();
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let share = |part: usize| part as f64 / all as f64;
    say(&format!(
        "{name:24} recall@10 {:.4}, of {CANDIDATES} candidates {:.4}; p50 {:.0} us, p99 {:.0} us",
        share(found),
        share(covered),
        times[times.len() / 2],
        times[times.len() * 99 / 100],
    ));
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, unless: usize| -> Outcome<usize> {
        Ok(arguments.get(at).map_or(Ok(unless), |text| text.parse())?)
    };
    let [base, queries, ..] = arguments.as_slice() else {
        return Err("usage: vectors BASE QUERIES [DIMENSION [COUNT [THREADS]]]".into());
    };
    let (dimension, count, threads) = (number(2, 256)?, number(3, usize::MAX)?, number(4, 1)?);
    let base = read(base, count.saturating_mul(dimension))?;
    let queries = read(queries, QUERIES_MAX * dimension)?;
    let truths: Vec<_> = queries.chunks_exact(dimension).map(|query| truth(&base, query)).collect();

    let mut vectors = Vectors::new(dimension).with_scan_max(0);
    let begin = Instant::now();
    for (slot, vector) in (0..).zip(base.chunks_exact(dimension)) {
        vectors.set(slot, vector);
    }
    let (count, set) = (vectors.len(), begin.elapsed().as_secs_f64());
    say(&format!("{count} vectors set in {set:.1} s, {} MB", vectors.bytes() / 1_000_000));
    if count < 300_000 {
        measure("scan", &queries, &truths, dimension, |query| {
            vectors.exact(query, CANDIDATES, None)
        });
    }
    let begin = Instant::now();
    build(&mut vectors, threads.max(1));
    let linked = begin.elapsed().as_secs_f64();
    say(&format!("linked in {linked:.1} s, {} MB", vectors.bytes() / 1_000_000));

    for breadth in [40, 64, 96, 128, 192, 256, 400] {
        measure(&format!("walk, breadth {breadth}"), &queries, &truths, dimension, |query| {
            vectors.nearest(query, CANDIDATES, breadth, None)
        });
    }
    for every in [2, 5, 10, 20, 50, 100] {
        let few: Bits = (0..u32::try_from(count)?).step_by(every).collect();
        let scan = |query: &[f32]| vectors.exact(query, CANDIDATES, Some(&few));
        let walk = |query: &[f32]| vectors.nearest(query, CANDIDATES, 128, Some(&few));
        let queries = &queries[..200.min(queries.len() / dimension) * dimension];
        let truths: Vec<Vec<u32>> = queries
            .chunks_exact(dimension)
            .map(|query| scan(query).iter().take(NEAREST).map(|one| one.slot).collect())
            .collect();
        measure(&format!("one of {every}, scan"), queries, &truths, dimension, scan);
        measure(&format!("one of {every}, nearest"), queries, &truths, dimension, walk);
    }
    Ok(())
}
