//! What is on the disk, what is only in its cache, and what a crash may leave of the two.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bytes::Bytes;
use crate::dice::{Dice, mix};

/// What a disk writes whole or not at all.
pub const SECTOR: usize = 512;

/// Files by path.
pub type Image = BTreeMap<PathBuf, Bytes>;

/// A change of a file that no sync has made durable.
#[derive(Debug, Clone)]
enum Dirty {
    /// Whole sectors from an offset on.
    Write { offset: usize, bytes: Arc<[u8]> },
    /// A new length.
    Len(usize),
}

/// One file, whatever its names.
#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    pub(super) cache: Bytes,
    durable: Bytes,
    dirty: Vec<Dirty>,
}

/// A change of names that no sync of the directory has made durable.
#[derive(Debug, Clone)]
pub(super) enum NameChange {
    Set(PathBuf, usize),
    Gone(PathBuf),
    Moved(PathBuf, PathBuf, usize),
}

impl NameChange {
    fn dir(&self) -> Option<&Path> {
        match self {
            Self::Set(path, _) | Self::Gone(path) | Self::Moved(_, path, _) => path.parent(),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Set(path, inode) => drop(names.insert(path.clone(), *inode)),
            Self::Gone(path) => drop(names.remove(path)),
            Self::Moved(from, to, inode) => {
                if names.get(from) == Some(inode) {
                    names.remove(from);
                }
                names.insert(to.clone(), *inode);
            }
        }
    }
}

/// All of a disk.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub(super) inodes: Vec<Arc<Inode>>,
    pub(super) names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    changes: Vec<NameChange>,
    pub(super) dirs: BTreeSet<PathBuf>,
}

/// What becomes of one unsynced change in a crash.
pub trait Fate {
    /// Whether this change reaches the disk.
    fn kept(&mut self) -> bool;
    /// What a sector holds that a file grew by and that was never written: `None` for zeros.
    fn stale(&mut self) -> Option<[u8; SECTOR]> {
        None
    }
    /// Whether [`Fate::stale`] may give any.
    fn litters(&self) -> bool {
        false
    }
}

/// Each change has the same chance.
#[derive(Debug)]
pub struct Chance<'a> {
    /// Where chance comes from.
    pub dice: &'a mut Dice,
    /// Of a thousand, how many changes survive.
    pub kept_per_mille: u64,
    /// Old sectors that may turn up where nothing was written.
    pub litter: &'a [[u8; SECTOR]],
}

impl Fate for Chance<'_> {
    fn kept(&mut self) -> bool {
        self.dice.per_mille(self.kept_per_mille)
    }

    fn stale(&mut self) -> Option<[u8; SECTOR]> {
        self.litters().then(|| self.litter[self.dice.index(self.litter.len())])
    }

    fn litters(&self) -> bool {
        !self.litter.is_empty()
    }
}

/// The changes are numbered, and a bit says of each whether it is kept.
#[derive(Debug)]
pub struct Chosen<'a> {
    bits: &'a [bool],
    next: usize,
}

impl<'a> Chosen<'a> {
    /// Keeps the changes whose bit is set.
    #[must_use]
    pub fn new(bits: &'a [bool]) -> Self {
        Self { bits, next: 0 }
    }
}

impl Fate for Chosen<'_> {
    fn kept(&mut self) -> bool {
        let kept = self.bits.get(self.next).copied().unwrap_or(false);
        self.next += 1;
        kept
    }
}

/// Counts the changes.
#[derive(Debug, Default)]
struct Count(usize);

impl Fate for Count {
    fn kept(&mut self) -> bool {
        self.0 += 1;
        true
    }
}

impl Inode {
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let grows = offset + bytes.len() > self.cache.len();
        self.cache.write(offset, bytes);
        if grows {
            self.dirty.push(Dirty::Len(self.cache.len()));
        }
        let start = offset / SECTOR * SECTOR;
        let end = (offset + bytes.len()).next_multiple_of(SECTOR);
        let mut whole = vec![0; end - start];
        self.cache.read(start, &mut whole);
        self.dirty.push(Dirty::Write { offset: start, bytes: whole.into() });
    }

    pub(super) fn set_len(&mut self, len: usize) {
        self.cache.set_len(len);
        self.dirty.push(Dirty::Len(len));
    }

    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    pub(super) fn sync(&mut self) {
        let mut durable = std::mem::take(&mut self.durable);
        for change in std::mem::take(&mut self.dirty) {
            match change {
                Dirty::Write { offset, bytes } => put(&mut durable, offset, &bytes),
                Dirty::Len(len) => durable.set_len(len),
            }
        }
        self.durable = durable;
    }

    /// A sync that leaves out the last sector which changes something, and forgets it.
    pub(super) fn sync_all_but_last(&mut self) {
        let last = self.dirty.iter().rposition(|change| matches!(change, Dirty::Write { .. }));
        if let Some(Dirty::Write { offset, bytes }) = last.map(|at| self.dirty.remove(at)) {
            let mut sectors = bytes.chunks(SECTOR).enumerate().rev();
            let changes = sectors
                .find(|(number, sector)| !self.durable.reads(offset + number * SECTOR, sector));
            let keep = changes.map_or(bytes.len(), |(number, _)| number * SECTOR);
            self.dirty.push(Dirty::Write { offset, bytes: bytes[..keep].into() });
        }
        self.sync();
    }

    /// A failed sync: each change reached the disk or not, and the cache calls all of them clean.
    pub(super) fn fail_sync(&mut self, fate: &mut dyn Fate) {
        self.durable = self.after_crash(fate);
        self.dirty.clear();
    }

    /// Puts what stands in the cache over what is durable, and the other way round: a change
    /// that is in both places at once.
    pub(super) fn overwrite(&mut self, offset: usize, bytes: &[u8]) {
        self.cache.write(offset, bytes);
        self.durable.write(offset, bytes);
    }

    fn after_crash(&self, fate: &mut dyn Fate) -> Bytes {
        let mut bytes = self.durable.clone();
        let (mut len, written) = (bytes.len(), bytes.len());
        let mut lost: Vec<usize> = Vec::new();
        for change in &self.dirty {
            match change {
                Dirty::Len(new) => {
                    if fate.kept() {
                        if *new < bytes.len() {
                            bytes.set_len(*new);
                        }
                        len = *new;
                    }
                }
                Dirty::Write { offset, bytes: new } => {
                    for (number, sector) in new.chunks(SECTOR).enumerate() {
                        let at = offset + number * SECTOR;
                        // Where nothing changes, there is nothing to lose.
                        let inside = at + SECTOR <= written || !fate.litters();
                        let same = inside && bytes.reads(at, sector);
                        if same || fate.kept() {
                            bytes.write(at, sector);
                        } else if at >= written {
                            lost.push(at);
                        }
                    }
                }
            }
        }
        for at in lost {
            if let Some(stale) = fate.stale()
                && bytes.reads(at, &[0; SECTOR])
            {
                bytes.write(at, &stale);
            }
        }
        bytes.set_len(len);
        bytes
    }
}

/// Writes, but leaves the length as it is where only the sector's rest lies beyond it.
fn put(bytes: &mut Bytes, offset: usize, sectors: &[u8]) {
    let len = bytes.len();
    bytes.write(offset, sectors);
    bytes.set_len(len);
}

impl State {
    /// A disk that holds these files, all durable.
    #[must_use]
    pub fn of(image: Image) -> Self {
        let mut state = Self::default();
        for (path, bytes) in image {
            let (cache, durable) = (bytes.clone(), bytes);
            state.inodes.push(Arc::new(Inode { cache, durable, dirty: Vec::new() }));
            state.dirs.extend(path.ancestors().skip(1).map(Path::to_path_buf));
            state.names.insert(path, state.inodes.len() - 1);
        }
        state.durable_names.clone_from(&state.names);
        state
    }

    /// The files as a program sees them.
    #[must_use]
    pub fn image(&self) -> Image {
        let bytes = |&inode: &usize| self.inodes[inode].cache.clone();
        self.names.iter().map(|(path, inode)| (path.clone(), bytes(inode))).collect()
    }

    /// Makes a directory.
    pub fn add_dir(&mut self, dir: &Path) {
        self.dirs.extend(dir.ancestors().map(Path::to_path_buf));
    }

    /// All that is in the cache becomes durable.
    pub fn settle(&mut self) {
        let dirs = std::mem::take(&mut self.dirs);
        *self = Self::of(self.image());
        self.dirs.extend(dirs);
    }

    /// Puts bytes into a file, in the cache and on the disk.
    pub fn overwrite(&mut self, path: &Path, offset: usize, bytes: &[u8]) {
        if let Some(&inode) = self.names.get(path) {
            self.inode(inode).overwrite(offset, bytes);
        }
    }

    /// Puts a file, whole and durable, in the place of the one of its name.
    pub fn replace(&mut self, path: &Path, bytes: Bytes) {
        let mut image = self.image();
        image.insert(path.to_owned(), bytes);
        let dirs = std::mem::take(&mut self.dirs);
        *self = Self::of(image);
        self.dirs.extend(dirs);
    }

    /// Bytes of all files.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.names.values().map(|&inode| self.inodes[inode].cache.len() as u64).sum()
    }

    pub(super) fn inode(&mut self, number: usize) -> &mut Inode {
        Arc::make_mut(&mut self.inodes[number])
    }

    pub(super) fn create(&mut self, path: &Path) -> usize {
        self.inodes.push(Arc::default());
        let inode = self.inodes.len() - 1;
        self.change(NameChange::Set(path.to_owned(), inode));
        inode
    }

    pub(super) fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) {
        let of_dir = |change: &NameChange| change.dir() == Some(dir);
        let (synced, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.changes).into_iter().partition(of_dir);
        self.changes = waiting;
        for change in synced {
            change.apply(&mut self.durable_names);
        }
    }

    /// A digest of the files as a program sees them, and of what a later crash may take.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut digest = mix(self.changes.len() as u64);
        for (path, &inode) in &self.names {
            let name = crc_fast::crc32_iscsi(path.as_os_str().as_encoded_bytes());
            let inode = &self.inodes[inode];
            digest = mix(digest ^ u64::from(name) << 32 ^ inode.dirty.len() as u64);
            digest = mix(digest ^ inode.cache.digest());
        }
        digest
    }

    /// How many unsynced changes a crash would decide about.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        let mut count = Count::default();
        drop(self.after_crash(&mut count));
        count.0
    }

    /// What a power loss leaves.
    #[must_use]
    pub fn after_crash(&self, fate: &mut dyn Fate) -> Self {
        let mut names = self.durable_names.clone();
        for change in &self.changes {
            if fate.kept() {
                change.apply(&mut names);
            }
        }
        let mut image = Image::new();
        for (path, inode) in names {
            image.insert(path, self.inodes[inode].after_crash(fate));
        }
        let mut after = Self::of(image);
        after.dirs.extend(self.dirs.iter().cloned());
        after
    }
}
