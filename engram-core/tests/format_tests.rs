//! Golden files: a data directory of format version 1, read by every later version for ever.
//!
//! `fixtures/format-1/` holds the files of a log (zeros at their ends cut off) and `memory.txt`,
//! what the log says. The generator below wrote both; a change of the format adds a directory
//! beside this one, and never changes it.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests; reads fixtures")]

mod support;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engram_core::disk::Disk;
use engram_core::inspect;
use engram_core::store::SpaceInfo;
use engram_core::{Condition, Draft, Store};

use support::disk::{Image, MemDisk, Unsynced};
use support::{DIR, contents, draft, forget, open, remember};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-1")
}

/// Everything that a memory holds and its spaces, a line each: what the log says, and nothing that
/// is derived from it, so that what later versions derive does not change the description.
fn describe(store: &Store) -> String {
    let mut text = String::new();
    for SpaceInfo { name, episodes, bytes, dimension, .. } in store.spaces() {
        let space = format_args!("name: {name:?}, episodes: {episodes}, bytes: {bytes}");
        writeln!(text, "SpaceInfo {{ {space}, dimension: {dimension:?} }}").unwrap();
    }
    for ((space, id), (lsn, episode)) in contents(store) {
        let recorded = store.get(&space, &id).unwrap().recorded_at;
        writeln!(text, "{lsn} {space:?} {recorded} {episode:?}").unwrap();
    }
    text
}

/// The kinds of all frames, by file.
fn kinds(disk: &Arc<MemDisk>) -> Vec<(String, String)> {
    let disk = Arc::clone(disk) as Arc<dyn Disk>;
    let mut kinds = Vec::new();
    inspect::dump(&disk, Path::new(DIR), &mut |frame| {
        kinds.push((frame.file, frame.kind));
        Ok(())
    })
    .unwrap();
    kinds
}

/// One of every kind of record, in a rewritten, a sealed and an active segment.
fn write_golden() -> Image {
    let legacy = fixture().with_file_name("legacy").join("legacy3/wal/wal-000000006b03893d.log");
    let old = std::fs::read(legacy).unwrap();
    let disk = MemDisk::of(&[(support::wal("wal-000000006b03893d.log"), old)].into());
    let store = open(&disk);
    let full = Draft {
        when: Some("1969-12-31T23:59:59.123456789Z".parse().unwrap()),
        place: Some("Tromsø".into()),
        who: vec!["Ann".into(), "李雷".into()],
        embedding: vec![0.5, -1.25, f32::MIN_POSITIVE, f32::MAX],
        confidence: Some(0.1),
        metadata: Some("{\"a\": 1e99, \"b\": [null, \"é\"]}".into()),
        ..draft("full", "every field\n\0 of an episode")
    };
    store.remember("vectors", full, Condition::Any).unwrap().wait().unwrap();
    for n in 0..12 {
        remember(&store, &format!("e{n}"), format!("text {n}"));
    }
    remember(&store, "e3", "newer");
    forget(&store, "e4");
    // Rewritten: the overwritten and the forgotten one are gone.
    store.compact_from_memory().unwrap();
    for n in 12..20 {
        remember(&store, &format!("e{n}"), format!("text {n}"));
    }
    forget(&store, "e5");
    // Cut and sealed by a recovery.
    let disk = disk.crash(Unsynced::Lost);
    drop(store);
    let store = open(&disk);
    remember(&store, "last", "in the active segment");
    store.remember("gone", draft("g", "forgotten"), Condition::Any).unwrap().wait().unwrap();
    store.forget_space("gone").unwrap().wait().unwrap();
    store.close().unwrap();
    disk.image()
}

#[test]
#[ignore = "writes the golden files anew; run by hand, for a new version's directory only"]
fn write_the_golden_files() {
    let image = write_golden();
    let dir = fixture();
    std::fs::create_dir_all(dir.join("wal")).unwrap();
    for (path, bytes) in image {
        let name = path.file_name().unwrap();
        if path.starts_with(support::wal("")) && path.extension().is_some_and(|e| e == "seg") {
            let end = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
            std::fs::write(dir.join("wal").join(name), &bytes[..end]).unwrap();
        }
    }
    std::fs::write(dir.join("memory.txt"), describe(&open(&golden()))).unwrap();
}

/// The golden files on a disk, their zeros put back.
fn golden() -> Arc<MemDisk> {
    let mut image = Image::new();
    for entry in std::fs::read_dir(fixture().join("wal")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.resize(1 << 20, 0);
        image.insert(support::wal(path.file_name().unwrap().to_str().unwrap()), bytes);
    }
    MemDisk::of(&image)
}

#[test]
fn every_value_of_format_version_1_is_read_for_ever() {
    let wanted = std::fs::read_to_string(fixture().join("memory.txt")).unwrap();
    let disk = golden();
    let store = open(&disk);
    assert_eq!(describe(&store), wanted);
    let report = store.recovery_report();
    assert_eq!(report.failed.total(), 0, "{report:?}");
    assert!(report.incidents.is_empty(), "{report:?}");
    // Compaction carries every record over.
    remember(&store, "new", "x");
    store.compact_from_memory().unwrap();
    forget(&store, "new");
    assert_eq!(describe(&store), wanted);
    drop(store);
    assert_eq!(describe(&open(&disk)), wanted);
}

#[test]
fn the_golden_files_hold_one_of_every_kind() {
    let kinds = kinds(&golden());
    for kind in
        ["remember", "forget", "space_defined", "forget_space", "legacy_imported", "mark", "footer"]
    {
        assert!(kinds.iter().any(|(_, found)| found == kind), "no {kind} in {kinds:?}");
    }
    let files: std::collections::BTreeSet<_> = kinds.iter().map(|(file, _)| file).collect();
    assert_eq!(files.len(), 3, "a rewritten, a sealed and an active one: {files:?}");
    assert_eq!(files.iter().filter(|file| file.contains('-')).count(), 1);
}
