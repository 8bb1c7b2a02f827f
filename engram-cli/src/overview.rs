//! `spaces` and `status`: what the server holds, and how its log is doing.

use std::fmt::Write as _;

use engram_core::storage::wal::report::{RecoveryReport, WalState, WalStatus};
use serde::Deserialize;

use crate::args::OverviewArgs;
use crate::client::{Client, Method};
use crate::episodes::print_body;
use crate::failure::{Failure, Outcome};
use crate::out;

/// The answer of `GET /v1/spaces`.
#[derive(Debug, Deserialize)]
pub(crate) struct Spaces {
    /// The spaces, by name.
    pub(crate) spaces: Vec<Space>,
}

/// One space.
#[derive(Debug, Deserialize)]
pub(crate) struct Space {
    /// Its name.
    pub(crate) name: String,
    /// Its episodes.
    pub(crate) episodes: u64,
    /// Bytes of log that they take.
    #[serde(default)]
    pub(crate) bytes: u64,
    /// Episodes without a vector, where texts are embedded.
    #[serde(default)]
    unembedded: u64,
}

/// `engram spaces`.
pub(crate) fn spaces(args: &OverviewArgs) -> Outcome {
    let answer = Client::new(&args.server.server)?.get("/v1/spaces")?;
    if args.server.json {
        return print_body(&answer.body);
    }
    let Spaces { spaces } = answer.json()?;
    if spaces.is_empty() {
        return out::line("no spaces yet; a space begins with its first episode");
    }
    // Few have an embedder that is slow enough for anything to wait.
    let waits = spaces.iter().any(|space| space.unembedded > 0);
    let last = waits.then(|| "UNEMBEDDED".to_owned());
    let head = ["SPACE", "EPISODES", "BYTES"].map(str::to_owned).into_iter().chain(last);
    let mut rows = vec![head.collect::<Vec<_>>()];
    for Space { name, episodes, bytes, unembedded } in spaces {
        let last = waits.then(|| unembedded.to_string());
        let row = [name, episodes.to_string(), size(bytes)].into_iter().chain(last);
        rows.push(row.collect());
    }
    out::line(&out::table(&rows))
}

/// `engram status`.
pub(crate) fn status(args: &OverviewArgs) -> Outcome {
    let client = Client::new(&args.server.server)?;
    let answer = client.send(Method::Get, "/v1/wal", &[], &[])?;
    if answer.status == 503 {
        return Err(Failure::failed(format!("not ready: {}", answer.problem())));
    }
    let answer = answer.success()?;
    let status: WalStatus = answer.json()?;
    if status.state == WalState::Recovering {
        // There is no report before the recovery is done.
        let readiness = client.send(Method::Get, "/readyz", &[], &[])?.problem();
        return if args.server.json {
            print_body(&answer.body)
        } else {
            out::line(&format!("state       recovering: {readiness}"))
        };
    }
    let recovery = client.get("/v1/wal/recovery")?;
    if args.server.json {
        return print_body(&joined(&answer.body, &recovery.body));
    }
    out::line(&status_in_words(&status, &recovery.json()?))
}

/// The log's object, with the recovery report as its member `recovery`.
fn joined(status: &[u8], recovery: &[u8]) -> Vec<u8> {
    let open = status.trim_ascii().strip_suffix(b"}").unwrap_or(status);
    [open, b",\"recovery\":", recovery.trim_ascii(), b"}"].concat()
}

fn status_in_words(status: &WalStatus, report: &RecoveryReport) -> String {
    let state = match status.state {
        WalState::Recovering => "recovering: the log is being read",
        WalState::Ready => "ready",
        WalState::Full => "disk full: reads and forgets go on, writing resumes when there is room",
        WalState::Poisoned => {
            "poisoned: a write or sync failed; reads go on, restart to write again"
        }
    };
    let mut lines = vec![
        format!("state       {state}"),
        format!("durability  {}", status.durability),
        format!("head        LSN {} (synced up to {})", status.head_lsn, status.synced_lsn),
        format!(
            "log         {}, {} live, {} dead, {} preallocated",
            out::count(status.segments.len() as u64, "segment", "segments"),
            size(status.live_bytes),
            size(status.dead_bytes),
            size(status.preallocated_bytes)
        ),
        format!("quarantine  {}", size(status.quarantine_bytes)),
        format!("recovery    {}", recovery_in_words(report)),
    ];
    lines
        .extend(report.incidents.iter().map(|incident| format!("            {}", incident.detail)));
    lines.join("\n")
}

/// A recovery report in one sentence.
pub(crate) fn recovery_in_words(report: &RecoveryReport) -> String {
    let failed = report.failed;
    let mut text = format!(
        "{} recovered from {} in {} ({}/s)",
        out::count(report.recovered, "entry", "entries"),
        size(report.bytes_scanned),
        seconds(report.duration_seconds),
        size_of_rate(report.bytes_per_second),
    );
    let mut and = |count: u64, what: &str| {
        if count > 0 {
            // Writing to a string cannot fail.
            let _infallible = write!(text, ", {count} {what}");
        }
    };
    and(failed.damaged, "lost to damage");
    and(failed.undecodable, "kept that this version does not understand");
    and(failed.tail, "of an unfinished tail set aside");
    if failed.total() == 0 {
        text.push_str(", nothing failed");
    }
    if !report.lost_lsns.is_empty() {
        let _infallible = write!(text, "; lost LSNs: {}", ranges(&report.lost_lsns));
    }
    text
}

/// Inclusive ranges, as `3, 7-9`.
pub(crate) fn ranges(ranges: &[[u64; 2]]) -> String {
    let one = |[first, last]: &[u64; 2]| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    ranges.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate for people's eyes; the cast saturates"
)]
fn size_of_rate(bytes_per_second: f64) -> String {
    size(bytes_per_second as u64)
}

/// Seconds for people.
pub(crate) fn seconds(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.1} s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_objects_stay_json() {
        let joined = joined(b"{\"state\":\"ready\"}\n", b"{\"recovered\":3}");
        let value: serde_json::Value = serde_json::from_slice(&joined).unwrap();
        assert_eq!(value["state"], "ready");
        assert_eq!(value["recovery"]["recovered"], 3);
    }

    #[test]
    fn ranges_of_one_are_one_number() {
        assert_eq!(ranges(&[[3, 3], [7, 9]]), "3, 7-9");
    }
}
