//! Embedding a space anew, and how far that is.

use engram_core::store::{EmbeddingState, EmbeddingStatus};
use hyper::StatusCode;
use serde::Serialize;

use super::{blocking, json};
use crate::app::App;
use crate::body::Response;
use crate::problem::{Kind, Problem};
use crate::request::{Names, Query};

#[derive(Serialize)]
struct Answer {
    space: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimension: Option<u32>,
    episodes: u64,
    embedded: u64,
    waiting: u64,
    refused: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
}

impl From<EmbeddingStatus> for Answer {
    fn from(status: EmbeddingStatus) -> Self {
        let EmbeddingStatus { space, state, model, dimension, .. } = status;
        let EmbeddingStatus { episodes, embedded, waiting, refused, cause, .. } = status;
        let state = state.name();
        Self { space, state, model, dimension, episodes, embedded, waiting, refused, cause }
    }
}

/// `POST /v1/spaces/{space}/reembed`: 202 while there is something to do, else 200.
pub(super) async fn begin(app: &App, names: Names, mut query: Query) -> Result<Response, Problem> {
    let replace_given = match query.take("replace_given")?.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(text) => {
            let (field, problem) = ("replace_given", "neither true nor false");
            return Err(Problem::of_field(Kind::Malformed, field, problem, "true or false", text));
        }
    };
    query.done("replace_given")?;
    let store = app.store()?.clone();
    // The embedder is asked first, and may be slow.
    let status = blocking(move || Ok(store.reembed(&names.space, replace_given)?)).await?;
    let under_way = matches!(status.state, EmbeddingState::Running | EmbeddingState::Unavailable);
    let mut response = json(&Answer::from(status))?;
    if under_way {
        *response.status_mut() = StatusCode::ACCEPTED;
    }
    Ok(response)
}

/// `GET /v1/spaces/{space}/reembed`
pub(super) async fn status(app: &App, names: Names, query: Query) -> Result<Response, Problem> {
    query.done("no parameters")?;
    let store = app.store()?.clone();
    json(&Answer::from(blocking(move || Ok(store.embedding_status(&names.space)?)).await?))
}
