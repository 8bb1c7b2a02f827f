//! One change to the memory, and its bytes under each schema version.
//!
//! `Remember` (schema 1), all integers little-endian:
//!
//! | at | bytes | field |
//! | --- | --- | --- |
//! | 0 | 8 + 4 | when: seconds since 1970 (i64), nanoseconds (i32, same sign) |
//! | 12 | 8 + 4 | recorded at, likewise |
//! | 24 | 4 | dimensions D of the embedding, 0 for none |
//! | 28 | 2 + 2 | bytes S of the space's name, bytes I of the id |
//! | 32 | 4 × D | the embedding, f32, so that an index can be filled without decoding the rest |
//! | … | S, I | space and id, UTF-8 |
//! | … | rest | a protobuf message: `what`, `where`, `who`, `confidence`, `metadata` |
//!
//! `Forget` and `ForgetSpace` (schema 1): time as above, S, I, space, id. A newer reader reads
//! every older schema for ever; golden files prove it. Deliberately absent: frames and LSNs.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::borrow::Cow;
use std::hash::Hasher as _;
use std::sync::Arc;

use jiff::Timestamp;
use prost::Message as _;
use siphasher::sip::SipHasher13;

use crate::episode::Episode;
use crate::sim::knows_schema;
use crate::storage::wal::bytes::{i64_at, take, u16_at, u32_at};
use crate::storage::wal::frame::{Codec, Header, Kind};

/// The schema version that this program writes, for every kind.
pub const SCHEMA: u16 = 1;
/// Where the embedding stands in a `Remember`.
pub const EMBEDDING_AT: usize = 32;

/// A time as the directory keeps it: 12 bytes, ordered as times are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds, 0 to 999,999,999.
    pub nanos: u32,
}

impl From<Timestamp> for Instant {
    fn from(time: Timestamp) -> Self {
        let (mut seconds, mut nanos) = (time.as_second(), time.subsec_nanosecond());
        if nanos < 0 {
            seconds = seconds.saturating_sub(1);
            nanos = nanos.saturating_add(1_000_000_000);
        }
        Self { seconds, nanos: u32::try_from(nanos).unwrap_or(0) }
    }
}

impl Instant {
    /// As a timestamp; `None` outside the years that one can hold.
    #[must_use]
    pub fn timestamp(self) -> Option<Timestamp> {
        Timestamp::new(self.seconds, i32::try_from(self.nanos).ok()?).ok()
    }

    fn put(self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(&self.seconds.to_le_bytes());
        buffer.extend_from_slice(&self.nanos.to_le_bytes());
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let raw = take(bytes, 12)?;
        let (seconds, nanos) = (i64_at(raw, 0)?, u32_at(raw, 8)?);
        (nanos < 1_000_000_000).then_some(Self { seconds, nanos })
    }
}

/// Keyed hashes of names, so that a header can say whose a frame is without its text.
///
/// SipHash-1-3 under the store's secret: nobody outside can make two names collide.
#[derive(Debug, Clone, Copy)]
pub struct Keys {
    secret: [u8; 16],
}

impl Keys {
    /// With a store's secret.
    #[must_use]
    pub fn new(secret: [u8; 16]) -> Self {
        Self { secret }
    }

    /// The key of an episode.
    #[must_use]
    pub fn episode(&self, space: &str, id: &str) -> u64 {
        self.hash(space, Some(id))
    }

    /// The key of a space.
    #[must_use]
    pub fn space(&self, space: &str) -> u64 {
        self.hash(space, None)
    }

    fn hash(&self, space: &str, id: Option<&str>) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.secret);
        hasher.write(space.as_bytes());
        hasher.write_u8(0xFF);
        if let Some(id) = id {
            hasher.write(id.as_bytes());
            hasher.write_u8(0xFE);
        }
        hasher.finish()
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct RememberBody {
    #[prost(string, tag = "1")]
    what: String,
    #[prost(string, optional, tag = "2")]
    place: Option<String>,
    #[prost(string, repeated, tag = "3")]
    who: Vec<String>,
    #[prost(double, tag = "4")]
    confidence: f64,
    #[prost(string, optional, tag = "5")]
    metadata: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SpaceDefinedBody {
    #[prost(string, tag = "1")]
    space: String,
    #[prost(uint32, tag = "2")]
    dimension: u32,
    #[prost(string, optional, tag = "3")]
    model: Option<String>,
    #[prost(bool, tag = "4")]
    made: bool,
}

/// Whose vectors a space holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Definition {
    /// Their dimension; 0 where the space is free again: callers' first vector will fix it.
    pub dimension: u32,
    /// The model that made them, where it is known.
    pub model: Option<Arc<str>>,
    /// Whether a configured embedder makes them from the text; else callers give them.
    pub made: bool,
}

impl Definition {
    /// Given by callers, of a model that only they know.
    #[must_use]
    pub fn given(dimension: u32) -> Self {
        Self { dimension, model: None, made: false }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct LegacyImportedBody {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(uint64, tag = "2")]
    size: u64,
    #[prost(bytes = "vec", tag = "3")]
    sha256: Vec<u8>,
}

/// A v0.1.0 file that has been taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyImported {
    /// Its path in the data directory.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: Vec<u8>,
}

/// A decoded payload, borrowing from it.
#[derive(Debug, Clone, PartialEq)]
pub enum Record<'a> {
    /// An episode is kept.
    Remember(Remember<'a>),
    /// An episode is forgotten. Key-only ones have no names and no time.
    Forget {
        /// When.
        at: Option<Instant>,
        /// Its space.
        space: &'a str,
        /// Its id.
        id: &'a str,
    },
    /// A space gets its dimension and model.
    SpaceDefined {
        /// The space.
        space: String,
        /// Whose vectors it holds from now on.
        definition: Definition,
    },
    /// A space is forgotten.
    ForgetSpace {
        /// When.
        at: Option<Instant>,
        /// The space.
        space: &'a str,
    },
    /// A v0.1.0 file was taken over.
    LegacyImported(LegacyImported),
    /// A mark.
    Mark,
}

/// What the directory needs of a record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Known<'a> {
    /// An episode is kept.
    Remember {
        /// Its space.
        space: &'a str,
        /// Its id.
        id: &'a str,
        /// When it happened.
        when: Instant,
        /// Dimensions of its embedding.
        dimension: u32,
    },
    /// An episode is forgotten.
    Forget {
        /// When, if known.
        at: Option<Instant>,
    },
    /// A space gets its dimension and model.
    SpaceDefined {
        /// The space.
        space: &'a str,
        /// Whose vectors it holds from now on.
        definition: &'a Definition,
    },
    /// A space is forgotten.
    ForgetSpace {
        /// When, if known.
        at: Option<Instant>,
        /// The space.
        space: &'a str,
    },
    /// A v0.1.0 file was taken over.
    LegacyImported(&'a LegacyImported),
    /// A mark.
    Mark,
}

impl Record<'_> {
    /// The part that the directory needs.
    #[must_use]
    pub fn known(&self) -> Known<'_> {
        match self {
            Self::Remember(r) => {
                Known::Remember { space: r.space, id: r.id, when: r.when, dimension: r.dimension() }
            }
            Self::Forget { at, .. } => Known::Forget { at: *at },
            Self::SpaceDefined { space, definition } => Known::SpaceDefined { space, definition },
            Self::ForgetSpace { at, space } => Known::ForgetSpace { at: *at, space },
            Self::LegacyImported(file) => Known::LegacyImported(file),
            Self::Mark => Known::Mark,
        }
    }
}

/// A `Remember`, its body not yet decoded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Remember<'a> {
    /// When it happened.
    pub when: Instant,
    /// When it was recorded.
    pub recorded_at: Instant,
    /// The space.
    pub space: &'a str,
    /// The id.
    pub id: &'a str,
    /// The embedding's bytes, f32 little-endian.
    pub embedding: &'a [u8],
    body: &'a [u8],
}

impl Remember<'_> {
    /// The embedding's dimensions, 0 for none.
    #[must_use]
    pub fn dimension(&self) -> u32 {
        u32::try_from(self.embedding.len() >> 2).unwrap_or(u32::MAX)
    }

    /// The episode and when it was recorded; `None` when the body is no such message.
    #[must_use]
    pub fn episode(&self) -> Option<(Episode, Timestamp)> {
        let body = RememberBody::decode(self.body).ok()?;
        let embedding = self
            .embedding
            .chunks_exact(4)
            .filter_map(|chunk| Some(f32::from_le_bytes(chunk.try_into().ok()?)))
            .collect();
        let episode = Episode {
            id: self.id.to_owned(),
            what: body.what,
            when: self.when.timestamp()?,
            place: body.place,
            who: body.who,
            embedding,
            confidence: body.confidence,
            metadata: body.metadata,
        };
        Some((episode, self.recorded_at.timestamp()?))
    }
}

/// The payload of a `Remember`, and the id back.
#[must_use]
pub fn encode_remember(space: &str, episode: Episode, recorded_at: Timestamp) -> (Vec<u8>, String) {
    let Episode { id, what, when, place, who, embedding, confidence, metadata } = episode;
    let body = RememberBody { what, place, who, confidence, metadata };
    let names = space.len().saturating_add(id.len());
    let fixed = EMBEDDING_AT.saturating_add(embedding.len().saturating_mul(4));
    let mut payload =
        Vec::with_capacity(fixed.saturating_add(names).saturating_add(body.encoded_len()));
    Instant::from(when).put(&mut payload);
    Instant::from(recorded_at).put(&mut payload);
    payload.extend_from_slice(&u32::try_from(embedding.len()).unwrap_or(u32::MAX).to_le_bytes());
    payload.extend_from_slice(&short_len(space));
    payload.extend_from_slice(&short_len(&id));
    for value in embedding {
        payload.extend_from_slice(&value.to_le_bytes());
    }
    payload.extend_from_slice(space.as_bytes());
    payload.extend_from_slice(id.as_bytes());
    body.encode_raw(&mut payload);
    (payload, id)
}

/// The payload of a `Forget` (or, with an empty id, of a `ForgetSpace`).
#[must_use]
pub fn encode_forget(space: &str, id: &str, at: Timestamp) -> Vec<u8> {
    let mut payload = Vec::new();
    Instant::from(at).put(&mut payload);
    payload.extend_from_slice(&short_len(space));
    payload.extend_from_slice(&short_len(id));
    payload.extend_from_slice(space.as_bytes());
    payload.extend_from_slice(id.as_bytes());
    payload
}

/// The payload of a `SpaceDefined`.
#[must_use]
pub fn encode_space_defined(space: &str, definition: &Definition) -> Vec<u8> {
    let Definition { dimension, ref model, made } = *definition;
    let model = model.as_deref().map(str::to_owned);
    SpaceDefinedBody { space: space.to_owned(), dimension, model, made }.encode_to_vec()
}

/// The payload of a `LegacyImported`.
#[must_use]
pub fn encode_legacy_imported(record: &LegacyImported) -> Vec<u8> {
    let LegacyImported { path, size, sha256 } = record.clone();
    LegacyImportedBody { path, size, sha256 }.encode_to_vec()
}

/// Names are at most 64 KiB long; the limits are far below, v0.1.0's longer ones are refused.
fn short_len(name: &str) -> [u8; 2] {
    u16::try_from(name.len()).unwrap_or(u16::MAX).to_le_bytes()
}

/// What an intact payload means, or `None` where this version does not understand it.
#[must_use]
pub fn decode<'a>(header: &Header, payload: &'a [u8]) -> Option<Record<'a>> {
    if header.kind == Kind::MARK {
        return Some(Record::Mark);
    }
    if header.codec == Codec::KEY_ONLY {
        return match header.kind {
            Kind::FORGET => Some(Record::Forget { at: None, space: "", id: "" }),
            Kind::FORGET_SPACE => Some(Record::ForgetSpace { at: None, space: "" }),
            _ => None,
        };
    }
    if header.codec != Codec::PLAIN || !knows_schema(header.schema) {
        return None;
    }
    decode_plain(header.kind, payload)
}

/// The space that a payload of this program's schema is about.
#[must_use]
pub fn space_of(kind: Kind, payload: &[u8]) -> Cow<'_, str> {
    match decode_plain(kind, payload) {
        Some(Record::SpaceDefined { space, .. }) => Cow::Owned(space),
        Some(
            Record::Remember(Remember { space, .. })
            | Record::Forget { space, .. }
            | Record::ForgetSpace { space, .. },
        ) => Cow::Borrowed(space),
        Some(Record::LegacyImported(_) | Record::Mark) | None => Cow::Borrowed(""),
    }
}

fn decode_plain(kind: Kind, payload: &[u8]) -> Option<Record<'_>> {
    match kind {
        Kind::REMEMBER => decode_remember(payload).map(Record::Remember),
        Kind::FORGET => {
            let (at, space, id) = decode_forget(payload)?;
            Some(Record::Forget { at: Some(at), space, id })
        }
        Kind::FORGET_SPACE => {
            let (at, space, _) = decode_forget(payload)?;
            Some(Record::ForgetSpace { at: Some(at), space })
        }
        Kind::SPACE_DEFINED => {
            let SpaceDefinedBody { space, dimension, model, made } =
                SpaceDefinedBody::decode(payload).ok()?;
            let definition = Definition { dimension, model: model.map(Arc::from), made };
            Some(Record::SpaceDefined { space, definition })
        }
        Kind::LEGACY_IMPORTED => {
            let LegacyImportedBody { path, size, sha256 } =
                LegacyImportedBody::decode(payload).ok()?;
            Some(Record::LegacyImported(LegacyImported { path, size, sha256 }))
        }
        _ => None,
    }
}

fn decode_remember(payload: &[u8]) -> Option<Remember<'_>> {
    let mut rest = payload;
    let when = Instant::take(&mut rest)?;
    let recorded_at = Instant::take(&mut rest)?;
    let dimension = usize::try_from(u32_at(take(&mut rest, 4)?, 0)?).ok()?;
    let space_bytes = usize::from(u16_at(take(&mut rest, 2)?, 0)?);
    let id_bytes = usize::from(u16_at(take(&mut rest, 2)?, 0)?);
    let embedding = take(&mut rest, dimension.checked_mul(4)?)?;
    let space = str::from_utf8(take(&mut rest, space_bytes)?).ok()?;
    let id = str::from_utf8(take(&mut rest, id_bytes)?).ok()?;
    Some(Remember { when, recorded_at, space, id, embedding, body: rest })
}

fn decode_forget(payload: &[u8]) -> Option<(Instant, &str, &str)> {
    let mut rest = payload;
    let at = Instant::take(&mut rest)?;
    let space_bytes = usize::from(u16_at(take(&mut rest, 2)?, 0)?);
    let id_bytes = usize::from(u16_at(take(&mut rest, 2)?, 0)?);
    let space = str::from_utf8(take(&mut rest, space_bytes)?).ok()?;
    let id = str::from_utf8(take(&mut rest, id_bytes)?).ok()?;
    rest.is_empty().then_some((at, space, id))
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

    fn header(kind: Kind) -> Header {
        Header {
            length: 0,
            kind,
            codec: Codec::PLAIN,
            schema: SCHEMA,
            lsn: 1,
            synced: 0,
            salt: 0,
            key: 0,
            space_key: 0,
            payload_crc: 0,
            reserved: [0; 4],
        }
    }

    fn episode() -> Episode {
        Episode {
            id: "é1".into(),
            what: "met Ann\n\0".into(),
            when: "1969-12-31T23:59:59.123456789Z".parse().unwrap(),
            place: Some("Oslo".into()),
            who: vec!["Ann".into(), "李雷".into()],
            embedding: vec![0.1, -2.5e-38, f32::MAX],
            confidence: 0.1,
            metadata: Some("{\"a\": 1e999}".into()),
        }
    }

    #[test]
    fn an_episode_reads_back_as_it_was_written() {
        let recorded: Timestamp = "2026-11-23T01:02:03.4Z".parse().unwrap();
        let (payload, _) = encode_remember("s", episode(), recorded);
        let Some(Record::Remember(read)) = decode(&header(Kind::REMEMBER), &payload) else {
            panic!("undecodable");
        };
        assert_eq!((read.space, read.id, read.dimension()), ("s", "é1", 3));
        assert_eq!(read.episode(), Some((episode(), recorded)));
    }

    #[test]
    fn a_cut_payload_is_undecodable_and_never_a_panic() {
        let (payload, _) = encode_remember("space", episode(), Timestamp::UNIX_EPOCH);
        for cut in 0..payload.len() {
            if let Some(Record::Remember(read)) = decode(&header(Kind::REMEMBER), &payload[..cut]) {
                assert_ne!(read.episode(), Some((episode(), Timestamp::UNIX_EPOCH)));
            }
        }
        let forget = encode_forget("space", "id", Timestamp::UNIX_EPOCH);
        for cut in 0..forget.len() {
            assert_eq!(decode(&header(Kind::FORGET), &forget[..cut]), None);
        }
    }

    #[test]
    fn another_schema_or_kind_is_not_guessed_at() {
        let payload = encode_forget("space", "id", Timestamp::UNIX_EPOCH);
        assert!(decode(&header(Kind::FORGET), &payload).is_some());
        assert_eq!(decode(&Header { schema: 2, ..header(Kind::FORGET) }, &payload), None);
        assert_eq!(decode(&header(Kind(77)), &payload), None);
        assert_eq!(decode(&Header { codec: Codec(9), ..header(Kind::FORGET) }, &payload), None);
    }

    #[test]
    fn instants_order_as_times_do() {
        let times =
            ["-000100-01-01T00:00:00.5Z", "1969-12-31T23:59:59.9Z", "1970-01-01T00:00:00.1Z"];
        let instants: Vec<Instant> =
            times.iter().map(|t| t.parse::<Timestamp>().unwrap().into()).collect();
        assert!(instants.is_sorted());
        for (instant, time) in instants.iter().zip(times) {
            assert_eq!(instant.timestamp(), Some(time.parse().unwrap()));
        }
    }

    #[test]
    fn keys_tell_names_apart_and_depend_on_the_secret() {
        let keys = Keys::new([7; 16]);
        assert_ne!(keys.episode("a", "bc"), keys.episode("ab", "c"));
        assert_ne!(keys.episode("a", ""), keys.space("a"));
        assert_ne!(keys.episode("a", "b"), Keys::new([8; 16]).episode("a", "b"));
    }
}
