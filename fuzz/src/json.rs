//! Episodes as callers write them, one and many.

use engram_core::{Draft, Episode, StoredEpisode, Timestamp};
use engram_server::json::{
    EmbeddingForm, JsonError, Line, parse_array, parse_draft, parse_line, parse_ndjson,
    write_episode,
};

use crate::meter::Bound;

/// Strings as they stand, growing by doubling; a dimension is 4 bytes for each 2 of text; and one
/// refusal, which quotes a little of what it refuses.
const ONE: Bound = Bound { fixed_bytes: 8 << 10, per_byte: 12 };
/// The worst are members of two bytes, each of which gets a refusal of its own.
const MANY: Bound = Bound { fixed_bytes: 8 << 10, per_byte: 512 };
/// A refusal is for people, and quotes no more than they can read.
const REFUSAL_BYTES_MAX: usize = 2 << 10;

/// The laws of one input.
pub fn run(input: &[u8]) {
    let line = ONE.hold("a line", input.len(), || parse_line(input));
    let draft = ONE.hold("an episode", input.len(), || parse_draft(input));
    for refusal in [line.as_ref().err(), draft.as_ref().err()].into_iter().flatten() {
        check_refusal(refusal);
    }
    if let Ok(draft) = &draft {
        let same = Line { draft: draft.clone(), space: None };
        assert_eq!(line.as_ref().ok(), Some(&same), "an episode is a line that names no space");
    }
    if let Ok(line) = line {
        check_line(line);
    }
    let members = MANY.hold("an array", input.len(), || parse_array(input));
    let lines = MANY.hold("lines", input.len(), || parse_ndjson(input));
    for many in [members, lines] {
        many.iter().flatten().filter_map(|one| one.as_ref().err()).for_each(check_refusal);
        many.as_ref().err().into_iter().for_each(check_refusal);
    }
    if draft.is_ok() && !input.contains(&b'\n') {
        let alone = [b"[".as_slice(), input, b"]"].concat();
        for many in [parse_array(&alone), parse_ndjson(input)] {
            let many: Vec<Option<Draft>> = many.into_iter().flatten().map(Result::ok).collect();
            assert_eq!(many, [draft.as_ref().ok().cloned()], "alone in a batch");
        }
    }
}

fn check_refusal(refusal: &JsonError) {
    let text = refusal.to_string();
    assert!(text.len() <= REFUSAL_BYTES_MAX, "a refusal of {} bytes: {text}", text.len());
    if let JsonError::Malformed(malformed) = refusal {
        assert!(!malformed.bound.is_empty() && !malformed.problem.is_empty(), "{malformed:?}");
    }
}

/// What is legal is written, and reads back as it was.
fn check_line(line: Line) {
    let Ok(episode) = line.draft.check(Timestamp::UNIX_EPOCH, || "made".into()) else { return };
    let space = line.space.unwrap_or_else(|| "default".into());
    let recorded_at = Timestamp::UNIX_EPOCH;
    let stored = StoredEpisode { space, lsn: 7, recorded_at, episode };
    for form in [EmbeddingForm::List, EmbeddingForm::Base64] {
        let mut text = Vec::new();
        write_episode(&mut text, &stored, form);
        check_same(&text, &stored.space, &stored.episode);
    }
}

fn check_same(text: &[u8], space: &str, episode: &Episode) {
    let again = parse_line(text);
    let shown = String::from_utf8_lossy(text);
    assert!(again.is_ok(), "what was written is refused: {again:?}: {shown}");
    let Ok(Line { draft, space: again }) = again else { return };
    assert_eq!(again.as_deref(), Some(space));
    let unnamed = || -> String { unreachable!("it has an id") };
    let found = draft.check(Timestamp::MAX, unnamed);
    assert_eq!(found.as_ref().ok(), Some(episode), "{found:?}: {shown}");
    let bits = |episode: &Episode| -> Vec<u32> {
        let bits = episode.embedding.iter().map(|value| value.to_bits());
        bits.chain(episode.confidence.to_bits().to_le_bytes().map(u32::from)).collect()
    };
    assert_eq!(found.as_ref().ok().map(bits), Some(bits(episode)), "to the last bit");
}

/// Good ones, and one of each way to be bad.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    [
        r#"{"what":"tea"}"#,
        r#"{"id":"a","what":"b\u0000\n","when":"2026-01-31T12:00:00.123456789+02:00","where":"",
            "who":["ada","bob"],"embedding":[0.1,-3e38,1e-45,7],"confidence":0.3,
            "metadata":{"a":[1,{"b":null}],"a":2}}"#,
        r#"{"space":"s","lsn":7,"recorded_at":"1970-01-01T00:00:00Z","what":"x","embedding":"AACAPw=="}"#,
        r#"{"what":"x","who":null,"when":null,"embedding":null,"confidence":null,"metadata":null}"#,
        r#"[{"what":"x"},{"what":1},3]"#,
        "{\"what\":\"x\"}\n\n{\"what\":2}\n",
        r#"{"what":"x","what":"y"}"#,
        r#"{"what":"x","embedding":[1e39]}"#,
        r#"{"what":"x","when":"yesterday"}"#,
        r#"{"what":"x","confidence":"high"}"#,
        r#"{"what":"x","nonsense":1}"#,
        r#"{"what":"\ud800"}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
