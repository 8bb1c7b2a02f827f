//! Engram's built-in text embedder: text in, a vector of meaning out. No network, no setup.
//!
//! A text is cut into word pieces, each piece has a row in a table, and the text's vector is the
//! weighted sum of its rows, brought to length 1. Texts about the same thing then point the same
//! way: the inner product of two vectors is their cosine similarity.
//!
//! - The rows are what the transformer all-MiniLM-L6-v2 says of each piece alone, reduced from 384
//!   to [`DIMENSION`] numbers by PCA. The idea of such a table is model2vec's (Minish Lab, 2024).
//! - The weights are those of smooth inverse frequency (Arora, Liang and Ma, "A Simple but
//!   Tough-to-Beat Baseline for Sentence Embeddings", 2017): a / (a + p) for a piece that makes up
//!   the share p of a corpus of chats. They are part of the table.
//!
//! `scripts/embedder/` makes the table, and `docs/decisions/0016-the-built-in-embedder.md` says
//! what it is worth beside the whole model. [`table`] describes its bytes.
//!
//! ```
//! let embedder = engram_embed::Embedder::built_in()?;
//! let of = |text| embedder.embed(text).expect("known words");
//! let near = |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
//!
//! let question = of("Which animals live in our house?");
//! assert!(near(&question, &of("We have a dog and two cats.")) > near(&question, &of("I paid the rent.")));
//! assert_eq!(embedder.embed("  \n"), None);
//! # Ok::<(), engram_embed::TableError>(())
//! ```
//!
//! Deliberately absent: word order, any state, any option, and languages other than English. The
//! vocabulary has letters of many scripts, so other texts have vectors, but poor ones.

use std::sync::LazyLock;

mod pieces;
pub mod table;
mod words;

pub use table::TableError;

use pieces::Pieces;
use table::Table;

/// How many numbers a vector has.
pub const DIMENSION: usize = 256;

/// The name of the model that the vectors come from. Vectors of two names must never be compared;
/// whatever changes a vector, be it the table or the tokenizer, changes the name.
pub const MODEL: &str = "minilm-l6-static-256-v1";

/// The table that this crate carries.
static BUILT_IN: LazyLock<Result<Embedder, TableError>> =
    LazyLock::new(|| Embedder::read(include_bytes!("../assets/minilm-l6-static-256-v1.bin")));

/// A table, ready to embed texts. Any number of threads may use one at once.
#[derive(Debug)]
pub struct Embedder {
    table: Table<'static>,
    pieces: Pieces<'static>,
}

impl Embedder {
    /// The embedder that this crate carries. The first call checks and reads the table, in a few
    /// milliseconds; all later ones give the same answer at once.
    ///
    /// # Errors
    /// [`TableError`] when the table's bytes are not those that were compiled in: the file of the
    /// program is damaged.
    pub fn built_in() -> Result<&'static Self, TableError> {
        BUILT_IN.as_ref().map_err(|error| *error)
    }

    fn read(bytes: &'static [u8]) -> Result<Self, TableError> {
        let table = Table::read(bytes)?;
        let pieces = Pieces::new(table.vocabulary());
        Ok(Self { table, pieces })
    }

    /// The vector of a text: [`DIMENSION`] numbers, of length 1. `None` when no piece of the text
    /// is known, so that it has no direction: an empty text, or one of nothing but emoji, say.
    ///
    /// The same text gives the same vector. The time grows linearly with the text; there is no
    /// limit to its length, but the vector of a long one is vague.
    #[must_use]
    pub fn embed(&self, text: &str) -> Option<Vec<f32>> {
        let mut sum = vec![0.0; DIMENSION];
        words::for_each(text, |word| {
            self.pieces.of_word(word, |piece| self.table.add_row(piece, &mut sum));
        });
        let length = sum.iter().map(|x| x * x).sum::<f32>().sqrt();
        if !length.is_normal() {
            return None;
        }
        for x in &mut sum {
            *x /= length;
        }
        Some(sum)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const UNKNOWN: u64 = 100;

    fn embedder() -> &'static Embedder {
        Embedder::built_in().expect("the table is sound")
    }

    fn pieces(text: &str) -> Vec<u64> {
        let mut found = Vec::new();
        words::for_each(text, |word| {
            embedder().pieces.of_word(word, |piece| found.push(u64::from(piece)));
        });
        found
    }

    fn similarity(a: &str, b: &str) -> f32 {
        let of = |text| embedder().embed(text).expect("known words");
        of(a).iter().zip(of(b)).map(|(a, b)| a * b).sum()
    }

    /// `scripts/embedder/golden.py` asked the model's own tokenizer.
    #[test]
    fn pieces_are_those_of_the_reference_without_the_unknown() {
        let mut texts = 0;
        for line in include_str!("../tests/golden.jsonl").lines() {
            let line: Value = serde_json::from_str(line).expect("JSON");
            let text = line["text"].as_str().expect("a text");
            let ids = line["ids"].as_array().expect("ids").iter().filter_map(Value::as_u64);
            let known: Vec<u64> = ids.filter(|id| *id != UNKNOWN).collect();
            assert_eq!(pieces(text), known, "{text:?}");
            texts += 1;
        }
        assert!(texts > 200, "only {texts} texts");
    }

    #[test]
    fn a_vector_has_its_dimension_and_length_1() {
        for text in ["rent", "The train to Utrecht is late again.", "PLAT-482", "東京"] {
            let vector = embedder().embed(text).expect("known words");
            assert_eq!(vector.len(), DIMENSION);
            let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
            assert!((length - 1.0).abs() < 1e-5, "{text}: {length}");
        }
    }

    #[test]
    fn a_text_of_nothing_known_has_no_vector() {
        for text in ["", " \n\t", "\u{0}\u{200b}", "😀😀", "\u{301}", &"a".repeat(101)] {
            assert_eq!(embedder().embed(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_same_meaning_in_other_words_is_nearer_than_other_meanings() {
        for (text, same, other) in [
            ("the dog is ill", "a sick puppy", "the car is broken"),
            ("we moved to a new flat", "our apartment has changed", "the soup was too salty"),
            ("the server crashed", "an outage of the system", "grandmother's birthday party"),
            ("How much is the rent?", "The landlord wants 900 a month.", "The cat sleeps."),
        ] {
            assert!(similarity(text, same) > similarity(text, other) + 0.1, "{text}");
        }
    }

    #[test]
    fn case_accents_and_spaces_do_not_matter() {
        let plain = embedder().embed("a creme brulee in zurich");
        assert_eq!(embedder().embed("  A Crème\nBRÛLÉE in Zürich "), plain);
    }

    #[test]
    fn a_mebibyte_of_anything_is_embedded_or_refused() {
        let size = 1024 * 1024;
        assert!(similarity("hello", &"hello ".repeat(size / 6)) > 0.999);
        assert_eq!(embedder().embed(&"a".repeat(size)), None);
        assert_eq!(embedder().embed(&"\u{301}".repeat(size / 2)), None);
        assert!(embedder().embed(&"!".repeat(size)).is_some());
        assert!(embedder().embed(&"東".repeat(size / 3)).is_some());
    }

    #[test]
    fn any_character_is_taken() {
        for char in (0..=0x0011_0000).filter_map(char::from_u32) {
            let text = format!("a{char}b");
            words::for_each(&text, |word| {
                embedder().pieces.of_word(word, |_| ());
                assert!(!word.is_empty(), "{char:?}");
            });
        }
    }

    #[test]
    fn a_damaged_table_is_refused() {
        let sound = include_bytes!("../assets/minilm-l6-static-256-v1.bin");
        let mut damaged = sound.to_vec();
        damaged[4_000_000] ^= 1;
        let error = Table::read(&damaged).err();
        assert!(matches!(error, Some(TableError::Checksum { .. })), "{error:?}");
    }
}
