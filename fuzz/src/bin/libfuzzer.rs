//! libFuzzer's entry: it chooses the inputs, `ENGRAM_FUZZ_TARGET` the target.

#![no_main]

use std::sync::LazyLock;

use engram_fuzz::Target;
use libfuzzer_sys::Corpus;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("ENGRAM_FUZZ_TARGET").unwrap_or_default();
    engram_fuzz::target(&name).expect("ENGRAM_FUZZ_TARGET names a target")
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| -> Corpus {
    if input.len() > TARGET.input_bytes_max {
        return Corpus::Reject;
    }
    (TARGET.run)(input);
    Corpus::Keep
});
