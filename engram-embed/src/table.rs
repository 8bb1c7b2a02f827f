//! The table's bytes, and the rows in them.
//!
//! All numbers are little-endian. `R` rows of `D` numbers:
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | `ENGRMEMB` |
//! | 4 | version of this format, 1 |
//! | 4 | `R` |
//! | 4 | `D` |
//! | 4 | `V`, bytes of the vocabulary |
//! | 4 · R | each row's scale, a 32-bit float |
//! | R · D | the rows, row after row, each number a signed byte |
//! | V | the vocabulary in UTF-8: each row's piece and a line feed |
//! | 4 | CRC-32 (ISO-HDLC, as in zlib) of all bytes before it |
//!
//! A row is its bytes times its scale. The scale holds the piece's weight too; 0 means that the
//! piece says nothing.
//!
//! Deliberately absent: compression and alignment. The rows are used where they lie.

use crc_fast::{CrcAlgorithm, checksum};

use crate::DIMENSION;

const MAGIC: &[u8; 8] = b"ENGRMEMB";
const VERSION: u32 = 1;

/// Why a table cannot be used. Nothing but a damaged program file causes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// It ends before its header says so, or goes on after.
    #[error("the embedder's table has {found} bytes; install the program anew")]
    Length {
        /// How many bytes there are.
        found: usize,
    },
    /// The bytes are not those that were written.
    #[error(
        "the embedder's table is damaged: its checksum is {found:08x}, expected {expected:08x}; \
         install the program anew"
    )]
    Checksum {
        /// What the table says.
        expected: u32,
        /// What its bytes give.
        found: u32,
    },
    /// Another magic, version or dimension, or a vocabulary that does not fit the rows.
    #[error("the embedder's table is of another format than this program reads")]
    Format,
}

/// A table whose checksum was right.
#[derive(Debug)]
pub(crate) struct Table<'a> {
    scales: &'a [[u8; 4]],
    rows: &'a [[u8; DIMENSION]],
    vocabulary: &'a str,
}

impl<'a> Table<'a> {
    /// Checks all bytes; copies none.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, TableError> {
        let short = TableError::Length { found: bytes.len() };
        let (body, expected) = bytes.split_last_chunk::<4>().ok_or(short)?;
        let expected = u32::from_le_bytes(*expected);
        let found = u32::try_from(checksum(CrcAlgorithm::Crc32IsoHdlc, body));
        let found = found.map_err(|_| TableError::Format)?;
        if found != expected {
            return Err(TableError::Checksum { expected, found });
        }

        let (magic, rest) = body.split_first_chunk::<8>().ok_or(short)?;
        let (version, rest) = number(rest).ok_or(short)?;
        let (rows, rest) = number(rest).ok_or(short)?;
        let (dimension, rest) = number(rest).ok_or(short)?;
        let (vocabulary_len, rest) = number(rest).ok_or(short)?;
        if magic != MAGIC || version != VERSION || usize::try_from(dimension) != Ok(DIMENSION) {
            return Err(TableError::Format);
        }
        let rows = usize::try_from(rows).map_err(|_| short)?;
        let scales_len = rows.checked_mul(4).ok_or(short)?;
        let rows_len = rows.checked_mul(DIMENSION).ok_or(short)?;
        let (scales, rest) = rest.split_at_checked(scales_len).ok_or(short)?;
        let (numbers, vocabulary) = rest.split_at_checked(rows_len).ok_or(short)?;
        if usize::try_from(vocabulary_len) != Ok(vocabulary.len()) {
            return Err(short);
        }
        let vocabulary = std::str::from_utf8(vocabulary).map_err(|_| TableError::Format)?;
        if vocabulary.lines().count() != rows {
            return Err(TableError::Format);
        }
        let (scales, rows) = (scales.as_chunks().0, numbers.as_chunks().0);
        Ok(Self { scales, rows, vocabulary })
    }

    /// The pieces, one a line, in the order of the rows.
    pub(crate) fn vocabulary(&self) -> &'a str {
        self.vocabulary
    }

    /// Adds a piece's weighted row. A piece that is not in the table adds nothing.
    pub(crate) fn add_row(&self, piece: u32, sum: &mut [f32]) {
        let Ok(piece) = usize::try_from(piece) else { return };
        let (Some(scale), Some(row)) = (self.scales.get(piece), self.rows.get(piece)) else {
            return;
        };
        let scale = f32::from_le_bytes(*scale);
        for (sum, byte) in sum.iter_mut().zip(row) {
            *sum += f32::from(byte.cast_signed()) * scale;
        }
    }
}

/// The number at the beginning, and what follows it.
fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two rows: "a" is all ones times 0.5, "##b" counts down from 127 in scale 1.
    fn table() -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for number in [VERSION, 2, 256, 6] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend([0.5_f32, 1.0].iter().flat_map(|scale| scale.to_le_bytes()));
        bytes.extend([1; DIMENSION]);
        bytes.extend((0..=255_u8).map(|x| 127_u8.wrapping_sub(x)));
        bytes.extend(b"a\n##b\n");
        seal(bytes)
    }

    fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
        let crc = checksum(CrcAlgorithm::Crc32IsoHdlc, &bytes);
        bytes.extend(u32::try_from(crc).expect("32 bits").to_le_bytes());
        bytes
    }

    fn unsealed() -> Vec<u8> {
        let mut bytes = table();
        bytes.truncate(bytes.len() - 4);
        bytes
    }

    #[test]
    fn a_row_is_its_bytes_times_its_scale() {
        let bytes = table();
        let table = Table::read(&bytes).expect("a sound table");
        let mut sum = vec![0.0; DIMENSION];
        table.add_row(0, &mut sum);
        assert!(sum.iter().all(|x| x.to_bits() == 0.5_f32.to_bits()));
        table.add_row(1, &mut sum);
        assert_eq!((sum[0], sum[127], sum[255]), (127.5, 0.5, -127.5));
        table.add_row(2, &mut sum);
        assert_eq!(sum[0].to_bits(), 127.5_f32.to_bits(), "there is no third row");
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = table();
        for at in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[at / 8] ^= 1 << (at % 8);
            assert!(matches!(Table::read(&damaged), Err(TableError::Checksum { .. })), "bit {at}");
        }
    }

    #[test]
    fn a_table_cut_anywhere_is_refused() {
        let bytes = unsealed();
        for length in 0..bytes.len() {
            assert!(Table::read(&bytes[..length]).is_err(), "{length} bytes");
            let sealed = seal(bytes[..length].to_vec());
            assert!(Table::read(&sealed).is_err(), "{length} bytes and their checksum");
        }
    }

    #[test]
    fn another_format_is_refused() {
        for (at, byte) in [(0, b'X'), (8, 2), (16, 255), (12, 3), (20, 5)] {
            let mut other = unsealed();
            other[at] = byte;
            assert!(Table::read(&seal(other)).is_err(), "byte {at}");
        }
        let mut other = unsealed();
        let last = other.len() - 1;
        other[last - 1] = 0xff;
        assert_eq!(Table::read(&seal(other)).err(), Some(TableError::Format), "not UTF-8");
    }
}
