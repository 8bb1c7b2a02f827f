//! Little-endian integers in byte slices, without a panic in reach.
//!
//! Deliberately absent: any meaning of the bytes.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

/// `N` bytes at `at`, when the slice reaches that far.
pub(crate) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// A `u16` at `at`.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

/// A `u32` at `at`.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

/// A `u64` at `at`.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_le_bytes)
}

/// An `i64` at `at`.
pub(crate) fn i64_at(bytes: &[u8], at: usize) -> Option<i64> {
    array_at(bytes, at).map(i64::from_le_bytes)
}

/// `N` bytes at `AT` of a buffer whose length is known: the compiler checks that they are there.
pub(crate) fn part<const AT: usize, const N: usize, const L: usize>(bytes: &[u8; L]) -> [u8; N] {
    const { assert!(AT + N <= L, "the part lies in the buffer") };
    #[expect(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "i < N, and AT + N <= L was checked when this was compiled"
    )]
    std::array::from_fn(|i| bytes[AT + i])
}

/// Puts `value` at `at`; the caller's buffer is large enough (checked in tests).
pub(crate) fn put(buffer: &mut [u8], at: usize, value: &[u8]) {
    let end = at.saturating_add(value.len());
    if let Some(place) = buffer.get_mut(at..end) {
        place.copy_from_slice(value);
    }
}

/// Appends an unsigned integer in LEB128: seven bits a byte, low ones first.
pub(crate) fn put_varint(buffer: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = value.to_le_bytes()[0] & 0x7F;
        value >>= 7;
        if value == 0 {
            buffer.push(low);
            return;
        }
        buffer.push(low | 0x80);
    }
}

/// Takes an unsigned LEB128 integer off the front of `bytes`.
pub(crate) fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let [byte] = take_array(bytes)?;
        // Bits beyond the 64th make it no number, rather than another one.
        value |= u64::from(byte & 0x7F).checked_mul(1u64.wrapping_shl(shift))?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Takes `n` bytes off the front of `bytes`.
pub(crate) fn take<'a>(bytes: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(n)?;
    *bytes = rest;
    Some(head)
}

/// Takes `N` bytes off the front of `bytes`.
pub(crate) fn take_array<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}

/// Lengths and offsets as `u64`: lossless on every platform this builds for.
#[expect(clippy::as_conversions, reason = "usize is at most 64 bits on every supported platform")]
pub(crate) const fn wide(n: usize) -> u64 {
    n as u64
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests may panic")]
mod tests {
    use super::*;

    fn first<const N: usize>(rest: &[u8]) -> Option<[u8; N]> {
        rest.first_chunk().copied()
    }

    #[test]
    fn a_varint_reads_back_as_it_was_written() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut buffer = Vec::new();
            put_varint(&mut buffer, value);
            let mut rest = buffer.as_slice();
            assert_eq!(take_varint(&mut rest), Some(value));
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn what_is_cut_or_holds_more_than_64_bits_is_no_varint() {
        let mut longest = Vec::new();
        put_varint(&mut longest, u64::MAX);
        for cut in 0..longest.len() {
            assert_eq!(take_varint(&mut &longest[..cut]), None, "cut at {cut}");
        }
        for last in 2..=0x7F {
            longest[9] = last;
            assert_eq!(take_varint(&mut longest.as_slice()), None, "last byte {last}");
        }
        assert_eq!(take_varint(&mut [0x80u8; 11].as_slice()), None);
    }

    #[test]
    fn a_number_is_read_and_put_where_all_its_bytes_are_and_nowhere_else() {
        let bytes = *b"0123456789";
        for at in (0..=bytes.len() + 1).chain([usize::MAX - 7, usize::MAX]) {
            let rest = bytes.get(at..).unwrap_or_default();
            assert_eq!(u16_at(&bytes, at), first(rest).map(u16::from_le_bytes), "at {at}");
            assert_eq!(u32_at(&bytes, at), first(rest).map(u32::from_le_bytes), "at {at}");
            assert_eq!(u64_at(&bytes, at), first(rest).map(u64::from_le_bytes), "at {at}");
            assert_eq!(i64_at(&bytes, at), first(rest).map(i64::from_le_bytes), "at {at}");
            let mut buffer = bytes;
            put(&mut buffer, at, b"abc");
            let wanted = if rest.len() >= 3 { Some(*b"abc") } else { first(rest) };
            assert_eq!(array_at(&buffer, at), wanted, "at {at}");
            let changed = buffer.iter().zip(&bytes).filter(|(a, b)| a != b).count();
            assert_eq!(changed, if rest.len() >= 3 { 3 } else { 0 }, "at {at}");
        }
    }
}
