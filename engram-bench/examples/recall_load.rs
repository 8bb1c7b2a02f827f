//! Recalls over HTTP as fast as so many clients can, each with one request under way.
//!
//! ```text
//! recall_load HOST:PORT SPACE CUES.jsonl [CLIENTS] [SECONDS]
//! ```
//! `CUES.jsonl` is an import file: those of its texts that are 6 to 12 words long and end with a
//! question mark are the cues, ten answers each. Prints recalls per second and the times that the
//! clients saw. Without `CLIENTS` it runs with 1 and with 16, five seconds each.

use std::error::Error;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const CUES_MAX: usize = 5_000;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().ok_or_else(|| format!("{what}? see the source"));
    let (address, space, cues) = (next("HOST:PORT")?, next("SPACE")?, next("CUES.jsonl")?);
    let clients = arguments.next().map(|text| text.parse::<usize>()).transpose()?;
    let seconds = arguments.next().map_or(Ok(5), |text| text.parse::<u64>())?;
    let requests = requests(&address, &space, &std::fs::read_to_string(cues)?)?;
    for clients in clients.map_or_else(|| vec![1, 16], |clients| vec![clients]) {
        let until = Instant::now() + Duration::from_secs(seconds);
        let threads: Vec<_> = (0..clients)
            .map(|client| {
                let (address, mut mine) = (address.clone(), requests.clone());
                let turn = client * mine.len() / clients;
                mine.rotate_left(turn);
                std::thread::spawn(move || ask(&address, &mine, until))
            })
            .collect();
        let mut times = Vec::new();
        for thread in threads {
            times.extend(thread.join().map_err(|_| "a client panicked")??);
        }
        times.sort_unstable();
        let at = |part: f64| {
            let all = f64::from(u32::try_from(times.len()).unwrap_or(u32::MAX));
            let place = floor(all * part);
            times.get(place).copied().unwrap_or_default()
        };
        let rate = times.len() as u64 / seconds;
        let (half, most, worst) = (at(0.5), at(0.99), at(0.999));
        writeln!(
            std::io::stdout(),
            "{clients} clients: {rate} recalls/s, p50 {half:.2?}, p99 {most:.2?}, p99.9 {worst:.2?}"
        )?;
    }
    Ok(())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index, not negative"
)]
fn floor(at: f64) -> usize {
    at as usize
}

fn requests(address: &str, space: &str, lines: &str) -> Outcome<Vec<String>> {
    let mut requests = Vec::new();
    for line in lines.lines() {
        let episode: Value = serde_json::from_str(line)?;
        let text = episode["what"].as_str().unwrap_or_default();
        if !text.ends_with('?') || !(6..=12).contains(&text.split_whitespace().count()) {
            continue;
        }
        let body = json!({"text": text, "limit": 10}).to_string();
        requests.push(format!(
            "POST /v1/spaces/{space}/recall HTTP/1.1\r\nHost: {address}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
    }
    let step = (requests.len() / CUES_MAX).max(1);
    let some: Vec<String> = requests.into_iter().step_by(step).collect();
    if some.is_empty() { Err("no cue in the file".into()) } else { Ok(some) }
}

/// Asks one after the other; gives how long each took.
fn ask(address: &str, requests: &[String], until: Instant) -> Outcome<Vec<Duration>> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut sink = stream.try_clone()?;
    let mut source = BufReader::new(stream);
    let (mut times, mut line, mut body) = (Vec::new(), String::new(), Vec::new());
    for request in requests.iter().cycle() {
        let begin = Instant::now();
        if begin >= until {
            break;
        }
        sink.write_all(request.as_bytes())?;
        let mut length = 0;
        for number in 0.. {
            line.clear();
            source.read_line(&mut line)?;
            if number == 0 && !line.contains(" 200 ") {
                return Err(line.into());
            }
            if let Some(("content-length", value)) = line.trim_end().split_once(": ") {
                length = value.parse()?;
            }
            if line == "\r\n" {
                break;
            }
        }
        body.resize(length, 0);
        source.read_exact(&mut body)?;
        times.push(begin.elapsed());
    }
    Ok(times)
}
