//! What an empty memory costs: disk, resident memory, time to ready; and the binary's size.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::recovery::status_bytes;
use crate::report::{Report, Target};
use crate::server::{Server, binary};
use crate::stats::{Spread, bytes};
use crate::{Outcome, Plan};

const PART: &str = "empty memory";
const DISK: f64 = (16 << 20) as f64;
const MEMORY: f64 = (40 << 20) as f64;
const READY_SECONDS: f64 = 0.05;
const BINARY: f64 = (20 << 20) as f64;

/// Measures.
pub(crate) fn run(plan: &Plan) -> Outcome<Report> {
    let dir = plan.fresh_dir("empty")?;
    let (mut disk, mut memory, mut fresh, mut again) = (vec![], vec![], vec![], vec![]);
    for round in 0..if plan.quick { 7 } else { 21 } {
        let data = dir.join(round.to_string());
        let server = Server::start(&data)?;
        fresh.push(server.ready.as_secs_f64());
        server.stop()?;
        let server = Server::start(&data)?;
        again.push(server.ready.as_secs_f64());
        memory.push(bytes(status_bytes(&server.id().to_string(), "VmRSS")?));
        disk.push(bytes(disk_bytes(&data)?));
        server.stop()?;
    }
    let size = bytes(std::fs::metadata(binary()?)?.len());
    let mut report = Report::default();
    report.add(PART, "on disk", "bytes", Spread::of(&disk), Target::AtMost(DISK));
    report.add(PART, "resident", "bytes", Spread::of(&memory), Target::AtMost(MEMORY));
    let ready = Target::AtMost(READY_SECONDS);
    report.add(PART, "ready, new directory", "seconds", Spread::of(&fresh), ready);
    report.add(PART, "ready, second start", "seconds", Spread::of(&again), ready);
    report.add(PART, "release binary", "bytes", Spread::of(&[size]), Target::AtMost(BINARY));
    Ok(report)
}

/// Bytes that a directory takes, as `du` counts them.
fn disk_bytes(dir: &Path) -> Outcome<u64> {
    let mut bytes = std::fs::metadata(dir)?.blocks() * 512;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() {
            disk_bytes(&entry.path())?
        } else {
            entry.metadata()?.blocks() * 512
        };
    }
    Ok(bytes)
}
