//! A word's pieces: the longest one that the vocabulary has, then the longest of the rest, and so
//! on (word pieces: Wu et al., "Google's Neural Machine Translation System", 2016, as BERT does it).
//!
//! Deliberately absent: `[UNK]`. A word that cannot be cut into pieces has none, for the unknown
//! has no meaning.

use std::collections::HashMap;

/// Longer words are not cut, but left out.
const CHARS_MAX: usize = 100;

/// Pieces that begin a word, and those that go on with one (`##` in the vocabulary), each with its
/// number.
#[derive(Debug)]
pub(crate) struct Pieces<'a> {
    first: HashMap<&'a str, u32>,
    next: HashMap<&'a str, u32>,
    bytes_max: usize,
}

impl<'a> Pieces<'a> {
    /// `vocabulary` has one piece a line.
    pub(crate) fn new(vocabulary: &'a str) -> Self {
        let mut pieces = Self { first: HashMap::new(), next: HashMap::new(), bytes_max: 0 };
        pieces.first.reserve(32 * 1024);
        pieces.next.reserve(8 * 1024);
        for (number, piece) in (0..).zip(vocabulary.lines()) {
            let (map, piece) = match piece.strip_prefix("##") {
                // "##" alone begins with a hash sign like any other text.
                Some(rest) if !rest.is_empty() => (&mut pieces.next, rest),
                _ => (&mut pieces.first, piece),
            };
            map.insert(piece, number);
            pieces.bytes_max = pieces.bytes_max.max(piece.len());
        }
        pieces
    }

    /// Calls `see` with the number of each piece of a word; not at all when it has none.
    pub(crate) fn of_word(&self, word: &str, mut see: impl FnMut(u32)) {
        if let Some(piece) = self.first.get(word) {
            return see(*piece);
        }
        let mut found = [0; CHARS_MAX];
        let mut count = 0;
        let mut rest = word;
        while !rest.is_empty() {
            let map = if count == 0 { &self.first } else { &self.next };
            let Some((piece, length)) = self.longest(map, rest) else { return };
            let Some(slot) = found.get_mut(count) else { return };
            *slot = piece;
            count += 1;
            rest = rest.get(length..).unwrap_or_default();
        }
        if word.chars().count() <= CHARS_MAX {
            found.iter().take(count).for_each(|piece| see(*piece));
        }
    }

    /// The longest piece that `rest` begins with, and its length in bytes.
    fn longest(&self, map: &HashMap<&str, u32>, rest: &str) -> Option<(u32, usize)> {
        let most = self.bytes_max.min(rest.len());
        (1..=most).rev().find_map(|length| Some((*map.get(rest.get(..length)?)?, length)))
    }
}
