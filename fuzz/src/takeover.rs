//! A log file of v0.1.0: as it stands, or written by a script that knows what is in it.

use engram_core::storage::legacy::{self, Change, Entry, Layout, Log};

use crate::meter::Bound;
use crate::source::Source;

#[path = "../../engram-core/tests/legacy_log/mod.rs"]
#[expect(clippy::unwrap_used, dead_code, reason = "the generator of the engine's own tests")]
mod legacy_log;

use legacy_log::{Record, Sketch, crc, sketch};

/// The smallest record, a header alone, is 64 bytes and becomes an entry of some 300 and a note or
/// two; their list grows by doubling. The rest is strings that stand in the file.
const ALLOCATED: Bound = Bound { fixed_bytes: 64 << 10, per_byte: 32 };
/// Longest run of zeros.
const ZEROS_MAX: usize = 5000;
const HEADER_BYTES: usize = 64;
const LAYOUTS: [Layout; 5] = [Layout::G0, Layout::G1, Layout::G2, Layout::G3, Layout::G4];

/// The laws of one input.
pub fn run(input: &[u8]) {
    let file = LogFile::of(input);
    let bytes = file.bytes.as_slice();
    let log = ALLOCATED.hold("the log", bytes.len(), || legacy::read(bytes));
    check_tiling(bytes, &log);
    for entry in log.entries.iter().filter(|entry| !entry.rescued) {
        check_entry(bytes, entry);
    }
    if let Some(wanted) = &file.wanted {
        let mut found = log.entries.iter().filter_map(|entry| match &entry.change {
            Change::Remember(episode) => Some(episode.id.as_str()),
            _ => None,
        });
        for id in wanted {
            assert!(found.any(|found| found == id), "{id} is whole, and was not found");
        }
    }
}

/// A file, and what was put into it.
struct LogFile {
    bytes: Vec<u8>,
    /// Ids of the episodes that must be found, in order; none where others could hide them.
    wanted: Option<Vec<String>>,
}

impl LogFile {
    /// An input that begins with 0 is a file behind that byte; any other is a script.
    fn of(input: &[u8]) -> Self {
        if let Some((0, raw)) = input.split_first() {
            return Self { bytes: raw.to_vec(), wanted: None };
        }
        let mut source = Source::new(input.get(1..).unwrap_or_default());
        let (mut bytes, mut wanted, mut exact) = (Vec::new(), Vec::new(), true);
        let mut sequence = 0;
        while !source.is_empty() && bytes.len() < 64 << 10 {
            let op = source.byte();
            sequence += 1;
            match op % 6 {
                0 => {
                    bytes.extend_from_slice(source.bytes(usize::from(op / 6)));
                    exact = false;
                }
                1 => bytes.resize(bytes.len() + source.short() % ZEROS_MAX, 0),
                2 => {
                    // Their payload and checksum are right, and mean whatever they mean.
                    let length = usize::from(source.byte());
                    let payload = source.bytes(length).to_vec();
                    bytes.extend(Record { entry_type: u32::from(op / 6), payload }.bytes(sequence));
                    exact = false;
                }
                3 => {
                    let mut record = episode(op / 6, &mut source).bytes(sequence);
                    let at = source.short() % record.len();
                    record[at] ^= source.byte();
                    bytes.extend(record);
                }
                4 => {
                    let record = episode(op / 6, &mut source).bytes(sequence);
                    let cut = source.short() % record.len();
                    bytes.extend_from_slice(&record[..cut]);
                    exact = false;
                }
                _ => {
                    let record = episode(op / 6, &mut source);
                    wanted.push(format!("e{sequence}"));
                    bytes.extend(renamed(&record, sequence).bytes(sequence));
                }
            }
        }
        Self { bytes, wanted: exact.then_some(wanted) }
    }
}

/// An episode in one of the layouts. Its id has two characters.
fn episode(choice: u8, source: &mut Source<'_>) -> Record {
    let shape = source.byte();
    let layout = LAYOUTS.get(usize::from(choice % 5)).copied().unwrap_or(Layout::G4);
    let confidence = f32::from(source.byte()) / 200.0;
    let first = f32::from_le_bytes([source.byte(), source.byte(), source.byte(), source.byte()]);
    let sketch = Sketch {
        what: "w".repeat(usize::from(shape >> 2)),
        confidence: confidence.min(1.0),
        first,
        provenance: shape & 1 == 1,
        decay: shape & 2 == 2,
        ..sketch("e0")
    };
    sketch.record(layout)
}

/// The same episode under the id that its place gives it.
fn renamed(record: &Record, sequence: u64) -> Record {
    let id = legacy_log::string(&format!("e{sequence}"));
    let rest = record.payload.get(8 + "e0".len()..).unwrap_or_default();
    Record { entry_type: record.entry_type, payload: [id.as_slice(), rest].concat() }
}

/// Every byte up to the last that is not zero belongs to one entry or one failure.
fn check_tiling(bytes: &[u8], log: &Log) {
    let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1);
    let mut pieces: Vec<(u64, u64)> = log.entries.iter().map(|it| (it.offset, it.bytes)).collect();
    assert!(pieces.is_sorted(), "entries in order of offset");
    let failures = log.failures.iter().map(|it| (it.offset, it.bytes));
    assert!(failures.clone().is_sorted(), "failures in order of offset");
    pieces.extend(failures);
    pieces.sort_unstable();
    let mut at = 0;
    for (offset, length) in pieces {
        assert_eq!(offset, at, "a gap or an overlap");
        assert!(length > 0, "nothing at {offset}");
        at += length;
    }
    assert!(at >= written && at <= bytes.len() as u64, "{at}: {written} of {}", bytes.len());
}

/// What was not rescued has two right checksums, and reads the same on its own.
fn check_entry(bytes: &[u8], entry: &Entry) {
    let begin = usize::try_from(entry.offset).unwrap_or(usize::MAX);
    let end = begin + usize::try_from(entry.bytes).unwrap_or(usize::MAX);
    let record = bytes.get(begin..end).unwrap_or_default();
    let covered = [record.get(..32), record.get(36..56)].map(Option::unwrap_or_default).concat();
    let payload = record.get(HEADER_BYTES..).unwrap_or_default();
    assert_eq!(record.get(32..36), Some(crc(&covered).to_le_bytes().as_slice()));
    assert_eq!(record.get(28..32), Some(crc(payload).to_le_bytes().as_slice()));
    let alone = legacy::read(record);
    let same = format!("{:?}", [Entry { offset: 0, ..entry.clone() }]);
    assert_eq!(format!("{:?}", alone.entries), same, "it reads the same on its own");
}

/// Whole logs, and scripts.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = (0..5u8)
        .map(|layout| {
            let whole = [5 + 6 * layout, 0x23, 140, 0, 0, 0, 0x3F];
            let hit = [3 + 6 * layout, 0x22, 100, 0, 0, 0, 0x3F, layout * 8, 0, 4];
            let cut = [4 + 6 * layout, 0x22, 100, 0, 0, 0, 0x3F, 0, 4 * layout];
            [[1].as_slice(), &whole, &hit, &whole, &[1, 0, 3], &whole, &cut].concat()
        })
        .collect();
    let forget = [[1].as_slice(), &[2 + 6 * 3, 2, b'e', b'0'], &[2 + 6 * 4, 1, b'x']].concat();
    seeds.push(forget);
    let record = sketch("e0").record(Layout::G4).bytes(0);
    seeds.push([vec![0], record].concat());
    seeds
}
