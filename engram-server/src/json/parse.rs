//! One episode's text → [`Draft`].

use std::fmt;

use engram_core::episode::limits::WHO_MAX;
use engram_core::{Draft, Error, Timestamp};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::JsonError;
use super::diagnose::{Fault, briefly, quote};
use super::embedding::EmbeddingSeed;
use super::field::Field;

/// One line of an export.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Line {
    /// The episode.
    pub draft: Draft,
    /// The space it names, if it does.
    pub space: Option<String>,
}

/// Reads an episode as a caller writes it. Unknown and repeated fields are refused by name.
///
/// # Errors
/// [`JsonError`] names the field, what it may be, and what it was.
pub fn parse_draft(text: &[u8]) -> Result<Draft, JsonError> {
    parse(text, false).map(|line| line.draft)
}

/// Reads an episode as a caller or an answer writes it: `space` is given back beside it;
/// `lsn` and `recorded_at` are passed over, since a new memory gives its own.
///
/// # Errors
/// [`JsonError`] names the field, what it may be, and what it was.
pub fn parse_line(text: &[u8]) -> Result<Line, JsonError> {
    parse(text, true)
}

fn parse(bytes: &[u8], answers: bool) -> Result<Line, JsonError> {
    let text = std::str::from_utf8(bytes).map_err(|error| super::Malformed {
        field: "episode".into(),
        problem: "not UTF-8".into(),
        bound: "JSON in UTF-8".into(),
        value: format!("a bad byte at byte {}", error.valid_up_to()),
    })?;
    let fault = Fault::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let line = EpisodeSeed { fault: &fault, answers }
        .deserialize(&mut deserializer)
        .and_then(|line| deserializer.end().map(|()| line));
    line.map_err(|error| fault.explain(&error, text))
}

struct EpisodeSeed<'f> {
    fault: &'f Fault,
    answers: bool,
}

impl<'de> DeserializeSeed<'de> for EpisodeSeed<'_> {
    type Value = Line;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Line, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for EpisodeSeed<'_> {
    type Value = Line;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an episode")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Line, A::Error> {
        let fault = self.fault;
        let mut line = Line::default();
        let draft = &mut line.draft;
        let mut seen = 0;
        while let Some(field) = map.next_key_seed(FieldSeed { fault, answers: self.answers })? {
            fault.field.set(Some(field));
            if seen & field.bit() != 0 {
                return Err(fault.duplicate(field));
            }
            seen |= field.bit();
            match field {
                Field::Id => draft.id = map.next_value()?,
                Field::What => draft.what = map.next_value()?,
                Field::When => draft.when = map.next_value_seed(TimeSeed { fault, field })?,
                Field::Where => draft.place = map.next_value()?,
                Field::Who => draft.who = map.next_value_seed(WhoSeed(fault))?,
                Field::Embedding => draft.embedding = map.next_value_seed(EmbeddingSeed(fault))?,
                Field::Confidence => draft.confidence = map.next_value()?,
                Field::Metadata => {
                    let raw: Option<&RawValue> = map.next_value()?;
                    draft.metadata = raw.map(|raw| raw.get().to_owned());
                }
                Field::Space => line.space = map.next_value()?,
                Field::Lsn => drop(map.next_value::<Option<u64>>()?),
                Field::RecordedAt => {
                    map.next_value_seed(TimeSeed { fault, field })?;
                }
            }
            fault.field.set(None);
        }
        if seen & Field::What.bit() == 0 {
            return Err(fault.malformed(Field::What, "missing", ""));
        }
        Ok(line)
    }
}

/// Reads a field's name.
struct FieldSeed<'f> {
    fault: &'f Fault,
    answers: bool,
}

impl<'de> DeserializeSeed<'de> for FieldSeed<'_> {
    type Value = Field;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Field, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldSeed<'_> {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Field, E> {
        match Field::named(name) {
            Some(field) if self.answers || !field.of_answers() => Ok(field),
            _ => Err(self.fault.unknown_field(name)),
        }
    }
}

/// Reads an RFC 3339 time, or `null`.
struct TimeSeed<'f> {
    fault: &'f Fault,
    field: Field,
}

impl<'de> DeserializeSeed<'de> for TimeSeed<'_> {
    type Value = Option<Timestamp>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for TimeSeed<'_> {
    type Value = Option<Timestamp>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.field.wanted())
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        text.parse().map(Some).map_err(|error: jiff::Error| {
            self.fault.malformed(self.field, &format!("not a time: {error}"), text)
        })
    }
}

/// Reads a list of names, or `null`.
struct WhoSeed<'f>(&'f Fault);

impl<'de> DeserializeSeed<'de> for WhoSeed<'_> {
    type Value = Vec<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for WhoSeed<'_> {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Field::Who.wanted())
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut who = Vec::new();
        let mut length = 0;
        while let Some(name) = list.next_element::<String>()? {
            length += 1;
            // What is over the limit is counted, for the message, and not kept.
            if length <= WHO_MAX {
                who.push(name);
            }
        }
        if length > WHO_MAX {
            return Err(self.0.refuse(Error::Limit {
                field: "who",
                problem: "too many names",
                bound: format!("{WHO_MAX} names"),
                value: format!("{length} names"),
                too_large: true,
            }));
        }
        Ok(who)
    }
}

/// Reads a time from somewhere else than JSON (a query).
pub(crate) fn parse_time(field: &str, text: &str) -> Result<Timestamp, JsonError> {
    text.parse().map_err(|error: jiff::Error| {
        JsonError::Malformed(super::Malformed {
            field: field.into(),
            problem: format!("not a time: {}; write + as %2B", briefly(&error.to_string())),
            bound: Field::RecordedAt.wanted().into(),
            value: quote(text),
        })
    })
}
