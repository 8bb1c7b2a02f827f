//! Real input: the committed sample of a chat corpus (1,000 messages).

use std::path::{Path, PathBuf};

use serde_json::Value;

/// The sample's path.
pub(crate) fn path() -> PathBuf {
    fixtures().join("chitchat-sample.jsonl")
}

/// Where the engine's fixtures are.
pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../engram-core/tests/fixtures")
}

/// Its episodes, as a request carries them.
pub(crate) fn sample() -> Vec<Value> {
    let text = std::fs::read_to_string(path()).unwrap();
    let episode = |line| {
        let mut episode: Value = serde_json::from_str(line).unwrap();
        // The path of a request says it.
        episode.as_object_mut().unwrap().remove("space");
        episode
    };
    text.lines().map(episode).collect()
}

/// Whether an episode that came back is the one that was sent, in every field that was sent.
pub(crate) fn same(sent: &Value, back: &Value) -> bool {
    sent.as_object().unwrap().iter().all(|(name, value)| back[name] == *value)
}
