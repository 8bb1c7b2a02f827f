//! What lasts: the same writers for ten seconds without a rest, so that what an engine put off while they
//! wrote (indexes, vectors, tables) is done beside them; and how long it then still takes.
//!
//! Turns of a fifth of a second, which all else here is compared by, end before that begins. These are
//! too long for a machine whose speed drifts within seconds: ratios are rough, and have no target.

use std::time::Duration;

use crate::crowd::{Slice, Written};
use crate::engines::{self, Setup};
use crate::matrix::{Matrix, Point};
use crate::record::text;
use crate::report::{Report, Target};
use crate::results::Results;
use crate::servers;
use crate::stats::Spread;
use crate::{Outcome, Plan, quiet, record};

const PART: &str = "sustained";
const WRITERS: usize = 32;
const TURN: Duration = Duration::from_secs(10);
const ROUNDS: usize = 3;
const RECORD_BYTES: usize = 1024;
const ENGRAM: &str = "engram";
/// Those that keep what they were given, and find it again. Each has a directory to itself.
const ENGINES: &[&str] = &[
    ENGRAM,
    "engram-indexing",
    "fjall",
    #[cfg(feature = "rocksdb")]
    "rocksdb",
];

/// Measures.
pub(crate) fn run(plan: &Plan) -> Outcome<Results> {
    let point = Point { record_bytes: RECORD_BYTES, writers: WRITERS };
    let text = text(RECORD_BYTES);
    let mut report = Report::default();
    let mut matrix = Matrix::default();
    let setup = Setup { record_bytes: RECORD_BYTES, writers_max: WRITERS, prefills: true };
    for round in 0..ROUNDS {
        for name in ENGINES.iter().copied().filter(|name| plan.wants(name)) {
            let dir = plan.fresh_dir(PART)?;
            let written = Written::new(engines::named(name)?(&dir, setup)?);
            quiet::wait("self")?;
            let turn = written.slice(WRITERS, &text, TURN)?;
            matrix.push(&point, name, Slice { debt: quiet::wait("self")?, ..turn });
        }
        for name in servers::NAMES.iter().copied().filter(|name| plan.wants(name)) {
            let dir = plan.fresh_dir(PART)?;
            let (running, missing) = servers::start_all(&dir, |server| server == name);
            if round == 0 {
                for missing in missing {
                    report.note(missing);
                }
            }
            let Some(server) = running.first() else { continue };
            let mut clients = server.clients(WRITERS, &text)?;
            quiet::wait(&server.process())?;
            let turn = clients.slice(TURN)?;
            let debt = quiet::wait(&server.process())?;
            matrix.push(&point, name, Slice { debt, ..turn });
        }
    }
    for name in matrix.engines() {
        let Some(series) = matrix.series(&point, name) else { continue };
        let at = format!("{}, {WRITERS} writers: {name}", record::name(RECORD_BYTES));
        let figures = [
            ("records a second", "records", &series.rates),
            ("p99", "seconds", &series.p99),
            ("worked on after it (30 at most are waited for)", "seconds", &series.debts),
        ];
        for (what, unit, values) in figures {
            report.add(PART, format!("{at}, {what}"), unit, Spread::of(values), Target::None);
        }
    }
    let mut results = Results::of(report);
    results.matrices.push((PART, matrix));
    Ok(results)
}
