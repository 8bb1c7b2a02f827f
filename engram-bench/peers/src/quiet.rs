//! Waits until a process has nothing left to do: what an engine does in the background after its
//! slice must not reach into the next one's. How long it took is the engine's debt, and told.

use std::time::{Duration, Instant};

use crate::Outcome;

/// A process that did nothing for so long is quiet. Engram's indexes begin up to 40 ms after the last
/// change with what they put off.
const WINDOW: Duration = Duration::from_millis(60);
/// The longest wait: words of what Engram took in a fifth of a second are indexed in some ten seconds.
/// Whoever works on longer is told to have worked for so long.
const LONGEST: Duration = Duration::from_secs(30);

/// Waits until the process is quiet; gives the seconds until then.
pub(crate) fn wait(process: &str) -> Outcome<f64> {
    let start = Instant::now();
    let mut before = work(process)?;
    loop {
        let begin = start.elapsed();
        std::thread::sleep(WINDOW);
        let now = work(process)?;
        if now == before {
            return Ok(begin.as_secs_f64());
        }
        before = now;
        if start.elapsed() > LONGEST {
            return Ok(LONGEST.as_secs_f64());
        }
    }
}

/// What a process and its children have done so far: ticks of processor time, and bytes that they wrote.
fn work(process: &str) -> Outcome<(u64, u64)> {
    let (mut ticks_of_all, mut written_by_all) = (ticks(process)?, written(process)?);
    let children =
        std::fs::read_to_string(format!("/proc/{process}/task/{}/children", id(process)));
    for child in children.unwrap_or_default().split_whitespace() {
        // One that has ended meanwhile does nothing more.
        if let (Ok(ticks), Ok(written)) = (ticks(child), written(child)) {
            ticks_of_all += ticks;
            written_by_all += written;
        }
    }
    Ok((ticks_of_all, written_by_all))
}

fn id(process: &str) -> String {
    if process == "self" { std::process::id().to_string() } else { process.to_owned() }
}

fn written(process: &str) -> Outcome<u64> {
    let io = std::fs::read_to_string(format!("/proc/{process}/io"))?;
    let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(written.ok_or("no write_bytes in /proc/*/io")?.trim().parse()?)
}

/// Processor time that a process took so far, in ticks of 10 ms (Linux's `USER_HZ`).
pub(crate) fn ticks(process: &str) -> Outcome<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in brackets may hold spaces; the 12th and 13th figures behind it are ticks.
    let figures = stat.rsplit_once(')').map_or("", |(_, figures)| figures);
    let ticks =
        figures.split_whitespace().skip(11).take(2).filter_map(|text| text.parse::<u64>().ok());
    Ok(ticks.sum())
}
