//! Walks one file of v0.1.0, and gets out of it all that can be proven.
//!
//! Where headers are good the walk goes from record to record, and the payload's checksum decides.
//! Where a header is damaged beyond one bit, the gap up to the next sure header is searched: a
//! record there is believed if
//! 1. the payload's checksum, as the damaged header gives it, holds for the length it gives, for
//!    all bytes up to the next header, or for what an episode's layout consumes; or
//! 2. the header's own checksum holds once its magic, length and payload checksum are put right; or
//! 3. the header has visibly lost more than that, and the payload decodes exactly up to where a
//!    record ends. That proves the shape, not every bit, so the entry's notes say it. A payload
//!    whose checksum is known, and fails, is never believed.
//!
//! v0.1.0 has no salt: what a gap is searched for could also stand in a memory's own bytes. So the
//! search never looks inside a record whose ends are proven.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use super::record::{self, HEADER_BYTES, Header, crc32c};
use super::{Change, Entry, Failure, FailureKind, Log, episode};

/// How often over a file may be checksummed or decoded in vain. Real damage stays far below; it
/// keeps a file that was made to be slow from being so.
const VAIN_PASSES_MAX: usize = 16;
/// And how many bytes at least.
const VAIN_BYTES_MIN: usize = 1 << 20;
/// A payload that fails its checksum and ends in this many zeros, with nothing but zeros after it,
/// was not written to its end. No whole payload ends in more than 17.
const ZERO_TAIL_BYTES_MIN: usize = 24;

/// Reads one file: every entry that can be proven, and what became of the other bytes.
///
/// Zeros from the end of a record to the end of the file are the file's end and no failure.
/// Work and memory are bounded by a small multiple of the file's length.
#[must_use]
pub fn read(bytes: &[u8]) -> Log {
    let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at.saturating_add(1));
    let vain_left = bytes.len().saturating_mul(VAIN_PASSES_MAX).max(VAIN_BYTES_MIN);
    let (headers, log) = (record::Reader::default(), Log::default());
    let mut walk = Walk { bytes, written, headers, next_sure: None, seen: 0, vain_left, log };
    let mut at = 0;
    while at < written {
        at = walk.step(at);
    }
    walk.log
}

struct Walk<'a> {
    bytes: &'a [u8],
    /// Everything from here on is zero.
    written: usize,
    headers: record::Reader,
    /// The first sure header at or after the place it was last asked for.
    next_sure: Option<usize>,
    /// Bytes below this were checksummed once.
    seen: usize,
    /// Bytes that may still be read again, or in vain.
    vain_left: usize,
    log: Log,
}

impl Walk<'_> {
    /// Takes what stands at `at`, and says where to go on: always further.
    fn step(&mut self, at: usize) -> usize {
        if let Some(header) = self.sure(at) {
            return self.record(at, header);
        }
        if self.written.saturating_sub(at) < HEADER_BYTES && self.sure_from(at) == self.bytes.len()
        {
            let detail = "the file ends in the middle of a header";
            return self.fail(at, self.bytes.len(), FailureKind::Tail, detail);
        }
        self.gap(at)
    }

    /// A record whose header is sure.
    fn record(&mut self, at: usize, header: Header) -> usize {
        let start = at.saturating_add(HEADER_BYTES);
        let end = start.saturating_add(header.payload_bytes);
        let Some(payload) = self.bytes.get(start..end) else {
            return self.cut(at, header.payload_bytes);
        };
        let again = self.seen.min(end).saturating_sub(start);
        self.seen = self.seen.max(end);
        if !self.spend(again) {
            return self.fail(
                at,
                end,
                FailureKind::Damaged,
                "not searched: too much damage before",
            );
        }
        if crc32c(payload) != header.payload_crc {
            return self.bad_payload(at, end);
        }
        match interpret(header.entry_type, payload) {
            Ok(body) => {
                let mut entry = body.entry(at, end);
                entry.sequence = Some(header.sequence);
                entry.rescued = header.repaired;
                if header.repaired {
                    entry.notes.push("one bit of its header was corrected".into());
                }
                self.log.entries.push(entry);
            }
            Err(why) => {
                self.fail(at, end, FailureKind::Undecodable, &why);
            }
        }
        end
    }

    /// A sure header whose payload goes past the end of the file.
    fn cut(&mut self, at: usize, payload_bytes: usize) -> usize {
        let start = at.saturating_add(HEADER_BYTES);
        let here = self.bytes.len().saturating_sub(start);
        let next = self.sure_from(start);
        if next < self.bytes.len() {
            let detail =
                format!("a payload of {payload_bytes} bytes was cut, and the log goes on after it");
            return self.fail(at, next, FailureKind::Damaged, &detail);
        }
        let detail = format!("the file ends after {here} of a payload's {payload_bytes} bytes");
        self.fail(at, self.bytes.len(), FailureKind::Tail, &detail)
    }

    /// A sure header whose payload, ending at `end`, fails its checksum.
    fn bad_payload(&mut self, at: usize, end: usize) -> usize {
        let start = at.saturating_add(HEADER_BYTES);
        let unwritten = end.saturating_sub(self.written.max(start));
        if end >= self.written && unwritten >= ZERO_TAIL_BYTES_MIN.min(end.saturating_sub(start)) {
            let detail = format!("the last {unwritten} bytes of the payload were never written");
            return self.fail(at, self.bytes.len(), FailureKind::Tail, &detail);
        }
        let goes_on = end >= self.written || self.bytes.get(end..).is_some_and(record::plausible);
        if !goes_on {
            // Cut while writing, and appended to by a later process: the log goes on inside.
            let next = self.sure_from(start);
            if next < end {
                let detail = "the payload was cut, and the log goes on after it";
                return self.fail(at, next, FailureKind::Damaged, detail);
            }
        }
        self.fail(at, end, FailureKind::Damaged, "the payload fails its checksum")
    }

    /// Bytes where a header should be and none is sure: searches them up to the next sure one.
    fn gap(&mut self, at: usize) -> usize {
        let next = self.sure_from(at);
        let limit = if next == self.bytes.len() { self.written } else { next };
        for place in at..limit {
            let rest = self.bytes.get(place..).unwrap_or_default();
            if place != at && !record::plausible(rest) {
                continue;
            }
            if let Some(entry) = self.rescue(place, next) {
                if place > at {
                    self.fail(at, place, FailureKind::Damaged, "no record begins here");
                }
                let end = place.saturating_add(usize::try_from(entry.bytes).unwrap_or(usize::MAX));
                self.log.entries.push(entry);
                return end;
            }
        }
        let zeros = self.bytes.get(at..next).is_some_and(|gap| gap.iter().all(|byte| *byte == 0));
        let detail = match (zeros, self.bytes.get(at..).is_some_and(record::plausible)) {
            (true, _) => "zeros between records",
            (_, true) => "the header fails its checksum, and its payload does not prove itself",
            _ => "no record begins here",
        };
        self.fail(at, next, FailureKind::Damaged, detail)
    }

    /// A record at `at` whose header is damaged, if its payload proves itself. The next sure header
    /// (or the end of the file) is at `next`.
    fn rescue(&mut self, at: usize, next: usize) -> Option<Entry> {
        if self.vain_left == 0 {
            return None;
        }
        let raw = *self.bytes.get(at..)?.first_chunk::<HEADER_BYTES>()?;
        let claimed = record::unchecked(&raw)?.payload_bytes;
        let reach = next.saturating_sub(at).saturating_sub(HEADER_BYTES);
        self.rescue_by_checksum(at, claimed, &raw)
            .or_else(|| self.rescue_by_shape(at, next, &raw))
            .or_else(|| self.rescue_by_checksum(at, reach, &raw))
    }

    /// As [`Walk::rescue`], for a payload of this length.
    fn rescue_by_checksum(
        &mut self,
        at: usize,
        payload_bytes: usize,
        raw: &[u8; HEADER_BYTES],
    ) -> Option<Entry> {
        let start = at.saturating_add(HEADER_BYTES);
        let end = start.saturating_add(payload_bytes);
        let payload = self.bytes.get(start..end).filter(|found| !found.is_empty())?;
        if !self.spend(payload_bytes) {
            return None;
        }
        let (claimed, proof) = (record::unchecked(raw)?, Proof::of(raw, payload));
        let body = match proof {
            Proof::Header(header) => interpret(header.entry_type, payload),
            // The type may be what was damaged; nothing else decodes as an episode.
            Proof::Payload => episode::decode(payload)
                .map(Body::from)
                .or_else(|_| interpret(claimed.entry_type, payload)),
            Proof::Refuted | Proof::None => return None,
        };
        // It went on: nothing was in vain.
        self.vain_left = self.vain_left.saturating_add(payload_bytes);
        Some(body.ok()?.rescued(at, end, &proof))
    }

    /// As [`Walk::rescue`], for an episode whose length is lost: its layout says where it ends.
    fn rescue_by_shape(
        &mut self,
        at: usize,
        next: usize,
        raw: &[u8; HEADER_BYTES],
    ) -> Option<Entry> {
        let start = at.saturating_add(HEADER_BYTES);
        let payload = self.bytes.get(start..next)?;
        let before = self.vain_left;
        let candidates = match episode::candidates(payload) {
            Ok(candidates) => candidates,
            Err(misfit) => {
                self.spend(misfit.at);
                return None;
            }
        };
        if !self.spend(candidates.head_bytes) {
            return None;
        }
        let mut best = None::<(u8, usize, Proof)>;
        for fit in &candidates.fits {
            if !self.spend(fit.consumed) {
                return None;
            }
            let proof = Proof::of(raw, payload.get(..fit.consumed)?);
            let rank = match proof {
                Proof::Header(_) | Proof::Payload => 3,
                Proof::Refuted => 0,
                Proof::None if fit.consumed == payload.len() => 2,
                Proof::None => u8::from(self.ends(start.saturating_add(fit.consumed), next)),
            };
            // Newest first, so the first of a rank is the one to take.
            if rank > best.as_ref().map_or(0, |(rank, ..)| *rank) {
                best = Some((rank, fit.consumed, proof));
            }
        }
        let (_, consumed, proof) = best?;
        let decoded = candidates.choose(|fit| fit.consumed == consumed).ok()?;
        // It went on: nothing was in vain.
        self.vain_left = before;
        Some(Body::from(decoded).rescued(at, start.saturating_add(consumed), &proof))
    }

    /// Whether a record may end at `end`: what follows may be a header, or has an episode where its
    /// payload would be, or nothing follows.
    fn ends(&mut self, end: usize, next: usize) -> bool {
        let rest = self.bytes.get(end..next).unwrap_or_default();
        if end >= self.written || record::plausible(rest) {
            return true;
        }
        let payload = rest.get(HEADER_BYTES..).unwrap_or_default();
        match episode::candidates(payload) {
            Ok(found) => self.spend(found.head_bytes) && !found.fits.is_empty(),
            Err(misfit) => {
                self.spend(misfit.at);
                false
            }
        }
    }

    /// The header at `at`, if its checksum holds or one bit can be corrected.
    fn sure(&self, at: usize) -> Option<Header> {
        self.headers.read(self.bytes.get(at..)?.first_chunk()?)
    }

    /// The first sure header at or after `from`, or the end of the file.
    fn sure_from(&mut self, from: usize) -> usize {
        match self.next_sure {
            Some(known) if known >= from => known,
            _ => {
                let found = (from..self.written).find(|at| self.sure(*at).is_some());
                *self.next_sure.insert(found.unwrap_or(self.bytes.len()))
            }
        }
    }

    /// Takes work in vain from what is left; false when too little is.
    fn spend(&mut self, bytes: usize) -> bool {
        let left = self.vain_left.checked_sub(bytes);
        self.vain_left = left.unwrap_or(0);
        left.is_some()
    }

    /// Names `at..end` as lost, and goes on at `end`.
    fn fail(&mut self, at: usize, end: usize, kind: FailureKind, detail: &str) -> usize {
        let (offset, bytes) = (wide(at), wide(end.saturating_sub(at)));
        self.log.failures.push(Failure { offset, bytes, kind, detail: detail.to_owned() });
        end
    }
}

/// What a damaged header still says of a payload.
enum Proof {
    /// Its own checksum holds with this payload's length and checksum: all of it is known.
    Header(Header),
    /// The payload's checksum is the one it gives.
    Payload,
    /// The payload's checksum is known, or shows no sign of damage, and fails.
    Refuted,
    /// Nothing.
    None,
}

impl Proof {
    fn of(raw: &[u8; HEADER_BYTES], payload: &[u8]) -> Self {
        let Some(claimed) = record::unchecked(raw) else { return Self::None };
        let (bytes, crc) = (payload.len(), crc32c(payload));
        let known = record::rebuilt(raw, bytes, claimed.payload_crc).is_some();
        match record::rebuilt(raw, bytes, crc) {
            Some(header) => Self::Header(header),
            None if crc == claimed.payload_crc => Self::Payload,
            None if known || record::looks_whole(raw, bytes) => Self::Refuted,
            None => Self::None,
        }
    }
}

/// What a payload says.
struct Body {
    change: Change,
    layout: Option<super::Layout>,
    ambiguous: bool,
    notes: Vec<String>,
}

impl From<episode::Decoded> for Body {
    fn from(decoded: episode::Decoded) -> Self {
        Self {
            change: Change::Remember(decoded.episode),
            layout: Some(decoded.layout),
            ambiguous: decoded.ambiguous,
            notes: decoded.notes,
        }
    }
}

impl Body {
    fn entry(self, at: usize, end: usize) -> Entry {
        let Self { change, layout, ambiguous, notes } = self;
        let (offset, bytes) = (wide(at), wide(end.saturating_sub(at)));
        Entry { offset, bytes, sequence: None, change, layout, ambiguous, rescued: false, notes }
    }

    fn rescued(self, at: usize, end: usize, proof: &Proof) -> Entry {
        let (sequence, how) = match proof {
            Proof::Header(header) => (Some(header.sequence), "its checksums proved it"),
            Proof::Payload => (None, "its payload's checksum proved it"),
            _ => (None, "no checksum is left; that the payload decodes exactly vouches for it"),
        };
        let mut entry = Entry { sequence, rescued: true, ..self.entry(at, end) };
        entry.notes.push(format!("its header was damaged; {how}"));
        entry
    }
}

/// What a whole payload means, or why it is not understood. v0.1.0 took any unknown type for an
/// episode.
fn interpret(entry_type: u32, payload: &[u8]) -> Result<Body, String> {
    let mut notes = Vec::new();
    let change = match entry_type {
        3 => {
            let id = std::str::from_utf8(payload).map_err(|_| "a deleted id is not UTF-8")?;
            episode::id_over_limits(id, &mut notes);
            Change::Forget { id: id.to_owned() }
        }
        2 | 4 | 5 | 6 => Change::Ignored { entry_type },
        _ => {
            let decoded = episode::decode(payload);
            let why = |misfit| format!("checksums good, but no layout fits; the closest: {misfit}");
            return decoded.map(Body::from).map_err(why);
        }
    };
    Ok(Body { change, layout: None, ambiguous: false, notes })
}

fn wide(at: usize) -> u64 {
    u64::try_from(at).unwrap_or(u64::MAX)
}
