//! RocksDB: a `put` with `sync`; concurrent ones share a sync of its log.

use std::ops::Range;
use std::path::Path;

use rocksdb::{DB, DBCompressionType, Options, WriteBatch, WriteOptions};

use super::{Engine, Setup, key};
use crate::Outcome;

struct Rocks {
    database: DB,
    synced: WriteOptions,
}

pub(super) fn open(dir: &Path, _: Setup) -> Outcome<Box<dyn Engine>> {
    let mut options = Options::default();
    options.create_if_missing(true);
    // The wiki's "Pipelined Write" for many writers, and recycled logs for cheap syncs.
    options.set_enable_pipelined_write(true);
    options.set_recycle_log_file_num(4);
    options.set_compression_type(DBCompressionType::None);
    let mut synced = WriteOptions::default();
    synced.set_sync(true);
    Ok(Box::new(Rocks { database: DB::open(&options, dir)?, synced }))
}

impl Engine for Rocks {
    fn append(&self, _: usize, number: u64, record: &str) -> Outcome<()> {
        Ok(self.database.put_opt(key(number), record, &self.synced)?)
    }

    fn append_batch(&self, numbers: Range<u64>, record: &str) -> Outcome<()> {
        let mut batch = WriteBatch::default();
        for number in numbers {
            batch.put(key(number), record);
        }
        Ok(self.database.write_opt(batch, &self.synced)?)
    }

    fn read(&self, number: u64) -> Outcome<Option<usize>> {
        Ok(self.database.get_pinned(key(number))?.map(|value| value.len()))
    }
}
