//! Spaces: the list of them, and forgetting one whole.

use hyper::HeaderMap;
use serde::Serialize;

use super::{blocking, json};
use crate::app::App;
use crate::body::Response;
use crate::problem::Problem;
use crate::request::{Names, Query, no_condition};

/// `GET /v1/spaces`
pub(super) async fn list(app: &App, query: Query) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Answer {
        spaces: Vec<Space>,
    }
    #[derive(Serialize)]
    struct Space {
        name: String,
        episodes: u64,
        bytes: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        dimension: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        #[serde(skip_serializing_if = "is_zero")]
        unembedded: u64,
    }
    query.done("no parameters")?;
    let store = app.store()?.clone();
    // An index that is being loaded is waited for.
    blocking(move || {
        let spaces = store.spaces().into_iter().map(|space| Space {
            unembedded: store.index_info(&space.name).unembedded,
            name: space.name,
            episodes: space.episodes,
            bytes: space.bytes,
            dimension: space.dimension,
            model: space.model,
        });
        json(&Answer { spaces: spaces.collect() })
    })
    .await
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// `DELETE /v1/spaces/{space}`: answers with how many episodes it forgot, by which LSN, and how
/// many bytes the quarantine holds, which forgetting does not reach.
pub(super) async fn forget(
    app: &App,
    names: Names,
    query: Query,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Answer<'a> {
        space: &'a str,
        episodes: u64,
        lsn: u64,
        quarantine_bytes: u64,
    }
    query.done("no parameters")?;
    no_condition(headers)?;
    let store = app.store()?.clone();
    let forgotten = store.forget_space(&names.space)?.await?;
    let quarantine_bytes = blocking(move || Ok(store.quarantine_bytes())).await?;
    json(&Answer {
        space: &names.space,
        episodes: forgotten.episodes,
        lsn: forgotten.lsn,
        quarantine_bytes,
    })
}
