//! One memory, crashed again and again at any call: what was acknowledged is always there.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engram_core::clock::Rng as _;
use engram_core::{Condition, Error, Options, Store};

use support::disk::{MemDisk, Unsynced};
use support::{DIR, FakeRng, contents, draft, options};

/// What may be: the last acknowledged text of each id, and those of changes whose end is unknown.
#[derive(Debug, Default)]
struct Model {
    sure: BTreeMap<(String, String), String>,
    /// `None`: forgotten.
    maybe: BTreeMap<(String, String), BTreeSet<Option<String>>>,
    head: u64,
}

impl Model {
    fn doubt(&mut self, key: &(String, String), what: Option<String>) {
        self.maybe.entry(key.clone()).or_default().insert(what);
    }

    fn acknowledge(&mut self, key: (String, String), what: Option<String>, lsn: u64) {
        assert!(lsn > self.head, "LSN {lsn} was given before (head {})", self.head);
        self.head = lsn;
        self.maybe.remove(&key);
        match what {
            Some(what) => drop(self.sure.insert(key, what)),
            None => drop(self.sure.remove(&key)),
        }
    }

    /// Compares, and takes what is there as what was decided.
    fn settle(&mut self, store: &Store, at: &str) {
        let found: BTreeMap<(String, String), String> =
            contents(store).into_iter().map(|(key, (_, episode))| (key, episode.what)).collect();
        let keys: BTreeSet<_> =
            found.keys().chain(self.sure.keys()).chain(self.maybe.keys()).cloned().collect();
        for key in keys {
            let (now, sure) = (found.get(&key).cloned(), self.sure.get(&key).cloned());
            let maybe = self.maybe.get(&key).is_some_and(|maybe| maybe.contains(&now));
            assert!(now == sure || maybe, "{key:?} is {now:.60?}, not {sure:.60?}, {at}");
        }
        self.sure = found;
        self.maybe.clear();
    }
}

fn act(store: &Store, disk: &MemDisk, model: &mut Model, rng: &FakeRng) -> Result<(), Error> {
    let space = ["s", "t"][usize::try_from(rng.below(2)).unwrap()];
    let id = format!("e{}", rng.below(12));
    let key = (space.to_owned(), id.clone());
    match rng.below(20) {
        0..12 => {
            let what =
                format!("{} ", rng.u64()).repeat(usize::try_from(1 + rng.below(3000)).unwrap());
            match store.remember(space, draft(&id, &what), Condition::Any)?.wait() {
                Ok(done) => model.acknowledge(key, Some(what), done.lsn),
                Err(e) => {
                    model.doubt(&key, Some(what));
                    return Err(e);
                }
            }
        }
        12..16 => match store.forget(space, &id, Condition::Any)?.wait() {
            Ok(done) => model.acknowledge(key, None, done.lsn),
            Err(Error::NoEpisode { .. }) => assert!(!model.sure.contains_key(&key)),
            Err(e) => {
                model.doubt(&key, None);
                return Err(e);
            }
        },
        16 => {
            let keys: Vec<_> = model.sure.keys().filter(|key| key.0 == space).cloned().collect();
            match store.forget_space(space)?.wait() {
                Ok(done) => {
                    assert_eq!(done.episodes, keys.len() as u64);
                    model.sure.retain(|key, _| key.0 != space);
                    model.head = done.lsn;
                }
                Err(Error::NoSpace { .. }) => assert!(keys.is_empty()),
                Err(e) => {
                    for key in &keys {
                        model.doubt(key, None);
                    }
                    return Err(e);
                }
            }
        }
        17 => {
            let texts: Vec<(String, String)> =
                (0..5).map(|n| (format!("e{n}"), format!("batch {}", rng.u64()))).collect();
            let drafts = texts.iter().map(|(id, what)| Ok(draft(id, what))).collect();
            let result = store.remember_batch(space, drafts, Condition::Any)?.wait();
            for (n, (id, what)) in texts.into_iter().enumerate() {
                let key = (space.to_owned(), id);
                match &result {
                    Ok(done) => {
                        let lsn = done.first_lsn.unwrap() + n as u64;
                        model.acknowledge(key, Some(what), lsn);
                    }
                    Err(_) => model.doubt(&key, Some(what)),
                }
            }
            result?;
        }
        _ => {
            let compacted = store.compact_from_memory();
            assert!(compacted.is_ok() || disk.is_crashed(), "{compacted:?}");
        }
    }
    Ok(())
}

fn run(seed: u64, crashes: u64) {
    let rng = FakeRng::new(seed);
    let mut disk = MemDisk::new();
    let mut model = Model::default();
    for life in 0..crashes {
        let at = format!("seed {seed}, life {life}");
        if rng.below(3) == 0 {
            // Sometimes it crashes while it recovers.
            disk.crash_at(rng.below(40));
        }
        let with = Options {
            rng: Arc::new(FakeRng::new(rng.u64())),
            compact_automatically: rng.below(2) == 0,
            ..options(&disk)
        };
        let opened = Store::open(DIR, with);
        disk.crash_at(1 << 40);
        match opened {
            Err(e) => assert!(disk.is_crashed(), "{e}, {at}"),
            Ok(store) if disk.is_crashed() => drop(store),
            Ok(store) => {
                let report = store.recovery_report();
                assert_eq!(report.failed.damaged, 0, "{at}: {report:?}");
                model.settle(&store, &at);
                disk.crash_at(rng.below(120));
                for _ in 0..60 {
                    if act(&store, &disk, &mut model, &rng).is_err() {
                        break;
                    }
                }
                let wrong = store.incidents().into_iter().find(|i| i.verdict.name() != "tail");
                assert!(wrong.is_none(), "{wrong:?}, {at}");
                if rng.below(4) == 0 {
                    // A close that may or may not get through.
                    drop(store.close());
                }
            }
        }
        let unsynced = match rng.below(4) {
            0 => Unsynced::Lost,
            1 => Unsynced::Kept,
            _ => Unsynced::Torn(rng.u64()),
        };
        disk = disk.crash(unsynced);
    }
}

#[test]
fn a_memory_that_crashes_for_ever_keeps_all_that_it_acknowledged() {
    for seed in 0..6 {
        run(seed, 25);
    }
}

#[test]
#[ignore = "minutes; run by hand"]
fn a_memory_that_crashes_for_ever_keeps_it_under_many_seeds() {
    for seed in 100..160 {
        run(seed, 40);
    }
}
