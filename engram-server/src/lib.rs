//! Engram over HTTP. This is the map of the crate.
//!
//! [`Server`] listens and serves; [`json`] is how episodes are written, for the command line
//! too; [`MetricsExporter`] is where figures go. Inside: `routes` is the table of routes and
//! their handlers, `request` and `body` take requests apart within bounds of size and time,
//! `problem` is every refusal, `connections` keeps clients from standing in each other's way.
//!
//! Deliberately absent: rules about memories (the engine's), TLS (a proxy's), and any output
//! but answers and `tracing` events.

mod app;
mod body;
mod config;
mod connections;
mod exporter;
pub mod json;
mod problem;
mod request;
mod routes;
mod server;
mod timing;

pub use config::{Config, EPISODE_BODY_BYTES_MAX};
pub use exporter::MetricsExporter;
pub use server::{Opening, Server};
