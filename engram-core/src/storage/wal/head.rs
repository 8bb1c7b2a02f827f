//! A note of the newest segment, outside of it: without one, a last segment that is gone would
//! leave no gap to see.
//!
//! Written in place, within a sector, once the segment's name is durable and before anything in
//! it is acknowledged. It is a witness, not a truth: a log without a readable note is read as
//! it lies.

use std::io;

use super::bytes::{put, u32_at, u64_at};
use super::env::{Env, is_full};
use super::frame::{self, HEADER_BYTES_U64};
use super::segment::{HEAD_NAME, LSN_MAX};
use crate::disk::{Open, read_file, write_all_at};

const NOTE_BYTES: usize = 24;
const MAGIC: [u8; 4] = *b"HEAD";

/// The newest segment that this log has had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its first LSN.
    pub start: u64,
    /// The highest LSN that its file has room for.
    pub last_possible: u64,
}

impl Head {
    /// Of a segment of this first LSN and file size.
    #[must_use]
    pub fn of(start: u64, file_bytes: u64) -> Self {
        Self { start, last_possible: start + file_bytes / HEADER_BYTES_U64 }
    }

    fn encode(self) -> [u8; NOTE_BYTES] {
        let mut bytes = [0; NOTE_BYTES];
        put(&mut bytes, 0, &MAGIC);
        put(&mut bytes, 8, &self.start.to_le_bytes());
        put(&mut bytes, 16, &self.last_possible.to_le_bytes());
        let checksum = frame::crc(&bytes[8..]);
        put(&mut bytes, 4, &checksum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let body = bytes.get(8..NOTE_BYTES)?;
        if !bytes.starts_with(&MAGIC) || u32_at(bytes, 4)? != frame::crc(body) {
            return None;
        }
        let head = Self { start: u64_at(body, 0)?, last_possible: u64_at(body, 8)? };
        let sane = 0 < head.start && head.start <= head.last_possible;
        (sane && head.last_possible <= LSN_MAX).then_some(head)
    }

    /// Reads the note, if there is a good one.
    #[must_use]
    pub fn read(env: &Env) -> Option<Self> {
        let path = env.wal_path(HEAD_NAME);
        match read_file(env.disk.as_ref(), &path, 4096) {
            Ok(bytes) => Self::decode(&bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => {
                let file = path.display().to_string();
                tracing::warn!(
                    file,
                    cause = %e,
                    "the note of the newest segment cannot be read: were that one missing, nothing \
                     would tell; check the disk"
                );
                None
            }
        }
    }

    /// Writes the note, durably. A full disk may refuse to make its file: then there is none.
    ///
    /// # Errors
    /// What the disk said.
    pub fn write(self, env: &Env) -> io::Result<()> {
        let path = env.wal_path(HEAD_NAME);
        let disk = env.disk.as_ref();
        let (file, new) = match disk.open(&path, Open::Write) {
            Ok(file) => (file, false),
            Err(e) if e.kind() == io::ErrorKind::NotFound => match disk.open(&path, Open::New) {
                Ok(file) => (file, true),
                Err(e) if is_full(&e) => return Ok(()),
                Err(e) => return Err(e),
            },
            Err(e) => return Err(e),
        };
        match write_all_at(file.as_ref(), &self.encode(), 0).and_then(|()| file.sync()) {
            Err(e) if is_full(&e) => return Ok(()),
            written => written?,
        }
        if new { disk.sync_dir(&env.wal_dir()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_reads_back_and_a_flipped_one_is_none() {
        let head = Head::of(7, 1 << 20);
        let good = head.encode();
        assert_eq!(Head::decode(&good), Some(head));
        for bit in 0..NOTE_BYTES * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::decode(&bad), None, "bit {bit}");
        }
    }

    /// It made the log miss "LSNs 170 to 0".
    #[test]
    fn a_note_of_no_lsns_is_none() {
        for (start, last_possible) in [(170, 0), (0, 7), (1, u64::MAX)] {
            assert_eq!(Head::decode(&Head { start, last_possible }.encode()), None);
        }
    }
}
