//! Text to words: what the text index keeps of a text, and what it looks for of a query.
//!
//! One pass, one character at a time, no tables of our own beyond a few ranges. A character is
//! taken apart (NFKD), lower-cased, and loses its accents; what is left is put together into words:
//!
//! - Letters and digits make a word; everything else ends it. So `e-mail` is two words,
//!   `tom@example.com` three, `snake_case` two, and a full stop without a space after it ends a
//!   word, as chat needs it. A query is cut the same way, and a phrase finds the parts in a row.
//! - `3.14`, `1,000` and `1.2.3` are one word each, as written. `don't` is `dont`; every other
//!   apostrophe cuts: `hotel's` is `hotel` and `s`, `l'hôtel` is `l` and `hotel`.
//! - Scripts that put no spaces between words (Han, kana, Thai, Lao, Khmer, Myanmar), and Hangul,
//!   whose particles cling, give overlapping pairs, and the last character alone. So each
//!   character begins exactly one term, and a single one is found as the beginning of a pair.
//! - Each emoji is a word. Skin tones and what joins emoji are dropped.
//! - Arabic loses tatweel and harakat, its alefs become one, its digits become ASCII's.
//! - й stays a letter of its own; ё becomes е.
//!
//! [`stem`] then takes endings off: Snowball's English for words of ASCII letters, Russian for
//! Cyrillic, light10 for Arabic. The script chooses, not a guess at the language: a German word
//! loses English endings, in the text and in the query alike. Deliberately absent: stop words
//! (a word that is everywhere weighs next to nothing, and skipping it is the search's business),
//! dictionaries, synonyms, and the word boundaries of UAX #29, which keep `night.The` and
//! `example.com` whole and drop emoji.

mod arabic;

use std::borrow::Cow;

use frostem::{Algorithm, Stemmer};
use unicode_normalization::char::{canonical_combining_class, compose, decompose_compatible};

/// A longer word is cut: what follows of it is not looked at, in texts and queries alike.
pub const WORD_CHARS_MAX: usize = 64;

/// Letters of Arabic, as they are after folding.
const ARABIC_FIRST: char = '\u{621}';
const ARABIC_LAST: char = '\u{64a}';

const BREVE: char = '\u{306}';

/// What a piece of a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A word, or a pair of characters of a script without spaces.
    Word,
    /// A word right before a `*`.
    Prefix,
    /// The last character of a run of such a script; whether it is the only one.
    Tail {
        /// No pair goes before it.
        alone: bool,
    },
}

/// Calls `sink` with each word of a text in order: folded, not yet stemmed.
pub fn each(text: &str, sink: impl FnMut(&str, Kind)) {
    let mut machine =
        Machine { word: String::new(), chars: 0, joiner: None, before: None, now: None, sink };
    let mut rest = text;
    loop {
        // What most texts are made of goes word by word.
        let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let (letters, others) = rest.split_at(rest.bytes().take_while(plain).count());
        machine.letters(letters);
        let mut chars = others.chars();
        let Some(c) = chars.next() else { break };
        rest = chars.as_str();
        match c {
            'A'..='Z' => machine.letter(c.to_ascii_lowercase()),
            _ if c.is_ascii() => machine.sign(c),
            // Hangul syllables would be taken apart only to be put together again.
            '\u{ac00}'..='\u{d7a3}' => machine.run(c),
            _ => decompose_compatible(c, |part| {
                for small in part.to_lowercase() {
                    machine.take(small);
                }
            }),
        }
    }
    machine.end();
}

/// A word without its ending.
#[must_use]
pub fn stem(word: &str) -> Cow<'_, str> {
    let algorithm = match word.chars().next() {
        Some('a'..='z') if word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_lowercase()) => {
            Algorithm::English
        }
        Some('\u{430}'..='\u{45f}') => Algorithm::Russian,
        Some(ARABIC_FIRST..=ARABIC_LAST) => return Cow::Borrowed(arabic::stem(word)),
        _ => return Cow::Borrowed(word),
    };
    let stem = Stemmer::new(algorithm).stem(word);
    // Nothing may be left of a word that is all ending.
    if stem.is_empty() { Cow::Borrowed(word) } else { stem }
}

/// The beginnings of stems of words that begin with `start`: it, and where it begins with the Arabic
/// article, what follows.
pub(super) fn begins(start: &str) -> impl Iterator<Item = &str> {
    let arabic = start.starts_with(|first| (ARABIC_FIRST..=ARABIC_LAST).contains(&first));
    let bare = if arabic { arabic::without_article(start) } else { start };
    std::iter::once(start).chain((bare != start).then_some(bare))
}

/// Stems of words that begin with `start` but whose stems do not: `experien` is of `experi`,
/// `runni` of `run`. It is completed by the endings that the English stemmer takes off; in other
/// scripts it may be a whole word.
pub(super) fn stems_before(start: &str) -> impl Iterator<Item = String> + '_ {
    const ENDINGS: [&str; 32] = [
        "s", "es", "ed", "er", "ers", "ing", "ings", "ly", "y", "ies", "ied", "ion", "ions",
        "ation", "ations", "ment", "ments", "ness", "ence", "ences", "ance", "ances", "able",
        "ible", "ful", "fully", "ity", "ive", "ous", "ize", "al", "e",
    ];
    let plain = start.len() > 2 && start.bytes().all(|byte| byte.is_ascii_lowercase());
    let whole = std::iter::once(start.to_owned());
    let grown = ENDINGS.iter().flat_map(move |ending| {
        let cuts = 1..=ending.len().min(start.len() - usize::from(!start.is_empty()));
        cuts.filter(move |&cut| start.ends_with(&ending[..cut]))
            .map(move |cut| format!("{start}{}", &ending[cut..]))
    });
    let words = whole.chain(grown.filter(move |_| plain));
    words.map(|word| stem(&word).into_owned()).filter(move |stem| !stem.starts_with(start))
}

struct Machine<F> {
    /// The word so far, and of how many characters it is.
    word: String,
    chars: usize,
    /// A sign after the word that joins it with what follows, perhaps.
    joiner: Option<char>,
    /// The last two characters of a run without spaces. The later one may still grow a mark.
    before: Option<char>,
    now: Option<char>,
    sink: F,
}

impl<F: FnMut(&str, Kind)> Machine<F> {
    /// One character of a text taken apart and lower-cased.
    fn take(&mut self, c: char) {
        match c {
            _ if c.is_ascii() => {
                if c.is_ascii_alphanumeric() {
                    self.letter(c);
                } else {
                    self.sign(c);
                }
            }
            BREVE if self.word.ends_with('и') => self.letter(c),
            _ if is_dropped(c) => {}
            '\u{2019}' | '\u{2bc}' => self.sign('\''),
            '\u{660}'..='\u{669}' | '\u{6f0}'..='\u{6f9}' => {
                // Both blocks have their zero at a multiple of 16.
                self.letter(char::from_digit(u32::from(c) & 15, 10).unwrap_or(c));
            }
            _ if is_unspaced(c) => self.run(c),
            _ if is_emoji(c) => {
                self.end();
                (self.sink)(c.encode_utf8(&mut [0; 4]), Kind::Word);
            }
            _ if c.is_alphanumeric() => match respelled(c) {
                Some(letters) => letters.chars().for_each(|letter| self.letter(letter)),
                None => self.letter(c),
            },
            // Marks that are no accents, such as a virama, are part of a word and begin none.
            _ if canonical_combining_class(c) != 0 && !self.word.is_empty() => self.letter(c),
            _ => self.end(),
        }
    }

    fn letter(&mut self, c: char) {
        if self.now.is_some() {
            self.end();
        }
        if let Some(joiner) = self.joiner.take() {
            match (self.word.bytes().next_back(), joiner) {
                (Some(b'n'), '\'') if c == 't' => {}
                (Some(b'0'..=b'9'), '.' | ',') if c.is_ascii_digit() => self.push(joiner),
                _ => self.end(),
            }
        }
        if !c.is_ascii()
            && let Some(last) = self.word.chars().next_back()
            && let Some(whole) = compose(last, c)
        {
            self.word.pop();
            self.word.push(whole);
        } else {
            self.push(c);
        }
    }

    /// Letters and digits of ASCII in a row.
    fn letters(&mut self, letters: &str) {
        let Some(first) = letters.chars().next() else { return };
        self.letter(first);
        // Nothing waits before the others, and they change nothing that is there.
        let room = (WORD_CHARS_MAX - self.chars).min(letters.len() - 1);
        self.word.push_str(&letters[1..=room]);
        self.chars += room;
    }

    fn push(&mut self, c: char) {
        if self.chars < WORD_CHARS_MAX {
            self.word.push(c);
            self.chars += 1;
        }
    }

    /// An ASCII character that is no letter.
    fn sign(&mut self, c: char) {
        match c {
            '\'' | '.' | ',' if self.joiner.is_none() && !self.word.is_empty() => {
                self.joiner = Some(c);
            }
            '*' if self.joiner.is_none() && !self.word.is_empty() => self.end_word(Kind::Prefix),
            _ => self.end(),
        }
    }

    /// A character of a script without spaces.
    fn run(&mut self, c: char) {
        if !self.word.is_empty() {
            self.end();
        }
        if let Some(now) = self.now
            && let Some(whole) = compose(now, c)
        {
            self.now = Some(whole);
            return;
        }
        self.pair();
        self.before = self.now.replace(c);
    }

    fn pair(&mut self) {
        if let (Some(before), Some(now)) = (self.before, self.now) {
            self.word.extend([before, now]);
            (self.sink)(&self.word, Kind::Word);
            self.word.clear();
        }
    }

    fn end_word(&mut self, kind: Kind) {
        (self.sink)(&self.word, kind);
        self.word.clear();
        self.chars = 0;
    }

    fn end(&mut self) {
        self.joiner = None;
        if !self.word.is_empty() {
            self.end_word(Kind::Word);
        }
        if self.now.is_some() {
            self.pair();
            let alone = self.before.take().is_none();
            if let Some(now) = self.now.take() {
                (self.sink)(now.encode_utf8(&mut [0; 4]), Kind::Tail { alone });
            }
        }
    }
}

/// Accents, points, harakat, and signs that are not seen.
fn is_dropped(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{300}'..='\u{36f}' | '\u{591}'..='\u{5bd}' | '\u{5bf}' | '\u{5c1}'..='\u{5c2}'
        | '\u{5c4}'..='\u{5c5}' | '\u{5c7}' | '\u{610}'..='\u{61a}' | '\u{640}'
        | '\u{64b}'..='\u{65f}' | '\u{670}' | '\u{6d6}'..='\u{6dc}' | '\u{6df}'..='\u{6e8}'
        | '\u{6ea}'..='\u{6ed}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}'
        | '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}'
        | '\u{20d0}'..='\u{20ff}' | '\u{fe00}'..='\u{fe0f}' | '\u{fe20}'..='\u{fe2f}' | '\u{feff}'
        | '\u{1f3fb}'..='\u{1f3ff}' | '\u{e0020}'..='\u{e007f}' | '\u{e0100}'..='\u{e01ef}')
}

/// Thai, Lao, Myanmar, Hangul, Khmer, kana, Bopomofo, Han; and the letters that make flags, which
/// come in pairs.
fn is_unspaced(c: char) -> bool {
    matches!(c,
        '\u{e01}'..='\u{e3a}' | '\u{e40}'..='\u{e4e}' | '\u{e81}'..='\u{ece}'
        | '\u{edc}'..='\u{edf}' | '\u{1000}'..='\u{103f}' | '\u{1100}'..='\u{11ff}'
        | '\u{1780}'..='\u{17d3}' | '\u{3005}'..='\u{3007}' | '\u{3041}'..='\u{309f}'
        | '\u{30a1}'..='\u{30fa}' | '\u{30fc}'..='\u{30ff}' | '\u{3105}'..='\u{312f}'
        | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{a960}'..='\u{a97c}' | '\u{ac00}'..='\u{d7a3}' | '\u{d7b0}'..='\u{d7fb}'
        | '\u{f900}'..='\u{faff}' | '\u{1b000}'..='\u{1b16f}' | '\u{1f1e6}'..='\u{1f1ff}'
        | '\u{20000}'..='\u{3ffff}')
}

fn is_emoji(c: char) -> bool {
    matches!(c,
        '\u{231a}'..='\u{23ff}' | '\u{2600}'..='\u{27bf}' | '\u{2b05}'..='\u{2b55}'
        | '\u{1f000}'..='\u{1f1e5}' | '\u{1f200}'..='\u{1faff}')
}

/// Letters that are a variant of others, or another's spelling, without Unicode saying so.
fn respelled(c: char) -> Option<&'static str> {
    Some(match c {
        'ß' => "ss",
        'æ' => "ae",
        'œ' => "oe",
        'þ' => "th",
        'ø' => "o",
        'ł' => "l",
        'đ' | 'ð' => "d",
        'ħ' => "h",
        'ı' => "i",
        'ς' => "σ",
        // Alef wasla; alef maqsura and the Persian yeh; the Persian kaf.
        '\u{671}' => "\u{627}",
        '\u{649}' | '\u{6cc}' => "\u{64a}",
        '\u{6a9}' => "\u{643}",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<String> {
        let mut words = Vec::new();
        each(text, |word, _| words.push(word.to_owned()));
        words
    }

    #[track_caller]
    fn check(text: &str, words: &[&str]) {
        assert_eq!(cut(text), words, "{text}");
    }

    #[test]
    fn words_are_cut_as_people_look_for_them() {
        check("The quick, brown FOX.", &["the", "quick", "brown", "fox"]);
        check("late at night.The end", &["late", "at", "night", "the", "end"]);
        check("write to Tom_S@example.com!", &["write", "to", "tom", "s", "example", "com"]);
        check("e-mail well-known 2nd b2b", &["e", "mail", "well", "known", "2nd", "b2b"]);
        check("3.14, 1,000. v1.2.3 at 10:30", &["3.14", "1,000", "v1.2.3", "at", "10", "30"]);
        check(
            "don't isn’t hotel's L'Hôtel 'quoted'",
            &["dont", "isnt", "hotel", "s", "l", "hotel", "quoted"],
        );
        check("", &[]);
        check(" .,'*\"-- ", &[]);
        check("1..2 3., 4 a.'b", &["1", "2", "3", "4", "a", "b"]);
    }

    #[test]
    fn case_accents_and_width_do_not_matter() {
        check("CAFÉ cafe\u{301} Ünïcödé", &["cafe", "cafe", "unicode"]);
        check(
            "Straße STRASSE Øre Łódź ﬁne İstanbul",
            &["strasse", "strasse", "ore", "lodz", "fine", "istanbul"],
        );
        check("Ｈｅｌｌｏ １２", &["hello", "12"]);
        check("Ёлка ёлка елка Мой Мои\u{306}", &["елка", "елка", "елка", "мой", "мой"]);
        check("ΟΔΟΣ οδός", &["οδοσ", "οδοσ"]);
        check("soft\u{ad}hyphen zero\u{200d}width", &["softhyphen", "zerowidth"]);
    }

    #[test]
    fn runs_without_spaces_are_pairs_and_a_tail() {
        check("東京都", &["東京", "京都", "都"]);
        check("猫", &["猫"]);
        check("iPhoneを買う", &["iphone", "を買", "買う", "う"]);
        check("か\u{3099}く ｶﾞｸ", &["がく", "く", "ガク", "ク"]);
        check("학교에서", &["학교", "교에", "에서", "서"]);
        assert_eq!(cut("한글"), cut("\u{1112}\u{1161}\u{11ab}\u{1100}\u{1173}\u{11af}"));
        check("ดี", &["ด\u{e35}", "\u{e35}"]);
        check("🇫🇷 👍🏽🎉", &["🇫🇷", "🇷", "👍", "🎉"]);
    }

    #[test]
    fn arabic_is_unified_and_hindi_keeps_its_vowels() {
        assert_eq!(cut("كِتَابٌ كتـــاب"), ["كتاب", "كتاب"]);
        assert_eq!(cut("أحمد إحمد آحمد ٱحمد"), ["احمد"; 4]);
        assert_eq!(cut("١٢٣ ۱۲۳"), ["123", "123"]);
        assert_ne!(cut("कि"), cut("का"));
        assert_eq!(cut("हिन्दी भाषा").len(), 2);
    }

    #[test]
    fn words_of_a_kind_have_one_stem() {
        for (one, other) in [
            ("hotels", "hotel"),
            ("running", "run"),
            ("книги", "книга"),
            ("الكتاب", "كتاب"),
            ("مكتبه", "مكتبة"),
        ] {
            assert_eq!(stem(one), stem(other));
        }
        for word in ["a", "3d", "猫", "がく", "émile"] {
            assert_eq!(stem(word), word);
        }
        assert!(stems_before("experien").any(|stem| stem == "experi"));
        assert!(stems_before("runni").any(|stem| stem == "run"));
        assert!(stems_before("hotels").any(|stem| stem == "hotel"));
        assert!(stems_before("гостиница").any(|stem| stem == "гостиниц"));
        assert_eq!(stems_before("").count() + stems_before("猫").count(), 0);
        assert_eq!(begins("القاه").collect::<Vec<_>>(), ["القاه", "قاه"]);
        assert_eq!(begins("hot").collect::<Vec<_>>(), ["hot"]);
    }

    #[test]
    fn a_star_makes_a_prefix_and_tails_are_told() {
        let mut kinds = Vec::new();
        each("hot* is* it * 東京 猫", |word, kind| kinds.push((word.to_owned(), kind)));
        let kinds: Vec<_> = kinds.iter().map(|(word, kind)| (word.as_str(), *kind)).collect();
        assert_eq!(
            kinds,
            [
                ("hot", Kind::Prefix),
                ("is", Kind::Prefix),
                ("it", Kind::Word),
                ("東京", Kind::Word),
                ("京", Kind::Tail { alone: false }),
                ("猫", Kind::Tail { alone: true }),
            ]
        );
    }

    #[test]
    fn a_long_word_is_cut() {
        check(&"x".repeat(1 << 20), &[&"x".repeat(WORD_CHARS_MAX)]);
        assert_eq!(cut(&"é".repeat(1_000))[0].len(), WORD_CHARS_MAX);
        let mixed = format!("{}abcd", "é".repeat(WORD_CHARS_MAX - 2));
        assert_eq!(cut(&mixed), [format!("{}ab", "e".repeat(WORD_CHARS_MAX - 2))]);
        assert!(cut(&"\u{301}".repeat(1 << 16)).is_empty());
        assert_eq!(cut(&"猫".repeat(1 << 16)).len(), 1 << 16);
    }
}
