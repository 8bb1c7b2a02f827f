//! Whether the server lives, whether it is ready, and its figures.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use engram_core::Store;
use engram_core::storage::wal::report::WalState;
use engram_core::store::SpaceInfo;
use serde::Serialize;

use super::json;
use crate::app::App;
use crate::exporter::SpaceFigures;
use crate::problem::{Kind, Problem};

/// `GET /livez`: 200 as long as the process answers at all.
pub(super) async fn live() -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Answer {
        status: &'static str,
    }
    json(&Answer { status: "alive" })
}

/// `GET /readyz`: 200 when reads and writes are served. A full disk is not unready: reads and
/// forgets go on, and writing resumes by itself.
pub(super) async fn ready(State(app): State<App>) -> Result<Response, Problem> {
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
pub(super) async fn metrics(State(app): State<App>, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let spaces = app.open_store().map(figures_of_spaces).unwrap_or_default();
    let (kind, text) = app.metrics().render_with(accept, &spaces);
    ([(CONTENT_TYPE, kind)], text).into_response()
}

fn figures_of_spaces(store: &Store) -> Vec<SpaceFigures> {
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
pub(super) async fn root() -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Answer {
        name: &'static str,
        version: &'static str,
    }
    json(&Answer { name: "engram", version: env!("CARGO_PKG_VERSION") })
}
