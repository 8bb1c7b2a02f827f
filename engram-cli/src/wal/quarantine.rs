//! `engram wal quarantine`: what left the log, and how to get it back.

use std::fmt::Write as _;

use engram_core::disk::real::RealDisk;
use engram_core::inspect;
use engram_core::storage::wal::report::QuarantineItem;
use serde::{Deserialize, Serialize};

use super::{existing, with_store};
use crate::args::{OfflineArgs, QuarantineCommand, WalServerArgs};
use crate::client::{Client, Method, segment};
use crate::episodes::print_body;
use crate::failure::{Failure, Outcome};
use crate::out;
use crate::overview::size;

/// Bytes on one line of a hex dump.
const HEX_LINE: usize = 16;

/// `engram wal quarantine …`.
pub(super) fn quarantine(command: QuarantineCommand) -> Outcome {
    match command {
        QuarantineCommand::List(args) => list(&args),
        QuarantineCommand::Show { name, offline } => show(&name, &offline),
        QuarantineCommand::Restore { name, place } => restore(&name, &place),
        QuarantineCommand::Purge { name: None, all: false, .. } => {
            Err(Failure::usage("name what to purge, or say --all"))
        }
        QuarantineCommand::Purge { name, all: _, offline } => purge(name.as_deref(), &offline),
    }
}

fn list(args: &WalServerArgs) -> Outcome {
    #[derive(Deserialize)]
    struct Listed {
        items: Vec<QuarantineItem>,
    }
    let items = if let Some(server) = &args.server {
        let answer = Client::new(server)?.get("/v1/wal/quarantine")?;
        if args.offline.json {
            return print_body(&answer.body);
        }
        answer.json::<Listed>()?.items
    } else {
        inspect::quarantine_list(&RealDisk, &existing(&args.offline.data)?)?
    };
    if args.offline.json {
        return out::json(&serde_json::json!({ "items": items }));
    }
    if items.is_empty() {
        return out::line("the quarantine is empty");
    }
    out::line(&items.iter().map(about).collect::<Vec<_>>().join("\n"))
}

fn about(item: &QuarantineItem) -> String {
    format!(
        "{}  {}  {}  {}  from {} at byte {}, {} restorable",
        item.name,
        size(item.bytes),
        item.at,
        item.verdict.name(),
        item.file,
        item.offset,
        out::count(item.restorable.len() as u64, "frame", "frames"),
    )
}

fn show(name: &str, args: &OfflineArgs) -> Outcome {
    let (item, bytes) = inspect::quarantine_show(&RealDisk, &existing(&args.data)?, name)?;
    if args.json {
        let mut hex = String::with_capacity(bytes.len() * 2);
        push_hex(&mut hex, &bytes, "");
        return out::json(&serde_json::json!({ "item": item, "hex": hex }));
    }
    out::line(&about(&item))?;
    let mut text = String::new();
    for (index, line) in bytes.chunks(HEX_LINE).enumerate() {
        let shown = |byte: &u8| match byte {
            b' '..=b'~' => char::from(*byte),
            _ => '.',
        };
        // Writing to a string cannot fail.
        let _infallible = write!(text, "{:08x}  ", index * HEX_LINE);
        push_hex(&mut text, line, " ");
        text.extend(std::iter::repeat_n("   ", HEX_LINE - line.len()));
        text.push(' ');
        text.extend(line.iter().map(shown));
        text.push('\n');
        if text.len() > 1 << 16 {
            out::bytes(text.as_bytes())?;
            text.clear();
        }
    }
    out::bytes(text.as_bytes())
}

fn push_hex(text: &mut String, bytes: &[u8], between: &str) {
    for byte in bytes {
        // Writing to a string cannot fail.
        let _infallible = write!(text, "{byte:02x}{between}");
    }
}

#[derive(Serialize, Deserialize)]
struct Restored {
    restored: u64,
    skipped: u64,
}

fn restore(name: &str, args: &WalServerArgs) -> Outcome {
    let done: Restored = if let Some(server) = &args.server {
        let path = format!("/v1/wal/quarantine/{}/restore", segment(name));
        let client = Client::new(server)?;
        let answer = client.send(Method::Post("application/json"), &path, &[], &[])?.success()?;
        if args.offline.json {
            return print_body(&answer.body);
        }
        answer.json()?
    } else {
        let dir = existing(&args.offline.data)?;
        let (restored, skipped) = with_store(&dir, |store| store.quarantine_restore(name))?;
        Restored { restored, skipped }
    };
    if args.offline.json {
        return out::json(&done);
    }
    let Restored { restored, skipped } = done;
    out::line(&restored_in_words(name, restored, skipped))
}

fn restored_in_words(name: &str, restored: u64, skipped: u64) -> String {
    if restored == 0 && skipped == 0 {
        return format!("{name} holds nothing intact to restore");
    }
    let mut text = format!("restored {} of {name}", out::count(restored, "record", "records"));
    if skipped > 0 {
        // Writing to a string cannot fail.
        let _infallible =
            write!(text, "; {skipped} skipped: replaced or forgotten since, or no episodes");
    }
    text
}

fn purge(name: Option<&str>, args: &OfflineArgs) -> Outcome {
    let freed = inspect::quarantine_purge(&RealDisk, &existing(&args.data)?, name)?;
    if args.json {
        return out::json(&serde_json::json!({ "bytes_freed": freed }));
    }
    out::line(&format!("purged {}: {} freed", name.unwrap_or("everything"), size(freed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_restored_is_told_as_it_was() {
        assert_eq!(restored_in_words("q", 0, 0), "q holds nothing intact to restore");
        assert_eq!(restored_in_words("q", 1, 0), "restored 1 record of q");
        let told = restored_in_words("q", 0, 2);
        let wanted =
            "restored 0 records of q; 2 skipped: replaced or forgotten since, or no episodes";
        assert_eq!(told, wanted);
    }
}
