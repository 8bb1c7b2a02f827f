//! SQLite: WAL, `synchronous=FULL`, one transaction a record.
//!
//! One writer at a time is SQLite's own rule; a lock around one connection keeps it without the
//! sleeping and retrying of many connections (`SQLITE_BUSY`), which is slower.

use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension};

use super::{Engine, Setup, key};
use crate::Outcome;

const INSERT: &str = "INSERT OR REPLACE INTO episodes (id, what) VALUES (?1, ?2)";

struct Sqlite(Mutex<Connection>);

pub(super) fn open(dir: &Path, _: Setup) -> Outcome<Box<dyn Engine>> {
    // The default, in pages: 4 MB of log at most are left for recovery.
    open_with(dir, 1000)
}

/// All that was written is still in the log: what a recovery of that size costs.
pub(super) fn open_without_checkpoints(dir: &Path, _: Setup) -> Outcome<Box<dyn Engine>> {
    open_with(dir, 0)
}

fn open_with(dir: &Path, checkpoint_pages: u32) -> Outcome<Box<dyn Engine>> {
    std::fs::create_dir_all(dir)?;
    let connection = Connection::open(dir.join("sqlite.db"))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // In WAL mode NORMAL does not sync at a commit; FULL does.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", checkpoint_pages)?;
    // 64 MB, in KiB when negative: the tree's inner pages stay in memory.
    connection.pragma_update(None, "cache_size", -65_536)?;
    connection
        .execute_batch("CREATE TABLE IF NOT EXISTS episodes (id TEXT PRIMARY KEY, what TEXT)")?;
    Ok(Box::new(Sqlite(Mutex::new(connection))))
}

impl Engine for Sqlite {
    fn append(&self, _: usize, number: u64, record: &str) -> Outcome<()> {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        connection.prepare_cached(INSERT)?.execute((key(number), record))?;
        Ok(())
    }

    fn append_batch(&self, numbers: Range<u64>, record: &str) -> Outcome<()> {
        let mut connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = connection.transaction()?;
        for number in numbers {
            transaction.prepare_cached(INSERT)?.execute((key(number), record))?;
        }
        Ok(transaction.commit()?)
    }

    fn read(&self, number: u64) -> Outcome<Option<usize>> {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut statement = connection.prepare_cached("SELECT what FROM episodes WHERE id = ?1")?;
        let what: Option<String> =
            statement.query_row([key(number)], |row| row.get(0)).optional()?;
        Ok(what.map(|what| what.len()))
    }
}
