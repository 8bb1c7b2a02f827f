//! The footer that seals a segment: every frame by offset, LSN, kind and key, and a digest of all.
//!
//! So in a sealed segment every loss is named exactly, and a damaged `Forget` still forgets. It is
//! made of sections that an older reader can skip.
//!
//! Deliberately absent: what a loss means (`losses`).
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use super::bytes::{part, put_varint, take, take_array, take_varint, wide};
use super::frame::{self, Codec, Header, Kind};

const SECTION_SUMMARY: u16 = 1;
const SECTION_INDEX: u16 = 2;

/// One frame as a footer lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Where the frame begins.
    pub offset: u64,
    /// Its LSN.
    pub lsn: u64,
    /// Its kind.
    pub kind: Kind,
    /// Its key; for `ForgetSpace`, its space key.
    pub key: u64,
}

/// What seals a segment: every frame by offset, LSN, kind and key, and a digest of them all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footer {
    /// Its last LSN.
    pub end: u64,
    /// CRC-32C chained over every frame's LSN and payload checksum, in order.
    pub digest: u32,
    /// The frames.
    pub frames: Vec<Listed>,
}

/// Grows with each frame that is written, and becomes the footer.
#[derive(Debug, Clone, Default)]
pub struct FooterBuilder {
    index: Vec<u8>,
    count: u64,
    digest: u32,
    last_offset: u64,
    last_lsn: u64,
}

/// A length of the list that can be gone back to.
#[derive(Debug, Clone, Copy)]
pub struct Checkpoint {
    index_bytes: usize,
    count: u64,
    digest: u32,
    last_offset: u64,
    last_lsn: u64,
}

/// Bytes of a footer beside its index.
const FOOTER_FIXED_BYTES: u64 = 64 + 6 + 28 + 6;
/// Most bytes that one frame adds to a footer's index.
const LISTED_BYTES_MAX: u64 = 10 + 10 + 1 + 8;
/// Fewest.
const LISTED_BYTES_MIN: usize = 1 + 1 + 1 + 8;

impl FooterBuilder {
    /// Lists a frame.
    pub fn add(&mut self, offset: u64, header: &Header) {
        put_varint(&mut self.index, offset.saturating_sub(self.last_offset));
        put_varint(&mut self.index, header.lsn.saturating_sub(self.last_lsn));
        self.index.push(header.kind.0);
        self.index.extend_from_slice(&listed_key(header).to_le_bytes());
        self.count = self.count.saturating_add(1);
        self.digest = digest_step(self.digest, header);
        self.last_offset = offset;
        self.last_lsn = header.lsn;
    }

    /// How far the list goes now; [`FooterBuilder::back_to`] undoes what came after.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            index_bytes: self.index.len(),
            count: self.count,
            digest: self.digest,
            last_offset: self.last_offset,
            last_lsn: self.last_lsn,
        }
    }

    /// Takes back all frames listed since a checkpoint.
    pub fn back_to(&mut self, checkpoint: Checkpoint) {
        self.index.truncate(checkpoint.index_bytes);
        self.count = checkpoint.count;
        self.digest = checkpoint.digest;
        self.last_offset = checkpoint.last_offset;
        self.last_lsn = checkpoint.last_lsn;
    }

    /// How many frames are listed.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Bytes that the footer's frame takes if one more frame is listed before.
    #[must_use]
    pub fn bytes_with_one_more(&self) -> u64 {
        FOOTER_FIXED_BYTES.saturating_add(wide(self.index.len())).saturating_add(LISTED_BYTES_MAX)
    }

    /// The footer's whole frame.
    #[must_use]
    pub fn finish(&self, salt: u64, end: u64, synced: u64) -> Vec<u8> {
        let mut payload = Vec::with_capacity(self.index.len().saturating_add(64));
        payload.extend_from_slice(&SECTION_SUMMARY.to_le_bytes());
        payload.extend_from_slice(&20u32.to_le_bytes());
        payload.extend_from_slice(&self.count.to_le_bytes());
        payload.extend_from_slice(&end.to_le_bytes());
        payload.extend_from_slice(&self.digest.to_le_bytes());
        payload.extend_from_slice(&SECTION_INDEX.to_le_bytes());
        let index_bytes = u32::try_from(self.index.len()).unwrap_or(u32::MAX);
        payload.extend_from_slice(&index_bytes.to_le_bytes());
        payload.extend_from_slice(&self.index);
        let header = Header {
            length: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            kind: Kind::FOOTER,
            codec: Codec::PLAIN,
            schema: 1,
            lsn: end,
            synced,
            salt,
            key: 0,
            space_key: 0,
            payload_crc: frame::crc(&payload),
            reserved: [0; 4],
        };
        let mut bytes = header.encode().to_vec();
        bytes.append(&mut payload);
        bytes
    }
}

/// The key that a footer lists for a frame: what its `Forget` would need to act.
fn listed_key(header: &Header) -> u64 {
    if header.kind == Kind::FORGET_SPACE { header.space_key } else { header.key }
}

/// One step of the digest over frames: the checksum so far, and this frame's header.
#[must_use]
pub fn digest_step(digest: u32, header: &Header) -> u32 {
    // In words, for the reason that is given where a header is encoded.
    let front = u64::from(digest) | header.lsn << 32;
    let back = header.lsn >> 32 | u64::from(header.payload_crc) << 32;
    let mut bytes = [0; 16];
    for (place, word) in bytes.chunks_exact_mut(8).zip([front, back]) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    frame::crc(&bytes)
}

impl Footer {
    /// Reads a footer's payload; sections that are unknown here are skipped.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let mut rest = payload;
        let (mut summary, mut frames) = (None, None);
        while !rest.is_empty() {
            let tag = u16::from_le_bytes(take_array(&mut rest)?);
            let length = u32::from_le_bytes(take_array(&mut rest)?);
            let section = take(&mut rest, usize::try_from(length).unwrap_or(usize::MAX))?;
            match tag {
                SECTION_SUMMARY => {
                    let fields: &[u8; 20] = section.first_chunk()?;
                    let [count, end] = [part::<0, 8, _>(fields), part::<8, 8, _>(fields)];
                    let digest = u32::from_le_bytes(part::<16, 4, _>(fields));
                    summary = Some((u64::from_le_bytes(count), u64::from_le_bytes(end), digest));
                }
                SECTION_INDEX => frames = Some(decode_index(section)?),
                _ => {}
            }
        }
        let ((count, end, digest), frames) = (summary?, frames?);
        (wide(frames.len()) == count).then_some(Self { end, digest, frames })
    }
}

fn decode_index(mut index: &[u8]) -> Option<Vec<Listed>> {
    let mut frames = Vec::with_capacity(index.len() / LISTED_BYTES_MIN);
    let (mut offset, mut lsn) = (0u64, 0u64);
    while !index.is_empty() {
        offset = offset.checked_add(take_varint(&mut index)?)?;
        lsn = lsn.checked_add(take_varint(&mut index)?)?;
        let kind = Kind(take_array::<1>(&mut index)?[0]);
        let key = u64::from_le_bytes(take_array(&mut index)?);
        frames.push(Listed { offset, lsn, kind, key });
    }
    Some(frames)
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
    use crate::storage::wal::segment::FRAMES_START;

    #[test]
    fn a_footer_lists_each_frame_and_says_how_large_it_will_be() {
        let mut builder = FooterBuilder::default();
        let mut wanted = Vec::new();
        let mut digest = 0;
        for lsn in 10..500u64 {
            let frame = Header {
                length: 10,
                kind: if lsn % 2 == 0 { Kind::REMEMBER } else { Kind::FORGET },
                codec: Codec::PLAIN,
                schema: 1,
                lsn,
                synced: 0,
                salt: 3,
                key: lsn * 1_000_003,
                space_key: 1,
                payload_crc: 5,
                reserved: [0; 4],
            };
            let bound = builder.bytes_with_one_more();
            let offset = FRAMES_START + lsn * 100;
            builder.add(offset, &frame);
            digest = digest_step(digest, &frame);
            wanted.push(Listed { offset, lsn, kind: frame.kind, key: frame.key });
            assert!(wide(builder.finish(3, lsn, 0).len()) <= bound);
        }
        let bytes = builder.finish(3, 499, 498);
        let head = Header::decode(&bytes).unwrap();
        let payload = &bytes[frame::HEADER_BYTES..];
        assert_eq!(frame::crc(payload), head.payload_crc);
        assert_eq!(Footer::decode(payload), Some(Footer { end: 499, digest, frames: wanted }));
        for cut in 0..payload.len() {
            assert_eq!(Footer::decode(&payload[..cut]), None, "cut at {cut}");
        }
    }

    /// A section of a footer.
    fn section(tag: u16, bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).unwrap();
        [tag.to_le_bytes().as_slice(), &length.to_le_bytes(), bytes].concat()
    }

    #[test]
    fn a_footer_is_its_two_sections_in_any_order_among_any_that_are_unknown_here() {
        let summary = section(SECTION_SUMMARY, &[&[1; 1][..], &[0; 7], &[9; 8], &[5; 4]].concat());
        let index = section(SECTION_INDEX, &[&[100, 7, 1][..], &[3; 8]].concat());
        let unknown = section(77, b"of a version to come");
        let key = u64::from_le_bytes([3; 8]);
        let frames = vec![Listed { offset: 100, lsn: 7, kind: Kind::REMEMBER, key }];
        let whole =
            Footer { end: u64::from_le_bytes([9; 8]), digest: u32::from_le_bytes([5; 4]), frames };
        let none = section(SECTION_INDEX, &[]);
        let max = u64::MAX;
        let mut past_the_end = Vec::new();
        for _ in 0..2 {
            put_varint(&mut past_the_end, max);
            put_varint(&mut past_the_end, 1);
            past_the_end.extend_from_slice(&[1; 9]);
        }
        let mut past_the_last_lsn = Vec::new();
        for _ in 0..2 {
            put_varint(&mut past_the_last_lsn, 1);
            put_varint(&mut past_the_last_lsn, max);
            past_the_last_lsn.extend_from_slice(&[1; 9]);
        }
        let longer = |index: &[u8]| section(SECTION_INDEX, index);
        for (sections, wanted) in [
            (vec![&summary, &index], Some(&whole)),
            (vec![&index, &summary], Some(&whole)),
            (vec![&unknown, &index, &unknown, &summary, &unknown], Some(&whole)),
            (vec![&summary], None),
            (vec![&index, &unknown], None),
            // The count is another.
            (vec![&summary, &none], None),
            (vec![&section(SECTION_SUMMARY, &[0; 19]), &index], None),
            (vec![&summary, &longer(&[100, 7, 1])], None),
            (vec![&summary, &longer(&[100, 7])], None),
            (vec![&summary, &longer(&[100])], None),
            (vec![&summary, &longer(&[0x80])], None),
            (vec![&summary, &longer(&past_the_end)], None),
            (vec![&summary, &longer(&past_the_last_lsn)], None),
        ] {
            let payload = sections.iter().copied().flatten().copied().collect::<Vec<u8>>();
            assert_eq!(Footer::decode(&payload).as_ref(), wanted, "{sections:?}");
        }
    }
}
