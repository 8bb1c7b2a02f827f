//! Laws of the plan: every small segment, damaged in every way, and what recovery decides of it.
//!
//! The bytes are real: they are scanned as at a start. What the plan says is held against what the
//! segment held before it was damaged.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use engram_core::disk::{Disk, File, Open};
use engram_core::metrics::Metrics;
use engram_core::storage::wal::contents::Room;
use engram_core::storage::wal::env::{Env, Scale};
use engram_core::storage::wal::footer::FooterBuilder;
use engram_core::storage::wal::frame::{self, Codec, HEADER_BYTES, Header, Kind};
use engram_core::storage::wal::plan::{
    Continue, Cut, Judgement, Position, SegmentFacts, gap_after, go_on, judge, next_lsn,
};
use engram_core::storage::wal::read::ReadHeader;
use engram_core::storage::wal::segment::{FRAMES_START, Identity, SegmentHeader, SegmentName};
use engram_core::storage::wal::survey::{RecoveryProgress, Surveyed, scan};

use support::disk::MemDisk;
use support::{FakeClock, FakeRng};

const SALT: u64 = 77;
const SLOTS: usize = 4;

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Whole,
    /// Its header is right, its payload is not.
    PayloadHit,
    /// Nothing tells what it was.
    HeaderHit,
    /// Its place reads as zeros.
    Zeros,
    /// A frame of another life stands in its place.
    Foreign,
}

const FATES: [Fate; 5] =
    [Fate::Whole, Fate::PayloadHit, Fate::HeaderHit, Fate::Zeros, Fate::Foreign];

/// What frames said of H when they were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Witness {
    /// Each was synced before the next one was written.
    EachFrame,
    /// All were one batch, and nothing came after it.
    Nobody,
    /// The segment's own header, of all: a recovery wrote them again, and synced them with it.
    Header,
    /// The same of the first two; the others came later, in one batch.
    HeaderOfTwo,
}

const WITNESSES: [Witness; 4] =
    [Witness::EachFrame, Witness::Nobody, Witness::Header, Witness::HeaderOfTwo];

/// What ends the segment, and what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is the log's last, unfinished.
    Active,
    /// It is the log's last, with a footer.
    Sealed,
    /// Others follow, with a footer.
    Followed,
    /// The same, the footer lost.
    Unsealed,
    /// The same, the footer damaged.
    FooterHit,
    /// A recovery cut it behind this many frames, and a crash came before it sealed it.
    Cut(usize),
    /// Compaction wrote it; the footer is lost.
    Rewritten,
}

const ENDS: [End; 10] = [
    End::Active,
    End::Sealed,
    End::Followed,
    End::Unsealed,
    End::FooterHit,
    End::Cut(1),
    End::Cut(2),
    End::Cut(3),
    End::Cut(4),
    End::Rewritten,
];

/// A segment as it was, and what became of it.
#[derive(Debug, Clone, Copy)]
struct Case {
    fates: [Fate; SLOTS],
    witness: Witness,
    end: End,
    /// LSNs 3 to 5 were skipped: the frames are 1, 2, 6, 7.
    skips: bool,
    /// The last frame is a mark that says all before it was synced.
    mark: bool,
}

impl Case {
    fn lsns(self) -> [u64; SLOTS] {
        if self.skips { [1, 2, 6, 7] } else { [1, 2, 3, 4] }
    }

    fn kind(self, slot: usize) -> Kind {
        if slot == SLOTS - 1 && self.mark {
            return Kind::MARK;
        }
        [Kind::REMEMBER, Kind::FORGET, Kind::FORGET_SPACE, Kind::REMEMBER][slot]
    }

    /// One past the last LSN that was given.
    fn next(self) -> u64 {
        self.lsns()[SLOTS - 1] + 1
    }

    fn position(self) -> Position {
        match self.end {
            End::Active | End::Sealed => Position::Last,
            End::Followed | End::Unsealed | End::FooterHit | End::Rewritten => {
                Position::Followed { next_start: self.next(), cut: None }
            }
            End::Cut(kept) => {
                let next_start = self.lsns()[kept - 1] + 1;
                Position::Followed { next_start, cut: Some(next_start) }
            }
        }
    }

    fn frame(self, slot: usize, salt: u64) -> Vec<u8> {
        let lsn = self.lsns()[slot];
        let payload = vec![b'x'; 20 + slot];
        let kind = self.kind(slot);
        let before = if slot == 0 { 0 } else { self.lsns()[slot - 1] };
        let header = Header {
            length: u32::try_from(payload.len()).unwrap(),
            kind,
            codec: Codec::PLAIN,
            schema: 1,
            lsn,
            synced: if self.witness == Witness::EachFrame || kind == Kind::MARK {
                before
            } else {
                0
            },
            salt,
            key: lsn + 100,
            space_key: lsn + 200,
            payload_crc: frame::crc(&payload),
            reserved: [0; 4],
        };
        [header.encode().as_slice(), &payload].concat()
    }

    /// The file, and where each frame begins and ends.
    fn file(self) -> (Vec<u8>, Vec<(u64, u64)>) {
        let mut bytes = vec![0; usize::try_from(FRAMES_START).unwrap()];
        let mut places = Vec::new();
        let mut footer = FooterBuilder::default();
        for slot in 0..SLOTS {
            let (start, frame) = (bytes.len(), self.frame(slot, SALT));
            footer.add(start as u64, &Header::decode(&frame).unwrap());
            bytes.extend(&frame);
            places.push((start as u64, bytes.len() as u64));
            match self.fates[slot] {
                Fate::Whole => {}
                Fate::PayloadHit => bytes[start + HEADER_BYTES] ^= 1,
                Fate::HeaderHit => bytes[start + 20] ^= 1,
                Fate::Zeros => bytes[start..].fill(0),
                Fate::Foreign => {
                    bytes.truncate(start);
                    bytes.extend(self.frame(slot, SALT ^ 1));
                }
            }
        }
        let (at, last) = (bytes.len(), self.next() - 1);
        if matches!(self.end, End::Sealed | End::Followed | End::FooterHit) {
            bytes.extend(footer.finish(SALT, last, last));
        }
        if self.end == End::FooterHit {
            bytes[at + HEADER_BYTES] ^= 1;
        }
        bytes.extend([0; 500]);
        (bytes, places)
    }

    /// Looks at it as a start does.
    fn facts(self) -> (SegmentFacts, Vec<(u64, u64)>) {
        let (bytes, places) = self.file();
        let name = match self.end {
            End::Rewritten => SegmentName { start: 1, rewritten: Some((self.next() - 1, 1)) },
            _ => SegmentName { start: 1, rewritten: None },
        };
        let header = SegmentHeader {
            identity: Identity { store: [1; 16], secret: [2; 16] },
            salt: SALT,
            start: 1,
            end: 0,
            generation: name.generation(),
            synced: match self.witness {
                Witness::Header => self.next() - 1,
                // Whoever skips LSNs says so in the header that says what was synced.
                _ if self.skips => 5,
                Witness::HeaderOfTwo => 2,
                Witness::EachFrame | Witness::Nobody => 0,
            },
            skipped: if self.skips { (3, 5) } else { (0, 0) },
            cut: false,
            accepted_loss: false,
        };
        let path = Path::new("/segment");
        let disk = MemDisk::of(&[(path.to_owned(), bytes.clone())].into());
        let file: Arc<dyn File> = disk.open(path, Open::Read).unwrap();
        let env = Env {
            disk,
            clock: Arc::new(FakeClock::default()),
            rng: Arc::new(FakeRng::new(1)),
            metrics: Arc::new(Metrics::default()),
            scale: Scale::default(),
            dir: path.to_owned(),
        };
        let surveyed = Surveyed {
            name,
            header: ReadHeader { header, bad: [false; 2], unreadable: [false; 2] },
            file_bytes: bytes.len() as u64,
            position: self.position(),
            held: Some(file),
        };
        (
            scan(&env, &surveyed, false, &RecoveryProgress::default(), Room::default()).unwrap().0,
            places,
        )
    }

    /// Slots that cannot be read, with their LSNs.
    fn lost(self) -> impl Iterator<Item = (usize, u64)> {
        (0..SLOTS)
            .filter(move |&slot| self.fates[slot] != Fate::Whole)
            .map(move |slot| (slot, self.lsns()[slot]))
    }
}

fn every_case(check: impl Fn(Case, &SegmentFacts, &[(u64, u64)], &Judgement)) {
    let mut fates = Vec::new();
    for number in 0..FATES.len().pow(u32::try_from(SLOTS).unwrap()) {
        let mut number = number;
        fates.push([(); SLOTS].map(|()| {
            let fate = FATES[number % FATES.len()];
            number /= FATES.len();
            fate
        }));
    }
    for end in ENDS {
        for witness in WITNESSES {
            let all = [(false, false), (true, false), (false, true), (true, true)];
            for (skips, mark) in all.into_iter().take(if end == End::Active { 4 } else { 2 }) {
                for &fates in &fates {
                    let case = Case { fates, witness, end, skips, mark };
                    let (facts, places) = case.facts();
                    check(case, &facts, &places, &judge(&facts, case.position()));
                }
            }
        }
    }
}

fn named(judgement: &Judgement) -> Vec<u64> {
    judgement.damaged.iter().flat_map(|loss| &loss.lsns).flat_map(|&(a, b)| a..=b).collect()
}

/// LSNs that somebody may have been told of: at or below H, or in a finished segment.
fn promised(case: Case, facts: &SegmentFacts, lsn: u64) -> bool {
    match case.end {
        End::Active => lsn <= facts.synced,
        End::Cut(kept) => lsn <= case.lsns()[kept - 1],
        _ => true,
    }
}

#[test]
fn each_promised_record_that_cannot_be_read_is_named() {
    every_case(|case, facts, _, judgement| {
        let mut named: BTreeSet<u64> = named(judgement).into_iter().collect();
        if let Some((first, last)) = gap_after(facts, judgement, case.position()) {
            named.extend(first..=last);
        }
        for (slot, lsn) in case.lost().filter(|&(_, lsn)| promised(case, facts, lsn)) {
            // A rewritten range has holes of its own: bytes that say nothing name nothing.
            if case.end == End::Rewritten && case.fates[slot] != Fate::PayloadHit {
                continue;
            }
            assert!(named.contains(&lsn), "{lsn} is not named: {case:?}\n{judgement:#?}");
        }
    });
}

#[test]
fn nothing_is_named_that_can_be_read_or_never_was() {
    every_case(|case, _, _, judgement| {
        let lost: BTreeSet<u64> = case.lost().map(|(_, lsn)| lsn).collect();
        let named = named(judgement);
        let marks = case.lost().filter(|&(slot, _)| case.kind(slot) == Kind::MARK).count();
        let counted: u64 = judgement.damaged.iter().map(|loss| loss.entries).sum();
        // Whether a lost frame was a mark may be known or not; a run that says nothing of a rewritten
        // range counts as one.
        let silent = if case.end == End::Rewritten { judgement.damaged.len() } else { 0 };
        let most = (named.len() + silent) as u64;
        let least = named.len().saturating_sub(marks) as u64;
        assert!((least..=most).contains(&counted), "{case:?}\n{judgement:#?}");
        for lsn in &named {
            assert!(lost.contains(lsn), "{lsn} is named: {case:?}\n{judgement:#?}");
        }
        let once: BTreeSet<&u64> = named.iter().collect();
        assert_eq!(once.len(), named.len(), "named twice: {case:?}\n{judgement:#?}");
    });
}

#[test]
fn a_footer_names_every_loss_by_kind_and_key_and_counts_the_changes() {
    every_case(|case, _, _, judgement| {
        if !matches!(case.end, End::Sealed | End::Followed) {
            return;
        }
        let listed: Vec<_> = judgement.damaged.iter().flat_map(|loss| &loss.listed).collect();
        assert_eq!(listed.len(), case.lost().count(), "{case:?}\n{judgement:#?}");
        for (slot, lsn) in case.lost() {
            let kind = case.kind(slot);
            let key = lsn + if kind == Kind::FORGET_SPACE { 200 } else { 100 };
            let says = |l: &&&engram_core::storage::wal::footer::Listed| {
                (l.lsn, l.kind, l.key) == (lsn, kind, key)
            };
            assert_eq!(listed.iter().filter(says).count(), 1, "{case:?}\n{judgement:#?}");
        }
        let changes = case.lost().filter(|&(slot, _)| case.kind(slot).is_change()).count();
        let counted: u64 = judgement.damaged.iter().map(|loss| loss.entries).sum();
        assert_eq!(counted, changes as u64, "{case:?}\n{judgement:#?}");
    });
}

#[test]
fn every_bad_byte_is_in_one_run_of_damage_or_in_the_tail_or_behind_a_cut() {
    every_case(|case, facts, places, judgement| {
        let runs: Vec<(u64, u64)> =
            judgement.damaged.iter().map(|loss| (loss.offset, loss.offset + loss.bytes)).collect();
        for pair in runs.windows(2) {
            assert!(pair[0].1 <= pair[1].0, "runs cross: {case:?}\n{judgement:#?}");
        }
        let tail = judgement.tail_start.map_or(u64::MAX..u64::MAX, |at| at..judgement.tail_end);
        for (slot, &(start, end)) in places.iter().enumerate() {
            let within = runs.iter().filter(|run| run.0 <= start && end <= run.1).count();
            let touched = runs.iter().filter(|run| run.0 < end && start < run.1).count();
            let in_tail = tail.contains(&start) && end <= tail.end;
            let behind = match case.end {
                End::Cut(kept) => slot >= kept,
                _ => false,
            };
            match case.fates[slot] {
                // It is the next segment's, or nobody's.
                _ if behind => {}
                Fate::Whole => {
                    assert_eq!(touched, 0, "a whole frame is damage: {case:?}\n{judgement:#?}");
                    let lsn = case.lsns()[slot];
                    assert_eq!(in_tail, judgement.tail_lsns.contains(&lsn), "{case:?}");
                    assert!(!in_tail || lsn > facts.synced, "a synced frame in a tail: {case:?}");
                }
                Fate::PayloadHit | Fate::HeaderHit => {
                    assert_eq!(
                        within + usize::from(in_tail),
                        1,
                        "slot {slot}: {case:?}\n{judgement:#?}"
                    );
                }
                Fate::Zeros | Fate::Foreign => {}
            }
        }
        assert_eq!(judgement.tail_start.is_some(), !tail.is_empty(), "an empty tail: {case:?}");
        let tail_allowed = case.end == End::Active;
        assert!(tail_allowed || judgement.tail_start.is_none(), "{case:?}");
    });
}

#[test]
fn a_segment_without_a_fault_has_no_loss_no_tail_and_no_gap() {
    every_case(|case, facts, _, judgement| {
        if case.lost().next().is_none() {
            let Judgement { damaged, tail_start, stale, unsealed, .. } = judgement;
            // A rewritten segment had a footer when it got its name: that was lost.
            let hit = usize::from(matches!(case.end, End::FooterHit | End::Rewritten));
            assert_eq!(damaged.len(), hit, "{case:?}\n{judgement:#?}");
            let told = |entries| entries == 0 || case.end == End::Rewritten;
            assert!(tail_start.is_none() && damaged.iter().all(|loss| told(loss.entries)));
            let followed =
                matches!(case.end, End::Unsealed | End::FooterHit | End::Cut(_) | End::Rewritten);
            assert_eq!(*unsealed, followed, "{case:?}");
            let behind = match case.end {
                // What a recovery cut off has LSNs that the next segment gives again.
                End::Cut(kept) => SLOTS - kept,
                _ => 0,
            };
            assert!(*stale <= behind as u64, "{case:?}\n{judgement:#?}");
            assert_eq!(gap_after(facts, judgement, case.position()), None, "{case:?}");
        }
    });
}

fn check_cut(case: Case, facts: &SegmentFacts, judgement: &Judgement, cut: Cut) {
    let Cut { keep_end, start, copy_start, copy_end, skipped, next_lsn: next, .. } = cut;
    let what = || format!("{case:?}\n{judgement:#?}\n{cut:?}");
    let tail = judgement.tail_start.unwrap_or(u64::MAX);
    for frame in &facts.frames {
        let end = frame.offset + u64::from(frame.bytes);
        if frame.offset >= tail {
            assert!(frame.lsn < next, "{}", what());
        } else if end <= keep_end {
            assert!(frame.lsn < start, "a kept frame would be the next segment's: {}", what());
        } else {
            assert!(frame.offset >= copy_start && end <= copy_end, "not copied: {}", what());
            assert!(frame.lsn >= start && frame.lsn < next, "{}", what());
        }
    }
    for loss in &judgement.damaged {
        assert!(loss.offset + loss.bytes <= keep_end, "damage would be cut off: {}", what());
    }
    assert!(keep_end <= tail && copy_end <= tail, "{}", what());
    assert!(named(judgement).iter().all(|&lsn| lsn < start), "a lost LSN is given on: {}", what());
    let declared = |lsn| skipped.is_some_and(|(first, last)| (first..=last).contains(&lsn));
    for lsn in start..next {
        let here =
            facts.frames.iter().any(|f| f.lsn == lsn && (keep_end..tail).contains(&f.offset));
        assert!(here != declared(lsn), "the next segment does not say of {lsn}: {}", what());
    }
    if let Some((first, last)) = skipped {
        assert!(first <= last && last + 1 == next && first >= start, "{}", what());
        assert!(facts.frames.iter().all(|f| f.lsn < first || f.offset >= tail), "{}", what());
    }
}

#[test]
fn the_log_goes_on_behind_every_lsn_that_was_given() {
    every_case(|case, facts, _, judgement| {
        if case.position() != Position::Last {
            return;
        }
        let next = match go_on(facts, judgement) {
            Continue::Same { next_lsn, offset, .. } => {
                assert!(case.mark && case.lost().next().is_none() && case.end == End::Active);
                assert_eq!(offset, facts.file_bytes - 500);
                next_lsn
            }
            Continue::After { start } => {
                assert_eq!(case.end, End::Sealed);
                start
            }
            Continue::Cut(cut) => {
                check_cut(case, facts, judgement, cut);
                cut.next_lsn
            }
        };
        // Of a write that left no byte and that nobody heard of, nothing can be known.
        let there = |slot: &usize| !matches!(case.fates[*slot], Fate::Zeros | Fate::Foreign);
        let given = (0..SLOTS).filter(there);
        let given = given.map(|slot| case.lsns()[slot]).max().unwrap_or(0).max(facts.synced);
        assert!(next > given, "{next} was given before: {case:?}\n{judgement:#?}");
        assert!(!facts.header.skips(next), "{next} was skipped: {case:?}\n{judgement:#?}");
        assert_eq!(next_lsn(facts, next - 1), next);
    });
}
