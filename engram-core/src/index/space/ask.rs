//! What is asked of a space's index, and what it finds.

use crate::index::fuse::Candidate;
use crate::index::text::Query;
use crate::record::Instant;

/// What filters ask for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// Facets, all of them.
    pub facets: Vec<u64>,
    /// Not older than this.
    pub from: Option<Instant>,
    /// Older than this.
    pub to: Option<Instant>,
    /// At least this sure.
    pub min_confidence: Option<f32>,
}

/// What ranks: nothing, words, a vector, or both.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ask<'a> {
    /// Words.
    pub text: Option<&'a Query>,
    /// A vector of the index's dimension.
    pub vector: Option<&'a [f32]>,
    /// Whether only what some signal finds is wanted; else all that passes the filter.
    pub ranked: bool,
    /// How many candidates each signal gives.
    pub depth: usize,
}

/// What was found, in no order.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The candidates.
    pub candidates: Vec<Candidate>,
    /// How many episodes the filters let through; `None` when there are none.
    pub allowed: Option<usize>,
    /// How many the vectors gave.
    pub by_vector: usize,
    /// How many the words gave.
    pub by_text: usize,
    /// What an episode with all words of the cue would have at most.
    pub text_whole: f32,
    /// How the vectors were searched: `none`, `exact` or `graph`.
    pub vectors: &'static str,
}
