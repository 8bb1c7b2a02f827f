//! All that one run found: figures against targets, matrices, and where they go.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::matrix::{Matrix, Point, Series};
use crate::plot::Chart;
use crate::report::{Report, short};
use crate::stats::{Spread, float};
use crate::{Outcome, record};

/// What a part gives back.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// Figures, some with targets.
    pub(crate) report: Report,
    /// Observations, by part.
    pub(crate) matrices: Vec<(&'static str, Matrix)>,
    /// Latency over rate, one for each server.
    pub(crate) curves: Vec<Curve>,
}

/// Latencies of an open loop.
#[derive(Debug)]
pub(crate) struct Curve {
    /// The server.
    pub(crate) name: String,
    /// Requests per second, and the medians of p50, p99 and p99.9 in seconds.
    pub(crate) points: Vec<(f64, [f64; 3])>,
}

impl Results {
    /// Figures only.
    pub(crate) fn of(report: Report) -> Self {
        Self { report, ..Self::default() }
    }

    /// Takes over another part's.
    pub(crate) fn join(&mut self, other: Self) {
        self.report.join(other.report);
        self.matrices.extend(other.matrices);
        self.curves.extend(other.curves);
    }

    /// Tables of medians, in Markdown: one for each part and size.
    pub(crate) fn tables(&self) -> String {
        let mut text = String::new();
        for (part, matrix) in &self.matrices {
            for record_bytes in sizes(matrix) {
                let name = record::name(record_bytes);
                let _infallible = writeln!(text, "\n{part}, {name}: records a second, medians\n");
                text.push_str(&table(matrix, record_bytes, |series| &series.rates));
                if has_debts(matrix, record_bytes) {
                    let _infallible =
                        writeln!(text, "\n{part}, {name}: seconds of work after a turn, medians\n");
                    text.push_str(&table(matrix, record_bytes, |series| &series.debts));
                }
            }
        }
        text
    }

    /// Everything, for scripts.
    fn json(&self, quick: bool) -> Value {
        let mut json = self.report.json(quick);
        let matrices = self.matrices.iter().map(|(part, matrix)| (*part, matrix.json()));
        let curves =
            self.curves.iter().map(|curve| json!({"server": curve.name, "points": curve.points}));
        json["curves"] = Value::Array(curves.collect());
        json["matrices"] = json!(matrices.collect::<std::collections::BTreeMap<_, _>>());
        json
    }

    /// For a page: on what machine, the plots, the tables, the figures.
    fn fragment(&self, part: &str, quick: bool) -> String {
        let json = self.report.json(quick);
        let fact = |name: &str| json["machine"][name].as_str().unwrap_or("unknown").to_owned();
        let mut text = format!(
            "{} run, version {}, {}: {} cores ({}), {} of memory, Linux {}.\n",
            if quick { "A quick" } else { "A full" },
            json["version"].as_str().unwrap_or_default(),
            json["at"].as_str().unwrap_or_default().split('T').next().unwrap_or_default(),
            json["machine"]["cores"],
            fact("cpu"),
            fact("memory"),
            fact("kernel"),
        );
        for (name, chart) in self.charts(part) {
            let _infallible = write!(text, "\n![{}](performance/{name}.svg)\n", chart.title);
        }
        text.push_str(&self.tables());
        let _infallible = write!(text, "\n```text\n{}```\n", self.report.table());
        text
    }

    /// The plots, by the names of their files.
    fn charts(&self, part: &str) -> Vec<(String, Chart)> {
        let mut charts = Vec::new();
        for (number, (kind, matrix)) in self.matrices.iter().enumerate() {
            for record_bytes in sizes(matrix) {
                // Two kinds of batches make no curve.
                if matrix.points().filter(|p| p.record_bytes == record_bytes).count() < 3 {
                    continue;
                }
                let name = record::name(record_bytes);
                let axes = ["writers", "records a second"];
                let title = format!("{kind}, records of {name}: acknowledged and synced");
                let lines = lines(matrix, record_bytes);
                let file = if number == 0 && sizes(matrix).len() == 1 {
                    part.to_owned()
                } else {
                    format!("{part}-{kind}-{record_bytes}")
                };
                charts.push((file, Chart { title, axes, lines }));
            }
        }
        if !self.curves.is_empty() {
            let title = "open loop: p99.9 from the intended time of sending".to_owned();
            let axes = ["requests a second", "milliseconds"];
            let line = |curve: &Curve| {
                let points = curve.points.iter().map(|(rate, [.., p999])| (*rate, p999 * 1e3));
                (curve.name.clone(), points.collect())
            };
            let lines = self.curves.iter().map(line).collect();
            charts.push((part.to_owned(), Chart { title, axes, lines }));
        }
        charts
    }

    /// Writes JSON, tables and plots below `dir`, named by the part.
    pub(crate) fn save(&self, dir: &Path, part: &str, quick: bool) -> Outcome<()> {
        std::fs::create_dir_all(dir)?;
        std::fs::write(dir.join(format!("{part}.json")), format!("{:#}\n", self.json(quick)))?;
        std::fs::write(dir.join(format!("{part}.md")), self.fragment(part, quick))?;
        for (name, chart) in self.charts(part) {
            std::fs::write(dir.join(format!("{name}.svg")), chart.svg())?;
        }
        Ok(())
    }
}

fn sizes(matrix: &Matrix) -> Vec<usize> {
    let mut sizes: Vec<usize> = matrix.points().map(|point| point.record_bytes).collect();
    sizes.dedup();
    sizes
}

/// The medians of one size: an engine a line.
fn lines(matrix: &Matrix, record_bytes: usize) -> Vec<(String, Vec<(f64, f64)>)> {
    let points = || matrix.points().filter(move |point| point.record_bytes == record_bytes);
    let line = |engine: &String| {
        let place = |point: &Point| {
            let median = Spread::of(&matrix.series(point, engine)?.rates)?.median;
            Some((float(point.writers), median))
        };
        (engine.clone(), points().filter_map(place).collect())
    };
    matrix.engines().iter().map(line).collect()
}

/// Whether somebody worked on for a good while when its turn was over.
fn has_debts(matrix: &Matrix, record_bytes: usize) -> bool {
    const SECONDS: f64 = 0.2;
    let points = matrix.points().filter(|point| point.record_bytes == record_bytes);
    let mut debts = points.flat_map(|point| {
        let series = |engine: &String| Spread::of(&matrix.series(point, engine)?.debts);
        matrix.engines().iter().filter_map(series)
    });
    debts.any(|debt| debt.median >= SECONDS)
}

/// A figure of one size: an engine a line, a number of writers a column.
fn table(matrix: &Matrix, record_bytes: usize, of: impl Fn(&Series) -> &[f64]) -> String {
    let points: Vec<&Point> =
        matrix.points().filter(|point| point.record_bytes == record_bytes).collect();
    let mut text = String::from("| |");
    for point in &points {
        let _infallible = write!(text, " {} |", point.writers);
    }
    text.push_str("\n| --- |");
    text.push_str(&" ---: |".repeat(points.len()));
    text.push('\n');
    for engine in matrix.engines() {
        let _infallible = write!(text, "| {engine} |");
        for point in &points {
            let series = matrix.series(point, engine);
            let median = series.and_then(|series| Spread::of(of(series)));
            let median = median.map_or_else(String::new, |spread| short(spread.median));
            let _infallible = write!(text, " {median} |");
        }
        text.push('\n');
    }
    text
}
