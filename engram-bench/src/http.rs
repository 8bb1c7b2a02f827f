//! 32 keep-alive clients over HTTP, one episode of 1 KB a request, each acknowledged when synced.
//!
//! The clients share the machine with the server, so they are cheap: one thread, an epoll, and
//! one request in flight per connection.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::fd::OwnedFd;

use crate::limit::Limit;
use crate::memory::text;
use crate::report::{Report, Target};
use crate::server::{Head, Server};
use crate::stats::{Spread, float};
use crate::{Outcome, Plan};

const PART: &str = "http";
const CLIENTS: usize = 32;
const BODY_BYTES: usize = 1024;
/// Episodes per second, on 2 cores, clients included.
const RATE: f64 = 10_000.0;
const SLICE: Duration = Duration::from_millis(900);

/// Measures.
pub(crate) fn run(plan: &Plan) -> Outcome<Report> {
    let dir = plan.fresh_dir("http")?;
    let mut limit = Limit::prepare(&dir, BODY_BYTES)?;
    let server = Server::start(&dir.join("data"))?;
    let mut clients = Clients::connect(&server.address)?;
    clients.slice(SLICE)?;
    let (mut limits, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..if plan.quick { 8 } else { 30 } {
        limits.push(limit.overwrite(SLICE)?);
        rates.push(clients.slice(SLICE)?);
    }
    drop(clients);
    server.stop()?;
    let mut report = Report::default();
    let rate = Spread::of(&rates);
    report.add(PART, "32 clients, 1 KB, synced", "episodes/s", rate, Target::AtLeast(RATE));
    let limit = Spread::of(&limits);
    report.add(PART, "limit: overwrite 1 KB + fdatasync", "records/s", limit, Target::None);
    let ratio = Spread::of_ratios(&rates, &limits);
    report.add(PART, "32 clients / limit", "ratio", ratio, Target::None);
    Ok(report)
}

/// One connection, and as much of its answer as has come.
#[derive(Debug)]
struct Client {
    stream: TcpStream,
    answer: Vec<u8>,
}

/// All connections.
#[derive(Debug)]
struct Clients {
    epoll: OwnedFd,
    all: Vec<Client>,
    request: Vec<u8>,
}

impl Clients {
    fn connect(address: &str) -> Outcome<Self> {
        let body = format!("{{\"what\":\"{}\"}}", text(BODY_BYTES - r#"{"what":""}"#.len()));
        let request = format!(
            "POST /v1/spaces/bench/episodes HTTP/1.1\r\nHost: {address}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut all = Vec::new();
        for number in 0..CLIENTS {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let data = epoll::EventData::new_u64(number as u64);
            epoll::add(&epoll, &stream, data, epoll::EventFlags::IN)?;
            all.push(Client { stream, answer: Vec::new() });
        }
        Ok(Self { epoll, all, request: request.into_bytes() })
    }

    /// Episodes acknowledged per second: each client sends the next one when the last is
    /// answered, until the slice is over and every answer has come.
    fn slice(&mut self, slice: Duration) -> Outcome<f64> {
        let begin = Instant::now();
        for client in &mut self.all {
            client.stream.write_all(&self.request)?;
        }
        let mut waiting = self.all.len();
        let mut acknowledged = 0;
        let mut events = Vec::with_capacity(CLIENTS);
        while waiting > 0 {
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None)?;
            for event in events.drain(..) {
                let number = usize::try_from(event.data.u64())?;
                let client = self.all.get_mut(number).ok_or("an event of nobody")?;
                if !client.is_answered()? {
                    continue;
                }
                acknowledged += 1;
                if begin.elapsed() < slice {
                    client.stream.write_all(&self.request)?;
                } else {
                    waiting -= 1;
                }
            }
        }
        Ok(float(acknowledged) / begin.elapsed().as_secs_f64())
    }
}

impl Client {
    /// Reads what has come; whether a whole answer is there (which is then taken).
    fn is_answered(&mut self) -> Outcome<bool> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err("the server closed a connection".into()),
            Ok(count) => self.answer.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(cause) if cause.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(cause) => return Err(cause.into()),
        }
        let Some(head) = Head::parse(&self.answer) else { return Ok(false) };
        if head.status != 201 {
            return Err(String::from_utf8_lossy(&self.answer).into_owned().into());
        }
        let whole = self.answer.len() >= head.bytes + head.body;
        if whole {
            self.answer.clear();
        }
        Ok(whole)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers every request of every client until it goes away; gives how many there were.
    fn serve(listener: &TcpListener) -> usize {
        let one = |stream: TcpStream| {
            let (mut stream, mut request, mut answered) = (stream, Vec::new(), 0);
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                request.extend_from_slice(&buffer[..count]);
                let Some(at) = request.windows(4).position(|four| four == b"\r\n\r\n") else {
                    continue;
                };
                if request.len() == at + 4 + BODY_BYTES {
                    request.clear();
                    answered += 1;
                    // In two pieces: clients must wait for the whole of it.
                    stream.write_all(b"HTTP/1.1 201 Created\r\ncontent-le").unwrap();
                    stream.write_all(b"ngth: 2\r\n\r\n{}").unwrap();
                }
            }
            answered
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..CLIENTS)
                .map(|_| listener.accept().unwrap().0)
                .map(|stream| scope.spawn(move || one(stream)))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        })
    }

    #[test]
    fn every_request_is_answered_before_a_slice_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::scope(|scope| {
            let server = scope.spawn(|| serve(&listener));
            let mut clients = Clients::connect(&address).unwrap();
            // A slice that is over at once: each client sends one request, and has its answer.
            assert!(clients.slice(Duration::ZERO).unwrap() > 0.0);
            assert!(clients.slice(Duration::ZERO).unwrap() > 0.0);
            drop(clients);
            assert_eq!(server.join().unwrap(), 2 * CLIENTS);
        });
    }
}
