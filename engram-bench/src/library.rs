//! Commit through the library, durability `always`, against the limit of the disk.
//!
//! Four things take turns in slices: the limit, a bare append, one writer, 32 writers. The log's
//! zero-filling runs in the background and may reach into its neighbours' slices; the count of
//! segments keeps it honest: a run lasts until each log has filled enough of them.

use std::time::Duration;

use engram_core::{Durability, Store};

use crate::limit::Limit;
use crate::memory::{RECORD_BYTES, Writers, options};
use crate::report::{Report, Target};
use crate::stats::Spread;
use crate::{Outcome, Plan};

const PART: &str = "commit";
const SEGMENTS_MIN: usize = 10;
/// One writer at least this part of the limit.
const ONE_WRITER: f64 = 0.8;
/// 32 writers at least so many times the limit.
const MANY_WRITERS: f64 = 5.0;
const WRITERS: usize = 32;
/// A run ends here even if the segments are not filled; then it says so.
const ROUNDS_MAX: usize = 300;

/// Measures.
pub(crate) fn run(plan: &Plan) -> Outcome<Report> {
    let dir = plan.fresh_dir("commit")?;
    let what = crate::memory::record_text(&dir)?;
    let mut limit = Limit::prepare(&dir, usize::try_from(RECORD_BYTES)?)?;
    // One writer fills 64 MiB in some 4 seconds of its own; quick runs take smaller segments,
    // which is harder on the log: it rotates more often.
    let (lone_bytes, crowd_bytes) =
        if plan.quick { (2 << 20, 16 << 20) } else { (32 << 20, 64 << 20) };
    let lone = Store::open(dir.join("lone"), options(Durability::Always, lone_bytes))?;
    let crowd = Store::open(dir.join("crowd"), options(Durability::Always, crowd_bytes))?;
    let (lone_writers, crowd_writers) = (Writers::default(), Writers::default());

    let slice = if plan.quick { Duration::from_millis(400) } else { Duration::from_millis(800) };
    let rounds_min = if plan.quick { 10 } else { 30 };
    let (mut limits, mut appends, mut ones, mut manys) = (vec![], vec![], vec![], vec![]);
    // The first slice of each is thrown away: caches are cold, segments still small.
    limit.overwrite(slice)?;
    lone_writers.slice(&lone, &what, 1, slice)?;
    crowd_writers.slice(&crowd, &what, WRITERS, slice)?;
    let filled = |store: &Store| store.wal().segments.len() >= SEGMENTS_MIN;
    while limits.len() < rounds_min
        || (limits.len() < ROUNDS_MAX && !(filled(&lone) && filled(&crowd)))
    {
        limits.push(limit.overwrite(slice)?);
        ones.push(lone_writers.slice(&lone, &what, 1, slice)?);
        appends.push(limit.append(slice)?);
        manys.push(crowd_writers.slice(&crowd, &what, WRITERS, slice)?);
    }

    let mut report = Report::default();
    let rate = "records/s";
    report.add(PART, "limit: overwrite + fdatasync", rate, Spread::of(&limits), Target::None);
    report.add(PART, "bare append + fdatasync", rate, Spread::of(&appends), Target::None);
    report.add(PART, "1 writer", rate, Spread::of(&ones), Target::None);
    report.add(PART, "32 writers", rate, Spread::of(&manys), Target::None);
    let ratio = |rates: &[f64]| Spread::of_ratios(rates, &limits);
    report.add(PART, "append / limit", "ratio", ratio(&appends), Target::None);
    report.add(PART, "1 writer / limit", "ratio", ratio(&ones), Target::AtLeast(ONE_WRITER));
    report.add(PART, "32 writers / limit", "ratio", ratio(&manys), Target::AtLeast(MANY_WRITERS));
    for (name, store) in [("1 writer", &lone), ("32 writers", &crowd)] {
        let segments = store.wal().segments.len();
        if segments < SEGMENTS_MIN {
            report.fail(PART, &format!("{name} filled {segments} segments, {SEGMENTS_MIN} wanted"));
        }
        store.close()?;
    }
    Ok(report)
}
