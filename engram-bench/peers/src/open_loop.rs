//! The open loop: requests at fixed rates, whether the last ones are answered or not, up to more
//! than a server can take. A latency counts from the time at which its request was due, so that
//! waiting for a slow answer is not forgotten ("coordinated omission").

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engines::Written;
use crate::network::{CLIENTS, ENGRAM, RECORD_BYTES};
use crate::record::{shuffled, text};
use crate::report::{Report, Target};
use crate::results::{Curve, Results};
use crate::servers::{self, Running};
use crate::stats::{Spread, quantile};
use crate::wire::{Clients, Opened};
use crate::{Outcome, Plan, quiet};

const PART: &str = "open loop";
/// Rates, as parts of what the server gave in a closed loop.
const PARTS: [f64; 6] = [0.1, 0.25, 0.5, 0.75, 0.9, 1.1];
const HALF: f64 = 0.5;
/// More than are ever busy below saturation: a request seldom waits for a connection.
const CONNECTIONS: usize = 128;
/// p99.9 under so many times the disk's own p99 of a sync.
const TAIL: f64 = 5.0;

/// Latencies of an open loop, a figure a turn.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    pub(crate) p50: Vec<f64>,
    pub(crate) p99: Vec<f64>,
    pub(crate) p999: Vec<f64>,
    /// Requests that were due and never sent.
    pub(crate) unsent: usize,
}

impl Latencies {
    /// Adds a turn; gives its p99.9.
    pub(crate) fn push(&mut self, opened: Opened) -> Option<f64> {
        let mut latencies = opened.latencies;
        latencies.sort_by(f64::total_cmp);
        self.unsent += opened.unsent;
        self.p50.extend(quantile(&latencies, 0.5));
        self.p99.extend(quantile(&latencies, 0.99));
        let p999 = quantile(&latencies, 0.999);
        self.p999.extend(p999);
        p999
    }
}

/// One server's observations at one rate.
#[derive(Debug, Default)]
struct Observed {
    latencies: Latencies,
    /// p99.9 over the disk's p99 in the same round.
    tail: Vec<f64>,
    /// p99.9 where the disk alone takes records at this rate, and the server's over it.
    alone: [Vec<f64>; 2],
}

struct Side {
    server: Running,
    record: String,
    /// The number of its next record.
    next: u64,
    saturation: f64,
    rates: BTreeMap<usize, Observed>,
}

/// Measures.
pub(crate) fn run(plan: &Plan) -> Outcome<Results> {
    let dir = plan.fresh_dir("open")?;
    let mut report = Report::default();
    let record = text(RECORD_BYTES);
    let mut disk = Written::prepare(&dir, &record)?;
    let (running, missing) = servers::start_all(&dir, |name| plan.wants(name));
    for missing in missing {
        report.note(missing);
    }
    let saturations = saturations(plan, &running, &record)?;
    let mut sides = Vec::new();
    for (server, saturation) in running.into_iter().zip(saturations) {
        let (record, next, rates) = (record.clone(), 0, BTreeMap::new());
        sides.push(Side { server, record, next, saturation, rates });
    }
    let slice = Duration::from_millis(if plan.quick { 500 } else { 1000 });
    let mut dice = u64::from(std::process::id());
    let mut syncs = Vec::new();
    for _ in 0..if plan.quick { 3 } else { 7 } {
        for place in shuffled(sides.len() * PARTS.len(), &mut dice) {
            let Some(side) = sides.get_mut(place / PARTS.len()) else { continue };
            let rate = place % PARTS.len();
            let p99 = disk_p99(&mut disk)?;
            syncs.push(p99);
            let p999 = side.turn(rate, slice, p99)?;
            if PARTS.get(rate) == Some(&HALF) && side.server.name == ENGRAM {
                side.beside_the_disk(rate, p999, disk.open_loop(side.rate(rate), slice)?);
            }
        }
    }
    let sync = Spread::of(&syncs);
    report.add(PART, "the disk: p99 of a write and sync", "seconds", sync, Target::None);
    let mut results = Results::of(report);
    for side in &sides {
        side.tell(&mut results.report);
        results.curves.push(side.curve());
    }
    Ok(results)
}

fn disk_p99(disk: &mut Written) -> Outcome<f64> {
    let mut latencies = Vec::new();
    disk.slice(1, Duration::from_millis(150), &mut latencies)?;
    latencies.sort_by(f64::total_cmp);
    Ok(quantile(&latencies, 0.99).ok_or("no sync was observed")?)
}

/// The median rate of each in a closed loop. They take turns here too: the machine's drift must not
/// be one server's alone.
fn saturations(plan: &Plan, running: &[Running], record: &str) -> Outcome<Vec<f64>> {
    const APART: u64 = 1_000_000_000_000;
    let connect = |server: &Running| -> Outcome<(Clients, Vec<f64>)> {
        Ok((server.clients(CLIENTS, record)?.numbered_from(APART), Vec::new()))
    };
    let mut sides = running.iter().map(connect).collect::<Outcome<Vec<_>>>()?;
    for _ in 0..plan.rounds() {
        for (server, (clients, rates)) in running.iter().zip(&mut sides) {
            rates.push(clients.slice(plan.slice())?.rate);
            quiet::wait(&server.process())?;
        }
    }
    let median =
        |(_, rates): (_, Vec<f64>)| Ok(Spread::of(&rates).ok_or("no rate was observed")?.median);
    sides.into_iter().map(median).collect()
}

impl Side {
    fn rate(&self, part: usize) -> f64 {
        self.saturation * PARTS.get(part).unwrap_or(&HALF)
    }

    /// One rate, for so long; gives its p99.9.
    fn turn(&mut self, part: usize, slice: Duration, disk_p99: f64) -> Outcome<Option<f64>> {
        let rate = self.rate(part);
        // New ones for each turn: a server may end a connection that idles through those of all others.
        let clients = self.server.clients(CONNECTIONS, &self.record)?;
        let mut clients = clients.numbered_from(self.next);
        quiet::wait(&self.server.process())?;
        let opened = clients.open_loop(rate, slice)?;
        self.next = clients.next();
        quiet::wait(&self.server.process())?;
        let observed = self.rates.entry(part).or_default();
        let p999 = observed.latencies.push(opened);
        observed.tail.extend(p999.map(|tail| tail / disk_p99));
        Ok(p999)
    }

    /// What the disk alone does at the same rate: its stalls are every server's.
    fn beside_the_disk(&mut self, part: usize, p999: Option<f64>, mut alone: Vec<f64>) {
        alone.sort_by(f64::total_cmp);
        if let (Some(p999), Some(of_disk)) = (p999, quantile(&alone, 0.999)) {
            let [alone, over] = &mut self.rates.entry(part).or_default().alone;
            alone.push(of_disk);
            over.push(p999 / of_disk);
        }
    }

    fn tell(&self, report: &mut Report) {
        let name = self.server.name;
        let closed = Spread::of(&[self.saturation]);
        let what = format!("{name}: closed loop, {CLIENTS} clients");
        report.add(PART, what, "requests/s", closed, Target::None);
        for (part, observed) in &self.rates {
            let percent = PARTS.get(*part).unwrap_or(&HALF) * 100.0;
            let at = format!("{name} at {percent:.0} % of it");
            let seconds = "seconds";
            let (p50, p999) =
                (Spread::of(&observed.latencies.p50), Spread::of(&observed.latencies.p999));
            report.add(PART, format!("{at}: p50"), seconds, p50, Target::None);
            report.add(PART, format!("{at}: p99.9"), seconds, p999, Target::None);
            let is_half = PARTS.get(*part) == Some(&HALF);
            if is_half {
                let target = if name == ENGRAM { Target::AtMost(TAIL) } else { Target::None };
                let what = format!("{at}: p99.9 / the disk's p99");
                report.add(PART, what, "ratio", Spread::of(&observed.tail), target);
            }
            let [alone, over] = &observed.alone;
            if !alone.is_empty() {
                let what = format!("{at}: p99.9 where the disk alone takes them");
                report.add(PART, what, seconds, Spread::of(alone), Target::None);
                let what = format!("{at}: p99.9 / that of the disk alone");
                report.add(PART, what, "ratio", Spread::of(over), Target::None);
            }
            if observed.latencies.unsent > 0 {
                report.note(format!("{PART}: {at}: {} were never sent", observed.latencies.unsent));
            }
        }
    }

    fn curve(&self) -> Curve {
        let median = |values: &[f64]| Spread::of(values).map_or(0.0, |spread| spread.median);
        let points = self.rates.iter().map(|(part, observed)| {
            let Latencies { p50, p99, p999, .. } = &observed.latencies;
            (self.rate(*part), [p50, p99, p999].map(|v| median(v)))
        });
        Curve { name: self.server.name.to_owned(), points: points.collect() }
    }
}
