//! `remember`, `get`, `forget` and `list`: one request each, and answers for people or programs.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};

use engram_core::episode::limits;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::args::{ForgetArgs, GetArgs, ListArgs, RememberArgs};
use crate::client::{Client, Method, not_ours, query, segment};
use crate::failure::{Failure, Outcome, note};
use crate::out::{self, clean, clean_lines};

/// Media type of bodies.
pub(crate) const JSON: &str = "application/json";
/// Columns of text that a line of `list` shows.
const LINE_CHARS: usize = 100;

/// An episode on its way to the server; what is left out, the server fills in.
#[derive(Debug, Serialize)]
struct Draft<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    what: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    when: Option<&'a str>,
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    place: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    who: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding_model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
}

/// An acknowledgement.
#[derive(Debug, Deserialize)]
struct Remembered {
    id: String,
    space: String,
    lsn: u64,
}

/// An episode as the server shows it, as far as people read it here.
#[derive(Debug, Deserialize)]
pub(crate) struct Episode {
    id: String,
    what: String,
    when: String,
    #[serde(rename = "where")]
    place: Option<String>,
    #[serde(default)]
    who: Vec<String>,
    confidence: Option<f64>,
    metadata: Option<Box<RawValue>>,
    #[serde(default)]
    space: String,
    #[serde(default)]
    lsn: u64,
    #[serde(default)]
    recorded_at: String,
}

/// One page of a list; its episodes stay as the server wrote them.
#[derive(Debug, Deserialize)]
pub(crate) struct Page<'a> {
    /// The episodes, newest first.
    #[serde(borrow)]
    pub(crate) episodes: Vec<&'a RawValue>,
    /// Where the next page begins.
    pub(crate) next_cursor: Option<String>,
    /// Why episodes that stand on this page cannot be given back, each.
    #[serde(default)]
    pub(crate) unreadable: Vec<String>,
}

impl Page<'_> {
    /// Names on standard error what the page could not give.
    pub(crate) fn tell_unreadable(&self) {
        tell_unreadable(&self.unreadable);
    }
}

/// Names on standard error what an answer could not give.
pub(crate) fn tell_unreadable(reasons: &[String]) {
    for reason in reasons {
        note(&format!("an episode cannot be read: {reason}"));
    }
}

/// `engram remember`.
pub(crate) fn remember(args: RememberArgs) -> Outcome {
    let what = if args.what == "-" { read_stdin()? } else { args.what };
    let draft = Draft {
        id: args.id.as_deref(),
        what: &what,
        when: args.when.as_deref(),
        place: args.r#where.as_deref(),
        who: &args.who,
        embedding: args.embedding.as_deref().map(read_embedding).transpose()?,
        // From a settings file it may be there alone.
        embedding_model: args.embedding_model.as_deref().filter(|_| args.embedding.is_some()),
        confidence: args.confidence,
        metadata: args.metadata.as_deref(),
    };
    let body = serde_json::to_vec(&draft)
        .map_err(|e| Failure::usage(format!("the episode cannot be written as JSON: {e}")))?;
    let headers: &[(&str, &str)] = if args.new { &[("if-none-match", "*")] } else { &[] };
    let client = Client::new(&args.target.server.server)?;
    let path = format!("/v1/spaces/{}/episodes", segment(&args.target.space));
    let answer = client.send(Method::Post(JSON), &path, headers, &body)?.success()?;
    if args.target.server.json {
        return print_body(&answer.body);
    }
    let Remembered { id, space, lsn } = answer.json()?;
    let done = if answer.status == 201 { "remembered" } else { "replaced" };
    out::line(&format!("{done} {} in {} (LSN {lsn})", clean(&id), clean(&space)))
}

fn read_stdin() -> Outcome<String> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|e| Failure::failed(format!("cannot read the text from standard input: {e}")))?;
    // The newline that ends a text file is not part of what happened.
    let end = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text).len());
    text.truncate(end.unwrap_or(text.len()));
    Ok(text)
}

/// Reads a file that holds a JSON list of numbers.
pub(crate) fn read_embedding(path: &std::path::Path) -> Outcome<Box<RawValue>> {
    let shown = path.display();
    let text = fs::read_to_string(path)
        .map_err(|e| Failure::failed(format!("--embedding {shown}: cannot be read: {e}")))?;
    let text = text.trim();
    let list = text.starts_with('[');
    RawValue::from_string(text.to_owned()).ok().filter(|_| list).ok_or_else(|| {
        Failure::usage(format!("--embedding {shown}: must hold a JSON list of numbers"))
    })
}

/// `engram get`.
pub(crate) fn get(args: &GetArgs) -> Outcome {
    let client = Client::new(&args.target.server.server)?;
    let detail = if args.target.server.json { "" } else { "?embedding=none" };
    let answer = client.get(&episode_path(&args.target.space, &args.id, detail))?;
    if args.target.server.json {
        return print_body(&answer.body);
    }
    out::line(&shown_whole(&answer.json()?))
}

/// `engram forget`.
pub(crate) fn forget(args: &ForgetArgs) -> Outcome {
    let client = Client::new(&args.target.server.server)?;
    let json = args.target.server.json;
    // The settings file may name a space too: an id that was typed is what was meant.
    if let (None, Some(space)) = (&args.id, &args.whole_space) {
        let path = format!("/v1/spaces/{}", segment(space));
        let answer = client.send(Method::Delete, &path, &[], &[])?.success()?;
        if json {
            return print_body(&answer.body);
        }
        let count = count_in(&answer.body).unwrap_or_default();
        let episodes = out::count(count, "episode", "episodes");
        return out::line(&format!("forgot space {}: {episodes}", clean(space)));
    }
    let id = args.id.as_deref().unwrap_or_default();
    let path = episode_path(&args.target.space, id, "");
    client.send(Method::Delete, &path, &[], &[])?.success()?;
    if json {
        // The server has nothing to add to what was asked of it.
        return out::json(&serde_json::json!({ "id": id, "space": args.target.space }));
    }
    out::line(&format!("forgot {} in {}", clean(id), clean(&args.target.space)))
}

/// How many episodes a whole space had.
fn count_in(body: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Count {
        #[serde(alias = "forgotten")]
        episodes: u64,
    }
    serde_json::from_slice::<Count>(body).ok().map(|count| count.episodes)
}

fn episode_path(space: &str, id: &str, query: &str) -> String {
    format!("/v1/spaces/{}/episodes/{}{query}", segment(space), segment(id))
}

/// `engram list`: page after page, for a page may hold fewer than were asked for.
pub(crate) fn list(args: &ListArgs) -> Outcome {
    let client = Client::new(&args.target.server.server)?;
    let json = args.target.server.json;
    let wanted = args.limit.unwrap_or(limits::LIST_DEFAULT as u64);
    let mut cursor = args.cursor.clone();
    let mut unreadable = Vec::new();
    let (mut shown, mut begun) = (0_u64, false);
    loop {
        let limit = match (args.all, args.limit) {
            (true, limit) => limit.unwrap_or(limits::LIST_MAX as u64),
            (false, _) => wanted - shown,
        };
        let parameters = query(&[
            ("from", args.from.as_deref()),
            ("to", args.to.as_deref()),
            ("who", args.who.as_deref()),
            ("where", args.r#where.as_deref()),
            ("limit", Some(&limit.to_string())),
            ("cursor", cursor.as_deref()),
        ]);
        let path = format!("/v1/spaces/{}/episodes{parameters}", segment(&args.target.space));
        let answer = client.get(&path)?;
        let page: Page<'_> = serde_json::from_slice(&answer.body).map_err(|e| not_ours(&e))?;
        if json && !begun {
            out::bytes(b"{\"episodes\":[")?;
            begun = true;
        }
        print_page(&page, json, &mut shown)?;
        page.tell_unreadable();
        cursor = page.next_cursor;
        unreadable.extend(page.unreadable);
        if cursor.is_none() || (!args.all && shown >= wanted) {
            break;
        }
    }
    match (json, cursor) {
        (true, cursor) => {
            let mut end = format!("],\"next_cursor\":{}", serde_json::json!(cursor));
            if !unreadable.is_empty() {
                // Writing to a string cannot fail.
                let _infallible = write!(end, ",\"unreadable\":{}", serde_json::json!(unreadable));
            }
            out::line(&format!("{end}}}"))?;
        }
        (false, Some(cursor)) => out::line(&format!("more: --cursor {cursor}"))?,
        (false, None) => {}
    }
    // Each was named already.
    if unreadable.is_empty() { Ok(()) } else { Err(Failure::silent(1)) }
}

/// Writes a page's episodes, each on a line (people) or after a comma (programs).
fn print_page(page: &Page<'_>, json: bool, shown: &mut u64) -> Outcome {
    let mut stdout = out::buffered();
    for episode in &page.episodes {
        let written = if json {
            let comma = if *shown == 0 { "" } else { "," };
            write!(stdout, "{comma}{}", episode.get())
        } else {
            let episode = serde_json::from_str(episode.get()).map_err(|e| not_ours(&e))?;
            writeln!(stdout, "{}", shown_short(&episode))
        };
        written.map_err(|e| out::trouble(&e))?;
        *shown += 1;
    }
    stdout.flush().map_err(|e| out::trouble(&e))
}

/// The server's JSON, on one line.
pub(crate) fn print_body(body: &[u8]) -> Outcome {
    out::line(String::from_utf8_lossy(body).trim_end())
}

/// An episode on one line.
pub(crate) fn shown_short(episode: &Episode) -> String {
    let who = if episode.who.is_empty() {
        String::new()
    } else {
        format!("{}: ", clean(&episode.who.join(", ")))
    };
    let first = episode.what.lines().next().unwrap_or_default();
    let short: String = first.chars().take(LINE_CHARS).collect();
    let more = if short.len() < episode.what.len() { "…" } else { "" };
    format!("{}  {}  {who}{}{more}", clean(&episode.when), clean(&episode.id), clean(&short))
}

fn shown_whole(episode: &Episode) -> String {
    let mut text = String::new();
    let mut field = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "{name:<12}{}", clean(value));
    };
    field("id", &episode.id);
    field("space", &episode.space);
    field("when", &episode.when);
    if let Some(place) = &episode.place {
        field("where", place);
    }
    if !episode.who.is_empty() {
        field("who", &episode.who.join(", "));
    }
    if let Some(confidence) = episode.confidence {
        field("confidence", &confidence.to_string());
    }
    if let Some(metadata) = &episode.metadata {
        // Line breaks between its values mean no more than spaces.
        field("metadata", &metadata.get().replace(['\n', '\r', '\t'], " "));
    }
    field("recorded", &format!("{} (LSN {})", episode.recorded_at, episode.lsn));
    text.push('\n');
    text.push_str(&clean_lines(&episode.what));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_field_of_an_episode_reaches_the_terminal_raw() {
        let episode = Episode {
            id: "i\n\u{1b}[2J".into(),
            what: "w\u{1b}]0;x\u{7}\nsecond".into(),
            when: "2026-01-01T00:00:00Z".into(),
            place: Some("p\u{9b}31m".into()),
            who: vec!["a\r".into(), "b\u{1b}c".into()],
            confidence: Some(1.0),
            metadata: serde_json::from_str("{\n\"k\":\"\u{9b}\"}").unwrap(),
            space: "s".into(),
            lsn: 1,
            recorded_at: "2026-01-01T00:00:00Z".into(),
        };
        let short = shown_short(&episode);
        assert!(!short.contains(char::is_control), "{short:?}");
        assert!(short.ends_with('…'), "{short:?}");
        let whole = shown_whole(&episode);
        assert!(!whole.contains(|c: char| c.is_control() && c != '\n'), "{whole:?}");
        assert_eq!(whole.lines().count(), 11, "{whole:?}");
    }
}
