//! A disk in memory, faithful to the contract of [`engram_core::disk`], and as bad as it allows.
//!
//! Writes not synced are lost, kept or torn by sector, each by itself; names not synced come
//! and go, each by itself; a file's length and its bytes become durable separately; a failed
//! sync calls pages clean that never reached the disk. Calls fail, are cut short, or find the
//! disk full. Everything is decided by dice, and every call goes into a digest.
//!
//! Deliberately absent: damage at rest (`life.rs` chooses it), and time.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::dice::{Dice, mix};

pub mod bytes;
mod calls;
mod fault;
pub mod state;

use bytes::Bytes;
use calls::error;
pub use fault::{BrokenDisk, Faults, Op, Trouble};
use state::{Chance, Image, SECTOR, State};

/// Calls that will go wrong: kinds, how many go before them, and what happens.
type Planned = Vec<(Op, u64, Trouble)>;

#[derive(Debug)]
struct Core {
    state: State,
    dice: Dice,
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
        self.core().planned.clear();
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
        let trouble = self.planned_trouble(op);
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
