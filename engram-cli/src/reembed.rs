//! `reembed`: embeds spaces anew, and shows how far that is.
//!
//! The server does it, and goes on whether anybody watches or not, over restarts too.

use std::fmt::Write as _;
use std::thread::sleep;
use std::time::Duration;

use serde::Deserialize;

use crate::args::ReembedArgs;
use crate::client::{Client, Method, segment};
use crate::episodes::{JSON, print_body};
use crate::failure::{Failure, Outcome, note};
use crate::out::{self, clean};
use crate::overview::Spaces;
use crate::progress::bar;

/// How often the server is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How far a space's vectors are.
#[derive(Debug, Deserialize)]
struct Status {
    state: String,
    #[serde(default)]
    model: Option<String>,
    episodes: u64,
    embedded: u64,
    waiting: u64,
    refused: u64,
    #[serde(default)]
    cause: Option<String>,
}

/// `engram reembed`.
pub(crate) fn reembed(args: &ReembedArgs) -> Outcome {
    let client = Client::new(&args.server.server)?;
    if let Some(space) = &args.space {
        return one(&client, space, args);
    }
    let Spaces { spaces } = client.get("/v1/spaces")?.json()?;
    for space in &spaces {
        let path = path_of(&space.name);
        let status: Status = client.get(&path)?.json()?;
        if status.state == "given" {
            let name = clean(&space.name);
            note(&format!("{name}: left as it is, for its callers bring the vectors"));
            continue;
        }
        one(&client, &space.name, args)?;
    }
    if spaces.is_empty() && !args.server.json {
        out::line("no spaces yet; a space begins with its first episode")?;
    }
    Ok(())
}

fn path_of(space: &str) -> String {
    format!("/v1/spaces/{}/reembed", segment(space))
}

fn one(client: &Client, space: &str, args: &ReembedArgs) -> Outcome {
    let path = path_of(space);
    let query = if args.replace_given { "?replace_given=true" } else { "" };
    let begin = client.send(Method::Post(JSON), &format!("{path}{query}"), &[], &[])?;
    let mut answer = begin.success()?;
    let mut status: Status = answer.json()?;
    let bar = bar(space, Some(status.episodes), false);
    let mut told = None;
    while !args.no_wait && matches!(status.state.as_str(), "running" | "unavailable") {
        bar.set_length(status.embedded + status.waiting + status.refused);
        bar.set_position(status.embedded + status.refused);
        if status.cause.is_some() && status.cause != told {
            let cause = clean(status.cause.as_deref().unwrap_or_default());
            bar.suspend(|| {
                note(&format!("the embedder gives no vectors: {cause}; it is asked again"));
            });
            told = status.cause;
        }
        sleep(LOOK_EVERY);
        answer = client.get(&path)?;
        status = answer.json()?;
    }
    bar.finish_and_clear();
    if args.server.json {
        print_body(&answer.body)?;
    } else {
        out::line(&in_words(space, &status))?;
    }
    match status.state.as_str() {
        "foreign" => Err(Failure::failed("the server is configured with another embedder now")),
        _ => Ok(()),
    }
}

fn in_words(space: &str, status: &Status) -> String {
    let Status { state, model, episodes, embedded, waiting, refused, .. } = status;
    let model = model.as_deref().map_or_else(String::new, |model| format!(" by {}", clean(model)));
    let of = out::count(*episodes, "episode", "episodes");
    let mut text = format!("{}: {embedded} of {of} embedded{model}", clean(space));
    if *waiting > 0 {
        // Writing to a string cannot fail.
        let _infallible = write!(text, ", {waiting} to go ({})", clean(state));
    }
    if *refused > 0 {
        let _infallible = write!(text, ", {refused} refused by the embedder");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_what_is_done_and_what_is_not() {
        let status = Status {
            state: "running".into(),
            model: Some("m".into()),
            episodes: 9,
            embedded: 5,
            waiting: 3,
            refused: 1,
            cause: None,
        };
        let told = "s: 5 of 9 episodes embedded by m, 3 to go (running), 1 refused by the embedder";
        assert_eq!(in_words("s", &status), told);
    }
}
