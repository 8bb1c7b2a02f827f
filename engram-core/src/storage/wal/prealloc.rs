//! Zero-filled files, made ahead: the next segment (spare) and room for compaction (ballast); and
//! room that is given back behind.
//!
//! A small sync is cheap only over blocks that were written before, so a spare is written full of
//! zeros. Where syncs are large, all bytes would be written twice: then its room is reserved, not
//! written (`docs/decisions/0029`). A full disk shows here, not in the middle of a frame.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::env::{Env, is_full, remove_if_there};
use super::segment::{BALLAST_NAME, SPARE_NAME, TEMPORARY_SUFFIX};
use crate::disk::{File, Open, write_all_at};

/// Most bytes written in one step: who syncs beside it waits for all that the drive has not written.
const STEP_BYTES_MAX: usize = 128 << 10;
static ZEROS: [u8; STEP_BYTES_MAX] = [0; STEP_BYTES_MAX];

/// A file full of zeros, synced.
#[derive(Debug)]
pub struct Spare {
    /// Its path.
    pub path: PathBuf,
    /// The file, open for writing.
    pub file: Arc<dyn File>,
    /// Its length.
    pub bytes: u64,
}

/// Room on the disk that nobody uses. Giving it back takes a while, so it is done when nobody waits;
/// what a crash keeps, the next start gives back.
#[derive(Debug)]
pub enum Surplus {
    /// What stands behind the last byte of a sealed segment, whose length is told.
    End(Arc<dyn File>, u64),
    /// A whole file that has lost its name.
    Unnamed(Arc<dyn File>),
}

impl Surplus {
    /// Gives it back.
    pub fn give_back(self) {
        if let Self::End(file, bytes) = self
            && let Err(e) = file.set_len(bytes)
        {
            tracing::warn!(cause = %e, "a sealed segment keeps its unused end until the next start");
        }
    }
}

/// How a file full of zeros is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filling {
    /// They are written.
    Written,
    /// Room is reserved that reads as zeros, if the file system does that.
    Reserved,
}

/// Fills a file with zeros, a step at a time.
#[derive(Debug)]
pub struct ZeroFill {
    spare: Spare,
    filling: Filling,
    done: u64,
}

/// What a step did.
#[derive(Debug)]
pub enum Filled {
    /// There is more to do.
    More(ZeroFill),
    /// The file is whole and synced.
    Done(Spare),
}

impl ZeroFill {
    /// Makes the file (over an older one of that name).
    ///
    /// # Errors
    /// What the disk said.
    pub fn begin(env: &Env, name: &str, bytes: u64, filling: Filling) -> io::Result<Self> {
        let path = env.wal_path(name);
        remove_if_there(env.disk.as_ref(), &path)?;
        let file = env.disk.open(&path, Open::New)?;
        Ok(Self { spare: Spare { path, file, bytes }, filling, done: 0 })
    }

    /// Bytes of the file so far.
    #[must_use]
    pub fn done_bytes(&self) -> u64 {
        self.done
    }

    /// Bytes that it will have.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.spare.bytes
    }

    /// Makes the next zeros; syncs behind the last ones. On failure the file is removed.
    ///
    /// # Errors
    /// What the disk said.
    pub fn step(mut self, env: &Env) -> io::Result<Filled> {
        match self.fill_some(env.scale.step_bytes) {
            Ok(()) if self.done == self.spare.bytes => Ok(Filled::Done(self.spare)),
            Ok(()) => Ok(Filled::More(self)),
            Err(e) => {
                remove_if_there(env.disk.as_ref(), &self.spare.path)?;
                Err(e)
            }
        }
    }

    fn fill_some(&mut self, step_bytes: u64) -> io::Result<()> {
        if self.filling == Filling::Reserved {
            self.filling = Filling::Written;
            if self.spare.file.reserve(self.spare.bytes)? {
                self.done = self.spare.bytes;
                return self.spare.file.sync();
            }
        }
        let left = (self.spare.bytes - self.done).min(step_bytes);
        let now = usize::try_from(left).unwrap_or(usize::MAX).min(STEP_BYTES_MAX);
        write_all_at(self.spare.file.as_ref(), &ZEROS[..now], self.done)?;
        self.spare.file.begin_sync(self.done, now as u64);
        self.done += now as u64;
        if self.done == self.spare.bytes { self.spare.file.sync() } else { Ok(()) }
    }

    /// All steps at once.
    ///
    /// # Errors
    /// What the disk said.
    pub fn run(mut self, env: &Env) -> io::Result<Spare> {
        loop {
            match self.step(env)? {
                Filled::More(more) => self = more,
                Filled::Done(spare) => return Ok(spare),
            }
        }
    }
}

/// Makes a zero-filled file. On a full disk a smaller one will do, and the ballast gives way: a
/// start must succeed there too, so that memories can be read and forgotten.
///
/// # Errors
/// What the disk said.
pub fn make_room(env: &Env, name: &str, [wanted, least]: [u64; 2]) -> io::Result<Spare> {
    let fill =
        |bytes| ZeroFill::begin(env, name, bytes, Filling::Written).and_then(|fill| fill.run(env));
    match fill(wanted).or_else(|e| if is_full(&e) { fill(least) } else { Err(e) }) {
        Err(e) if is_full(&e) => {
            remove_if_there(env.disk.as_ref(), &env.wal_path(BALLAST_NAME))?;
            fill(least)
        }
        made => made,
    }
}

/// The name of a spare that the writer makes itself because none was ready.
#[must_use]
pub fn urgent_spare_name() -> String {
    format!("{SPARE_NAME}{TEMPORARY_SUFFIX}")
}

/// How large the next segment is: a small log takes little disk, a large one few files.
#[must_use]
pub fn next_segment_bytes(log_bytes: u64, min: u64, max: u64) -> u64 {
    (log_bytes / 2).next_power_of_two().clamp(min, max.max(min))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_grow_with_the_log_between_their_bounds() {
        assert_eq!(next_segment_bytes(0, 1 << 20, 64 << 20), 1 << 20);
        assert_eq!(next_segment_bytes(8 << 20, 1 << 20, 64 << 20), 4 << 20);
        assert_eq!(next_segment_bytes(1 << 40, 1 << 20, 64 << 20), 64 << 20);
        assert_eq!(next_segment_bytes(1 << 40, 1 << 20, 1 << 20), 1 << 20);
    }
}
