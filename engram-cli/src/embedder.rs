//! Which embedder `engram start` was told to use, and the settings that it needs.

mod answer;
mod openai;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use engram_core::embedder::{Builtin, Embedder};

use crate::args::{EmbedderArgs, EmbedderName};
use crate::failure::{Failure, Outcome};
use openai::{OpenAi, Settings};

/// The environment variable that holds the key.
const KEY_VARIABLE: &str = "ENGRAM_EMBEDDER_KEY";

/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 8 << 10;

/// The embedder that was asked for.
///
/// # Errors
/// Wrong usage, by the name of the flag.
pub(crate) fn of(args: &EmbedderArgs) -> Outcome<Option<Arc<dyn Embedder>>> {
    if args.embedder != EmbedderName::Openai {
        let idle = [
            ("--embedder-url", args.embedder_url.is_some()),
            ("--embedder-model", args.embedder_model.is_some()),
            ("--embedder-dimension", args.embedder_dimension.is_some()),
            ("--embedder-key-file", args.embedder_key_file.is_some()),
        ];
        if let Some((flag, _)) = idle.into_iter().find(|(_, given)| *given) {
            return Err(Failure::usage(format!(
                "{flag}: goes with --embedder openai alone; give that too, or leave {flag} out"
            )));
        }
    }
    match args.embedder {
        EmbedderName::Builtin => Ok(Some(Arc::new(Builtin))),
        EmbedderName::None => Ok(None),
        EmbedderName::Openai => {
            let url = args.embedder_url.as_deref();
            let url = needed("--embedder-url", "http://127.0.0.1:11434/v1", url)?;
            let model = args.embedder_model.as_deref();
            let model = needed("--embedder-model", "nomic-embed-text", model)?;
            let dimension = needed("--embedder-dimension", "768", args.embedder_dimension)?;
            let embedder = OpenAi::new(Settings {
                url,
                model,
                dimension,
                batch: args.embedder_batch,
                timeout: args.embedder_timeout,
                cue_timeout: args.embedder_cue_timeout,
                key: key(args.embedder_key_file.as_deref())?,
            })?;
            Ok(Some(Arc::new(embedder)))
        }
    }
}

fn needed<T>(flag: &str, example: &str, value: Option<T>) -> Outcome<T> {
    value.ok_or_else(|| {
        Failure::usage(format!("{flag}: needed with --embedder openai (for example {example})"))
    })
}

/// The key, from its file or else from the environment. Never a flag: every user of a machine sees
/// those.
fn key(file: Option<&Path>) -> Outcome<Option<String>> {
    let text = match file {
        Some(path) => {
            let shown = path.display();
            let text = fs::read_to_string(path).map_err(|e| {
                Failure::usage(format!("--embedder-key-file: {shown} cannot be read: {e}"))
            })?;
            Some((format!("--embedder-key-file {shown}"), text))
        }
        None => match std::env::var(KEY_VARIABLE) {
            Ok(text) => Some((KEY_VARIABLE.to_owned(), text)),
            Err(std::env::VarError::NotPresent) => None,
            Err(std::env::VarError::NotUnicode(_)) => {
                return Err(Failure::usage(format!("{KEY_VARIABLE}: is not text")));
            }
        },
    };
    let Some((place, text)) = text else { return Ok(None) };
    let key = text.trim();
    if key.is_empty() && file.is_none() {
        return Ok(None);
    }
    let legal = key.bytes().all(|byte| byte.is_ascii_graphic());
    if key.is_empty() || key.len() > KEY_BYTES_MAX || !legal {
        return Err(Failure::usage(format!(
            "{place}: a key is one line of 1 to {KEY_BYTES_MAX} visible ASCII characters"
        )));
    }
    Ok(Some(key.to_owned()))
}
