//! Bytes to spans: walks a segment frame by frame, and finds the way again past bad bytes.
//!
//! The scanner is given a window of the file and says what stands at its front, or that it
//! needs to see more. Past bad bytes it believes nothing but a header whose checksum is right
//! and whose salt is the segment's: the salt is secret, so no user can have stored such bytes.
//!
//! Deliberately absent: reading files, and deciding what a span means ([`super::verdict`]).
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use super::bytes::wide;
use super::footer::Footer;
use super::frame::{self, HEADER_BYTES, Header, Kind, MAGIC, PAYLOAD_BYTES_MAX};
use crate::sim::{Broken, broken};

/// What stands at one place of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// A frame whose two checksums are right; its payload is in the window behind the header.
    Frame(Header),
    /// Bytes that are no frame. A header that is right tells whose payload was hit.
    Bad {
        /// How many.
        bytes: u64,
        /// The frame's header, when only its payload is bad. It may stand in a wrong place.
        header: Option<Header>,
    },
    /// An intact frame of another life: a foreign salt, or an LSN out of its place.
    Stale {
        /// How many bytes are passed over.
        bytes: u64,
        /// Its header, if it is one of this segment's, out of its place; or one that follows the
        /// segment's range, where a cut left it.
        header: Option<Header>,
    },
    /// Zeros up to the end of the file.
    End,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A span begins at the scanner's offset; it has moved past it.
    Found {
        /// Where the span begins.
        offset: u64,
        /// What it is.
        span: Span,
    },
    /// The window must reach at least this many bytes from [`Scanner::window_start`].
    Need(usize),
    /// The whole segment was read.
    Done,
}

/// Walks one segment.
#[derive(Debug, Clone)]
pub struct Scanner {
    salt: u64,
    /// LSNs that may stand here.
    lsns: (u64, u64),
    /// Where frames stand that belong elsewhere, in order.
    misplaced: Vec<u64>,
    /// What the last header that stood in its place says: where its frame begins, its LSN, its end.
    claim: Option<(u64, u64, u64)>,
    last_lsn: u64,
    /// Where the next span begins.
    offset: u64,
    /// Where to look for the next header while passing over bad bytes.
    gap: Option<Gap>,
    /// Where the zeros begin that were seen up to the end, behind bad bytes.
    zeros: Option<u64>,
    sealed: bool,
    any_order: bool,
}

#[derive(Debug, Clone, Copy)]
struct Gap {
    /// The first byte of the run of bad bytes.
    start: u64,
    /// One past the last byte of it that is not zero.
    nonzero_end: u64,
    /// The header that it begins with, if one of this segment's does, out of its place.
    header: Option<Header>,
}

/// Bytes of a window beyond which a longer one is asked for only when a frame needs it.
pub const WINDOW_BYTES: usize = 256 << 10;

impl Scanner {
    /// For a segment of this salt whose frames have LSNs from `first` to `last`.
    #[must_use]
    pub fn new(salt: u64, first: u64, last: u64, offset: u64) -> Self {
        let last_lsn = first.saturating_sub(1);
        Self {
            salt,
            lsns: (first, last),
            misplaced: Vec::new(),
            claim: None,
            last_lsn,
            offset,
            gap: None,
            zeros: None,
            sealed: false,
            any_order: false,
        }
    }

    /// The same, where no LSN is too low to stand behind another.
    #[must_use]
    pub fn in_any_order(self) -> Self {
        Self { any_order: true, ..self }
    }

    /// The same, where frames at these offsets (in order) are known to belong elsewhere.
    #[must_use]
    pub fn without(self, misplaced: Vec<u64>) -> Self {
        Self { misplaced, ..self }
    }

    /// The offset that the window given to [`Scanner::next`] must begin at.
    #[must_use]
    pub fn window_start(&self) -> u64 {
        self.offset
    }

    /// What stands next. `window` begins at [`Scanner::window_start`]; `at_end` says that it
    /// reaches the end of the file.
    pub fn next(&mut self, window: &[u8], at_end: bool) -> Step {
        if let Some(gap) = self.gap.take() {
            return self.resync(gap, window, at_end);
        }
        if let Some(offset) = self.zeros.take() {
            return Step::Found { offset, span: Span::End };
        }
        if self.sealed {
            // What follows a footer is the rest of a cut or untrimmed file, or none of its frames.
            // (Recovery looks at it once more, before it gives the space back.)
            return Step::Done;
        }
        if window.len() < HEADER_BYTES {
            if !at_end {
                return Step::Need(HEADER_BYTES);
            }
            let empty = window.is_empty();
            return if empty { Step::Done } else { self.begin_gap(None, window, at_end) };
        }
        match Header::decode(window) {
            Some(header) if self.believes(&header) => self.frame(header, window, at_end),
            Some(header) if in_bounds(&header) => self.foreign(header, window, at_end),
            _ => self.begin_gap(None, window, at_end),
        }
    }

    /// Whether a header with a right checksum may be one of this segment's.
    fn believes(&self, header: &Header) -> bool {
        let own = header.salt == self.salt || broken(Broken::SaltIgnored);
        own && (header.kind == Kind::FOOTER || in_bounds(header))
    }

    /// A header of another life: passed over with its payload if that is intact too. Otherwise its
    /// length tells nothing of what stands here now.
    fn foreign(&mut self, header: Header, window: &[u8], at_end: bool) -> Step {
        let bytes = header.frame_bytes();
        let whole = usize::try_from(bytes).unwrap_or(usize::MAX);
        match window.get(HEADER_BYTES..whole) {
            None if !at_end => Step::Need(whole),
            Some(payload) if frame::crc(payload) == header.payload_crc => {
                self.pass(bytes, Span::Stale { bytes, header: None })
            }
            _ => self.begin_gap(None, window, at_end),
        }
    }

    fn frame(&mut self, header: Header, window: &[u8], at_end: bool) -> Step {
        let bytes = header.frame_bytes();
        let whole = usize::try_from(bytes).unwrap_or(usize::MAX);
        let payload = window.get(HEADER_BYTES..whole);
        if payload.is_none() && !at_end {
            return Step::Need(whole);
        }
        let right = payload.is_some_and(|payload| frame::crc(payload) == header.payload_crc)
            || payload.is_some() && broken(Broken::PayloadChecksumIgnored);
        let elsewhere =
            right && payload.is_some_and(|payload| self.ends_elsewhere(&header, payload));
        if elsewhere
            || !self.in_place(&header)
            || self.misplaced.binary_search(&self.offset).is_ok()
        {
            // Its length tells something only if the whole frame is here, from wherever it came.
            if right {
                let first = self.lsns.0.saturating_sub(u64::from(header.kind == Kind::FOOTER));
                let header = (header.lsn >= first).then_some(header);
                return self.pass(bytes, Span::Stale { bytes, header });
            }
            let lost = Some(header).filter(|h| h.kind != Kind::FOOTER && self.in_range(h));
            return self.begin_gap(lost, window, at_end);
        }
        if header.kind != Kind::FOOTER {
            self.claim = Some((self.offset, header.lsn, self.offset.saturating_add(bytes)));
        }
        if !right {
            // A header that was written to the wrong place claims bytes that are not its own.
            let sight = whole.saturating_add(HEADER_BYTES);
            if window.len() < sight && !at_end {
                return Step::Need(sight);
            }
            let own = self.next_own(window.get(..sight).unwrap_or(window));
            let bytes = wide(own.unwrap_or(whole).min(whole).min(window.len()));
            return self.pass(bytes, Span::Bad { bytes, header: Some(header) });
        }
        if header.kind == Kind::FOOTER {
            self.sealed = true;
        } else {
            self.last_lsn = header.lsn;
        }
        self.pass(bytes, Span::Frame(header))
    }

    fn pass(&mut self, bytes: u64, span: Span) -> Step {
        let offset = self.offset;
        self.offset = offset.saturating_add(bytes);
        Step::Found { offset, span }
    }

    /// Whether a footer stands where the frames that it lists do not end.
    fn ends_elsewhere(&self, header: &Header, payload: &[u8]) -> bool {
        let footer = Footer::decode(payload).filter(|_| header.kind == Kind::FOOTER);
        let Some(last) = footer.and_then(|footer| footer.frames.last().copied()) else {
            return false;
        };
        // It stands in the middle of its last frame. (Damage may stand between the two.)
        let within = self.claim.is_some_and(|(offset, lsn, end)| {
            (offset, lsn) == (last.offset, last.lsn) && end > self.offset
        });
        last.offset >= self.offset || within
    }

    /// Where in `bytes`, behind their front, a header of this segment begins.
    fn next_own(&self, bytes: &[u8]) -> Option<usize> {
        memchr::memmem::find_iter(bytes, &MAGIC).filter(|&at| at > 0).find(|&at| {
            let header = bytes.get(at..).and_then(Header::decode);
            header.is_some_and(|header| self.believes(&header) && self.in_range(&header))
        })
    }

    /// LSNs rise, and stay in the segment's range.
    fn in_place(&self, header: &Header) -> bool {
        let least = self.last_lsn.saturating_add(u64::from(header.kind != Kind::FOOTER));
        (header.lsn >= least || self.any_order) && self.in_range(header)
    }

    fn in_range(&self, header: &Header) -> bool {
        let first = self.lsns.0.saturating_sub(u64::from(header.kind == Kind::FOOTER));
        (first..=self.lsns.1).contains(&header.lsn)
    }

    fn begin_gap(&mut self, header: Option<Header>, window: &[u8], at_end: bool) -> Step {
        let gap = Gap { start: self.offset, nonzero_end: self.offset, header };
        self.resync(gap, window, at_end)
    }

    /// Passes over bad bytes until a header of this segment, or the end.
    fn resync(&mut self, gap: Gap, window: &[u8], at_end: bool) -> Step {
        // The first byte of the gap was already refused as a header.
        let from = usize::from(self.offset == gap.start);
        for found in memchr::memmem::find_iter(window.get(from..).unwrap_or_default(), &MAGIC) {
            let candidate = from.saturating_add(found);
            let header_bytes = window.get(candidate..).unwrap_or_default();
            if header_bytes.len() < HEADER_BYTES && !at_end {
                // Seen only in part: keep it at the front of the next window.
                return self.advance_gap(gap, window, candidate, HEADER_BYTES);
            }
            if Header::decode(header_bytes).is_some_and(|h| self.believes(&h) && self.in_range(&h))
            {
                return self.end_gap(gap, self.offset.saturating_add(wide(candidate)));
            }
        }
        if at_end {
            let end = self.offset.saturating_add(wide(window.len()));
            return self.end_of_file(self.with_nonzero(gap, window), end);
        }
        // The magic itself may be cut by the window's end.
        let keep = window.len().saturating_sub(MAGIC.len().saturating_sub(1));
        self.advance_gap(gap, window, keep.max(from), WINDOW_BYTES)
    }

    /// Moves the window on by `by` bytes of the gap, and asks for more.
    fn advance_gap(&mut self, gap: Gap, window: &[u8], by: usize, need: usize) -> Step {
        self.gap = Some(self.with_nonzero(gap, window.get(..by).unwrap_or_default()));
        self.offset = self.offset.saturating_add(wide(by));
        Step::Need(need)
    }

    /// The gap, knowing of what is not zero in the bytes at its present end.
    fn with_nonzero(&self, gap: Gap, bytes: &[u8]) -> Gap {
        let end = |last| self.offset.saturating_add(wide(last)).saturating_add(1);
        Gap { nonzero_end: last_nonzero(bytes).map_or(gap.nonzero_end, end), ..gap }
    }

    fn end_gap(&mut self, gap: Gap, end: u64) -> Step {
        self.offset = end;
        let bytes = end.saturating_sub(gap.start);
        Step::Found { offset: gap.start, span: Span::Bad { bytes, header: gap.header } }
    }

    /// The gap reaches the end: its bytes up to the last one that is not zero, then zeros.
    fn end_of_file(&mut self, gap: Gap, end: u64) -> Step {
        if gap.nonzero_end <= gap.start {
            self.offset = end;
            return Step::Found { offset: gap.start, span: Span::End };
        }
        let zeros = gap.nonzero_end;
        let found = self.end_gap(gap, zeros);
        // The zeros were seen: the window never moves back to see them again.
        self.offset = end;
        self.zeros = (zeros < end).then_some(zeros);
        found
    }
}

/// Whether a frame that is no footer may be as long as a header says.
fn in_bounds(header: &Header) -> bool {
    usize::try_from(header.length).is_ok_and(|length| length <= PAYLOAD_BYTES_MAX)
}

fn last_nonzero(bytes: &[u8]) -> Option<usize> {
    // Whole zero blocks first: the unused part of a segment is long.
    let mut end = bytes.len();
    for block in bytes.rchunks(4096) {
        // All of a block, without looking for a first one: the compiler takes 32 bytes at once.
        if block.iter().fold(0, |any, byte| any | byte) != 0 {
            break;
        }
        end = end.saturating_sub(block.len());
    }
    bytes.get(..end).unwrap_or_default().iter().rposition(|&byte| byte != 0)
}

#[cfg(test)]
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "tests may panic"
)]
mod tests {
    use super::*;
    use crate::storage::wal::frame::Codec;

    const SALT: u64 = 99;

    fn frame_of(lsn: u64, salt: u64, payload: &[u8]) -> Vec<u8> {
        let header = Header {
            length: u32::try_from(payload.len()).unwrap(),
            kind: Kind::REMEMBER,
            codec: Codec::PLAIN,
            schema: 1,
            lsn,
            synced: lsn - 1,
            salt,
            key: lsn,
            space_key: 0,
            payload_crc: frame::crc(payload),
            reserved: [0; 4],
        };
        let mut bytes = header.encode().to_vec();
        bytes.extend_from_slice(payload);
        bytes
    }

    /// Scans `bytes` through windows that grow by `chunk` at a time.
    fn scan(bytes: &[u8], chunk: usize) -> Vec<(u64, Span)> {
        let mut scanner = Scanner::new(SALT, 1, u64::MAX, 0);
        let mut spans = Vec::new();
        let mut length = chunk;
        loop {
            let start = usize::try_from(scanner.window_start()).unwrap();
            let end = (start + length).min(bytes.len());
            match scanner.next(&bytes[start..end], end == bytes.len()) {
                Step::Found { offset, span } => {
                    spans.push((offset, span));
                    length = chunk;
                }
                Step::Need(n) => length = n.min(length + chunk).max(length + 1),
                Step::Done => return spans,
            }
        }
    }

    fn lsns(spans: &[(u64, Span)]) -> Vec<u64> {
        spans
            .iter()
            .filter_map(|(_, span)| match span {
                Span::Frame(header) => Some(header.lsn),
                _ => None,
            })
            .collect()
    }

    fn three() -> Vec<u8> {
        [frame_of(1, SALT, b"one"), frame_of(2, SALT, b"second"), frame_of(3, SALT, b"3rd")]
            .concat()
    }

    #[test]
    fn frames_and_the_zero_tail_are_told_apart() {
        let mut bytes = three();
        let length = bytes.len() as u64;
        bytes.extend_from_slice(&[0; 10_000]);
        for chunk in [1, 64, 100, 4096, 1 << 20] {
            let spans = scan(&bytes, chunk);
            assert_eq!(lsns(&spans), [1, 2, 3]);
            assert_eq!(spans.last(), Some(&(length, Span::End)));
        }
    }

    #[test]
    fn any_flipped_bit_costs_at_most_the_frame_it_hit() {
        let good = three();
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes.extend_from_slice(&[0; 500]);
            for chunk in [70, 1 << 20] {
                let found = lsns(&scan(&bytes, chunk));
                assert_eq!(found.len(), 2, "bit {bit}: {found:?}");
            }
        }
    }

    #[test]
    fn a_cut_at_any_byte_keeps_what_is_whole() {
        let good = three();
        for cut in 0..good.len() {
            let found = lsns(&scan(&good[..cut], 64));
            let whole = [67, 67 + 70, 67 + 70 + 67].iter().filter(|&&end| end <= cut).count();
            assert_eq!(found.len(), whole, "cut at {cut}");
        }
    }

    #[test]
    fn a_frame_forged_inside_a_payload_is_not_believed() {
        let forged = frame_of(2, SALT ^ 1, b"I am not a frame");
        let mut bytes = [frame_of(1, SALT, &forged), frame_of(2, SALT, b"real")].concat();
        bytes[0] ^= 1;
        assert_eq!(lsns(&scan(&bytes, 64)), [2]);
        let spans = scan(&bytes, 64);
        assert!(matches!(spans[1].1, Span::Frame(h) if h.length == 4), "{spans:?}");
    }

    #[test]
    fn frames_of_another_life_are_stale_not_bad() {
        let bytes =
            [frame_of(1, SALT, b"a"), frame_of(9, 5, b"old"), frame_of(2, SALT, b"b")].concat();
        let spans = scan(&bytes, 4096);
        assert_eq!(lsns(&spans), [1, 2]);
        assert!(spans.iter().any(|(_, span)| matches!(span, Span::Stale { bytes: 67, .. })));
        let repeated = [frame_of(5, SALT, b"a"), frame_of(5, SALT, b"b")].concat();
        assert!(matches!(scan(&repeated, 4096)[1].1, Span::Stale { .. }));
    }

    /// It did, by more than the window that its reader held: a subtraction overflowed there.
    #[test]
    fn the_window_never_moves_back() {
        let bytes = [frame_of(1, SALT, b"a"), vec![7; 100], vec![0; 3000]].concat();
        let mut scanner = Scanner::new(SALT, 1, u64::MAX, 0);
        let (mut spans, mut start, mut length) = (Vec::new(), 0, 256);
        loop {
            assert!(scanner.window_start() >= start, "{start}");
            start = scanner.window_start();
            let at = usize::try_from(start).unwrap();
            let end = (at + length).min(bytes.len());
            match scanner.next(&bytes[at..end], end == bytes.len()) {
                Step::Found { offset, span } => spans.push((offset, span)),
                Step::Need(n) => length = n.min(256),
                Step::Done => break,
            }
        }
        assert_eq!(spans[1..], [(65, Span::Bad { bytes: 100, header: None }), (165, Span::End)]);
    }

    #[test]
    fn what_stands_behind_a_frame_of_another_life_is_looked_at_for_itself() {
        let foreign = frame_of(9, 5, b"old");
        let mut torn = foreign.clone();
        torn[66] ^= 1;
        let mut hit = frame_of(2, SALT, b"hit");
        hit[20] ^= 1;
        let last = frame_of(3, SALT, b"c");
        let stale = Span::Stale { bytes: 67, header: None };
        let bad = |bytes| Span::Bad { bytes, header: None };
        let mut long = Header::decode(&foreign).unwrap();
        long.length = u32::MAX;
        let long = [long.encode().to_vec(), b"old".to_vec()].concat();
        for (first, wanted) in [
            (foreign.clone(), vec![(0, stale), (67, bad(67))]),
            // Not intact: its length says nothing.
            (torn, vec![(0, bad(134))]),
            (long, vec![(0, bad(134))]),
        ] {
            for chunk in [1, 64, 4096] {
                let spans = scan(&[first.as_slice(), &hit, &last].concat(), chunk);
                assert_eq!(spans[..spans.len() - 1], wanted, "{chunk}");
                assert_eq!(lsns(&spans), [3]);
            }
        }
        assert_eq!(scan(&foreign[..66], 4096), [(0, bad(66))], "cut off by the file's end");
    }

    #[test]
    fn the_header_of_a_damaged_frame_is_told_wherever_it_stands() {
        for lsn in [1, 3, 9] {
            let mut hit = frame_of(lsn, SALT, b"hit");
            hit[66] ^= 1;
            let bytes = [frame_of(2, SALT, b"a"), hit.clone(), frame_of(4, SALT, b"b")].concat();
            let spans = scan(&bytes, 64);
            assert_eq!(spans[1], (65, Span::Bad { bytes: 67, header: Header::decode(&hit) }));
            assert_eq!(lsns(&spans), [2, 4]);
        }
    }

    #[test]
    fn zeros_before_a_frame_are_a_hole_not_the_end() {
        let bytes = [frame_of(1, SALT, b"a"), vec![0; 5000], frame_of(2, SALT, b"b")].concat();
        let spans = scan(&bytes, 512);
        assert_eq!(lsns(&spans), [1, 2]);
        assert_eq!(spans[1], (65, Span::Bad { bytes: 5000, header: None }));
    }
}
