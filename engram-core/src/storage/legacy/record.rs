//! The 64-byte header of a v0.1.0 record: its fields, its checksum, and the correction of one
//! flipped bit.
//!
//! CRC-32C over so few bytes keeps any two headers at least six bits apart, so one flipped bit has
//! exactly one correction, and up to four are never taken for one (Koopman, "32-bit cyclic
//! redundancy codes for Internet applications", 2002).
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::cell::OnceCell;

use super::bincode::{Cursor, Misfit};

/// Length of a header.
pub(super) const HEADER_BYTES: usize = 64;
/// `0xDEADBEEF` as it stands in the file.
const MAGIC: [u8; 4] = 0xDEAD_BEEF_u32.to_le_bytes();
/// The bytes of a header that its checksum covers: 0..32 and 36..56.
const COVERED_BYTES: usize = 52;
type Covered = [u8; COVERED_BYTES];

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Number in its process, from 0.
    pub(super) sequence: u64,
    /// What the payload is.
    pub(super) entry_type: u32,
    /// Length of the payload.
    pub(super) payload_bytes: usize,
    /// Checksum of the payload.
    pub(super) payload_crc: u32,
    /// Whether one bit had to be corrected.
    pub(super) repaired: bool,
}

/// The checksum of v0.1.0, CRC-32C.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// Whether a header may begin with these bytes: at least three of the magic's four are there.
pub(super) fn plausible(bytes: &[u8]) -> bool {
    let Some([a, b, c, d]) = bytes.first_chunk() else { return false };
    let [a, b, c, d] = [*a == MAGIC[0], *b == MAGIC[1], *c == MAGIC[2], *d == MAGIC[3]];
    (a && b && (c || d)) || (c && d && (a || b))
}

/// The header's fields as they stand, whatever its checksum says.
pub(super) fn unchecked(raw: &[u8; HEADER_BYTES]) -> Option<Header> {
    fields(&split(raw)?.0)
}

/// The header, if its checksum holds once its magic, payload size, payload checksum and reserved
/// bytes are set to what they must have been. Proves these and the other fields.
pub(super) fn rebuilt(
    raw: &[u8; HEADER_BYTES],
    payload_bytes: usize,
    payload_crc: u32,
) -> Option<Header> {
    let (mut covered, stored) = split(raw)?;
    let payload_bytes = u32::try_from(payload_bytes).ok()?;
    covered.get_mut(..4)?.copy_from_slice(&MAGIC);
    covered.get_mut(24..28)?.copy_from_slice(&payload_bytes.to_le_bytes());
    covered.get_mut(28..32)?.copy_from_slice(&payload_crc.to_le_bytes());
    covered.get_mut(32..)?.fill(0);
    if crc32c(&covered) == stored { fields(&covered) } else { None }
}

/// Whether all that can be told of an episode's header without its checksum is right.
pub(super) fn looks_whole(raw: &[u8; HEADER_BYTES], payload_bytes: usize) -> bool {
    let said =
        unchecked(raw).is_some_and(|it| (it.entry_type, it.payload_bytes) == (1, payload_bytes));
    said && raw.starts_with(&MAGIC) && raw.iter().skip(36).all(|byte| *byte == 0)
}

/// Reads headers, and corrects one flipped bit in them.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// What each flipped bit does to the checksum, sorted; made at the first damage.
    syndromes: OnceCell<Vec<(u32, usize)>>,
}

impl Reader {
    /// The header, if its checksum holds, or holds after one bit is corrected.
    pub(super) fn read(&self, raw: &[u8; HEADER_BYTES]) -> Option<Header> {
        if !plausible(raw) {
            return None;
        }
        let (mut covered, stored) = split(raw)?;
        let syndrome = crc32c(&covered) ^ stored;
        // A syndrome of one bit: the checksum itself was hit, what it covers is whole.
        if syndrome != 0 && !syndrome.is_power_of_two() {
            let known = self.syndromes.get_or_init(syndromes);
            let found = known.binary_search_by_key(&syndrome, |(key, _)| *key).ok()?;
            flip(&mut covered, known.get(found)?.1);
        }
        if !covered.starts_with(&MAGIC) {
            return None;
        }
        Some(Header { repaired: syndrome != 0, ..fields(&covered)? })
    }
}

fn syndromes() -> Vec<(u32, usize)> {
    let zero = crc32c(&[0; COVERED_BYTES]);
    let bits = 0..COVERED_BYTES.saturating_mul(8);
    let syndrome = |bit| {
        let mut covered = [0; COVERED_BYTES];
        flip(&mut covered, bit);
        (crc32c(&covered) ^ zero, bit)
    };
    let mut syndromes: Vec<_> = bits.map(syndrome).collect();
    syndromes.sort_unstable();
    syndromes
}

fn flip(covered: &mut Covered, bit: usize) {
    if let Some(byte) = covered.get_mut(bit / 8) {
        *byte ^= 1_u8.rotate_left(u32::try_from(bit % 8).unwrap_or(0));
    }
}

/// The bytes that the checksum covers, and the checksum.
fn split(raw: &[u8; HEADER_BYTES]) -> Option<(Covered, u32)> {
    let (front, rest) = raw.split_first_chunk::<32>()?;
    let (stored, rest) = rest.split_first_chunk::<4>()?;
    let mut covered = [0; COVERED_BYTES];
    covered.get_mut(..32)?.copy_from_slice(front);
    covered.get_mut(32..)?.copy_from_slice(rest.get(..20)?);
    Some((covered, u32::from_le_bytes(*stored)))
}

fn fields(covered: &Covered) -> Option<Header> {
    let read = || -> Result<_, Misfit> {
        let mut cursor = Cursor::new(covered);
        cursor.field("header").take(MAGIC.len())?;
        let (sequence, _timestamp) = (cursor.u64()?, cursor.u64()?);
        Ok((sequence, cursor.u32()?, cursor.u32()?, cursor.u32()?))
    };
    let (sequence, entry_type, payload_bytes, payload_crc) = read().ok()?;
    let payload_bytes = usize::try_from(payload_bytes).ok()?;
    Some(Header { sequence, entry_type, payload_bytes, payload_crc, repaired: false })
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests make what they index")]
mod tests {
    use super::*;

    fn header() -> [u8; HEADER_BYTES] {
        let mut raw = [0; HEADER_BYTES];
        raw[..4].copy_from_slice(&MAGIC);
        raw[4] = 7;
        raw[12..20].copy_from_slice(&1_795_393_477_274_451_571_u64.to_le_bytes());
        raw[20] = 1;
        raw[24..28].copy_from_slice(&3231_u32.to_le_bytes());
        raw[28..32].copy_from_slice(&0x1234_5678_u32.to_le_bytes());
        let crc = crc32c(&split(&raw).unwrap().0);
        raw[32..36].copy_from_slice(&crc.to_le_bytes());
        raw
    }

    #[test]
    fn every_flipped_bit_is_corrected_to_the_same_header() {
        let (reader, good) = (Reader::default(), header());
        let want = reader.read(&good).unwrap();
        assert!(!want.repaired);
        assert_eq!((want.sequence, want.entry_type, want.payload_bytes), (7, 1, 3231));
        for bit in 0..512 {
            let mut raw = good;
            raw[bit / 8] ^= 1 << (bit % 8);
            let uncovered = bit >= 56 * 8;
            assert_eq!(reader.read(&raw), Some(Header { repaired: !uncovered, ..want }), "{bit}");
        }
    }

    #[test]
    fn two_flipped_bits_are_never_taken_for_one() {
        let (reader, good) = (Reader::default(), header());
        for one in 0..448 {
            for two in 0..one {
                let mut raw = good;
                raw[one / 8] ^= 1 << (one % 8);
                raw[two / 8] ^= 1 << (two % 8);
                assert_eq!(reader.read(&raw), None, "{one} {two}");
            }
        }
    }

    #[test]
    fn the_checksum_is_crc_32c() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }
}
