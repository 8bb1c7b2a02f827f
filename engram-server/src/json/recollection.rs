//! [`Recollection`] → JSON text.

use std::time::Duration;

use engram_core::Recollection;
use engram_core::recall::{Explained, Signal, Why};
use serde::Serialize;

use super::answer::{EmbeddingForm, write_episode};

/// Appends the whole answer of a recall that took so long.
pub fn write_recollection(
    out: &mut Vec<u8>,
    recollection: &Recollection,
    took: Duration,
    form: EmbeddingForm,
) {
    out.extend_from_slice(b"{\"episodes\":[");
    for (index, recalled) in recollection.episodes.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"episode\":");
        write_episode(out, &recalled.stored, form);
        write_member(out, "score", &recalled.score);
        write_member(out, "why", &Reason::from(&recalled.why));
        out.push(b'}');
    }
    out.push(b']');
    write_member(out, "took_ms", &milliseconds(took));
    if !recollection.unreadable.is_empty() {
        // One bad frame must not hide the others, and must not be passed over in silence.
        let reasons: Vec<String> =
            recollection.unreadable.iter().map(ToString::to_string).collect();
        write_member(out, "unreadable", &reasons);
    }
    if recollection.truncated {
        write_member(out, "truncated", &true);
    }
    if recollection.pending > 0 {
        write_member(out, "pending", &recollection.pending);
    }
    if let Some(cause) = &recollection.degraded {
        write_member(out, "degraded", cause);
    }
    if recollection.unembedded > 0 {
        write_member(out, "unembedded", &recollection.unembedded);
    }
    if let Some(explained) = &recollection.explained {
        write_member(out, "explain", &Search::from(explained));
    }
    out.push(b'}');
}

/// Appends one more member of an object that has some already.
fn write_member<T: Serialize>(out: &mut Vec<u8>, name: &str, value: &T) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    let before = out.len();
    if serde_json::to_writer(&mut *out, value).is_err() {
        // Writing plain values into memory has no way to fail; half a value must not be sent.
        out.truncate(before);
        out.extend_from_slice(b"null");
    }
}

/// To the microsecond: more would be noise.
fn milliseconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e6).round() / 1e3
}

#[derive(Serialize)]
struct Reason {
    #[serde(skip_serializing_if = "Option::is_none")]
    vector: Option<ByVector>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<ByText>,
    recency: f32,
    confidence: f32,
}

#[derive(Serialize)]
struct ByVector {
    rank: usize,
    similarity: f32,
    part: f32,
}

#[derive(Serialize)]
struct ByText {
    rank: usize,
    bm25: f32,
    part: f32,
}

impl From<&Why> for Reason {
    fn from(why: &Why) -> Self {
        let by_vector = |Signal { rank, value, part }| ByVector { rank, similarity: value, part };
        let by_text = |Signal { rank, value, part }| ByText { rank, bm25: value, part };
        Self {
            vector: why.vector.map(by_vector),
            text: why.text.map(by_text),
            recency: why.recency,
            confidence: why.confidence,
        }
    }
}

#[derive(Serialize)]
struct Search<'e> {
    indexed: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed: Option<usize>,
    vectors: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'e str>,
    by_vector: usize,
    by_text: usize,
}

impl<'e> From<&'e Explained> for Search<'e> {
    fn from(explained: &'e Explained) -> Self {
        Self {
            indexed: explained.indexed,
            allowed: explained.allowed,
            vectors: explained.vectors,
            model: explained.model.as_deref(),
            by_vector: explained.by_vector,
            by_text: explained.by_text,
        }
    }
}

#[cfg(test)]
mod tests {
    use engram_core::recall::Recalled;
    use engram_core::{Draft, Error, StoredEpisode, Timestamp};

    use super::*;

    fn printed(recollection: &Recollection) -> String {
        let mut out = Vec::new();
        let took = Duration::from_nanos(812_345);
        write_recollection(&mut out, recollection, took, EmbeddingForm::None);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn nothing_found_is_an_empty_list() {
        let text = printed(&Recollection::default());
        assert_eq!(text, r#"{"episodes":[],"took_ms":0.812}"#);
    }

    #[test]
    fn an_answer_says_why_and_only_what_there_is_to_say() {
        let now = Timestamp::UNIX_EPOCH;
        let episode = Draft::of("w").check(now, || "i".into()).unwrap();
        let stored = StoredEpisode { space: "s".into(), lsn: 7, recorded_at: now, episode };
        let vector = Some(Signal { rank: 1, value: 0.71, part: 0.5 });
        let text = Some(Signal { rank: 3, value: 7.1, part: 0.47 });
        let why = Why { vector, text, recency: 0.004, confidence: 0.01 };
        let only = Why { text, ..Why::default() };
        let recollection = Recollection {
            episodes: vec![
                Recalled { stored: stored.clone(), score: 0.984, why },
                Recalled { stored, score: 0.47, why: only },
            ],
            unreadable: vec![Error::NoSuch { what: "s".into() }],
            pending: 2,
            truncated: true,
            degraded: Some("down".into()),
            unembedded: 4,
            explained: Some(Explained {
                indexed: 9,
                allowed: Some(3),
                vectors: "exact",
                model: Some("given".into()),
                by_vector: 1,
                by_text: 2,
            }),
        };
        let mut episode = Vec::new();
        write_episode(&mut episode, &recollection.episodes[0].stored, EmbeddingForm::None);
        let episode = String::from_utf8(episode).unwrap();
        let by_text = r#""text":{"rank":3,"bm25":7.1,"part":0.47}"#;
        let first = r#""score":0.984,"why":{"vector":{"rank":1,"similarity":0.71,"part":0.5},"#;
        let expected = [
            &format!("{{\"episodes\":[{{\"episode\":{episode},{first}{by_text},"),
            r#""recency":0.004,"confidence":0.01}},"#,
            &format!("{{\"episode\":{episode},\"score\":0.47,\"why\":{{{by_text},"),
            r#""recency":0.0,"confidence":0.0}}],"took_ms":0.812,"#,
            r#""unreadable":["s: not found"],"truncated":true,"pending":2,"degraded":"down","unembedded":4,"explain":{"indexed":9,"allowed":3,"#,
            r#""vectors":"exact","model":"given","by_vector":1,"by_text":2}}"#,
        ];
        assert_eq!(printed(&recollection), expected.concat());
    }
}
