//! A disk in memory, faithful to the contract of [`engram_core::disk`], and as bad as it allows.
//!
//! Writes not synced are lost, kept or torn by sector, each by itself; names not synced come
//! and go, each by itself; a file's length and its bytes become durable separately; a failed
//! sync calls pages clean that never reached the disk. Calls fail, are cut short, or find the
//! disk full. Everything is decided by dice, and every call goes into a digest.
//!
//! Deliberately absent: damage at rest ([`crate::damage`]), and time.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engram_core::disk::{Disk, Entry, File, Lock, Open};

use crate::dice::{Dice, mix};

pub mod bytes;
pub mod state;

use bytes::Bytes;
use state::{Chance, Image, NameChange, SECTOR, State};

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// Reads bytes, a length or a list.
    Read,
    /// Opens a file that is there.
    Open,
    /// Makes a file.
    Create,
    /// Writes bytes.
    Write,
    /// Syncs a file.
    Sync,
    /// Sets a length.
    SetLen,
    /// Gives a file a new name.
    Rename,
    /// Removes a name.
    Remove,
    /// Syncs a directory.
    SyncDir,
}

impl Op {
    /// Whether it changes what is on the disk, or what of it is durable.
    #[must_use]
    pub fn changes(self) -> bool {
        !matches!(self, Self::Read | Self::Open)
    }
}

/// What goes wrong in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// The device answers with an error.
    Eio,
    /// The disk is full.
    Enospc,
    /// Only a part is read or written.
    Short,
}

impl Trouble {
    fn name(self) -> &'static str {
        match self {
            Self::Eio => "EIO",
            Self::Enospc => "ENOSPC",
            Self::Short => "short",
        }
    }
}

/// How often calls go wrong, of a thousand each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// Reads that fail.
    pub read_eio: u64,
    /// Writes, and changes of names, that fail.
    pub write_eio: u64,
    /// Syncs that fail.
    pub sync_eio: u64,
    /// Writes and new files that find no room.
    pub enospc: u64,
    /// Reads and writes that do a part only.
    pub short: u64,
}

/// What went wrong so far, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// Reads that failed.
    pub read_eio: u64,
    /// Writes and changes of names that failed.
    pub write_eio: u64,
    /// Syncs that failed.
    pub sync_eio: u64,
    /// Calls that found no room.
    pub enospc: u64,
    /// Calls that did a part only.
    pub short: u64,
}

/// A promise of the disk's contract that it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BrokenDisk {
    /// A sync does nothing.
    SyncNothing,
    /// A sync of a directory does nothing.
    SyncDirNothing,
    /// A sync of an unfinished file does nothing: its name becomes durable before its bytes.
    RenameBeforeData,
    /// A sync leaves out the last sector that was written.
    SyncAllButLast,
    /// A rename loses the new name when it replaces nothing.
    RenameForgotten,
}

impl Faults {
    /// Adds those of another disk.
    pub fn add(&mut self, other: Self) {
        self.read_eio += other.read_eio;
        self.write_eio += other.write_eio;
        self.sync_eio += other.sync_eio;
        self.enospc += other.enospc;
        self.short += other.short;
    }

    /// All of them that a program can notice.
    #[must_use]
    pub fn total(self) -> u64 {
        self.read_eio + self.write_eio + self.sync_eio + self.enospc
    }
}

/// Calls that will go wrong: kinds, how many go before them, and what happens.
type Planned = Vec<(Op, u64, Trouble)>;

#[derive(Debug)]
struct Core {
    state: State,
    dice: Dice,
    rates: Rates,
    faults: Faults,
    broken: Option<BrokenDisk>,
    digest: u64,
    /// Calls that change something, so far.
    changing: u64,
    crash_at: Option<u64>,
    /// The call that goes wrong next: this many calls of this kind from now.
    planned: Planned,
    capacity: Option<u64>,
    locked: bool,
    dead: bool,
    /// A sync of the log's active segment failed in this life of the engine.
    log_sync_failed: bool,
    /// Every call, told to whoever listens.
    trace: Option<fn(&str)>,
    /// The state before each changing call, while someone wants it.
    snapshots: Option<Vec<State>>,
}

/// The disk. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<Core>>);

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").finish_non_exhaustive()
    }
}

impl SimDisk {
    /// A disk in this state, without troubles.
    #[must_use]
    pub fn new(state: State) -> Self {
        Self(Arc::new(Mutex::new(Core {
            state,
            dice: Dice::new(0),
            rates: Rates::default(),
            faults: Faults::default(),
            broken: None,
            digest: 0,
            changing: 0,
            crash_at: None,
            planned: Vec::new(),
            capacity: None,
            locked: false,
            dead: false,
            log_sync_failed: false,
            trace: None,
            snapshots: None,
        })))
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is on it now.
    #[must_use]
    pub fn state(&self) -> State {
        self.core().state.clone()
    }

    /// The files as a program sees them.
    #[must_use]
    pub fn image(&self) -> Image {
        self.core().state.image()
    }

    /// Every later call fails: the machine, or the process, is gone.
    pub fn kill(&self) {
        self.core().dead = true;
    }

    /// Whether it is gone.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.core().dead
    }

    /// The choices from now on.
    pub fn roll(&self, seed: u64) {
        self.core().dice = Dice::new(seed);
    }

    /// How often calls go wrong from now on.
    pub fn set_rates(&self, rates: Rates) {
        self.core().rates = rates;
    }

    /// What went wrong so far.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.core().faults
    }

    /// Breaks a promise of the contract.
    pub fn break_promise(&self, broken: Option<BrokenDisk>) {
        self.core().broken = broken;
    }

    /// The machine dies at the `n`-th changing call from now (0 is the next).
    pub fn crash_at(&self, n: Option<u64>) {
        let mut core = self.core();
        core.crash_at = n.map(|n| core.changing + n);
    }

    /// The `n`-th call of a kind from now goes wrong (0 is the next).
    pub fn plan(&self, op: Op, n: u64, trouble: Trouble) {
        self.core().planned.push((op, n, trouble));
    }

    /// What is planned and did not come; then nothing is.
    #[must_use]
    pub fn take_planned(&self) -> Planned {
        std::mem::take(&mut self.core().planned)
    }

    /// Plans again what [`SimDisk::take_planned`] took.
    pub fn plan_again(&self, planned: Planned) {
        self.core().planned = planned;
    }

    /// No call goes wrong any more.
    pub fn heal(&self) {
        let mut core = self.core();
        core.planned.clear();
        core.rates = Rates::default();
    }

    /// Gives the disk room for so many bytes more than it holds, or all that anyone wants.
    pub fn set_room(&self, bytes: Option<u64>) {
        let mut core = self.core();
        let used = core.state.used();
        core.capacity = bytes.map(|bytes| used + bytes);
    }

    /// The most bytes that it may hold.
    #[must_use]
    pub fn capacity(&self) -> Option<u64> {
        self.core().capacity
    }

    /// Sets [`SimDisk::capacity`].
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.core().capacity = bytes;
    }

    /// Whether the disk has a bound.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.core().capacity.is_some()
    }

    /// Whether a sync of the log's active segment has failed.
    #[must_use]
    pub fn log_sync_failed(&self) -> bool {
        self.core().log_sync_failed
    }

    /// A digest of every call so far: equal runs have equal digests.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.core().digest
    }

    /// Changing calls so far.
    #[must_use]
    pub fn changing_calls(&self) -> u64 {
        self.core().changing
    }

    /// Tells every call from now on.
    pub fn trace(&self, tell: Option<fn(&str)>) {
        self.core().trace = tell;
    }

    /// Puts bytes into a file behind everyone's back, in the cache and on the disk.
    pub fn hurt(&self, path: &Path, offset: usize, bytes: &[u8]) {
        self.core().state.overwrite(path, offset, bytes);
    }

    /// Keeps the state before each changing call from now on.
    pub fn watch(&self) {
        self.core().snapshots = Some(Vec::new());
    }

    /// The states kept, and the one now.
    #[must_use]
    pub fn snapshots(&self) -> Vec<State> {
        let mut core = self.core();
        let mut all = core.snapshots.take().unwrap_or_default();
        all.push(core.state.clone());
        all
    }
}

impl Core {
    fn note(&mut self, op: Op, path: &Path, more: u64) {
        let name = crc_fast::crc32_iscsi(path.as_os_str().as_encoded_bytes());
        self.digest = mix(self.digest ^ (op as u64) << 56 ^ u64::from(name) ^ more.rotate_left(17));
    }

    /// What goes wrong with this call, if anything. `Err` when it fails outright.
    fn call(&mut self, op: Op, path: &Path, more: u64) -> io::Result<Option<Trouble>> {
        if self.dead {
            return Err(error(Trouble::Eio));
        }
        self.note(op, path, more);
        if op.changes() {
            if let Some(snapshots) = &mut self.snapshots {
                snapshots.push(self.state.clone());
            }
            let number = self.changing;
            self.changing += 1;
            if self.crash_at.is_some_and(|at| number >= at) {
                self.dead = true;
                return Err(error(Trouble::Eio));
            }
        }
        let trouble = self.planned_trouble(op).or_else(|| self.chance(op));
        if let Some(tell) = self.trace {
            let (number, path) = (self.changing, path.display());
            tell(&format!(
                "{number:>6} {op:?} {path} {more:#x} {}",
                trouble.map_or("", Trouble::name)
            ));
        }
        let counted = match (trouble, op) {
            (None, _) => return Ok(None),
            (Some(Trouble::Short), _) => {
                self.faults.short += 1;
                return Ok(trouble);
            }
            (Some(Trouble::Enospc), _) => &mut self.faults.enospc,
            (Some(Trouble::Eio), Op::Read | Op::Open) => &mut self.faults.read_eio,
            (Some(Trouble::Eio), Op::Sync) => &mut self.faults.sync_eio,
            (Some(Trouble::Eio), _) => &mut self.faults.write_eio,
        };
        *counted += 1;
        if op == Op::Sync {
            return Ok(trouble);
        }
        Err(error(trouble.unwrap_or(Trouble::Eio)))
    }

    fn planned_trouble(&mut self, op: Op) -> Option<Trouble> {
        let mut hit = None;
        self.planned.retain_mut(|(of, n, trouble)| {
            if *of != op {
                return true;
            }
            if *n == 0 {
                hit = Some(*trouble);
                return false;
            }
            *n -= 1;
            true
        });
        // What cannot happen to this kind of call does not.
        hit.filter(|trouble| match trouble {
            Trouble::Eio => true,
            Trouble::Enospc => matches!(op, Op::Create | Op::Write | Op::Rename),
            Trouble::Short => matches!(op, Op::Read | Op::Write),
        })
    }

    fn chance(&mut self, op: Op) -> Option<Trouble> {
        let Rates { read_eio, write_eio, sync_eio, enospc, short } = self.rates;
        let eio = match op {
            Op::Read | Op::Open => read_eio,
            Op::Sync | Op::SyncDir => sync_eio,
            _ => write_eio,
        };
        if eio > 0 && self.dice.per_mille(eio) {
            return Some(Trouble::Eio);
        }
        let may_be_full = matches!(op, Op::Create | Op::Write);
        if enospc > 0 && may_be_full && self.dice.per_mille(enospc) {
            return Some(Trouble::Enospc);
        }
        let may_be_short = matches!(op, Op::Read | Op::Write);
        (short > 0 && may_be_short && self.dice.per_mille(short)).then_some(Trouble::Short)
    }

    fn sync(&mut self, inode: usize, path: &Path) -> io::Result<()> {
        let trouble = self.call(Op::Sync, path, 0)?;
        if trouble.is_some() {
            self.log_sync_failed |= self.is_active_segment(inode);
            let kept_per_mille = self.dice.below(1001);
            let mut dice = Dice::new(self.dice.next());
            let mut chance = Chance { dice: &mut dice, kept_per_mille, litter: &[] };
            self.state.inode(inode).fail_sync(&mut chance);
            return Err(error(Trouble::Eio));
        }
        let unfinished = path.to_string_lossy().ends_with(".tmp");
        match self.broken {
            Some(BrokenDisk::SyncNothing) => {}
            Some(BrokenDisk::RenameBeforeData) if unfinished => {}
            Some(BrokenDisk::SyncAllButLast) => self.state.inode(inode).sync_all_but_last(),
            _ if self.state.inodes[inode].is_dirty() => self.state.inode(inode).sync(),
            _ => {}
        }
        Ok(())
    }

    #[expect(clippy::case_sensitive_file_extension_comparisons, reason = "the engine's own names")]
    /// Whether a file is a segment that was not rewritten: the writer syncs no other.
    fn is_active_segment(&self, inode: usize) -> bool {
        let name = self.state.names.iter().find(|(_, at)| **at == inode);
        let name = name.and_then(|(path, _)| path.file_name()?.to_str());
        name.is_some_and(|name| name.len() == 24 && name.ends_with(".seg"))
    }

    fn room(&self) -> u64 {
        self.capacity.map_or(1 << 40, |all| all.saturating_sub(self.state.used()))
    }
}

fn error(trouble: Trouble) -> io::Error {
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

/// Bytes of old sectors, as a disk may show them where a file grew.
#[must_use]
pub fn litter(image: &Image) -> Vec<[u8; SECTOR]> {
    let mut sectors = Vec::new();
    for bytes in image.values() {
        for at in (0..Bytes::len(bytes)).step_by(SECTOR) {
            let mut sector = [0; SECTOR];
            bytes.read(at, &mut sector);
            if sector.iter().any(|&byte| byte != 0) {
                sectors.push(sector);
            }
        }
    }
    sectors
}
