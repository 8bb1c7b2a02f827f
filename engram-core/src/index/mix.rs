//! Numbers as if drawn at random, the same everywhere.

/// The next one of a row: `SplitMix64`, of Steele, Lea, Flood: Fast splittable pseudorandom number
/// generators, 2014.
pub(crate) fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut hash = *state;
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    hash ^ (hash >> 31)
}
