//! A segment's bytes: a script of frames and of what a disk may have made of them.
//!
//! The script says what stands in the segment, so the target knows what has to be found there.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engram_core::disk::File;
use engram_core::storage::wal::footer::FooterBuilder;
use engram_core::storage::wal::frame::{self, HEADER_BYTES, Header, Kind};
use engram_core::storage::wal::read::SpanReader;
use engram_core::storage::wal::scan::{Scanner, Span, Step};

use crate::frame::header_of;
use crate::meter::Bound;
use crate::source::Source;

/// The reader holds a window of the file, at most the file, and it grows by doubling.
const ALLOCATED: Bound = Bound { fixed_bytes: 1 << 10, per_byte: 3 };
/// LSNs that the segment may hold.
const LSNS: (u64, u64) = (10, 1 << 40);
/// Longest run of zeros or of one payload.
const RUN_BYTES_MAX: usize = 5000;

/// The laws of one input.
pub fn run(input: &[u8]) {
    let mut source = Source::new(input);
    let chunk = source.short() + 1;
    let segment = Segment::of(&mut source, input);
    let bytes = segment.bytes.as_slice();
    let whole = spans(bytes, segment.salt, bytes.len().max(1));
    check_tiling(bytes, &whole);
    check_frames(&segment, &whole);
    assert_eq!(spans(bytes, segment.salt, chunk), whole, "windows of {chunk} bytes see the same");
    let file = Arc::new(Bytes { bytes: bytes.to_vec(), read: AtomicU64::new(0) });
    let found = ALLOCATED.hold("the scan", bytes.len(), || read(&file, segment.salt));
    let payloads = |(_, span): &(u64, Span)| match span {
        Span::Frame(header) => Some(header.payload_crc),
        _ => None,
    };
    assert_eq!(found, digest(whole.iter().filter_map(payloads)), "the reader gives the payloads");
    let read = file.read.load(Ordering::Relaxed);
    assert!(read <= bytes.len() as u64, "{read} bytes read of {}", bytes.len());
}

/// A segment, without its header, and what was put into it.
struct Segment {
    bytes: Vec<u8>,
    salt: u64,
    /// LSN of each frame that must be found, in order; none where a length lies.
    wanted: Option<Vec<u64>>,
}

impl Segment {
    fn of(source: &mut Source<'_>, input: &[u8]) -> Self {
        // Secret: an input cannot hold it, for it would be another one then.
        let salt = u64::from(frame::crc(input)) << 32 | 0x5EC2_E700;
        let (mut bytes, mut wanted, mut exact) = (Vec::new(), Vec::new(), true);
        let (mut last, mut sealed) = (LSNS.0 - 1, false);
        let mut footer = FooterBuilder::default();
        while !source.is_empty() {
            let op = source.byte();
            if op % 8 < 2 {
                match op % 2 {
                    0 => bytes.extend_from_slice(source.bytes(usize::from(op / 8))),
                    _ => bytes.resize(bytes.len() + source.short() % RUN_BYTES_MAX, 0),
                }
                continue;
            }
            let length = usize::from(source.byte());
            let payload = source.bytes(length);
            let header =
                Header { salt, lsn: last + 1 + u64::from(op / 8 % 4), ..header_of(payload) };
            let in_place = |lsn: u64| lsn > last && lsn >= LSNS.0 && lsn <= LSNS.1;
            let mut put = |header: &Header| {
                bytes.extend_from_slice(&header.encode());
                bytes.extend_from_slice(payload);
            };
            match op % 8 {
                3 => put(&Header { salt: salt ^ source.word().max(1), ..header }),
                4 => {
                    let header = Header { lsn: source.word(), kind: Kind(op / 8), ..header };
                    put(&header);
                    if !sealed && in_place(header.lsn) {
                        last = header.lsn;
                        wanted.push(last);
                    }
                }
                5 => {
                    // A payload that was hit: its LSN is known all the same.
                    put(&Header { payload_crc: !header.payload_crc, ..header });
                    if !sealed && in_place(header.lsn) {
                        last = header.lsn;
                    }
                }
                6 => {
                    bytes.extend_from_slice(&footer.finish(salt, last, last));
                    sealed = true;
                }
                7 => {
                    put(&Header { length: u32::try_from(source.short()).unwrap_or(0), ..header });
                    exact = false;
                }
                _ => {
                    footer.add(bytes.len() as u64, &header);
                    bytes.extend_from_slice(&header.encode());
                    bytes.extend_from_slice(payload);
                    if !sealed && in_place(header.lsn) {
                        last = header.lsn;
                        wanted.push(last);
                    }
                }
            }
        }
        Self { bytes, salt, wanted: exact.then_some(wanted) }
    }
}

/// The spans of `bytes`, seen through windows that grow by `chunk` bytes.
fn spans(bytes: &[u8], salt: u64, chunk: usize) -> Vec<(u64, Span)> {
    let mut scanner = Scanner::new(salt, LSNS.0, LSNS.1, 0);
    let (mut spans, mut length) = (Vec::new(), chunk);
    loop {
        let rest = usize::try_from(scanner.window_start()).ok().and_then(|at| bytes.get(at..));
        let rest = rest.unwrap_or_default();
        let window = rest.get(..length).unwrap_or(rest);
        match scanner.next(window, window.len() == rest.len()) {
            Step::Found { offset, span } => {
                spans.push((offset, span));
                length = chunk;
            }
            Step::Need(bytes) => length = bytes.min(length + chunk).max(length + 1),
            Step::Done => return spans,
        }
    }
}

/// Every byte belongs to one span; behind a footer they belong to none.
fn check_tiling(bytes: &[u8], spans: &[(u64, Span)]) {
    let (mut at, mut sealed) = (0, false);
    for (offset, span) in spans {
        assert_eq!(*offset, at, "a gap or an overlap before {span:?}");
        assert!(!sealed, "{span:?} behind the footer");
        let length = match span {
            Span::Frame(header) => header.frame_bytes(),
            Span::Bad { bytes, .. } | Span::Stale { bytes, .. } => *bytes,
            Span::End => bytes.len() as u64 - at,
        };
        assert!(length > 0, "{span:?} of nothing");
        at += length;
        assert!(at <= bytes.len() as u64, "{span:?} goes past the end");
        let header = match span {
            Span::Frame(header) => Some(header),
            Span::Bad { header, .. } => header.as_ref(),
            Span::Stale { .. } | Span::End => None,
        };
        sealed = header.is_some_and(|header| header.kind == Kind::FOOTER);
    }
    assert!(sealed || at == bytes.len() as u64, "{at} of {} bytes", bytes.len());
}

/// What is believed is of this segment, whole and in order; what was put there is found.
fn check_frames(segment: &Segment, spans: &[(u64, Span)]) {
    let mut found = Vec::new();
    let mut last = LSNS.0 - 1;
    for (offset, span) in spans {
        let Span::Frame(header) = span else { continue };
        assert_eq!(header.salt, segment.salt, "a frame of another life was believed");
        let begin = usize::try_from(*offset).unwrap_or(usize::MAX) + HEADER_BYTES;
        let payload = segment.bytes.get(begin..begin + header.length as usize);
        assert_eq!(payload.map(frame::crc), Some(header.payload_crc), "{header:?}");
        if header.kind == Kind::FOOTER {
            continue;
        }
        assert!(header.lsn > last && header.lsn <= LSNS.1, "LSN {} after {last}", header.lsn);
        last = header.lsn;
        found.push(last);
    }
    if let Some(wanted) = &segment.wanted {
        assert_eq!(&found, wanted, "what was put there is found, and nothing else");
    }
}

fn digest(crcs: impl Iterator<Item = u32>) -> u64 {
    crcs.fold(0, |sum: u64, crc| sum.rotate_left(7) ^ u64::from(crc))
}

fn read(file: &Arc<Bytes>, salt: u64) -> u64 {
    let scanner = Scanner::new(salt, LSNS.0, LSNS.1, 0);
    let length = file.bytes.len() as u64;
    let mut reader = SpanReader::new(Arc::clone(file) as Arc<dyn File>, length, scanner, false);
    let mut sum = 0u64;
    while let Ok(Some(item)) = reader.next_span() {
        if let Span::Frame(_) = item.span {
            sum = sum.rotate_left(7) ^ u64::from(frame::crc(item.payload));
        }
    }
    sum
}

/// A file that counts what is read of it.
#[derive(Debug)]
struct Bytes {
    bytes: Vec<u8>,
    read: AtomicU64,
}

impl File for Bytes {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.bytes.get(at..));
        let rest = rest.unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A segment of each kind of thing.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let good = [2, 3, b't', b'e', b'a'];
    let foreign = [3, 2, b'n', b'o', 1, 0, 0, 0, 0, 0, 0, 0];
    let far = [4 + 8, 1, b'x', 0x40, 0, 0, 0, 0, 0, 0, 0];
    let hit = [5, 2, b'h', b'i'];
    let lying = [7, 2, b'l', b'y', 200, 0];
    let zeros = [1, 0x00, 0x08];
    let raw = [0xE0, 0xE9, b'n', b'g', b'r', 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14];
    let footer = [6, 0];
    let start = [40, 0];
    vec![
        [start.as_slice(), &good, &good, &zeros].concat(),
        [start.as_slice(), &good, &foreign, &good, &footer, &good].concat(),
        [start.as_slice(), &good, &hit, &good, &raw, &good, &zeros, &good].concat(),
        [start.as_slice(), &far, &good, &far, &lying, &good, &zeros].concat(),
    ]
}
