//! Which term a word of late was: saves the stemmer and the dictionary nine words of ten.
//!
//! A word of at most [`KEY`] bytes is kept in the one place that its hash names. It is emptied
//! whenever a text is removed, so it holds no word that was forgotten. Whoever makes words meet
//! in one place on purpose only wins what there would be without it.

use std::mem::size_of;

/// Bytes of a word that is kept at most.
const KEY: usize = 16;
const PLACES_MIN: usize = 64;
const PLACES_MAX: usize = 4_096;

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// The word, filled up with zeros, which are in no word. 0: nobody.
    word: [u64; 2],
    id: u32,
}

#[derive(Debug, Default)]
pub(super) struct Recent {
    /// None, or a power of two.
    places: Vec<Place>,
    used: bool,
}

fn key(word: &str) -> Option<[u64; 2]> {
    let mut bytes = [0; KEY];
    bytes.get_mut(..word.len())?.copy_from_slice(word.as_bytes());
    let [low, high] = bytes.as_chunks::<8>().0 else { return None };
    Some([u64::from_le_bytes(*low), u64::from_le_bytes(*high)])
}

impl Recent {
    fn place([low, high]: [u64; 2], places: usize) -> usize {
        let mixed = (low ^ high.rotate_left(29)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> 40) as usize & (places - 1)
    }

    pub(super) fn get(&self, word: &str) -> Option<u32> {
        let key = key(word).filter(|_| self.used)?;
        let place = self.places.get(Self::place(key, self.places.len()))?;
        (place.word == key).then_some(place.id)
    }

    /// Keeps a word; it grows with the dictionary.
    pub(super) fn put(&mut self, word: &str, id: u32, terms: usize) {
        let Some(key) = key(word) else { return };
        let places = self.places.len();
        if places < terms && places < PLACES_MAX {
            let grown = (2 * places).clamp(PLACES_MIN, PLACES_MAX);
            for old in std::mem::replace(&mut self.places, vec![Place::default(); grown]) {
                if old.word != [0; 2] {
                    self.places[Self::place(old.word, grown)] = old;
                }
            }
        }
        let places = self.places.len();
        if let Some(place) = self.places.get_mut(Self::place(key, places.max(1))) {
            *place = Place { word: key, id };
            self.used = true;
        }
    }

    pub(super) fn clear(&mut self) {
        if self.used {
            // Given back, too: who removes many texts may be left with few.
            self.places = Vec::new();
            self.used = false;
        }
    }

    pub(super) fn bytes(&self) -> usize {
        super::heap(self.places.capacity() * size_of::<Place>())
    }
}
