//! redb: one write transaction a record, `Durability::Immediate` (its default, synced). It takes
//! one write transaction at a time, and has no shared syncs.

use std::ops::Range;
use std::path::Path;

use redb::{Database, ReadableDatabase, TableDefinition};

use super::{Engine, Setup, key};
use crate::Outcome;

const EPISODES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("episodes");

struct Redb(Database);

pub(super) fn open(dir: &Path, _: Setup) -> Outcome<Box<dyn Engine>> {
    std::fs::create_dir_all(dir)?;
    let database = Database::create(dir.join("redb"))?;
    let transaction = database.begin_write()?;
    transaction.open_table(EPISODES)?;
    transaction.commit()?;
    Ok(Box::new(Redb(database)))
}

impl Engine for Redb {
    fn append(&self, _: usize, number: u64, record: &str) -> Outcome<()> {
        self.append_batch(number..number + 1, record)
    }

    fn append_batch(&self, numbers: Range<u64>, record: &str) -> Outcome<()> {
        let transaction = self.0.begin_write()?;
        {
            let mut table = transaction.open_table(EPISODES)?;
            for number in numbers {
                table.insert(key(number).as_str(), record.as_bytes())?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn read(&self, number: u64) -> Outcome<Option<usize>> {
        let table = self.0.begin_read()?.open_table(EPISODES)?;
        Ok(table.get(key(number).as_str())?.map(|value| value.value().len()))
    }
}
