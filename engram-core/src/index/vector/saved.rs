//! The index as bytes and back.
//!
//! Little-endian, in this order: [`MAGIC`], version `u32`, length of everything `u64`, dimension
//! `u32`, slots `u32` (one more than the highest), vectors `u32`, nodes `u32`, twins `u32`,
//! entry `u32`; for
//! each vector by rising slot: slot `u32`, scale `f32`, its codes; for each node by rising slot:
//! slot `u32`, the links of its levels, the lowest first; for each twin by
//! rising slot: slot `u32`, its node `u32`; at last the CRC-32C of all before it.
//! The checksum is looked at first and nothing is believed without it; numbers are checked all the same,
//! and memory is taken in proportion to the bytes that are there. Any change to how a level comes
//! from a slot, or to the number of links, is a new version.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use super::Vectors;
use super::codes::DIMENSION_MAX;
use super::graph::{LINKS, LINKS_LOWEST, NONE, level};
use crate::sim::{Broken, broken};

const MAGIC: [u8; 8] = *b"ENGRMVEC";
const VERSION: u32 = 1;

/// Magic, version, length and six numbers.
const HEADER_BYTES: u64 = 44;
const TWIN_BYTES: u64 = 8;
const CRC_BYTES: u64 = 4;

/// Of the slots in a saved index at least one in so many has a vector. What is emptier is not read:
/// rows are made for empty slots as well, and the few vectors are quickly indexed again.
const SLOTS_PER_VECTOR_MAX: usize = 16;

/// Slots that may be empty in any case.
const SLOTS_SPARE: usize = 4096;

/// Why saved bytes are not an index. Build it again from the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// They do not begin as a saved index does.
    #[error("these bytes are not a saved vector index; build it again from the log")]
    Foreign,
    /// Another version wrote them.
    #[error(
        "the saved vector index is of version {0}, this program reads {VERSION}; build it again from the log"
    )]
    Version(u32),
    /// Bytes are missing, added or changed.
    #[error("the saved vector index is cut or changed; build it again from the log")]
    Checksum,
    /// The checksum is right, and the contents contradict each other or are nearly all empty slots.
    #[error("the saved vector index cannot be used; build it again from the log")]
    Contents,
}

/// Puts bytes into a sink and sums them up.
struct Out<S> {
    sink: S,
    digest: crc_fast::Digest,
}

impl<E, S: FnMut(&[u8]) -> Result<(), E>> Out<S> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), E> {
        self.digest.update(bytes);
        (self.sink)(bytes)
    }
}

/// Reads from the front.
struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Damaged> {
        let (front, rest) = self.0.split_at_checked(bytes).ok_or(Damaged::Contents)?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        self.take(N)?.try_into().map_err(|_| Damaged::Contents)
    }

    fn u32(&mut self) -> Result<u32, Damaged> {
        Ok(u32::from_le_bytes(self.array()?))
    }
}

fn new_digest() -> crc_fast::Digest {
    crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi)
}

/// A length as the 32 bits that it fits into: there are no more slots than that.
fn narrow(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn wide(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn links(slot: u32) -> usize {
    level(slot).saturating_mul(LINKS).saturating_add(LINKS_LOWEST)
}

impl Vectors {
    /// Gives the index to `sink`, piece by piece, and stops at its first error.
    pub fn save<E>(&self, sink: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let (codes, graph) = (&self.codes, &self.graph);
        let vector_bytes = wide(codes.dimension).saturating_add(8);
        let nodes =
            graph.linked.iter().map(|slot| wide(links(slot)).saturating_mul(4).saturating_add(4));
        let length = HEADER_BYTES
            .saturating_add(wide(self.len()).saturating_mul(vector_bytes))
            .saturating_add(nodes.sum())
            .saturating_add(wide(graph.twin_of.len()).saturating_mul(TWIN_BYTES))
            .saturating_add(CRC_BYTES);
        let slots = codes.present.iter().last().map_or(0, |last| last.saturating_add(1));
        let mut out = Out { sink, digest: new_digest() };
        out.put(&MAGIC)?;
        out.put(&VERSION.to_le_bytes())?;
        out.put(&length.to_le_bytes())?;
        let (vectors, nodes) = (narrow(self.len()), narrow(graph.linked.len()));
        let entry = graph.entry.unwrap_or(NONE);
        let twins = narrow(graph.twin_of.len());
        for number in [narrow(codes.dimension), slots, vectors, nodes, twins, entry] {
            out.put(&number.to_le_bytes())?;
        }
        let mut row = Vec::new();
        for slot in codes.present.iter() {
            let (vector, scale) = codes.saved(slot);
            row.clear();
            row.extend(slot.to_le_bytes());
            row.extend(scale.to_le_bytes());
            let vector = vector.iter().flat_map(|line| line.0).take(codes.dimension);
            row.extend(vector.map(i8::cast_unsigned));
            out.put(&row)?;
        }
        for slot in graph.linked.iter() {
            row.clear();
            row.extend(slot.to_le_bytes());
            for level in 0..=level(slot) {
                row.extend(graph.row(slot, level).iter().flat_map(|link| link.to_le_bytes()));
            }
            out.put(&row)?;
        }
        for (twin, node) in &graph.twin_of {
            out.put(&twin.to_le_bytes())?;
            out.put(&node.to_le_bytes())?;
        }
        let crc = u32::try_from(out.digest.finalize()).unwrap_or_default();
        (out.sink)(&crc.to_le_bytes())
    }

    /// The index that was saved. It answers as the saved one did.
    ///
    /// # Errors
    /// [`Damaged`], whatever the bytes are.
    pub fn load(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut input = In(bytes);
        if input.array().ok() != Some(MAGIC) {
            return Err(Damaged::Foreign);
        }
        let version = input.u32().map_err(|_| Damaged::Checksum)?;
        let length = input.array().map_err(|_| Damaged::Checksum)?;
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or(Damaged::Checksum)?;
        let mut digest = new_digest();
        digest.update(body);
        let whole = u64::from_le_bytes(length) == wide(bytes.len());
        let right = digest.finalize() == u64::from(u32::from_le_bytes(*crc));
        if !whole || !(right || broken(Broken::SavedIndexUnchecked)) {
            return Err(Damaged::Checksum);
        }
        if version != VERSION {
            return Err(Damaged::Version(version));
        }
        input.0 = input.0.split_last_chunk::<4>().ok_or(Damaged::Contents)?.0;
        Self::read(&mut input)
    }

    /// What follows the length.
    fn read(input: &mut In<'_>) -> Result<Self, Damaged> {
        let index = |number: u32| usize::try_from(number).map_err(|_| Damaged::Contents);
        let (dimension, slots) = (index(input.u32()?)?, input.u32()?);
        let (vectors, nodes) = (input.u32()?, input.u32()?);
        let (twins, entry) = (input.u32()?, input.u32()?);
        if !(1..=DIMENSION_MAX).contains(&dimension) || nodes > vectors || vectors > slots {
            return Err(Damaged::Contents);
        }
        let held = input.0.len().checked_div(dimension).unwrap_or_default();
        let most = held.saturating_mul(SLOTS_PER_VECTOR_MAX).saturating_add(SLOTS_SPARE);
        if index(slots)? > most {
            return Err(Damaged::Contents);
        }
        let mut made = Self::new(dimension);
        let mut before = None;
        for _ in 0..vectors {
            let slot = input.u32()?;
            let scale = f32::from_le_bytes(input.array()?);
            let codes = input.take(dimension)?;
            if slot >= slots || before.is_some_and(|before| before >= slot) || !scale.is_finite() {
                return Err(Damaged::Contents);
            }
            made.codes.restore(slot, scale, codes);
            made.unlinked.insert(slot);
            before = Some(slot);
        }
        for _ in 0..nodes {
            let slot = input.u32()?;
            if !made.unlinked.remove(slot) {
                return Err(Damaged::Contents);
            }
            made.graph.enter(slot);
            for level in 0..=level(slot) {
                for place in made.graph.row_mut(slot, level) {
                    *place = input.u32()?;
                }
            }
        }
        for _ in 0..twins {
            let (twin, node) = (input.u32()?, input.u32()?);
            let same = made.codes.saved(twin) == made.codes.saved(node);
            if !same || !made.graph.linked.contains(node) || !made.unlinked.remove(twin) {
                return Err(Damaged::Contents);
            }
            made.graph.join(twin, node);
        }
        let entry_is_right = match made.graph.entry {
            None => entry == NONE,
            Some(highest) => made.graph.linked.contains(entry) && level(entry) == level(highest),
        };
        if !entry_is_right || !input.0.is_empty() {
            return Err(Damaged::Contents);
        }
        made.graph.entry = Some(entry).filter(|&entry| entry != NONE);
        Ok(made)
    }
}
