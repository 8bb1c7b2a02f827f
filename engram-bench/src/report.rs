//! What was measured, beside what was aimed at: a table for people, JSON for scripts.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::Outcome;
use crate::stats::Spread;

/// What a figure is held against.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// At least so much.
    AtLeast(f64),
    /// At most so much.
    AtMost(f64),
    /// Nothing: it is told for comparison.
    None,
}

/// One figure.
#[derive(Debug)]
pub(crate) struct Row {
    section: &'static str,
    what: String,
    unit: &'static str,
    spread: Spread,
    target: Target,
}

impl Row {
    /// Whether the median meets the target; `None` without one.
    fn met(&self) -> Option<bool> {
        match self.target {
            Target::AtLeast(bound) => Some(self.spread.median >= bound),
            Target::AtMost(bound) => Some(self.spread.median <= bound),
            Target::None => None,
        }
    }

    fn target(&self) -> String {
        match self.target {
            Target::AtLeast(bound) => format!(">= {}", short(bound)),
            Target::AtMost(bound) => format!("<= {}", short(bound)),
            Target::None => String::new(),
        }
    }
}

/// Every figure of one run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    /// What could not be measured, or is to be known beside the figures.
    notes: Vec<String>,
    failed: bool,
}

impl Report {
    /// Adds a figure; none when nothing was observed, which is a failure.
    pub(crate) fn add(
        &mut self,
        section: &'static str,
        what: impl Into<String>,
        unit: &'static str,
        spread: Option<Spread>,
        target: Target,
    ) {
        let what = what.into();
        match spread {
            Some(spread) => self.rows.push(Row { section, what, unit, spread, target }),
            None => self.fail(section, &format!("{what}: nothing was observed")),
        }
    }

    /// Adds a remark.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Says that a part could not be measured.
    pub(crate) fn fail(&mut self, section: &str, why: &str) {
        self.failed = true;
        self.notes.push(format!("{section} FAILED: {why}"));
    }

    /// Takes over another report's figures and remarks.
    pub(crate) fn join(&mut self, other: Self) {
        self.rows.extend(other.rows);
        self.notes.extend(other.notes);
        self.failed |= other.failed;
    }

    /// Whether every part could be measured.
    pub(crate) fn is_whole(&self) -> bool {
        !self.failed
    }

    /// Whether every target is met.
    pub(crate) fn is_met(&self) -> bool {
        self.rows.iter().all(|row| row.met() != Some(false))
    }

    /// The table, as text.
    pub(crate) fn table(&self) -> String {
        let header = ["part", "figure", "median", "quartiles", "n", "unit", "target", ""];
        let mut lines = vec![header.map(str::to_owned)];
        for row in &self.rows {
            let spread = row.spread;
            let verdict = match row.met() {
                Some(true) => "met",
                Some(false) => "NOT MET",
                None => "",
            };
            lines.push([
                row.section.to_owned(),
                row.what.clone(),
                short(spread.median),
                format!("{} .. {}", short(spread.first_quartile), short(spread.third_quartile)),
                spread.observations.to_string(),
                row.unit.to_owned(),
                row.target(),
                verdict.to_owned(),
            ]);
        }
        let mut text = String::new();
        let widths: Vec<usize> = (0..header.len())
            .map(|column| {
                let cells = lines.iter().filter_map(|line| line.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
            })
            .collect();
        for line in &lines {
            let cells: Vec<String> =
                line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
        }
        for note in &self.notes {
            let _infallible = writeln!(text, "- {note}");
        }
        text
    }

    /// Everything, with the machine and the mode beside it.
    pub(crate) fn json(&self, quick: bool) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let (at_least, at_most) = match row.target {
                    Target::AtLeast(bound) => (Some(bound), None),
                    Target::AtMost(bound) => (None, Some(bound)),
                    Target::None => (None, None),
                };
                json!({
                    "part": row.section, "figure": row.what, "unit": row.unit,
                    "median": row.spread.median, "first_quartile": row.spread.first_quartile,
                    "third_quartile": row.spread.third_quartile, "n": row.spread.observations,
                    "at_least": at_least, "at_most": at_most, "met": row.met(),
                })
            })
            .collect();
        json!({
            "at": engram_core::Timestamp::now().to_string(), "quick": quick,
            "version": env!("CARGO_PKG_VERSION"), "machine": machine(),
            "rows": rows, "notes": self.notes,
        })
    }

    /// Writes the JSON below `dir`, named by time, and as `latest.json`; gives the first path.
    pub(crate) fn save(&self, dir: &Path, quick: bool) -> Outcome<PathBuf> {
        std::fs::create_dir_all(dir)?;
        let json = self.json(quick);
        let text = format!("{json:#}\n");
        let time = json["at"].as_str().unwrap_or_default().replace(':', "-");
        let name = time.split('.').next().unwrap_or_default();
        let path = dir.join(format!("{name}Z.json"));
        std::fs::write(&path, &text)?;
        std::fs::write(dir.join("latest.json"), &text)?;
        Ok(path)
    }
}

/// What the figures depend on.
fn machine() -> Value {
    let first = |path: &str, key: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split_once(':').map_or(line, |(_, value)| value).trim().to_owned()
    };
    json!({
        "cores": std::thread::available_parallelism().map_or(1, usize::from),
        "cpu": first("/proc/cpuinfo", "model name"),
        "memory": first("/proc/meminfo", "MemTotal"),
        "kernel": first("/proc/sys/kernel/osrelease", ""),
    })
}

/// A number with about four digits: in thousands, millions or billions where it is large, in thousandths or
/// millionths where it is small.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1e9 => format!("{:.2} G", value / 1e9),
        size if size >= 1e6 => format!("{:.2} M", value / 1e6),
        size if size >= 1e4 => format!("{:.1} k", value / 1e3),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 0.1 || size == 0.0 => format!("{value:.3}"),
        size if size >= 1e-3 => format!("{:.2} m", value * 1e3),
        _ => format!("{:.0} µ", value * 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_by_the_median() {
        let mut report = Report::default();
        let spread = Spread::of(&[1.0, 2.0, 3.0]);
        report.add("a", "high enough", "x", spread, Target::AtLeast(2.0));
        report.add("a", "told only", "x", spread, Target::None);
        assert!(report.is_met() && report.is_whole());
        report.add("a", "too high", "x", spread, Target::AtMost(1.9));
        assert!(!report.is_met());
        let table = report.table();
        assert!(table.contains("<= 1.900") && table.contains("NOT MET"), "{table}");
    }

    #[test]
    fn nothing_observed_is_a_failure_and_not_a_zero() {
        let mut report = Report::default();
        report.add("a", "b", "x", None, Target::None);
        assert!(!report.is_whole());
    }
}
