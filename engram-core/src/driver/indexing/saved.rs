//! Saved vectors: `index/<space>.vectors`, so that a start need not make them again.
//!
//! A cache and no more: it is checked as a whole, and when it is damaged, cut, of another model,
//! or not there, the vectors are made again from the log. Words are never saved, so nothing that
//! was forgotten can be read there; vectors of what was forgotten go with the next save.
//!
//! Layout, little-endian: magic (8), CRC-32C of all that follows (4), space key (8), source (1),
//! length of what says whose they are (2), that (a model's name, or since when callers give them),
//! slots (4), for each slot the LSN of its episode (8, 0 for none) and a checksum of what its vector
//! comes from (4), and the vectors with their graph as `Vectors::save` writes them.
//!
//! An LSN alone does not say whose a vector is: in a log that was taken back to an older copy, or
//! whose unsynced end a crash took, the same numbers are given to other episodes.

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use super::{Shared, SpaceCell};
use crate::disk::{read_file, write_file};
use crate::index::space::{Basis, Source, SpaceIndex};
use crate::index::vector::Vectors;
use crate::sim::{Broken, broken};
use crate::storage::wal::bytes::{take, u16_at, u32_at, u64_at};
use crate::storage::wal::env::remove_if_there;
use crate::storage::wal::frame::crc;
use crate::storage::wal::report::WalState;

const DIRECTORY: &str = "index";
const SUFFIX: &str = ".vectors";
const TEMPORARY: &str = "vectors.tmp";
const MAGIC: &[u8; 8] = b"ENGVEC2\n";
const HEAD_BYTES: usize = 12;
/// Of the owner of a slot.
const OWNER_BYTES: usize = 12;

/// Those of a far embedder are saved from the first one on; while more of a space are being made,
/// after so many new ones.
const FAR_VECTORS_MIN: u64 = 256;

/// Vectors that were linked since, for which alone it is saved again.
const LINKED_MIN: u64 = 10_000;

/// Largest file that is believed to be one of ours.
const BYTES_MAX: u64 = 64 << 30;

/// What a saved file holds of an index: changes, removals, and linked vectors so far.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Mark {
    changes: u64,
    removals: u64,
    linked: u64,
}

impl Shared {
    fn saved_path(&self, space_key: u64) -> PathBuf {
        self.env.dir.join(DIRECTORY).join(format!("{space_key:016x}{SUFFIX}"))
    }

    /// The saved vectors of a space, if there are good ones.
    pub(super) fn load_index(&self, space_key: u64) -> Option<SpaceIndex> {
        let path = self.saved_path(space_key);
        let bytes = match read_file(self.env.disk.as_ref(), &path, BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return None,
            Err(e) => {
                tracing::info!(file = %path.display(), cause = %e, "saved vectors cannot be read; they are made again");
                return None;
            }
        };
        let basis = self.memory.look(|directory| self.basis(directory, space_key));
        let empty = SpaceIndex::new(self.indexing.scan_max);
        let index = decode(&bytes, space_key, basis, empty);
        if index.is_none() {
            tracing::info!(file = %path.display(), "saved vectors are damaged or of another kind; they are made again");
        }
        index
    }

    /// Saves what changed; `closing` saves small changes too.
    pub(crate) fn save_indexes(&self, closing: bool) {
        for cell in self.cells() {
            if let Err(e) = self.save_index(&cell, closing) {
                let path = self.saved_path(cell.space_key);
                tracing::warn!(file = %path.display(), cause = %e, "vectors could not be saved; the next start makes them again");
            }
        }
        if let Err(e) = self.remove_left_over() {
            tracing::warn!(cause = %e, "saved vectors of a forgotten space could not be removed");
        }
    }

    /// Removes the files of spaces that hold nothing any more, and what a crash left half written.
    fn remove_left_over(&self) -> std::io::Result<()> {
        let directory = self.env.dir.join(DIRECTORY);
        let files = match self.env.disk.list(&directory) {
            Ok(files) => files,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        for file in files {
            let (name, whole) = match file.name.strip_suffix(".tmp") {
                Some(name) => (name, false),
                None => (file.name.as_str(), true),
            };
            let key = name.strip_suffix(SUFFIX).map(|name| u64::from_str_radix(name, 16));
            if let Some(Ok(key)) = key
                && !(whole && self.memory.look(|directory| directory.has_episodes(key)))
            {
                remove_if_there(self.env.disk.as_ref(), &directory.join(&file.name))?;
            }
        }
        Ok(())
    }

    /// Saves a space's vectors while more of them are being made, so that not all are asked for
    /// again after a crash.
    pub(crate) fn save_progress(&self, cell: &SpaceCell) {
        if cell.look(SpaceIndex::waiting_len) == 0 {
            return;
        }
        if let Err(e) = self.save_index(cell, false) {
            tracing::debug!(cause = %e, "vectors could not be saved yet");
        }
    }

    fn save_index(&self, cell: &SpaceCell, closing: bool) -> std::io::Result<()> {
        // What room there is belongs to the log.
        if self.state() != WalState::Ready {
            return Ok(());
        }
        let disk = self.env.disk.as_ref();
        let path = self.saved_path(cell.space_key);
        let mut saved = super::lock(&cell.saved);
        let (bytes, now) = {
            let index = cell.index.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            let now = Mark {
                changes: index.changes(),
                removals: index.removals(),
                linked: linked(&index),
            };
            let changed = now.changes.saturating_sub(saved.changes);
            // Fixed by configuration: they cost somebody's time, and money.
            let dear = index.basis().source == Source::Made && index.basis().dimension > 0;
            let all = index.len() as u64;
            let enough = match (dear, index.waiting_len()) {
                _ if closing => 1,
                (true, 0) => (all / 1_000).max(1),
                (true, _) => (all / 20).max(FAR_VECTORS_MIN),
                (false, _) => (all / 20).max(1_000),
            };
            let due = changed >= enough
                || now.removals != saved.removals
                || now.linked > saved.linked.saturating_add(LINKED_MIN);
            if !due {
                return Ok(());
            }
            let least = if dear { 1 } else { self.env.scale.saved_vectors_min };
            let worth = index.vectors().is_some_and(|vectors| vectors.len() >= least);
            (worth.then(|| encode(&index, cell.space_key)), now)
        };
        match bytes {
            Some(bytes) => {
                // A cache must not know more than the log: under a weaker durability a crash may
                // take back what the index has.
                if self.make_reasons_durable().is_err() {
                    return Ok(());
                }
                disk.create_dir(path.parent().unwrap_or(Path::new(".")))?;
                write_file(disk, &path, &bytes).inspect_err(|_| {
                    // Half a file is only in the way of a log that needs the room.
                    let temporary = path.with_extension(TEMPORARY);
                    remove_if_there(disk, &temporary).ok();
                })?;
            }
            None => drop(remove_if_there(disk, &path)?),
        }
        *saved = now;
        Ok(())
    }
}

fn linked(index: &SpaceIndex) -> u64 {
    index.vectors().map_or(0, |vectors| (vectors.len() - vectors.unlinked_len()) as u64)
}

fn encode(index: &SpaceIndex, space_key: u64) -> Vec<u8> {
    let source = match index.basis().source {
        Source::None => 0,
        Source::Made => 1,
        Source::Given => 2,
    };
    let whose = index.basis().signature();
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&space_key.to_le_bytes());
    bytes.push(source);
    bytes.extend_from_slice(&u16::try_from(whose.len()).unwrap_or(u16::MAX).to_le_bytes());
    bytes.extend_from_slice(whose.as_bytes());
    let owners = index.owners();
    bytes.extend_from_slice(&u32::try_from(owners.len()).unwrap_or(u32::MAX).to_le_bytes());
    for (lsn, print) in owners {
        bytes.extend_from_slice(&lsn.to_le_bytes());
        bytes.extend_from_slice(&print.to_le_bytes());
    }
    if let Some(vectors) = index.vectors() {
        let into_memory = vectors.save(|piece| {
            bytes.extend_from_slice(piece);
            Ok::<(), Infallible>(())
        });
        match into_memory {
            Ok(()) => {}
            Err(never) => match never {},
        }
    }
    let sum = crc(bytes.get(HEAD_BYTES..).unwrap_or_default());
    if let Some(place) = bytes.get_mut(MAGIC.len()..HEAD_BYTES) {
        place.copy_from_slice(&sum.to_le_bytes());
    }
    bytes
}

fn decode(bytes: &[u8], space_key: u64, basis: Basis, empty: SpaceIndex) -> Option<SpaceIndex> {
    let mut rest = bytes;
    let head = take(&mut rest, HEAD_BYTES)?;
    let right = u32_at(head, MAGIC.len())? == crc(rest) || broken(Broken::SavedIndexUnchecked);
    if !head.starts_with(MAGIC) || !right {
        return None;
    }
    let fixed = take(&mut rest, 11)?;
    let source = match fixed.get(8)? {
        1 => Source::Made,
        2 => Source::Given,
        _ => return None,
    };
    let whose = take(&mut rest, usize::from(u16_at(fixed, 9)?))?;
    let known = source == basis.source && whose == basis.signature().as_bytes();
    if u64_at(fixed, 0)? != space_key || !known {
        return None;
    }
    let slots = usize::try_from(u32_at(take(&mut rest, 4)?, 0)?).ok()?;
    let owners = take(&mut rest, slots.checked_mul(OWNER_BYTES)?)?.chunks_exact(OWNER_BYTES);
    let owners: Vec<(u64, u32)> =
        owners.filter_map(|owner| Some((u64_at(owner, 0)?, u32_at(owner, 8)?))).collect();
    let vectors = Vectors::load(rest).ok()?;
    let fits = basis.dimension == 0 || basis.dimension as usize == vectors.dimension();
    fits.then(|| empty.with_saved(vectors, &owners, basis))
}
