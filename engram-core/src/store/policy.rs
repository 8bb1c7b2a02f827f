//! When to compact, and what: the work is to be proportional to the garbage.
//!
//! Pure: it looks at figures and says what is due. Deliberately absent: doing it.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use crate::storage::wal::knowledge::Usage;

/// Neighbours that are so small are worth joining once there are this many.
const SMALL_NEIGHBOURS_MIN: usize = 8;

/// What the policy sees of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// Its number.
    pub number: u32,
    /// Its first LSN.
    pub first_lsn: u64,
    /// Its last LSN.
    pub last_lsn: u64,
    /// It is finished, all its frames are applied, and nothing forbids rewriting it.
    pub eligible: bool,
    /// It holds bytes that are no frames.
    pub needs_rewrite: bool,
    /// Bytes of the file in use.
    pub bytes: u64,
    /// How they are used.
    pub usage: Usage,
}

/// The bounds.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Largest segment.
    pub segment_bytes_max: u64,
    /// Dead bytes below which garbage alone is no reason to run.
    pub garbage_bytes_min: u64,
    /// Dead bytes in the active segment below which it is not sealed early.
    pub active_garbage_bytes_min: u64,
    /// Forgotten bytes older than this moment (seconds since 1970) are due.
    pub forgotten_before: i64,
    /// So are those of a time after this moment: a clock ran ahead when they were forgotten.
    pub forgotten_after: i64,
    /// Rewrite all that holds a dead byte, in segments of LSNs from the first to the last: one
    /// pass, so that it ends while changes go on.
    pub everything: Option<(u64, u64)>,
}

impl Bounds {
    fn is_due(&self, forgotten: i64) -> bool {
        forgotten <= self.forgotten_before || forgotten > self.forgotten_after
    }
}

/// What is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Neighbouring segments, oldest first.
    pub numbers: Vec<u32>,
    /// Why: `recovery`, `garbage`, `forgotten`, `requested`.
    pub reason: &'static str,
}

/// What to compact next, if anything. `views` are in order of LSN.
#[must_use]
pub fn next_job(views: &[View], bounds: &Bounds) -> Option<Job> {
    let eligible = |view: &&View| view.eligible;
    if let Some(damaged) = views.iter().filter(eligible).find(|view| view.needs_rewrite) {
        return Some(Job { numbers: vec![damaged.number], reason: "recovery" });
    }
    let due = |view: &&View| {
        let since = view.usage.forgotten_since;
        view.usage.dead > 0 && since.is_some_and(|since| bounds.is_due(since))
    };
    if let Some(at) = views.iter().position(|view| view.eligible && due(&view)) {
        return Some(extend(views, at, bounds, "forgotten"));
    }
    if let Some((first, last)) = bounds.everything {
        let within = |view: &View| view.first_lsn >= first && view.last_lsn <= last;
        let dead = |view: &View| view.eligible && view.usage.dead > 0 && within(view);
        return views.iter().position(dead).map(|at| extend(views, at, bounds, "requested"));
    }
    garbage(views, bounds).or_else(|| join_small(views, bounds))
}

fn garbage(views: &[View], bounds: &Bounds) -> Option<Job> {
    let dead: u64 = views.iter().filter(|v| v.eligible).map(|v| v.usage.dead).sum();
    let live: u64 = views.iter().map(|v| v.usage.live).sum();
    let (at, worst) = views
        .iter()
        .enumerate()
        .filter(|(_, view)| view.eligible && view.usage.dead > 0)
        .max_by_key(|(_, view)| per_mille(view.usage))?;
    let half_dead = per_mille(worst.usage) >= 500 && worst.usage.dead >= bounds.garbage_bytes_min;
    let too_much = dead >= bounds.garbage_bytes_min && dead > live.saturating_div(3);
    (half_dead || too_much).then(|| extend(views, at, bounds, "garbage"))
}

/// Dead bytes of a segment in a thousand.
fn per_mille(usage: Usage) -> u64 {
    let all = usage.live.saturating_add(usage.dead);
    usage.dead.saturating_mul(1000).checked_div(all).unwrap_or(0)
}

/// Takes neighbours along that are mostly garbage or small, as far as one segment can hold them.
fn extend(views: &[View], at: usize, bounds: &Bounds, reason: &'static str) -> Job {
    let mut live = views.get(at).map_or(0, |view| view.usage.live);
    let mut fits = |view: &View| {
        let small = view.usage.live < bounds.segment_bytes_max.saturating_div(4);
        let worth = small || per_mille(view.usage) >= 300;
        let sum = live.saturating_add(view.usage.live);
        let takes = view.eligible
            && !view.needs_rewrite
            && worth
            && sum <= bounds.segment_bytes_max.saturating_div(2);
        if takes {
            live = sum;
        }
        takes
    };
    let before: Vec<u32> = views
        .iter()
        .take(at)
        .rev()
        .take_while(|view| bounds.everything.is_none() && view.usage.dead > 0 && fits(view))
        .map(|view| view.number)
        .collect();
    let mut numbers: Vec<u32> = before.into_iter().rev().collect();
    numbers.extend(views.get(at).map(|view| view.number));
    let after = views.iter().skip(at.saturating_add(1));
    numbers.extend(after.take_while(|v| v.usage.dead > 0 && fits(v)).map(|v| v.number));
    Job { numbers, reason }
}

/// Many small neighbours (one a crash, say) become one.
fn join_small(views: &[View], bounds: &Bounds) -> Option<Job> {
    let mut run: Vec<&View> = Vec::new();
    for view in views {
        let small = view.eligible && view.bytes < bounds.segment_bytes_max.saturating_div(8);
        let sum: u64 = run.iter().map(|v| v.bytes).sum();
        if !small || sum.saturating_add(view.bytes) > bounds.segment_bytes_max {
            if run.len() >= SMALL_NEIGHBOURS_MIN {
                break;
            }
            run.clear();
        }
        if small {
            run.push(view);
        }
    }
    (run.len() >= SMALL_NEIGHBOURS_MIN)
        .then(|| Job { numbers: run.iter().map(|v| v.number).collect(), reason: "garbage" })
}

/// Whether to seal the active segment early, so that compaction can reach its garbage.
#[must_use]
pub fn seal_early(active: Usage, live_in_all: u64, bounds: &Bounds) -> bool {
    let due = active.forgotten_since.is_some_and(|since| bounds.is_due(since));
    let garbage = active.dead >= bounds.active_garbage_bytes_min
        && active.dead > live_in_all.saturating_div(4);
    (active.dead > 0 && due) || garbage
}

/// Whether the next segment's file, of which `done` of `whole` bytes are filled, is late: it is to be
/// whole when three quarters of what the active segment had left when it was begun are written, and at once if the
/// writer has a segment with more room by now.
#[must_use]
pub fn spare_is_late(done: u64, whole: u64, left_at_begin: u64, left: u64) -> bool {
    let Some(written) = left_at_begin.checked_sub(left) else { return true };
    let product = |a: u64, b: u64| u128::from(a).saturating_mul(u128::from(b));
    product(done, left_at_begin) / 4 < product(written, whole) / 3
}

#[cfg(test)]
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "tests may panic"
)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        segment_bytes_max: 64 << 20,
        garbage_bytes_min: 64 << 10,
        active_garbage_bytes_min: 256 << 10,
        forgotten_before: 100,
        forgotten_after: 200,
        everything: None,
    };

    #[test]
    fn a_spare_keeps_ahead_of_the_writer_whatever_the_sizes() {
        // Nothing written: there is time.
        assert!(!spare_is_late(0, 64, 64, 64));
        // Three eighths of what was left are written: half is to be there.
        for (left_at_begin, whole) in [(64, 64), (16, 64), (64, 2 << 40)] {
            let left = left_at_begin * 5 / 8;
            assert!(spare_is_late(whole / 2 - 1, whole, left_at_begin, left));
            assert!(!spare_is_late(whole / 2, whole, left_at_begin, left));
        }
        // The writer went on to another segment.
        assert!(spare_is_late(63, 64, 16, 17));
        assert!(spare_is_late(u64::MAX - 1, u64::MAX, u64::MAX, 0));
    }

    fn view(number: u32, live: u64, dead: u64) -> View {
        let usage = Usage { live, dead, forgotten_since: None };
        let (first_lsn, last_lsn) = (u64::from(number) * 10, u64::from(number) * 10 + 9);
        View {
            number,
            first_lsn,
            last_lsn,
            eligible: true,
            needs_rewrite: false,
            bytes: live + dead,
            usage,
        }
    }

    #[test]
    fn nothing_to_reclaim_means_nothing_is_written() {
        let views = [view(1, 60 << 20, 0), view(2, 60 << 20, 64)];
        assert_eq!(next_job(&views, &BOUNDS), None);
        let everything = Bounds { everything: Some((1, 1000)), ..BOUNDS };
        assert_eq!(next_job(&views[..1], &everything), None);
    }

    #[test]
    fn a_segment_that_is_half_garbage_is_rewritten() {
        let views = [view(1, 60 << 20, 0), view(2, 30 << 20, 31 << 20)];
        assert_eq!(next_job(&views, &BOUNDS).unwrap().numbers, [2]);
    }

    #[test]
    fn garbage_spread_thin_is_bounded_too() {
        let views: Vec<View> = (1..=10).map(|n| view(n, 40 << 20, 20 << 20)).collect();
        assert!(next_job(&views, &BOUNDS).is_some());
    }

    #[test]
    fn forgotten_bytes_are_due_even_if_few() {
        let mut views = [view(1, 60 << 20, 0), view(2, 60 << 20, 100)];
        views[1].usage.forgotten_since = Some(101);
        assert_eq!(next_job(&views, &BOUNDS), None);
        views[1].usage.forgotten_since = Some(100);
        assert_eq!(next_job(&views, &BOUNDS).unwrap().reason, "forgotten");
        // Forgotten when the clock was ahead: nobody waits until it was right.
        views[1].usage.forgotten_since = Some(201);
        assert_eq!(next_job(&views, &BOUNDS).unwrap().reason, "forgotten");
    }

    #[test]
    fn damaged_segments_come_first_and_alone() {
        let mut views = [view(1, 1, 60 << 20), view(2, 60 << 20, 0)];
        views[1].needs_rewrite = true;
        let job = next_job(&views, &BOUNDS).unwrap();
        assert_eq!((job.numbers, job.reason), (vec![2], "recovery"));
    }

    #[test]
    fn what_is_not_eligible_is_never_touched() {
        let mut views = [view(1, 1, 60 << 20)];
        views[0].eligible = false;
        let everything = Bounds { everything: Some((1, 1000)), ..BOUNDS };
        assert_eq!(next_job(&views, &everything), None);
    }

    #[test]
    fn a_requested_pass_ends_where_it_was_asked_to() {
        let views: Vec<View> = (1..=3).map(|n| view(n, 40 << 20, 100)).collect();
        let pass = |first, last| Bounds { everything: Some((first, last)), ..BOUNDS };
        assert_eq!(next_job(&views, &pass(1, 29)).unwrap().numbers, [1]);
        assert_eq!(next_job(&views, &pass(20, 29)).unwrap().numbers, [2]);
        assert_eq!(next_job(&views, &pass(30, 29)), None);
    }

    #[test]
    fn many_small_neighbours_become_one() {
        let views: Vec<View> = (1..=8).map(|n| view(n, 1000, 0)).collect();
        assert_eq!(next_job(&views, &BOUNDS).unwrap().numbers.len(), 8);
        assert_eq!(next_job(&views[..7], &BOUNDS), None);
    }
}
