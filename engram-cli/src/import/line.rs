//! One line of JSON, made ready to be sent without being decoded.
//!
//! A walk over the top level finds the members that matter: `id` (made from the line where there
//! is none), and `space`, `lsn`, `recorded_at`, which an export adds and a new episode does not
//! take. Everything else travels byte for byte. A line that the walk does not understand travels
//! as it is, for the server to say what is wrong with it.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::ops::Range;

use sha2::{Digest as _, Sha256};

/// Members that answers add to an episode.
const ANSWER_MEMBERS: [&str; 3] = ["space", "lsn", "recorded_at"];

/// Where a prepared line goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Its space.
    pub(super) space: String,
    /// Equal for equal ids.
    pub(super) lane_hash: u64,
}

/// Makes lines ready, remembering which it has seen.
#[derive(Debug, Default)]
pub(super) struct Preparer {
    members: Vec<Member>,
    body: Vec<u8>,
    hasher: RandomState,
    /// Digests of the lines seen so far that had no id. Cut to 64 bits: two lines that share one
    /// only get a counter that they did not need, the same one at every run.
    seen: HashSet<u64>,
    /// How often those were seen that were seen more than once.
    repeated: HashMap<u64, u64>,
}

/// A member of the top-level object.
#[derive(Debug)]
struct Member {
    /// Its key, within the quotes.
    key: Range<usize>,
    /// Its value.
    value: Range<usize>,
}

impl Member {
    /// Key and value, quotes and colon included.
    fn whole(&self) -> Range<usize> {
        self.key.start - 1..self.value.end
    }
}

impl Preparer {
    /// The line that was prepared last, as it is to be sent.
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Prepares a line: into `forced`, else the space that it names, else `usual`.
    pub(super) fn prepare(
        &mut self,
        line: &[u8],
        forced: Option<&str>,
        usual: &str,
    ) -> Result<Line, &'static str> {
        self.body.clear();
        self.members.clear();
        if walk(line, &mut self.members).is_none() {
            self.body.extend_from_slice(line);
            // One line stays one line, whatever it holds.
            let space = forced.unwrap_or(usual).to_owned();
            return Ok(Line { space, lane_hash: 0 });
        }
        let mut space: Option<String> = None;
        let mut id = None;
        let mut cut = false;
        for member in &self.members {
            let value = &line[member.value.clone()];
            match &*text(&line[member.key.clone()]) {
                "space" => {
                    space = parse(value).map_err(|()| "space: must be a string")?;
                    cut = true;
                }
                "id" if value == b"null" => cut = true,
                "id" => id = Some(member.value.clone()),
                "lsn" | "recorded_at" => cut = true,
                _ => {}
            }
        }
        let space = match (forced, space) {
            (Some(forced), _) => forced.to_owned(),
            (None, Some(space)) => space,
            (None, None) => usual.to_owned(),
        };
        let lane_hash = match &id {
            Some(value) => self.hasher.hash_one(text(&line[value.clone()])),
            None => 0,
        };
        let made = if id.is_none() { Some(self.made_id(&space, line)) } else { None };
        self.write(line, made.as_deref(), cut);
        let lane_hash = made.map_or(lane_hash, |made| self.hasher.hash_one(made));
        Ok(Line { space, lane_hash })
    }

    /// An id that the same line gets again the next time.
    fn made_id(&mut self, space: &str, line: &[u8]) -> String {
        let mut hash = Sha256::new();
        hash.update(space.as_bytes());
        hash.update([0]);
        hash.update(line);
        let digest = hash.finalize();
        let (id, _) = digest.split_at(16);
        let id = id.iter().fold(0_u128, |id, byte| (id << 8) | u128::from(*byte));
        // The low half, on purpose.
        let short = u64::try_from(id & u128::from(u64::MAX)).unwrap_or_default();
        if self.seen.insert(short) {
            return format!("{id:032x}");
        }
        let count = self.repeated.entry(short).or_insert(1);
        *count += 1;
        format!("{id:032x}-{count}")
    }

    /// Writes the line with the id it was given, and without what answers add.
    fn write(&mut self, line: &[u8], id: Option<&str>, cut: bool) {
        let body = &mut self.body;
        body.push(b'{');
        if let Some(id) = id {
            body.extend_from_slice(b"\"id\":\"");
            body.extend_from_slice(id.as_bytes());
            body.push(b'"');
            if !self.members.is_empty() && !cut {
                body.push(b',');
            }
        }
        if !cut {
            body.extend_from_slice(&line[1..]);
            return;
        }
        for member in &self.members {
            let key = text(&line[member.key.clone()]);
            let null_id = key == "id" && &line[member.value.clone()] == b"null";
            if ANSWER_MEMBERS.contains(&&*key) || null_id {
                continue;
            }
            if body.len() > 1 {
                body.push(b',');
            }
            body.extend_from_slice(&line[member.whole()]);
        }
        body.push(b'}');
    }
}

/// What a string of JSON says, given without its quotes (or with them).
fn text(raw: &[u8]) -> Cow<'_, str> {
    if memchr::memchr(b'\\', raw).is_none() {
        return String::from_utf8_lossy(raw);
    }
    let quoted = if raw.starts_with(b"\"") { raw.to_vec() } else { [b"\"", raw, b"\""].concat() };
    match serde_json::from_slice::<String>(&quoted) {
        // Quoted again, so that an id is the same text however it is escaped.
        Ok(text) if raw.starts_with(b"\"") => Cow::Owned(format!("\"{text}\"")),
        Ok(text) => Cow::Owned(text),
        Err(_) => String::from_utf8_lossy(raw),
    }
}

fn parse(value: &[u8]) -> Result<Option<String>, ()> {
    serde_json::from_slice(value).map_err(drop)
}

/// Finds the members of the object that a line is; none where it is no object.
fn walk(line: &[u8], members: &mut Vec<Member>) -> Option<()> {
    let mut at = 0;
    expect(line, &mut at, b'{')?;
    skip_space(line, &mut at);
    if line.get(at) == Some(&b'}') {
        return (at + 1 == line.len()).then_some(());
    }
    loop {
        skip_space(line, &mut at);
        expect(line, &mut at, b'"')?;
        let key = at..end_of_string(line, at)?;
        at = key.end + 1;
        skip_space(line, &mut at);
        expect(line, &mut at, b':')?;
        skip_space(line, &mut at);
        let value = at..end_of_value(line, at)?;
        at = value.end;
        members.push(Member { key, value });
        skip_space(line, &mut at);
        match line.get(at)? {
            b',' => at += 1,
            b'}' => return (at + 1 == line.len()).then_some(()),
            _ => return None,
        }
    }
}

fn expect(line: &[u8], at: &mut usize, byte: u8) -> Option<()> {
    let found = line.get(*at)? == &byte;
    *at += 1;
    found.then_some(())
}

fn skip_space(line: &[u8], at: &mut usize) {
    while matches!(line.get(*at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
        *at += 1;
    }
}

/// The place of the quote that ends the string which begins at `at`, after its first quote.
fn end_of_string(line: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr::memchr2(b'"', b'\\', line.get(at..)?)?;
        if line[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

/// The place after the value which begins at `at`.
fn end_of_value(line: &[u8], mut at: usize) -> Option<usize> {
    match line.get(at)? {
        b'"' => Some(end_of_string(line, at + 1)? + 1),
        b'{' | b'[' => {
            let mut depth = 0_u32;
            loop {
                match line.get(at)? {
                    b'"' => at = end_of_string(line, at + 1)?,
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 {
                    return Some(at);
                }
            }
        }
        _ => {
            let rest = &line[at..];
            let ends =
                |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n');
            Some(at + rest.iter().position(ends)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn prepared(line: &str) -> (String, Value) {
        let mut preparer = Preparer::default();
        let Line { space, .. } = preparer.prepare(line.as_bytes(), None, "usual").unwrap();
        (space, serde_json::from_slice(preparer.body()).unwrap())
    }

    #[test]
    fn a_line_with_an_id_travels_byte_for_byte() {
        for line in [
            r#"{"id":"a","what":"x"}"#,
            r#"{ "what" : "x, \"id\": }" , "id" : "a" }"#,
            r#"{"metadata":{"id":1,"space":"no"},"id":"a","embedding":[1,2.5e3,-4]}"#,
        ] {
            let mut preparer = Preparer::default();
            preparer.prepare(line.as_bytes(), None, "usual").unwrap();
            assert_eq!(preparer.body(), line.as_bytes(), "{line}");
        }
    }

    #[test]
    fn a_line_without_an_id_gets_one_of_its_own_bytes() {
        for line in [
            r#"{"what":"x"}"#,
            r#"{ "what":"\"id\":\"no\"", "metadata":{"id":"no"}}"#,
            r#"{"what":"x","id":null}"#,
            r#"{"id":null}"#,
            "{}",
            "{ }",
        ] {
            let (_, first) = prepared(line);
            let (_, again) = prepared(line);
            assert_eq!(first, again, "{line}");
            assert_eq!(first["id"].as_str().unwrap().len(), 32, "{line}");
        }
        assert_ne!(prepared(r#"{"what":"x"}"#).1["id"], prepared(r#"{"what":"y"}"#).1["id"]);
    }

    #[test]
    fn equal_lines_stay_two_memories_and_the_same_two_next_time() {
        let run = || {
            let mut preparer = Preparer::default();
            let mut ids = Vec::new();
            for _ in 0..3 {
                preparer.prepare(br#"{"what":"hi"}"#, None, "usual").unwrap();
                let value: Value = serde_json::from_slice(preparer.body()).unwrap();
                ids.push(value["id"].as_str().unwrap().to_owned());
            }
            ids
        };
        let ids = run();
        assert_eq!(ids, run());
        assert_eq!(ids[1], format!("{}-2", ids[0]));
        assert_eq!(ids[2], format!("{}-3", ids[0]));
    }

    #[test]
    fn an_exported_line_goes_back_to_its_space_without_what_the_answer_added() {
        let line = r#"{"space":"chat","lsn":7,"id":"a","what":"x","recorded_at":"now"}"#;
        assert_eq!(prepared(line), ("chat".into(), json!({ "id": "a", "what": "x" })));
        let line = r#"{"what":"x","space":"chat"}"#;
        let (space, value) = prepared(line);
        assert_eq!((space.as_str(), &value["what"]), ("chat", &json!("x")));
        assert_eq!(value.as_object().unwrap().len(), 2);
        let line = r#"{"sp\u0061ce":"chat","id":"a"}"#;
        assert_eq!(prepared(line), ("chat".into(), json!({ "id": "a" })));
    }

    #[test]
    fn the_space_is_forced_or_named_or_usual() {
        let mut preparer = Preparer::default();
        let mut space = |line: &str, forced| {
            preparer.prepare(line.as_bytes(), forced, "usual").map(|line| line.space)
        };
        assert_eq!(space(r#"{"id":"a","space":"named"}"#, Some("forced")), Ok("forced".into()));
        assert_eq!(space(r#"{"id":"a","space":"named"}"#, None), Ok("named".into()));
        assert_eq!(space(r#"{"id":"a","space":null}"#, None), Ok("usual".into()));
        assert_eq!(space(r#"{"id":"a"}"#, None), Ok("usual".into()));
        assert!(space(r#"{"id":"a","space":3}"#, None).is_err());
    }

    #[test]
    fn what_is_no_object_travels_as_it_is() {
        for line in ["[1]", "3", "{", r#"{"a"}"#, r#"{"a":1"#, r#"{"a":1}x"#, r#"{"a":"\"#, "{\"a"]
        {
            let mut preparer = Preparer::default();
            let Line { space, .. } = preparer.prepare(line.as_bytes(), None, "usual").unwrap();
            assert_eq!(space, "usual");
            assert_eq!(preparer.body(), line.as_bytes(), "{line}");
        }
    }

    #[test]
    fn one_id_keeps_one_lane_however_it_is_escaped() {
        let mut preparer = Preparer::default();
        let mut lane = |line: &str| {
            preparer.prepare(line.as_bytes(), None, "usual").map(|line| line.lane_hash)
        };
        assert_eq!(lane(r#"{"id":"ab"}"#), lane(r#"{"what":"x","id":"\u0061b"}"#));
        assert_ne!(lane(r#"{"id":"ab"}"#), lane(r#"{"id":"ac"}"#));
    }
}
