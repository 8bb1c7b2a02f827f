//! `docs/operations.md` leaves no error and no metric out, and names none that is not there.

use std::collections::BTreeSet;
use std::path::Path;

use engram_core::metrics::schema;

fn read(path: &str) -> String {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    std::fs::read_to_string(root.join(path)).expect(path)
}

/// The first cell of each table row, without its backquotes.
fn first_cells(page: &str) -> BTreeSet<String> {
    let cell = |line: &str| Some(line.strip_prefix("| `")?.split('`').next()?.to_owned());
    page.lines().filter_map(cell).collect()
}

#[test]
fn every_metric_has_a_row() {
    let rows = first_cells(&read("docs/operations.md"));
    let wanted: BTreeSet<String> = schema::ALL.iter().map(|f| f.name.to_owned()).collect();
    let there: BTreeSet<String> =
        rows.into_iter().filter(|cell| cell.starts_with("engram_")).collect();
    assert_eq!(there, wanted, "rows of docs/operations.md against metrics/schema.rs");
}

/// The variants of `pub enum Error`, from its source: an enum cannot list itself.
fn variants() -> BTreeSet<String> {
    let source = read("engram-core/src/error.rs");
    let body = source.split("pub enum Error {").nth(1).and_then(|rest| rest.split("\n}").next());
    let variant = |line: &str| {
        let name = line.strip_prefix("    ")?;
        let ends = name.find(|c: char| !c.is_ascii_alphanumeric())?;
        let (name, rest) = name.split_at(ends);
        (name.starts_with(|c: char| c.is_ascii_uppercase()) && (rest == " {" || rest == ","))
            .then(|| name.to_owned())
    };
    let found: BTreeSet<String> = body.expect("the enum").lines().filter_map(variant).collect();
    assert!(found.contains("Poisoned") && found.contains("Closed"), "{found:?}");
    found
}

#[test]
fn every_error_has_a_row() {
    let rows = first_cells(&read("docs/operations.md"));
    let there: BTreeSet<String> =
        rows.iter().filter_map(|cell| cell.strip_prefix("Error::")).map(str::to_owned).collect();
    assert_eq!(there, variants(), "rows of docs/operations.md against error.rs");
}
