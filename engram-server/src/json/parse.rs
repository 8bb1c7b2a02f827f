//! One episode's text → [`Draft`].

use std::fmt;

use engram_core::Draft;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::JsonError;
use super::diagnose::Fault;
use super::embedding::EmbeddingSeed;
use super::field::{EPISODE, Field, WRITABLE};
use super::value::{NameSeed, TimeSeed, WhoSeed, text_of};

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
    let text = text_of(bytes, EPISODE)?;
    let fault = Fault::new(EPISODE);
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
        let find = if self.answers { Field::named } else { Field::writable };
        let name = NameSeed { fault, find, within: "", known: WRITABLE };
        while let Some(field) = map.next_key_seed(name)? {
            let told = field.told();
            fault.field.set(Some(told));
            if seen & field.bit() != 0 {
                return Err(fault.duplicate(told));
            }
            seen |= field.bit();
            match field {
                Field::Id => draft.id = map.next_value()?,
                Field::What => draft.what = map.next_value()?,
                Field::When => draft.when = map.next_value_seed(TimeSeed { fault, told })?,
                Field::Where => draft.place = map.next_value()?,
                Field::Who => {
                    draft.who = map.next_value_seed(WhoSeed { fault, told, one_alone: false })?;
                }
                Field::Embedding => draft.embedding = map.next_value_seed(EmbeddingSeed(fault))?,
                Field::EmbeddingModel => draft.embedding_model = map.next_value()?,
                Field::Confidence => draft.confidence = map.next_value()?,
                Field::Metadata => {
                    let raw: Option<&RawValue> = map.next_value()?;
                    draft.metadata = raw.map(|raw| raw.get().to_owned());
                }
                Field::Space => line.space = map.next_value()?,
                Field::Lsn => drop(map.next_value::<Option<u64>>()?),
                Field::RecordedAt => {
                    map.next_value_seed(TimeSeed { fault, told })?;
                }
            }
            fault.field.set(None);
        }
        if seen & Field::What.bit() == 0 {
            return Err(fault.malformed(Field::What.told(), "missing", ""));
        }
        Ok(line)
    }
}
