//! What each request is answered with, and what goes around every answer.
//!
//! MCP, `OpenAPI` and authentication are not built yet: their paths get the 404 of every unknown one.

mod batch;
mod episodes;
mod health;
mod place;
mod recall;
mod reembed;
mod spaces;
mod wal;

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use http::request::Parts;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode};
use serde::Serialize;
use tokio::time::Instant;

use self::place::{Found, Place, TABLE, find};
use crate::app::App;
use crate::body::{Body, Response};
use crate::json::{EmbeddingForm, JsonError};
use crate::leftover::Refusable;
use crate::problem::{Kind, Problem};
use crate::request::Query;
use crate::timing::RouteTimer;

/// Answers requests; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Router(Arc<Routes>);

#[derive(Debug)]
struct Routes {
    app: App,
    /// One for each place.
    timers: [RouteTimer; TABLE.len()],
}

impl Router {
    pub(crate) fn new(app: App) -> Self {
        let timers = TABLE.map(|(_, path, _)| RouteTimer::new(app.metrics().clone(), path));
        Self(Arc::new(Routes { app, timers }))
    }

    /// Answers a request. Its latency is counted by the path's template, a panic becomes an answer,
    /// and the rest of a refused body is read, so that the client gets to hear the refusal.
    pub(crate) async fn respond(&self, request: Request<impl Body + 'static>) -> Response {
        let start = Instant::now();
        let (head, body) = request.into_parts();
        let mut body = Refusable::new(&head, body);
        let found = find(head.uri.path());
        let (_, path, _) = TABLE[found.place as usize];
        let response = guarded(path, answer(&self.0.app, &head, found, &mut body)).await;
        let status = response.status();
        // Of a client that sends too slowly nothing more is wanted.
        let slow = status == StatusCode::REQUEST_TIMEOUT;
        if (status.is_client_error() || status.is_server_error()) && !slow {
            body.drain();
        }
        self.0.timers[found.place as usize].record(&head.method, status, start.elapsed());
        response
    }
}

/// The answer, also where there is none because of a problem or a panic.
async fn guarded(path: &str, answer: impl Future<Output = Result<Response, Problem>>) -> Response {
    match AssertUnwindSafe(answer).catch_unwind().await {
        Ok(answer) => answer.unwrap_or_else(Response::from),
        Err(panic) => panicked(path, &*panic),
    }
}

/// The table of what is done where.
async fn answer(
    app: &App,
    head: &Parts,
    found: Found<'_>,
    body: &mut impl Body,
) -> Result<Response, Problem> {
    let Parts { uri, headers, .. } = head;
    let (names, query) = (|| found.names(), || Query::of(uri));
    // Who asks for the head only gets the same head.
    let is_read = matches!(head.method, Method::GET | Method::HEAD);
    let method = if is_read { &Method::GET } else { &head.method };
    match (found.place, method) {
        (Place::Root, &Method::GET) => health::root(),
        (Place::Live, &Method::GET) => health::live(),
        (Place::Ready, &Method::GET) => health::ready(app),
        (Place::Metrics, &Method::GET) => health::metrics(app, headers).await,
        (Place::Spaces, &Method::GET) => spaces::list(app, query()?).await,
        (Place::Space, &Method::DELETE) => spaces::forget(app, names()?, query()?, headers).await,
        (Place::Episodes, &Method::POST) => {
            episodes::remember(app, names()?, query()?, headers, body).await
        }
        (Place::Episodes, &Method::GET) => episodes::list(app, names()?, query()?).await,
        (Place::Batch, &Method::POST) => {
            batch::remember(app, names()?, query()?, headers, body).await
        }
        (Place::Batch | Place::Episode, &Method::GET) => {
            episodes::get(app, names()?, query()?, headers).await
        }
        (Place::Batch | Place::Episode, &Method::DELETE) => {
            episodes::forget(app, names()?, query()?, headers).await
        }
        (Place::Recall, &Method::POST) => {
            recall::recall(app, names()?, query()?, headers, body).await
        }
        (Place::Reembed, &Method::POST) => reembed::begin(app, names()?, query()?).await,
        (Place::Reembed, &Method::GET) => reembed::status(app, names()?, query()?).await,
        (Place::Wal, &Method::GET) => wal::status(app, query()?).await,
        (Place::Recovery, &Method::GET) => wal::recovery(app, query()?),
        (Place::Incidents, &Method::GET) => wal::incidents(app, query()?),
        (Place::Compact, &Method::POST) => wal::compact(app, query()?).await,
        (Place::Quarantine, &Method::GET) => wal::quarantine(app, query()?).await,
        (Place::Restore, &Method::POST) => wal::restore(app, names()?, query()?).await,
        (Place::Unknown, _) => Err(no_route(uri.path())),
        (place, _) => Ok(no_method(&head.method, place)),
    }
}

fn no_route(path: &str) -> Problem {
    Problem::of_field(
        Kind::NoRoute,
        "path",
        "there is nothing here",
        "a path of Engram's HTTP interface, such as /v1/spaces/{space}/episodes",
        path.chars().take(100).collect::<String>(),
    )
}

fn no_method(method: &Method, place: Place) -> Response {
    let (_, _, allowed) = TABLE[place as usize];
    let mut response = Response::from(Problem::of_field(
        Kind::MethodNotAllowed,
        "method",
        "not one that this path takes",
        "the methods in the Allow header",
        method.as_str(),
    ));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

fn panicked(path: &str, panic: &(dyn Any + Send)) -> Response {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    tracing::error!(route = path, panic = text, "a request's handler panicked; please report it");
    Response::from(Problem::new(
        Kind::Internal,
        "a defect in the server ended this request; the log says where; the outcome of a change \
         is unknown",
    ))
}

/// An answer of 200 with JSON.
fn json<T: Serialize>(value: &T) -> Result<Response, Problem> {
    serde_json::to_vec(value)
        .map(json_text)
        .map_err(|error| Problem::new(Kind::Internal, format!("cannot print the answer: {error}")))
}

/// An answer of 200 with text that is JSON.
fn json_text(text: Vec<u8>) -> Response {
    let mut response = Response::new(text.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The refusal of a read, which has no need to say that nothing was stored.
fn of_read(error: JsonError) -> Problem {
    match error {
        JsonError::Malformed(told) => {
            Problem::of_field(Kind::Malformed, told.field, &told.problem, told.bound, told.value)
        }
        JsonError::Refused(error) => error.into(),
    }
}

/// How embeddings are to come back, if the query says so.
fn embedding_form(query: &mut Query) -> Result<Option<EmbeddingForm>, Problem> {
    let Some(text) = query.take("embedding")? else { return Ok(None) };
    EmbeddingForm::named(&text).map(Some).ok_or_else(|| {
        let bound = "list, base64 or none";
        Problem::of_field(Kind::Malformed, "embedding", "no such form", bound, text)
    })
}

/// Runs what may take long away from the threads that serve everybody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => match error.try_into_panic() {
            // Goes on to `panicked`, as if it had happened in the handler.
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(engram_core::Error::Closed.into()),
        },
    }
}

#[cfg(test)]
mod tests;
