//! A whole data directory: logs that the engine made, then what the fuzzer did to their files.
//!
//! The laws: an open refuses with a typed error and changes nothing, and what it asks for leads
//! on; or it opens, and then gives nothing that was not submitted, byte for byte, has copied what
//! it took out, and finds nothing new the next time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};

use engram_core::storage::wal::frame::{MAGIC, crc};
use engram_core::storage::wal::report::Incident;
use engram_core::store::{Drive, ListQuery, Pending, Scale};
use engram_core::{Condition, Draft, Episode, Error, Options, Store};

use crate::disk::{CountingClock, Image, MemDisk, SeededRng};
use crate::frame::{mend_header, mend_segment_header};
use crate::havoc::Random;
use crate::meter::Bound;
use crate::source::Source;

const DIR: &str = "/d";
const SEGMENT_BYTES: u64 = 16 << 10;
/// A disk that holds what is read, the quarantine's copy, the segment that what follows H is
/// written to again, and the reader's window. The rest is the store's own.
const ALLOCATED: Bound = Bound { fixed_bytes: 1 << 20, per_byte: 12 };
/// Each byte is scanned once, copied once, digested once, and read back by those who look.
const READ_PASSES_MAX: u64 = 8;
const READ_BYTES_FIXED: u64 = 256 << 10;
/// Losses that a directory may ask to be accepted, one after the other.
const LOSSES_MAX: usize = 40;
const EDITS_MAX: usize = 24;

/// The laws of one input.
pub fn run(input: &[u8]) {
    let mut source = Source::new(input);
    let base = usize::from(source.byte()) % BASES.len();
    let Some(base) = BASES.get(base) else { return };
    let mut edits = Edits { image: base.image.clone(), faithful: true, forged: false };
    for _ in 0..EDITS_MAX {
        if source.is_empty() {
            break;
        }
        edits.edit(&mut source);
    }
    let bytes: usize = edits.image.values().map(Vec::len).sum();
    let mut accepted = Vec::new();
    let (disk, store) = loop {
        let disk = MemDisk::of(&edits.image);
        match ALLOCATED.hold("an open", bytes, || open(&disk, &accepted)) {
            Ok(store) => break (disk, store),
            Err(error) => {
                assert_unchanged(&edits.image, &disk.image(), &error);
                let Some(loss) = loss_of(&error) else { return };
                assert!(!accepted.contains(&loss), "asks again for {loss:?}: {error}");
                accepted.push(loss);
                assert!(accepted.len() < LOSSES_MAX, "no end of losses: {accepted:?}");
            }
        }
    };
    let read = disk.read_bytes();
    let most = READ_BYTES_FIXED + READ_PASSES_MAX * bytes as u64;
    assert!(read <= most, "{read} bytes read of {bytes}");
    let base = (!edits.forged).then_some(base);
    let first = look(&store, base);
    check_report(&store);
    check_quarantine(&edits.image, &disk.image(), &store.incidents());
    if edits.faithful && !edits.forged && accepted.is_empty() {
        check_nothing_thrown_away(&edits.image, &disk.image());
    }
    let known = ids(&store.incidents());
    assert!(store.close().is_ok(), "it closes");
    drop(store);
    let before = disk.image();
    let again = open(&disk, &accepted);
    assert!(again.is_ok(), "the second open: {again:?}");
    let Ok(again) = again else { return };
    assert_eq!(look(&again, base), first, "the second open reads the same");
    assert_eq!(ids(&again.incidents()), known, "the second open finds nothing new");
    if !edits.forged {
        check_nothing_thrown_away(&before, &disk.image());
    }
    // And it is a memory like any other: it takes a change, compacts, and forgets nothing of it.
    let draft = Draft { id: Some("new".into()), ..Draft::of("afterwards") };
    let kept = again.remember("a", draft, Condition::Any).and_then(Pending::wait);
    assert!(kept.is_ok(), "it takes a change: {kept:?}");
    let compacted = again.compact_from_memory();
    assert!(compacted.is_ok(), "it compacts: {compacted:?}");
    let mut after = look(&again, base);
    // A forger may give the space another name.
    let there = after.remove(&("a".into(), "new".into())).is_some();
    assert!(there || edits.forged, "what was just kept is there");
    let mut first = first;
    first.remove(&("a".into(), "new".into()));
    assert_eq!(after, first, "compaction changes nothing");
}

fn open(disk: &Arc<MemDisk>, accept_loss: &[(u64, u64)]) -> Result<Store, Error> {
    let options = Options {
        segment_bytes: SEGMENT_BYTES,
        scale: Scale { segment_bytes_min: SEGMENT_BYTES, step_bytes: 4 << 10, ..Scale::default() },
        drive: Drive::Steps,
        accept_loss: accept_loss.to_vec(),
        compact_automatically: false,
        recovery_threads: 1,
        disk: Arc::clone(disk) as _,
        clock: Arc::new(CountingClock::default()),
        rng: Arc::new(SeededRng(Mutex::new(Random::new(disk.image().len() as u64)))),
        ..Options::default()
    };
    Store::open(DIR, options)
}

/// A log that the engine made, and all that was ever submitted to it.
struct Base {
    image: Image,
    submitted: BTreeMap<(String, String), Vec<Episode>>,
}

static BASES: LazyLock<Vec<Base>> = LazyLock::new(|| {
    vec![
        Base::make(1, true, false),
        Base::make(1, false, false),
        Base::make(3, false, false),
        Base::make(3, true, true),
    ]
});

impl Base {
    /// A log of some lives, each of which ends with a crash; the last one perhaps cleanly.
    fn make(lives: usize, clean: bool, compacted: bool) -> Self {
        let disk = MemDisk::of(&Image::new());
        let mut submitted: BTreeMap<_, Vec<Episode>> = BTreeMap::new();
        let mut image = Image::new();
        for life in 0..lives {
            let store = open(&disk, &[]).expect("a log of one's own");
            for number in 0..24 {
                let space = ["a", "b", "c"][number % 3];
                let id = format!("e{}", number % 10);
                let draft = Draft {
                    id: Some(id.clone()),
                    embedding: if space == "b" { vec![0.5; 3] } else { Vec::new() },
                    metadata: (number % 4 == 0).then(|| "{\"a\": 1}".into()),
                    ..Draft::of(format!("({life}.{number}) {}", "w".repeat(number * 30)))
                };
                store.remember(space, draft, Condition::Any).and_then(Pending::wait).expect("room");
                let stored = store.get(space, &id).expect("just kept");
                submitted.entry((space.to_owned(), id)).or_default().push(stored.episode);
            }
            store.forget("a", "e3", Condition::Any).and_then(Pending::wait).expect("it is there");
            if life == 1 {
                store.forget_space("c").and_then(Pending::wait).expect("it is there");
            }
            if compacted {
                store.compact_from_memory().expect("room");
            }
            image = disk.image();
            if clean && life + 1 == lives {
                store.close().expect("room");
                image = disk.image();
            }
        }
        Self { image, submitted }
    }
}

struct Edits {
    image: Image,
    /// Whether every file still has its own name, so that nothing in it can be obsolete.
    faithful: bool,
    /// Whether checksums were put right over other bytes: then bytes may be invented.
    forged: bool,
}

impl Edits {
    fn edit(&mut self, source: &mut Source<'_>) {
        let op = source.byte();
        let Some(path) = self.pick(source) else { return };
        let Some(bytes) = self.image.get_mut(&path) else { return };
        let at = source.short();
        let at = if bytes.is_empty() { 0 } else { at % bytes.len() };
        match op % 13 {
            0 => {
                let flip = source.byte();
                bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= flip);
            }
            1 => bytes.truncate(at),
            2 => {
                let count = source.short();
                bytes.iter_mut().skip(at).take(count).for_each(|byte| *byte = 0);
            }
            3 => {
                self.image.remove(&path);
                self.faithful = false;
            }
            4 => {
                let Some(other) = self.pick(source) else { return };
                let (one, two) = (self.image.remove(&path), self.image.remove(&other));
                self.image.extend(one.map(|bytes| (other, bytes)));
                self.image.extend(two.map(|bytes| (path, bytes)));
                self.faithful = false;
            }
            5 => {
                let copy = bytes.clone();
                self.image.insert(name(source), copy);
                self.faithful = false;
            }
            6 => {
                let count = usize::from(source.byte());
                let raw = source.bytes(count);
                bytes.iter_mut().skip(at).zip(raw).for_each(|(byte, raw)| *byte = *raw);
            }
            7 => {
                // A forger, or a disk that lies well: a header's byte, and its checksum.
                let (field, flip) = (usize::from(source.byte()) % 108, source.byte());
                for copy in [0, 4096] {
                    let rest = bytes.get_mut(copy..).unwrap_or_default();
                    rest.iter_mut().skip(field).take(1).for_each(|byte| *byte ^= flip);
                    mend_segment_header(rest);
                }
                self.forged = true;
            }
            8 => {
                let count = usize::from(source.byte());
                let raw = source.bytes(count).to_vec();
                self.image.insert(name(source), raw);
                self.faithful = false;
            }
            9 => bytes.extend(std::iter::repeat_n(0, at)),
            10 => {
                let (field, flip) = (usize::from(source.byte()) % 64, source.byte());
                let frame = frame_at(bytes, at);
                frame.iter_mut().skip(field).take(1).for_each(|byte| *byte ^= flip);
                mend_header(frame);
                self.forged = true;
            }
            11 => {
                let (field, flip) = (source.short(), source.byte());
                let frame = frame_at(bytes, at);
                let length =
                    frame.get(8..12).and_then(|it| it.try_into().ok()).map(u32::from_le_bytes);
                let end = length.map_or(0, |length| 64 + length as usize).min(frame.len());
                let payload = frame.get_mut(64..end).unwrap_or_default();
                let count = payload.len().max(1);
                payload.iter_mut().skip(field % count).take(1).for_each(|byte| *byte ^= flip);
                let crc = crc(payload).to_le_bytes();
                frame.iter_mut().skip(56).zip(crc).for_each(|(byte, new)| *byte = new);
                mend_header(frame);
                self.forged = true;
            }
            _ => {
                // The note of the newest segment, as it may have been.
                let mut note = [
                    *b"HEAD",
                    [0; 4],
                    [source.byte(), 0, 0, 0],
                    [0; 4],
                    [source.byte(), 0, 0, 0],
                    [0; 4],
                ]
                .concat();
                if op >= 128 {
                    note.splice(
                        8..,
                        [source.word().to_le_bytes(), source.word().to_le_bytes()].concat(),
                    );
                }
                let crc = crc(&note[8..]).to_le_bytes();
                note.splice(4..8, crc);
                self.image.insert(Path::new(DIR).join("wal/head"), note);
            }
        }
    }

    fn pick(&self, source: &mut Source<'_>) -> Option<PathBuf> {
        let number = usize::from(source.byte());
        self.image.keys().nth(number % self.image.len().max(1)).cloned()
    }
}

/// From a frame's magic at or behind `at` on, if there is one.
fn frame_at(bytes: &mut [u8], at: usize) -> &mut [u8] {
    match bytes.windows(MAGIC.len()).skip(at).position(|four| *four == MAGIC) {
        Some(found) => bytes.get_mut(at + found..).unwrap_or_default(),
        None => &mut [],
    }
}

/// A name that may mean something in a data directory.
fn name(source: &mut Source<'_>) -> PathBuf {
    let number = |source: &mut Source<'_>| match source.byte() {
        0xFF => u64::MAX,
        0xFE => source.word(),
        byte => u64::from(byte),
    };
    let name = match source.byte() % 9 {
        0 => format!("wal/{:020}.seg", number(source)),
        1 => format!("wal/{:020}-{:020}-{:06}.seg", number(source), number(source), number(source)),
        2 => "wal/head".into(),
        3 => "wal/spare".into(),
        4 => "wal/wal-1.log".into(),
        5 => "default/wal/wal-2.log".into(),
        6 => "quarantine/incidents".into(),
        7 => format!("wal/{:020}.seg.tmp", number(source)),
        _ => "wal/stranger".into(),
    };
    Path::new(DIR).join(name)
}

/// The loss that a refusal says may be accepted. Other refusals must be of a kind that says what
/// to do.
fn loss_of(error: &Error) -> Option<(u64, u64)> {
    match error {
        Error::Missing { first, last, why } => {
            assert!(first <= last && !why.is_empty(), "{error}");
            Some((*first, *last))
        }
        Error::FormatTooNew { found, known, .. } => {
            assert!(found > known, "{error}");
            None
        }
        Error::Misnamed { path, says } => {
            assert!(!path.ends_with(says), "{error}");
            None
        }
        other => unreachable!("no answer to bad bytes: {other:?}"),
    }
}

fn assert_unchanged(before: &Image, after: &Image, error: &Error) {
    let kept = |path: &Path| !path.ends_with("LOCK");
    for (path, bytes) in before.iter().filter(|(path, _)| kept(path)) {
        assert_eq!(after.get(path), Some(bytes), "{} changed: {error}", path.display());
    }
    let new: Vec<_> =
        after.keys().filter(|path| kept(path) && !before.contains_key(*path)).collect();
    assert!(new.is_empty(), "{new:?} was made: {error}");
}

/// All that a memory gives: nothing in it is invented.
/// Each episode as text: in a forged one NaN may stand, which equals nothing.
type Contents = BTreeMap<(String, String), (u64, String)>;

fn look(store: &Store, base: Option<&Base>) -> Contents {
    let mut all = Contents::new();
    for space in store.spaces() {
        let mut cursor = None;
        loop {
            let query = ListQuery { limit: Some(1000), cursor, ..ListQuery::default() };
            let page = store.list(&space.name, &query);
            assert!(page.is_ok() || base.is_none(), "{space:?} is listed: {page:?}");
            let Ok(page) = page else { break };
            for stored in page.episodes {
                let key = (stored.space, stored.episode.id.clone());
                let known = |base: &Base| {
                    base.submitted.get(&key).is_some_and(|them| them.contains(&stored.episode))
                };
                let known = base.is_none_or(known) || key.1 == "new" || legacy(&stored.episode);
                assert!(known, "{key:?} is invented");
                let listed = format!("{:?}", stored.episode);
                let got = store.get(&key.0, &key.1);
                let got = got.map(|it| format!("{:?}", it.episode));
                // A forger may give two keys one id, and a key another space's name.
                let same = got.as_ref().ok() == Some(&listed);
                assert!(same || base.is_none(), "{key:?}: {got:?}");
                let twice = all.insert(key, (stored.lsn, listed)).is_some();
                assert!(!twice || base.is_none(), "listed twice");
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
    }
    all
}

/// What came from a v0.1.0 log that the fuzzer wrote.
fn legacy(episode: &Episode) -> bool {
    episode.metadata.as_ref().is_some_and(|metadata| metadata.starts_with("{\"v0_1\""))
}

fn ids(incidents: &[Incident]) -> BTreeSet<String> {
    incidents.iter().map(|incident| incident.id.clone()).collect()
}

fn check_report(store: &Store) {
    let report = store.recovery_report();
    assert!((0.0..=1.0).contains(&report.corruption_rate), "{report:?}");
    let ranges =
        report.incidents.iter().flat_map(|incident| &incident.lsns).chain(&report.lost_lsns);
    for [first, last] in ranges {
        assert!(first <= last, "{report:?}");
    }
    for incident in &report.incidents {
        assert!(!incident.detail.is_empty(), "{incident:?}");
    }
}

/// What an incident says was copied is there, byte for byte as it stood in its file.
fn check_quarantine(before: &Image, after: &Image, incidents: &[Incident]) {
    for incident in incidents {
        let Some(name) = &incident.quarantined_as else { continue };
        let kept = after.get(&Path::new(DIR).join("quarantine").join(name));
        assert!(kept.is_some(), "{incident:?} is not in the quarantine");
        let places =
            [Path::new(DIR).join("wal").join(&incident.file), Path::new(DIR).join(&incident.file)];
        let Some(source) = places.iter().find_map(|path| before.get(path)) else { continue };
        let begin = usize::try_from(incident.offset).unwrap_or(usize::MAX);
        let end = begin.saturating_add(usize::try_from(incident.bytes).unwrap_or(usize::MAX));
        let was = source.get(begin..end.min(source.len())).unwrap_or_default();
        let kept = kept.map(Vec::as_slice).unwrap_or_default();
        let holds = kept.len() >= was.len()
            && (kept.starts_with(was) || kept.windows(was.len().max(1)).any(|part| part == was));
        assert!(holds, "the quarantine has other bytes: {incident:?}");
    }
}

/// Every text that stood in a segment stands somewhere still.
fn check_nothing_thrown_away(before: &Image, after: &Image) {
    let there: BTreeSet<&[u8]> = after.values().flat_map(|bytes| texts(bytes)).collect();
    for (path, bytes) in
        before.iter().filter(|(path, _)| path.extension().is_some_and(|it| it == "seg"))
    {
        for text in texts(bytes) {
            assert!(
                there.contains(text),
                "{} of {} is gone",
                String::from_utf8_lossy(text),
                path.display()
            );
        }
    }
}

/// `(LIFE.NUMBER)` wherever it stands.
fn texts(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.iter().enumerate().filter(|(_, byte)| **byte == b'(').filter_map(|(at, _)| {
        let text = bytes.get(at..bytes.len().min(at + 8))?;
        let end = text.iter().position(|byte| *byte == b')')?;
        let inner = text.get(1..end)?;
        let (life, number) = (inner.first()?, inner.get(2..)?);
        let whole = life.is_ascii_digit() && inner.get(1) == Some(&b'.') && !number.is_empty();
        (whole && number.iter().all(u8::is_ascii_digit)).then(|| text.get(..=end))?
    })
}

/// Each base untouched, and one of each edit.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = (0..4).map(|base| vec![base]).collect();
    for base in 0..4u8 {
        for op in 0..13u8 {
            seeds.push(vec![base, op, 2, 0x10, 0x20 + op, 0x05, 0x01, 0x02]);
        }
        seeds.push(vec![base, 0, 2, 0x10, 0x21, 0xFF, 0, 3, 0x40, 0x22, 0x10, 1, 4, 0x80, 0x26]);
    }
    seeds
}
