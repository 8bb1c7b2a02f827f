//! Prometheus text, put in order, and turned into `OpenMetrics`.
//!
//! The two formats differ little: `OpenMetrics` names a counter's family without `_total`, has no
//! blank lines, and ends with `# EOF`. Source:
//! <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>

use std::collections::BTreeMap;

/// The families in order of name, so that two scrapes can be compared.
pub(super) fn sorted(plain: &str) -> String {
    families(plain).into_values().collect()
}

/// The same figures in `OpenMetrics`.
pub(super) fn openmetrics(plain: &str) -> String {
    let mut out = String::with_capacity(plain.len() + 6);
    for (name, family) in families(plain) {
        let counter = family.lines().any(|line| {
            line.strip_prefix("# TYPE ").is_some_and(|rest| rest.ends_with(" counter"))
        });
        let stem = name.strip_suffix("_total").filter(|_| counter);
        for line in family.lines() {
            match (stem, line.starts_with("# ")) {
                (Some(stem), true) => out.push_str(&line.replacen(name, stem, 1)),
                _ => out.push_str(line),
            }
            out.push('\n');
        }
    }
    out.push_str("# EOF\n");
    out
}

/// Name of a family → its lines. A family begins with its HELP or TYPE line.
fn families(plain: &str) -> BTreeMap<&str, String> {
    let mut families: BTreeMap<&str, String> = BTreeMap::new();
    let mut current = "";
    for line in plain.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE ")) {
            current = rest.split(' ').next().unwrap_or_default();
        }
        let family = families.entry(current).or_default();
        family.push_str(line);
        family.push('\n');
    }
    families
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "# HELP b_total B.\n# TYPE b_total counter\nb_total{x=\"# y\"} 1\n\n\
                         # TYPE a gauge\na 2\n\n";

    #[test]
    fn families_come_in_order_without_blank_lines() {
        let expected = "# TYPE a gauge\na 2\n# HELP b_total B.\n# TYPE b_total counter\n\
                        b_total{x=\"# y\"} 1\n";
        assert_eq!(sorted(PLAIN), expected);
    }

    #[test]
    fn openmetrics_names_counters_without_their_suffix() {
        let expected = "# TYPE a gauge\na 2\n# HELP b B.\n# TYPE b counter\n\
                        b_total{x=\"# y\"} 1\n# EOF\n";
        assert_eq!(openmetrics(PLAIN), expected);
    }
}
