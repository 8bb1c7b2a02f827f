//! `docs/http.md` has a row for every path and method of the server, and no others.

use std::collections::BTreeSet;

const SOURCE: &str = include_str!("../src/routes/place.rs");
const PAGE: &str = include_str!("../../docs/http.md");

/// Method and path of each row of the table in the source. HEAD goes with GET, and `batch` is an
/// id like any other to all but POST.
fn declared() -> BTreeSet<(&'static str, &'static str)> {
    let table = SOURCE.split("const TABLE").nth(1).and_then(|rest| rest.split("];").next());
    let rows = table.expect("the table").lines().filter_map(|line| {
        let (_, rest) = line.split_once("(Place::")?;
        let mut strings = rest.split('"').skip(1).step_by(2);
        Some((strings.next()?, strings.next()?))
    });
    let methods = |(path, methods): (&'static str, &'static str)| {
        methods.split(',').map(move |method| (method, path))
    };
    let is_own = |&(method, path): &(&str, &str)| {
        !matches!(method, "" | "HEAD") && (method == "POST" || !path.ends_with("/batch"))
    };
    rows.flat_map(methods).filter(is_own).collect()
}

/// Method and path of each row on the page: `| `GET /livez` | …`.
fn documented() -> BTreeSet<(&'static str, &'static str)> {
    let row = |line: &'static str| line.strip_prefix("| `")?.split_once('`')?.0.split_once(' ');
    PAGE.lines().filter_map(row).collect()
}

#[test]
fn every_path_has_a_row_for_each_of_its_methods() {
    let declared = declared();
    assert!(declared.len() > 15, "only {declared:?} found in the source");
    assert_eq!(documented(), declared);
}
