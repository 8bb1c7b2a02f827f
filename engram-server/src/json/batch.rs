//! Many episodes' text → one result each: a bad one never spoils its neighbours.

use std::fmt;

use engram_core::episode::limits::BATCH_EPISODES_MAX;
use engram_core::{Draft, Error};
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::diagnose::{briefly, quote};
use super::{JsonError, Malformed, parse_draft};

/// Reads a JSON array of episodes.
///
/// # Errors
/// When it is no array, its end cannot be found, or it has more members than a batch may.
pub fn parse_array(bytes: &[u8]) -> Result<Vec<Result<Draft, JsonError>>, JsonError> {
    let broken = |problem: String, value: String| {
        let bound = "a JSON array of episodes, or NDJSON sent as application/x-ndjson".into();
        JsonError::Malformed(Malformed { field: "batch".into(), problem, bound, value })
    };
    let text = std::str::from_utf8(bytes).map_err(|error| {
        broken("not UTF-8".into(), format!("a bad byte at byte {}", error.valid_up_to()))
    })?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let (members, count) = deserializer
        .deserialize_seq(Members)
        .and_then(|members| deserializer.end().map(|()| members))
        .map_err(|error| broken(briefly(&error.to_string()), quote(text)))?;
    check_count(count)?;
    Ok(members.into_iter().map(|member| parse_draft(member.get().as_bytes())).collect())
}

/// Reads NDJSON: one episode a line; blank lines are passed over and not counted.
///
/// # Errors
/// When it has more episodes than a batch may.
pub fn parse_ndjson(bytes: &[u8]) -> Result<Vec<Result<Draft, JsonError>>, JsonError> {
    let mut drafts = Vec::new();
    let mut count = 0;
    for line in lines(bytes) {
        count += 1;
        if count <= BATCH_EPISODES_MAX {
            drafts.push(parse_draft(line));
        }
    }
    check_count(count)?;
    Ok(drafts)
}

/// The lines that are not blank.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let text = rest?;
        let (line, tail) = match memchr::memchr(b'\n', text) {
            Some(at) => (text.get(..at)?, text.get(at + 1..)),
            None => (text, None),
        };
        rest = tail;
        Some(line)
    })
    .filter(|line| !line.trim_ascii().is_empty())
}

fn check_count(count: usize) -> Result<(), JsonError> {
    if count <= BATCH_EPISODES_MAX {
        return Ok(());
    }
    Err(JsonError::Refused(Error::Limit {
        field: "batch",
        problem: "too many episodes",
        bound: format!("{BATCH_EPISODES_MAX} episodes"),
        value: format!("{count} episodes"),
        too_large: true,
    }))
}

/// Splits an array into its members' texts, and counts them.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = (Vec<&'de RawValue>, usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON array of episodes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        let mut count = 0;
        while let Some(member) = list.next_element()? {
            count += 1;
            if count <= BATCH_EPISODES_MAX {
                members.push(member);
            }
        }
        Ok((members, count))
    }
}
