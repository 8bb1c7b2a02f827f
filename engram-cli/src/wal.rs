//! `engram wal`: a log seen without a server, or through one.

mod look;
mod quarantine;

use std::path::{Path, PathBuf};

use engram_core::storage::wal::report::CompactionStats;
use engram_core::{Error, Store};

use tracing_subscriber::filter::LevelFilter;

use crate::args::{DataArgs, LogFormat, WalCommand, WalServerArgs};
use crate::client::{Client, Method};
use crate::engine::visit_options;
use crate::episodes::print_body;
use crate::failure::{Failure, Outcome, note};
use crate::overview::{seconds, size};
use crate::{logging, out, settings};

/// `engram wal …`.
pub(crate) fn wal(command: WalCommand) -> Outcome {
    // A look holds the files of all segments open.
    engram_server::raise_descriptor_limit();
    match command {
        WalCommand::Inspect(args) => look::inspect(&args),
        WalCommand::Verify(args) => look::verify(&args),
        WalCommand::Dump(args) => look::dump(&args),
        WalCommand::Compact(args) => compact(&args),
        WalCommand::Quarantine(args) => quarantine::quarantine(args.command),
    }
}

/// The data directory, which must be there: looking at it must not make one.
fn existing(args: &DataArgs) -> Outcome<PathBuf> {
    let dir = settings::data_dir(args.data.as_deref())?;
    if dir.is_dir() {
        return Ok(dir);
    }
    let problem = if dir.exists() { "is not a directory" } else { "does not exist" };
    Err(Failure::failed(format!(
        "{} {problem}; name the data directory with --data",
        dir.display()
    )))
}

/// Opens the store for one task, and closes it well.
fn with_store<T>(dir: &Path, task: impl FnOnce(&Store) -> engram_core::Result<T>) -> Outcome<T> {
    if !look::has_log(dir)? {
        return Err(look::no_memory(dir));
    }
    // It recovers: damage that it finds is said now, for it is said once.
    logging::init(LogFormat::Text, LevelFilter::WARN);
    let store = Store::open(dir, visit_options()).map_err(|error| match error {
        Error::Locked { .. } => Failure::failed(format!(
            "{} is in use by a running server; ask it with --server URL, or stop it first",
            dir.display()
        )),
        error => error.into(),
    })?;
    if let Some(legacy) = &store.recovery_report().legacy {
        let taken = out::count(legacy.files, "file", "files");
        note(&format!("took over {taken} of v0.1.0; they are in the quarantine until purged"));
    }
    let done = task(&store);
    store.close()?;
    Ok(done?)
}

fn compact(args: &WalServerArgs) -> Outcome {
    let stats: CompactionStats = if let Some(server) = &args.server {
        let client = Client::new(server)?;
        let answer = client
            .send(Method::Post("application/json"), "/v1/wal/compact", &[], &[])?
            .success()?;
        if args.offline.json {
            return print_body(&answer.body);
        }
        answer.json()?
    } else {
        let dir = existing(&args.offline.data)?;
        with_store(&dir, Store::compact_from_memory)?
    };
    if args.offline.json {
        return out::json(&stats);
    }
    if stats.segments_in == 0 {
        return out::line("nothing to reclaim; nothing was written");
    }
    out::line(&format!(
        "compacted {} into {}: {} reclaimed ({} to {}), {} kept, {} dropped, in {}",
        out::count(stats.segments_in, "segment", "segments"),
        stats.segments_out,
        size(stats.bytes_reclaimed),
        size(stats.bytes_before),
        size(stats.bytes_after),
        out::count(stats.frames_kept, "frame", "frames"),
        stats.frames_dropped,
        seconds(stats.duration_seconds),
    ))
}
