//! The binary `engram`. All of it is in the library beside this file, where the fuzzers reach it too.

use std::process::ExitCode;

/// What one thread allocates and another frees, as here each payload, is cheaper than in the system's
/// allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    engram_cli::run_process()
}
