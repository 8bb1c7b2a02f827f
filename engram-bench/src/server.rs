//! The release binary `engram`, started and stopped as a user would, and a plain HTTP client.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Outcome;

/// Longest wait for a server to become ready.
const READY_MAX: Duration = Duration::from_mins(1);

/// The binary beside this one.
pub(crate) fn binary() -> Outcome<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("engram");
    if path.exists() {
        return Ok(path);
    }
    Err(format!("{} is missing: cargo build --release -p engram-cli", path.display()).into())
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// `host:port`.
    pub(crate) address: String,
    /// From the start of the process to the first 200 of `/readyz`.
    pub(crate) ready: Duration,
}

impl Server {
    /// Starts a server on a free port, and waits until it is ready.
    pub(crate) fn start(data: &Path) -> Outcome<Self> {
        Self::start_with(data, &[])
    }

    /// [`Server::start`] with more arguments.
    pub(crate) fn start_with(data: &Path, arguments: &[&str]) -> Outcome<Self> {
        let begin = Instant::now();
        let mut child = Command::new(binary()?)
            .args(["start", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (found, address) = mpsc::channel();
        watch(child.stdout.take(), found.clone());
        watch(child.stderr.take(), found);
        let mut server = Self { child, address: String::new(), ready: Duration::ZERO };
        server.address = address
            .recv_timeout(READY_MAX)
            .map_err(|_| "engram start ended, or never said where it listens")?;
        while get(&server.address, "/readyz")?.0 != 200 {
            if begin.elapsed() > READY_MAX {
                return Err("engram start was not ready in a minute".into());
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        server.ready = begin.elapsed();
        Ok(server)
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(mut self) -> Outcome<()> {
        let id = i32::try_from(self.child.id())?;
        let pid = Pid::from_raw(id).ok_or("a process id of 0")?;
        kill_process(pid, Signal::TERM)?;
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("engram start: {status}").into()) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; then both have nothing to do.
        self.child.kill().unwrap_or_default();
        self.child.wait().map(|_| ()).unwrap_or_default();
    }
}

/// Reads a stream to its end, and tells the first address found in it.
fn watch(stream: Option<impl Read + Send + 'static>, found: mpsc::Sender<String>) {
    let Some(stream) = stream else { return };
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if let Some((_, address)) = line.split_once("listening on http://") {
                let end = address.find(|c: char| c.is_whitespace() || c == '"' || c == '/');
                let address = address.get(..end.unwrap_or(address.len())).unwrap_or_default();
                // Nobody waits for a second one.
                found.send(address.to_owned()).unwrap_or_default();
            }
        }
    });
}

/// One request on a connection of its own; gives the status and the body.
pub(crate) fn get(address: &str, path: &str) -> Outcome<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(READY_MAX))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let head = Head::parse(&answer).ok_or("a broken answer")?;
    let body = answer.get(head.bytes..).unwrap_or_default();
    Ok((head.status, String::from_utf8_lossy(body).into_owned()))
}

/// The part of an answer before its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// The status code.
    pub(crate) status: u16,
    /// Its own length, the empty line included.
    pub(crate) bytes: usize,
    /// The length of the body; 0 where none is given.
    pub(crate) body: usize,
}

impl Head {
    /// `None` until the empty line has come.
    pub(crate) fn parse(answer: &[u8]) -> Option<Self> {
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = std::str::from_utf8(answer.get(..end)?).ok()?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_it = name.eq_ignore_ascii_case("content-length");
            is_it.then(|| value.trim().parse().ok()).flatten()
        });
        Some(Self { status, bytes: end + 4, body: length.unwrap_or(0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let answer = b"HTTP/1.1 201 Created\r\nContent-Length: 12\r\n\r\n{";
        assert_eq!(Head::parse(answer), Some(Head { status: 201, bytes: 44, body: 12 }));
        assert_eq!(Head::parse(&answer[..40]), None);
    }
}
