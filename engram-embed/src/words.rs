//! A text's words, as BERT's uncased models cut them.
//!
//! Control characters go, white space parts words, ideographs and punctuation are words of their
//! own, letters lose their accents and become lower case. This is what `BertNormalizer` and
//! `BertPreTokenizer` of Hugging Face's tokenizers do; `tests/golden.jsonl` compares with them.
//!
//! Deliberately absent: special tokens. `[CLS]` in a text is three words like any other.

use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

/// Calls `see` with each word of a text, in order.
pub(crate) fn for_each(text: &str, mut see: impl FnMut(&str)) {
    let mut word = String::new();
    if text.is_ascii() {
        // Most texts. What follows comes to the same, and is several times slower.
        for char in text.chars() {
            if !is_dropped(char) {
                push(char.to_ascii_lowercase(), &mut word, &mut see);
            }
        }
    } else {
        let clean = text.chars().filter(|char| !is_dropped(*char)).flat_map(|char| {
            let apart = is_ideograph(char).then_some(' ');
            apart.into_iter().chain([char]).chain(apart)
        });
        let plain = clean.nfd().filter(|char| !is_accent(*char));
        for char in plain.flat_map(char::to_lowercase) {
            push(char, &mut word, &mut see);
        }
    }
    end(&mut word, &mut see);
}

/// One more character of the text, cleaned.
fn push(char: char, word: &mut String, see: &mut impl FnMut(&str)) {
    if char.is_whitespace() {
        end(word, see);
    } else if is_punctuation(char) {
        end(word, see);
        see(char.encode_utf8(&mut [0; 4]));
    } else {
        word.push(char);
    }
}

/// The word is complete, if there is one.
fn end(word: &mut String, see: &mut impl FnMut(&str)) {
    if !word.is_empty() {
        see(word);
        word.clear();
    }
}

/// Characters that are as good as not there.
fn is_dropped(char: char) -> bool {
    if char.is_ascii() {
        return char.is_ascii_control() && !matches!(char, '\t' | '\n' | '\r');
    }
    char == '\u{fffd}' || char.general_category_group() == GeneralCategoryGroup::Other
}

fn is_accent(char: char) -> bool {
    !char.is_ascii() && char.general_category() == GeneralCategory::NonspacingMark
}

fn is_punctuation(char: char) -> bool {
    if char.is_ascii() {
        return char.is_ascii_punctuation();
    }
    char.general_category_group() == GeneralCategoryGroup::Punctuation
}

/// Chinese characters, wherever they are used. Not kana or hangul: those make words.
fn is_ideograph(char: char) -> bool {
    matches!(char,
        '\u{4e00}'..='\u{9fff}'
        | '\u{3400}'..='\u{4dbf}'
        | '\u{20000}'..='\u{2a6df}'
        | '\u{2a700}'..='\u{2ceaf}'
        | '\u{f900}'..='\u{faff}'
        | '\u{2f800}'..='\u{2fa1f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        for_each(text, |word| found.push(word.to_owned()));
        found
    }

    #[test]
    fn words_are_lower_case_without_accents() {
        assert_eq!(
            words("Crème BRÛLÉE, à la maison!"),
            ["creme", "brulee", ",", "a", "la", "maison", "!"]
        );
        assert_eq!(words("don't"), ["don", "'", "t"]);
    }

    #[test]
    fn ideographs_are_words_and_kana_are_not() {
        assert_eq!(words("東京です"), ["東", "京", "てす"]);
    }

    #[test]
    fn control_characters_are_not_there() {
        assert_eq!(words("a\u{0}b\u{200b}c\u{fffd}d\te\u{2028}f"), ["abcd", "e", "f"]);
    }

    #[test]
    fn both_ways_through_a_text_come_to_the_same() {
        for code in 0..128_u8 {
            let text = format!("aB{}Cd", char::from(code));
            let mut long = words(&format!("{text} ä"));
            assert_eq!(long.pop().as_deref(), Some("a"));
            assert_eq!(words(&text), long, "{code:#x}");
        }
    }
}
