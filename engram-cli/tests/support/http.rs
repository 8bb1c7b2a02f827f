//! HTTP over a bare keep-alive socket, so that a test knows exactly what was answered and what
//! was not: an error here means "outcome unknown".

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// A client of one server, with one connection.
#[derive(Debug)]
pub(crate) struct Http {
    address: String,
    stream: Option<BufReader<TcpStream>>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Header lines, in lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Http {
    pub(crate) fn new(url: &str) -> Self {
        Self { address: url.trim_start_matches("http://").to_owned(), stream: None }
    }

    /// Sends a request and reads its answer. An error leaves it open whether it was heard.
    pub(crate) fn call(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<Reply> {
        self.call_with(method, path, "", body)
    }

    /// The same with further header lines, each ended by CR LF.
    pub(crate) fn call_with(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> io::Result<Reply> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => connect(&self.address)?,
        };
        let mut sent = format!(
            "{method} {path} HTTP/1.1\r\nhost: engram\r\n{headers}content-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        sent.extend_from_slice(body);
        stream.get_mut().write_all(&sent)?;
        let reply = read_reply(&mut stream)?;
        if !reply.head.contains("connection: close") {
            self.stream = Some(stream);
        }
        Ok(reply)
    }

    /// Sends a request that must be answered.
    pub(crate) fn must(&mut self, method: &str, path: &str, body: &[u8]) -> Reply {
        let idle = self.stream.is_some();
        let mut reply = self.call(method, path, body);
        if reply.is_err() && idle && method == "GET" {
            // A connection that idled for long is closed by the server.
            reply = self.call(method, path, body);
        }
        reply.unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }

    /// What a path holds, which must be 200.
    pub(crate) fn get(&mut self, path: &str) -> Value {
        let reply = self.must("GET", path, b"");
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply.json()
    }

    /// Every episode of a space, by id.
    pub(crate) fn episodes(&mut self, space: &str) -> std::collections::BTreeMap<String, Value> {
        let mut all = std::collections::BTreeMap::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/v1/spaces/{space}/episodes?limit=1000&embedding=base64{cursor}");
            let reply = self.must("GET", &path, b"");
            if reply.status == 404 {
                return all;
            }
            assert_eq!(reply.status, 200, "{path}: {}", reply.text());
            let page = reply.json();
            for episode in page["episodes"].as_array().unwrap() {
                let id = episode["id"].as_str().unwrap().to_owned();
                let twice = all.insert(id, episode.clone());
                assert!(twice.is_none(), "listed twice: {episode}");
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    }
}

/// A connection with the tests' patience.
pub(crate) fn connect(address: &str) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

/// Reads one answer.
pub(crate) fn read_reply(stream: &mut BufReader<TcpStream>) -> io::Result<Reply> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.ok_or(io::ErrorKind::InvalidData)?;
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim().to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
        head.push_str(&line);
        head.push('\n');
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Reply { status, head, body })
}
