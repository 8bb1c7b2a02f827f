//! The disk, as a seam with few methods and a written contract.
//!
//! # What is durable when
//! - Bytes written with [`File::write_at`] are durable once a later [`File::sync`] on the same
//!   file has returned `Ok`. Before that they may be lost, kept, or torn, in any order.
//! - A created, renamed or removed name is durable once a later [`Disk::sync_dir`] on its
//!   directory has returned `Ok`. A rename is atomic: after a crash the new name holds either
//!   its former file or the new one, whole as far as it was synced.
//! - A write may cover bytes that are durable already, with the same bytes: where it is torn, they
//!   are still what they were.
//! - A failed sync promises nothing about any byte written since the last good one, and trying
//!   it again proves nothing: the caller must write the bytes anew, elsewhere.
//! - [`Disk::lock`] is a kernel lock: it ends with the process that holds it.
//!
//! Deliberately absent: append modes, memory maps, directories deeper than the engine's own,
//! and any promise about time.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub mod real;
mod recent;

/// The unit of [`File::write_blocks_at`]. Where the device's blocks are larger, the page cache is used.
pub const BLOCK_BYTES: usize = 4096;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// For reading; it must exist.
    Read,
    /// For reading and writing; it must exist.
    Write,
    /// For reading and writing; it must not exist, and is made with mode 0600.
    New,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name in the directory.
    pub name: String,
    /// Its length in bytes (0 for a directory).
    pub bytes: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// A kernel lock on a file; it ends when this is dropped.
pub trait Lock: Send + Sync + Debug {}

/// A device with a file system.
pub trait Disk: Send + Sync + Debug {
    /// Opens or makes a file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>>;
    /// What a directory holds, sorted by name; names that are not UTF-8 are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;
    /// Makes a directory, mode 0700, and those above it; syncs every parent it made one in.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Gives a file a new name in the same file system, over any file that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the lock on a file, made if needed; `None` when another process holds it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>>;
    /// Bytes free for this process in the file system of `dir`.
    fn available_bytes(&self, dir: &Path) -> io::Result<u64>;
}

/// An open file. Reads and writes name their position, so they may run side by side.
pub trait File: Send + Sync + Debug {
    /// Reads at most `buffer.len()` bytes; 0 means the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes some of `bytes`, and says how many; the file grows where needed.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Like [`File::write_at`], for bytes that are synced right after: where offset, length and the
    /// place in memory are multiples of [`BLOCK_BYTES`], they may go past the page cache.
    fn write_blocks_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.write_at(bytes, offset)
    }
    /// Makes written bytes, and the length needed to read them, durable (`fdatasync`).
    fn sync(&self) -> io::Result<()>;
    /// A hint that a range will soon be synced, so that the device may begin. Promises nothing.
    fn begin_sync(&self, _offset: u64, _bytes: u64) {}
    /// A hint that single ranges will be read, here and there: nothing is to be read behind them.
    /// Promises nothing.
    fn read_singly(&self) {}
    /// A hint that a range will soon be read, in pieces. Promises nothing.
    fn will_read(&self, _offset: u64, _bytes: u64) {}
    /// Gives an empty file a length for which the device has room, all zeros, without writing them; durable
    /// once synced. `false`: it cannot; what it has reads as zeros.
    fn reserve(&self, _bytes: u64) -> io::Result<bool> {
        Ok(false)
    }
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file holds no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts the file to a length, or grows it with zeros.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
}

/// Reads exactly `buffer.len()` bytes, in as many calls as it takes.
///
/// # Errors
/// `UnexpectedEof` where the file ends first; else what the disk said.
pub fn read_exact_at(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let wanted = buffer.len();
    if read_up_to(file, buffer, offset)? == wanted {
        return Ok(());
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// Fills `buffer` as far as the file goes, and says how far.
///
/// # Errors
/// What the disk said.
pub fn read_up_to(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Writes all of `bytes`, in as many calls as it takes.
///
/// # Errors
/// `WriteZero` where the disk takes no more; else what the disk said.
pub fn write_all_at(file: &dyn File, bytes: &[u8], offset: u64) -> io::Result<()> {
    write_in_full(bytes, offset, |bytes, offset| file.write_at(bytes, offset))
}

/// Writes all of `bytes` with [`File::write_blocks_at`], in as many calls as it takes.
///
/// # Errors
/// As [`write_all_at`].
pub fn write_all_blocks_at(file: &dyn File, bytes: &[u8], offset: u64) -> io::Result<()> {
    write_in_full(bytes, offset, |bytes, offset| file.write_blocks_at(bytes, offset))
}

fn write_in_full(
    bytes: &[u8],
    offset: u64,
    write: impl Fn(&[u8], u64) -> io::Result<usize>,
) -> io::Result<()> {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        match write(rest, offset + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Reads a whole file of at most `bytes_max` bytes.
///
/// # Errors
/// `FileTooLarge` over the bound; else what the disk said.
pub fn read_file(disk: &dyn Disk, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path, Open::Read)?;
    let bytes = file.len()?;
    if bytes > bytes_max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut buffer = vec![0; usize::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?];
    let read = read_up_to(file.as_ref(), &mut buffer, 0)?;
    buffer.truncate(read);
    Ok(buffer)
}

/// Writes a file so that after a crash it is there whole or not at all: a temporary file,
/// synced, renamed, its directory synced.
///
/// # Errors
/// What the disk said; the temporary file may remain.
pub fn write_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary: PathBuf = path.with_file_name(name);
    match disk.remove(&temporary) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let file = disk.open(&temporary, Open::New)?;
    write_all_at(file.as_ref(), bytes, 0)?;
    file.sync()?;
    disk.rename(&temporary, path)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new(".")))
}
