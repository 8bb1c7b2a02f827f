//! What a recall asks, and what it answers.
//!
//! A [`Cue`] is any of text, an embedding, a time range, a place, people, metadata and a least
//! confidence. Text and embedding rank; all else filters. [`Cue::check`] says which field breaks
//! which limit. Deliberately absent: JSON (the server's) and how an answer is found
//! ([`crate::index`]).

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::episode::{StoredEpisode, check_embedding, check_length, check_model, limit, limits};
use crate::error::{Error, Result};

/// How much each signal says in a score. 0 switches one off; then it is not even looked up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    /// Nearness in meaning.
    pub vector: f32,
    /// Shared words.
    pub text: f32,
    /// Youth: half of it is left after [`RECENCY_HALF_LIFE_DAYS`].
    pub recency: f32,
    /// The episode's confidence.
    pub confidence: f32,
}

/// Days after which half of an episode's recency is left.
pub const RECENCY_HALF_LIFE_DAYS: f64 = 30.0;

/// Highest weight.
pub const WEIGHT_MAX: f32 = 1000.0;

impl Default for Weights {
    /// Meaning and words alike; recency and confidence only decide between near equals.
    fn default() -> Self {
        Self { vector: 1.0, text: 1.0, recency: 0.01, confidence: 0.01 }
    }
}

/// What a recall asks: at least one field beside the last three.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cue {
    /// In words; `"…"` asks for a phrase, `word*` for a beginning.
    pub text: Option<String>,
    /// A vector of the space's dimension; empty for none.
    pub embedding: Vec<f32>,
    /// The model that made it; it must be the space's.
    pub embedding_model: Option<String>,
    /// Not older than this.
    pub from: Option<Timestamp>,
    /// Older than this.
    pub to: Option<Timestamp>,
    /// At this place.
    pub place: Option<String>,
    /// With all of these people.
    pub who: Vec<String>,
    /// A JSON object: each of its members stands in the episode's metadata, with an equal value.
    pub metadata: Option<String>,
    /// At least this sure.
    pub min_confidence: Option<f64>,
    /// At most so many, 1 to 1,000; 50 if `None`.
    pub limit: Option<usize>,
    /// How much each signal says.
    pub weights: Weights,
    /// Whether the answer says how it was found.
    pub explain: bool,
}

/// A cue that keeps its limits.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Checked {
    /// At most so many.
    pub limit: usize,
    /// What the metadata must hold.
    pub metadata: Map<String, Value>,
}

impl Cue {
    /// A cue of nothing but text.
    #[must_use]
    pub fn of(text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..Self::default() }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Limit`] names the first field that breaks its limit.
    pub fn check(&self) -> Result<Checked> {
        if let Some(text) = &self.text {
            check_length("text", text, 1, limits::CUE_BYTES_MAX)?;
        }
        check_embedding(&self.embedding)?;
        check_model(self.embedding_model.as_deref(), &self.embedding)?;
        check_range(self.from, self.to)?;
        if let Some(place) = &self.place {
            check_length("where", place, 0, limits::WHERE_BYTES_MAX)?;
        }
        if self.who.len() > limits::WHO_MAX {
            let (bound, found) =
                (format!("{} names", limits::WHO_MAX), format!("{} names", self.who.len()));
            return Err(limit("who", "too many names", bound, found, true));
        }
        for name in &self.who {
            check_length("who", name, 1, limits::WHO_BYTES_MAX)?;
        }
        let metadata = self.metadata.as_deref().map(members).transpose()?.unwrap_or_default();
        if let Some(least) = self.min_confidence.filter(|least| !(0.0..=1.0).contains(least)) {
            let found = least.to_string();
            return Err(limit("min_confidence", "out of range", "0 to 1".into(), found, false));
        }
        let Weights { vector, text, recency, confidence } = self.weights;
        for (name, weight) in [
            ("weights.vector", vector),
            ("weights.text", text),
            ("weights.recency", recency),
            ("weights.confidence", confidence),
        ] {
            if !(0.0..=WEIGHT_MAX).contains(&weight) {
                let bound = format!("0 to {WEIGHT_MAX}");
                return Err(limit(name, "out of range", bound, weight.to_string(), false));
            }
        }
        let limit = check_limit(self.limit)?;
        self.check_asks()?;
        Ok(Checked { limit, metadata })
    }

    fn check_asks(&self) -> Result<()> {
        let filters = self.from.is_some()
            || self.to.is_some()
            || self.place.is_some()
            || !self.who.is_empty()
            || self.metadata.is_some()
            || self.min_confidence.is_some();
        if self.text.is_none() && self.embedding.is_empty() && !filters {
            let bound = "text, embedding, from, to, where, who, metadata or min_confidence";
            return Err(limit("cue", "empty", bound.into(), "none of them".into(), false));
        }
        Ok(())
    }
}

/// The members of a JSON object.
fn members(text: &str) -> Result<Map<String, Value>> {
    check_length("metadata", text, 0, limits::METADATA_BYTES_MAX)?;
    serde_json::from_str(text).map_err(|_| {
        let found = format!("{:?}", text.chars().take(40).collect::<String>());
        limit("metadata", "not an object", "a JSON object".into(), found, false)
    })
}

/// Checks how many are asked for.
pub(crate) fn check_limit(asked: Option<usize>) -> Result<usize> {
    let asked = asked.unwrap_or(limits::LIST_DEFAULT);
    if (1..=limits::LIST_MAX).contains(&asked) {
        return Ok(asked);
    }
    let bound = format!("1 to {}", limits::LIST_MAX);
    Err(limit("limit", "out of range", bound, asked.to_string(), false))
}

/// Checks that a range of time does not end before it begins.
pub(crate) fn check_range(from: Option<Timestamp>, to: Option<Timestamp>) -> Result<()> {
    match (from, to) {
        (Some(from), Some(to)) if from > to => {
            Err(limit("to", "before `from`", format!("not before {from}"), to.to_string(), false))
        }
        _ => Ok(()),
    }
}

/// What one ranking signal says of an episode.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Signal {
    /// Its place in this signal's own order of all candidates, from 1.
    pub rank: usize,
    /// What the signal measures: the cosine of the vectors, or BM25 of the words.
    pub value: f32,
    /// What that adds to the score.
    pub part: f32,
}

/// Why an episode was recalled: the parts add up to its score.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Why {
    /// Nearness in meaning.
    pub vector: Option<Signal>,
    /// Shared words.
    pub text: Option<Signal>,
    /// What its youth adds.
    pub recency: f32,
    /// What its confidence adds.
    pub confidence: f32,
}

/// One recalled episode.
#[derive(Debug, Clone, PartialEq)]
pub struct Recalled {
    /// The episode, as it is on disk.
    pub stored: StoredEpisode,
    /// How well it answers: comparable within one answer only.
    pub score: f32,
    /// Why.
    pub why: Why,
}

/// How an answer was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Explained {
    /// Episodes of the space in the index.
    pub indexed: usize,
    /// Those that the filters let through; `None` when nothing was filtered.
    pub allowed: Option<usize>,
    /// How the vectors were searched: `none`, `exact`, `graph` or `unavailable`.
    pub vectors: &'static str,
    /// Whose vectors they are: a model's name, or `given`.
    pub model: Option<String>,
    /// Candidates that the vectors gave.
    pub by_vector: usize,
    /// Candidates that the words gave.
    pub by_text: usize,
}

/// Bytes of episodes in an answer, about: it ends behind the one that reaches them.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What a recall answers.
#[derive(Debug, Clone, Default)]
pub struct Recollection {
    /// The episodes, best first; without text or embedding, newest first.
    pub episodes: Vec<Recalled>,
    /// Episodes that should stand here and whose bytes cannot be given back: why, each.
    pub unreadable: Vec<Error>,
    /// Episodes that the index does not have yet, or that were replaced as often as they were read:
    /// the answer may lack them.
    pub pending: usize,
    /// Why meaning had no say, although the cue has a text and its space vectors; `None` when it
    /// had one, or was not to have any.
    pub degraded: Option<String>,
    /// Episodes of the space that have no vector yet, so that only words find them; counted
    /// where meaning is asked.
    pub unembedded: usize,
    /// Whether it ends before its limit because it holds [`ANSWER_BYTES_MAX`] already.
    pub truncated: bool,
    /// How it was found, when asked for.
    pub explained: Option<Explained>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused_field(cue: &Cue) -> &'static str {
        match cue.check() {
            Err(Error::Limit { field, .. }) => field,
            other => panic!("expected a limit, got {other:?}"),
        }
    }

    #[test]
    fn each_limit_names_its_field() {
        let base = || Cue::of("x");
        assert_eq!(refused_field(&Cue::default()), "cue");
        assert_eq!(refused_field(&Cue { limit: Some(3), ..Cue::default() }), "cue");
        assert_eq!(refused_field(&Cue::of("")), "text");
        assert_eq!(refused_field(&Cue::of("x".repeat(limits::CUE_BYTES_MAX + 1))), "text");
        for bad in [f32::NAN, f32::INFINITY] {
            assert_eq!(refused_field(&Cue { embedding: vec![bad], ..base() }), "embedding");
            let weights = Weights { recency: bad, ..Weights::default() };
            assert_eq!(refused_field(&Cue { weights, ..base() }), "weights.recency");
        }
        assert_eq!(refused_field(&Cue { embedding: vec![0.0; 4097], ..base() }), "embedding");
        let late = Timestamp::from_second(5).unwrap();
        let range = Cue { from: Some(late), to: Some(Timestamp::UNIX_EPOCH), ..base() };
        assert_eq!(refused_field(&range), "to");
        assert_eq!(refused_field(&Cue { place: Some("p".repeat(257)), ..base() }), "where");
        assert_eq!(refused_field(&Cue { who: vec!["w".into(); 65], ..base() }), "who");
        assert_eq!(refused_field(&Cue { who: vec![String::new()], ..base() }), "who");
        for bad in ["[]", "{", "1", ""] {
            assert_eq!(refused_field(&Cue { metadata: Some(bad.into()), ..base() }), "metadata");
        }
        for bad in [-0.1, 1.1, f64::NAN] {
            assert_eq!(
                refused_field(&Cue { min_confidence: Some(bad), ..base() }),
                "min_confidence"
            );
        }
        for bad in [0, 1001] {
            assert_eq!(refused_field(&Cue { limit: Some(bad), ..base() }), "limit");
        }
        assert_eq!(base().check().unwrap().limit, limits::LIST_DEFAULT);
    }
}
