//! Episodes out of a v0.1.0 data directory, for a server that runs elsewhere; `engram start
//! --data` takes such a directory over in place.
//!
//! The directory is only read. The last change to an id wins, in the order of file name, then
//! offset; what an episode's last change deleted is not sent.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use engram_core::Episode;
use engram_core::storage::legacy::{Change, FailureKind, is_legacy_name, read as read_log};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Feed, SPACE_DEFAULT};
use crate::failure::{Failure, Outcome};

/// The logs of one space.
#[derive(Debug)]
pub(super) struct Space {
    name: String,
    /// Oldest first, each with its length in bytes.
    files: Vec<(PathBuf, u64)>,
}

impl Space {
    /// Bytes of its logs.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// An episode as the server takes it.
#[derive(Debug, Serialize)]
struct Sent<'a> {
    id: &'a str,
    what: &'a str,
    when: String,
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    place: Option<&'a str>,
    who: &'a [String],
    #[serde(skip_serializing_if = "<[f32]>::is_empty")]
    embedding: &'a [f32],
    confidence: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
}

/// Finds the spaces of a data directory.
pub(super) fn find(dir: &Path) -> Outcome<Vec<Space>> {
    let trouble = |e: io::Error| cannot_read(dir, &e);
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(dir).map_err(trouble)? {
        let entry = entry.map_err(trouble)?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    let mut spaces = Vec::new();
    // Where both exist, `wal` is the older one of the default space.
    add(&mut spaces, SPACE_DEFAULT, &dir.join("wal"))?;
    for name in names {
        add(&mut spaces, &name, &dir.join(&name).join("wal"))?;
    }
    if spaces.is_empty() {
        return Err(Failure::failed(format!(
            "{} holds no v0.1.0 log; import takes a file of JSON lines, or a v0.1.0 data directory",
            dir.display()
        )));
    }
    Ok(spaces)
}

/// Adds the logs in a directory to the space of that name, if it is a directory with logs.
fn add(spaces: &mut Vec<Space>, name: &str, dir: &Path) -> Outcome {
    let trouble = |e: io::Error| cannot_read(dir, &e);
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(e) => return Err(trouble(e)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(trouble)?;
        let legacy = entry.file_name().to_str().is_some_and(is_legacy_name);
        let metadata = entry.metadata().map_err(trouble)?;
        if legacy && metadata.is_file() {
            files.push((entry.path(), metadata.len()));
        }
    }
    files.sort();
    if files.is_empty() {
        return Ok(());
    }
    match spaces.iter_mut().find(|space| space.name == name) {
        Some(space) => space.files.extend(files),
        None => spaces.push(Space { name: name.to_owned(), files }),
    }
    Ok(())
}

/// Feeds the episodes that a space holds.
pub(super) fn read(space: &Space, feed: &mut Feed<'_>) -> Outcome {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut last: Vec<Option<Episode>> = Vec::new();
    for (path, bytes) in &space.files {
        let log = read_log(&fs::read(path).map_err(|e| cannot_read(path, &e))?);
        for failure in &log.failures {
            let place = format!("{} at byte {}", path.display(), failure.offset);
            let what = format!("{place}, {} bytes: {}", failure.bytes, failure.detail);
            match failure.kind {
                // A crash while writing: nobody was told that it was kept.
                FailureKind::Tail => feed.note(format!("unfinished end: {what}")),
                FailureKind::Damaged => feed.lose(format!("damaged: {what}")),
                FailureKind::Undecodable => feed.lose(format!("not understood: {what}")),
            }
        }
        for entry in log.entries {
            let (id, episode) = match entry.change {
                Change::Remember(episode) => (episode.id.clone(), Some(episode)),
                Change::Forget { id } => (id, None),
                Change::Ignored { .. } => continue,
            };
            let place = *places.entry(id).or_insert_with(|| {
                last.push(None);
                last.len() - 1
            });
            if let Some(slot) = last.get_mut(place) {
                *slot = episode;
            }
        }
        feed.pass_over(*bytes);
    }
    for (number, episode) in (1..).zip(last.iter().flatten()) {
        let line =
            line(episode).map_err(|e| Failure::failed(format!("episode {:?}: {e}", episode.id)))?;
        feed.line_of(number, &line, 0, &space.name)?;
    }
    Ok(())
}

fn line(episode: &Episode) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Sent {
        id: &episode.id,
        what: &episode.what,
        when: episode.when.to_string(),
        place: episode.place.as_deref(),
        who: &episode.who,
        embedding: &episode.embedding,
        confidence: episode.confidence,
        metadata: episode.metadata.as_deref().map(serde_json::from_str).transpose()?,
    })
}

fn cannot_read(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("cannot read {}: {error}", path.display()))
}
