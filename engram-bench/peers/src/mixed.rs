//! Reads beside durable writes: of ten operations nine read a record that is there, by its key,
//! drawn at random, and one appends and waits for the sync.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::crowd::Written;
use crate::engines::{self, Setup};
use crate::matrix::{Matrix, Point};
use crate::record::{shuffled, text};
use crate::report::{Report, Target};
use crate::results::Results;
use crate::{Outcome, Plan, quiet};

const PART: &str = "mixed";
const RECORD_BYTES: usize = 3500;
/// Records to read.
const KNOWN: u64 = 20_000;
const BATCH: u64 = 500;
const READS_A_WRITE: u64 = 9;
/// Those that find a record by its key, and keep it.
const ENGINES: &[&str] = &[
    "engram",
    "sqlite",
    "redb",
    "fjall",
    #[cfg(feature = "rocksdb")]
    "rocksdb",
];

/// Measures.
pub(crate) fn run(plan: &Plan) -> Outcome<Results> {
    let dir = plan.fresh_dir(PART)?;
    let record = text(RECORD_BYTES);
    let setup = Setup { record_bytes: RECORD_BYTES, writers_max: 32, prefills: true };
    let mut opened = Vec::new();
    for name in ENGINES.iter().copied().filter(|name| plan.wants(name)) {
        let engine = engines::named(name)?(&dir.join(name), setup)?;
        for first in (0..KNOWN).step_by(usize::try_from(BATCH)?) {
            engine.append_batch(first..first + BATCH, &record)?;
        }
        opened.push((name, Written::new(engine), AtomicU64::new(KNOWN)));
    }
    let mut matrix = Matrix::default();
    let mut dice = u64::from(std::process::id());
    for threads in [1, 8, 32] {
        let point = Point { record_bytes: RECORD_BYTES, writers: threads };
        for round in 0..=plan.rounds() {
            for place in shuffled(opened.len(), &mut dice) {
                let Some((name, written, next)) = opened.get(place) else { continue };
                let mut observed = written.run(threads, plan.slice(), |thread| {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    for read in 0..READS_A_WRITE {
                        // A multiplicative hash: no two threads read in step.
                        let mixed =
                            (number * READS_A_WRITE + read).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                        let known = (mixed >> 32) % KNOWN;
                        if written.engine.read(known)? != Some(RECORD_BYTES) {
                            return Err(format!("{name}: record {known} is not there").into());
                        }
                    }
                    written.engine.append(thread, number, &record)?;
                    Ok(READS_A_WRITE + 1)
                })?;
                observed.debt = quiet::wait("self")?;
                if round > 0 {
                    matrix.push(&point, name, observed);
                }
            }
        }
    }
    let mut report = Report::default();
    let peers: Vec<&str> = ENGINES.iter().copied().filter(|name| *name != "engram").collect();
    for point in matrix.points() {
        if let Some(best) = matrix.best(point, &peers) {
            let what = format!("{} threads: engram / {best}", point.writers);
            report.add(PART, what, "ratio", matrix.ratio(point, "engram", best), Target::None);
        }
    }
    let mut results = Results::of(report);
    results.matrices.push((PART, matrix));
    Ok(results)
}
