//! Redis's protocol (RESP2): a `SET` a record.

use std::io::Write as _;
use std::net::TcpStream;

use super::Protocol;
use crate::Outcome;
use crate::engines::key;

/// A client of Redis.
#[derive(Debug)]
pub(crate) struct Redis;

impl Protocol for Redis {
    fn greet(&self, _: &mut TcpStream) -> Outcome<()> {
        Ok(())
    }

    fn request(&self, number: u64, record: &str, to: &mut Vec<u8>) {
        let (key, length) = (key(number), record.len());
        // Writing to memory cannot fail.
        write!(to, "*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${length}\r\n{record}\r\n", key.len())
            .unwrap_or_default();
    }

    fn answer(&self, bytes: &[u8]) -> Outcome<Option<usize>> {
        const GOOD: &[u8] = b"+OK\r\n";
        if bytes.starts_with(GOOD) {
            return Ok(Some(GOOD.len()));
        }
        if GOOD.starts_with(bytes) {
            return Ok(None);
        }
        Err(format!("redis: {}", String::from_utf8_lossy(bytes)).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_an_array_of_three_strings() {
        let mut request = Vec::new();
        Redis.request(1, "what", &mut request);
        let expected = "*3\r\n$3\r\nSET\r\n$12\r\ne00000000001\r\n$4\r\nwhat\r\n";
        assert_eq!(String::from_utf8(request).unwrap(), expected);
    }

    #[test]
    fn only_ok_is_an_acknowledgement() {
        assert_eq!(Redis.answer(b"+OK\r\n").unwrap(), Some(5));
        assert_eq!(Redis.answer(b"+O").unwrap(), None);
        assert!(Redis.answer(b"-MISCONF Errors writing to the AOF file").is_err());
    }
}
