//! The records: text that does not compress, the same for all.

/// Sizes in bytes, and what they are called.
pub(crate) const SIZES: [(&str, usize); 5] =
    [("128 B", 128), ("1 KB", 1024), ("3.5 KB", 3500), ("16 KB", 16 << 10), ("64 KB", 64 << 10)];

/// Text of that many bytes: 64 letters, drawn anew (an xorshift generator), six bits a byte.
pub(crate) fn text(bytes: usize) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 .";
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let place = usize::try_from(state >> 58).unwrap_or_default();
        LETTERS.get(place).map_or(' ', |byte| char::from(*byte))
    };
    std::iter::repeat_with(letter).take(bytes).collect()
}

/// Numbers from 0 on in an order that is another one each time.
pub(crate) fn shuffled(count: usize, state: &mut u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        *state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let other = usize::try_from(*state >> 33).unwrap_or_default() % (last + 1);
        order.swap(last, other);
    }
    order
}

/// What a size is called.
pub(crate) fn name(bytes: usize) -> String {
    let known = SIZES.iter().find(|(_, size)| *size == bytes);
    known.map_or_else(|| format!("{bytes} B"), |(name, _)| (*name).to_owned())
}
