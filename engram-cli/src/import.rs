//! `engram import`.
use crate::args::ImportArgs;
use crate::failure::{Failure, Outcome};
pub(crate) fn import(args: &ImportArgs) -> Outcome {
    let _ = (&args.file, &args.server, &args.space, args.replace);
    Err(Failure::failed("not yet"))
}
