//! Laws of reading v0.1.0: every layout, and every damage that a small encoder can make.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helpers panic")]

mod legacy_log;

use engram_core::storage::legacy::{Change, Entry, FailureKind, Layout, Log, read};
use legacy_log::{Record, Sketch, crc, joined, sketch, string};
use serde_json::{Value, json};

/// Three records, each in another layout, and where each begins.
fn small_log() -> (Vec<u8>, Vec<usize>) {
    let records = [
        sketch("one").record(Layout::G3),
        sketch("two").record(Layout::G2),
        sketch("three").record(Layout::G4),
    ];
    joined(&records)
}

fn ids(log: &Log) -> Vec<&str> {
    log.entries
        .iter()
        .map(|entry| match &entry.change {
            Change::Remember(episode) => episode.id.as_str(),
            Change::Forget { id } => id.as_str(),
            Change::Ignored { .. } => "ignored",
        })
        .collect()
}

fn kinds(log: &Log) -> Vec<FailureKind> {
    log.failures.iter().map(|failure| failure.kind).collect()
}

fn only(payload: Vec<u8>) -> Log {
    read(&Record { entry_type: 1, payload }.bytes(0))
}

fn metadata(entry: &Entry) -> Value {
    let Change::Remember(episode) = &entry.change else { panic!("{entry:?}") };
    serde_json::from_str::<Value>(episode.metadata.as_ref().unwrap()).unwrap()["v0_1"].clone()
}

/// Every byte is in an entry or in a failure, once, in order; but zeros at the end may be in none.
fn assert_accounted(bytes: &[u8], log: &Log) {
    let mut spans: Vec<_> = log.entries.iter().map(|e| (e.offset, e.bytes)).collect();
    spans.extend(log.failures.iter().map(|f| (f.offset, f.bytes)));
    assert!(log.entries.is_sorted_by_key(|e| e.offset));
    assert!(log.failures.is_sorted_by_key(|f| f.offset));
    spans.sort_unstable();
    let mut at = 0;
    for (offset, bytes) in spans {
        assert_eq!(offset, at);
        assert!(bytes > 0);
        at += bytes;
    }
    let rest = &bytes[usize::try_from(at).unwrap()..];
    assert!(rest.iter().all(|byte| *byte == 0), "{} bytes are in nothing", rest.len());
}

/// The entries that are as they were: values and place, whatever it took to read them.
fn unchanged(found: &Log, whole: &Log) -> usize {
    let same = |a: &Entry, b: &Entry| {
        (a.offset, a.bytes, &a.change, a.layout) == (b.offset, b.bytes, &b.change, b.layout)
    };
    for entry in &found.entries {
        assert!(whole.entries.iter().any(|good| same(entry, good)), "invented: {entry:?}");
    }
    found.entries.len()
}

#[test]
fn each_layout_is_told_by_its_shape_and_never_ambiguous() {
    use Layout::{G0, G1, G2, G3, G4};
    for confidence in [0.0, 0.3, 0.5, 0.6, 0.7, 0.9, 1.0, f32::MIN_POSITIVE, f32::from_bits(1)] {
        for decay in [false, true] {
            // Without a provenance G1 is G0 byte for byte, and with one G2 is G3.
            for (layout, provenance, told) in [
                (G0, false, G0),
                (G1, false, G0),
                (G1, true, G1),
                (G2, false, G2),
                (G2, true, G3),
                (G3, false, G3),
                (G3, true, G3),
                (G4, false, G4),
                (G4, true, G4),
            ] {
                let sketch = Sketch { confidence, provenance, decay, ..sketch("x") };
                let log = only(sketch.payload(layout));
                assert_eq!(kinds(&log), [], "{layout:?} {:?}", log.failures);
                let entry = &log.entries[0];
                assert_eq!(entry.layout, Some(told));
                assert!(!entry.ambiguous && !entry.rescued && entry.notes.is_empty());
                let metadata = metadata(entry);
                assert_eq!(metadata["embedding_provenance"].is_object(), provenance);
                assert_eq!(metadata["decay_function"].is_object(), decay && layout >= G2);
                assert_eq!(metadata.get("metadata").is_some(), layout == G4);
            }
        }
    }
}

#[test]
fn fields_that_engram_does_not_have_go_to_the_metadata_exactly() {
    let log = only(Sketch { provenance: true, ..sketch("x") }.payload(Layout::G4));
    let want = json!({
        "embedding_provenance": {
            "model": {"name": "minilm", "version": "2.1", "dimension": 768},
            "language": "en",
            "created_at": 1_750_000_003,
            "quality_score": f64::from(0.3_f32),
            "metadata": {"k": "v"},
        },
        "vividness_confidence": f64::from(0.6_f32),
        "reliability_confidence": f64::from(0.9_f32),
        "last_recall": "2025-10-09T08:53:26.000000005Z",
        "recall_count": 6,
        "decay_rate": f64::from(0.02_f32),
        "decay_function": {"PowerLaw": {"beta": f64::from(0.18_f32)}},
        "metadata": {"mood": "good", "app": "x\"y"},
    });
    assert_eq!(metadata(&log.entries[0]), want);
}

#[test]
fn values_over_todays_limits_are_kept_and_named() {
    let strange = Sketch {
        id: "i".repeat(300),
        what: String::new(),
        who: vec![String::new(); 65],
        first: f32::from_bits(0x7FC0_1234),
        when: "2016-12-31T23:59:60Z",
        ..sketch("x")
    };
    let log = only(strange.payload(Layout::G3));
    let entry = &log.entries[0];
    let Change::Remember(episode) = &entry.change else { panic!("{entry:?}") };
    assert_eq!((episode.id.len(), episode.what.len(), episode.who.len()), (300, 0, 65));
    assert_eq!(episode.embedding[0].to_bits(), 0x7FC0_1234);
    let fields: Vec<_> = entry.notes.iter().map(|n| n.split(':').next().unwrap()).collect();
    assert_eq!(fields, ["when", "id", "what", "who", "who", "embedding"]);
    assert_eq!(metadata(entry)["when"], "2016-12-31T23:59:60Z");
}

#[test]
fn unknown_types_are_episodes_and_a_deleted_id_is_raw() {
    let unknown = Record { entry_type: 77, ..sketch("x").record(Layout::G3) };
    let delete = Record { entry_type: 3, payload: "gelöscht".into() };
    let not_text = Record { entry_type: 3, payload: vec![0xFF] };
    let checkpoint = Record { entry_type: 5, payload: vec![5, 0, 0, 0, 0, 0, 0, 0] };
    let log = read(&joined(&[unknown, delete, not_text, checkpoint]).0);
    assert_eq!(ids(&log), ["x", "gelöscht", "ignored"]);
    assert!(matches!(log.entries[1].change, Change::Forget { .. }));
    assert_eq!(kinds(&log), [FailureKind::Undecodable]);
}

#[test]
fn one_flipped_bit_loses_at_most_the_record_it_hit_and_nothing_outside_a_payload() {
    let (bytes, starts) = small_log();
    let whole = read(&bytes);
    assert_eq!(whole.entries.len(), 3);
    let flip = |at: usize, bit: usize| {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << bit;
        let log = read(&damaged);
        let start = starts.iter().rfind(|start| **start <= at).unwrap();
        let in_header = at - start < 64;
        assert_eq!(unchanged(&log, &whole), if in_header { 3 } else { 2 }, "byte {at} bit {bit}");
        let want = if in_header { vec![] } else { vec![FailureKind::Damaged] };
        assert_eq!(kinds(&log), want, "byte {at} bit {bit}");
        if at - start >= 56 && in_header {
            assert_eq!(log, whole, "the last eight bytes of a header mean nothing");
        }
        assert_accounted(&damaged, &log);
    };
    std::thread::scope(|scope| {
        for half in 0..2 {
            scope.spawn(move || {
                for at in (half..bytes_len()).step_by(2) {
                    (0..8).for_each(|bit| flip(at, bit));
                }
            });
        }
    });
}

fn bytes_len() -> usize {
    small_log().0.len()
}

#[test]
fn a_cut_at_any_length_keeps_every_record_before_it_and_is_a_tail() {
    let (bytes, starts) = small_log();
    let whole = read(&bytes);
    for cut in 0..bytes.len() {
        let log = read(&bytes[..cut]);
        let kept = starts.iter().skip(1).filter(|start| **start <= cut).count();
        assert_eq!(unchanged(&log, &whole), kept, "cut at {cut}");
        let clean = starts.contains(&cut);
        assert_eq!(kinds(&log), if clean { vec![] } else { vec![FailureKind::Tail] }, "at {cut}");
        assert_accounted(&bytes[..cut], &log);
    }
}

#[test]
fn zeros_after_the_last_record_are_the_end() {
    let (mut bytes, _) = small_log();
    let whole = read(&bytes);
    for zeros in [1, 63, 64, 65, 4096, 70_000] {
        bytes.resize(bytes.len() + zeros, 0);
        assert_eq!(read(&bytes), whole);
    }
    assert_eq!(read(&[0; 4096]), Log::default());
    assert_eq!(read(&[]), Log::default());
}

#[test]
fn a_cut_record_followed_by_zeros_is_a_tail() {
    let (bytes, starts) = small_log();
    for cut in (starts[2] + 1)..(bytes.len() - 64) {
        let mut torn = bytes[..cut].to_vec();
        torn.resize(bytes.len() + 4096, 0);
        let log = read(&torn);
        assert_eq!(ids(&log), ["one", "two"], "cut at {cut}");
        assert_eq!(kinds(&log), [FailureKind::Tail], "cut at {cut}: {:?}", log.failures);
    }
}

#[test]
fn zeros_between_records_are_named_and_hide_nothing() {
    let (bytes, starts) = small_log();
    for zeros in [1, 8, 63, 64, 65, 500] {
        let (front, back) = bytes.split_at(starts[1]);
        let log = read(&[front, &vec![0; zeros], back].concat());
        assert_eq!(ids(&log), ["one", "two", "three"]);
        assert_eq!(kinds(&log), [FailureKind::Damaged]);
        assert_eq!(log.failures[0].bytes, zeros as u64);
        assert!(log.failures[0].detail.contains("zeros"));
    }
}

#[test]
fn a_header_that_is_gone_costs_nothing_when_its_payload_is_whole() {
    let (bytes, starts) = small_log();
    let whole = read(&bytes);
    for fill in [0_u8, 0x5A, 0xFF] {
        for hit in [&starts[..1], &starts[1..2], &starts[2..], &starts[..2], &starts[..]] {
            let mut damaged = bytes.clone();
            for start in hit {
                damaged[*start..start + 64].fill(fill);
            }
            let log = read(&damaged);
            assert_eq!(unchanged(&log, &whole), 3, "{fill} {hit:?} {:?}", log.failures);
            assert_eq!(log.entries.iter().filter(|entry| entry.rescued).count(), hit.len());
            assert_accounted(&damaged, &log);
        }
    }
}

#[test]
fn damaged_fields_in_several_headers_in_a_row_cost_nothing() {
    let (bytes, starts) = small_log();
    let whole = read(&bytes);
    // magic, sequence, timestamp, type, size, payload checksum, header checksum, reserved
    let fields = [0..3, 4..12, 12..20, 20..24, 24..28, 28..32, 32..36, 36..56];
    for field in fields {
        for hit in [&starts[..1], &starts[1..2], &starts[2..], &starts[1..], &starts[..]] {
            let mut damaged = bytes.clone();
            for start in hit {
                for byte in &mut damaged[start + field.start..start + field.end] {
                    *byte ^= 0x5A;
                }
            }
            let log = read(&damaged);
            assert_eq!(unchanged(&log, &whole), 3, "{field:?} {hit:?} {:?}", log.failures);
            assert_eq!(kinds(&log), []);
            assert_eq!(log.entries.iter().filter(|entry| entry.rescued).count(), hit.len());
        }
    }
}

#[test]
fn a_payload_with_a_wrong_checksum_is_never_believed() {
    let (mut bytes, starts) = small_log();
    // One bit of a float in the embedding: it would decode well.
    bytes[starts[1] + 64 + 500] ^= 1;
    bytes[starts[1] + 5] ^= 1;
    let log = read(&bytes);
    assert_eq!(ids(&log), ["one", "three"]);
    assert_eq!(kinds(&log), [FailureKind::Damaged]);
    assert_eq!(log.failures[0].offset, starts[1] as u64);
}

#[test]
fn a_payload_whose_checksum_is_known_and_fails_is_not_believed_for_its_shape() {
    // The payload's float, and several bits of one field of its header: the magic, the sequence,
    // the timestamp, the size. The checksum of the payload is there, and decides.
    for field in [0..2, 4..7, 12..16, 25..27, 36..40] {
        let (mut bytes, starts) = small_log();
        bytes[starts[1] + 64 + 500] ^= 1;
        for byte in &mut bytes[starts[1] + field.start..starts[1] + field.end] {
            *byte ^= 0x5A;
        }
        let log = read(&bytes);
        assert_eq!(ids(&log), ["one", "three"], "{field:?}");
        assert_eq!(kinds(&log), [FailureKind::Damaged]);
    }
}

#[test]
fn a_log_whose_headers_are_all_gone_is_read_by_its_shape() {
    let records: Vec<_> = (0..60)
        .map(|at| {
            let layouts = [Layout::G0, Layout::G1, Layout::G2, Layout::G3, Layout::G4];
            let sketch = Sketch { provenance: at % 2 == 0, ..sketch(&format!("r{at}")) };
            sketch.record(layouts[at % 5])
        })
        .collect();
    let (mut bytes, starts) = joined(&records);
    let whole = read(&bytes);
    assert_eq!(whole.entries.len(), 60);
    for start in starts {
        bytes[start..start + 64].fill(0);
    }
    let log = read(&bytes);
    assert_eq!(unchanged(&log, &whole), 60, "{:?}", log.failures);
    assert!(log.entries.iter().all(|entry| !entry.ambiguous && entry.notes.len() == 1));
}

#[test]
fn a_cut_record_that_was_appended_to_loses_itself_alone() {
    let (bytes, starts) = small_log();
    for cut in [starts[1] + 3, starts[1] + 64, starts[1] + 900, starts[2] - 1] {
        let log = read(&[&bytes[..cut], &bytes[starts[2]..]].concat());
        assert_eq!(ids(&log), ["one", "three"], "cut at {cut}");
        assert_eq!(kinds(&log), [FailureKind::Damaged], "cut at {cut}: {:?}", log.failures);
    }
}

#[test]
fn a_record_inside_a_whole_record_is_not_believed() {
    let inner = Record { entry_type: 3, payload: b"one".to_vec() }.bytes(0);
    // As an unknown field would be: the checksum is right, the payload is no episode.
    let outer = Record { entry_type: 1, payload: inner };
    let (mut bytes, starts) = joined(&[sketch("one").record(Layout::G3), outer]);
    assert_eq!(ids(&read(&bytes)), ["one"]);
    bytes[starts[1] + 7] ^= 4;
    assert_eq!(ids(&read(&bytes)), ["one"]);
}

/// A small generator: the tests are the same in every run.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}

#[test]
fn whatever_the_bytes_are_every_one_is_accounted_for_and_nothing_is_invented() {
    let (bytes, _) = small_log();
    let whole = read(&bytes);
    let mut rng = Rng(0x9E37_79B9_7F4A_7C15);
    for _ in 0..400 {
        let garbage: Vec<u8> = (0..rng.below(3000)).map(|_| rng.next().to_le_bytes()[0]).collect();
        let log = read(&garbage);
        assert_eq!(log.entries, []);
        assert_accounted(&garbage, &log);

        // Pieces of a log, cut and joined at random, with garbage between them.
        let mut mixed = Vec::new();
        for _ in 0..rng.below(5) {
            let (a, b) = (rng.below(bytes.len()), rng.below(bytes.len()));
            mixed.extend(&bytes[a.min(b)..a.max(b)]);
            mixed.extend(&garbage[..rng.below(garbage.len() + 1)]);
        }
        assert_accounted(&mixed, &read(&mixed));

        // One burst of damage within a log costs what it touches, and what touches it.
        let mut burst = bytes.clone();
        let at = rng.below(bytes.len() - 40);
        burst[at..at + 40].iter_mut().for_each(|byte| *byte ^= 0xA5);
        let log = read(&burst);
        assert!(unchanged(&log, &whole) >= 1);
        assert_accounted(&burst, &log);
    }
}

#[test]
fn bursts_anywhere_cost_no_record_that_they_do_not_touch() {
    let layouts = [Layout::G0, Layout::G1, Layout::G2, Layout::G3, Layout::G4];
    let records: Vec<_> =
        (0..20).map(|at| sketch(&format!("r{at}")).record(layouts[at % 5])).collect();
    let (bytes, starts) = joined(&records);
    let whole = read(&bytes);
    let mut rng = Rng(7);
    for round in 0..300 {
        let mut damaged = bytes.clone();
        for _ in 0..=rng.below(6) {
            // Near a header every other time, where it hurts.
            let near = starts[rng.below(starts.len())].saturating_sub(20) + rng.below(80);
            let at = if rng.below(2) == 0 { near } else { rng.below(bytes.len()) };
            for byte in damaged[at..].iter_mut().take(1 + rng.below(100)) {
                *byte = rng.next().to_le_bytes()[0];
            }
        }
        let log = read(&damaged);
        assert_accounted(&damaged, &log);
        for entry in &whole.entries {
            let (from, to) = (entry.offset, entry.offset + entry.bytes);
            let span = usize::try_from(from).unwrap()..usize::try_from(to).unwrap();
            let found = log.entries.iter().find(|it| (it.offset, it.bytes) == (from, to - from));
            let found_same = found.is_some_and(|found| found.change == entry.change);
            if damaged[span.clone()] == bytes[span] {
                assert!(found_same, "round {round}: {from} is whole and was lost");
            }
            let shape_alone =
                found.is_some_and(|it| it.notes.iter().any(|n| n.contains("no checksum")));
            assert!(
                found.is_none() || found_same || shape_alone,
                "round {round}: {from} is invented"
            );
        }
        let known = |it: &Entry| whole.entries.iter().any(|e| e.offset == it.offset);
        assert!(log.entries.iter().all(known), "round {round}: a record out of nothing");
    }
}

#[test]
fn a_file_made_to_be_slow_is_read_all_the_same() {
    // Headers by the thousand, each of which claims the whole rest of the file, good ones first.
    let total = 400_000_u32;
    let mut slow = Vec::new();
    while slow.len() < total as usize {
        let mut record = Record { entry_type: 1, payload: vec![] }.bytes(1);
        let size = total - u32::try_from(slow.len()).unwrap() - 64;
        record[24..28].copy_from_slice(&size.min(total).to_le_bytes());
        let covered = [&record[..32], &record[36..56]].concat();
        if slow.len() < 200_000 {
            record[32..36].copy_from_slice(&crc(&covered).to_le_bytes());
        }
        slow.extend(record);
    }
    slow.truncate(total as usize);
    let log = read(&slow);
    assert_eq!(log.entries, []);
    assert_accounted(&slow, &log);
}

#[test]
fn episodes_inside_episodes_by_the_thousand_are_read_all_the_same() {
    // Each "header" is followed by the head of an episode whose text holds all that follows.
    let total = 1_000_000_usize;
    let mut slow = Vec::new();
    while slow.len() + 200 < total {
        // Three bytes of the magic that are also UTF-8, as all of this is.
        slow.extend([0xEF, 0xBE, 0xAD, 0x20]);
        slow.extend([0x20; 60]);
        slow.extend([string("x"), string("2023-11-14T22:13:20Z"), vec![0, 0]].concat());
        slow.extend(((total - slow.len()) as u64 & 0x7F_7F7F).to_le_bytes());
    }
    let log = read(&slow);
    assert_eq!(log.entries, []);
    assert_accounted(&slow, &log);
}
