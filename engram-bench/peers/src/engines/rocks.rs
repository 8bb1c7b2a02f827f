//! RocksDB: a `put` with `sync`; concurrent ones share a sync of its log.

use std::ops::Range;
use std::path::Path;

use rocksdb::{BlockBasedOptions, Cache, DB, DBCompressionType, Options, WriteBatch, WriteOptions};

use super::{Engine, Setup, key};
use crate::Outcome;

struct Rocks {
    database: DB,
    synced: WriteOptions,
}

/// More than is ever written: nothing goes from the log to a table. A tenth more is allocated for the log.
const ALL_BYTES: usize = 9 << 30;

pub(super) fn open(dir: &Path, _: Setup) -> Outcome<Box<dyn Engine>> {
    open_with(dir, Options::default())
}

/// All that was written is still in the log: what a recovery of that size costs.
pub(super) fn open_with_all_in_its_log(dir: &Path, _: Setup) -> Outcome<Box<dyn Engine>> {
    let mut options = Options::default();
    options.set_write_buffer_size(ALL_BYTES);
    open_with(dir, options)
}

fn open_with(dir: &Path, mut options: Options) -> Outcome<Box<dyn Engine>> {
    options.create_if_missing(true);
    // The wiki's "Pipelined Write" for many writers, and recycled logs for cheap syncs.
    options.set_enable_pipelined_write(true);
    options.set_recycle_log_file_num(4);
    options.set_compression_type(DBCompressionType::None);
    // The wiki's "Setup Options and Basic Tuning": a block cache (64 MB, as SQLite's), Bloom filters, and
    // larger blocks.
    let mut tables = BlockBasedOptions::default();
    tables.set_block_cache(&Cache::new_lru_cache(64 << 20));
    tables.set_bloom_filter(10.0, false);
    tables.set_block_size(16 << 10);
    tables.set_cache_index_and_filter_blocks(true);
    tables.set_pin_l0_filter_and_index_blocks_in_cache(true);
    options.set_block_based_table_factory(&tables);
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

    fn fill(&self, numbers: Range<u64>, record: &str) -> Outcome<()> {
        for number in numbers {
            self.database.put(key(number), record)?;
        }
        Ok(self.database.flush_wal(true)?)
    }

    fn read(&self, number: u64) -> Outcome<Option<usize>> {
        Ok(self.database.get_pinned(key(number))?.map(|value| value.len()))
    }
}
