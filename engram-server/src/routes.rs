//! The table of routes, and what goes around every handler.
//!
//! Other issues add theirs here: MCP, `OpenAPI` and authentication have no route yet, and get the
//! 404 of every unknown path.

mod batch;
mod episodes;
mod health;
mod recall;
mod reembed;
mod spaces;
mod wal;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Router, response::IntoResponse};
use futures_util::FutureExt;
use serde::Serialize;
use std::panic::AssertUnwindSafe;

use crate::app::App;
use crate::json::{EmbeddingForm, JsonError};
use crate::leftover::Leftover;
use crate::problem::{Kind, Problem};
use crate::request::Query;
use crate::timing::RouteTimer;

/// All routes.
pub(crate) fn router(app: &App) -> Router {
    let table: [(&'static str, MethodRouter<App>); 17] = [
        ("/v1/spaces", get(spaces::list)),
        ("/v1/spaces/{space}", delete(spaces::forget)),
        ("/v1/spaces/{space}/episodes", post(episodes::remember).get(episodes::list)),
        (
            // `batch` is an id as good as any other, except to POST.
            "/v1/spaces/{space}/episodes/batch",
            post(batch::remember).get(episodes::get).delete(episodes::forget),
        ),
        ("/v1/spaces/{space}/episodes/{id}", get(episodes::get).delete(episodes::forget)),
        ("/v1/spaces/{space}/recall", post(recall::recall)),
        ("/v1/spaces/{space}/reembed", post(reembed::begin).get(reembed::status)),
        ("/v1/wal", get(wal::status)),
        ("/v1/wal/recovery", get(wal::recovery)),
        ("/v1/wal/incidents", get(wal::incidents)),
        ("/v1/wal/compact", post(wal::compact)),
        ("/v1/wal/quarantine", get(wal::quarantine)),
        ("/v1/wal/quarantine/{name}/restore", post(wal::restore)),
        ("/livez", get(health::live)),
        ("/readyz", get(health::ready)),
        ("/metrics", get(health::metrics)),
        ("/", get(health::root)),
    ];
    let mut router = Router::new();
    for (path, methods) in table {
        router = router.route(path, around(app, path, methods.fallback(no_method)));
    }
    let unknown = around(app, "unknown", axum::routing::any(no_route));
    router.fallback_service(unknown.with_state(app.clone())).with_state(app.clone())
}

/// A route with what goes around it: latency by its template, panics turned into answers, and
/// the rest of a refused body read, so that the client gets to hear the refusal.
fn around(app: &App, path: &'static str, methods: MethodRouter<App>) -> MethodRouter<App> {
    let timer = RouteTimer::new(app.metrics().clone(), path);
    methods.layer(from_fn(move |request: Request, next: Next| {
        let timer = timer.clone();
        async move {
            let method = request.method().clone();
            let start = tokio::time::Instant::now();
            let (request, leftover) = Leftover::of(request);
            let outcome = AssertUnwindSafe(next.run(request)).catch_unwind().await;
            let response = outcome.unwrap_or_else(|panic| panicked(path, &*panic));
            let status = response.status();
            // Of a client that sends too slowly nothing more is wanted.
            let slow = status == StatusCode::REQUEST_TIMEOUT;
            let refused = status.is_client_error() || status.is_server_error();
            if let Some(leftover) = leftover.filter(|_| refused && !slow) {
                leftover.drain();
            }
            timer.record(&method, status, start.elapsed());
            response
        }
    }))
}

async fn no_route(request: Request) -> Problem {
    let path = request.uri().path();
    Problem::of_field(
        Kind::NoRoute,
        "path",
        "there is nothing here",
        "a path of Engram's HTTP interface, such as /v1/spaces/{space}/episodes",
        path.chars().take(100).collect::<String>(),
    )
}

async fn no_method(method: Method) -> Problem {
    Problem::of_field(
        Kind::MethodNotAllowed,
        "method",
        "not one that this path takes",
        "the methods in the Allow header",
        method.as_str(),
    )
}

fn panicked(path: &str, panic: &(dyn std::any::Any + Send)) -> Response {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    tracing::error!(route = path, panic = text, "a request's handler panicked; please report it");
    Problem::new(
        Kind::Internal,
        "a defect in the server ended this request; the log says where; the outcome of a change \
         is unknown",
    )
    .into_response()
}

/// An answer of 200 with JSON.
fn json<T: Serialize>(value: &T) -> Result<Response, Problem> {
    serde_json::to_vec(value)
        .map(json_text)
        .map_err(|error| Problem::new(Kind::Internal, format!("cannot print the answer: {error}")))
}

/// An answer of 200 with text that is JSON.
fn json_text(text: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(text));
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
