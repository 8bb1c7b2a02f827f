//! How many allocations one `remember` makes in the library: on the caller's thread, which commits
//! itself where it is alone, with the draft made before.
//!
//! A program of its own: its allocator counts, which the measurements beside peers must not pay.

use std::error::Error;
use std::io::Write as _;
use std::path::Path;

use allocation_counter::measure;
use engram_core::{Condition, Draft, Options, Store};

const CALLS: u64 = 2000;
const RECORD_BYTES: usize = 3500;
const MOST: f64 = 3.0;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bench/allocations");
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    let mut stdout = std::io::stdout().lock();
    for (name, options) in [
        (
            "the log alone",
            Options { embedder: None, index_in_background: false, ..Options::default() },
        ),
        ("with its defaults", Options::default()),
    ] {
        let store = Store::open(dir.join(name.replace(' ', "-")), options)?;
        let what = "w".repeat(RECORD_BYTES);
        let mut counts = Vec::new();
        for number in 0..CALLS {
            let draft = Draft { id: Some(format!("e{number:011}")), ..Draft::of(&what) };
            let mut outcome = None;
            let info = measure(|| {
                let pending = store.remember("bench", draft, Condition::Any);
                outcome = Some(pending.and_then(engram_core::store::Pending::wait));
            });
            outcome.ok_or("nothing was remembered")??;
            counts.push(info.count_total);
        }
        store.close()?;
        counts.sort_unstable();
        let median = counts.get(counts.len() / 2).copied().unwrap_or_default();
        let most = counts.last().copied().unwrap_or_default();
        let all: u64 = counts.iter().sum();
        #[expect(clippy::cast_precision_loss, reason = "small counts")]
        let mean = all as f64 / CALLS as f64;
        let verdict = if mean <= MOST { "met" } else { "NOT MET" };
        writeln!(
            stdout,
            "allocations of one remember, {name}: median {median}, mean {mean:.2}, most {most}; \
             target <= {MOST}: {verdict}"
        )?;
    }
    Ok(std::fs::remove_dir_all(&dir)?)
}
