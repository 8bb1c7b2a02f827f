//! Engram's own interface: one episode a `POST`.

use std::io::Write as _;
use std::net::TcpStream;

use super::Protocol;
use crate::Outcome;
use crate::engines::key;
use crate::server::Head;

/// HTTP/1.1 with kept connections.
#[derive(Debug)]
pub(crate) struct Http;

impl Protocol for Http {
    fn greet(&self, _: &mut TcpStream) -> Outcome<()> {
        Ok(())
    }

    fn request(&self, number: u64, record: &str, to: &mut Vec<u8>) {
        // The record's letters need no escapes.
        let length = r#"{"id":"","what":""}"#.len() + key(number).len() + record.len();
        // Writing to memory cannot fail.
        write!(
            to,
            "POST /v1/spaces/bench/episodes HTTP/1.1\r\nHost: bench\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n\
             {{\"id\":\"{}\",\"what\":\"{record}\"}}",
            key(number)
        )
        .unwrap_or_default();
    }

    fn answer(&self, bytes: &[u8]) -> Outcome<Option<usize>> {
        let Some(head) = Head::parse(bytes) else { return Ok(None) };
        // Made, or replaced.
        if !matches!(head.status, 200 | 201) {
            return Err(String::from_utf8_lossy(bytes).into_owned().into());
        }
        let length = head.bytes + head.body;
        Ok((bytes.len() >= length).then_some(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stated_length_is_that_of_the_body() {
        let mut request = Vec::new();
        Http.request(7, "what happened", &mut request);
        let request = String::from_utf8(request).unwrap();
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, r#"{"id":"e00000000007","what":"what happened"}"#);
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{head}");
    }

    #[test]
    fn an_answer_is_whole_with_its_body_and_a_refusal_is_an_error() {
        let answer = b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(Http.answer(answer).unwrap(), Some(answer.len()));
        assert_eq!(Http.answer(&answer[..answer.len() - 1]).unwrap(), None);
        assert!(Http.answer(b"HTTP/1.1 429 Busy\r\n\r\n").is_err());
    }
}
