//! `docs/operations.md` has a row for every problem type, with its status, and no others.

use std::collections::BTreeSet;

const SOURCE: &str = include_str!("../src/problem.rs");
const PAGE: &str = include_str!("../../docs/operations.md");

/// Slug and status of each row of the table in the source.
fn declared() -> BTreeSet<(String, String)> {
    let table = SOURCE.split("fn row(").nth(1).and_then(|rest| rest.split("\n    }\n").next());
    let row = |text: &str| {
        let (slug, rest) = text.split_once("\", ")?;
        let (status, _) = rest.split_once(',')?;
        status.parse::<u16>().ok().map(|_| (slug.to_owned(), status.to_owned()))
    };
    table.expect("the table").split("(\"").skip(1).filter_map(row).collect()
}

/// Slug and status of each row on the page: `| `slug` | 404 | …`.
fn documented() -> BTreeSet<(String, String)> {
    let row = |line: &str| {
        let (slug, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        let (status, _) = rest.split_once(" | ")?;
        status.parse::<u16>().ok().map(|_| (slug.to_owned(), status.to_owned()))
    };
    PAGE.lines().filter_map(row).collect()
}

#[test]
fn every_problem_type_has_a_row_with_its_status() {
    let declared = declared();
    assert!(declared.len() > 20, "only {} rows found in the source", declared.len());
    assert_eq!(documented(), declared);
}
