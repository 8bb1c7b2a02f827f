//! Engram over HTTP. This is the map of the crate.
//!
//! [`Server`] listens and serves; [`json`] is how episodes are written, for the command line
//! too; [`MetricsExporter`] is where figures go. Inside: `routes` is the table of routes and
//! their handlers, `request` and `body` take requests apart within bounds of size and time,
//! `problem` is every refusal, `connections` keeps clients from standing in each other's way.
//!
//! # Problems
//! Every 4xx and 5xx is an `application/problem+json` whose `type` is one of these. Where a value
//! is to blame, `field`, `bound` and `value` stand beside `detail`; `Retry-After` comes where
//! trying again helps. (Bytes that are no HTTP at all get hyper's bare 400, 414 or 431.)
//!
//! | `type` | status | when |
//! | --- | --- | --- |
//! | `/problems/malformed` | 400 | JSON, a query or a header that is not of the right form |
//! | `/problems/no-route` `no-space` `no-episode` `not-found` | 404 | there is no such thing |
//! | `/problems/method-not-allowed` | 405 | `Allow` names the methods that the path takes |
//! | `/problems/timeout` | 408 | the body came too slowly |
//! | `/problems/dimension` | 409 | the space has another dimension than the embedding |
//! | `/problems/model` | 409 | the space has vectors of another model |
//! | `/problems/given-vectors` `no-embedder` `no-vectors` | 409 | the space's vectors are its callers', nothing makes any, or it has none |
//! | `/problems/key-collision` | 409 | the id cannot be used in this store |
//! | `/problems/precondition` | 412 | `If-Match` or `If-None-Match` does not hold |
//! | `/problems/too-large` | 413 | a body, a field or a batch is over its bound |
//! | `/problems/unsupported-media-type` | 415 | neither JSON nor, for batches, NDJSON |
//! | `/problems/limit` | 422 | a value breaks its limit otherwise |
//! | `/problems/busy` | 429 | too much at once; nothing was changed |
//! | `/problems/recovering` | 503 | `progress` tells how far the log is read |
//! | `/problems/gap` | 503 | LSNs are missing or unreadable; `detail` names the way on |
//! | `/problems/cannot-open` | 503 | the data directory cannot be opened as it is |
//! | `/problems/poisoned` | 503 | the log takes no writes; `outcome` is `unknown` |
//! | `/problems/embedder` | 503 | the embedder does not answer |
//! | `/problems/closing` | 503 | the server is stopping |
//! | `/problems/disk-full` | 507 | reads and forgets go on |
//! | `/problems/unreadable` `io` `internal` | 500 | stored bytes, the system, or a defect |
//!
//! Deliberately absent: rules about memories (the engine's), TLS (a proxy's), and any output
//! but answers and `tracing` events.

mod app;
mod body;
mod config;
mod connections;
mod exporter;
pub mod json;
mod leftover;
mod problem;
mod request;
mod routes;
mod server;
mod timing;

pub use config::{CUE_BODY_BYTES_MAX, Config, EPISODE_BODY_BYTES_MAX};
pub use exporter::MetricsExporter;
pub use server::{Opening, Server, raise_descriptor_limit};
