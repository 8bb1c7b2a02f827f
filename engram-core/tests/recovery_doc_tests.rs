//! The verdict table of `docs/recovery.md` is the one that recovery uses.

#![expect(clippy::panic, reason = "a test's helpers fail by panicking")]

use std::path::Path;

use engram_core::storage::wal::report::IncidentKind;
use engram_core::storage::wal::verdict::{Place, Seen, Verdict, verdict};

fn page() -> String {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/recovery.md"));
    std::fs::read_to_string(path).expect("docs/recovery.md")
}

/// One row: what stands there, in the tail, beyond H, the verdict.
type Row = [String; 4];

fn rows() -> Vec<Row> {
    let page = page();
    let table = page
        .split("<!-- the verdict table -->")
        .nth(1)
        .and_then(|rest| rest.split("<!-- end of the verdict table -->").next())
        .expect("the table's marks");
    let lines = table.lines().filter(|line| line.starts_with('|')).skip(2);
    let cells = |line: &str| -> Row {
        let mut cells = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned());
        std::array::from_fn(|_| cells.next().unwrap_or_default())
    };
    lines.map(cells).collect()
}

fn says(cell: &str, value: bool) -> bool {
    match cell {
        "yes" => value,
        "no" => !value,
        "any" => true,
        other => panic!("{other:?} is neither yes, no nor any"),
    }
}

const SEEN: [(Seen, &str); 8] = [
    (Seen::Frame { decodable: true }, "frame, understood"),
    (Seen::Frame { decodable: false }, "frame, not understood"),
    (Seen::Zeros, "zeros to the end"),
    (Seen::Bad, "bad bytes"),
    (Seen::Stale, "stale frame"),
    (Seen::Misplaced, "misplaced frame"),
    (Seen::Gap, "gap"),
    (Seen::DeviceError, "device error"),
];

fn name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Frame => "**frame**",
        Verdict::End => "**end**",
        Verdict::Tail => "**tail**",
        Verdict::Damaged => "**damaged**",
        Verdict::Undecodable => "**undecodable**",
        Verdict::Stale => "**stale**",
        Verdict::Missing => "**missing**",
        Verdict::Unreadable => "**unreadable**",
    }
}

#[test]
fn each_input_matches_exactly_one_row_and_gets_its_verdict() {
    let rows = rows();
    let mut used = vec![false; rows.len()];
    for (seen, words) in SEEN {
        for bits in 0..8u8 {
            let (active, beyond_synced, in_tail) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
            let matching: Vec<usize> = (0..rows.len())
                .filter(|&at| {
                    let [what, tail, beyond, _] = &rows[at];
                    what == words
                        && says(tail, active && in_tail)
                        && says(beyond, active && beyond_synced)
                })
                .collect();
            let case =
                format!("{words}, active {active}, beyond H {beyond_synced}, tail {in_tail}");
            assert_eq!(matching.len(), 1, "{case}: rows {matching:?}");
            used[matching[0]] = true;
            let told = name(verdict(seen, Place { active, beyond_synced, in_tail }));
            assert_eq!(rows[matching[0]][3], told, "{case}");
        }
    }
    assert!(used.iter().all(|used| *used), "a row that no input reaches: {used:?}");
}

#[test]
fn each_kind_of_incident_is_explained() {
    let page = page();
    for kind in IncidentKind::ALL {
        let row = format!("| `{}` |", kind.name());
        assert!(page.contains(&row), "docs/recovery.md has no row that begins {row}");
    }
}
