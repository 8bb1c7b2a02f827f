//! The binary `engram`. All of it is in the library beside this file, where the fuzzers reach it too.

use std::process::ExitCode;

fn main() -> ExitCode {
    engram_cli::run_process()
}
