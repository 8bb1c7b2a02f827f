//! One memory, and what makes it a legal one.
//!
//! A [`Draft`] is what a caller brings; [`Draft::check`] turns it into an [`Episode`], or says
//! which field breaks which limit. Deliberately absent: JSON (the server's) and bytes on disk
//! ([`crate::record`]).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::value::RawValue;

use crate::error::{Error, Result};

/// The limits, as named constants; each error quotes the one it comes from.
pub mod limits {
    /// Longest id, in bytes.
    pub const ID_BYTES_MAX: usize = 256;
    /// Longest space name, in bytes.
    pub const SPACE_BYTES_MAX: usize = 64;
    /// Longest `what`, in bytes.
    pub const WHAT_BYTES_MAX: usize = 1 << 20;
    /// Longest metadata, in bytes of JSON.
    pub const METADATA_BYTES_MAX: usize = 64 << 10;
    /// Most names in `who`.
    pub const WHO_MAX: usize = 64;
    /// Longest name in `who`, in bytes.
    pub const WHO_BYTES_MAX: usize = 256;
    /// Longest `where`, in bytes.
    pub const WHERE_BYTES_MAX: usize = 256;
    /// Longest name of an embedding model, in bytes.
    pub const MODEL_BYTES_MAX: usize = 256;
    /// Most dimensions of an embedding.
    pub const DIMENSIONS_MAX: usize = 4096;
    /// Most episodes in one batch.
    pub const BATCH_EPISODES_MAX: usize = 10_000;
    /// Largest batch, in bytes.
    pub const BATCH_BYTES_MAX: usize = 64 << 20;
    /// Largest frame, in bytes.
    pub const FRAME_BYTES_MAX: usize = 4 << 20;
    /// Smallest segment, in bytes.
    pub const SEGMENT_BYTES_MIN: u64 = 1 << 20;
    /// Segment size unless chosen, in bytes.
    pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;
    /// Fastest that compaction copies beside writers unless chosen otherwise, in bytes per second.
    pub const COMPACTION_BYTES_PER_SECOND_DEFAULT: u64 = 64 << 20;
    /// Largest segment, in bytes: offsets in the directory are 32 bits wide.
    pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
    /// Longest text of a cue, in bytes.
    pub const CUE_BYTES_MAX: usize = 16 << 10;
    /// Most episodes in one page of a list.
    pub const LIST_MAX: usize = 1000;
    /// Episodes in one page of a list, unless chosen.
    pub const LIST_DEFAULT: usize = 50;
}
use limits::{
    DIMENSIONS_MAX, ID_BYTES_MAX, METADATA_BYTES_MAX, MODEL_BYTES_MAX, SPACE_BYTES_MAX,
    WHAT_BYTES_MAX, WHERE_BYTES_MAX, WHO_BYTES_MAX, WHO_MAX,
};

/// A checked memory: every value within its limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Episode {
    /// The id, unique in its space.
    pub id: String,
    /// What happened, as text.
    pub what: String,
    /// When it happened.
    pub when: Timestamp,
    /// Where it happened (`where` in the interfaces).
    pub place: Option<String>,
    /// Who took part.
    pub who: Vec<String>,
    /// Its meaning as a vector of finite numbers; empty when there is none.
    pub embedding: Vec<f32>,
    /// How sure the memory is, 0 to 1.
    pub confidence: f64,
    /// A JSON object as the caller wrote it, or none.
    pub metadata: Option<String>,
}

impl Episode {
    /// Bytes that it takes, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        let who: usize = self.who.iter().map(String::len).sum();
        let metadata = self.metadata.as_ref().map_or(0, String::len);
        self.id.len() + self.what.len() + who + metadata + self.embedding.len() * 4
    }
}

/// An episode as the store gives it back.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEpisode {
    /// Its space.
    pub space: String,
    /// The LSN of the change that made it what it is.
    pub lsn: u64,
    /// When that change was made.
    pub recorded_at: Timestamp,
    /// The memory itself.
    pub episode: Episode,
}

/// A memory as a caller brings it, not yet checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Draft {
    /// The id; a `UUIDv7` is made when it is left out.
    pub id: Option<String>,
    /// What happened.
    pub what: String,
    /// When; now if left out.
    pub when: Option<Timestamp>,
    /// Where.
    pub place: Option<String>,
    /// Who.
    pub who: Vec<String>,
    /// The embedding; empty for none.
    pub embedding: Vec<f32>,
    /// The model that made it; it must be its space's. Not kept with the episode.
    pub embedding_model: Option<String>,
    /// The confidence; 1 if left out.
    pub confidence: Option<f64>,
    /// A JSON object as text.
    pub metadata: Option<String>,
}

impl Draft {
    /// A draft of nothing but text.
    #[must_use]
    pub fn of(what: impl Into<String>) -> Self {
        Self { what: what.into(), ..Self::default() }
    }

    /// Checks every field, and fills in what was left out.
    ///
    /// # Errors
    /// [`Error::Limit`] names the first field that breaks its limit.
    pub fn check(self, now: Timestamp, new_id: impl FnOnce() -> String) -> Result<Episode> {
        if let Some(id) = &self.id {
            check_id(id)?;
        }
        check_length("what", &self.what, 1, WHAT_BYTES_MAX)?;
        if let Some(place) = &self.place {
            check_length("where", place, 0, WHERE_BYTES_MAX)?;
        }
        if self.who.len() > WHO_MAX {
            let found = format!("{} names", self.who.len());
            return Err(limit("who", "too many names", format!("{WHO_MAX} names"), found, true));
        }
        for name in &self.who {
            check_length("who", name, 1, WHO_BYTES_MAX)?;
        }
        check_embedding(&self.embedding)?;
        check_model(self.embedding_model.as_deref(), &self.embedding)?;
        let confidence = self.confidence.unwrap_or(1.0);
        if !(0.0..=1.0).contains(&confidence) {
            let found = confidence.to_string();
            return Err(limit("confidence", "out of range", "0 to 1".into(), found, false));
        }
        if let Some(metadata) = &self.metadata {
            check_metadata(metadata)?;
        }
        Ok(Episode {
            id: self.id.unwrap_or_else(new_id),
            what: self.what,
            when: self.when.unwrap_or(now),
            place: self.place,
            who: self.who,
            embedding: self.embedding,
            confidence,
            metadata: self.metadata,
        })
    }
}

/// Checks an id that a caller gives to a new episode.
///
/// # Errors
/// [`Error::Limit`].
pub fn check_id(id: &str) -> Result<()> {
    check_length("id", id, 1, ID_BYTES_MAX)
}

/// Checks the name of a space that is to be written to.
///
/// # Errors
/// [`Error::Limit`].
pub fn check_space(name: &str) -> Result<()> {
    check_length("space", name, 1, SPACE_BYTES_MAX)?;
    let legal = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if !first || !name.bytes().all(legal) {
        return Err(limit(
            "space",
            "illegal name",
            "a-z 0-9 . _ - and a letter or digit first".into(),
            shorten(name),
            false,
        ));
    }
    Ok(())
}

pub(crate) fn check_embedding(embedding: &[f32]) -> Result<()> {
    if embedding.len() > DIMENSIONS_MAX {
        let found = format!("{} dimensions", embedding.len());
        let bound = format!("{DIMENSIONS_MAX} dimensions");
        return Err(limit("embedding", "too many dimensions", bound, found, true));
    }
    if let Some((at, value)) = embedding.iter().enumerate().find(|(_, v)| !v.is_finite()) {
        let found = format!("{value} at index {at}");
        return Err(limit("embedding", "not finite", "finite numbers".into(), found, false));
    }
    Ok(())
}

/// Checks the name of the model that an embedding is of.
pub(crate) fn check_model(model: Option<&str>, embedding: &[f32]) -> Result<()> {
    let Some(model) = model else { return Ok(()) };
    check_length("embedding_model", model, 1, MODEL_BYTES_MAX)?;
    if embedding.is_empty() {
        let bound = "only beside `embedding`".into();
        return Err(limit("embedding_model", "without embedding", bound, shorten(model), false));
    }
    Ok(())
}

fn check_metadata(text: &str) -> Result<()> {
    check_length("metadata", text, 0, METADATA_BYTES_MAX)?;
    // Names are read, since filters ask for them.
    let object: Result<BTreeMap<String, &RawValue>, _> = serde_json::from_str(text);
    if object.is_err() {
        let bound = "a JSON object".into();
        return Err(limit("metadata", "not an object", bound, shorten(text), false));
    }
    Ok(())
}

pub(crate) fn check_length(field: &'static str, text: &str, min: usize, max: usize) -> Result<()> {
    if text.len() < min {
        let bound = format!("{min} to {max} bytes");
        return Err(limit(field, "empty", bound, "0 bytes".into(), false));
    }
    if text.len() > max {
        let (bound, found) = (format!("{max} bytes"), format!("{} bytes", text.len()));
        return Err(limit(field, "too long", bound, found, true));
    }
    Ok(())
}

pub(crate) fn limit(
    field: &'static str,
    problem: &'static str,
    bound: String,
    value: String,
    too_large: bool,
) -> Error {
    Error::Limit { field, problem, bound, value, too_large }
}

/// A caller's value, short enough for a message.
fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(40).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused_field(draft: Draft) -> &'static str {
        match draft.check(Timestamp::UNIX_EPOCH, || "made".into()) {
            Err(Error::Limit { field, .. }) => field,
            other => panic!("expected a limit, got {other:?}"),
        }
    }

    #[test]
    fn a_draft_of_text_is_filled_in() {
        let episode = Draft::of("hi").check(Timestamp::UNIX_EPOCH, || "made".into()).unwrap();
        assert_eq!(episode.id, "made");
        assert_eq!(episode.when, Timestamp::UNIX_EPOCH);
        assert_eq!(episode.confidence.to_bits(), 1f64.to_bits());
    }

    #[test]
    fn each_limit_names_its_field() {
        let base = || Draft::of("x");
        assert_eq!(refused_field(Draft::of("")), "what");
        assert_eq!(refused_field(Draft::of("x".repeat(WHAT_BYTES_MAX + 1))), "what");
        assert_eq!(refused_field(Draft { id: Some(String::new()), ..base() }), "id");
        assert_eq!(refused_field(Draft { id: Some("i".repeat(257)), ..base() }), "id");
        assert_eq!(refused_field(Draft { place: Some("p".repeat(257)), ..base() }), "where");
        assert_eq!(refused_field(Draft { who: vec!["w".into(); 65], ..base() }), "who");
        assert_eq!(refused_field(Draft { who: vec!["w".repeat(257)], ..base() }), "who");
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(refused_field(Draft { embedding: vec![0.0, bad], ..base() }), "embedding");
        }
        assert_eq!(refused_field(Draft { embedding: vec![0.0; 4097], ..base() }), "embedding");
        for bad in [-0.1, 1.1, f64::NAN] {
            assert_eq!(refused_field(Draft { confidence: Some(bad), ..base() }), "confidence");
        }
        for bad in ["[]", "{", "1", ""] {
            assert_eq!(refused_field(Draft { metadata: Some(bad.into()), ..base() }), "metadata");
        }
    }

    #[test]
    fn space_names_are_plain() {
        for good in ["a", "0", "a.b_c-d", &"x".repeat(64)] {
            assert!(check_space(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "-a", ".a", "a/b", "ä", "a b", &"x".repeat(65)] {
            assert!(check_space(bad).is_err(), "{bad}");
        }
    }
}
