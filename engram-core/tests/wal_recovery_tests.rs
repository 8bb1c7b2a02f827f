//! Laws of recovery: whatever happened to the bytes, what was acknowledged is there or named.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use engram_core::disk::Disk;
use engram_core::inspect::{self, FrameDump};
use engram_core::metrics::Metrics;
use engram_core::storage::wal::report::RecoveryReport;
use engram_core::{Condition, Draft, Options, Store};

use support::disk::{Image, MemDisk};
use support::gauges::Figures;
use support::hush::warnings_of;
use support::{Contents, DIR, contents, forget, mix, open, options, remember};

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

fn frames_of(disk: &Arc<MemDisk>) -> Vec<FrameDump> {
    let disk = Arc::clone(disk) as Arc<dyn Disk>;
    let mut frames = Vec::new();
    inspect::dump(&disk, Path::new(DIR), &mut |frame| {
        frames.push(frame);
        Ok(())
    })
    .unwrap();
    frames
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
    disk.say_available(0);
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
    disk.say_available(0);
    let before = look(&disk);
    let figures = Figures::default();
    let with_figures =
        || Options { metrics: Arc::new(Metrics::new(&figures)), ..options(&disk) };
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
            scope.spawn(|| half.iter().for_each(|&bit| check_flip(sample, path, bit)));
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
