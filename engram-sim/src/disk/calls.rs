//! The disk as the engine calls it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engram_core::disk::{Disk, Entry, File, Lock, Open};

use super::SimDisk;
use super::fault::{BrokenDisk, Op, Trouble};
use super::state::NameChange;

pub(super) fn error(trouble: Trouble) -> io::Error {
    io::Error::from_raw_os_error(if trouble == Trouble::Enospc { 28 } else { 5 })
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let mut core = self.core();
        core.call(if how == Open::New { Op::Create } else { Op::Open }, path, 0)?;
        let inode = match (core.state.names.get(path).copied(), how) {
            (Some(_), Open::New) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(inode), _) => inode,
            (None, Open::New) => core.state.create(path),
            (None, _) => return Err(io::ErrorKind::NotFound.into()),
        };
        let (disk, path) = (self.clone(), path.to_owned());
        Ok(Arc::new(SimFile { disk, inode, path, writable: how != Open::Read }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut core = self.core();
        core.call(Op::Read, dir, 0)?;
        if !core.state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let name = |path: &Path| {
            path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
        };
        let within = |path: &Path| path.parent() == Some(dir);
        let state = &core.state;
        let files = state.names.iter().filter(|(path, _)| within(path)).map(|(path, &inode)| {
            let bytes = state.inodes[inode].cache.len() as u64;
            Entry { name: name(path), bytes, is_dir: false }
        });
        let dirs = state.dirs.iter().filter(|path| within(path));
        let dirs = dirs.map(|path| Entry { name: name(path), bytes: 0, is_dir: true });
        let mut entries: Vec<Entry> = files.chain(dirs).collect();
        entries.sort();
        Ok(entries)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut core = self.core();
        if core.dead {
            return Err(error(Trouble::Eio));
        }
        if !core.state.dirs.contains(dir) {
            core.call(Op::Create, dir, 0)?;
            core.state.dirs.extend(dir.ancestors().map(Path::to_path_buf));
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut core = self.core();
        core.call(Op::Rename, to, 0)?;
        let Some(&inode) = core.state.names.get(from) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if core.broken == Some(BrokenDisk::RenameForgotten) && !core.state.names.contains_key(to) {
            // Seen by this process only.
            core.state.names.remove(from);
            core.state.names.insert(to.to_owned(), inode);
            return Ok(());
        }
        core.state.change(NameChange::Moved(from.to_owned(), to.to_owned(), inode));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut core = self.core();
        if !core.dead && !core.state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        core.call(Op::Remove, path, 0)?;
        core.state.change(NameChange::Gone(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut core = self.core();
        core.call(Op::SyncDir, dir, 0)?;
        if core.broken != Some(BrokenDisk::SyncDirNothing) {
            core.state.sync_dir(dir);
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let mut core = self.core();
        core.call(Op::Open, path, 0)?;
        if !core.state.names.contains_key(path) {
            core.state.create(path);
        }
        if std::mem::replace(&mut core.locked, true) {
            return Ok(None);
        }
        Ok(Some(Box::new(SimLock(self.clone()))))
    }

    fn available_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(self.core().room())
    }
}

#[derive(Debug)]
struct SimLock(SimDisk);

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.0.core().locked = false;
    }
}

struct SimFile {
    disk: SimDisk,
    inode: usize,
    path: PathBuf,
    writable: bool,
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile").field("path", &self.path).finish_non_exhaustive()
    }
}

fn at(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut core = self.disk.core();
        let trouble = core.call(Op::Read, &self.path, offset)?;
        let mut wanted = buffer.len();
        if trouble == Some(Trouble::Short) && wanted > 1 {
            wanted = 1 + core.dice.index(wanted - 1);
        }
        Ok(core.state.inodes[self.inode].cache.read(at(offset), &mut buffer[..wanted]))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        debug_assert!(self.writable, "{} is open for reading", self.path.display());
        let mut core = self.disk.core();
        let what = offset << 32 ^ u64::from(crc_fast::crc32_iscsi(bytes));
        let trouble = core.call(Op::Write, &self.path, what)?;
        let mut wanted = bytes.len();
        if trouble == Some(Trouble::Short) && wanted > 1 {
            wanted = 1 + core.dice.index(wanted - 1);
        }
        let have = core.state.inodes[self.inode].cache.len() as u64;
        let end = have.saturating_add(core.room());
        let wanted = wanted.min(at(end.saturating_sub(offset)));
        if wanted == 0 && !bytes.is_empty() {
            core.faults.enospc += 1;
            return Err(error(Trouble::Enospc));
        }
        core.state.inode(self.inode).write(at(offset), &bytes[..wanted]);
        Ok(wanted)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.core().sync(self.inode, &self.path)
    }

    fn reserve(&self, bytes: u64) -> io::Result<bool> {
        let mut core = self.disk.core();
        core.call(Op::SetLen, &self.path, bytes)?;
        // Some file systems do not do it; a full one may have done a part.
        if core.dice.index(8) == 0 {
            return Ok(false);
        }
        let have = core.state.inodes[self.inode].cache.len() as u64;
        let room = have.saturating_add(core.room());
        core.state.inode(self.inode).set_len(at(bytes.min(room)));
        if bytes > room {
            core.faults.enospc += 1;
            return Err(error(Trouble::Enospc));
        }
        Ok(true)
    }

    fn len(&self) -> io::Result<u64> {
        let mut core = self.disk.core();
        core.call(Op::Read, &self.path, 0)?;
        Ok(core.state.inodes[self.inode].cache.len() as u64)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut core = self.disk.core();
        core.call(Op::SetLen, &self.path, bytes)?;
        core.state.inode(self.inode).set_len(at(bytes));
        Ok(())
    }
}
