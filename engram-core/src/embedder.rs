//! The seam to whatever turns text into vectors.
//!
//! One embedder is near: it answers at once, and whoever needs a vector asks it on the spot. Others
//! are far, on a network: they are slow, they fail, and they cost something. Those are asked by a
//! thread of their own, in batches, after the episode is durable and found by its words; only a cue
//! waits for them. Deliberately absent: sockets. Who opens a store brings a far embedder with it.

use std::fmt::Debug;
use std::sync::Once;
use std::time::Duration;

static DAMAGED: Once = Once::new();

/// Where an embedder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// In this process: it answers at once. Its vectors are derived from the text at any time, and
    /// fix nothing.
    Near,
    /// Somewhere else. A space whose first episode brings no embedding is fixed to its model.
    Far {
        /// The dimension of its vectors.
        dimension: u32,
        /// Texts that it takes at a time.
        batch: usize,
    },
}

/// What a vector is for: it says how long one may wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Somebody waits for an answer.
    Cue,
    /// Episodes, in the background.
    Episodes,
}

/// Why there are no vectors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotEmbedded {
    /// It gives none now; later it may.
    #[error("{cause}")]
    Unavailable {
        /// Why, in words.
        cause: String,
        /// When it wants to be asked again, where it said so.
        retry_after: Option<Duration>,
    },
    /// One of the texts at least is not to its taste, now or later.
    #[error("{cause}")]
    Refused {
        /// Why, in words.
        cause: String,
    },
}

/// Turns text into vectors: always the same vector for the same text.
pub trait Embedder: Send + Sync + Debug {
    /// The name of its model. Vectors of different models cannot be compared.
    fn model(&self) -> &str;

    /// Where it is.
    fn reach(&self) -> Reach;

    /// The vectors of texts, in their order; `None` for a text that has none. Called from several
    /// threads at once.
    ///
    /// # Errors
    /// Why there are none. One that is near never fails.
    fn embed(&self, texts: &[&str], purpose: Purpose)
    -> Result<Vec<Option<Vec<f32>>>, NotEmbedded>;
}

/// The built-in embedder: offline, and ready at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Builtin;

impl Embedder for Builtin {
    fn model(&self) -> &str {
        engram_embed::MODEL
    }

    fn reach(&self) -> Reach {
        Reach::Near
    }

    fn embed(&self, texts: &[&str], _: Purpose) -> Result<Vec<Option<Vec<f32>>>, NotEmbedded> {
        match engram_embed::Embedder::built_in() {
            Ok(embedder) => Ok(texts.iter().map(|text| embedder.embed(text)).collect()),
            Err(e) => {
                DAMAGED.call_once(|| {
                    tracing::error!(cause = %e, "the built-in embedder does not work: the program's file is damaged; install it again");
                });
                Ok(vec![None; texts.len()])
            }
        }
    }
}
