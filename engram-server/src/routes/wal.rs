//! The log, as operators see it.

use engram_core::storage::wal::report::{WalState, WalStatus};
use serde::Serialize;

use super::{blocking, json};
use crate::app::App;
use crate::body::Response;
use crate::problem::Problem;
use crate::request::{Names, Query};

/// `GET /v1/wal`; also answers while the log is being recovered, with nothing counted yet.
pub(super) async fn status(app: &App, query: Query) -> Result<Response, Problem> {
    query.done("no parameters")?;
    match app.store() {
        Ok(store) => {
            let store = store.clone();
            // It counts what is in the quarantine.
            json(&blocking(move || Ok(store.wal())).await?)
        }
        Err(_) if app.recovering() => json(&WalStatus {
            state: WalState::Recovering,
            durability: app.durability().to_owned(),
            head_lsn: 0,
            synced_lsn: 0,
            live_bytes: 0,
            dead_bytes: 0,
            preallocated_bytes: 0,
            quarantine_bytes: 0,
            segments: Vec::new(),
        }),
        Err(problem) => Err(problem),
    }
}

/// `GET /v1/wal/recovery`
pub(super) fn recovery(app: &App, query: Query) -> Result<Response, Problem> {
    query.done("no parameters")?;
    json(&*app.store()?.recovery_report())
}

/// `GET /v1/wal/incidents`
pub(super) fn incidents(app: &App, query: Query) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Answer<T> {
        incidents: Vec<T>,
    }
    query.done("no parameters")?;
    json(&Answer { incidents: app.store()?.incidents() })
}

/// `POST /v1/wal/compact`
pub(super) async fn compact(app: &App, query: Query) -> Result<Response, Problem> {
    query.done("no parameters")?;
    let store = app.store()?.clone();
    json(&blocking(move || Ok(store.compact_from_memory()?)).await?)
}

/// `GET /v1/wal/quarantine`
pub(super) async fn quarantine(app: &App, query: Query) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Answer<T> {
        items: Vec<T>,
    }
    query.done("no parameters")?;
    let store = app.store()?.clone();
    json(&Answer { items: blocking(move || Ok(store.quarantine()?)).await? })
}

/// `POST /v1/wal/quarantine/{name}/restore`
pub(super) async fn restore(app: &App, names: Names, query: Query) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Answer {
        restored: u64,
        skipped: u64,
    }
    query.done("no parameters")?;
    let store = app.store()?.clone();
    let (restored, skipped) = blocking(move || Ok(store.quarantine_restore(&names.last)?)).await?;
    json(&Answer { restored, skipped })
}
