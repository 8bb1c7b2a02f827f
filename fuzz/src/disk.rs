//! A disk in memory that fails at nothing and counts what is read: for inputs, not for crashes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engram_core::Timestamp;
use engram_core::clock::{Clock, Rng};
use engram_core::disk::{Disk, Entry, File, Lock, Open};

use crate::havoc::Random;

/// All files at rest.
pub type Image = BTreeMap<PathBuf, Vec<u8>>;

/// The disk.
#[derive(Debug, Default)]
pub struct MemDisk {
    files: Mutex<BTreeMap<PathBuf, Arc<Inode>>>,
    dirs: Mutex<BTreeSet<PathBuf>>,
    read: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Inode(Mutex<Vec<u8>>);

#[derive(Debug)]
struct MemFile {
    inode: Arc<Inode>,
    read: Arc<AtomicU64>,
}

#[derive(Debug)]
struct NoLock;

impl Lock for NoLock {}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemDisk {
    /// A disk that holds these files.
    #[must_use]
    pub fn of(image: &Image) -> Arc<Self> {
        let disk = Self::default();
        for (path, bytes) in image {
            let inode = Arc::new(Inode(Mutex::new(bytes.clone())));
            held(&disk.files).insert(path.clone(), inode);
            held(&disk.dirs).extend(path.ancestors().skip(1).map(Path::to_path_buf));
        }
        Arc::new(disk)
    }

    /// All files as they are now.
    #[must_use]
    pub fn image(&self) -> Image {
        let files = held(&self.files);
        files.iter().map(|(path, inode)| (path.clone(), held(&inode.0).clone())).collect()
    }

    /// Bytes read so far.
    #[must_use]
    pub fn read_bytes(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}

impl Disk for MemDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let mut files = held(&self.files);
        let inode = match (files.get(path), how) {
            (Some(_), Open::New) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(inode), _) => Arc::clone(inode),
            (None, Open::New) => Arc::clone(files.entry(path.to_owned()).or_default()),
            (None, _) => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Arc::new(MemFile { inode, read: Arc::clone(&self.read) }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        if !held(&self.dirs).contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let within = |path: &&PathBuf| path.parent() == Some(dir);
        let name =
            |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let files = held(&self.files);
        let files = files.iter().filter(|(path, _)| within(path)).map(|(path, inode)| {
            let bytes = held(&inode.0).len() as u64;
            Entry { name: name(path), bytes, is_dir: false }
        });
        let dirs = held(&self.dirs);
        let dirs = dirs.iter().filter(within);
        let dirs = dirs.map(|path| Entry { name: name(path), bytes: 0, is_dir: true });
        let mut entries: Vec<Entry> = files.chain(dirs).collect();
        entries.sort();
        Ok(entries)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        held(&self.dirs).extend(dir.ancestors().map(Path::to_path_buf));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = held(&self.files);
        let inode = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        held(&self.files).remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        held(&self.files).entry(path.to_owned()).or_default();
        Ok(Some(Box::new(NoLock)))
    }

    fn available_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(1 << 40)
    }
}

impl File for MemFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = held(&self.inode.0);
        let rest = usize::try_from(offset).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn write_at(&self, new: &[u8], offset: u64) -> io::Result<usize> {
        let mut bytes = held(&self.inode.0);
        let at = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let end = at.checked_add(new.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[at..end].copy_from_slice(new);
        Ok(new.len())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(held(&self.inode.0).len() as u64)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let length = usize::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
        held(&self.inode.0).resize(length, 0);
        Ok(())
    }
}

/// A clock that is a microsecond later at each look.
#[derive(Debug, Default)]
pub struct CountingClock(AtomicU64);

impl Clock for CountingClock {
    fn now(&self) -> Timestamp {
        let micros = self.0.fetch_add(1, Ordering::Relaxed);
        let start = 1_790_000_000_000_000_i64;
        let now = start.saturating_add(i64::try_from(micros).unwrap_or(0));
        Timestamp::from_microsecond(now).unwrap_or_default()
    }

    fn elapsed(&self) -> Duration {
        Duration::from_micros(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// Random bytes that repeat.
#[derive(Debug)]
pub struct SeededRng(pub Mutex<Random>);

impl Rng for SeededRng {
    fn fill(&self, bytes: &mut [u8]) {
        let mut random = held(&self.0);
        for chunk in bytes.chunks_mut(8) {
            let word = random.word().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}
