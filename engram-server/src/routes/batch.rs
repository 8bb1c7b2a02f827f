//! Many episodes in one request: a bad one never spoils its neighbours.

use std::collections::BTreeMap;

use engram_core::episode::limits::BATCH_BYTES_MAX;
use engram_core::store::{BatchOutcome, Pending};
use engram_core::{Condition, Store};
use hyper::HeaderMap;
use serde::Serialize;

use super::{blocking, json};
use crate::app::App;
use crate::body::{Body, MediaType, Response, receive};
use crate::config::INLINE_BYTES_MAX;
use crate::json::{JsonError, parse_array, parse_ndjson};
use crate::problem::{Kind, Problem};
use crate::request::{Names, Query, condition};

/// What was told about members that are no episodes, by index.
type Unreadable = BTreeMap<usize, JsonError>;

/// `POST /v1/spaces/{space}/episodes/batch`
pub(super) async fn remember(
    app: &App,
    names: Names,
    query: Query,
    headers: &HeaderMap,
    body: &mut impl Body,
) -> Result<Response, Problem> {
    query.done("no parameters")?;
    let media = MediaType::of(headers)?;
    let condition = condition(headers)?;
    if let Condition::Lsn(lsn) = condition {
        let (problem, bound) = ("cannot hold for a whole batch", "If-None-Match: *, or nothing");
        let value = lsn.to_string();
        return Err(Problem::of_field(Kind::Malformed, "if-match", problem, bound, value));
    }
    let store = app.store()?.clone();
    let received = receive(app, body, BATCH_BYTES_MAX).await?;
    let (pending, unreadable) = if received.bytes.len() <= INLINE_BYTES_MAX {
        submit(&store, &names.space, &received.bytes, media, condition)?
    } else {
        blocking(move || submit(&store, &names.space, &received.bytes, media, condition)).await?
    };
    answer(pending.await?, unreadable)
}

fn submit(
    store: &Store,
    space: &str,
    bytes: &[u8],
    media: MediaType,
    condition: Condition,
) -> Result<(Pending<BatchOutcome>, Unreadable), Problem> {
    let array = match media {
        MediaType::Json => true,
        MediaType::NdJson => false,
        MediaType::Unsaid => bytes.trim_ascii_start().starts_with(b"["),
    };
    let drafts = if array { parse_array(bytes)? } else { parse_ndjson(bytes)? };
    let mut unreadable = Unreadable::new();
    let drafts = drafts.into_iter().enumerate().map(|(index, draft)| {
        draft.map_err(|error| {
            unreadable.insert(index, error.clone());
            error.into()
        })
    });
    let drafts = drafts.collect();
    Ok((store.remember_batch(space, drafts, condition)?, unreadable))
}

fn answer(outcome: BatchOutcome, mut unreadable: Unreadable) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Answer {
        accepted: usize,
        first_lsn: Option<u64>,
        last_lsn: Option<u64>,
        rejected: Vec<Rejected>,
    }
    #[derive(Serialize)]
    struct Rejected {
        index: usize,
        error: Problem,
    }
    let rejected = outcome.rejected.into_iter().map(|(index, error)| {
        // What this file knew about unreadable text is more than the engine's errors can carry.
        let error = unreadable.remove(&index).map_or_else(|| error.into(), Problem::from);
        Rejected { index, error }
    });
    json(&Answer {
        accepted: outcome.accepted,
        first_lsn: outcome.first_lsn,
        last_lsn: outcome.last_lsn,
        rejected: rejected.collect(),
    })
}
