//! `engram import`: JSON lines (or a v0.1.0 data directory) into a running server, fast, and safe
//! to run twice.
//!
//! A line without an id gets one derived from its bytes, so that the same line is the same
//! episode the next time; what is there already is skipped. Lines travel as they are, in batches, in
//! [`LANES`] requests at a time; lines of one id always take the same lane, so the order within
//! an id is that of the file. Deliberately absent: checking episodes (the server does), and a
//! record of how far an import came (the ids are that record).

mod batch;
mod legacy;
mod line;
mod send;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Instant;

use batch::{Batch, Batches};
use line::{Line, Preparer};
use send::{Shared, Tally};

use crate::args::ImportArgs;
use crate::client::{Client, Method};
use crate::failure::{Failure, Outcome};
use crate::{out, progress};

/// Requests in flight.
const LANES: usize = 2;
/// Longest line, in bytes; the longest legal episode has some 7 MiB.
const LINE_BYTES_MAX: u64 = 16 << 20;
/// Space of lines that name none.
const SPACE_DEFAULT: &str = "default";

/// `engram import`.
pub(crate) fn import(args: &ImportArgs) -> Outcome {
    let client = Client::new(&args.server.server)?;
    // Whoever waits for a long file should hear at once that nobody listens.
    client.send(Method::Get, "/livez", &[], &[])?;
    let began = Instant::now();
    let (source, total) = Source::open(&args.file)?;
    let bar = progress::bar("importing", total, true);
    let shared = Shared::new(args.replace, bar.clone());
    let read = std::thread::scope(|scope| {
        let lanes: Vec<SyncSender<Batch>> = (0..LANES)
            .map(|_| {
                let (sender, receiver) = sync_channel(1);
                let (client, shared) = (client.clone(), &shared);
                scope.spawn(move || send::run(&client, &receiver, shared));
                sender
            })
            .collect();
        let mut feed = Feed::new(args.space.as_deref(), &lanes, &shared);
        source.read(&mut feed).and_then(|()| feed.finish())
    });
    bar.finish_and_clear();
    let (tally, stopped) = shared.finish();
    report(args, &tally, began.elapsed().as_secs_f64(), stopped.is_none() && read.is_ok())?;
    if let Some(failure) = stopped {
        return Err(failure);
    }
    read?;
    if tally.rejected > 0 { Err(Failure::silent(1)) } else { Ok(()) }
}

/// Where episodes come from.
enum Source {
    Lines(Box<dyn BufRead>),
    Legacy(Vec<legacy::Space>),
}

impl Source {
    /// The source, and its length in bytes where that is known.
    fn open(path: &Path) -> Outcome<(Self, Option<u64>)> {
        if path == Path::new("-") {
            let stdin = BufReader::with_capacity(1 << 18, io::stdin());
            return Ok((Self::Lines(Box::new(stdin)), None));
        }
        let trouble =
            |e: io::Error| Failure::failed(format!("cannot read {}: {e}", path.display()));
        if path.is_dir() {
            let spaces = legacy::find(path)?;
            let total = spaces.iter().map(legacy::Space::bytes).sum();
            return Ok((Self::Legacy(spaces), Some(total)));
        }
        let file = File::open(path).map_err(trouble)?;
        let metadata = file.metadata().map_err(trouble)?;
        let total = metadata.is_file().then_some(metadata.len());
        Ok((Self::Lines(Box::new(BufReader::with_capacity(1 << 18, file))), total))
    }

    fn read(self, feed: &mut Feed<'_>) -> Outcome {
        match self {
            Self::Lines(reader) => read_lines(reader, feed),
            Self::Legacy(spaces) => spaces.iter().try_for_each(|space| legacy::read(space, feed)),
        }
    }
}

fn read_lines(mut reader: Box<dyn BufRead>, feed: &mut Feed<'_>) -> Outcome {
    let trouble = |e: io::Error| {
        Failure::failed(format!("what is imported cannot be read on: {e}; what came before is in"))
    };
    let mut text = Vec::new();
    for number in 1_u64.. {
        text.clear();
        let mut read =
            (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut text).map_err(trouble)?
                as u64;
        if read == 0 {
            break;
        }
        if read == LINE_BYTES_MAX && text.last() != Some(&b'\n') {
            read += skip_line(&mut reader).map_err(trouble)?;
            feed.reject(number, read, "longer than 16 MiB, and no episode is");
            continue;
        }
        let line = text.strip_prefix("\u{feff}".as_bytes()).filter(|_| number == 1);
        let line = line.unwrap_or(&text).trim_ascii();
        if number == 1 && line.starts_with(b"[") {
            return Err(Failure::failed(
                "this is a JSON array, and import reads JSON lines, one episode on each \
                 (`jq -c '.[]' FILE` makes them)",
            ));
        }
        if line.is_empty() {
            feed.pass_over(read);
        } else {
            feed.line(number, line, read)?;
        }
    }
    Ok(())
}

/// Reads to the end of the line without keeping it; gives the bytes read.
fn skip_line(reader: &mut dyn BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let buffer = match reader.fill_buf() {
            Ok(buffer) => buffer,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        let end = memchr::memchr(b'\n', buffer).map(|at| at + 1);
        let used = end.unwrap_or(buffer.len());
        let done = end.is_some() || buffer.is_empty();
        reader.consume(used);
        skipped += used as u64;
        if done {
            return Ok(skipped);
        }
    }
}

/// Takes lines one by one, and hands full batches to the lanes.
struct Feed<'a> {
    space: Option<&'a str>,
    preparer: Preparer,
    batches: Batches,
    lanes: &'a [SyncSender<Batch>],
    shared: &'a Shared,
}

impl<'a> Feed<'a> {
    fn new(space: Option<&'a str>, lanes: &'a [SyncSender<Batch>], shared: &'a Shared) -> Self {
        let batches = Batches::new(lanes.len());
        Self { space, preparer: Preparer::default(), batches, lanes, shared }
    }

    /// One line, which took `read` bytes of the source.
    fn line(&mut self, number: u64, text: &[u8], read: u64) -> Outcome {
        self.line_of(number, text, read, SPACE_DEFAULT)
    }

    /// One line that belongs to `space`, unless it or the command line says otherwise.
    fn line_of(&mut self, number: u64, text: &[u8], read: u64, space: &str) -> Outcome {
        match self.preparer.prepare(text, self.space, space) {
            Ok(Line { space, lane_hash }) => {
                let body = self.preparer.body();
                for batch in self.batches.add(&space, lane_hash, number, body, read) {
                    self.hand_over(batch)?;
                }
            }
            Err(reason) => self.reject(number, read, reason),
        }
        Ok(())
    }

    /// Notes a line that is not worth sending.
    fn reject(&self, number: u64, read: u64, reason: &str) {
        self.shared.reject(number, reason);
        self.pass_over(read);
    }

    /// Notes an entry that could not be read, and so is not sent.
    fn lose(&self, what: String) {
        self.shared.lose(what);
    }

    /// Notes what a person should know, and nothing is lost by.
    fn note(&self, what: String) {
        self.shared.note(what);
    }

    /// Notes bytes that hold no episode.
    fn pass_over(&self, read: u64) {
        self.shared.bar().inc(read);
    }

    fn finish(&mut self) -> Outcome {
        for batch in self.batches.rest() {
            self.hand_over(batch)?;
        }
        Ok(())
    }

    fn hand_over(&self, batch: Batch) -> Outcome {
        let lane = self.lanes.get(batch.lane);
        // Whatever stops a lane is said in `shared`, and ends the reading too.
        let sent = !self.shared.is_stopped() && lane.is_some_and(|lane| lane.send(batch).is_ok());
        if sent { Ok(()) } else { Err(Failure::silent(1)) }
    }
}

/// Says on standard error which lines were refused, and on standard output what was done.
fn report(args: &ImportArgs, tally: &Tally, took: f64, whole: bool) -> Outcome {
    let unit = if args.file.is_dir() { "episode" } else { "line" };
    let mut stderr = io::stderr().lock();
    for note in &tally.notes {
        // With standard error gone there is nobody left to tell; the count is in the answer.
        drop(writeln!(stderr, "{note}"));
    }
    for (number, reason) in &tally.reasons {
        drop(writeln!(stderr, "{unit} {number}: {reason}"));
    }
    let more = tally.rejected - tally.told;
    if more > 0 {
        drop(writeln!(stderr, "… and {more} more refused"));
    }
    let Tally { imported, there, rejected, .. } = *tally;
    let rate = rate(imported + there, took);
    if args.server.json {
        return out::json(&serde_json::json!({
            "imported": imported, "already_there": there, "rejected": rejected,
            "complete": whole, "seconds": took, "per_second": rate,
        }));
    }
    let verb = if whole { "imported" } else { "stopped early: imported" };
    out::line(&format!(
        "{verb} {imported} episodes, {there} were already there, {rejected} refused, in {took:.1} s \
         ({rate}/s)"
    ))
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate for people's eyes"
)]
fn rate(count: u64, seconds: f64) -> u64 {
    if seconds > 0.0 { (count as f64 / seconds) as u64 } else { 0 }
}
