//! A set of slots: which episodes of a space a filter lets through.
//!
//! A slot is an episode's number within its space's index: small, dense, and given again after
//! the episode is gone.

const WORD_BITS: u32 = u64::BITS;

/// A set of slots that knows its size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bits {
    words: Vec<u64>,
    ones: usize,
}

impl Bits {
    /// The set of all slots below `end`.
    #[must_use]
    pub fn below(end: u32) -> Self {
        (0..end).collect()
    }

    /// Whether a slot is in it.
    #[must_use]
    pub fn contains(&self, slot: u32) -> bool {
        self.words.get(word(slot)).is_some_and(|bits| bits & mask(slot) != 0)
    }

    /// Puts a slot in; says whether it is new.
    pub fn insert(&mut self, slot: u32) -> bool {
        if self.words.len() <= word(slot) {
            self.words.resize(word(slot) + 1, 0);
        }
        let Some(bits) = self.words.get_mut(word(slot)) else { return false };
        let new = *bits & mask(slot) == 0;
        *bits |= mask(slot);
        self.ones += usize::from(new);
        new
    }

    /// Takes a slot out; says whether it was there.
    pub fn remove(&mut self, slot: u32) -> bool {
        let Some(bits) = self.words.get_mut(word(slot)) else { return false };
        let was = *bits & mask(slot) != 0;
        *bits &= !mask(slot);
        self.ones -= usize::from(was);
        was
    }

    /// Keeps what is in both.
    pub fn keep(&mut self, other: &Self) {
        self.words.truncate(other.words.len());
        for (mine, theirs) in self.words.iter_mut().zip(&other.words) {
            *mine &= theirs;
        }
        self.ones = self.words.iter().map(|bits| bits.count_ones() as usize).sum();
    }

    /// How many slots are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ones
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ones == 0
    }

    /// The slots, rising.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words().flat_map(|(first, bits)| {
            let mut left = bits;
            std::iter::from_fn(move || {
                let at = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(first + at)
            })
        })
    }

    /// The slots by 64: the first that a word tells of, and the word, its lowest bit for that one.
    pub fn words(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        (0..).zip(&self.words).map(|(word, &bits)| (word * WORD_BITS, bits))
    }
}

impl FromIterator<u32> for Bits {
    fn from_iter<I: IntoIterator<Item = u32>>(slots: I) -> Self {
        let mut bits = Self::default();
        for slot in slots {
            bits.insert(slot);
        }
        bits
    }
}

const fn word(slot: u32) -> usize {
    (slot / WORD_BITS) as usize
}

const fn mask(slot: u32) -> u64 {
    1 << (slot % WORD_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_says_what_is_in_it() {
        let mut bits: Bits = [3, 64, 200, 3].into_iter().collect();
        assert_eq!((bits.len(), bits.iter().collect::<Vec<_>>()), (3, vec![3, 64, 200]));
        assert!(bits.remove(64) && !bits.remove(64) && !bits.remove(5_000));
        assert!(bits.insert(65) && !bits.insert(65) && bits.contains(65) && !bits.contains(66));
        bits.keep(&Bits::below(66));
        assert_eq!((bits.len(), bits.iter().collect::<Vec<_>>()), (2, vec![3, 65]));
        bits.keep(&Bits::default());
        assert!(bits.is_empty() && bits.iter().next().is_none());
    }
}
