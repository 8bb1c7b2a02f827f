//! Cues as callers write them.

use std::fmt::Write as _;

use engram_core::{Cue, Error};
use engram_server::json::{JsonError, parse_cue};

use crate::meter::Bound;

/// As an episode's: strings as they stand, growing by doubling; a dimension is 4 bytes for each 2
/// of text; a name of two bytes is a string of 24; and one refusal.
const READ: Bound = Bound { fixed_bytes: 8 << 10, per_byte: 24 };
/// Metadata becomes a tree; its worst are empty members of a list, 32 bytes for each 2 of text, in
/// a list that grows by doubling.
const CHECKED: Bound = Bound { fixed_bytes: 8 << 10, per_byte: 128 };
/// A refusal is for people, and quotes no more than they can read.
const REFUSAL_BYTES_MAX: usize = 2 << 10;

/// Every field that a refusal may name, but for unknown ones.
const FIELDS: [&str; 16] = [
    "cue",
    "text",
    "embedding",
    "from",
    "to",
    "where",
    "who",
    "metadata",
    "min_confidence",
    "limit",
    "weights",
    "weights.vector",
    "weights.text",
    "weights.recency",
    "weights.confidence",
    "explain",
];

/// The laws of one input.
pub fn run(input: &[u8]) {
    let cue = match READ.hold("a cue", input.len(), || parse_cue(input)) {
        Ok(cue) => cue,
        Err(refusal) => return check_refusal(&refusal),
    };
    match CHECKED.hold("a cue's limits", input.len(), || cue.check()) {
        Ok(checked) => {
            assert!((1..=1000).contains(&checked.limit), "{}", checked.limit);
            let text = written(&cue);
            let again = parse_cue(text.as_bytes());
            assert_eq!(again.as_ref().ok(), Some(&cue), "{again:?}: {text}");
            assert_eq!(again.as_ref().ok().map(bits), Some(bits(&cue)), "to the last bit");
            assert_eq!(again.ok().and_then(|cue| cue.check().ok()), Some(checked));
        }
        Err(error) => {
            assert!(matches!(error, Error::Limit { .. }), "{error:?}");
            check_refusal(&JsonError::Refused(error));
        }
    }
}

fn check_refusal(refusal: &JsonError) {
    let text = refusal.to_string();
    assert!(text.len() <= REFUSAL_BYTES_MAX, "a refusal of {} bytes: {text}", text.len());
    match refusal {
        JsonError::Malformed(malformed) => {
            assert!(!malformed.bound.is_empty() && !malformed.problem.is_empty(), "{malformed:?}");
            let known = FIELDS.contains(&malformed.field.as_str());
            assert!(known || malformed.problem == "unknown field", "{malformed:?}");
        }
        JsonError::Refused(Error::Limit { field, .. }) => assert!(FIELDS.contains(field), "{text}"),
        JsonError::Refused(other) => unreachable!("no refusal of a cue: {other:?}"),
    }
}

/// A cue as text, every field that it has.
fn written(cue: &Cue) -> String {
    let mut fields = vec![format!("\"explain\":{}", cue.explain)];
    let mut field = |name: &str, value: Option<String>| {
        fields.extend(value.map(|value| format!("\"{name}\":{value}")));
    };
    field("text", cue.text.as_deref().map(quoted));
    let embedding = (!cue.embedding.is_empty()).then(|| format!("{:?}", cue.embedding));
    field("embedding", embedding);
    field("from", cue.from.map(|time| format!("\"{time}\"")));
    field("to", cue.to.map(|time| format!("\"{time}\"")));
    field("where", cue.place.as_deref().map(quoted));
    let who: Vec<String> = cue.who.iter().map(|name| quoted(name)).collect();
    let alone = who.first().filter(|_| who.len() == 1).cloned();
    field("who", Some(alone.unwrap_or_else(|| format!("[{}]", who.join(",")))));
    field("metadata", cue.metadata.clone());
    field("min_confidence", cue.min_confidence.map(|least| format!("{least:?}")));
    field("limit", cue.limit.map(|limit| limit.to_string()));
    let weights = cue.weights;
    let weights = format!(
        "{{\"vector\":{:?},\"text\":{:?},\"recency\":{:?},\"confidence\":{:?}}}",
        weights.vector, weights.text, weights.recency, weights.confidence
    );
    field("weights", Some(weights));
    format!("{{{}}}", fields.join(","))
}

/// A string of JSON, all of it escaped.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for unit in text.encode_utf16() {
        // Writing to a string cannot fail.
        let _infallible = write!(quoted, "\\u{unit:04x}");
    }
    quoted.push('"');
    quoted
}

/// Equal numbers may differ in their sign.
fn bits(cue: &Cue) -> Vec<u64> {
    let weights = cue.weights;
    let weights = [weights.vector, weights.text, weights.recency, weights.confidence];
    let narrow = cue.embedding.iter().chain(&weights).map(|value| u64::from(value.to_bits()));
    narrow.chain(cue.min_confidence.map(f64::to_bits)).collect()
}

/// Good ones, and one of each way to be bad.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    [
        r#"{"text":"green tea"}"#,
        r#"{"text":"\u0000\"tea with\" gre*\n","from":"2026-01-31T12:00:00.123456789+02:00",
            "to":"2027-01-01T00:00:00Z","where":"","who":["ada","bob"],
            "embedding":[0.1,-3e38,1e-45,7,-0.0],"metadata":{"a":[1,{"b":null}],"a":2},
            "min_confidence":0.3,"limit":1000,"explain":true,
            "weights":{"vector":0.1,"text":1000,"recency":1e-45,"confidence":-0.0}}"#,
        r#"{"who":"ada","embedding":"AACAPw=="}"#,
        r#"{"text":null,"embedding":null,"from":null,"to":null,"where":null,"who":null,
            "metadata":null,"min_confidence":null,"limit":null,"weights":null,"explain":null}"#,
        r"{}",
        r#"{"text":""}"#,
        r#"{"text":"t","text":"u"}"#,
        r#"{"text":"t","nonsense":1}"#,
        r#"{"text":"t","limit":0}"#,
        r#"{"text":"t","limit":"x"}"#,
        r#"{"text":"t","weights":{"vector":1e39,"nonsense":2}}"#,
        r#"{"text":"t","weights":{"text":"x"}}"#,
        r#"{"embedding":[1e39]}"#,
        r#"{"embedding":"AADAfw=="}"#,
        r#"{"from":"yesterday"}"#,
        r#"{"from":"2026-01-02T00:00:00Z","to":"2026-01-01T00:00:00Z"}"#,
        r#"{"who":5}"#,
        r#"{"metadata":[1]}"#,
        r#"{"min_confidence":2}"#,
        r#"{"text":"\ud800"}"#,
        r#"[{"text":"t"}]"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
