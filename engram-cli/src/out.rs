//! Standard output: answers, and nothing else.
//!
//! A reader that goes away (`| head`) ends the command quietly; any other trouble is a failure,
//! for an answer that nobody got is not an answer.

use std::io::{self, Write};

use crate::failure::{Failure, Outcome};

/// Writes one line.
pub(crate) fn line(text: &str) -> Outcome {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.write_all(b"\n"))
        .and_then(|()| stdout.flush())
        .map_err(|e| trouble(&e))
}

/// Writes bytes as they are.
pub(crate) fn bytes(bytes: &[u8]) -> Outcome {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|e| trouble(&e))
}

/// Writes a value as one line of JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> Outcome {
    let text = serde_json::to_string(value)
        .map_err(|e| Failure::failed(format!("cannot write the answer as JSON: {e}")))?;
    line(&text)
}

/// Rows as text, each column as wide as its widest cell.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell: &String| cell.chars().count()).max().unwrap_or(0)
    };
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A standard output that gathers small writes.
pub(crate) fn buffered() -> io::BufWriter<io::StdoutLock<'static>> {
    io::BufWriter::with_capacity(1 << 16, io::stdout().lock())
}

/// Text of a stored episode on one line of a terminal: no escape sequence and no line break
/// that somebody put there reaches it.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The same, where lines and tabs may stay.
pub(crate) fn clean_lines(text: &str) -> String {
    let keep = |c: char| matches!(c, '\n' | '\t') || !c.is_control();
    text.chars().map(|c| if keep(c) { c } else { '\u{fffd}' }).collect()
}

/// `1 segment`, `2 segments`.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// What an error of standard output means.
pub(crate) fn trouble(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::hung_up();
    }
    Failure::failed(format!("cannot write to standard output: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        assert_eq!(table(&[row(["a", "b"]), row(["long", "c"])]), "a     b\nlong  c");
        assert_eq!(table(&[]), "");
    }
}
