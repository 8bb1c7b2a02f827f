//! Observations of many engines at many points, kept by slice so that ratios can be taken within
//! each round; tables, plots and JSON are made from it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::crowd::Slice;
use crate::stats::{Spread, quantile};

/// Where something was measured: in the order of the tables.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    /// Bytes of a record.
    pub(crate) record_bytes: usize,
    /// Writers or clients; for batches, records of one.
    pub(crate) writers: usize,
}

/// All rounds of one engine at one point.
#[derive(Debug, Default)]
pub(crate) struct Series {
    /// Records per second, one a round.
    pub(crate) rates: Vec<f64>,
    /// The 50th percentile of the latency, one a round, in seconds.
    pub(crate) p50: Vec<f64>,
    /// The 99th.
    pub(crate) p99: Vec<f64>,
    /// Records of one sync, where known.
    pub(crate) batches: Vec<f64>,
    /// Seconds of work after a slice.
    pub(crate) debts: Vec<f64>,
}

impl Series {
    /// Adds a round.
    pub(crate) fn push(&mut self, slice: Slice) {
        let mut latencies = slice.latencies;
        latencies.sort_by(f64::total_cmp);
        self.rates.push(slice.rate);
        self.p50.extend(quantile(&latencies, 0.5));
        self.p99.extend(quantile(&latencies, 0.99));
        self.batches.extend(slice.batch);
        self.debts.push(slice.debt);
    }
}

/// Everything of one part.
#[derive(Debug, Default)]
pub(crate) struct Matrix {
    cells: BTreeMap<Point, BTreeMap<String, Series>>,
    /// Engines in the order of their first appearance.
    engines: Vec<String>,
}

impl Matrix {
    /// Adds a round of one engine.
    pub(crate) fn push(&mut self, point: &Point, engine: &str, slice: Slice) {
        if !self.engines.iter().any(|known| known == engine) {
            self.engines.push(engine.to_owned());
        }
        let cell = self.cells.entry(point.clone()).or_default();
        cell.entry(engine.to_owned()).or_default().push(slice);
    }

    /// The engines.
    pub(crate) fn engines(&self) -> &[String] {
        &self.engines
    }

    /// The points.
    pub(crate) fn points(&self) -> impl Iterator<Item = &Point> {
        self.cells.keys()
    }

    /// One engine at one point.
    pub(crate) fn series(&self, point: &Point, engine: &str) -> Option<&Series> {
        self.cells.get(point)?.get(engine)
    }

    /// The ratios of two engines' rates, round by round.
    pub(crate) fn ratio(&self, point: &Point, above: &str, below: &str) -> Option<Spread> {
        let (above, below) = (self.series(point, above)?, self.series(point, below)?);
        Spread::of_ratios(&above.rates, &below.rates)
    }

    /// Of these engines the one with the highest median rate.
    pub(crate) fn best<'a>(&self, point: &Point, among: &[&'a str]) -> Option<&'a str> {
        let median =
            |engine: &str| Spread::of(&self.series(point, engine)?.rates).map(|s| s.median);
        let known = among.iter().filter_map(|engine| Some((*engine, median(engine)?)));
        known.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(engine, _)| engine)
    }

    /// For scripts.
    pub(crate) fn json(&self) -> Value {
        let spread = |values: &[f64]| {
            Spread::of(values)
                .map(|spread| json!([spread.first_quartile, spread.median, spread.third_quartile]))
        };
        let cells = self.cells.iter().flat_map(|(point, engines)| {
            engines.iter().map(move |(engine, series)| {
                json!({
                    "record_bytes": point.record_bytes, "writers": point.writers,
                    "engine": engine, "n": series.rates.len(),
                    "records_per_second": spread(&series.rates),
                    "p50_seconds": spread(&series.p50), "p99_seconds": spread(&series.p99),
                    "records_per_sync": spread(&series.batches),
                    "debt_seconds": spread(&series.debts),
                })
            })
        });
        Value::Array(cells.collect())
    }
}
