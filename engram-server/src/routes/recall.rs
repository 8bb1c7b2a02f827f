//! Recall: a cue in, the episodes that answer it out.

use hyper::HeaderMap;
use tokio::time::Instant;

use super::{blocking, embedding_form, json_text, of_read};
use crate::app::App;
use crate::body::{Body, MediaType, Response, receive};
use crate::config::CUE_BODY_BYTES_MAX;
use crate::json::{EmbeddingForm, parse_cue, write_recollection};
use crate::problem::Problem;
use crate::request::{Names, Query};

/// `POST /v1/spaces/{space}/recall`
pub(super) async fn recall(
    app: &App,
    names: Names,
    mut query: Query,
    headers: &HeaderMap,
    body: &mut impl Body,
) -> Result<Response, Problem> {
    let form = embedding_form(&mut query)?.unwrap_or(EmbeddingForm::None);
    query.done("embedding")?;
    if MediaType::of(headers)? == MediaType::NdJson {
        return Err(MediaType::refused("NDJSON; a recall takes one cue, as application/json"));
    }
    let store = app.store()?.clone();
    let received = receive(app, body, CUE_BODY_BYTES_MAX).await?;
    // Mostly it takes a millisecond. Up to 1,000 reads of a cold disk and a filter over a large
    // space take far longer, and would stop all connections of a thread that serves everybody;
    // the way to another thread costs microseconds.
    blocking(move || {
        let cue = parse_cue(&received.bytes).map_err(of_read)?;
        let began = Instant::now();
        let recollection = store.recall(&names.space, &cue)?;
        let took = began.elapsed();
        let mut text = Vec::with_capacity(512 * (1 + recollection.episodes.len()));
        write_recollection(&mut text, &recollection, took, form);
        Ok(json_text(text))
    })
    .await
}
