//! Clients over the network: one thread with many connections, each with one request under way,
//! closed loop (the next request follows the answer) and open loop (requests come at their times,
//! answered or not).
//!
//! One client for all servers, so that it is the same burden for each: what differs is how a
//! request is written and an answer recognised. It waits in `epoll`, since servers and clients
//! share the machine's cores.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};

use crate::Outcome;
use crate::crowd::Slice;
use crate::stats::float;

pub(crate) mod http;
pub(crate) mod postgres;
pub(crate) mod redis;

/// How a server is spoken to.
pub(crate) trait Protocol: Debug {
    /// What comes before the first request of a connection; it may block.
    fn greet(&self, stream: &mut TcpStream) -> Outcome<()>;

    /// Writes the request that makes one record durable.
    fn request(&self, number: u64, record: &str, to: &mut Vec<u8>);

    /// The length of the answer at the beginning of `bytes`; `None` until it is whole, an error
    /// if it is a refusal.
    fn answer(&self, bytes: &[u8]) -> Outcome<Option<usize>>;
}

/// Connections to one server.
#[derive(Debug)]
pub(crate) struct Clients {
    protocol: Box<dyn Protocol>,
    epoll: OwnedFd,
    all: Vec<Client>,
    record: String,
    next: u64,
    /// Numbers begin again there.
    end: u64,
    request: Vec<u8>,
}

#[derive(Debug)]
struct Client {
    stream: TcpStream,
    answer: Vec<u8>,
    /// From when its request's latency counts.
    since: Instant,
}

/// What an open loop saw.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    /// From the intended time of sending to the answer, in seconds.
    pub(crate) latencies: Vec<f64>,
    /// Requests whose time had come, and that had not been sent when it ended.
    pub(crate) unsent: usize,
}

impl Clients {
    /// Connects so many.
    pub(crate) fn connect(
        address: &str,
        protocol: Box<dyn Protocol>,
        count: usize,
        record: &str,
    ) -> Outcome<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut all = Vec::new();
        for number in 0..count {
            let mut stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            protocol.greet(&mut stream)?;
            stream.set_nonblocking(true)?;
            let data = epoll::EventData::new_u64(number as u64);
            epoll::add(&epoll, &stream, data, epoll::EventFlags::IN)?;
            all.push(Client { stream, answer: Vec::new(), since: Instant::now() });
        }
        let (record, request) = (record.to_owned(), Vec::new());
        Ok(Self { protocol, epoll, all, record, next: 0, end: u64::MAX, request })
    }

    /// Numbers from there on: several groups of clients may write to one server.
    pub(crate) fn numbered_from(mut self, next: u64) -> Self {
        self.next = next;
        self
    }

    /// The number of the next record.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Numbers below that, again and again: records are overwritten.
    pub(crate) fn numbered_below(mut self, end: u64) -> Self {
        self.end = end;
        self
    }

    /// Closed loop, for one slice and until every answer has come.
    pub(crate) fn slice(&mut self, slice: Duration) -> Outcome<Slice> {
        let begin = Instant::now();
        for client in 0..self.all.len() {
            self.send(client, Instant::now())?;
        }
        let mut waiting = self.all.len();
        let mut latencies = Vec::with_capacity(4096);
        while waiting > 0 {
            for client in self.answered(None)? {
                let now = Instant::now();
                latencies.push(now.duration_since(self.since(client)).as_secs_f64());
                if now.duration_since(begin) < slice {
                    self.send(client, now)?;
                } else {
                    waiting -= 1;
                }
            }
        }
        let rate = float(latencies.len()) / begin.elapsed().as_secs_f64();
        Ok(Slice { rate, latencies, ..Slice::default() })
    }

    /// Open loop: requests at so many a second. One that finds no free connection waits, and its
    /// waiting counts. What was sent is waited for.
    pub(crate) fn open_loop(&mut self, rate: f64, slice: Duration) -> Outcome<Opened> {
        let begin = Instant::now();
        let due = |number: usize| begin + Duration::from_secs_f64(float(number) / rate);
        let mut opened = Opened::default();
        // They take turns: one that idles for too long is closed by its server.
        let mut free: VecDeque<usize> = (0..self.all.len()).collect();
        let mut backlog = VecDeque::new();
        let mut arrived = 0;
        loop {
            let now = Instant::now();
            let is_over = now.duration_since(begin) >= slice;
            while !is_over && due(arrived) <= now {
                backlog.push_back(due(arrived));
                arrived += 1;
            }
            while !is_over && !backlog.is_empty() {
                let (Some(client), Some(since)) = (free.pop_front(), backlog.front()) else {
                    break;
                };
                self.send(client, *since)?;
                backlog.pop_front();
            }
            if is_over && free.len() == self.all.len() {
                break;
            }
            let until = (!is_over).then(|| due(arrived).saturating_duration_since(now));
            for client in self.answered(until)? {
                opened.latencies.push(self.since(client).elapsed().as_secs_f64());
                free.push_back(client);
            }
        }
        opened.unsent = backlog.len();
        Ok(opened)
    }

    fn since(&self, client: usize) -> Instant {
        self.all.get(client).map_or_else(Instant::now, |client| client.since)
    }

    fn send(&mut self, client: usize, since: Instant) -> Outcome<()> {
        self.request.clear();
        self.protocol.request(self.next, &self.record, &mut self.request);
        self.next = (self.next + 1) % self.end;
        let client = self.all.get_mut(client).ok_or("a client of nobody")?;
        client.since = since;
        // One request at a time fits into the socket's buffer many times over.
        Ok(client.stream.write_all(&self.request)?)
    }

    /// Waits for something to come, for so long at most; the clients whose answer is whole.
    fn answered(&mut self, longest: Option<Duration>) -> Outcome<Vec<usize>> {
        let timeout = longest.map(Timespec::try_from).transpose()?;
        let mut events = Vec::with_capacity(self.all.len());
        epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref())?;
        let mut answered = Vec::new();
        for event in events {
            let number = usize::try_from(event.data.u64())?;
            let client = self.all.get_mut(number).ok_or("an event of nobody")?;
            if client.has_answer(self.protocol.as_ref())? {
                answered.push(number);
            }
        }
        Ok(answered)
    }
}

impl Client {
    /// Reads what has come; whether a whole answer is there (which is then taken).
    fn has_answer(&mut self, protocol: &dyn Protocol) -> Outcome<bool> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err("the server closed a connection".into()),
            Ok(count) => self.answer.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(cause) if cause.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(cause) => return Err(cause.into()),
        }
        let Some(length) = protocol.answer(&self.answer)? else { return Ok(false) };
        if length != self.answer.len() {
            return Err("more than one answer to one request".into());
        }
        self.answer.clear();
        Ok(true)
    }
}
