//! A cue's text → [`Cue`].
//!
//! Deliberately absent: limits; they are [`Cue::check`]'s.

use std::fmt;

use engram_core::{Cue, Weights};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::JsonError;
use super::diagnose::Fault;
use super::embedding::EmbeddingSeed;
use super::field::Told;
use super::value::{NameSeed, TimeSeed, WhoSeed, text_of};

/// A cue as a whole.
const CUE: Told = Told { name: "cue", wanted: "a JSON object, a cue" };

/// A field of a cue.
#[derive(Debug, Clone, Copy)]
enum Field {
    Text,
    Embedding,
    EmbeddingModel,
    From,
    To,
    Where,
    Who,
    Metadata,
    MinConfidence,
    Limit,
    Weights,
    Explain,
}

/// The fields of a cue, for messages.
const KNOWN: &str = "one of text, embedding, embedding_model, from, to, where, who, metadata, \
                     min_confidence, limit, weights, explain";

const fn told(name: &'static str, wanted: &'static str) -> Told {
    Told { name, wanted }
}

const TIME: &str = "an RFC 3339 time such as \"2026-01-31T12:00:00Z\"";

/// Each field's name, and what its value may be.
const FIELDS: [(Field, Told); 12] = [
    (Field::Text, told("text", "a string of 1 byte to 16 KiB")),
    (
        Field::Embedding,
        told("embedding", "a list of 1 to 4096 finite 32-bit floats, or their base64"),
    ),
    (Field::EmbeddingModel, told("embedding_model", "a string of 1 to 256 bytes")),
    (Field::From, told("from", TIME)),
    (Field::To, told("to", TIME)),
    (Field::Where, told("where", "a string of at most 256 bytes")),
    (Field::Who, told("who", "a string, or a list of at most 64 strings")),
    (Field::Metadata, told("metadata", "a JSON object of at most 64 KiB")),
    (Field::MinConfidence, told("min_confidence", "a number from 0 to 1")),
    (Field::Limit, told("limit", "a whole number from 1 to 1000")),
    (Field::Weights, told("weights", "a JSON object of weights")),
    (Field::Explain, told("explain", "true or false")),
];

/// A weight.
#[derive(Debug, Clone, Copy)]
enum Weight {
    Vector,
    Text,
    Recency,
    Confidence,
}

/// The weights, for messages.
const KNOWN_WEIGHTS: &str = "one of vector, text, recency, confidence";

const WEIGHT: &str = "a number from 0 to 1000";

/// Each weight's name, and what its value may be.
const WEIGHTS: [(Weight, Told); 4] = [
    (Weight::Vector, told("weights.vector", WEIGHT)),
    (Weight::Text, told("weights.text", WEIGHT)),
    (Weight::Recency, told("weights.recency", WEIGHT)),
    (Weight::Confidence, told("weights.confidence", WEIGHT)),
];

fn field(name: &str) -> Option<(Field, Told)> {
    FIELDS.into_iter().find(|(_, told)| told.name == name)
}

fn weight(name: &str) -> Option<(Weight, Told)> {
    WEIGHTS.into_iter().find(|(_, told)| told.name.strip_prefix("weights.") == Some(name))
}

/// Reads a cue as a caller writes it. Unknown and repeated fields are refused by name; `null`
/// means left out.
///
/// # Errors
/// [`JsonError`] names the field, what it may be, and what it was.
pub fn parse_cue(bytes: &[u8]) -> Result<Cue, JsonError> {
    let text = text_of(bytes, CUE)?;
    let fault = Fault::new(CUE);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let cue = CueSeed(&fault)
        .deserialize(&mut deserializer)
        .and_then(|cue| deserializer.end().map(|()| cue));
    cue.map_err(|error| fault.explain(&error, text))
}

struct CueSeed<'f>(&'f Fault);

impl<'de> DeserializeSeed<'de> for CueSeed<'_> {
    type Value = Cue;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cue, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for CueSeed<'_> {
    type Value = Cue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a cue")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Cue, A::Error> {
        let fault = self.0;
        let mut cue = Cue::default();
        let mut seen = 0_u16;
        let name = NameSeed { fault, find: field, within: "", known: KNOWN };
        while let Some((field, told)) = map.next_key_seed(name)? {
            fault.field.set(Some(told));
            let bit = 1 << (field as u16);
            if seen & bit != 0 {
                return Err(fault.duplicate(told));
            }
            seen |= bit;
            match field {
                Field::Text => cue.text = map.next_value()?,
                Field::Embedding => cue.embedding = map.next_value_seed(EmbeddingSeed(fault))?,
                Field::EmbeddingModel => cue.embedding_model = map.next_value()?,
                Field::From => cue.from = map.next_value_seed(TimeSeed { fault, told })?,
                Field::To => cue.to = map.next_value_seed(TimeSeed { fault, told })?,
                Field::Where => cue.place = map.next_value()?,
                Field::Who => {
                    cue.who = map.next_value_seed(WhoSeed { fault, told, one_alone: true })?;
                }
                Field::Metadata => {
                    let raw: Option<&RawValue> = map.next_value()?;
                    cue.metadata = raw.map(|raw| raw.get().to_owned());
                }
                Field::MinConfidence => cue.min_confidence = map.next_value()?,
                Field::Limit => cue.limit = map.next_value()?,
                Field::Weights => cue.weights = map.next_value_seed(WeightsSeed(fault))?,
                Field::Explain => cue.explain = map.next_value::<Option<bool>>()?.unwrap_or(false),
            }
            fault.field.set(None);
        }
        Ok(cue)
    }
}

/// Reads weights, or `null`; those that are left out have their defaults.
struct WeightsSeed<'f>(&'f Fault);

impl<'de> DeserializeSeed<'de> for WeightsSeed<'_> {
    type Value = Weights;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Weights, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for WeightsSeed<'_> {
    type Value = Weights;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object of weights")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Weights, E> {
        Ok(Weights::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Weights, A::Error> {
        let fault = self.0;
        let mut weights = Weights::default();
        let mut seen = 0_u16;
        let name = NameSeed { fault, find: weight, within: "weights.", known: KNOWN_WEIGHTS };
        while let Some((weight, told)) = map.next_key_seed(name)? {
            let outer = fault.field.replace(Some(told));
            let bit = 1 << (weight as u16);
            if seen & bit != 0 {
                return Err(fault.duplicate(told));
            }
            seen |= bit;
            if let Some(value) = map.next_value::<Option<f32>>()? {
                *match weight {
                    Weight::Vector => &mut weights.vector,
                    Weight::Text => &mut weights.text,
                    Weight::Recency => &mut weights.recency,
                    Weight::Confidence => &mut weights.confidence,
                } = value;
            }
            fault.field.set(outer);
        }
        Ok(weights)
    }
}

#[cfg(test)]
mod tests {
    use engram_core::Error;

    use super::*;

    #[test]
    fn every_field_can_be_written() {
        let text = r#"{"text":"te\u00e9","embedding":[1,-2.5],"embedding_model":"m","from":"2026-01-31T13:00:00+01:00",
            "to":"2026-02-01T00:00:00Z","where":"p","who":["a","b"],"metadata":{"k": [1 ,2]},
            "min_confidence":0.5,"limit":7,"weights":{"vector":2,"recency":0},"explain":true}"#;
        let expected = Cue {
            text: Some("teé".into()),
            embedding: vec![1.0, -2.5],
            embedding_model: Some("m".into()),
            from: Some("2026-01-31T12:00:00Z".parse().unwrap()),
            to: Some("2026-02-01T00:00:00Z".parse().unwrap()),
            place: Some("p".into()),
            who: vec!["a".into(), "b".into()],
            metadata: Some(r#"{"k": [1 ,2]}"#.into()),
            min_confidence: Some(0.5),
            limit: Some(7),
            weights: Weights { vector: 2.0, recency: 0.0, ..Weights::default() },
            explain: true,
        };
        assert_eq!(parse_cue(text.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn one_name_may_stand_alone_and_an_embedding_may_be_base64() {
        let cue = parse_cue(br#"{"who":"ann","embedding":"AACAPwAAAMA="}"#).unwrap();
        assert_eq!((cue.who, cue.embedding), (vec!["ann".to_owned()], vec![1.0, -2.0]));
    }

    #[test]
    fn null_means_left_out() {
        for (_, told) in FIELDS {
            let text = format!("{{{:?}:null}}", told.name);
            assert_eq!(parse_cue(text.as_bytes()).unwrap(), Cue::default(), "{text}");
        }
        let text = br#"{"weights":{"vector":null,"text":null,"recency":null,"confidence":null}}"#;
        assert_eq!(parse_cue(text).unwrap(), Cue::default());
    }

    #[test]
    fn each_field_may_be_there_once() {
        for (_, told) in FIELDS {
            let text = format!("{{{0:?}:null,{0:?}:null}}", told.name);
            let error = parse_cue(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{}: given twice", told.name)), "{error}");
        }
        let error = parse_cue(br#"{"weights":{"text":1,"text":1}}"#).unwrap_err().to_string();
        assert!(error.starts_with("weights.text: given twice"), "{error}");
    }

    #[test]
    fn every_field_is_named_where_names_are_listed() {
        let names = |list: &str| -> Vec<String> {
            list.trim_start_matches("one of ").split(", ").map(str::to_owned).collect()
        };
        assert_eq!(names(KNOWN), FIELDS.map(|(_, told)| told.name.to_owned()));
        let weights = names(KNOWN_WEIGHTS).into_iter().map(|name| format!("weights.{name}"));
        assert_eq!(weights.collect::<Vec<_>>(), WEIGHTS.map(|(_, told)| told.name.to_owned()));
    }

    #[test]
    fn each_refusal_names_the_field_and_quotes_the_value() {
        let check = |text: &str, field: &str, value: &str| {
            let error = parse_cue(text.as_bytes()).expect_err(text);
            let told = error.to_string();
            let (named, quoted) = match error {
                JsonError::Malformed(malformed) => (malformed.field, malformed.value),
                JsonError::Refused(Error::Limit { field, value, .. }) => (field.into(), value),
                JsonError::Refused(other) => panic!("{other:?}"),
            };
            assert_eq!(named, field, "{text}: {told}");
            assert!(quoted.contains(value), "{text}: {quoted:?} does not contain {value:?}");
        };
        check("", "cue", "");
        check("[]", "cue", "[]");
        check("{", "cue", "{");
        check("{} x", "cue", "x");
        check(r#"{"text":"t","colour":"red"}"#, "colour", "colour");
        check(r#"{"what":"w"}"#, "what", "what");
        check(r#"{"text":5}"#, "text", "5");
        check(r#"{"from":"yesterday"}"#, "from", "yesterday");
        check(r#"{"to":12}"#, "to", "12");
        check(r#"{"where":["x"]}"#, "where", "[\"x\"]");
        check(r#"{"who":5}"#, "who", "5");
        check(r#"{"who":["ann",3]}"#, "who", "[\"ann\",3]");
        check(r#"{"metadata":{"a":}}"#, "metadata", "{\\\"a\\\":}");
        check(r#"{"min_confidence":"high"}"#, "min_confidence", "\"high\"");
        check(r#"{"limit":"x"}"#, "limit", "\"x\"");
        check(r#"{"limit":-1}"#, "limit", "-1");
        check(r#"{"limit":1.5}"#, "limit", "1.5");
        check(r#"{"explain":1}"#, "explain", "1");
        check(r#"{"embedding":[1e999]}"#, "embedding", "1e999");
        check(r#"{"embedding":[1,1e39]}"#, "embedding", "1e39 at index 1");
        check(r#"{"embedding":[]}"#, "embedding", "0 dimensions");
        check(r#"{"weights":5}"#, "weights", "5");
        check(r#"{"weights":{"vector":"x"}}"#, "weights.vector", "\"x\"");
        check(r#"{"text":"t","weights":{"text":1,"vector":[]}}"#, "weights.vector", "[]");
        check(r#"{"weights":{"colour":1}}"#, "weights.colour", "colour");
        let many = format!(r#"{{"who":["a"{}]}}"#, r#","a""#.repeat(64));
        check(&many, "who", "65 names");
        assert!(parse_cue(b"{\"text\":\"\xff\"}").unwrap_err().to_string().contains("UTF-8"));
    }
}
