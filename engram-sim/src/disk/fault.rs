//! What calls there are, and what goes wrong with them.

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
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Eio => "EIO",
            Self::Enospc => "ENOSPC",
            Self::Short => "short",
        }
    }
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
