//! One episode at a time, and lists.

use engram_core::store::ListQuery;
use hyper::header::{ETAG, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use serde::Serialize;

use super::{blocking, embedding_form, json, json_text, of_read};
use crate::app::App;
use crate::body::{Body, MediaType, Response, receive};
use crate::config::{EPISODE_BODY_BYTES_MAX, INLINE_BYTES_MAX};
use crate::json::{EmbeddingForm, parse_draft, parse_time, write_episode};
use crate::problem::{Kind, Problem};
use crate::request::{Names, Query, condition, etag, has_already};

/// `POST /v1/spaces/{space}/episodes`
pub(super) async fn remember(
    app: &App,
    names: Names,
    query: Query,
    headers: &HeaderMap,
    body: &mut impl Body,
) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Answer<'a> {
        id: &'a str,
        space: &'a str,
        lsn: u64,
    }
    query.done("no parameters")?;
    if MediaType::of(headers)? == MediaType::NdJson {
        return Err(MediaType::refused("NDJSON; send it to …/episodes/batch"));
    }
    let condition = condition(headers)?;
    let store = app.store()?;
    let received = receive(app, body, EPISODE_BODY_BYTES_MAX).await?;
    let draft = if received.bytes.len() <= INLINE_BYTES_MAX {
        parse_draft(&received.bytes)?
    } else {
        blocking(move || Ok(parse_draft(&received.bytes)?)).await?
    };
    let kept = store.remember(&names.space, draft, condition)?.await?;
    let mut response = json(&Answer { id: &kept.id, space: &names.space, lsn: kept.lsn })?;
    if !kept.replaced {
        *response.status_mut() = StatusCode::CREATED;
    }
    Ok(tagged(response, kept.lsn))
}

/// `GET /v1/spaces/{space}/episodes/{id}`
pub(super) async fn get(
    app: &App,
    names: Names,
    mut query: Query,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let form = embedding_form(&mut query)?.unwrap_or(EmbeddingForm::List);
    query.done("embedding")?;
    let store = app.store()?.clone();
    // A disk that hangs must not hold up those who do not read.
    let stored = blocking(move || Ok(store.get(&names.space, &names.last)?)).await?;
    if has_already(headers, stored.lsn) {
        return Ok(tagged(empty(StatusCode::NOT_MODIFIED), stored.lsn));
    }
    let mut text = Vec::with_capacity(256 + stored.episode.what.len());
    write_episode(&mut text, &stored, form);
    Ok(tagged(json_text(text), stored.lsn))
}

/// `DELETE /v1/spaces/{space}/episodes/{id}`
pub(super) async fn forget(
    app: &App,
    names: Names,
    query: Query,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    query.done("no parameters")?;
    let condition = condition(headers)?;
    app.store()?.forget(&names.space, &names.last, condition)?.await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// `GET /v1/spaces/{space}/episodes`
pub(super) async fn list(app: &App, names: Names, mut query: Query) -> Result<Response, Problem> {
    let form = embedding_form(&mut query)?.unwrap_or(EmbeddingForm::None);
    let wanted = list_query(&mut query)?;
    query.done("one of from, to, who, where, limit, cursor, embedding")?;
    let store = app.store()?.clone();
    // A filter may make it read many episodes before it has found a page.
    blocking(move || {
        let page = store.list(&names.space, &wanted)?;
        let mut text = b"{\"episodes\":[".to_vec();
        for (index, stored) in page.episodes.iter().enumerate() {
            if index > 0 {
                text.push(b',');
            }
            write_episode(&mut text, stored, form);
        }
        text.extend_from_slice(b"],\"next_cursor\":");
        let cursor = serde_json::to_vec(&page.next_cursor).unwrap_or_else(|_| b"null".to_vec());
        text.extend_from_slice(&cursor);
        if !page.unreadable.is_empty() {
            // One bad frame must not hide the others, and must not be passed over in silence.
            let reasons: Vec<String> = page.unreadable.iter().map(ToString::to_string).collect();
            text.extend_from_slice(b",\"unreadable\":");
            text.extend_from_slice(&serde_json::to_vec(&reasons).unwrap_or_default());
        }
        text.push(b'}');
        Ok(json_text(text))
    })
    .await
}

fn list_query(query: &mut Query) -> Result<ListQuery, Problem> {
    let mut time = |name| -> Result<_, Problem> {
        query.take(name)?.map(|text| parse_time(name, &text)).transpose().map_err(of_read)
    };
    let (from, to) = (time("from")?, time("to")?);
    let limit = query.take("limit")?.map(|text| {
        text.parse().map_err(|_| {
            let bound = "a whole number from 1 to 1000";
            Problem::of_field(Kind::Malformed, "limit", "not a number", bound, text)
        })
    });
    Ok(ListQuery {
        from,
        to,
        who: query.take("who")?,
        place: query.take("where")?,
        limit: limit.transpose()?,
        cursor: query.take("cursor")?,
    })
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
}

fn tagged(mut response: Response, lsn: u64) -> Response {
    if let Ok(value) = HeaderValue::from_str(&etag(lsn)) {
        response.headers_mut().insert(ETAG, value);
    }
    response
}
