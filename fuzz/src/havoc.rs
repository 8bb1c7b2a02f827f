//! Inputs without a guide: mutations of known ones, the same for the same seed.

/// `SplitMix64`.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next word.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = self.0;
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, 0 where that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let word = usize::try_from(self.word() >> 32).unwrap_or(0);
        word.checked_rem(bound).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.word().to_le_bytes()[0]
    }
}

/// Bytes that decide more often than others.
const TELLING: [u8; 8] = [0, 1, 0x7F, 0x80, 0xFF, b'"', b'{', b'-'];

/// An input near one of `known`, or of random bytes.
pub fn input(random: &mut Random, known: &[Vec<u8>], bytes_max: usize) -> Vec<u8> {
    let mut input = match known.get(random.below(known.len() + 1)) {
        Some(input) => input.clone(),
        None => (0..random.below(256)).map(|_| random.byte()).collect(),
    };
    for _ in 0..=random.below(6) {
        mutate(random, &mut input, known);
    }
    input.truncate(bytes_max);
    input
}

fn mutate(random: &mut Random, input: &mut Vec<u8>, known: &[Vec<u8>]) {
    let at = random.below(input.len());
    let end = (at + random.below(64)).min(input.len());
    match random.below(7) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        1 => {
            let telling = TELLING.get(random.below(16)).copied();
            let new = telling.unwrap_or_else(|| random.byte());
            if let Some(byte) = input.get_mut(at) {
                *byte = new;
            }
        }
        2 => drop(input.drain(at..end)),
        3 => {
            let again = input.get(at..end).unwrap_or_default().to_vec();
            let to = random.below(input.len() + 1);
            input.splice(to..to, again);
        }
        4 => {
            let new: Vec<u8> = (0..random.below(16)).map(|_| random.byte()).collect();
            input.splice(at..at, new);
        }
        5 => input.truncate(at),
        _ => {
            let other = known.get(random.below(known.len())).map_or(&[][..], Vec::as_slice);
            let from = random.below(other.len());
            input.truncate(at);
            input.extend_from_slice(other.get(from..).unwrap_or_default());
        }
    }
}
