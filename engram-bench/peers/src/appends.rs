//! Durable appends: the limit of the disk, Engram and its peers, at many numbers of writers and
//! sizes of records; and batches that callers bring ready-made.
//!
//! For each size all engines are open at once, each in a directory of its own, and take turns in
//! slices. In each round their order is drawn anew, and an engine's turn ends when it is quiet.

use std::path::Path;
use std::time::Duration;

use crate::crowd::{Slice, Written};
use crate::engines::{self, Setup};
use crate::matrix::{Matrix, Point};
use crate::record::{shuffled, text};
use crate::report::{Report, Target};
use crate::results::Results;
use crate::stats::Spread;
use crate::{Outcome, Plan, quiet};

const PART: &str = "appends";
/// The limit with one record a sync, and with as many as there are writers.
pub(crate) const LIMIT: &str = "limit, 1 a sync";
const LIMIT_READY: &str = "limit, all writers a sync";
/// The limit with as many records a sync as Engram reached in the same round.
const LIMIT_REACHED: &str = "limit, Engram's batch";
/// The same past the page cache, which is how Engram writes.
const LIMIT_DIRECT: &str = "limit, Engram's batch, direct";
/// That of a log that grows: zeros are written ahead as well.
const LIMIT_GROWING: &str = "limit, Engram's batch, growing";
const ENGRAM: &str = "engram";
const INDEXING: &str = "engram-indexing";
/// It has turns with so many writers only: each of them takes ten seconds to be indexed.
const INDEXING_WRITERS: [usize; 3] = [1, 32, 128];
/// What Engram is compared with: durable logs and stores. The bare append is no store.
const PEERS: [&str; 6] = ["sqlite", "redb", "fjall", "raft-engine", "okaywal", "rocksdb"];

/// Measures with records of one size.
pub(crate) fn run(plan: &Plan, record_bytes: usize) -> Outcome<Results> {
    let writers: &[usize] = if plan.quick { &[1, 32, 128] } else { &[1, 2, 4, 8, 16, 32, 64, 128] };
    let (mut singles, mut batches) = (Matrix::default(), Matrix::default());
    let mut report = Report::default();
    let mut field = Field::open(plan, record_bytes, &mut report)?;
    for writers in writers {
        field.singles(plan, *writers, &mut singles)?;
    }
    let sizes: &[usize] = if plan.quick { &[100] } else { &[10, 100] };
    for batch in sizes.iter().copied() {
        field.batches(plan, batch, &mut batches)?;
    }
    drop(field);
    judge(&singles, &mut report);
    let mut results = Results::of(report);
    results.matrices.push((PART, singles));
    results.matrices.push(("batches", batches));
    Ok(results)
}

/// All engines, open side by side.
struct Field {
    record: String,
    limit: engines::Written,
    engines: Vec<(&'static str, Written)>,
    dice: u64,
}

impl Field {
    fn open(plan: &Plan, record_bytes: usize, report: &mut Report) -> Outcome<Self> {
        let dir = plan.fresh_dir(PART)?;
        let record = text(record_bytes);
        let limit = engines::Written::prepare(&dir, &record)?;
        let setup = Setup { record_bytes, writers_max: 128, prefills: true };
        let mut opened = Vec::new();
        for (name, open) in engines::all().into_iter().filter(|(name, _)| plan.wants(name)) {
            // One that cannot be opened is told, and the others go on.
            match open_one(&dir, name, open, setup) {
                Ok(engine) => opened.push((name, Written::new(engine))),
                Err(cause) => report.fail(PART, &format!("{name}: {cause}")),
            }
        }
        Ok(Self { record, limit, engines: opened, dice: u64::from(std::process::id()) })
    }

    /// So many rounds at one number of writers.
    fn singles(&mut self, plan: &Plan, writers: usize, to: &mut Matrix) -> Outcome<()> {
        let point = Point { record_bytes: self.record.len(), writers };
        let slice = plan.slice();
        // The first round is thrown away: caches are cold, files still small.
        for round in 0..=plan.rounds() {
            let mut push = |name: &str, observed: Slice| {
                if round > 0 {
                    to.push(&point, name, observed);
                }
            };
            for place in shuffled(self.engines.len(), &mut self.dice) {
                let Some((name, written)) = self.engines.get(place) else { continue };
                if *name == INDEXING && !INDEXING_WRITERS.contains(&writers) {
                    continue;
                }
                let mut observed = written.slice(writers, &self.record, slice)?;
                observed.debt = calm(written)?;
                let reached = observed.batch.filter(|_| *name == ENGRAM);
                push(name, observed);
                // The limits have their turns right behind: what is held against them is near.
                if let Some(reached) = reached {
                    push(LIMIT, limit_slice(&mut self.limit, 1, slice)?);
                    push(LIMIT_REACHED, limit_slice(&mut self.limit, whole(reached), slice)?);
                    push(LIMIT_READY, limit_slice(&mut self.limit, writers, slice)?);
                    for (name, grows) in [(LIMIT_DIRECT, false), (LIMIT_GROWING, true)] {
                        let batch = whole(reached);
                        if let Some(observed) = direct_slice(&mut self.limit, batch, grows, slice)?
                        {
                            push(name, observed);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// So many rounds of one caller with ready-made batches.
    fn batches(&mut self, plan: &Plan, batch: usize, to: &mut Matrix) -> Outcome<()> {
        let point = Point { record_bytes: self.record.len(), writers: batch };
        let slice = plan.slice();
        for round in 0..=plan.rounds().div_ceil(2) {
            for place in shuffled(self.engines.len(), &mut self.dice) {
                let Some((name, written)) = self.engines.get(place) else { continue };
                if *name == INDEXING {
                    continue;
                }
                let mut observed = written.batches(batch as u64, &self.record, slice)?;
                observed.debt = calm(written)?;
                if round > 0 {
                    to.push(&point, name, observed);
                }
            }
            let observed = limit_slice(&mut self.limit, batch, slice)?;
            if round > 0 {
                to.push(&point, LIMIT_READY, observed);
            }
        }
        Ok(())
    }
}

fn open_one(
    dir: &Path,
    name: &str,
    open: engines::Open,
    setup: Setup,
) -> Outcome<Box<dyn engines::Engine>> {
    let engine = open(&dir.join(name), setup)?;
    quiet::wait("self")?;
    Ok(engine)
}

fn limit_slice(limit: &mut engines::Written, batch: usize, slice: Duration) -> Outcome<Slice> {
    let mut latencies = Vec::new();
    let rate = limit.slice(batch, slice, &mut latencies)?;
    Ok(Slice { rate, latencies, batch: Some(crate::stats::float(batch)), debt: 0.0 })
}

fn direct_slice(
    limit: &mut engines::Written,
    batch: usize,
    grows: bool,
    slice: Duration,
) -> Outcome<Option<Slice>> {
    let mut latencies = Vec::new();
    let rate = limit.slice_direct(batch, grows, slice, &mut latencies)?;
    let batch = Some(crate::stats::float(batch));
    Ok(rate.map(|rate| Slice { rate, latencies, batch, debt: 0.0 }))
}

/// Waits for what the engine still does, and lets its users tidy.
fn calm(written: &Written) -> Outcome<f64> {
    let debt = quiet::wait("self")?;
    written.engine.rest()?;
    quiet::wait("self")?;
    Ok(debt)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 65,536")]
fn whole(batch: f64) -> usize {
    batch.round().max(1.0) as usize
}

/// Holds the figures against the targets.
fn judge(matrix: &Matrix, report: &mut Report) {
    let ratio = "ratio";
    for point in matrix.points().cloned().collect::<Vec<_>>() {
        let Point { record_bytes, writers } = point;
        let at = format!("{}, {writers} writers", crate::record::name(record_bytes));
        let (to_limit, to_best) = match (record_bytes, writers) {
            (3500, 1) => (Target::AtLeast(0.9), Target::AtLeast(1.0)),
            (3500, 32 | 128) => (Target::AtLeast(0.7), Target::AtLeast(1.5)),
            (65_536, 32) => (Target::AtLeast(0.8), Target::None),
            _ => (Target::None, Target::None),
        };
        let limit = if writers == 1 { LIMIT } else { LIMIT_REACHED };
        if let Some(spread) = matrix.ratio(&point, ENGRAM, limit) {
            report.add(PART, format!("{at}: engram / {limit}"), ratio, Some(spread), to_limit);
        }
        for limit in [LIMIT_DIRECT, LIMIT_GROWING] {
            if let Some(spread) = matrix.ratio(&point, ENGRAM, limit) {
                let what = format!("{at}: engram / {limit}");
                report.add(PART, what, ratio, Some(spread), Target::None);
            }
        }
        let best = matrix.best(&point, &PEERS);
        let to = best.and_then(|best| Some((best, matrix.ratio(&point, ENGRAM, best)?)));
        if let Some((best, spread)) = to {
            report.add(PART, format!("{at}: engram / {best}"), ratio, Some(spread), to_best);
        }
        let batches = matrix.series(&point, ENGRAM).and_then(|series| Spread::of(&series.batches));
        if let Some(spread) = batches {
            let what = format!("{at}: engram's records a sync");
            report.add(PART, what, "records", Some(spread), Target::None);
        }
    }
}
