//! PostgreSQL's protocol (version 3): a prepared `INSERT` a record, each a transaction.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::Protocol;
use crate::Outcome;
use crate::engines::key;

/// The user that `initdb` is told to make; connections from this machine are trusted.
pub(crate) const USER: &str = "bench";

/// A client of PostgreSQL.
#[derive(Debug)]
pub(crate) struct Postgres;

/// A message: its type, its length (which counts itself), its body.
fn message(kind: u8, body: &[u8], to: &mut Vec<u8>) {
    to.push(kind);
    to.extend_from_slice(&length(body.len() + 4).to_be_bytes());
    to.extend_from_slice(body);
}

/// Lengths here are those of records: far below 2 GiB.
fn length(bytes: usize) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}

/// The type and the whole length of the message at the beginning of `bytes`.
fn head(bytes: &[u8]) -> Option<(u8, usize)> {
    let (kind, rest) = bytes.split_first()?;
    let length = u32::from_be_bytes(*rest.first_chunk()?);
    Some((*kind, usize::try_from(length).ok()?.saturating_add(1)))
}

impl Postgres {
    /// The length of all messages to the next "ready for query".
    fn until_ready(bytes: &[u8]) -> Outcome<Option<usize>> {
        let mut end = 0;
        loop {
            let rest = bytes.get(end..).unwrap_or_default();
            let Some((kind, length)) = head(rest) else { return Ok(None) };
            let Some(whole) = rest.get(..length) else { return Ok(None) };
            end += length;
            match kind {
                b'E' => return Err(format!("postgres: {}", String::from_utf8_lossy(whole)).into()),
                b'Z' => return Ok(Some(end)),
                _ => {}
            }
        }
    }

    fn ask(stream: &mut TcpStream, request: &[u8]) -> Outcome<()> {
        stream.write_all(request)?;
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        while Self::until_ready(&answer)?.is_none() {
            match stream.read(&mut buffer)? {
                0 => return Err("postgres closed a connection".into()),
                count => answer.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            }
        }
        Ok(())
    }

    /// One statement without answers to keep.
    pub(crate) fn execute(stream: &mut TcpStream, statement: &str) -> Outcome<()> {
        let mut request = Vec::new();
        message(b'Q', format!("{statement}\0").as_bytes(), &mut request);
        Self::ask(stream, &request)
    }

    /// The first message of a connection, which has no type.
    pub(crate) fn enter(stream: &mut TcpStream) -> Outcome<()> {
        const VERSION: i32 = 3 << 16;
        let names = format!("user\0{USER}\0database\0postgres\0\0");
        let mut request = length(names.len() + 8).to_be_bytes().to_vec();
        request.extend_from_slice(&VERSION.to_be_bytes());
        request.extend_from_slice(names.as_bytes());
        Self::ask(stream, &request)
    }
}

impl Protocol for Postgres {
    fn greet(&self, stream: &mut TcpStream) -> Outcome<()> {
        Self::enter(stream)?;
        let mut request = Vec::new();
        let parse = b"put\0INSERT INTO episodes VALUES ($1, $2)\0\0\0";
        message(b'P', parse, &mut request);
        message(b'S', &[], &mut request);
        Self::ask(stream, &request)
    }

    fn request(&self, number: u64, record: &str, to: &mut Vec<u8>) {
        // Portal "", statement "put", formats as text, two values, answers as text.
        let mut bind = b"\0put\0\0\0\0\x02".to_vec();
        for value in [key(number).as_str(), record] {
            bind.extend_from_slice(&length(value.len()).to_be_bytes());
            bind.extend_from_slice(value.as_bytes());
        }
        bind.extend_from_slice(&[0, 0]);
        message(b'B', &bind, to);
        message(b'E', &[0, 0, 0, 0, 0], to);
        message(b'S', &[], to);
    }

    fn answer(&self, bytes: &[u8]) -> Outcome<Option<usize>> {
        Self::until_ready(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_with_ready_for_query() {
        let mut answer = Vec::new();
        message(b'2', &[], &mut answer);
        message(b'C', b"INSERT 0 1\0", &mut answer);
        assert_eq!(Postgres.answer(&answer).unwrap(), None);
        message(b'Z', b"I", &mut answer);
        assert_eq!(Postgres.answer(&answer).unwrap(), Some(answer.len()));
        assert_eq!(Postgres.answer(&answer[..answer.len() - 1]).unwrap(), None);
    }

    #[test]
    fn an_error_is_one() {
        let mut answer = Vec::new();
        message(b'E', b"SERROR\0", &mut answer);
        assert!(Postgres.answer(&answer).is_err());
    }

    #[test]
    fn a_length_counts_itself_and_not_its_type() {
        let mut sync = Vec::new();
        message(b'S', &[], &mut sync);
        assert_eq!(sync, [b'S', 0, 0, 0, 4]);
    }
}
