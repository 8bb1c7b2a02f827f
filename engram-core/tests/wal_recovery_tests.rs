//! Laws of recovery: whatever happened to the bytes, what was acknowledged is there or named.
#![expect(clippy::unwrap_used, clippy::panic, clippy::naive_bytecount, reason = "tests")]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use engram_core::disk::Disk;
use engram_core::inspect::{self, FrameDump};
use engram_core::metrics::Metrics;
use engram_core::record::Keys;
use engram_core::storage::wal::frame::{self, Header, Kind as FrameKind};
use engram_core::storage::wal::report::{RecoveryMode, RecoveryReport};
use engram_core::storage::wal::segment::{HeaderCopy, SegmentHeader};
use engram_core::{Condition, Draft, Error, Options, Store};

use support::disk::{Image, Kind, MemDisk, Op, Unsynced};
use support::gauges::Figures;
use support::hush::warnings_of;
use support::{Contents, DIR, contents, forget, frames_of, mix, open, options, remember, wal};

/// A log at rest and what it says.
struct Sample {
    image: Image,
    memory: Contents,
    frames: Vec<FrameDump>,
}

impl Sample {
    fn of(image: Image) -> Self {
        let disk = MemDisk::of(&image);
        let dump = frames_of(&disk);
        let store = open(&disk);
        assert_eq!(store.recovery_report().failed.total(), 0);
        Self { memory: contents(&store), frames: dump, image }
    }

    fn file(&self, end: &str) -> PathBuf {
        self.image.keys().rfind(|path| path.to_string_lossy().ends_with(end)).unwrap().clone()
    }
}

/// A log of episodes with overwrites, forgets, an embedding and a forgotten space.
fn write_small(store: &Store, episodes: usize) {
    for n in 0..episodes {
        remember(store, &format!("e{}", n % (episodes - episodes / 5)), format!("text {n}"));
    }
    let draft = Draft { embedding: vec![0.5, 1.5], ..support::draft("v", "vector") };
    store.remember("v", draft, Condition::Any).unwrap().wait().unwrap();
    forget(store, "e1");
    forget(store, "e2");
    remember(store, "e2", "again");
    store.remember("gone", support::draft("g", "x"), Condition::Any).unwrap().wait().unwrap();
    store.forget_space("gone").unwrap().wait().unwrap();
}

/// Cuts the zeros behind the log's end down to so many: a shorter file is a legal one, and
/// fewer zeros are read faster.
fn cut_zeros(image: &mut Image, keep: usize) {
    for (path, bytes) in image.iter_mut().filter(|(path, _)| is_segment(path)) {
        let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |at| at + 1);
        assert!(end > 8192, "{}", path.display());
        bytes.truncate(end + keep);
    }
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "seg")
}

fn closed_sample(episodes: usize) -> Sample {
    let disk = MemDisk::new();
    disk.say_available((1 << 20) - 1);
    let store = open(&disk);
    write_small(&store, episodes);
    store.close().unwrap();
    let mut image = disk.image();
    cut_zeros(&mut image, 64);
    Sample::of(image)
}

/// What recovery would report, seen without a lock; times and rates left out.
fn look(disk: &Arc<MemDisk>) -> RecoveryReport {
    let disk = Arc::clone(disk) as Arc<dyn Disk>;
    comparable(&inspect::inspect(&disk, Path::new(DIR)).unwrap().report)
}

fn comparable(report: &RecoveryReport) -> RecoveryReport {
    let mut report = report.clone();
    report.duration_seconds = 0.0;
    report.bytes_per_second = 0.0;
    report.compaction.clear();
    for incident in &mut report.incidents {
        incident.at = engram_core::Timestamp::UNIX_EPOCH;
        incident.quarantined_as = None;
        incident.detail.clear();
    }
    report.incidents.sort_by(|a, b| a.id.cmp(&b.id));
    report
}

fn names(lost: &[[u64; 2]], lsn: u64) -> bool {
    lost.iter().any(|&[first, last]| (first..=last).contains(&lsn))
}

/// Flips one bit, and holds recovery to the law: at most the frame that was hit is lost and
/// named, everything else is there byte for byte, compaction cleans up, a second start is quiet.
fn check_flip(sample: &Sample, path: &Path, bit: usize) {
    let at = || format!("bit {bit} of {}", path.display());
    let mut image = sample.image.clone();
    image.get_mut(path).unwrap()[bit / 8] ^= 1 << (bit % 8);
    let disk = MemDisk::of(&image);
    disk.say_available((1 << 20) - 1);
    let before = look(&disk);
    let figures = Figures::default();
    let with_figures = || Options { metrics: Arc::new(Metrics::new(&figures)), ..options(&disk) };
    let known = open_incidents(sample);
    let store = Store::open(DIR, with_figures()).unwrap_or_else(|e| panic!("{}: {e}", at()));
    let report = store.recovery_report();
    assert_eq!(before, comparable(&report), "inspect and recovery disagree, {}", at());
    let hit = hit_frame(sample, path, bit / 8);
    check_contents(sample, &store, &report, hit, &at());
    store.compact_from_memory().unwrap();
    check_contents(sample, &store, &report, hit, &at());
    let incidents = store.incidents().len();
    assert!(incidents <= known + 1, "{}: {:?}", at(), store.incidents());
    assert_eq!(incidents - known, report.incidents.len(), "{}", at());
    store.close().unwrap();
    drop(store);
    let (store, warnings) = warnings_of(|| Store::open(DIR, with_figures()).unwrap());
    assert_eq!(warnings, Vec::<String>::new(), "{}", at());
    let second = store.recovery_report();
    assert_eq!(second.failed.total(), 0, "{}: {second:?}", at());
    assert!(second.incidents.is_empty() && second.lost_lsns.is_empty(), "{}: {second:?}", at());
    assert_eq!(store.incidents().len(), incidents, "{}", at());
    check_contents(sample, &store, &report, hit, &at());
    assert_eq!(figures.count("engram_wal_compaction_runs_total{outcome=failed}"), 0, "{}", at());
}

fn open_incidents(sample: &Sample) -> usize {
    let bytes = sample.image.get(Path::new("/data/quarantine/incidents"));
    bytes.map_or(0, |bytes| bytes.iter().filter(|&&byte| byte == b'\n').count())
}

fn hit_frame<'a>(sample: &'a Sample, path: &Path, byte: usize) -> Option<&'a FrameDump> {
    let name = path.file_name().unwrap().to_str().unwrap();
    let byte = byte as u64;
    sample.frames.iter().find(|frame| {
        frame.file == name && (frame.offset..frame.offset + frame.bytes).contains(&byte)
    })
}

fn check_contents(
    sample: &Sample,
    store: &Store,
    report: &RecoveryReport,
    hit: Option<&FrameDump>,
    at: &str,
) {
    let now = contents(store);
    let lost = hit.filter(|frame| !matches!(frame.kind.as_str(), "mark" | "footer"));
    if let Some(frame) = lost {
        assert!(names(&report.lost_lsns, frame.lsn), "LSN {} is not named, {at}", frame.lsn);
        assert_eq!((report.failed.damaged, report.lost_lsns.len()), (1, 1), "{at}");
    } else {
        assert!(report.lost_lsns.is_empty(), "{:?}, {at}", report.lost_lsns);
    }
    for (key, value) in &sample.memory {
        let excused = lost.is_some_and(|frame| frame.lsn == value.0);
        match now.get(key) {
            Some(found) if found == value => {}
            // Its newest version was hit: the one before is what is left.
            _ if excused => {}
            found => panic!("{key:?} is {found:?}, not {value:?}, {at}"),
        }
    }
    // What is there beside it can only be what a lost forget had covered.
    let extra: Vec<_> = now.keys().filter(|key| !sample.memory.contains_key(*key)).collect();
    let may = lost.is_some_and(|frame| frame.kind.starts_with("forget"));
    assert!(extra.is_empty() || may, "{extra:?} came back, {at}");
}

/// Bytes of a segment where a flip may hurt: both headers, and everything behind them.
fn bytes_in_use(image: &Image, path: &Path) -> Vec<usize> {
    (0..512).chain(4096..4608).chain(8192..image[path].len()).collect()
}

/// Checks many flips, on two threads.
fn check_flips(sample: &Sample, path: &Path, bits: &[usize]) {
    std::thread::scope(|scope| {
        for half in bits.chunks(bits.len().div_ceil(2)) {
            scope.spawn(move || {
                for &bit in half {
                    check_flip(sample, path, bit);
                }
            });
        }
    });
}

/// One bit of every `step`-th byte, another one each time.
fn sampled(bytes: &[usize], step: usize) -> Vec<usize> {
    let each = bytes.iter().step_by(step).enumerate();
    each.map(|(n, byte)| byte * 8 + usize::try_from(mix(n as u64) % 8).unwrap()).collect()
}

#[test]
#[ignore = "every bit: minutes; run by hand"]
fn every_bit_flipped_after_a_clean_stop_costs_at_most_the_frame_it_hits() {
    let sample = closed_sample(20);
    let path = sample.file(".seg");
    let bytes = bytes_in_use(&sample.image, &path);
    let bits: Vec<usize> =
        bytes.iter().flat_map(|byte| (0..8).map(move |bit| byte * 8 + bit)).collect();
    check_flips(&sample, &path, &bits);
}

#[test]
fn a_bit_flipped_after_a_clean_stop_costs_at_most_the_frame_it_hits() {
    let sample = closed_sample(20);
    let path = sample.file(".seg");
    check_flips(&sample, &path, &sampled(&bytes_in_use(&sample.image, &path), 7));
}

/// A crashed log that was hit in many places: a forget in a sealed segment, a header copy, a
/// frame below the synced LSN in the last segment, and its last frame torn.
fn wounded() -> Image {
    let disk = MemDisk::new();
    let store = open(&disk);
    remember(&store, "victim", "forgotten by a frame that is damaged");
    for n in 0..30 {
        remember(&store, &format!("a{n}"), format!("{n} ").repeat(8000));
    }
    forget(&store, "victim");
    for n in 0..60 {
        remember(&store, &format!("b{n}"), format!("{n} ").repeat(8000));
    }
    assert!(store.wal().segments.len() >= 2);
    let mut image = disk.crash(Unsynced::Kept).image();
    image.retain(|path, _| !path.ends_with("spare"));
    let frames = frames_of(&MemDisk::of(&image));
    let hit = frames.iter().find(|frame| frame.kind == "forget").unwrap();
    let path = wal(&hit.file);
    assert!(frames.iter().any(|frame| frame.kind == "footer" && frame.file == hit.file));
    let bytes = image.get_mut(&path).unwrap();
    bytes[usize::try_from(hit.offset).unwrap() + 70] ^= 4;
    bytes[20] ^= 1;
    let last = frames.iter().rfind(|frame| frame.kind == "remember").unwrap();
    let within: Vec<_> = frames.iter().filter(|frame| frame.file == last.file).collect();
    let below = within[within.len() / 2];
    let bytes = image.get_mut(&wal(&last.file)).unwrap();
    bytes[usize::try_from(below.offset).unwrap() + 3] ^= 4;
    let torn = usize::try_from(last.offset).unwrap() + 200;
    bytes[torn..].fill(0);
    image
}

/// What recovery leaves: the memory, its incidents, and what is in the quarantine.
fn outcome(disk: &Arc<MemDisk>, store: &Store) -> (Vec<(String, u64)>, Vec<String>, Vec<String>) {
    let mut incidents: Vec<String> = store.incidents().into_iter().map(|i| i.id).collect();
    incidents.sort();
    let mut kept: Vec<String> = store.quarantine().unwrap().into_iter().map(|i| i.name).collect();
    kept.sort();
    let image = disk.image();
    let left = image.keys().filter(|path| path.to_string_lossy().ends_with(".tmp"));
    let left: Vec<_> = left.filter(|path| !path.ends_with("spare.tmp")).collect();
    assert!(left.iter().all(|path| path.starts_with("/data/quarantine")), "{left:?}");
    let memory = contents(store).into_iter().map(|((_, id), (lsn, _))| (id, lsn)).collect();
    (memory, incidents, kept)
}

#[test]
fn recovery_interrupted_at_any_even_call_and_run_again_ends_in_the_same_state() {
    recovery_interrupted_at_every_second_call(0);
}

#[test]
fn recovery_interrupted_at_any_odd_call_and_run_again_ends_in_the_same_state() {
    recovery_interrupted_at_every_second_call(1);
}

/// In two halves, which run side by side: no other test takes so long.
fn recovery_interrupted_at_every_second_call(first: u64) {
    let image = wounded();
    let disk = MemDisk::of(&image);
    let store = open(&disk);
    let report = store.recovery_report();
    let reference = outcome(&disk, &store);
    assert_eq!((report.failed.damaged, report.failed.tail), (2, 1), "{report:?}");
    assert_eq!(reference.1.len(), 4, "{:?}", reference.1);
    drop(store);
    for n in (first..).step_by(2) {
        let disk = MemDisk::of(&image);
        disk.say_available((1 << 20) - 1);
        disk.crash_at(n);
        let opened = Store::open(DIR, options(&disk));
        if !disk.is_crashed() {
            assert!(opened.is_ok() && n > 20, "only {n} calls");
            return;
        }
        for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Torn(n), Unsynced::Torn(!n)] {
            let at = format!("crash at call {n}, unsynced {unsynced:?}");
            let disk = disk.crash(unsynced);
            let store = Store::open(DIR, options(&disk)).unwrap_or_else(|e| panic!("{e}, {at}"));
            assert_eq!(outcome(&disk, &store), reference, "{at}");
            store.compact_from_memory().unwrap();
            assert_eq!(outcome(&disk, &store), reference, "{at}");
            drop(store);
            let (store, warnings) = warnings_of(|| open(&disk));
            assert_eq!(warnings, Vec::<String>::new(), "{at}");
            assert_eq!(outcome(&disk, &store), reference, "{at}");
            let report = store.recovery_report();
            assert!(report.failed.total() == 0 && report.incidents.is_empty(), "{at}");
        }
    }
}

#[test]
fn a_damaged_forget_in_a_sealed_segment_still_forgets() {
    let disk = MemDisk::of(&wounded());
    for _ in 0..3 {
        let store = open(&disk);
        let known: Vec<String> = contents(&store).into_keys().map(|(_, id)| id).collect();
        assert!(!known.contains(&"victim".to_owned()));
        store.compact_from_memory().unwrap();
        assert!(!contents(&store).contains_key(&("s".to_owned(), "victim".to_owned())));
    }
}

#[test]
fn strict_recovery_refuses_damage_and_changes_nothing() {
    let image = wounded();
    let disk = MemDisk::of(&image);
    let strict = || Options { recovery: RecoveryMode::Strict, ..options(&disk) };
    let refused = Store::open(DIR, strict()).unwrap_err();
    assert!(matches!(refused, Error::Strict { .. }), "{refused}");
    let mut after = disk.image();
    after.remove(Path::new("/data/LOCK"));
    let mut before = image.clone();
    before.remove(Path::new("/data/LOCK"));
    assert_eq!(after, before);
    let store = open(&disk);
    store.compact_from_memory().unwrap();
    drop(store);
    drop(Store::open(DIR, strict()).unwrap());
}

#[test]
fn a_torn_tail_is_no_loss_and_its_whole_frames_can_be_brought_back() {
    let disk = MemDisk::new();
    let store = open(&disk);
    for n in 0..5 {
        remember(&store, &format!("e{n}"), "acknowledged");
    }
    let drafts = (0..6).map(|n| Ok(support::draft(&format!("t{n}"), "in the last batch")));
    store.remember_batch("s", drafts.collect(), Condition::Any).unwrap().wait().unwrap();
    let mut image = disk.crash(Unsynced::Kept).image();
    image.retain(|path, _| is_segment(path));
    // What an idle mark says does not matter here.
    let mut frames = frames_of(&MemDisk::of(&image));
    frames.retain(|frame| frame.kind == "remember");
    let path = wal(&frames[0].file);
    let start = usize::try_from(frames[5].offset).unwrap();
    let end = usize::try_from(frames[10].offset + frames[10].bytes).unwrap();
    for cut in (start..end).step_by(3) {
        let mut image = image.clone();
        image.get_mut(&path).unwrap()[cut..].fill(0);
        check_tail(&image, &frames, cut);
    }
    // The first of the batch torn, the rest whole: another order of sectors.
    let mut image = image.clone();
    image.get_mut(&path).unwrap()[start..start + 40].fill(0);
    image.get_mut(&path).unwrap()[end..].fill(0);
    let disk = MemDisk::of(&image);
    let store = open(&disk);
    assert_eq!((contents(&store).len(), store.recovery_report().failed.damaged), (5, 0));
    let kept = store.quarantine().unwrap();
    assert_eq!((kept.len(), kept[0].restorable.len()), (1, 5));
    assert_eq!(store.quarantine_restore(&kept[0].name).unwrap(), (5, 0));
    assert_eq!(contents(&store).len(), 10);
    assert_eq!(store.quarantine_restore(&kept[0].name).unwrap(), (0, 5));
}

fn check_tail(image: &Image, frames: &[FrameDump], cut: usize) {
    let disk = MemDisk::of(image);
    disk.say_available((1 << 20) - 1);
    let whole = frames.iter().filter(|f| f.offset + f.bytes <= cut as u64).count();
    let before = look(&disk);
    let store = open(&disk);
    let report = store.recovery_report();
    assert_eq!(before, comparable(&report), "cut at {cut}");
    let memory = contents(&store);
    assert_eq!(memory.len(), whole, "cut at {cut}");
    assert_eq!((report.failed.damaged, report.lost_lsns.len()), (0, 0), "cut at {cut}");
    let highest = frames.iter().map(|frame| frame.lsn).filter(|&lsn| lsn <= report.head_lsn);
    let next = remember(&store, "next", "x");
    assert!(next > highest.max().unwrap(), "cut at {cut}");
    if cut as u64 > frames[whole.min(frames.len() - 1)].offset && whole < frames.len() {
        assert!(next > frames[whole].lsn, "the LSN of the torn frame was given again, {cut}");
    }
    drop(store);
    let (store, warnings) = warnings_of(|| open(&disk));
    assert_eq!(warnings, Vec::<String>::new(), "cut at {cut}");
    assert!(store.recovery_report().incidents.is_empty(), "cut at {cut}");
    assert_eq!(contents(&store).len(), whole + 1, "cut at {cut}");
}

#[test]
fn a_missing_segment_is_named_and_its_accepted_loss_declared_for_ever() {
    let disk = MemDisk::new();
    let store = open(&disk);
    for n in 0..150 {
        remember(&store, &format!("e{n}"), format!("{n} ").repeat(6000));
    }
    let segments = store.wal().segments;
    assert!(segments.len() >= 3);
    let memory = contents(&store);
    drop(store);
    let mut image = disk.image();
    let gone = &segments[1];
    let bytes = image.remove(&wal(&gone.file)).unwrap();
    let disk = MemDisk::of(&image);
    let refused = Store::open(DIR, options(&disk)).unwrap_err();
    let Error::Missing { first, last, .. } = refused else { panic!("{refused}") };
    assert_eq!((first, last), (gone.first_lsn, gone.last_lsn));
    let mut left = memory.clone();
    left.retain(|_, (lsn, _)| !(first..=last).contains(lsn));
    let accept = Options { accept_loss: vec![(first, last)], ..options(&disk) };
    let store = Store::open(DIR, accept).unwrap();
    assert_eq!(contents(&store), left);
    drop(store);
    let (store, warnings) = warnings_of(|| open(&disk));
    assert_eq!((contents(&store), warnings), (left.clone(), Vec::new()));
    store.compact_from_memory().unwrap();
    drop(store);
    // The file comes back: it is kept, and not believed.
    let mut image = disk.image();
    image.insert(wal(&gone.file), bytes.clone());
    let disk = MemDisk::of(&image);
    let store = open(&disk);
    assert_eq!(contents(&store), left);
    let kept = store.quarantine().unwrap();
    assert_eq!(kept.iter().map(|item| &item.name).collect::<Vec<_>>(), [&gone.file]);
    assert_eq!(disk.image()[&Path::new("/data/quarantine").join(&gone.file)], bytes);
    drop(store);
    assert_eq!(contents(&open(&disk)), left);
}

#[test]
fn a_newer_format_and_a_locked_directory_are_refused_by_name() {
    let sample = closed_sample(5);
    let path = sample.file(".seg");
    let mut image = sample.image.clone();
    for copy in [0, 4096] {
        let bytes = image.get_mut(&path).unwrap();
        bytes[copy + 12] = 2;
        let crc = frame::crc(&bytes[copy + 12..copy + 512]);
        bytes[copy + 8..copy + 12].copy_from_slice(&crc.to_le_bytes());
    }
    let refused = Store::open(DIR, options(&MemDisk::of(&image))).unwrap_err();
    assert!(matches!(refused, Error::FormatTooNew { found: 2, known: 1, .. }), "{refused}");

    let disk = MemDisk::of(&sample.image);
    let store = open(&disk);
    let refused = Store::open(DIR, options(&disk)).unwrap_err();
    assert!(matches!(refused, Error::Locked { .. }), "{refused}");
    store.close().unwrap();
    drop(open(&disk));
}

#[test]
fn foreign_files_and_segments_of_another_store_are_left_alone() {
    let sample = closed_sample(5);
    let other = closed_sample(3);
    let foreign = [
        (wal("notes.txt"), b"mine".to_vec()),
        (wal("1.seg"), b"no segment of ours".to_vec()),
        (PathBuf::from("/data/README"), b"hello".to_vec()),
        (wal("00000000000000000900.seg"), other.image[&other.file(".seg")].clone()),
    ];
    let mut image = sample.image.clone();
    // Two segments of ours against one of theirs: ours is the store.
    let disk = MemDisk::of(&image);
    let store = open(&disk);
    remember(&store, "e0", "replaced");
    store.compact_from_memory().unwrap();
    let memory = contents(&store);
    drop(store);
    image.clone_from(&disk.image());
    image.extend(foreign.iter().cloned());
    let disk = MemDisk::of(&image);
    for _ in 0..2 {
        let (store, warnings) = warnings_of(|| open(&disk));
        assert_eq!((contents(&store), warnings), (memory.clone(), Vec::new()));
        store.compact_from_memory().unwrap();
    }
    let after = disk.image();
    assert!(foreign.iter().all(|(path, bytes)| after.get(path) == Some(bytes)));
}

#[test]
fn when_the_quarantine_cannot_be_written_the_bytes_stay_and_serving_begins() {
    let image = wounded();
    let reference = contents(&open(&MemDisk::of(&image)));
    let disk = MemDisk::of(&image);
    disk.fail_for_ever(Op::Create, "quarantine", Kind::Enospc);
    disk.fail_for_ever(Op::CreateDir, "quarantine", Kind::Enospc);
    let store = open(&disk);
    assert_eq!(contents(&store), reference);
    remember(&store, "new", "x");
    drop(store);
    disk.heal();
    let store = open(&disk);
    let mut memory = contents(&store);
    assert!(memory.remove(&("s".to_owned(), "new".to_owned())).is_some());
    assert_eq!(memory, reference);
    store.compact_from_memory().unwrap();
    drop(store);
    let (store, warnings) = warnings_of(|| open(&disk));
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(store.recovery_report().failed.total(), 0);
    assert_eq!(contents(&store).len(), reference.len() + 1);
}

/// Puts a frame as another version would have written it behind the log's last one.
fn push_foreign_frame(image: &mut Image, path: &Path, change: impl FnOnce(&mut Header)) -> Header {
    let frames = frames_of(&MemDisk::of(image));
    let last = frames.last().unwrap();
    let at = usize::try_from(last.offset).unwrap();
    let bytes = image.get_mut(path).unwrap();
    let mark = Header::decode(&bytes[at..]).unwrap();
    let end = at + usize::try_from(mark.frame_bytes()).unwrap();
    let payload = b"of a version to come";
    let mut header = Header {
        length: u32::try_from(payload.len()).unwrap(),
        lsn: mark.lsn + 1,
        synced: mark.lsn,
        payload_crc: frame::crc(payload),
        reserved: [0; 4],
        ..mark
    };
    change(&mut header);
    let again = Header { lsn: mark.lsn + 2, synced: mark.lsn + 1, ..mark };
    let new = [&header.encode()[..], payload, &again.encode()[..]].concat();
    bytes.truncate(end);
    bytes.extend(new);
    header
}

fn holds_payload(disk: &MemDisk) -> bool {
    let image = disk.image();
    let log = image.iter().filter(|(path, _)| is_segment(path));
    log.into_iter().any(|(_, bytes)| memchr::memmem::find(bytes, b"of a version to come").is_some())
}

#[test]
fn frames_of_a_version_to_come_are_kept_until_they_are_forgotten() {
    let sample = closed_sample(10);
    let path = sample.file(".seg");
    let mut image = sample.image.clone();
    let bytes = &image[&path];
    let HeaderCopy::Good(segment) = SegmentHeader::decode(bytes) else { panic!("no header") };
    let keys = Keys::new(segment.identity.secret);
    push_foreign_frame(&mut image, &path, |header| {
        header.kind = FrameKind(77);
        header.key = keys.episode("s", "of-a-new-kind");
        header.space_key = keys.space("s");
    });
    push_foreign_frame(&mut image, &path, |header| {
        header.kind = FrameKind::REMEMBER;
        header.schema = 99;
        header.key = keys.episode("s", "of-a-new-schema");
        header.space_key = keys.space("s");
    });
    let disk = MemDisk::of(&image);
    let store = open(&disk);
    let report = store.recovery_report();
    assert_eq!((report.failed.undecodable, report.failed.damaged), (2, 0), "{report:?}");
    assert_eq!(contents(&store), sample.memory);
    let e = store.get("s", "of-a-new-schema").unwrap_err();
    assert!(matches!(e, Error::Undecodable { schema: 99, .. }), "{e}");
    for _ in 0..2 {
        remember(&store, "e0", "garbage to come");
        remember(&store, "e0", "the newest");
        store.compact_from_memory().unwrap();
    }
    drop(store);
    let (store, warnings) = warnings_of(|| open(&disk));
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(store.recovery_report().failed.undecodable, 2);
    assert!(matches!(store.get("s", "of-a-new-schema"), Err(Error::Undecodable { .. })));
    // A forget acts on the key, whoever wrote the frame; so does one of the space.
    forget(&store, "of-a-new-schema");
    assert!(matches!(store.get("s", "of-a-new-schema"), Err(Error::NoEpisode { .. })));
    store.compact_from_memory().unwrap();
    assert!(holds_payload(&disk), "the one of a new kind is still there");
    drop(store);
    let store = open(&disk);
    assert_eq!(store.recovery_report().failed.undecodable, 1);
    store.forget_space("s").unwrap().wait().unwrap();
    store.compact_from_memory().unwrap();
    assert!(!holds_payload(&disk));
}

#[test]
fn a_bit_flipped_in_a_log_of_several_segments_costs_at_most_the_frame_it_hits() {
    let disk = MemDisk::new();
    let store = open(&disk);
    for n in 0..700 {
        remember(&store, &format!("e{}", n % 600), format!("{n} ").repeat(800));
    }
    forget(&store, "e30");
    assert!(store.wal().segments.len() >= 3);
    store.close().unwrap();
    let mut image = disk.image();
    image.retain(|path, _| is_segment(path));
    let sample = Sample::of(image);
    for path in sample.image.keys().filter(|path| is_segment(path)) {
        let bytes = bytes_in_use(&sample.image, path);
        check_flips(&sample, path, &sampled(&bytes, bytes.len() / 8));
    }
}
