//! Whether the server lives, whether it is ready, and its figures.

use engram_core::Store;
use engram_core::storage::wal::report::WalState;
use engram_core::store::SpaceInfo;
use hyper::HeaderMap;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use serde::Serialize;

use super::{blocking, json};
use crate::app::App;
use crate::body::Response;
use crate::exporter::SpaceFigures;
use crate::problem::{Kind, Problem};

/// `GET /livez`: 200 as long as the process answers at all.
pub(super) fn live() -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Answer {
        status: &'static str,
    }
    json(&Answer { status: "alive" })
}

/// `GET /readyz`: 200 when reads and writes are served. A full disk is not unready: reads and
/// forgets go on, and writing resumes by itself.
pub(super) fn ready(app: &App) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Answer {
        status: &'static str,
        state: WalState,
    }
    if app.closing() {
        return Err(Problem::new(Kind::Closing, "the server is stopping"));
    }
    let store = app.store()?;
    if let Some(cause) = store.poisoned_by() {
        let detail = format!(
            "the log takes no writes since: {cause}; reads go on; restart to recover all that was \
             acknowledged"
        );
        return Err(Problem::new(Kind::Poisoned, detail));
    }
    json(&Answer { status: "ready", state: store.state() })
}

/// `GET /metrics`
pub(super) async fn metrics(app: &App, headers: &HeaderMap) -> Result<Response, Problem> {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let app = app.clone();
    // An index that is being loaded is waited for.
    blocking(move || {
        let spaces = app.open_store().map(figures_of_spaces).unwrap_or_default();
        let (kind, text) = app.metrics().render_with(accept.as_deref(), &spaces);
        let mut response = Response::new(text.into());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        Ok(response)
    })
    .await
}

fn figures_of_spaces(store: &Store) -> Vec<SpaceFigures> {
    // What a purge beside the server has removed is not told to the gauge.
    let _shown_by_its_gauge = store.quarantine_bytes();
    let figures = |space: SpaceInfo| {
        let index = store.index_info(&space.name);
        SpaceFigures {
            name: space.name,
            episodes: space.episodes,
            index_bytes: index.bytes,
            unembedded: index.unembedded,
        }
    };
    store.spaces().into_iter().map(figures).collect()
}

/// `GET /`: which program this is.
pub(super) fn root() -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Answer {
        name: &'static str,
        version: &'static str,
    }
    json(&Answer { name: "engram", version: env!("CARGO_PKG_VERSION") })
}
