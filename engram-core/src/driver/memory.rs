//! The directory behind its lock.

use std::sync::PoisonError;

use crate::storage::wal::compact::MemoryCell;
use crate::storage::wal::knowledge::Knowledge;
use crate::store::commit::DirectoryCell;
use crate::store::directory::Directory;
use crate::sync::RwLock;

/// The directory behind its lock.
#[derive(Debug, Default)]
pub(crate) struct Memory(RwLock<Directory>);

impl Memory {
    pub(crate) fn new(directory: Directory) -> Self {
        Self(RwLock::new(directory))
    }

    pub(crate) fn into_inner(self) -> Directory {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the directory.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&Directory) -> R) -> R {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl MemoryCell for Memory {
    fn read(&self, look: &mut dyn FnMut(&dyn Knowledge)) {
        look(&*self.0.read().unwrap_or_else(PoisonError::into_inner));
    }

    fn write(&self, change: &mut dyn FnMut(&mut dyn Knowledge)) {
        change(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl DirectoryCell for Memory {
    fn with(&self, look: &mut dyn FnMut(&Directory)) {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner));
    }

    fn with_mut(&self, change: &mut dyn FnMut(&mut Directory)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}
