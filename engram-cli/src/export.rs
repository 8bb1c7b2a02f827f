//! `engram export`: every episode as one line of JSON, page by page, as the server wrote it.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;

use crate::args::ExportArgs;
use crate::client::{Client, Method, not_ours, query, segment};
use crate::episodes::Page;
use crate::failure::{Failure, Outcome};
use crate::overview::Spaces;
use crate::{out, progress};

/// Episodes in the first page; later pages follow the size of those before.
const PAGE_FIRST: usize = 100;
/// Most episodes in a page.
const PAGE_MAX: usize = 1000;
/// A page of fewer bytes is followed by a larger one.
const PAGE_BYTES_LOW: usize = 2 << 20;
/// A page of more bytes is followed by a smaller one.
const PAGE_BYTES_HIGH: usize = 8 << 20;

/// `engram export`.
pub(crate) fn export(args: &ExportArgs) -> Outcome {
    let client = Client::new(&args.server.server)?;
    let Spaces { spaces } = client.get("/v1/spaces")?.json()?;
    let wanted: Vec<_> = spaces
        .into_iter()
        .filter(|space| args.space.as_ref().is_none_or(|name| *name == space.name))
        .collect();
    if let (Some(name), true) = (&args.space, wanted.is_empty()) {
        return Err(Failure::failed(format!("no space {name:?}; `engram spaces` lists them")));
    }
    let total = wanted.iter().map(|space| space.episodes).sum();
    let bar = progress::bar("exporting", Some(total), false);
    let mut sink = Sink::open(args.output.as_deref())?;
    let mut unreadable = 0;
    for space in &wanted {
        unreadable += export_space(&client, &space.name, &mut sink, &bar)?;
    }
    bar.finish_and_clear();
    let count = bar.position();
    // What could be read is worth having, and worth keeping.
    let path = sink.finish()?;
    let whole = if unreadable == 0 {
        Ok(())
    } else {
        let episodes = out::count(unreadable, "episode", "episodes");
        Err(Failure::failed(format!("{episodes} could not be read; all others were exported")))
    };
    let Some(path) = path else { return whole };
    if args.server.json {
        let answer = serde_json::json!({
            "exported": count, "unreadable": unreadable, "output": path,
        });
        return out::json(&answer).and(whole);
    }
    let told = out::line(&format!(
        "exported {} of {} to {}",
        out::count(count, "episode", "episodes"),
        out::count(wanted.len() as u64, "space", "spaces"),
        path.display()
    ));
    told.and(whole)
}

/// Exports a space; gives how many of its episodes could not be read.
fn export_space(client: &Client, space: &str, sink: &mut Sink, bar: &ProgressBar) -> Outcome<u64> {
    let mut unreadable = 0;
    let mut cursor: Option<String> = None;
    let mut limit = PAGE_FIRST;
    loop {
        let parameters = query(&[
            ("embedding", Some("base64")),
            ("limit", Some(&limit.to_string())),
            ("cursor", cursor.as_deref()),
        ]);
        let path = format!("/v1/spaces/{}/episodes{parameters}", segment(space));
        let answer = client.send(Method::Get, &path, &[], &[])?;
        if answer.status == 404 {
            // It was forgotten since it was listed, or its last episode was.
            return Ok(unreadable);
        }
        let answer = answer.success()?;
        let page: Page<'_> = serde_json::from_slice(&answer.body).map_err(|e| not_ours(&e))?;
        for episode in &page.episodes {
            sink.line(episode.get())?;
        }
        bar.inc(page.episodes.len() as u64);
        unreadable += page.unreadable.len() as u64;
        if !page.unreadable.is_empty() {
            bar.suspend(|| page.tell_unreadable());
        }
        limit = next_limit(limit, answer.body.len());
        if page.next_cursor.is_none() {
            return Ok(unreadable);
        }
        cursor = page.next_cursor;
    }
}

/// Keeps pages at a few MiB, whether episodes are small or hold a megabyte each.
fn next_limit(limit: usize, page_bytes: usize) -> usize {
    if page_bytes < PAGE_BYTES_LOW {
        return (limit * 2).min(PAGE_MAX);
    }
    if page_bytes > PAGE_BYTES_HIGH { (limit / 2).max(1) } else { limit }
}

/// Where the lines go: standard output, something that is no file, or a file that gets its name when it
/// is whole.
enum Sink {
    Stdout(BufWriter<io::StdoutLock<'static>>),
    Other { writer: BufWriter<fs::File>, path: PathBuf },
    File { writer: BufWriter<tempfile::NamedTempFile>, path: PathBuf },
}

impl Sink {
    fn open(path: Option<&Path>) -> Outcome<Self> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else {
            return Ok(Self::Stdout(out::buffered()));
        };
        // A device or a pipe is written to, not replaced.
        if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
            let file = fs::File::options().write(true).open(path);
            let writer = BufWriter::new(file.map_err(|e| cannot_write(path, &e))?);
            return Ok(Self::Other { writer, path: path.to_owned() });
        }
        // Of a link what it leads to.
        let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let file = tempfile::Builder::new()
            .prefix(".engram-export-")
            .tempfile_in(parent.unwrap_or(Path::new(".")))
            .map_err(|e| cannot_write(path, &e))?;
        Ok(Self::File { writer: BufWriter::with_capacity(1 << 16, file), path: path.to_owned() })
    }

    /// Writes an episode as its server wrote it, on one line: its metadata is as its author laid it out,
    /// and in JSON a line break is space, for within a string it is escaped.
    fn line(&mut self, text: &str) -> Outcome {
        let text = text.replace(['\n', '\r'], " ");
        match self {
            Self::Stdout(writer) => writeln!(writer, "{text}").map_err(|e| out::trouble(&e)),
            Self::Other { writer, path } => {
                writeln!(writer, "{text}").map_err(|e| cannot_write(path, &e))
            }
            Self::File { writer, path } => {
                writeln!(writer, "{text}").map_err(|e| cannot_write(path, &e))
            }
        }
    }

    /// Makes what was written whole and durable; gives the file's name.
    fn finish(self) -> Outcome<Option<PathBuf>> {
        match self {
            Self::Stdout(mut writer) => writer.flush().map_err(|e| out::trouble(&e)).map(|()| None),
            Self::Other { mut writer, path } => {
                writer.flush().map_err(|e| cannot_write(&path, &e))?;
                Ok(Some(path))
            }
            Self::File { writer, path } => {
                let trouble = |e: &io::Error| cannot_write(&path, e);
                let file = writer.into_inner().map_err(|e| trouble(e.error()))?;
                file.as_file().sync_all().map_err(|e| trouble(&e))?;
                file.persist(&path).map_err(|e| trouble(&e.error))?;
                let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty());
                fs::File::open(parent.unwrap_or(Path::new(".")))
                    .and_then(|dir| dir.sync_all())
                    .map_err(|e| trouble(&e))?;
                Ok(Some(path))
            }
        }
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_the_size_of_episodes() {
        assert_eq!(next_limit(100, 1000), 200);
        assert_eq!(next_limit(900, 1000), PAGE_MAX);
        assert_eq!(next_limit(100, PAGE_BYTES_LOW), 100);
        assert_eq!(next_limit(100, PAGE_BYTES_HIGH + 1), 50);
        assert_eq!(next_limit(1, 1 << 30), 1);
    }
}
