//! What is asked of the text index, as parsed from what somebody typed.

use std::collections::BTreeMap;

use super::common;
use crate::index::words::{Kind, each, stem};

/// Words of a query that are looked at, those of phrases included; what follows is not.
pub const QUERY_WORDS_MAX: usize = 256;

/// One thing to look for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ask {
    /// A term: folded and stemmed.
    Term(String),
    /// The beginning of a word: folded, not stemmed.
    Prefix(String),
}

/// A question in words.
///
/// - Any of its words may occur; each that does adds to the score, twice if it is asked twice.
///   Words that everybody says (`what`, `did`, `the`) add next to nothing; those that more than
///   16,384 texts have are looked for only in quotes, or when there is no other.
/// - `"cheap hotel"`: what stands in quotes must occur so, word after word, the endings aside.
///   Its words score as the others do. Several phrases must all occur.
/// - `hot*`: any word that begins so. They count as one word: occurrences are added up. Words
///   are kept without their endings; where the beginning reaches into the ending (`experien*`)
///   the words are found by completing it with English endings. Also inside of quotes.
///
/// Nothing that somebody types is an error. A quote that is not closed is no quote, a star
/// that follows no word is nothing, and a query without words finds nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// What scores, and how often it is asked.
    pub(super) words: BTreeMap<Ask, u16>,
    /// What must occur.
    pub(super) phrases: Vec<Vec<Ask>>,
}

impl Ask {
    /// The share of what people say that holds it, as far as that is known beforehand.
    pub(super) fn share(&self) -> f32 {
        match self {
            Self::Term(term) => common::share(term),
            Self::Prefix(_) => 0.0,
        }
    }
}

impl Query {
    /// Reads what somebody typed.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut query = Self::default();
        let mut room = QUERY_WORDS_MAX;
        let mut pieces: Vec<&str> = text.split(['"', '“', '”', '„']).collect();
        // Of an even number of pieces the last begins at a quote without a partner.
        let unclosed = if pieces.len().is_multiple_of(2) { pieces.pop() } else { None };
        let pieces = pieces.into_iter().zip([false, true].into_iter().cycle());
        for (piece, quoted) in pieces.chain(unclosed.map(|piece| (piece, false))) {
            let asks = asks(piece, quoted, room);
            room -= asks.len();
            for ask in &asks {
                *query.words.entry(ask.clone()).or_default() += 1;
            }
            if quoted && !asks.is_empty() {
                query.phrases.push(asks);
            }
        }
        query
    }

    /// Whether there is nothing to look for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }
}

/// The words of a piece, at most `room` of them.
fn asks(piece: &str, quoted: bool, room: usize) -> Vec<Ask> {
    let mut asks: Vec<Ask> = Vec::new();
    // The end of a run without spaces: how it is meant depends on whether anything follows.
    let mut tail: Option<(String, bool)> = None;
    each(piece, |word, kind| {
        if asks.len() >= room {
            return;
        }
        if let Some((end, alone)) = tail.take() {
            match (quoted, alone) {
                (true, _) => asks.push(Ask::Term(end)),
                (false, true) => asks.push(Ask::Prefix(end)),
                (false, false) => {}
            }
        }
        match kind {
            Kind::Word => asks.push(Ask::Term(stem(word).into_owned())),
            Kind::Prefix => asks.push(Ask::Prefix(word.to_owned())),
            Kind::Tail { alone } => tail = Some((word.to_owned(), alone)),
        }
    });
    if let Some((end, true)) = tail {
        asks.push(Ask::Prefix(end));
    }
    asks.truncate(room);
    asks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn term(word: &str) -> Ask {
        Ask::Term(word.to_owned())
    }

    fn prefix(word: &str) -> Ask {
        Ask::Prefix(word.to_owned())
    }

    #[track_caller]
    fn check(text: &str, words: &[(Ask, u16)], phrases: &[&[Ask]]) {
        let query = Query::parse(text);
        let mut words = words.to_vec();
        words.sort();
        assert_eq!(query.words.into_iter().collect::<Vec<_>>(), words, "{text}");
        assert_eq!(query.phrases, phrases, "{text}");
    }

    #[test]
    fn whatever_is_typed_is_a_query() {
        check("", &[], &[]);
        check("  \"\" * \" \" ?", &[], &[]);
        check("the Hotels, the*", &[(term("the"), 1), (term("hotel"), 1), (prefix("the"), 1)], &[]);
        check("the who", &[(term("the"), 1), (term("who"), 1)], &[]);
        check("\"the who\"", &[(term("the"), 1), (term("who"), 1)], &[&[term("the"), term("who")]]);
        let [cheap, hotel] = ["cheap", "hotel"].map(term);
        check(
            "\"cheap hotels\"",
            &[(cheap.clone(), 1), (hotel.clone(), 1)],
            &[&[cheap.clone(), hotel.clone()]],
        );
        check(
            "“cheap” hotel hotel",
            &[(cheap.clone(), 1), (hotel.clone(), 2)],
            &[std::slice::from_ref(&cheap)],
        );
        check("5\" cheap", &[(term("5"), 1), (cheap.clone(), 1)], &[]);
        check(
            "\"cheap\" 5\" hotel",
            &[(cheap.clone(), 1), (term("5"), 1), (hotel, 1)],
            &[&[cheap]],
        );
    }

    #[test]
    fn the_end_of_a_run_is_asked_for_where_it_must_end() {
        check("東京 猫", &[(term("東京"), 1), (prefix("猫"), 1)], &[]);
        check(
            "\"東京 hotel\"",
            &[(term("東京"), 1), (term("京"), 1), (term("hotel"), 1)],
            &[&[term("東京"), term("京"), term("hotel")]],
        );
        check(
            "\"hotel 猫\"",
            &[(term("hotel"), 1), (prefix("猫"), 1)],
            &[&[term("hotel"), prefix("猫")]],
        );
    }

    #[test]
    fn a_query_has_a_bound() {
        let query = Query::parse(&"green words ".repeat(1_000));
        assert_eq!(query.words.values().map(|&times| usize::from(times)).sum::<usize>(), 256);
        assert!(Query::parse(&format!("{}\"x\"", "b ".repeat(300))).phrases.is_empty());
    }
}
