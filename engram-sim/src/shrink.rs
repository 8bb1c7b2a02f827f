//! Makes a failing run short: leaves acts out, as many as can go while the same law fails.

use std::fmt::Write as _;

use crate::act::{Act, Kind, Plan};
use crate::tally::Tally;
use crate::world::{Sabotage, Violation, run};

/// A failing run, as short as it could be made.
#[derive(Debug, Clone)]
pub struct Shrunk {
    /// The plan that is left.
    pub plan: Plan,
    /// Which acts of the seed's plan those are.
    pub kept: Vec<usize>,
    /// What did not hold.
    pub violation: Violation,
}

/// Two violations of one law.
fn same(a: &Violation, b: &Violation) -> bool {
    let law =
        |violation: &Violation| violation.what.split(':').next().unwrap_or_default().to_owned();
    law(a) == law(b)
}

/// Leaves out what the violation does not need.
#[must_use]
pub fn shrink(plan: &Plan, violation: &Violation, sabotage: Option<Sabotage>) -> Shrunk {
    let mut kept: Vec<usize> = (0..plan.acts.len().min(violation.act + 1)).collect();
    let mut best = violation.clone();
    let of = |kept: &[usize]| plan.only(kept);
    let fails = |kept: &[usize]| match run(&of(kept), sabotage, &mut Tally::default()) {
        Err(found) if same(&found, violation) => Some(found),
        _ => None,
    };
    let mut size = kept.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        let mut smaller = false;
        while at < kept.len() {
            let mut fewer = kept.clone();
            fewer.drain(at..(at + size).min(kept.len()));
            if let Some(found) = fails(&fewer) {
                (kept, best, smaller) = (fewer, found, true);
            } else {
                at += size;
            }
        }
        if size == 1 && !smaller {
            break;
        }
        size = (size / 2).max(1);
    }
    Shrunk { plan: of(&kept), kept, violation: best }
}

impl Shrunk {
    /// The run in plain sentences, and the command that runs it again.
    #[must_use]
    pub fn story(&self, without: &[Kind]) -> String {
        let plan = &self.plan;
        let mut text = String::new();
        let mut line = |words: &str| {
            let _never_fails = writeln!(text, "{words}");
        };
        line(&format!(
            "A memory with segments of {} KiB; compaction {}; acknowledged means {}{}.",
            plan.segment_bytes >> 10,
            if plan.automatic { "runs by itself" } else { "runs on request" },
            if plan.durable { "synced" } else { "written" },
            if plan.legacy { "; a v0.1.0 directory is there" } else { "" },
        ));
        line(&format!(
            "Indexes are {}.",
            if plan.recalls { "made, saved, and asked" } else { "not asked" }
        ));
        for (number, (_, act)) in plan.acts.iter().enumerate() {
            line(&format!("{:>3}. {}{}", number + 1, first_upper(act), '.'));
            if number == self.violation.act {
                line("     Here it fails.");
            }
        }
        if self.violation.act >= plan.acts.len() {
            line("     It fails when all is closed and opened again.");
        }
        line(&format!("Violation of {}", self.violation.what));
        let only: Vec<String> = self.kept.iter().map(ToString::to_string).collect();
        let mut again = format!("make sim SEED={} ONLY={}", plan.seed, only.join(","));
        if !without.is_empty() {
            let names: Vec<&str> = without.iter().map(|kind| kind.name()).collect();
            let _never_fails = write!(again, " WITHOUT={}", names.join(","));
        }
        line(&format!("Again: {again}"));
        text
    }
}

fn first_upper(act: &Act) -> String {
    let text = act.to_string();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
