//! `recall`: one cue, and answers for people or programs.
//!
//! Deliberately absent: weights. Who tunes them talks to the server.

use std::io::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::args::RecallArgs;
use crate::client::{Client, Method, segment};
use crate::episodes::{Episode, JSON, print_body, read_embedding, shown_short, tell_unreadable};
use crate::failure::{Failure, Outcome, note};
use crate::out::{self, clean};

/// A cue on its way to the server.
#[derive(Debug, Serialize)]
struct Cue<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding_model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a str>,
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    place: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    who: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_confidence: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    explain: bool,
}

/// What the server answers, as far as people read it here.
#[derive(Debug, Deserialize)]
struct Recollection {
    episodes: Vec<Recalled>,
    took_ms: f64,
    #[serde(default)]
    unreadable: Vec<String>,
    #[serde(default)]
    truncated: bool,
    #[serde(default)]
    pending: u64,
    #[serde(default)]
    degraded: Option<String>,
    #[serde(default)]
    unembedded: u64,
    explain: Option<Explained>,
}

#[derive(Debug, Deserialize)]
struct Recalled {
    episode: Episode,
    score: f64,
    why: Why,
}

#[derive(Debug, Deserialize)]
struct Why {
    vector: Option<ByVector>,
    text: Option<ByText>,
}

#[derive(Debug, Deserialize)]
struct ByVector {
    rank: u64,
    similarity: f64,
}

#[derive(Debug, Deserialize)]
struct ByText {
    rank: u64,
}

#[derive(Debug, Deserialize)]
struct Explained {
    indexed: u64,
    allowed: Option<u64>,
    vectors: String,
    model: Option<String>,
    by_vector: u64,
    by_text: u64,
}

/// `engram recall`.
pub(crate) fn recall(args: &RecallArgs) -> Outcome {
    let cue = Cue {
        text: args.text.as_deref(),
        embedding: args.embedding.as_deref().map(read_embedding).transpose()?,
        // From a settings file it may be there alone.
        embedding_model: args.embedding_model.as_deref().filter(|_| args.embedding.is_some()),
        from: args.from.as_deref(),
        to: args.to.as_deref(),
        place: args.r#where.as_deref(),
        who: &args.who,
        metadata: args.metadata.as_deref(),
        min_confidence: args.min_confidence,
        limit: args.limit,
        explain: args.explain,
    };
    if !cue.asks() {
        return Err(Failure::usage(
            "nothing to recall by: say TEXT, or one of --embedding, --from, --to, --where, --who, \
             --metadata, --min-confidence",
        ));
    }
    let body = serde_json::to_vec(&cue)
        .map_err(|e| Failure::usage(format!("the cue cannot be written as JSON: {e}")))?;
    let client = Client::new(&args.target.server.server)?;
    let path = format!("/v1/spaces/{}/recall", segment(&args.target.space));
    let answer = client.send(Method::Post(JSON), &path, &[], &body)?.success()?;
    let recollection: Recollection = answer.json()?;
    if args.target.server.json {
        print_body(&answer.body)?;
    } else {
        print(&recollection)?;
    }
    if recollection.truncated {
        note("the answer ends early, at 64 MiB of episodes; narrow the cue, or ask for fewer");
    }
    if recollection.pending > 0 {
        let episodes = out::count(recollection.pending, "episode is", "episodes are");
        note(&format!("{episodes} not in the index yet; the answer may lack some"));
    }
    if let Some(cause) = &recollection.degraded {
        note(&format!("found by words alone: {}", clean(cause)));
    } else if recollection.unembedded > 0 {
        let episodes = out::count(recollection.unembedded, "episode has", "episodes have");
        note(&format!("{episodes} no vector yet; only words find them"));
    }
    tell_unreadable(&recollection.unreadable);
    // Each was named already.
    if recollection.unreadable.is_empty() { Ok(()) } else { Err(Failure::silent(1)) }
}

impl Cue<'_> {
    fn asks(&self) -> bool {
        self.text.is_some()
            || self.embedding.is_some()
            || self.from.is_some()
            || self.to.is_some()
            || self.place.is_some()
            || !self.who.is_empty()
            || self.metadata.is_some()
            || self.min_confidence.is_some()
    }
}

/// Writes each episode on a line, and below it why it is there, if more than a filter says so.
fn print(recollection: &Recollection) -> Outcome {
    let mut stdout = out::buffered();
    for recalled in &recollection.episodes {
        let reason = shown_reason(&recalled.why);
        writeln!(stdout, "{}", shown_short(&recalled.episode)).map_err(|e| out::trouble(&e))?;
        if !reason.is_empty() {
            writeln!(stdout, "    {:.2}  {reason}", recalled.score)
                .map_err(|e| out::trouble(&e))?;
        }
    }
    if let Some(explained) = &recollection.explain {
        let text = shown_search(explained, recollection.took_ms);
        writeln!(stdout, "{text}").map_err(|e| out::trouble(&e))?;
    }
    stdout.flush().map_err(|e| out::trouble(&e))
}

/// `meaning 1st (0.71), words 3rd`.
fn shown_reason(why: &Why) -> String {
    let meaning = why
        .vector
        .as_ref()
        .map(|signal| format!("meaning {} ({:.2})", ordinal(signal.rank), signal.similarity));
    let words = why.text.as_ref().map(|signal| format!("words {}", ordinal(signal.rank)));
    meaning.into_iter().chain(words).collect::<Vec<_>>().join(", ")
}

fn shown_search(explained: &Explained, took_ms: f64) -> String {
    let allowed = explained
        .allowed
        .map(|allowed| format!(", {allowed} let through by the filters"))
        .unwrap_or_default();
    let model = explained.model.as_deref().map(|model| format!(" ({})", clean(model)));
    format!(
        "found in {took_ms} ms: {} indexed{allowed}; by meaning {}, vectors {}{}; by words {}",
        out::count(explained.indexed, "episode", "episodes"),
        explained.by_vector,
        clean(&explained.vectors),
        model.unwrap_or_default(),
        explained.by_text
    )
}

/// `1st`, `2nd`, `11th`.
fn ordinal(number: u64) -> String {
    let end = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_as_people_do() {
        let told = [1, 2, 3, 4, 11, 12, 13, 21, 102, 111].map(ordinal);
        let wanted = ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th"];
        assert_eq!(told, wanted);
    }
}
