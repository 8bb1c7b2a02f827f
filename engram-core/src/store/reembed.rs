//! Embedding a space anew, by the configured embedder.
//!
//! It is one durable record: from its LSN on the space's vectors are those of the new model, and
//! everything else follows from that, in the background, as after any start. So it can be killed at
//! any moment and goes on at the next start, and whatever is remembered meanwhile is in order. No
//! episode is written again: ids, times and LSNs stay, and so do embeddings that callers gave. They
//! are only compared with nothing any more.

use super::Store;
use super::change::{Change, Redefine};
use crate::driver::PROBE;
use crate::embedder::Purpose;
use crate::error::{Error, Result};
use crate::index::space::{Basis, Source, SpaceIndex};
use crate::record::Definition;

/// How far a space's vectors are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmbeddingState {
    /// Nothing embeds its texts, and nobody gave a vector.
    None,
    /// Its callers give them; nothing embeds its texts.
    Given,
    /// They are of a model that is not the configured one: new texts get none.
    Foreign,
    /// Some are still to be made.
    Running,
    /// Some are still to be made, and the embedder gives none now; it is asked again.
    Unavailable,
    /// All are made.
    Done,
}

impl EmbeddingState {
    /// Its name in the interfaces.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Given => "given",
            Self::Foreign => "foreign",
            Self::Running => "running",
            Self::Unavailable => "unavailable",
            Self::Done => "done",
        }
    }
}

/// A space's vectors, and how many are still to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddingStatus {
    /// The space.
    pub space: String,
    /// How far they are.
    pub state: EmbeddingState,
    /// Their model, where it is known.
    pub model: Option<String>,
    /// Their dimension, where it is fixed.
    pub dimension: Option<u32>,
    /// Episodes of the space.
    pub episodes: u64,
    /// Those that have a vector in the index.
    pub embedded: u64,
    /// Those that wait for one.
    pub waiting: u64,
    /// Those whose text the embedder refused.
    pub refused: u64,
    /// Why the embedder gives none now.
    pub cause: Option<String>,
}

impl Store {
    /// Embeds the texts of a space by the configured embedder, whatever its vectors are now; what
    /// they are made of goes on in the background ([`Store::embedding_status`]). Where they are of
    /// that model already nothing is done but that refused texts are tried again.
    ///
    /// Asks the embedder first, and so blocks as long as a recall may.
    ///
    /// # Errors
    /// [`Error::NoSpace`]; [`Error::NoEmbedder`]; [`Error::GivenVectors`] where callers gave the
    /// vectors, unless `replace_given`; [`Error::Embedder`] when the embedder does not answer; or as
    /// any change. The space is then as it was.
    pub fn reembed(&self, space: &str, replace_given: bool) -> Result<EmbeddingStatus> {
        let shared = &self.inner.driver.shared;
        let space_key = self.inner.keys.space(space);
        let (exists, fixed) = shared.memory.look(|directory| {
            let exists = directory.space_episodes(space_key).is_some();
            (exists, directory.definition(space_key).cloned())
        });
        if !exists {
            return Err(Error::NoSpace { space: space.to_owned() });
        }
        if !shared.embedding.embeds() {
            return Err(Error::NoEmbedder);
        }
        // A space whose vectors are made on the spot is fixed to nothing.
        let free = Definition { made: true, ..Definition::default() };
        let wanted = shared.embedding.configured().cloned();
        if fixed == wanted {
            let (cell, _) = shared.caught_up(space_key);
            cell.change(SpaceIndex::retry_refused);
            shared.embedding.arm();
            return self.embedding_status(space);
        }
        if let Some(given) = fixed.filter(|fixed| !fixed.made && !replace_given) {
            let (space, dimension) = (space.to_owned(), given.dimension);
            return Err(Error::GivenVectors { space, dimension });
        }
        if wanted.is_some() {
            let asked = shared.ask(&[PROBE], Purpose::Cue);
            asked.map_err(|e| Error::Embedder { cause: e.to_string() })?;
        }
        let over = if replace_given { Redefine::Given } else { Redefine::Made };
        shared.define(Change::define(space_key, space, wanted.unwrap_or(free), over))?;
        shared.arm_indexing();
        self.embedding_status(space)
    }

    /// How far the vectors of a space are.
    ///
    /// # Errors
    /// [`Error::NoSpace`].
    pub fn embedding_status(&self, space: &str) -> Result<EmbeddingStatus> {
        let shared = &self.inner.driver.shared;
        let space_key = self.inner.keys.space(space);
        let (episodes, basis) = shared.memory.look(|directory| {
            (directory.space_episodes(space_key), shared.basis(directory, space_key))
        });
        let Some(episodes) = episodes else {
            return Err(Error::NoSpace { space: space.to_owned() });
        };
        let made = shared.embedding_figures(space_key, &basis, episodes);
        let cause = shared.embedding.failing().filter(|_| basis.embeds && made.waiting > 0);
        let state = match basis.source {
            Source::None => EmbeddingState::None,
            Source::Given => EmbeddingState::Given,
            Source::Made if !basis.embeds => EmbeddingState::Foreign,
            Source::Made if made.waiting == 0 => EmbeddingState::Done,
            Source::Made if cause.is_some() => EmbeddingState::Unavailable,
            Source::Made => EmbeddingState::Running,
        };
        let Basis { model, dimension, .. } = basis;
        Ok(EmbeddingStatus {
            space: space.to_owned(),
            state,
            model: model.as_deref().map(str::to_owned),
            dimension: Some(dimension).filter(|&dimension| dimension > 0),
            episodes,
            embedded: made.embedded,
            waiting: made.waiting,
            refused: made.refused,
            cause,
        })
    }
}
