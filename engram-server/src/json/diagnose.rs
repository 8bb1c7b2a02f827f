//! Turns a failed parse into a refusal that names the field, the bound and the value.
//!
//! The fast path keeps no more than which field it was in; what was there is looked up in the
//! text afterwards, when time no longer matters.

use std::cell::{Cell, RefCell};
use std::fmt;

use engram_core::Error;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::field::Told;
use super::{JsonError, Malformed};

/// Longest quote of a caller's value, in characters.
const QUOTE_CHARS_MAX: usize = 60;
/// Longest account of a problem, in characters: parsers' own messages repeat what they refuse.
const PROBLEM_CHARS_MAX: usize = 160;

/// What a parse notes down for the case that it fails.
pub(super) struct Fault {
    pub(super) field: Cell<Option<Told>>,
    /// What is told where no field is to blame.
    whole: Told,
    refusal: RefCell<Option<JsonError>>,
}

impl Fault {
    /// Nothing yet.
    pub(super) fn new(whole: Told) -> Self {
        Self { field: Cell::default(), whole, refusal: RefCell::default() }
    }

    /// Notes a refusal by a limit; gives the error that ends the parse.
    pub(super) fn refuse<E: de::Error>(&self, error: Error) -> E {
        self.end(JsonError::Refused(error))
    }

    /// Notes a value of the wrong form; gives the error that ends the parse.
    pub(super) fn malformed<E: de::Error>(&self, field: Told, problem: &str, value: &str) -> E {
        self.end(JsonError::Malformed(Malformed {
            field: field.name.into(),
            problem: briefly(problem),
            bound: field.wanted.into(),
            value: quote(value),
        }))
    }

    /// Notes a field that is none of `known`; `within` is the name of the field it stands in, with
    /// a dot behind it, or nothing.
    pub(super) fn unknown_field<E: de::Error>(&self, within: &str, name: &str, known: &str) -> E {
        self.end(JsonError::Malformed(Malformed {
            field: format!("{within}{}", quote(name).trim_matches('"')),
            problem: "unknown field".into(),
            bound: known.into(),
            value: quote(name),
        }))
    }

    /// Notes a field that is there twice.
    pub(super) fn duplicate<E: de::Error>(&self, field: Told) -> E {
        self.end(JsonError::Malformed(Malformed {
            field: field.name.into(),
            problem: "given twice".into(),
            bound: "each field once".into(),
            value: "2 times".into(),
        }))
    }

    fn end<E: de::Error>(&self, error: JsonError) -> E {
        *self.refusal.borrow_mut() = Some(error);
        E::custom("refused")
    }

    /// What to tell about a failed parse of `text`.
    pub(super) fn explain(self, error: &serde_json::Error, text: &str) -> JsonError {
        if let Some(refusal) = self.refusal.into_inner() {
            return refusal;
        }
        let field = self.field.get();
        let message = error.to_string();
        // Serde appends " at line 1 column 9"; columns mean little within one field.
        let message = message.split(" at line ").next().unwrap_or_default();
        let of_data = error.classify() == Category::Data;
        let value = match field {
            Some(field) if of_data => {
                raw_value(text, field.name).map_or_else(|| quote(text), quote_json)
            }
            None if of_data => quote_json(text),
            _ => format!("{} at byte {}", quote(around(text, error)), offset(text, error)),
        };
        let message = briefly(message);
        let problem = if of_data { message } else { format!("broken JSON: {message}") };
        JsonError::Malformed(Malformed {
            field: field.unwrap_or(self.whole).name.into(),
            problem,
            bound: field.unwrap_or(self.whole).wanted.into(),
            value,
        })
    }
}

/// A caller's value in quotes, short enough for a message.
pub(super) fn quote(text: &str) -> String {
    format!("{:?}", shorten(text))
}

/// A caller's JSON as it stands, short enough for a message.
fn quote_json(text: &str) -> String {
    shorten(text.trim())
}

/// What a parser says of a problem, without all of the text that it may quote.
pub(super) fn briefly(problem: &str) -> String {
    first_chars(problem, PROBLEM_CHARS_MAX)
}

fn shorten(text: &str) -> String {
    first_chars(text, QUOTE_CHARS_MAX)
}

fn first_chars(text: &str, chars_max: usize) -> String {
    let mut short: String = text.chars().take(chars_max).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// The byte at which the parser gave up.
fn offset(text: &str, error: &serde_json::Error) -> usize {
    let before = |line: &str| line.len() + 1;
    let lines: usize = text.split('\n').take(error.line().saturating_sub(1)).map(before).sum();
    (lines + error.column()).min(text.len())
}

/// Some text before the byte at which the parser gave up.
fn around<'t>(text: &'t str, error: &serde_json::Error) -> &'t str {
    let end = text.ceil_char_boundary(offset(text, error));
    let start = text.ceil_char_boundary(end.saturating_sub(QUOTE_CHARS_MAX / 2));
    text.get(start..end).unwrap_or_default()
}

/// The text of a field's value.
fn raw_value<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    name.split('.').try_fold(text, member)
}

/// The text of a member of an object.
fn member<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    struct Find<'n>(&'n str);
    impl<'de> Visitor<'de> for Find<'_> {
        type Value = Option<&'de str>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = None;
            while let Some(key) = map.next_key::<String>()? {
                if key == self.0 {
                    found = Some(map.next_value::<&RawValue>()?.get());
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(found)
        }
    }
    serde_json::Deserializer::from_str(text).deserialize_map(Find(name)).ok().flatten()
}
