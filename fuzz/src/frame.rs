//! One frame: its header, the header of its segment, and what its payload means.
//!
//! Checksums stop a fuzzer at the door. So every input is read twice: as it stands, and with its
//! checksums put right, as a disk that lies, or a forger, might have them.

use engram_core::Timestamp;
use engram_core::record::{self, Record};
use engram_core::storage::wal::footer::{Footer, FooterBuilder, Listed};
use engram_core::storage::wal::frame::{self, Codec, HEADER_BYTES, Header, Kind, MAGIC};
use engram_core::storage::wal::segment::{FileName, HEADER_COPY_BYTES, HeaderCopy, SegmentHeader};

use crate::meter::Bound;

/// A header needs nothing, a footer's list 32 bytes for each 11 of the file, a payload its
/// strings (24 bytes for each 2: an empty name), their list growing by doubling.
const ALLOCATED: Bound = Bound { fixed_bytes: 1 << 10, per_byte: 48 };

/// The laws of one input.
pub fn run(input: &[u8]) {
    header(input);
    segment_header(input);
    let mut mended = input.to_vec();
    if mend_header(&mut mended) {
        assert!(Header::decode(&mended).is_some(), "a header with the right checksum is one");
        header(&mended);
    }
    let mut mended = input.to_vec();
    if mend_segment_header(&mut mended) {
        segment_header(&mended);
    }
    if let Some((kind, payload)) = input.split_first() {
        payload_of(*kind, payload);
        footer(payload);
    }
    if let Ok(name) = std::str::from_utf8(input) {
        file_name(name);
    }
}

fn header(bytes: &[u8]) {
    let Some(header) = ALLOCATED.hold("a header", bytes.len(), || Header::decode(bytes)) else {
        return;
    };
    let again = header.encode();
    assert_eq!(Some(again.as_slice()), bytes.get(..HEADER_BYTES), "{header:?}");
    assert_eq!(Header::decode(&again), Some(header));
    assert_eq!(header.frame_bytes(), 64 + u64::from(header.length));
}

/// What this version does not know of a segment's header it does not keep: a version that gives
/// those bytes a meaning raises the format's number, and this one refuses it. All else stays.
fn segment_header(bytes: &[u8]) {
    if let HeaderCopy::Good(header) = SegmentHeader::decode(bytes) {
        let again = header.encode();
        assert_eq!(SegmentHeader::decode(&again), HeaderCopy::Good(header));
        assert_eq!(Some(&again[12..104]), bytes.get(12..104));
        let block = header.encode_block();
        assert_eq!(block.get(4096..4096 + HEADER_COPY_BYTES), Some(again.as_slice()));
    }
}

fn payload_of(kind: u8, payload: &[u8]) {
    let header =
        Header { kind: Kind(kind % 8), codec: Codec(u8::from(kind >= 0xF0)), ..header_of(payload) };
    let bytes = payload.len();
    match ALLOCATED.hold("a payload", bytes, || record::decode(&header, payload)) {
        Some(Record::Remember(remember)) => {
            let episode = ALLOCATED.hold("an episode", bytes, || remember.episode());
            let Some((episode, at)) = episode else { return };
            let space = remember.space;
            // Through bytes, for NaN is not NaN.
            let (once, _) = record::encode_remember(space, episode, at);
            let Some(Record::Remember(again)) = record::decode(&header, &once) else {
                unreachable!("what was encoded is an episode")
            };
            let episode = again.episode();
            assert_eq!((again.space, again.id), (space, remember.id));
            assert_eq!((again.when, again.embedding), (remember.when, remember.embedding));
            assert!(episode.is_some(), "what was encoded decodes");
            if let Some((episode, at)) = episode {
                assert_eq!(record::encode_remember(space, episode, at).0, once);
            }
        }
        Some(Record::Forget { at: Some(at), space, id }) => {
            if let Some(time) = at.timestamp() {
                let again = record::encode_forget(space, id, time);
                let same = Record::Forget { at: Some(at), space, id };
                assert_eq!(record::decode(&header, &again), Some(same));
            }
        }
        Some(Record::SpaceDefined { space, definition }) => {
            let again = record::encode_space_defined(&space, &definition);
            let same = Record::SpaceDefined { space, definition };
            assert_eq!(record::decode(&header, &again), Some(same));
        }
        Some(Record::LegacyImported(file)) => {
            let again = record::encode_legacy_imported(&file);
            assert_eq!(record::decode(&header, &again), Some(Record::LegacyImported(file)));
        }
        Some(Record::Mark | Record::Forget { .. } | Record::ForgetSpace { .. }) | None => {}
    }
}

fn footer(payload: &[u8]) {
    let footer = ALLOCATED.hold("a footer", payload.len(), || Footer::decode(payload));
    if let Some(footer) = footer {
        assert!(footer.frames.len() * 11 <= payload.len(), "each took 11 bytes at least");
        let rises = |pair: &[_]| matches!(pair, [a, b] if place(a) <= place(b));
        assert!(footer.frames.windows(2).all(rises), "places and LSNs rise");
    }
}

fn place(listed: &Listed) -> (u64, u64) {
    (listed.offset, listed.lsn)
}

fn file_name(name: &str) {
    if let Some(FileName::Segment(segment)) = FileName::parse(name) {
        assert_eq!(segment.file_name(), name, "a segment has one name");
    }
}

/// Puts the magic and the checksum right, where there are bytes enough.
pub(crate) fn mend_header(bytes: &mut [u8]) -> bool {
    let Some(header) = bytes.get_mut(..HEADER_BYTES) else { return false };
    let crc = frame::crc(&header[8..]);
    header[..4].copy_from_slice(&MAGIC);
    header[4..8].copy_from_slice(&crc.to_le_bytes());
    true
}

/// The same for one copy of a segment's header. The version stays.
pub(crate) fn mend_segment_header(bytes: &mut [u8]) -> bool {
    let Some(copy) = bytes.get_mut(..HEADER_COPY_BYTES) else { return false };
    let crc = frame::crc(&copy[12..]);
    copy[..8].copy_from_slice(&engram_core::storage::wal::segment::MAGIC);
    copy[8..12].copy_from_slice(&crc.to_le_bytes());
    true
}

/// The header of a payload, of no segment yet.
pub(crate) fn header_of(payload: &[u8]) -> Header {
    Header {
        length: u32::try_from(payload.len()).unwrap_or(u32::MAX),
        kind: Kind::REMEMBER,
        codec: Codec::PLAIN,
        schema: record::SCHEMA,
        lsn: 1,
        synced: 0,
        salt: 7,
        key: 8,
        space_key: 9,
        payload_crc: frame::crc(payload),
        reserved: [0; 4],
    }
}

/// A frame, a segment's header, one payload of each kind, a footer.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let at = Timestamp::UNIX_EPOCH;
    let draft = engram_core::Draft {
        who: vec!["ada".into(), String::from("bob")],
        place: Some("home".into()),
        embedding: vec![0.5, -1.0],
        metadata: Some("{\"a\":1}".into()),
        ..engram_core::Draft::of("tea")
    };
    let mut seeds = Vec::new();
    if let Ok(episode) = draft.check(at, || "id".into()) {
        seeds.push([vec![1], record::encode_remember("s", episode, at).0].concat());
    }
    seeds.push([vec![2], record::encode_forget("s", "id", at)].concat());
    seeds
        .push([vec![3], record::encode_space_defined("s", &record::Definition::given(2))].concat());
    seeds.push([vec![4], record::encode_forget("s", "", at)].concat());
    let imported =
        record::LegacyImported { path: "wal/wal-1.log".into(), size: 3, sha256: vec![7; 32] };
    seeds.push([vec![5], record::encode_legacy_imported(&imported)].concat());
    let header = header_of(b"tea");
    let mut footer = FooterBuilder::default();
    footer.add(8192, &header);
    footer.add(8259, &Header { lsn: 2, ..header });
    seeds.push(footer.finish(7, 2, 1));
    seeds.push(footer.finish(7, 2, 1).split_off(HEADER_BYTES - 1));
    seeds.push([header.encode().as_slice(), b"tea"].concat());
    let segment = SegmentHeader {
        identity: engram_core::storage::wal::segment::Identity { store: [1; 16], secret: [2; 16] },
        salt: 3,
        start: 4,
        end: 0,
        generation: 0,
        synced: 3,
        skipped: (0, 0),
        cut: true,
        accepted_loss: false,
    };
    seeds.push(segment.encode().to_vec());
    seeds.push(b"00000000000000000001-00000000000000000840-000002.seg".to_vec());
    seeds.push(b"00000000000000000001.seg.tmp".to_vec());
    seeds
}
