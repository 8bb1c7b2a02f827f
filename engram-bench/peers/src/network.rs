//! Servers side by side: Engram over HTTP, Redis with `appendfsync always`, PostgreSQL with
//! `synchronous_commit=on`; each answers when the record is synced.
//!
//! Each has the same client (see [`crate::wire`]); Redis has its own `redis-benchmark` as well,
//! where it is installed, and the better of the two counts.

use std::process::Command;

use crate::crowd::Slice;
use crate::matrix::{Matrix, Point};
use crate::record::{name, shuffled, text};
use crate::report::{Report, Target};
use crate::results::Results;
use crate::servers::{self, Running};
use crate::wire::Clients;
use crate::{Outcome, Plan, quiet};

const PART: &str = "network";
/// Without its embedder: the others make no vectors either.
pub(crate) const ENGRAM: &str = "engram-server";
const REDIS_BENCHMARK: &str = "redis, redis-benchmark";
const REDISES: [&str; 2] = ["redis", REDIS_BENCHMARK];
const POSTGRES: &str = "postgres";
/// What the target speaks of: so many clients ...
pub(crate) const CLIENTS: usize = 32;
/// ... and records of this size.
pub(crate) const RECORD_BYTES: usize = 1024;

/// Measures.
pub(crate) fn run(plan: &Plan) -> Outcome<Results> {
    let sizes: &[usize] = if plan.quick { &[RECORD_BYTES] } else { &[RECORD_BYTES, 3500] };
    let counts: &[usize] = if plan.quick { &[1, 32] } else { &[1, 8, 32, 128] };
    let mut report = Report::default();
    let mut matrix = Matrix::default();
    for record_bytes in sizes {
        let dir = plan.fresh_dir(PART)?;
        let (running, missing) = servers::start_all(&dir, |name| plan.wants(name));
        if *record_bytes == RECORD_BYTES {
            for missing in missing {
                report.note(missing);
            }
        }
        let record = text(*record_bytes);
        let mut first = 0;
        for clients in counts {
            let point = Point { record_bytes: *record_bytes, writers: *clients };
            turns(plan, &running, &point, &record, &mut first, &mut matrix)?;
        }
    }
    judge(&matrix, &mut report);
    let mut results = Results::of(report);
    results.matrices.push((PART, matrix));
    Ok(results)
}

/// All rounds at one number of clients.
fn turns(
    plan: &Plan,
    running: &[Running],
    point: &Point,
    record: &str,
    first: &mut u64,
    matrix: &mut Matrix,
) -> Outcome<()> {
    /// Numbers of one group of clients never meet those of the next.
    const APART: u64 = 1_000_000_000;
    let connect = |server: &Running| -> Outcome<Clients> {
        Ok(server.clients(point.writers, record)?.numbered_from(*first))
    };
    let mut clients = running.iter().map(connect).collect::<Outcome<Vec<_>>>()?;
    *first += APART;
    let mut dice = u64::from(std::process::id());
    // As many requests as took one slice the last time.
    let mut benchmark_requests = 2_000;
    for round in 0..=plan.rounds() {
        for place in shuffled(running.len(), &mut dice) {
            let (Some(server), Some(clients)) = (running.get(place), clients.get_mut(place)) else {
                continue;
            };
            let mut observed = clients.slice(plan.slice())?;
            observed.debt = quiet::wait(&server.process())?;
            if round > 0 {
                matrix.push(point, server.name, observed);
            }
            if server.name != "redis" {
                continue;
            }
            if let Some(rate) = redis_benchmark(&server.address, point, benchmark_requests)? {
                benchmark_requests = whole(rate * plan.slice().as_secs_f64());
                if round > 0 {
                    matrix.push(point, REDIS_BENCHMARK, Slice { rate, ..Slice::default() });
                }
            }
        }
    }
    Ok(())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
fn whole(requests: f64) -> usize {
    requests.max(100.0) as usize
}

/// Requests per second by Redis's own client; `None` where it is not installed.
fn redis_benchmark(address: &str, point: &Point, requests: usize) -> Outcome<Option<f64>> {
    let (host, port) = address.split_once(':').ok_or("an address without a port")?;
    let output = Command::new("redis-benchmark")
        .args(["-h", host, "-p", port, "-t", "set", "-r", "1000000000", "--csv"])
        .args(["-c", &point.writers.to_string(), "-d", &point.record_bytes.to_string()])
        .args(["-n", &requests.to_string()])
        .output();
    let output = match output {
        Ok(output) => output,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(cause.into()),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("\"SET\",\""));
    let rate = line.and_then(|line| line.split('"').next()).and_then(|rate| rate.parse().ok());
    Ok(Some(rate.ok_or_else(|| format!("redis-benchmark said {text:?}"))?))
}

fn judge(matrix: &Matrix, report: &mut Report) {
    for point in matrix.points().cloned().collect::<Vec<_>>() {
        let at = format!("{}, {} clients", name(point.record_bytes), point.writers);
        let is_named = point.record_bytes == RECORD_BYTES && point.writers == CLIENTS;
        let target = if is_named { Target::AtLeast(1.0) } else { Target::None };
        let best = matrix.best(&point, &REDISES);
        let to = best.and_then(|redis| Some((redis, matrix.ratio(&point, ENGRAM, redis)?)));
        if let Some((redis, spread)) = to {
            let what = format!("{at}: engram-server / {redis}");
            report.add(PART, what, "ratio", Some(spread), target);
        }
        if let Some(spread) = matrix.ratio(&point, ENGRAM, POSTGRES) {
            let what = format!("{at}: engram-server / postgres");
            report.add(PART, what, "ratio", Some(spread), Target::None);
        }
    }
}
