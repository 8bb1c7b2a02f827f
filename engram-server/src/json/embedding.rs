//! Embeddings in JSON: a list of numbers, or base64 of little-endian f32.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use engram_core::Error;
use engram_core::episode::limits::DIMENSIONS_MAX;
use serde::de::{self, DeserializeSeed, Deserializer, SeqAccess, Visitor};

use super::diagnose::Fault;
use super::field::Field;

/// Standard base64 whose padding may be left out.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Base64 of the little-endian bytes.
pub(super) fn to_base64(embedding: &[f32]) -> String {
    let bytes: Vec<u8> = embedding.iter().flat_map(|value| value.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}

/// Reads an embedding of either form, or `null`.
pub(super) struct EmbeddingSeed<'f>(pub(super) &'f Fault);

impl<'de> DeserializeSeed<'de> for EmbeddingSeed<'_> {
    type Value = Vec<f32>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<f32>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for EmbeddingSeed<'_> {
    type Value = Vec<f32>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Field::Embedding.wanted())
    }

    fn visit_unit<E: de::Error>(self) -> Result<Vec<f32>, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<f32>, A::Error> {
        let mut embedding = Vec::new();
        let mut length = 0;
        while let Some(value) = list.next_element_seed(NumberSeed { fault: self.0, at: length })? {
            length += 1;
            // What is over the limit is counted, for the message, and not kept.
            if length <= DIMENSIONS_MAX {
                embedding.push(value);
            }
        }
        check_length(self.0, length)?;
        Ok(embedding)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<f32>, E> {
        let bytes = LENIENT.decode(text).map_err(|error| {
            self.0.malformed(Field::Embedding.told(), &format!("not base64: {error}"), text)
        })?;
        let (values, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            let value = format!("{} bytes", bytes.len());
            let problem = "not a whole number of 4-byte floats";
            return Err(self.0.malformed(Field::Embedding.told(), problem, &value));
        }
        check_length(self.0, values.len())?;
        Ok(values.iter().map(|value| f32::from_le_bytes(*value)).collect())
    }
}

fn check_length<E: de::Error>(fault: &Fault, length: usize) -> Result<(), E> {
    if (1..=DIMENSIONS_MAX).contains(&length) {
        return Ok(());
    }
    let too_large = length > 0;
    Err(fault.refuse(Error::Limit {
        field: "embedding",
        problem: if too_large { "too many dimensions" } else { "empty; leave it out" },
        bound: format!("1 to {DIMENSIONS_MAX} dimensions"),
        value: format!("{length} dimensions"),
        too_large,
    }))
}

/// Reads one number that an f32 can hold.
struct NumberSeed<'f> {
    fault: &'f Fault,
    at: usize,
}

impl<'de> DeserializeSeed<'de> for NumberSeed<'_> {
    type Value = f32;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<f32, D::Error> {
        deserializer.deserialize_f64(self)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "an embedding is f32 by definition: numbers are rounded to it"
)]
impl Visitor<'_> for NumberSeed<'_> {
    type Value = f32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<f32, E> {
        let narrow = value as f32;
        if narrow.is_finite() {
            return Ok(narrow);
        }
        Err(self.fault.refuse(Error::Limit {
            field: "embedding",
            problem: "too large for a 32-bit float",
            bound: format!("-{max:e} to {max:e}", max = f32::MAX),
            value: format!("{value:e} at index {}", self.at),
            too_large: false,
        }))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<f32, E> {
        Ok(value as f32)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<f32, E> {
        Ok(value as f32)
    }
}
