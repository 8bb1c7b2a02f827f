//! A disk in memory, faithful to the contract of [`engram_core::disk`]: it counts calls, fails
//! the ones that it is told to, crashes at a call, and then hands back what is durable.
//!
//! A file keeps, for each 512-byte sector written since its last sync, what the sector held
//! then; a directory keeps the changes of names since its last sync. A crash takes back all of
//! that, none of it, or, by a seed, some sectors and the later names.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use engram_core::disk::{Disk, Entry, File, Lock, Open};

use super::mix;

const SECTOR: usize = 512;

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    Read,
    Open,
    Create,
    Write,
    Sync,
    SetLen,
    Rename,
    Remove,
    SyncDir,
    CreateDir,
}

impl Op {
    /// Whether it changes what is on the disk, or what of it is durable.
    pub fn changes(self) -> bool {
        !matches!(self, Self::Read | Self::Open)
    }
}

/// One call, as observers see it: before it is done.
#[derive(Debug, Clone)]
pub struct Call {
    pub op: Op,
    pub path: PathBuf,
}

/// What a failing call answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The device failed.
    Eio,
    /// The disk is full.
    Enospc,
}

impl Kind {
    fn error(self) -> io::Error {
        io::Error::from_raw_os_error(match self {
            Self::Eio => 5,
            Self::Enospc => 28,
        })
    }
}

/// Which calls fail (a file goes by the path that it was opened under): those of `op` on a path that contains `path`, from the `first` on (0 is
/// the next), `times` of them.
#[derive(Debug, Clone)]
pub struct Fault {
    pub op: Op,
    pub path: &'static str,
    pub first: u64,
    pub times: u64,
    pub kind: Kind,
}

/// What a crash leaves of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsynced {
    Lost,
    Kept,
    /// Some sectors and the earlier names, by this seed.
    Torn(u64),
}

/// All files of a disk at rest.
pub type Image = BTreeMap<PathBuf, Vec<u8>>;

#[derive(Debug, Default, Clone)]
struct Inode {
    bytes: Vec<u8>,
    synced_len: usize,
    /// Sectors below `synced_len` that changed since the last sync, as they were then.
    undo: BTreeMap<usize, Vec<u8>>,
    /// Shared with whoever has it open.
    open: Arc<()>,
}

impl Inode {
    fn save(&mut self, from: usize, to: usize) {
        for sector in from / SECTOR..to.min(self.synced_len).div_ceil(SECTOR) {
            let (start, end) = (sector * SECTOR, ((sector + 1) * SECTOR).min(self.synced_len));
            let old = self.bytes.get(start..end.min(self.bytes.len())).unwrap_or_default();
            self.undo.entry(sector).or_insert_with(|| {
                let mut old = old.to_vec();
                old.resize(end - start, 0);
                old
            });
        }
    }

    fn write(&mut self, bytes: &[u8], at: usize) {
        let end = at + bytes.len();
        self.save(at, end);
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[at..end].copy_from_slice(bytes);
    }

    fn set_len(&mut self, len: usize) {
        self.save(len, self.bytes.len());
        self.bytes.resize(len, 0);
    }

    fn sync(&mut self) {
        self.undo.clear();
        self.synced_len = self.bytes.len();
    }

    fn after_crash(&self, unsynced: Unsynced, number: usize) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let lost = |sector: usize| match unsynced {
            Unsynced::Lost => true,
            Unsynced::Kept => false,
            Unsynced::Torn(seed) => mix(seed ^ mix((number << 32 | sector) as u64)) & 1 == 0,
        };
        match unsynced {
            Unsynced::Kept => {}
            Unsynced::Lost => bytes.resize(self.synced_len, 0),
            Unsynced::Torn(_) => {
                bytes.resize(bytes.len().max(self.synced_len), 0);
                for sector in self.synced_len.div_ceil(SECTOR)..bytes.len().div_ceil(SECTOR) {
                    if lost(sector) {
                        let end = ((sector + 1) * SECTOR).min(bytes.len());
                        bytes[sector * SECTOR..end].fill(0);
                    }
                }
            }
        }
        for (&sector, old) in self.undo.iter().filter(|(sector, _)| lost(**sector)) {
            bytes[sector * SECTOR..sector * SECTOR + old.len()].copy_from_slice(old);
        }
        bytes
    }
}

#[derive(Debug, Clone)]
enum NameChange {
    Set(PathBuf, usize),
    Gone(PathBuf),
    Moved(PathBuf, PathBuf),
}

impl NameChange {
    fn dir(&self) -> Option<&Path> {
        match self {
            Self::Set(path, _) | Self::Gone(path) | Self::Moved(_, path) => path.parent(),
        }
    }

    fn apply(self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Set(path, inode) => {
                names.insert(path, inode);
            }
            Self::Gone(path) => {
                names.remove(&path);
            }
            Self::Moved(from, to) => {
                if let Some(inode) = names.remove(&from) {
                    names.insert(to, inode);
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    changes: Vec<NameChange>,
    dirs: BTreeSet<PathBuf>,
    locks: BTreeSet<PathBuf>,
    faults: Vec<Fault>,
    calls: BTreeMap<Op, u64>,
    changing_calls: u64,
    crash_at: Option<u64>,
    fail_at: Option<(u64, Kind)>,
    capacity: Option<u64>,
    available: Option<u64>,
    /// Bytes that the device does not give: inode, first, one past the last.
    unreadable: Vec<(usize, u64, u64)>,
}

impl State {
    fn used(&self) -> u64 {
        // A file without a name takes its room until it is closed.
        let named: BTreeSet<usize> = self.names.values().copied().collect();
        let there = |(number, inode): &(usize, &Inode)| {
            named.contains(number) || Arc::strong_count(&inode.open) > 1
        };
        let there = self.inodes.iter().enumerate().filter(there);
        there.map(|(_, inode)| inode.bytes.len() as u64).sum()
    }

    fn change(&mut self, change: NameChange) {
        change.clone().apply(&mut self.names);
        self.changes.push(change);
    }
}

type Hook = dyn Fn(&Call) + Send + Sync;

#[derive(Default)]
struct Core {
    state: Mutex<State>,
    crashed: AtomicBool,
    hook: Mutex<Option<Arc<Hook>>>,
    /// Files that are open now, and the most that ever were.
    open: AtomicUsize,
    most_open: AtomicUsize,
}

/// The disk.
#[derive(Default)]
pub struct MemDisk {
    core: Arc<Core>,
}

impl fmt::Debug for MemDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemDisk").finish_non_exhaustive()
    }
}

fn dead() -> io::Error {
    Kind::Eio.error()
}

impl MemDisk {
    pub fn new() -> Arc<Self> {
        Self::of(&Image::new())
    }

    /// A disk that holds these files, all durable.
    pub fn of(image: &Image) -> Arc<Self> {
        let disk = Self::default();
        {
            let mut state = disk.state();
            for (path, bytes) in image {
                let inode =
                    Inode { bytes: bytes.clone(), synced_len: bytes.len(), ..Inode::default() };
                state.inodes.push(inode);
                let number = state.inodes.len() - 1;
                state.names.insert(path.clone(), number);
                let dirs = path.ancestors().skip(1).map(Path::to_path_buf);
                state.dirs.extend(dirs);
            }
            state.durable_names = state.names.clone();
        }
        Arc::new(disk)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.core.state()
    }

    /// All files as they are now.
    pub fn image(&self) -> Image {
        let state = self.state();
        let bytes = |&inode: &usize| state.inodes[inode].bytes.clone();
        state.names.iter().map(|(path, inode)| (path.clone(), bytes(inode))).collect()
    }

    /// Ends this disk (every later call fails), and gives what is on it after a crash.
    pub fn crash(&self, unsynced: Unsynced) -> Arc<Self> {
        self.core.crashed.store(true, Ordering::SeqCst);
        let state = self.state();
        let mut names = state.durable_names.clone();
        let kept = match unsynced {
            Unsynced::Lost => 0,
            Unsynced::Kept => state.changes.len(),
            Unsynced::Torn(seed) => usize::try_from(mix(seed)).unwrap() % (state.changes.len() + 1),
        };
        for change in state.changes.iter().take(kept).cloned() {
            change.apply(&mut names);
        }
        let image = names
            .into_iter()
            .map(|(path, inode)| (path, state.inodes[inode].after_crash(unsynced, inode)))
            .collect();
        let disk = Self::of(&image);
        disk.state().dirs.extend(state.dirs.iter().cloned());
        disk
    }

    /// Crashes at the `n`-th changing call from now (0 is the next).
    pub fn crash_at(&self, n: u64) {
        let mut state = self.state();
        state.crash_at = Some(state.changing_calls + n);
    }

    /// Fails the `n`-th changing call from now (0 is the next), whatever it is, once.
    pub fn fail_at(&self, n: u64, kind: Kind) {
        let mut state = self.state();
        state.fail_at = Some((state.changing_calls + n, kind));
    }

    /// Whether the call chosen by [`MemDisk::fail_at`] has come.
    pub fn has_failed(&self) -> bool {
        self.state().fail_at.is_none()
    }

    /// Whether it has crashed.
    pub fn is_crashed(&self) -> bool {
        self.core.crashed.load(Ordering::SeqCst)
    }

    /// Makes calls fail.
    pub fn fail(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Makes every call of a kind fail from now on.
    pub fn fail_for_ever(&self, op: Op, path: &'static str, kind: Kind) {
        self.fail(Fault { op, path, first: 0, times: u64::MAX, kind });
    }

    /// No call fails any more.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// Changing calls so far.
    pub fn changing_calls(&self) -> u64 {
        self.state().changing_calls
    }

    /// Calls of one kind so far.
    pub fn calls(&self, op: Op) -> u64 {
        self.state().calls.get(&op).copied().unwrap_or(0)
    }

    /// The most files that were open at a time.
    pub fn most_open(&self) -> usize {
        self.core.most_open.load(Ordering::Relaxed)
    }

    /// Flips a bit under everybody's feet.
    pub fn flip(&self, path: &Path, byte: usize, bit: u32) {
        let mut state = self.state();
        let inode = state.names[path];
        state.inodes[inode].bytes[byte] ^= 1 << bit;
    }

    /// Changes a file under everybody's feet.
    pub fn edit(&self, path: &Path, edit: impl FnOnce(&mut [u8])) {
        let mut state = self.state();
        let inode = state.names[path];
        edit(&mut state.inodes[inode].bytes);
    }

    /// Reads of these bytes of a file fail from now on.
    pub fn lose_sectors(&self, path: &Path, first: u64, end: u64) {
        let mut state = self.state();
        let inode = state.names[path];
        state.unreadable.push((inode, first, end));
    }

    /// Gives the disk a size: what all its files may hold.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// What the files hold.
    pub fn used(&self) -> u64 {
        self.state().used()
    }

    /// Says that so much is free, whatever is: with 0, nothing is made ahead.
    pub fn say_available(&self, bytes: u64) {
        self.state().available = Some(bytes);
    }

    /// Lets `hook` see every call before it is done; it may wait.
    pub fn observe(&self, hook: impl Fn(&Call) + Send + Sync + 'static) {
        *self.core.hook.lock().unwrap() = Some(Arc::new(hook));
    }
}

impl Core {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn call(&self, op: Op, path: &Path) -> io::Result<()> {
        let hook = self.hook.lock().unwrap().clone();
        if let Some(hook) = hook {
            hook(&Call { op, path: path.to_owned() });
        }
        if self.crashed.load(Ordering::SeqCst) {
            return Err(dead());
        }
        let mut state = self.state();
        *state.calls.entry(op).or_default() += 1;
        if op.changes() {
            let number = state.changing_calls;
            state.changing_calls += 1;
            if state.crash_at.is_some_and(|at| number >= at) {
                self.crashed.store(true, Ordering::SeqCst);
                return Err(dead());
            }
            if let Some((_, kind)) = state.fail_at.take_if(|(at, _)| *at == number) {
                return Err(kind.error());
            }
        }
        let text = path.to_string_lossy();
        for fault in state.faults.iter_mut().filter(|f| f.op == op && text.contains(f.path)) {
            if fault.first > 0 {
                fault.first -= 1;
            } else if fault.times > 0 {
                fault.times = if fault.times == u64::MAX { u64::MAX } else { fault.times - 1 };
                return Err(fault.kind.error());
            }
        }
        Ok(())
    }
}

impl Disk for MemDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        self.core.call(if how == Open::New { Op::Create } else { Op::Open }, path)?;
        let mut state = self.state();
        let inode = match (state.names.get(path).copied(), how) {
            (Some(_), Open::New) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(inode), _) => inode,
            (None, Open::New) => {
                state.inodes.push(Inode::default());
                let inode = state.inodes.len() - 1;
                state.change(NameChange::Set(path.to_owned(), inode));
                inode
            }
            (None, _) => return Err(io::ErrorKind::NotFound.into()),
        };
        let open = Arc::clone(&state.inodes[inode].open);
        drop(state);
        let (core, path) = (Arc::clone(&self.core), path.to_owned());
        let now = 1 + core.open.fetch_add(1, Ordering::Relaxed);
        core.most_open.fetch_max(now, Ordering::Relaxed);
        Ok(Arc::new(MemFile { core, inode, path, writable: how != Open::Read, _open: open }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.core.call(Op::Read, dir)?;
        let state = self.state();
        if !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let within = |path: &Path| path.parent() == Some(dir);
        let files = state.names.iter().filter(|(path, _)| within(path)).map(|(path, &inode)| {
            let bytes = state.inodes[inode].bytes.len() as u64;
            Entry { name: name(path), bytes, is_dir: false }
        });
        let dirs = state.dirs.iter().filter(|path| within(path));
        let dirs = dirs.map(|path| Entry { name: name(path), bytes: 0, is_dir: true });
        let mut entries: Vec<Entry> = files.chain(dirs).collect();
        entries.sort();
        Ok(entries)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        if self.state().dirs.contains(dir) {
            return Ok(());
        }
        self.core.call(Op::CreateDir, dir)?;
        self.state().dirs.extend(dir.ancestors().map(Path::to_path_buf));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.core.call(Op::Rename, to)?;
        let mut state = self.state();
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change(NameChange::Moved(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if !self.state().names.contains_key(path) && !self.is_crashed() {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.core.call(Op::Remove, path)?;
        self.state().change(NameChange::Gone(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.core.call(Op::SyncDir, dir)?;
        let mut state = self.state();
        let (synced, waiting) = std::mem::take(&mut state.changes)
            .into_iter()
            .partition::<Vec<_>, _>(|change| change.dir() == Some(dir));
        state.changes = waiting;
        for change in synced {
            change.apply(&mut state.durable_names);
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        self.core.call(Op::Open, path)?;
        let mut state = self.state();
        if !state.names.contains_key(path) {
            state.inodes.push(Inode::default());
            let inode = state.inodes.len() - 1;
            state.change(NameChange::Set(path.to_owned(), inode));
        }
        if !state.locks.insert(path.to_owned()) {
            return Ok(None);
        }
        drop(state);
        Ok(Some(Box::new(MemLock { core: Arc::clone(&self.core), path: path.to_owned() })))
    }

    fn available_bytes(&self, _: &Path) -> io::Result<u64> {
        let state = self.state();
        let free = state.capacity.map_or(1 << 40, |all| all.saturating_sub(state.used()));
        Ok(state.available.unwrap_or(free))
    }
}

struct MemLock {
    core: Arc<Core>,
    path: PathBuf,
}

impl fmt::Debug for MemLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemLock").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Lock for MemLock {}

impl Drop for MemLock {
    fn drop(&mut self) {
        self.core.state().locks.remove(&self.path);
    }
}

struct MemFile {
    core: Arc<Core>,
    inode: usize,
    path: PathBuf,
    writable: bool,
    _open: Arc<()>,
}

impl fmt::Debug for MemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Drop for MemFile {
    fn drop(&mut self) {
        self.core.open.fetch_sub(1, Ordering::Relaxed);
    }
}

fn at(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

impl File for MemFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.core.call(Op::Read, &self.path)?;
        let state = self.core.state();
        let rest = state.inodes[self.inode].bytes.get(at(offset)..).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        let hit = |&(inode, first, end): &(usize, u64, u64)| {
            inode == self.inode && offset < end && first < offset + read as u64
        };
        if state.unreadable.iter().any(hit) {
            return Err(Kind::Eio.error());
        }
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        assert!(self.writable, "{} is open for reading", self.path.display());
        self.core.call(Op::Write, &self.path)?;
        let mut state = self.core.state();
        let used = state.used();
        let room = state.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(used));
        let inode = &mut state.inodes[self.inode];
        let have = inode.bytes.len() as u64;
        let allowed = have.saturating_add(room).saturating_sub(offset).min(bytes.len() as u64);
        if allowed == 0 && !bytes.is_empty() {
            return Err(Kind::Enospc.error());
        }
        inode.write(&bytes[..at(allowed)], at(offset));
        Ok(at(allowed))
    }

    fn sync(&self) -> io::Result<()> {
        self.core.call(Op::Sync, &self.path)?;
        self.core.state().inodes[self.inode].sync();
        Ok(())
    }

    fn reserve(&self, bytes: u64) -> io::Result<bool> {
        self.core.call(Op::SetLen, &self.path)?;
        let mut state = self.core.state();
        let more = bytes.saturating_sub(state.inodes[self.inode].bytes.len() as u64);
        if state.capacity.is_some_and(|capacity| more > capacity.saturating_sub(state.used())) {
            return Err(Kind::Enospc.error());
        }
        state.inodes[self.inode].set_len(at(bytes));
        Ok(true)
    }

    fn len(&self) -> io::Result<u64> {
        self.core.call(Op::Read, &self.path)?;
        Ok(self.core.state().inodes[self.inode].bytes.len() as u64)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.core.call(Op::SetLen, &self.path)?;
        self.core.state().inodes[self.inode].set_len(at(bytes));
        Ok(())
    }
}
