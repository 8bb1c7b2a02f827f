//! What the frames of a segment say, kept until they are applied, and small for that.
//!
//! Deliberately absent: where it comes from, and what it means to anybody.

use super::footer::digest_step;
use super::frame::{Header, Kind};
use super::plan::FramePlace;
use crate::record::{Definition, Instant, Known, LegacyImported, Record};

/// What one frame says, without its contents.
#[derive(Debug)]
pub struct Fact {
    /// Its header.
    pub header: Header,
    /// Where it begins.
    pub offset: u64,
    /// Its length, or that of the damage in its place.
    pub bytes: u64,
    what: What,
}

#[derive(Debug, Clone, Copy)]
struct Text {
    start: u32,
    bytes: u16,
}

#[derive(Debug)]
enum What {
    Remember { space: Text, id: Text, when: Instant, dimension: u32 },
    Forget { at: Option<Instant> },
    SpaceDefined { space: Text, definition: Box<Definition> },
    ForgetSpace { at: Option<Instant>, space: Text },
    LegacyImported(Box<LegacyImported>),
    Mark,
    Unknown,
}

/// The frames of one segment, small enough to keep until they are applied.
#[derive(Debug, Default)]
pub struct Contents {
    text: String,
    last_space: Option<Text>,
    /// Of all frames so far, as a footer has it.
    pub digest: u32,
    /// One a frame, in order of offset.
    pub facts: Vec<Fact>,
}

impl Contents {
    /// Adds a frame, and what it says where this version understands it.
    pub fn add(&mut self, header: Header, offset: u64, record: Option<&Record<'_>>) {
        let what = match record.map(Record::known) {
            None => What::Unknown,
            Some(Known::Remember { space, id, when, dimension }) => {
                let space = self.space(space);
                What::Remember { space, id: self.text(id), when, dimension }
            }
            Some(Known::Forget { at }) => What::Forget { at },
            Some(Known::SpaceDefined { space, definition }) => {
                let definition = Box::new(definition.clone());
                What::SpaceDefined { space: self.text(space), definition }
            }
            Some(Known::ForgetSpace { at, space }) => {
                What::ForgetSpace { at, space: self.text(space) }
            }
            Some(Known::LegacyImported(file)) => What::LegacyImported(Box::new(file.clone())),
            Some(Known::Mark) => What::Mark,
        };
        self.digest = digest_step(self.digest, &header);
        self.facts.push(Fact { header, offset, bytes: header.frame_bytes(), what });
    }

    /// Adds a `Forget` whose bytes were damaged, known by its key: it still forgets.
    pub fn add_lost_forget(&mut self, header: Header, offset: u64, bytes: u64) {
        let what = match header.kind {
            Kind::FORGET => What::Forget { at: None },
            _ => What::ForgetSpace { at: None, space: Text { start: 0, bytes: 0 } },
        };
        let at = self.facts.partition_point(|fact| fact.header.lsn < header.lsn);
        self.facts.insert(at, Fact { header, offset, bytes, what });
    }

    fn text(&mut self, text: &str) -> Text {
        let start = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        self.text.push_str(text);
        Text { start, bytes: u16::try_from(text.len()).unwrap_or(u16::MAX) }
    }

    fn space(&mut self, space: &str) -> Text {
        if let Some(last) = self.last_space
            && self.get(last) == space
        {
            return last;
        }
        let text = self.text(space);
        self.last_space = Some(text);
        text
    }

    fn get(&self, text: Text) -> &str {
        let start = text.start as usize;
        self.text.get(start..start + usize::from(text.bytes)).unwrap_or_default()
    }

    /// What a frame says; `None` where this version does not understand it.
    #[must_use]
    pub fn known<'a>(&'a self, fact: &'a Fact) -> Option<Known<'a>> {
        match &fact.what {
            What::Remember { space, id, when, dimension } => Some(Known::Remember {
                space: self.get(*space),
                id: self.get(*id),
                when: *when,
                dimension: *dimension,
            }),
            What::Forget { at } => Some(Known::Forget { at: *at }),
            What::SpaceDefined { space, definition } => {
                Some(Known::SpaceDefined { space: self.get(*space), definition })
            }
            What::ForgetSpace { at, space } => {
                Some(Known::ForgetSpace { at: *at, space: self.get(*space) })
            }
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
        frames.clear();
        let Contents { text, facts, .. } = contents;
        Self { contents: Contents { text, facts, ..Contents::default() }, frames }
    }
}
