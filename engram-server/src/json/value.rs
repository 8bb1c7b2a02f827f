//! What episodes and cues share: names of fields, times, people.

use std::fmt;

use engram_core::episode::limits::WHO_MAX;
use engram_core::{Error, Timestamp};
use serde::de::{self, DeserializeSeed, Deserializer, SeqAccess, Unexpected, Visitor};

use super::diagnose::{Fault, briefly, quote};
use super::field::{Field, Told};
use super::{JsonError, Malformed};

/// Bytes as text.
pub(super) fn text_of(bytes: &[u8], whole: Told) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|error| Malformed {
        field: whole.name.into(),
        problem: "not UTF-8".into(),
        bound: "JSON in UTF-8".into(),
        value: format!("a bad byte at byte {}", error.valid_up_to()),
    })
}

/// Reads a field's name.
pub(super) struct NameSeed<'f, F> {
    pub(super) fault: &'f Fault,
    pub(super) find: fn(&str) -> Option<F>,
    /// The field that the object is the value of, with a dot behind it; or nothing.
    pub(super) within: &'static str,
    /// All the names, for messages.
    pub(super) known: &'static str,
}

impl<F> Clone for NameSeed<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for NameSeed<'_, F> {}

impl<'de, F> DeserializeSeed<'de> for NameSeed<'_, F> {
    type Value = F;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<F, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<F> Visitor<'_> for NameSeed<'_, F> {
    type Value = F;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<F, E> {
        (self.find)(name).ok_or_else(|| self.fault.unknown_field(self.within, name, self.known))
    }
}

/// Reads an RFC 3339 time, or `null`.
pub(super) struct TimeSeed<'f> {
    pub(super) fault: &'f Fault,
    pub(super) told: Told,
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
        f.write_str(self.told.wanted)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        text.parse().map(Some).map_err(|error: jiff::Error| {
            self.fault.malformed(self.told, &format!("not a time: {error}"), text)
        })
    }
}

/// Reads a list of names, or `null`.
pub(super) struct WhoSeed<'f> {
    pub(super) fault: &'f Fault,
    pub(super) told: Told,
    /// Whether one name may stand without a list around it.
    pub(super) one_alone: bool,
}

impl<'de> DeserializeSeed<'de> for WhoSeed<'_> {
    type Value = Vec<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for WhoSeed<'_> {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.told.wanted)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
        if self.one_alone {
            return Ok(vec![name.to_owned()]);
        }
        Err(E::invalid_type(Unexpected::Str(name), &self))
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
            return Err(self.fault.refuse(Error::Limit {
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
        JsonError::Malformed(Malformed {
            field: field.into(),
            problem: format!("not a time: {}; write + as %2B", briefly(&error.to_string())),
            bound: Field::RecordedAt.wanted().into(),
            value: quote(text),
        })
    })
}
