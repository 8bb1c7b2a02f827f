//! What becomes of a change: decided over the directory, and over what the batch has decided before it
//! and nobody has applied yet.

use super::Committer;
use crate::error::{Error, Result};
use crate::record::Definition;
use crate::storage::wal::frame::Kind;
use crate::storage::wal::knowledge::KeyMap;
use crate::store::answers::Condition;
use crate::store::change::{Change, Redefine, What, check_fits};
use crate::store::directory::Directory;

/// What the batch has decided and the directory does not know yet.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    /// Their LSNs; `None`: forgotten in this batch.
    pub(super) episodes: KeyMap<Option<u64>>,
    pub(super) definitions: KeyMap<Definition>,
    pub(super) floors: KeyMap<u64>,
}

impl Overlay {
    pub(super) fn clear(&mut self) {
        self.episodes.clear();
        self.definitions.clear();
        self.floors.clear();
    }

    /// Whether it says anything of what this change is about.
    pub(super) fn tells_of(&self, change: &Change) -> bool {
        self.episodes.contains_key(&change.key)
            || self.definitions.contains_key(&change.space_key)
            || self.floors.contains_key(&change.space_key)
    }
}

/// What is to be done about a change.
#[derive(Debug)]
pub(super) enum Verdict {
    Go { replaced: bool },
    NothingToDo,
}

impl<T> Committer<T> {
    pub(super) fn check(&self, change: &Change, directory: &Directory) -> Result<Verdict> {
        let current = self.current(change, directory)?;
        match change.what {
            What::LegacyImported => return Ok(Verdict::Go { replaced: false }),
            What::ForgetSpace => {
                return if self.space_exists(change, directory) {
                    Ok(Verdict::Go { replaced: false })
                } else {
                    Err(Error::NoSpace { space: change.space().into_owned() })
                };
            }
            What::Forget if current.is_none() && !self.may_hold(change, directory) => {
                let (space, id) = (change.space().into_owned(), change.id.clone());
                return Err(Error::NoEpisode { space, id });
            }
            What::ForgetIfThere if current.is_none() && !self.may_hold(change, directory) => {
                return Ok(Verdict::NothingToDo);
            }
            What::Remember { .. } => {
                let brought = change.definition.as_ref();
                if let Some((fixed, brought)) = self.definition(change, directory).zip(brought) {
                    check_fits(&change.space(), fixed, brought)?;
                }
            }
            What::Define(over) => return self.check_define(change, over, directory),
            What::Forget | What::ForgetIfThere => {}
        }
        match (change.condition, current) {
            (Condition::Absent, Some(lsn)) => Err(Error::Precondition {
                wanted: "no episode of this id".into(),
                found: format!("exists with LSN {lsn}"),
            }),
            (Condition::Lsn(wanted), Some(lsn)) if wanted != lsn => Err(Error::Precondition {
                wanted: format!("LSN {wanted}"),
                found: format!("has LSN {lsn}"),
            }),
            (Condition::Lsn(wanted), None) => Err(Error::Precondition {
                wanted: format!("LSN {wanted}"),
                found: "does not exist".into(),
            }),
            _ => Ok(Verdict::Go { replaced: current.is_some() }),
        }
    }

    fn check_define(
        &self,
        change: &Change,
        over: Redefine,
        directory: &Directory,
    ) -> Result<Verdict> {
        let space = || change.space().into_owned();
        if !self.space_exists(change, directory) {
            return match over {
                Redefine::Nothing => Ok(Verdict::NothingToDo),
                _ => Err(Error::NoSpace { space: space() }),
            };
        }
        let fixed = self.definition(change, directory);
        match fixed {
            Some(_) if over == Redefine::Nothing => Ok(Verdict::NothingToDo),
            Some(fixed) if Some(fixed) == change.definition.as_ref() => Ok(Verdict::NothingToDo),
            Some(fixed) if !fixed.made && over != Redefine::Given => {
                Err(Error::GivenVectors { space: space(), dimension: fixed.dimension })
            }
            _ => Ok(Verdict::Go { replaced: fixed.is_some() }),
        }
    }

    /// The LSN of the episode that the change is about, as of all decided before.
    fn current(&self, change: &Change, directory: &Directory) -> Result<Option<u64>> {
        if let Some(pending) = self.overlay.episodes.get(&change.key) {
            return Ok(*pending);
        }
        if self.overlay.floors.contains_key(&change.space_key) {
            return Ok(None);
        }
        match directory.get(change.key) {
            Some(entry) if entry.undecodable().is_none() && !entry.is_of(&change.id) => {
                Err(Error::KeyCollision { id: change.id.clone() })
            }
            entry => Ok(entry.map(|entry| entry.lsn)),
        }
    }

    /// Whether the log holds frames of the key that nothing shows: a forget must outlive them.
    fn may_hold(&self, change: &Change, directory: &Directory) -> bool {
        let decided = self.overlay.episodes.contains_key(&change.key)
            || self.overlay.floors.contains_key(&change.space_key);
        !decided && directory.may_hold(change.key)
    }

    pub(super) fn definition<'a>(
        &'a self,
        change: &Change,
        directory: &'a Directory,
    ) -> Option<&'a Definition> {
        if let Some(definition) = self.overlay.definitions.get(&change.space_key) {
            return Some(definition).filter(|definition| definition.dimension > 0);
        }
        if self.overlay.floors.contains_key(&change.space_key) {
            return None;
        }
        directory.definition(change.space_key)
    }

    fn space_exists(&self, change: &Change, directory: &Directory) -> bool {
        let key = change.space_key;
        let pending = self.staged.iter().rev().find(|s| s.header.space_key == key);
        match pending.map(|staged| staged.header.kind) {
            Some(Kind::FORGET_SPACE) => false,
            Some(Kind::REMEMBER | Kind::SPACE_DEFINED) => true,
            _ if self.overlay.floors.contains_key(&key) => false,
            // A definition that this version does not understand is known by its key alone.
            _ => directory.space_episodes(key).is_some() || directory.may_hold(key),
        }
    }

    /// Remembers a decision for those that follow in the batch.
    pub(super) fn note(&mut self, change: &Change, lsn: u64) {
        match change.what {
            What::Remember { .. } => {
                self.overlay.episodes.insert(change.key, Some(lsn));
            }
            What::Forget | What::ForgetIfThere => {
                self.overlay.episodes.insert(change.key, None);
            }
            What::ForgetSpace => {
                let space = change.space_key;
                self.overlay.floors.insert(space, lsn);
                self.overlay.definitions.remove(&space);
                // Episodes of other spaces keep their decisions.
                let keys: Vec<u64> = self
                    .staged
                    .iter()
                    .filter(|s| s.header.space_key == space)
                    .map(|s| s.header.key)
                    .collect();
                for key in keys {
                    self.overlay.episodes.remove(&key);
                }
            }
            What::Define(_) => {
                if let Some(definition) = &change.definition {
                    self.overlay.definitions.insert(change.space_key, definition.clone());
                }
            }
            What::LegacyImported => {}
        }
    }
}
