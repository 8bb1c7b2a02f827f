//! A segment: its name, and its header in two copies.
//!
//! Deliberately absent: reading and writing files; frames ([`super::frame`]), and the footer that
//! seals a segment ([`super::footer`]).
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use super::bytes::{part, put};
use super::frame;

/// The version of this format.
pub const FORMAT_VERSION: u32 = 1;
/// The first version that there was.
const FORMAT_VERSION_MIN: u32 = 1;
/// The first bytes of each header copy.
pub const MAGIC: [u8; 8] = *b"ENGRAMWL";
/// Bytes of one header copy.
pub const HEADER_COPY_BYTES: usize = 512;
/// Where the copies stand: in different 4 KiB blocks.
pub const HEADER_OFFSETS: [u64; 2] = [0, 4096];
/// The highest LSN. No log reaches it, so what claims more was made to mislead, and no sum of an
/// LSN and a few more overflows.
pub const LSN_MAX: u64 = 1 << 62;
/// Where frames begin.
pub const FRAMES_START: u64 = 8192;
/// The same, for buffers.
pub const FRAMES_START_USIZE: usize = 8192;

const FLAG_CUT: u32 = 1;
const FLAG_ACCEPTED_LOSS: u32 = 2;

/// What every segment of one store shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The store's UUID.
    pub store: [u8; 16],
    /// The secret that keys are hashed with.
    pub secret: [u8; 16],
}

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The store that it belongs to.
    pub identity: Identity,
    /// Random; every frame of the segment repeats it.
    pub salt: u64,
    /// Its first LSN.
    pub start: u64,
    /// Its last LSN, once known (rewritten segments), else 0.
    pub end: u64,
    /// How often the range was rewritten.
    pub generation: u64,
    /// H when it was made: all up to here was synced elsewhere, or is synced in it.
    pub synced: u64,
    /// LSNs that were skipped and are never given, as an inclusive range; (0, 0) for none.
    pub skipped: (u64, u64),
    /// Whether the segment before was cut: what follows its range there means nothing.
    pub cut: bool,
    /// Its range was lost, and an operator chose to go on without it.
    pub accepted_loss: bool,
}

/// What the bytes of a header copy are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderCopy {
    /// A header of this format.
    Good(SegmentHeader),
    /// Written by a newer format.
    TooNew(u32),
    /// No header.
    Bad,
}

impl SegmentHeader {
    /// One copy's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_COPY_BYTES] {
        let mut bytes = [0; HEADER_COPY_BYTES];
        put(&mut bytes, 0, &MAGIC);
        put(&mut bytes, 12, &FORMAT_VERSION.to_le_bytes());
        put(&mut bytes, 16, &self.identity.store);
        put(&mut bytes, 32, &self.identity.secret);
        put(&mut bytes, 48, &self.salt.to_le_bytes());
        put(&mut bytes, 56, &self.start.to_le_bytes());
        put(&mut bytes, 64, &self.end.to_le_bytes());
        put(&mut bytes, 72, &self.generation.to_le_bytes());
        put(&mut bytes, 80, &self.synced.to_le_bytes());
        put(&mut bytes, 88, &self.skipped.0.to_le_bytes());
        put(&mut bytes, 96, &self.skipped.1.to_le_bytes());
        let cut = if self.cut { FLAG_CUT } else { 0 };
        let accepted_loss = if self.accepted_loss { FLAG_ACCEPTED_LOSS } else { 0 };
        put(&mut bytes, 104, &(cut | accepted_loss).to_le_bytes());
        let checksum = copy_crc(&bytes);
        put(&mut bytes, 8, &checksum.to_le_bytes());
        bytes
    }

    /// Both copies with what lies between, `FRAMES_START` bytes.
    #[must_use]
    pub fn encode_block(&self) -> Vec<u8> {
        let mut block = vec![0; FRAMES_START_USIZE];
        let copy = self.encode();
        put(&mut block, 0, &copy);
        put(&mut block, 4096, &copy);
        block
    }

    /// What one copy's bytes are.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> HeaderCopy {
        Self::decode_checked(bytes).unwrap_or(HeaderCopy::Bad)
    }

    fn decode_checked(bytes: &[u8]) -> Option<HeaderCopy> {
        let bytes: &[u8; HEADER_COPY_BYTES] = bytes.first_chunk()?;
        let checksum = u32::from_le_bytes(part::<8, 4, _>(bytes));
        if !bytes.starts_with(&MAGIC) || checksum != copy_crc(bytes) {
            return None;
        }
        let version = u32::from_le_bytes(part::<12, 4, _>(bytes));
        if version > FORMAT_VERSION {
            return Some(HeaderCopy::TooNew(version));
        }
        if version < FORMAT_VERSION_MIN {
            return None;
        }
        let identity =
            Identity { store: part::<16, 16, _>(bytes), secret: part::<32, 16, _>(bytes) };
        let skipped = [part::<88, 8, _>(bytes), part::<96, 8, _>(bytes)].map(u64::from_le_bytes);
        let flags = u32::from_le_bytes(part::<104, 4, _>(bytes));
        let header = Self {
            identity,
            salt: u64::from_le_bytes(part::<48, 8, _>(bytes)),
            start: u64::from_le_bytes(part::<56, 8, _>(bytes)),
            end: u64::from_le_bytes(part::<64, 8, _>(bytes)),
            generation: u64::from_le_bytes(part::<72, 8, _>(bytes)),
            synced: u64::from_le_bytes(part::<80, 8, _>(bytes)),
            skipped: skipped.into(),
            cut: flags & FLAG_CUT != 0,
            accepted_loss: flags & FLAG_ACCEPTED_LOSS != 0,
        };
        let lsns = [header.start, header.end, header.synced, header.skipped.1];
        let sane = lsns.iter().chain([&header.generation]).all(|number| *number <= LSN_MAX);
        sane.then_some(HeaderCopy::Good(header))
    }

    /// The name of the file that this is the header of.
    #[must_use]
    pub fn name(&self) -> SegmentName {
        let rewritten = (self.generation > 0).then_some((self.end, self.generation));
        SegmentName { start: self.start, rewritten }
    }

    /// From which LSN on it cut the tail off the segment before, if it did.
    #[must_use]
    pub fn cut_from(self) -> Option<u64> {
        let skipped = Some(self.skipped.0).filter(|&first| first != 0).unwrap_or(self.start);
        self.cut.then_some(self.start.min(skipped))
    }

    /// Whether an LSN was skipped.
    #[must_use]
    pub fn skips(&self, lsn: u64) -> bool {
        self.skipped.0 != 0 && (self.skipped.0..=self.skipped.1).contains(&lsn)
    }
}

fn copy_crc(bytes: &[u8; HEADER_COPY_BYTES]) -> u32 {
    frame::crc(&part::<12, { HEADER_COPY_BYTES - 12 }, _>(bytes))
}

/// A file name in the log's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileName {
    /// A segment.
    Segment(SegmentName),
    /// A zero-filled file that waits to become one, or room kept for compaction.
    Spare,
    /// Room kept for compaction on a full disk.
    Ballast,
    /// A note of the newest segment.
    Head,
    /// An unfinished file of ours.
    Temporary,
}

/// What a segment's name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentName {
    /// Its first LSN.
    pub start: u64,
    /// Its last LSN and generation, when it is a rewritten one.
    pub rewritten: Option<(u64, u64)>,
}

/// The name of the spare.
pub const SPARE_NAME: &str = "spare";
/// The name of the ballast.
pub const BALLAST_NAME: &str = "ballast";
/// The name of the note of the newest segment.
pub const HEAD_NAME: &str = "head";
/// The ending of unfinished files.
pub const TEMPORARY_SUFFIX: &str = ".tmp";

impl SegmentName {
    /// The file name: `START.seg`, or `START-END-GENERATION.seg`.
    #[must_use]
    pub fn file_name(self) -> String {
        match self.rewritten {
            None => format!("{:020}.seg", self.start),
            Some((end, generation)) => {
                format!("{:020}-{end:020}-{generation:06}.seg", self.start)
            }
        }
    }

    /// Its generation.
    #[must_use]
    pub fn generation(self) -> u64 {
        self.rewritten.map_or(0, |(_, generation)| generation)
    }
}

impl FileName {
    /// What a name is, or `None` for a foreign one.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        if name == SPARE_NAME {
            return Some(Self::Spare);
        }
        if name == HEAD_NAME {
            return Some(Self::Head);
        }
        if name == BALLAST_NAME {
            return Some(Self::Ballast);
        }
        if let Some(stem) = name.strip_suffix(TEMPORARY_SUFFIX) {
            return Self::parse(stem).map(|_| Self::Temporary);
        }
        let numbers = name.strip_suffix(".seg")?.split('-').map(|part| part.parse().ok());
        let parsed = match numbers.collect::<Option<Vec<u64>>>()?[..] {
            [start] => SegmentName { start, rewritten: None },
            [start, end, generation] => SegmentName { start, rewritten: Some((end, generation)) },
            _ => return None,
        };
        // One name a segment: no sign, no zero too many. LSNs begin at 1, and a range is of some of them.
        let start = parsed.start;
        let end = parsed.rewritten.map_or(start, |(end, _)| end);
        let holds_some = 0 < start && start <= end && end <= LSN_MAX;
        (holds_some && parsed.file_name() == name).then_some(Self::Segment(parsed))
    }
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

    fn header() -> SegmentHeader {
        SegmentHeader {
            identity: Identity { store: [1; 16], secret: [2; 16] },
            salt: 3,
            start: 4,
            end: 5,
            generation: 6,
            synced: 7,
            skipped: (8, 9),
            cut: true,
            accepted_loss: true,
        }
    }

    #[test]
    fn a_header_reads_back_from_either_copy() {
        let block = header().encode_block();
        assert_eq!(SegmentHeader::decode(&block), HeaderCopy::Good(header()));
        assert_eq!(SegmentHeader::decode(&block[4096..]), HeaderCopy::Good(header()));
    }

    #[test]
    fn every_flipped_bit_of_a_copy_is_noticed() {
        let good = header().encode();
        for bit in 0..HEADER_COPY_BYTES * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&bad), HeaderCopy::Bad, "bit {bit}");
        }
    }

    #[test]
    fn a_copy_that_is_cut_is_no_header() {
        let good = header().encode();
        for length in 0..HEADER_COPY_BYTES {
            assert_eq!(SegmentHeader::decode(&good[..length]), HeaderCopy::Bad, "{length} bytes");
        }
    }

    #[test]
    fn a_newer_format_is_named_not_guessed() {
        let mut bytes = header().encode();
        put(&mut bytes, 12, &9u32.to_le_bytes());
        let checksum = copy_crc(&bytes);
        put(&mut bytes, 8, &checksum.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&bytes), HeaderCopy::TooNew(9));
    }

    /// Version 0 was taken for version 1.
    #[test]
    fn a_format_that_never_was_is_no_header() {
        let mut bytes = header().encode();
        put(&mut bytes, 12, &0u32.to_le_bytes());
        let checksum = copy_crc(&bytes);
        put(&mut bytes, 8, &checksum.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&bytes), HeaderCopy::Bad);
    }

    #[test]
    fn names_read_back_and_foreign_ones_are_foreign() {
        for name in [
            SegmentName { start: 1, rewritten: None },
            SegmentName { start: 12, rewritten: Some((34, 5)) },
        ] {
            assert_eq!(FileName::parse(&name.file_name()), Some(FileName::Segment(name)));
            let temporary = format!("{}.tmp", name.file_name());
            assert_eq!(FileName::parse(&temporary), Some(FileName::Temporary));
        }
        assert_eq!(FileName::parse("spare"), Some(FileName::Spare));
        assert_eq!(FileName::parse("ballast.tmp"), Some(FileName::Temporary));
        assert_eq!(FileName::parse("head"), Some(FileName::Head));
        let (first, last) = ("00000000000000000001", "00000000000000000009");
        for foreign in [
            "1.seg",
            "wal-000000006b0387c5.log",
            "x.tmp",
            ".seg",
            "notes.txt",
            "-.seg",
            "+0000000000000000001.seg",
            "99999999999999999999.seg",
            &format!("{first}-{last}.seg"),
            &format!("{first}-{last}-1.seg"),
            &format!("{first}-{last}-000001-000001.seg"),
            &format!("{first}-{last}-000001.seg "),
            &format!("{first}.tmp"),
        ] {
            assert_eq!(FileName::parse(foreign), None, "{foreign}");
        }
    }

    /// A file of such a name made the log miss "LSNs 0 to 0", a loss that nobody could accept.
    #[test]
    fn a_name_that_holds_no_lsn_is_foreign() {
        let beyond = LSN_MAX + 1;
        for (start, rewritten) in [
            (0, None),
            (0, Some((3, 1))),
            (5, Some((4, 1))),
            (beyond, None),
            (5, Some((beyond, 1))),
        ] {
            let name = SegmentName { start, rewritten }.file_name();
            assert_eq!(FileName::parse(&name), None, "{name}");
        }
    }
}
