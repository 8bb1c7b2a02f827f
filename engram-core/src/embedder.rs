//! The seam to whatever turns text into vectors.

use std::fmt::Debug;
use std::sync::Once;

static DAMAGED: Once = Once::new();

/// Turns text into vectors: always the same vector for the same text.
pub trait Embedder: Send + Sync + Debug {
    /// The name of its model. Vectors of different models cannot be compared.
    fn model(&self) -> &str;
    /// The vector of a text; `None` when it has none.
    fn embed(&self, text: &str) -> Option<Vec<f32>>;
}

/// The built-in embedder: offline, and ready at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Builtin;

impl Embedder for Builtin {
    fn model(&self) -> &str {
        engram_embed::MODEL
    }

    fn embed(&self, text: &str) -> Option<Vec<f32>> {
        match engram_embed::Embedder::built_in() {
            Ok(embedder) => embedder.embed(text),
            Err(e) => {
                DAMAGED.call_once(|| {
                    tracing::error!(cause = %e, "the built-in embedder does not work: the program's file is damaged; install it again");
                });
                None
            }
        }
    }
}
