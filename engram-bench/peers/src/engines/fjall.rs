//! fjall: an insert, and `persist(SyncData)` behind it, which syncs all that was inserted so far.

use std::ops::Range;
use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};

use super::{Engine, Setup, key};
use crate::Outcome;

/// From this size on values are kept apart from keys, as its documentation says for large ones.
const LARGE_BYTES: usize = 1024;

struct Fjall {
    database: Database,
    episodes: Keyspace,
}

pub(super) fn open(dir: &Path, setup: Setup) -> Outcome<Box<dyn Engine>> {
    // Manual: the journal goes to the system once, with the sync, not at each insert as well.
    let database = Database::builder(dir).manual_journal_persist(true).open()?;
    let episodes = database.keyspace("episodes", || {
        let options = KeyspaceCreateOptions::default();
        let is_large = setup.record_bytes >= LARGE_BYTES;
        options.with_kv_separation(is_large.then(KvSeparationOptions::default))
    })?;
    Ok(Box::new(Fjall { database, episodes }))
}

impl Engine for Fjall {
    fn append(&self, _: usize, number: u64, record: &str) -> Outcome<()> {
        self.episodes.insert(key(number), record)?;
        Ok(self.database.persist(PersistMode::SyncData)?)
    }

    fn append_batch(&self, numbers: Range<u64>, record: &str) -> Outcome<()> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for number in numbers {
            batch.insert(&self.episodes, key(number), record);
        }
        Ok(batch.commit()?)
    }

    fn fill(&self, numbers: Range<u64>, record: &str) -> Outcome<()> {
        for number in numbers {
            self.episodes.insert(key(number), record)?;
        }
        Ok(self.database.persist(PersistMode::SyncData)?)
    }

    fn read(&self, number: u64) -> Outcome<Option<usize>> {
        Ok(self.episodes.get(key(number))?.map(|value| value.len()))
    }
}
