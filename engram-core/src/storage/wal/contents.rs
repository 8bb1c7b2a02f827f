//! What the frames of a segment say, kept until they are applied, and small for that.
//!
//! Deliberately absent: where it comes from, and what it means to anybody.

use super::footer::digest_step;
use super::frame::{Codec, HEADER_BYTES_U64, Header, Kind};
use super::plan::FramePlace;
use crate::record::{Definition, Instant, Known, LegacyImported, Record};

/// What one frame says, without its contents. A start holds as many as a few segments have frames.
#[derive(Debug)]
pub struct Fact {
    /// Its LSN.
    pub lsn: u64,
    /// Its H.
    synced: u64,
    key: u64,
    what: What,
    /// Number of its space among those of [`Contents`].
    space: u32,
    offset: u32,
    bytes: u32,
    payload_crc: u32,
    reserved: [u8; 4],
    /// Its payload's schema.
    pub schema: u16,
    /// What it holds.
    pub kind: Kind,
    codec: Codec,
}

impl Fact {
    /// Where it begins.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset.into()
    }

    /// Whether nothing is left of it but what a footer or a header tells.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self.what, What::LostForget | What::LostForgetSpace)
    }

    /// Its length, or that of the damage in its place.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.into()
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Text {
    start: u32,
    bytes: u16,
}

#[derive(Debug)]
enum What {
    /// Two fields stand for the id's [`Text`], which would take more alone.
    Remember {
        seconds: i64,
        nanos: u32,
        dimension: u32,
        id_start: u32,
        id_bytes: u16,
    },
    Forget(Option<Box<Instant>>),
    SpaceDefined(Box<Definition>),
    ForgetSpace(Option<Box<Instant>>),
    /// Two of which nothing is left but what a footer or a header tells.
    LostForget,
    LostForgetSpace,
    LegacyImported(Box<LegacyImported>),
    Mark,
    Unknown,
}

/// A space that frames are of.
#[derive(Debug, Clone, Copy)]
struct Space {
    key: u64,
    /// Its name, where a frame told it.
    name: Option<Text>,
}

/// The frames of one segment, small enough to keep until they are applied.
#[derive(Debug, Default)]
pub struct Contents {
    /// The salt of the segment.
    salt: u64,
    text: String,
    /// The spaces, one after the other as frames of another one came; some stand here more than once.
    spaces: Vec<Space>,
    /// Of all frames so far, as a footer has it.
    pub digest: u32,
    /// One a frame, in order of offset.
    pub facts: Vec<Fact>,
}

impl Contents {
    /// Adds a frame, and what it says where this version understands it.
    pub fn add(&mut self, header: Header, offset: u64, record: Option<&Record<'_>>) {
        self.add_known(header, offset, record.map(Record::known));
    }

    fn add_known(&mut self, header: Header, offset: u64, known: Option<Known<'_>>) {
        let mut name = None;
        let what = match known {
            None => What::Unknown,
            Some(Known::Remember { space, id, when, dimension }) => {
                name = Some(space);
                let Text { start: id_start, bytes: id_bytes } = self.text(id);
                let Instant { seconds, nanos } = when;
                What::Remember { seconds, nanos, dimension, id_start, id_bytes }
            }
            Some(Known::Forget { at }) => What::Forget(at.map(Box::new)),
            Some(Known::SpaceDefined { space, definition }) => {
                name = Some(space);
                What::SpaceDefined(Box::new(definition.clone()))
            }
            Some(Known::ForgetSpace { at, space }) => {
                name = Some(space);
                What::ForgetSpace(at.map(Box::new))
            }
            Some(Known::LegacyImported(file)) => What::LegacyImported(Box::new(file.clone())),
            Some(Known::Mark) => What::Mark,
        };
        self.digest = digest_step(self.digest, &header);
        self.salt = header.salt;
        let fact = self.fact(header, offset, header.frame_bytes(), name, what);
        self.facts.push(fact);
    }

    /// Adds a `Forget` whose bytes were damaged, known by its key: it still forgets.
    pub fn add_lost_forget(&mut self, header: Header, offset: u64, bytes: u64) {
        let what = match header.kind {
            Kind::FORGET => What::LostForget,
            _ => What::LostForgetSpace,
        };
        let at = self.facts.partition_point(|fact| fact.lsn < header.lsn);
        let fact = self.fact(header, offset, bytes, None, what);
        self.facts.insert(at, fact);
    }

    fn fact(
        &mut self,
        header: Header,
        offset: u64,
        bytes: u64,
        name: Option<&str>,
        what: What,
    ) -> Fact {
        let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Fact {
            lsn: header.lsn,
            synced: header.synced,
            key: header.key,
            what,
            space: self.space(header.space_key, name),
            offset: narrow(offset),
            bytes: narrow(bytes),
            payload_crc: header.payload_crc,
            reserved: header.reserved,
            schema: header.schema,
            kind: header.kind,
            codec: header.codec,
        }
    }

    fn text(&mut self, text: &str) -> Text {
        let start = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        self.text.push_str(text);
        Text { start, bytes: u16::try_from(text.len()).unwrap_or(u16::MAX) }
    }

    fn space(&mut self, key: u64, name: Option<&str>) -> u32 {
        let is_it = |last: &Space| {
            let told = last.name.map(|text| self.get(text));
            last.key == key && (name.is_none() || name == told)
        };
        if !self.spaces.last().is_some_and(is_it) {
            let name = name.map(|name| self.text(name));
            self.spaces.push(Space { key, name });
        }
        u32::try_from(self.spaces.len() - 1).unwrap_or(u32::MAX)
    }

    fn get(&self, text: Text) -> &str {
        let start = text.start as usize;
        self.text.get(start..start + usize::from(text.bytes)).unwrap_or_default()
    }

    fn space_of(&self, fact: &Fact) -> Option<&Space> {
        self.spaces.get(fact.space as usize)
    }

    /// A frame's header.
    #[must_use]
    pub fn header(&self, fact: &Fact) -> Header {
        let bytes = fact.bytes().saturating_sub(HEADER_BYTES_U64);
        Header {
            length: u32::try_from(bytes).ok().filter(|_| !fact.is_lost()).unwrap_or(0),
            kind: fact.kind,
            codec: fact.codec,
            schema: fact.schema,
            lsn: fact.lsn,
            synced: fact.synced,
            salt: self.salt,
            key: fact.key,
            space_key: self.space_of(fact).map_or(0, |space| space.key),
            payload_crc: fact.payload_crc,
            reserved: fact.reserved,
        }
    }

    /// What a frame says; `None` where this version does not understand it.
    #[must_use]
    pub fn known<'a>(&'a self, fact: &'a Fact) -> Option<Known<'a>> {
        let space = || {
            let name = self.space_of(fact).and_then(|space| space.name);
            name.map_or("", |name| self.get(name))
        };
        match &fact.what {
            &What::Remember { seconds, nanos, dimension, id_start, id_bytes } => {
                Some(Known::Remember {
                    space: space(),
                    id: self.get(Text { start: id_start, bytes: id_bytes }),
                    when: Instant { seconds, nanos },
                    dimension,
                })
            }
            What::Forget(at) => Some(Known::Forget { at: at.as_deref().copied() }),
            What::SpaceDefined(definition) => {
                Some(Known::SpaceDefined { space: space(), definition })
            }
            What::ForgetSpace(at) => {
                Some(Known::ForgetSpace { at: at.as_deref().copied(), space: space() })
            }
            What::LostForget => Some(Known::Forget { at: None }),
            What::LostForgetSpace => Some(Known::ForgetSpace { at: None, space: space() }),
            What::LegacyImported(file) => Some(Known::LegacyImported(file)),
            What::Mark => Some(Known::Mark),
            What::Unknown => None,
        }
    }
}

/// Memory for what a scan finds. It is some megabytes a segment: filled again and again, it is asked
/// of the system once.
#[derive(Debug, Default)]
pub struct Room {
    /// Empty.
    pub contents: Contents,
    /// Empty.
    pub frames: Vec<FramePlace>,
}

impl Room {
    /// That of a scan whose findings nobody needs any more.
    #[must_use]
    pub fn of(mut contents: Contents, mut frames: Vec<FramePlace>) -> Self {
        contents.facts.clear();
        contents.text.clear();
        contents.spaces.clear();
        frames.clear();
        let Contents { text, spaces, facts, .. } = contents;
        Self { contents: Contents { text, spaces, facts, ..Contents::default() }, frames }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a start takes of memory stands in `docs/performance.md`.
    #[test]
    fn a_fact_is_nine_words() {
        assert_eq!(size_of::<Fact>(), 72);
    }

    #[test]
    fn a_header_comes_back_as_it_was_whatever_stands_between() {
        let of = |lsn: u64, kind: u8, codec: u8, length: u32, key: u64, space_key: u64| Header {
            length,
            kind: Kind(kind),
            codec: Codec(codec),
            schema: 7,
            lsn,
            synced: lsn / 2,
            salt: 99,
            key,
            space_key,
            payload_crc: 5 + length,
            reserved: [1, 2, 3, 4],
        };
        let headers = [
            of(1, 1, 0, 40, 10, 20),
            of(2, 2, 1, 0, 11, 20),
            of(3, 2, 1, 12, 11, 0),
            of(4, 6, 0, 0, 0, 0),
            of(5, 77, 9, 1000, 12, 21),
            of(6, 1, 0, 41, 10, 20),
        ];
        let mut contents = Contents::default();
        let remembered = |id| {
            let when = Instant { seconds: 3, nanos: 4 };
            Known::Remember { space: "s", id, when, dimension: 2 }
        };
        let mut offset = 8192;
        for (header, id) in headers.into_iter().zip(["a", "", "", "", "", "b"]) {
            let known = (!id.is_empty()).then(|| remembered(id));
            contents.add_known(header, offset, known);
            offset += header.frame_bytes();
        }
        let lost = of(7, 2, 1, 0, 13, 0);
        contents.add_lost_forget(lost, 100, 5000);
        let back: Vec<Header> = contents.facts.iter().map(|f| contents.header(f)).collect();
        assert_eq!(back, headers.into_iter().chain([lost]).collect::<Vec<_>>());
        let known = |at: usize| contents.known(&contents.facts[at]);
        assert!(matches!(
            known(0),
            Some(Known::Remember { space: "s", id: "a", dimension: 2, .. })
        ));
        assert!(matches!(known(5), Some(Known::Remember { space: "s", id: "b", .. })));
        assert!(known(1).is_none());
        assert!(matches!(known(6), Some(Known::Forget { at: None })));
    }
}
