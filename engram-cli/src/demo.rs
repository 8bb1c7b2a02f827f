//! `engram demo`.
use crate::args::DemoArgs;
use crate::failure::{Failure, Outcome};
pub(crate) fn demo(args: &DemoArgs) -> Outcome {
    let _ = args.keep;
    Err(Failure::failed("not yet"))
}
