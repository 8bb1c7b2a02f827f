//! A frame: one record on disk, a 64-byte header and its payload, a checksum of each.
//!
//! The header says which schema wrote the payload and whose it is (key, space key), so that a
//! frame can be kept, overwritten or forgotten by a version that cannot decode it. The header's
//! checksum covers all of it and is checked before the length is believed.
//!
//! Deliberately absent: what payloads mean ([`crate::record`]), and where frames stand
//! ([`super::segment`]).
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use super::bytes::{part, put, wide};
use crate::sim::{Broken, broken};

/// Bytes of a frame header.
pub const HEADER_BYTES: usize = 64;
/// The same, for offsets.
pub const HEADER_BYTES_U64: u64 = wide(HEADER_BYTES);
/// The first bytes of each frame.
pub const MAGIC: [u8; 4] = [0xE9, b'n', b'g', b'r'];
/// Largest payload of a record.
pub const PAYLOAD_BYTES_MAX: usize =
    crate::episode::limits::FRAME_BYTES_MAX.saturating_sub(HEADER_BYTES);

/// What a frame holds, as its number on disk. Numbers unknown here are kept as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kind(pub u8);

impl Kind {
    /// An episode is kept, or replaces the one of its key.
    pub const REMEMBER: Self = Self(1);
    /// An episode is forgotten.
    pub const FORGET: Self = Self(2);
    /// A space's dimension and embedding model.
    pub const SPACE_DEFINED: Self = Self(3);
    /// All of a space with a lower LSN is forgotten.
    pub const FORGET_SPACE: Self = Self(4);
    /// A v0.1.0 file has been taken over.
    pub const LEGACY_IMPORTED: Self = Self(5);
    /// All before it was synced when it was written.
    pub const MARK: Self = Self(6);
    /// The end of a sealed segment; no record, and no LSN of its own.
    pub const FOOTER: Self = Self(255);

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::REMEMBER => "remember".into(),
            Self::FORGET => "forget".into(),
            Self::SPACE_DEFINED => "space_defined".into(),
            Self::FORGET_SPACE => "forget_space".into(),
            Self::LEGACY_IMPORTED => "legacy_imported".into(),
            Self::MARK => "mark".into(),
            Self::FOOTER => "footer".into(),
            Self(other) => format!("unknown({other})"),
        }
    }

    /// Whether it is a change to the memory (marks and footers are not).
    #[must_use]
    pub fn is_change(self) -> bool {
        self != Self::MARK && self != Self::FOOTER
    }
}

/// How a payload is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Codec(pub u8);

impl Codec {
    /// As its schema says.
    pub const PLAIN: Self = Self(0);
    /// Nothing but the header is left (a `Forget` whose payload was damaged still forgets).
    pub const KEY_ONLY: Self = Self(1);
}

/// A frame header without its checksums' own places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes of payload.
    pub length: u32,
    /// What the payload is.
    pub kind: Kind,
    /// How it is packed.
    pub codec: Codec,
    /// Which version of its schema wrote it.
    pub schema: u16,
    /// Its log sequence number.
    pub lsn: u64,
    /// H: the highest LSN that was synced when this was written.
    pub synced: u64,
    /// The salt of its segment. It never leaves the disk through any interface.
    pub salt: u64,
    /// Keyed hash of space and id.
    pub key: u64,
    /// Keyed hash of the space.
    pub space_key: u64,
    /// CRC-32C of the payload.
    pub payload_crc: u32,
    /// Zeros today. Kept as they are: whoever gives them a meaning finds them again.
    pub reserved: [u8; 4],
}

/// CRC-32C (Castagnoli), as iSCSI uses it.
#[must_use]
pub fn crc(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

impl Header {
    /// The bytes on disk.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let front = u64::from(self.length)
            | u64::from(self.kind.0) << 32
            | u64::from(self.codec.0) << 40
            | u64::from(self.schema) << 48;
        let back = u64::from(self.payload_crc) | u64::from(u32::from_le_bytes(self.reserved)) << 32;
        // Words, as the checksum reads them: a read across narrower writes waits for all writes before,
        // and those are of payloads.
        let words = [front, self.lsn, self.synced, self.salt, self.key, self.space_key, back];
        let mut checked = [0; HEADER_BYTES - 8];
        for (place, word) in checked.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let mut bytes = [0; HEADER_BYTES];
        put(&mut bytes, 0, &MAGIC);
        put(&mut bytes, 4, &crc(&checked).to_le_bytes());
        put(&mut bytes, 8, &checked);
        bytes
    }

    /// The header at the front of `bytes`, when its magic and checksum are right.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        let checksum = u32::from_le_bytes(part::<4, 4, _>(bytes));
        let right = checksum == header_crc(bytes) || broken(Broken::HeaderChecksumIgnored);
        if !bytes.starts_with(&MAGIC) || !right {
            return None;
        }
        let [kind, codec] = part::<12, 2, _>(bytes);
        Some(Self {
            length: u32::from_le_bytes(part::<8, 4, _>(bytes)),
            kind: Kind(kind),
            codec: Codec(codec),
            schema: u16::from_le_bytes(part::<14, 2, _>(bytes)),
            lsn: u64::from_le_bytes(part::<16, 8, _>(bytes)),
            synced: u64::from_le_bytes(part::<24, 8, _>(bytes)),
            salt: u64::from_le_bytes(part::<32, 8, _>(bytes)),
            key: u64::from_le_bytes(part::<40, 8, _>(bytes)),
            space_key: u64::from_le_bytes(part::<48, 8, _>(bytes)),
            payload_crc: u32::from_le_bytes(part::<56, 4, _>(bytes)),
            reserved: part::<60, 4, _>(bytes),
        })
    }

    /// Bytes of the whole frame.
    #[must_use]
    pub fn frame_bytes(&self) -> u64 {
        HEADER_BYTES_U64.saturating_add(u64::from(self.length))
    }
}

/// The checksum over every header byte but the magic (compared as it is) and its own place.
fn header_crc(bytes: &[u8; HEADER_BYTES]) -> u32 {
    crc(&part::<8, { HEADER_BYTES - 8 }, _>(bytes))
}

#[cfg(test)]
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "tests may panic"
)]
mod tests {
    use super::*;

    fn sample() -> Header {
        Header {
            length: 5,
            kind: Kind::REMEMBER,
            codec: Codec::PLAIN,
            schema: 1,
            lsn: 7,
            synced: 6,
            salt: 0x0123_4567_89AB_CDEF,
            key: 42,
            space_key: 43,
            payload_crc: crc(b"hello"),
            reserved: [0; 4],
        }
    }

    #[test]
    fn a_header_reads_back_as_it_was_written() {
        assert_eq!(Header::decode(&sample().encode()), Some(sample()));
        assert_eq!(sample().frame_bytes(), 69);
    }

    /// They were dropped: a header with the right checksum was read, and written again as another.
    #[test]
    fn bytes_that_have_no_meaning_yet_are_kept_by_those_who_copy_a_frame() {
        let header = Header { reserved: [1, 2, 3, 4], ..sample() };
        let bytes = header.encode();
        assert_eq!(bytes[60..], [1, 2, 3, 4]);
        assert_eq!(Header::decode(&bytes), Some(header));
        let copied = Header { salt: 1, ..header };
        assert_eq!(Header::decode(&copied.encode()), Some(copied));
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let good = sample().encode();
        for bit in 0..HEADER_BYTES * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&bad), None, "bit {bit}");
        }
    }

    #[test]
    fn a_cut_header_is_no_header() {
        let good = sample().encode();
        for length in 0..HEADER_BYTES {
            assert_eq!(Header::decode(&good[..length]), None);
        }
    }

    #[test]
    fn every_kind_has_a_name_of_its_own_those_to_come_included() {
        let names: std::collections::BTreeSet<String> =
            (0..=u8::MAX).map(|kind| Kind(kind).name()).collect();
        assert_eq!(names.len(), 256);
        assert_eq!(Kind(77).name(), "unknown(77)");
    }

    #[test]
    fn the_checksum_is_castagnoli() {
        assert_eq!(crc(b"123456789"), 0xE306_9283);
    }
}
