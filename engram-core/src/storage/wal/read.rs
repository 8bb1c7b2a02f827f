//! A segment's spans, read through a window that moves over its file.

use std::io;
use std::sync::Arc;

use super::frame::{HEADER_BYTES, Header};
use super::scan::{Scanner, Span, Step, WINDOW_BYTES};
use super::segment::{
    FORMAT_VERSION, FRAMES_START, HEADER_COPY_BYTES, HEADER_OFFSETS, HeaderCopy, Identity, LSN_MAX,
    SegmentHeader, SegmentName,
};
use crate::disk::{File, read_up_to};

/// The unit in which a failing device is worked around.
const BLOCK_BYTES: usize = 4096;

/// Why a segment could not be read on.
#[derive(Debug)]
pub struct ReadError {
    /// Where.
    pub offset: u64,
    /// What the device said.
    pub cause: io::Error,
}

/// Reads the spans of one segment.
#[derive(Debug)]
pub struct SpanReader {
    file: Arc<dyn File>,
    file_bytes: u64,
    scanner: Scanner,
    /// Its front holds the window; behind that stands what an earlier one left.
    buffer: Vec<u8>,
    /// Bytes of the window.
    length: usize,
    /// File offset of the window's first byte.
    start: u64,
    /// Put zeros where the device fails, and note it.
    tolerant: bool,
    /// Ranges that the device did not give: offset, bytes.
    pub unreadable: Vec<(u64, u64)>,
}

/// One span, with its payload if it is a frame.
#[derive(Debug)]
pub struct Item<'a> {
    /// Where it begins.
    pub offset: u64,
    /// What it is.
    pub span: Span,
    /// The frame's payload.
    pub payload: &'a [u8],
}

impl SpanReader {
    /// From `scanner`'s place to `file_bytes`.
    #[must_use]
    pub fn new(file: Arc<dyn File>, file_bytes: u64, scanner: Scanner, tolerant: bool) -> Self {
        let start = scanner.window_start();
        let (buffer, unreadable) = (Vec::new(), Vec::new());
        Self { file, file_bytes, scanner, buffer, length: 0, start, tolerant, unreadable }
    }

    /// How far it has read.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.scanner.window_start()
    }

    /// The next span, or `None` behind the last.
    ///
    /// # Errors
    /// What the device said, unless it is to be worked around.
    pub fn next_span(&mut self) -> Result<Option<Item<'_>>, ReadError> {
        loop {
            let from = self.scanner.window_start();
            let at = usize::try_from(from - self.start).unwrap_or(usize::MAX);
            let seen = self.buffer.get(at..self.length).unwrap_or_default();
            let at_end = from + seen.len() as u64 >= self.file_bytes;
            match self.scanner.next(seen, at_end) {
                Step::Found { offset, span } => {
                    let at = usize::try_from(offset.saturating_sub(self.start)).unwrap_or(0);
                    let payload = match span {
                        Span::Frame(Header { length, .. }) => {
                            let begin = at + HEADER_BYTES;
                            &self.buffer[begin..begin + length as usize]
                        }
                        _ => &[],
                    };
                    return Ok(Some(Item { offset, span, payload }));
                }
                Step::Need(bytes) => self.fill(bytes)?,
                Step::Done => return Ok(None),
            }
        }
    }

    /// Makes the window reach `bytes` beyond the scanner's place, or the end of the file.
    fn fill(&mut self, bytes: usize) -> Result<(), ReadError> {
        let from = self.scanner.window_start();
        let passed = usize::try_from(from - self.start).unwrap_or(usize::MAX).min(self.length);
        self.buffer.copy_within(passed..self.length, 0);
        self.start = from;
        let have = self.length - passed;
        self.length = have;
        let left = usize::try_from(self.file_bytes - from).unwrap_or(usize::MAX) - have;
        let length = have + bytes.saturating_sub(have).max(WINDOW_BYTES).min(left);
        if self.buffer.len() < length {
            self.buffer.resize(length, 0);
        }
        let offset = from + have as u64;
        let wanted = &mut self.buffer[have..length];
        match read_up_to(self.file.as_ref(), wanted, offset) {
            // Shorter than it was when its length was asked for: what is gone reads as zeros.
            Ok(read) => wanted[read..].fill(0),
            Err(_) if self.tolerant => {
                let unreadable = fill_by_blocks(self.file.as_ref(), wanted, offset);
                self.unreadable.extend(unreadable);
            }
            Err(cause) => return Err(ReadError { offset, cause }),
        }
        self.length = length;
        Ok(())
    }
}

/// Reads what the device gives, zeros for the rest; gives where that is.
fn fill_by_blocks(file: &dyn File, wanted: &mut [u8], offset: u64) -> Vec<(u64, u64)> {
    let mut unreadable = Vec::new();
    for (number, block) in wanted.chunks_mut(BLOCK_BYTES).enumerate() {
        let at = offset + (number * BLOCK_BYTES) as u64;
        let read = read_up_to(file, block, at);
        block[read.as_ref().map_or(0, |&read| read)..].fill(0);
        if read.is_err() {
            unreadable.push((at, block.len() as u64));
        }
    }
    unreadable
}

/// A segment's header, from whichever copy is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadHeader {
    /// The header.
    pub header: SegmentHeader,
    /// Which copies fail their checksum, and can be written again.
    pub bad: [bool; 2],
    /// Which copies the device did not give: that is no damage, and may pass.
    pub unreadable: [bool; 2],
}

/// What stands in a segment file's place for its header.
#[derive(Debug)]
pub enum HeaderRead {
    /// A header.
    Good(ReadHeader),
    /// A newer format.
    TooNew(u32),
    /// No copy is right.
    Bad,
}

/// Reads both copies of a segment's header.
///
/// # Errors
/// What the device said, when neither copy could be read.
pub fn read_header(file: &dyn File) -> io::Result<HeaderRead> {
    let mut good: [Option<SegmentHeader>; 2] = [None; 2];
    let mut bad = [false; 2];
    let mut unreadable = [false; 2];
    let mut newest = 0;
    let mut failed = None;
    for (copy, offset) in HEADER_OFFSETS.into_iter().enumerate() {
        let mut bytes = [0; HEADER_COPY_BYTES];
        if let Err(e) = read_up_to(file, &mut bytes, offset) {
            failed = Some(e);
            unreadable[copy] = true;
            continue;
        }
        match SegmentHeader::decode(&bytes) {
            HeaderCopy::Good(header) => good[copy] = Some(header),
            HeaderCopy::TooNew(version) => newest = newest.max(version),
            HeaderCopy::Bad => bad[copy] = true,
        }
    }
    if let [Some(first), Some(second)] = good
        && first != second
    {
        // One is of a file that had this name before: a sector that fell back.
        let old = usize::from(!is_of_another_life(file, first.salt));
        good[old] = None;
        bad[old] = true;
    }
    match (good[0].or(good[1]), failed) {
        _ if newest > FORMAT_VERSION => Ok(HeaderRead::TooNew(newest)),
        (Some(header), _) => Ok(HeaderRead::Good(ReadHeader { header, bad, unreadable })),
        (None, Some(e)) => Err(e),
        (None, None) => Ok(HeaderRead::Bad),
    }
}

/// Whether the first frame of a file has another salt.
fn is_of_another_life(file: &dyn File, salt: u64) -> bool {
    let mut bytes = [0; HEADER_BYTES];
    let read = read_up_to(file, &mut bytes, FRAMES_START);
    read.is_ok() && Header::decode(&bytes).is_some_and(|frame| frame.salt != salt)
}

/// With both copies of a header gone, the first frame still tells the salt: it stands where no
/// user's bytes can stand.
pub(super) fn piece_together(
    file: &dyn File,
    name: SegmentName,
    identity: Identity,
) -> Option<SegmentHeader> {
    let mut bytes = [0; HEADER_BYTES];
    read_up_to(file, &mut bytes, FRAMES_START).ok()?;
    let first = Header::decode(&bytes)?;
    let last = name.rewritten.map_or(LSN_MAX, |(end, _)| end);
    if !(name.start..=last).contains(&first.lsn) {
        return None;
    }
    Some(SegmentHeader {
        identity,
        salt: first.salt,
        start: name.start,
        end: name.rewritten.map_or(0, |(end, _)| end),
        generation: name.generation(),
        synced: name.start - 1,
        skipped: (0, 0),
        cut: false,
        accepted_loss: false,
    })
}
