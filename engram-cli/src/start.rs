//! `engram start`: the glue between the command line and the server.

use std::path::Path;

use crate::args::StartArgs;
use crate::failure::{Failure, Outcome};
use crate::{engine, logging, settings};

/// `engram start`.
pub(crate) fn start(args: StartArgs, settings_file: Option<&Path>) -> Outcome {
    let dir = settings::data_dir(args.data.data.as_deref())?;
    logging::init(args.log, args.log_level);
    if let Some(file) = settings_file {
        tracing::info!(file = %file.display(), "read settings");
    }
    tracing::info!(dir = %dir.display(), "data directory");
    let options = engine::options(&args);
    let _ = (&options, &args.listen);
    Err(Failure::failed("the server is not part of this build yet"))
}
