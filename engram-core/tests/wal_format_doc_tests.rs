//! The worked example of `docs/wal-format.md` is what the code writes, byte for byte.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use std::fmt::Write as _;
use std::path::Path;

use engram_core::Episode;
use engram_core::record::{self, Keys};
use engram_core::storage::wal::footer::{Footer, FooterBuilder};
use engram_core::storage::wal::frame::{self, Codec, Header, Kind};
use engram_core::storage::wal::scan::{Scanner, Span, Step};
use engram_core::storage::wal::segment::{
    FRAMES_START, HeaderCopy, Identity, SegmentHeader, SegmentName,
};

const SALT: u64 = 0x0807_0605_0403_0201;

fn identity() -> Identity {
    let count = |from: u8| std::array::from_fn(|at| from + u8::try_from(at).unwrap());
    Identity { store: count(0x00), secret: count(0x10) }
}

fn segment_header() -> SegmentHeader {
    SegmentHeader {
        identity: identity(),
        salt: SALT,
        start: 1,
        end: 0,
        generation: 0,
        synced: 0,
        skipped: (0, 0),
        cut: false,
        accepted_loss: false,
    }
}

/// The example: an episode is kept, then forgotten, then the log is closed and sealed.
fn example() -> Vec<u8> {
    let keys = Keys::new(identity().secret);
    let (key, space_key) = (keys.episode("demo", "tea"), keys.space("demo"));
    let episode = Episode {
        id: "tea".into(),
        what: "Ann likes tea".into(),
        when: "2026-01-02T03:04:05Z".parse().unwrap(),
        place: None,
        who: vec!["Ann".into()],
        embedding: vec![1.0],
        confidence: 1.0,
        metadata: None,
    };
    let (kept, _) =
        record::encode_remember("demo", episode, "2026-01-02T03:04:06Z".parse().unwrap());
    let gone = record::encode_forget("demo", "tea", "2026-01-02T03:04:07Z".parse().unwrap());
    let mut bytes = segment_header().encode_block();
    let mut footer = FooterBuilder::default();
    let frames = [
        (Kind::REMEMBER, 1, 0, key, space_key, kept),
        (Kind::FORGET, 2, 1, key, space_key, gone),
        (Kind::MARK, 3, 2, 0, 0, Vec::new()),
    ];
    for (kind, lsn, synced, key, space_key, payload) in frames {
        let header = Header {
            length: u32::try_from(payload.len()).unwrap(),
            kind,
            codec: Codec::PLAIN,
            schema: record::SCHEMA,
            lsn,
            synced,
            salt: SALT,
            key,
            space_key,
            payload_crc: frame::crc(&payload),
            reserved: [0; 4],
        };
        footer.add(u64::try_from(bytes.len()).unwrap(), &header);
        bytes.extend_from_slice(&header.encode());
        bytes.extend_from_slice(&payload);
    }
    bytes.extend_from_slice(&footer.finish(SALT, 3, 3));
    bytes
}

/// As `hexdump -C` prints it; rows of zeros are left out, and a `*` stands for them.
fn dump(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut left_out = false;
    for (row, chunk) in bytes.chunks(16).enumerate() {
        if chunk.iter().all(|&byte| byte == 0) {
            if !left_out {
                text.push_str("*\n");
            }
            left_out = true;
            continue;
        }
        left_out = false;
        write!(text, "{:08x} ", row * 16).unwrap();
        for at in 0..16 {
            let gap = if at % 8 == 0 { " " } else { "" };
            match chunk.get(at) {
                Some(byte) => write!(text, "{gap}{byte:02x} ").unwrap(),
                None => write!(text, "{gap}   ").unwrap(),
            }
        }
        let shown = |byte: &u8| if (32..127).contains(byte) { char::from(*byte) } else { '.' };
        let ascii: String = chunk.iter().map(shown).collect();
        writeln!(text, " |{ascii}|").unwrap();
    }
    writeln!(text, "{:08x}", bytes.len()).unwrap();
    text
}

fn page() -> String {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/wal-format.md"));
    std::fs::read_to_string(path).expect("docs/wal-format.md")
}

#[test]
fn the_worked_example_is_what_the_code_writes() {
    let page = page();
    let block = page.split("```hex\n").nth(1).and_then(|rest| rest.split("```").next());
    let wanted = dump(&example());
    assert!(
        block == Some(wanted.as_str()),
        "the ```hex block of docs/wal-format.md is not what the code writes; put this there:\n\n\
         {wanted}"
    );
}

#[test]
fn the_worked_example_reads_back() {
    let bytes = example();
    for at in [0, 4096] {
        let copy = SegmentHeader::decode(&bytes[at..]);
        assert_eq!(copy, HeaderCopy::Good(segment_header()));
    }
    let mut scanner = Scanner::new(SALT, 1, u64::MAX - 1, FRAMES_START);
    let mut found = Vec::new();
    loop {
        let at = usize::try_from(scanner.window_start()).unwrap();
        match scanner.next(&bytes[at..], true) {
            Step::Found { offset, span: Span::Frame(header) } => found.push((offset, header)),
            Step::Found { offset, span } => panic!("{span:?} at {offset}"),
            Step::Need(_) => panic!("the whole file was shown"),
            Step::Done => break,
        }
    }
    let kinds: Vec<Kind> = found.iter().map(|(_, header)| header.kind).collect();
    assert_eq!(kinds, [Kind::REMEMBER, Kind::FORGET, Kind::MARK, Kind::FOOTER]);
    let at = usize::try_from(found[3].0).unwrap() + frame::HEADER_BYTES;
    let footer = Footer::decode(&bytes[at..]).expect("a footer");
    assert_eq!(footer.end, 3);
    let listed: Vec<(u64, u64)> = footer.frames.iter().map(|f| (f.offset, f.lsn)).collect();
    let frames: Vec<(u64, u64)> = found.iter().take(3).map(|(o, h)| (*o, h.lsn)).collect();
    assert_eq!(listed, frames);
}

/// The numbers that the page's tables and text state.
#[test]
fn the_names_on_the_page_are_the_codes() {
    let page = page();
    let plain = SegmentName { start: 1, rewritten: None }.file_name();
    let rewritten = SegmentName { start: 1, rewritten: Some((840, 2)) }.file_name();
    for wanted in [plain, rewritten] {
        assert!(page.contains(&wanted), "docs/wal-format.md does not show {wanted}");
    }
    let kinds = [
        Kind::REMEMBER,
        Kind::FORGET,
        Kind::SPACE_DEFINED,
        Kind::FORGET_SPACE,
        Kind::LEGACY_IMPORTED,
        Kind::MARK,
        Kind::FOOTER,
    ];
    for kind in kinds {
        let row = format!("| {} | `{}` |", kind.0, kind.name());
        assert!(page.contains(&row), "docs/wal-format.md has no row that begins {row}");
    }
}
