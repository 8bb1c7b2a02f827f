//! Episodes and cues as JSON: how callers write them, how answers print them.
//!
//! Parsing goes straight from text into a [`engram_core::Draft`] or [`engram_core::Cue`], without
//! a tree in between, and every refusal names the field, what it may be, and what it was.
//! Deliberately absent: limits (each of these has a `check`), except where a list must not be
//! built that is over its limit anyway.

mod answer;
mod batch;
mod cue;
mod diagnose;
mod embedding;
mod field;
mod parse;
mod recollection;
mod value;

pub use answer::{EmbeddingForm, write_episode};
pub use batch::{parse_array, parse_ndjson};
pub use cue::parse_cue;
pub use parse::{Line, parse_draft, parse_line};
pub use recollection::write_recollection;
pub(crate) use value::parse_time;

use engram_core::Error;

/// Why text is no episode, or no cue.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JsonError {
    /// It is not JSON of the right form.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It breaks a limit.
    #[error(transparent)]
    Refused(#[from] Error),
}

/// Text that is not an episode's or a cue's JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem} (wanted {bound}; this is {value}); nothing was stored")]
pub struct Malformed {
    /// The field, or `episode` or `cue` when it is the whole.
    pub field: String,
    /// What is wrong.
    pub problem: String,
    /// What it may be.
    pub bound: String,
    /// What it is, shortened.
    pub value: String,
}

impl From<JsonError> for Error {
    /// As the engine would refuse it, for places where only the engine's errors fit.
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::Refused(error) => error,
            JsonError::Malformed(malformed) => Self::Limit {
                field: field::Field::named(&malformed.field).map_or("episode", field::Field::name),
                problem: "malformed",
                bound: malformed.bound,
                value: malformed.value,
                too_large: false,
            },
        }
    }
}

#[cfg(test)]
mod tests;
