//! SQLite: WAL, `synchronous=FULL`, one transaction a record.
//!
//! One writer at a time is SQLite's own rule; a lock around one connection keeps it without the
//! sleeping and retrying of many connections (`SQLITE_BUSY`), which is slower. Readers wait for nobody:
//! each has a connection of its own.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::{Engine, Setup, key};
use crate::Outcome;

const INSERT: &str = "INSERT OR REPLACE INTO episodes (id, what) VALUES (?1, ?2)";

struct Sqlite {
    writer: Mutex<Connection>,
    path: PathBuf,
    /// Connections that nobody reads by just now.
    readers: Mutex<Vec<Connection>>,
}

pub(super) fn open(dir: &Path, _: Setup) -> Outcome<Box<dyn Engine>> {
    // The default, in pages: 4 MB of log at most are left for recovery.
    open_with(dir, 1000)
}

/// All that was written is still in the log: what a recovery of that size costs.
pub(super) fn open_without_checkpoints(dir: &Path, _: Setup) -> Outcome<Box<dyn Engine>> {
    open_with(dir, 0)
}

/// 64 MB, negative for KiB: the tree's inner pages stay in memory.
const CACHE_KIB: i32 = -65_536;

fn open_with(dir: &Path, checkpoint_pages: u32) -> Outcome<Box<dyn Engine>> {
    std::fs::create_dir_all(dir)?;
    let path = dir.join("sqlite.db");
    let connection = Connection::open(&path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // In WAL mode NORMAL does not sync at a commit; FULL does.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", checkpoint_pages)?;
    connection.pragma_update(None, "cache_size", CACHE_KIB)?;
    connection
        .execute_batch("CREATE TABLE IF NOT EXISTS episodes (id TEXT PRIMARY KEY, what TEXT)")?;
    Ok(Box::new(Sqlite { writer: Mutex::new(connection), path, readers: Mutex::default() }))
}

impl Sqlite {
    fn reader(&self) -> Outcome<Connection> {
        let mut free = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reader) = free.pop() {
            return Ok(reader);
        }
        drop(free);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let reader = Connection::open_with_flags(&self.path, flags)?;
        reader.pragma_update(None, "cache_size", CACHE_KIB)?;
        Ok(reader)
    }
}

impl Engine for Sqlite {
    fn append(&self, _: usize, number: u64, record: &str) -> Outcome<()> {
        let connection = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        connection.prepare_cached(INSERT)?.execute((key(number), record))?;
        Ok(())
    }

    fn append_batch(&self, numbers: Range<u64>, record: &str) -> Outcome<()> {
        let mut connection = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = connection.transaction()?;
        for number in numbers {
            transaction.prepare_cached(INSERT)?.execute((key(number), record))?;
        }
        Ok(transaction.commit()?)
    }

    fn read(&self, number: u64) -> Outcome<Option<usize>> {
        let reader = self.reader()?;
        let mut statement = reader.prepare_cached("SELECT what FROM episodes WHERE id = ?1")?;
        let what: Option<String> =
            statement.query_row([key(number)], |row| row.get(0)).optional()?;
        drop(statement);
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
        Ok(what.map(|what| what.len()))
    }
}
