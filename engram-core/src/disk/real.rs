//! The real disk: the only file here that touches `std::fs`.
#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "the seam's real side")]

use std::fs;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Arc, PoisonError};

use super::recent::Recent;
use super::{BLOCK_BYTES, Disk, Entry, File, Lock, Open};
use crate::sync::{Mutex, RwLock};

/// The operating system's file system.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).mode(0o600);
        match how {
            Open::Read => {}
            Open::Write => {
                options.write(true);
            }
            Open::New => {
                options.write(true).create_new(true);
            }
        }
        Ok(Arc::new(RealFile::of(options.open(path)?)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            // Of a link to a file what it leads to, as `open` has it.
            let metadata = match fs::metadata(entry.path()) {
                Ok(metadata) => metadata,
                // Removed while we looked, or a link to nothing.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(_) => entry.metadata()?,
            };
            if let Ok(name) = entry.file_name().into_string() {
                let is_dir = entry.file_type()?.is_dir();
                let bytes = if metadata.is_dir() { 0 } else { metadata.len() };
                entries.push(Entry { name, bytes, is_dir });
            }
        }
        entries.sort();
        Ok(entries)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let parent = match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if dir.is_dir() {
            // Whoever made it may have died before its name was synced.
            return match self.sync_dir(parent) {
                // A parent that is not ours, or of a file system whose directories know no sync.
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::PermissionDenied
                            | io::ErrorKind::InvalidInput
                            | io::ErrorKind::Unsupported
                            | io::ErrorKind::ReadOnlyFilesystem
                    ) =>
                {
                    Ok(())
                }
                synced => synced,
            };
        }
        self.create_dir(parent)?;
        match fs::DirBuilder::new().mode(0o700).create(dir) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            Err(e) => return Err(e),
        }
        self.sync_dir(parent)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        // A look at what cannot be written to: the lock of a process that can is seen all the same.
        let file = options.open(path).or_else(|e| match e.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                fs::File::open(path).map_err(|_| e)
            }
            _ => Err(e),
        })?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(RealLock(file)))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(e)) => Err(e),
        }
    }

    fn available_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// Held open for the kernel lock on it.
#[derive(Debug)]
struct RealLock(#[expect(dead_code, reason = "the open file is the lock")] fs::File);

impl Lock for RealLock {}

/// A file, and how it is written past the page cache.
///
/// Linux keeps the page cache and direct writes coherent where the file system says what it needs of
/// them (`STATX_DIOALIGN`); others are written through the page cache.
#[derive(Debug)]
struct RealFile {
    file: fs::File,
    direct: Mutex<Direct>,
    recent: RwLock<Recent>,
}

#[derive(Debug)]
enum Direct {
    /// Nobody asked yet.
    Untried,
    /// The same file, opened for direct writes.
    Open(fs::File),
    /// The system, the file system or the device does not do it.
    Refused,
}

impl RealFile {
    fn of(file: fs::File) -> Self {
        Self { file, direct: Mutex::new(Direct::Untried), recent: RwLock::default() }
    }

    /// Writes past the page cache; `None` where that cannot be.
    fn write_direct(&self, bytes: &[u8], offset: u64) -> Option<io::Result<usize>> {
        let aligned =
            [bytes.as_ptr().addr(), bytes.len()].iter().all(|n| n.is_multiple_of(BLOCK_BYTES));
        if !aligned || !offset.is_multiple_of(BLOCK_BYTES as u64) {
            return None;
        }
        let mut direct = self.direct.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*direct, Direct::Untried) {
            *direct = open_direct(&self.file).map_or(Direct::Refused, Direct::Open);
        }
        let Direct::Open(file) = &*direct else { return None };
        match file.write_at(bytes, offset) {
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
                tracing::debug!(cause = %e, "no direct writes here; the page cache is used");
                *direct = Direct::Refused;
                None
            }
            written => Some(written),
        }
    }

    fn advise(&self, advice: rustix::fs::Advice, offset: u64, bytes: u64) {
        if let Err(e) = rustix::fs::fadvise(&self.file, offset, NonZeroU64::new(bytes), advice) {
            tracing::trace!(cause = %e, "a hint was not taken; that costs only time");
        }
    }

    fn recent(&self, change: impl FnOnce(&mut Recent)) {
        change(&mut self.recent.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The same file for direct writes, if its file system says that blocks of ours will do.
#[cfg(target_os = "linux")]
fn open_direct(file: &fs::File) -> Option<fs::File> {
    use rustix::fs::{AtFlags, OFlags, StatxFlags, statx};
    use std::os::fd::AsRawFd as _;

    let stat = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok()?;
    let fits = |align: u32| align > 0 && BLOCK_BYTES.is_multiple_of(align as usize);
    if !fits(stat.stx_dio_mem_align) || !fits(stat.stx_dio_offset_align) {
        return None;
    }
    let flags = i32::try_from(OFlags::DIRECT.bits()).ok()?;
    // By its descriptor, for it may have another name by now.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    fs::OpenOptions::new().write(true).custom_flags(flags).open(path).ok()
}

#[cfg(not(target_os = "linux"))]
fn open_direct(_: &fs::File) -> Option<fs::File> {
    None
}

impl File for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.recent.read().unwrap_or_else(PoisonError::into_inner).read(buffer, offset) {
            return Ok(buffer.len());
        }
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        // What was written before may be under it.
        self.recent(Recent::forget);
        self.file.write_at(bytes, offset)
    }

    fn write_blocks_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let Some(written) = self.write_direct(bytes, offset) else {
            return self.write_at(bytes, offset);
        };
        match written {
            Ok(n) => self.recent(|recent| recent.note(bytes.get(..n).unwrap_or(bytes), offset)),
            Err(_) => self.recent(Recent::forget),
        }
        written
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn begin_sync(&self, offset: u64, bytes: u64) {
        // Linux begins to write dirty pages on this advice, and keeps them until they are written.
        self.advise(rustix::fs::Advice::DontNeed, offset, bytes);
    }

    fn read_singly(&self) {
        self.advise(rustix::fs::Advice::Random, 0, 0);
    }

    fn will_read(&self, offset: u64, bytes: u64) {
        let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner).first();
        // What was written last is in memory, and its last block is about to be written again.
        let recent =
            recent.map_or(u64::MAX, |first| first / BLOCK_BYTES as u64 * BLOCK_BYTES as u64);
        let end = recent.min(offset + bytes);
        if offset < end {
            self.advise(rustix::fs::Advice::WillNeed, offset, end - offset);
        }
    }

    #[cfg(target_os = "linux")]
    fn reserve(&self, bytes: u64) -> io::Result<bool> {
        use rustix::io::Errno;

        match rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
            Ok(()) => Ok(true),
            Err(e @ (Errno::NOSPC | Errno::DQUOT | Errno::IO)) => Err(e.into()),
            // File systems say in many ways that they do not do it.
            Err(e) => {
                tracing::debug!(cause = %e, "no room is reserved here; zeros are written");
                Ok(false)
            }
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        // Its writer is through with it: no descriptor and no memory is kept for more.
        self.recent(Recent::forget);
        *self.direct.lock().unwrap_or_else(PoisonError::into_inner) = Direct::Untried;
        self.file.set_len(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{read_exact_at, write_all_at, write_all_blocks_at};

    const BLOCK: usize = BLOCK_BYTES;

    /// Direct and cached writes in turn, over each other and behind each other, beside a reader of its
    /// own: everybody sees what was written last.
    #[test]
    fn what_was_written_in_either_way_is_what_everybody_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let written = RealDisk.open(&path, Open::New).unwrap();
        let other = RealDisk.open(&path, Open::Read).unwrap();
        let mut expected = vec![0u8; 512 * BLOCK];
        write_all_at(written.as_ref(), &expected, 0).unwrap();
        let memory = vec![0u8; 65 * BLOCK];
        let skew = memory.as_ptr().align_offset(BLOCK);
        let mut memory = memory;
        let mut state = 7u32;
        let mut dice = move |below: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize % below
        };
        other.read_singly();
        let mut end = 0;
        for round in 0..600usize {
            let fill = u8::try_from(round % 251).unwrap() + 1;
            let kind = dice(10);
            let first = if kind == 0 { dice(400) } else { end / BLOCK % 400 };
            let blocks = 1 + dice(if round % 50 == 0 { 64 } else { 6 });
            // Where memory is not aligned, or the last block is not whole, the page cache is used.
            let (skew, short) = (skew + usize::from(kind == 1), usize::from(kind == 2) * 100);
            let bytes = &mut memory[skew..skew + blocks * BLOCK - short];
            bytes.fill(fill);
            let at = first * BLOCK;
            if kind >= 6 {
                // What is asked for ahead may be written while it is on its way.
                let (from, bytes) =
                    ((at + 9 * BLOCK).saturating_sub(dice(80 * BLOCK)), dice(100 * BLOCK));
                [&written, &other][kind % 2].will_read(from as u64, bytes as u64);
            }
            if kind == 3 {
                write_all_at(written.as_ref(), bytes, at as u64).unwrap();
            } else {
                write_all_blocks_at(written.as_ref(), bytes, at as u64).unwrap();
            }
            end = at + bytes.len();
            expected[at..end].copy_from_slice(bytes);
            if kind == 4 {
                written.sync().unwrap();
            } else if kind == 5 {
                // Given its length, it goes on to be written all the same.
                written.set_len(expected.len() as u64).unwrap();
            }
            for file in [&written, &other] {
                let from = (end + BLOCK).saturating_sub(dice(80 * BLOCK));
                let mut read = vec![0; (1 + dice(70 * BLOCK)).min(expected.len() - from)];
                read_exact_at(file.as_ref(), &mut read, from as u64).unwrap();
                assert!(read == expected[from..from + read.len()], "round {round}, from {from}");
            }
        }
        let mut all = vec![0; expected.len()];
        read_exact_at(other.as_ref(), &mut all, 0).unwrap();
        assert!(all == expected);
    }

    /// Room that is reserved reads as zeros, and takes direct writes as well as others.
    #[test]
    fn reserved_room_is_zeros_until_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk.open(&dir.path().join("file"), Open::New).unwrap();
        let reserved = file.reserve(64 * BLOCK as u64).unwrap();
        if !reserved {
            return;
        }
        assert_eq!(file.len().unwrap(), 64 * BLOCK as u64);
        let memory = vec![7u8; 4 * BLOCK];
        let skew = memory.as_ptr().align_offset(BLOCK);
        let block = &memory[skew..skew + BLOCK];
        write_all_blocks_at(file.as_ref(), block, 8 * BLOCK as u64).unwrap();
        write_all_at(file.as_ref(), &block[..100], 20 * BLOCK as u64 + 5).unwrap();
        file.sync().unwrap();
        let mut expected = vec![0; 64 * BLOCK];
        expected[8 * BLOCK..9 * BLOCK].fill(7);
        expected[20 * BLOCK + 5..20 * BLOCK + 105].fill(7);
        let mut all = vec![1; expected.len()];
        read_exact_at(file.as_ref(), &mut all, 0).unwrap();
        assert!(all == expected);
    }

    /// Where the file system says that it takes direct writes, they are direct.
    #[test]
    #[cfg(target_os = "linux")]
    fn whole_blocks_go_past_the_page_cache_where_the_file_system_takes_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = fs::OpenOptions::new().write(true).read(true).create_new(true).open(&path);
        let file = RealFile::of(file.unwrap());
        let takes_them = open_direct(&file.file).is_some();
        let memory = vec![1u8; 3 * BLOCK];
        let skew = memory.as_ptr().align_offset(BLOCK);
        assert_eq!(file.write_blocks_at(&memory[skew..skew + BLOCK], 0).unwrap(), BLOCK);
        let direct = matches!(*file.direct.lock().unwrap(), Direct::Open(_));
        assert_eq!(direct, takes_them);
        let mut kept = [0; 10];
        assert_eq!(file.recent.read().unwrap().read(&mut kept, 100), direct);
        // Not whole: neither direct nor kept.
        assert_eq!(file.write_blocks_at(&memory[skew..skew + 10], 0).unwrap(), 10);
        assert!(!file.recent.read().unwrap().read(&mut kept, 100));
    }
}
