//! [`StoredEpisode`] → JSON text.

use engram_core::{StoredEpisode, Timestamp};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::embedding::to_base64;

/// How an embedding comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmbeddingForm {
    /// A list of numbers.
    List,
    /// Base64 of little-endian f32.
    Base64,
    /// Not at all.
    None,
}

impl EmbeddingForm {
    /// The form of that name in the interfaces.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "list" => Some(Self::List),
            "base64" => Some(Self::Base64),
            "none" => Some(Self::None),
            _ => None,
        }
    }
}

/// Appends an episode as one line of JSON (without the line's end) to `out`. What an episode
/// does not have is left out, except `who`, which is always a list.
pub fn write_episode(out: &mut Vec<u8>, stored: &StoredEpisode, form: EmbeddingForm) {
    let episode = &stored.episode;
    let embedding = match form {
        _ if episode.embedding.is_empty() => None,
        EmbeddingForm::List => Some(Embedding::List(&episode.embedding)),
        EmbeddingForm::Base64 => Some(Embedding::Base64(to_base64(&episode.embedding))),
        EmbeddingForm::None => None,
    };
    let answer = Answer {
        id: &episode.id,
        space: &stored.space,
        lsn: stored.lsn,
        what: &episode.what,
        when: episode.when,
        r#where: episode.place.as_deref(),
        who: &episode.who,
        embedding,
        confidence: episode.confidence,
        metadata: episode.metadata.as_deref().map(Verbatim),
        recorded_at: stored.recorded_at,
    };
    let before = out.len();
    if serde_json::to_writer(&mut *out, &answer).is_err() {
        // Writing plain fields into memory has no way to fail; half a line must not be sent.
        out.truncate(before);
        out.extend_from_slice(b"null");
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    id: &'a str,
    space: &'a str,
    lsn: u64,
    what: &'a str,
    when: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#where: Option<&'a str>,
    who: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding: Option<Embedding<'a>>,
    confidence: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Verbatim<'a>>,
    recorded_at: Timestamp,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Embedding<'a> {
    List(&'a [f32]),
    Base64(String),
}

/// JSON text that goes out as the caller wrote it.
struct Verbatim<'a>(&'a str);

impl Serialize for Verbatim<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serde_json::from_str::<&RawValue>(self.0) {
            Ok(raw) => raw.serialize(serializer),
            // Metadata was JSON when it was stored; if it is not, it still must not break the
            // answer that it stands in.
            Err(_) => self.0.serialize(serializer),
        }
    }
}
