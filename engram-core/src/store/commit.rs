//! Group commit: decide in LSN order, write with one call, sync once, apply, answer.
//!
//! A step machine over the log's writer: [`Committer::begin`] takes all changes that wait, and
//! [`Committer::step`] does one act at a time until every one has its answer. Preconditions are
//! decided over the directory plus the changes of the batch that are not applied yet, so two
//! callers never both create one id. A change becomes visible when it is acknowledged.
//!
//! Deliberately absent: threads and whoever waits. No timer delays a lonely write.

mod decide;

use std::collections::VecDeque;

use smallvec::SmallVec;

use self::decide::{Overlay, Verdict};
use crate::error::{Error, Result};
use crate::record::{self, Definition};
use crate::sim::{Broken, broken};
use crate::storage::wal::compact::MemoryCell;
use crate::storage::wal::frame::{self, Header, Kind};
use crate::storage::wal::knowledge::{Applied, Knowledge, Place};
use crate::storage::wal::writer::{NewFrame, Pushed, Writer};
use crate::store::change::{Answers, Change, Done, Group, What};
use crate::store::directory::Directory;
use crate::store::options::Durability;

/// Bytes that are gathered before they are written; more of the batch follows in a next write.
const WRITE_BYTES: usize = 8 << 20;

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There is more to do.
    More,
    /// All groups have their answers: [`Committer::answers`].
    Done,
}

#[derive(Debug)]
enum Phase {
    Decide,
    Flush { then: After },
    Rotate,
    Sync,
    Apply,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Decide,
    Rotate,
    Sync,
}

/// A change on its way.
#[derive(Debug)]
struct Waiting {
    group: usize,
    index: usize,
    change: Change,
    refused_room: bool,
}

/// A frame that is in the buffer or written, not yet applied.
#[derive(Debug)]
struct Staged {
    group: usize,
    /// `None` for a definition that came before its episode.
    index: Option<usize>,
    header: Header,
    place: Place,
    payload: Vec<u8>,
    id: String,
    flushed: bool,
}

/// The answers to a group so far.
type Gathered = SmallVec<[Option<Result<Done>>; 1]>;

/// The machine. What it gathers a batch in is kept for the next one.
#[derive(Debug)]
pub struct Committer<T> {
    durability: Durability,
    /// What a space is fixed to whose first episode brings no embedding.
    configured: Option<Definition>,
    groups: Vec<(T, Gathered)>,
    waiting: VecDeque<Waiting>,
    staged: Vec<Staged>,
    overlay: Overlay,
    /// Answers without a frame that say what a staged one made true, and how many were staged then: they
    /// stand and fall with it.
    resting: Vec<(usize, usize, usize)>,
    phase: Phase,
    /// What poisoned the batch.
    failure: Option<Error>,
}

impl<T> Committer<T> {
    /// With nothing to do.
    #[must_use]
    pub fn new(durability: Durability) -> Self {
        Self {
            durability,
            configured: None,
            groups: Vec::new(),
            waiting: VecDeque::new(),
            staged: Vec::new(),
            overlay: Overlay::default(),
            resting: Vec::new(),
            phase: Phase::Decide,
            failure: None,
        }
    }

    /// A space whose first episode brings no embedding is fixed to this.
    #[must_use]
    pub fn with_configured(self, configured: Option<Definition>) -> Self {
        Self { configured, ..self }
    }

    /// Whether a batch is under way.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.groups.is_empty()
    }

    /// Takes a batch. The one before must be done.
    pub fn begin(&mut self, groups: impl IntoIterator<Item = Group<T>>) {
        debug_assert!(self.groups.is_empty(), "a batch is under way");
        for (number, group) in groups.into_iter().enumerate() {
            let mut answers = Gathered::with_capacity(group.changes.len());
            for (index, change) in group.changes.into_iter().enumerate() {
                match change {
                    Ok(change) => {
                        answers.push(None);
                        let group = number;
                        self.waiting.push_back(Waiting {
                            group,
                            index,
                            change,
                            refused_room: false,
                        });
                    }
                    Err(e) => answers.push(Some(Err(e))),
                }
            }
            self.groups.push((group.ticket, answers));
        }
        self.phase = Phase::Decide;
    }

    /// Does the next act. `memory` gives the directory, behind its owner's lock.
    pub fn step(&mut self, writer: &mut Writer, memory: &dyn DirectoryCell) -> Step {
        match self.act(writer, memory) {
            Ok(true) => Step::Done,
            Ok(false) => Step::More,
            Err(e) => {
                self.abort(&e);
                Step::Done
            }
        }
    }

    /// Gives up the batch: whoever has no answer yet gets this error.
    pub fn abort(&mut self, e: &Error) {
        self.fail_all(e);
        self.failure = Some(e.clone());
    }

    /// Does acts until the batch is done.
    pub fn run(&mut self, writer: &mut Writer, memory: &dyn DirectoryCell) {
        while self.step(writer, memory) == Step::More {}
    }

    /// Gives the groups of a batch that is done back, with their answers.
    pub fn answers(&mut self) -> impl Iterator<Item = (T, Answers)> + '_ {
        let failure = self.failure.take().unwrap_or(Error::Closed);
        self.groups.drain(..).map(move |(ticket, answers)| {
            let answer = |a: Option<_>| a.unwrap_or_else(|| Err(failure.clone()));
            (ticket, answers.into_iter().map(answer).collect())
        })
    }

    fn act(&mut self, writer: &mut Writer, memory: &dyn DirectoryCell) -> Result<bool> {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Decide) {
            Phase::Decide => self.decide(writer, memory)?,
            Phase::Flush { then } => self.flush(writer, then)?,
            Phase::Rotate => self.rotate(writer)?,
            Phase::Sync => {
                if self.durability == Durability::Always && !broken(Broken::AckBeforeSync) {
                    writer.sync()?;
                }
                Phase::Apply
            }
            Phase::Apply => {
                self.apply(memory);
                if self.waiting.is_empty() {
                    return Ok(true);
                }
                Phase::Decide
            }
        };
        Ok(false)
    }

    /// Decides changes in order and puts them into the writer's buffer, as many as fit.
    fn decide(&mut self, writer: &mut Writer, memory: &dyn DirectoryCell) -> Result<Phase> {
        let mut next = Phase::Flush { then: After::Sync };
        let mut failed = None;
        memory.with(&mut |directory| {
            while let Some(waiting) = self.waiting.pop_front() {
                match self.decide_one(waiting, writer, directory) {
                    Ok(Pushing::Done) => {}
                    Ok(Pushing::NoRoom(waiting)) => {
                        self.waiting.push_front(waiting);
                        next = Phase::Flush { then: After::Rotate };
                        break;
                    }
                    Err(e) => {
                        failed = Some(e);
                        break;
                    }
                }
                if writer.buffered() >= WRITE_BYTES && !self.waiting.is_empty() {
                    next = Phase::Flush { then: After::Decide };
                    break;
                }
            }
        });
        failed.map_or(Ok(next), Err)
    }

    /// # Errors
    /// Only a poisoned writer.
    fn decide_one(
        &mut self,
        waiting: Waiting,
        writer: &mut Writer,
        directory: &Directory,
    ) -> Result<Pushing> {
        let replaced = match self.check(&waiting.change, directory) {
            Ok(Verdict::Go { replaced }) => replaced,
            Ok(Verdict::NothingToDo) => {
                return Ok(self.answer_at_once(&waiting, Ok(Done::default())));
            }
            Err(e) => return Ok(self.answer_at_once(&waiting, Err(e))),
        };
        if let What::Remember { .. } = waiting.change.what
            && self.definition(&waiting.change, directory).is_none()
            && let Some(definition) = self.first_definition(&waiting.change)
            && !self.define(&waiting, definition, writer)?
        {
            return Ok(self.no_room(waiting, writer));
        }
        let urgent = matches!(waiting.change.kind(), Kind::FORGET | Kind::FORGET_SPACE);
        let new = NewFrame {
            kind: waiting.change.kind(),
            key: waiting.change.key,
            space_key: waiting.change.space_key,
            payload: &waiting.change.payload,
            payload_crc: waiting.change.payload_crc,
            urgent: urgent && waiting.refused_room,
        };
        let (header, place) = match writer.push(&new)? {
            Pushed::Placed(header, place) => (header, place),
            Pushed::NoRoom => return Ok(self.no_room(waiting, writer)),
        };
        self.note(&waiting.change, header.lsn);
        let Waiting { group, index, change, .. } = waiting;
        let done = Done { lsn: header.lsn, id: String::new(), replaced, forgotten: 0 };
        self.answer(group, index, Ok(done));
        let Change { payload, id, .. } = change;
        let index = Some(index);
        self.staged.push(Staged { group, index, header, place, payload, id, flushed: false });
        Ok(Pushing::Done)
    }

    /// Answers a change that makes no frame.
    fn answer_at_once(&mut self, waiting: &Waiting, answer: Result<Done>) -> Pushing {
        if self.overlay.tells_of(&waiting.change) {
            self.resting.push((waiting.group, waiting.index, self.staged.len()));
        }
        self.answer(waiting.group, waiting.index, answer);
        Pushing::Done
    }

    /// There is no room: rotate, or if that was tried, refuse.
    fn no_room(&mut self, waiting: Waiting, writer: &Writer) -> Pushing {
        if waiting.refused_room {
            let e = writer.full_error();
            self.answer(waiting.group, waiting.index, Err(e));
            return Pushing::Done;
        }
        Pushing::NoRoom(waiting)
    }

    /// What fixes a space that nothing has fixed: the vector that comes, or the configuration.
    fn first_definition(&self, change: &Change) -> Option<Definition> {
        change.definition.clone().or_else(|| self.configured.clone())
    }

    /// Puts the definition of a space before the episode that fixes it.
    fn define(
        &mut self,
        waiting: &Waiting,
        definition: Definition,
        writer: &mut Writer,
    ) -> Result<bool> {
        let payload = record::encode_space_defined(&waiting.change.space(), &definition);
        if !writer.has_room_for(&[payload.len(), waiting.change.payload.len()]) {
            return Ok(false);
        }
        let new = NewFrame {
            kind: Kind::SPACE_DEFINED,
            key: waiting.change.space_key,
            space_key: waiting.change.space_key,
            payload: &payload,
            payload_crc: frame::crc(&payload),
            urgent: false,
        };
        let Pushed::Placed(header, place) = writer.push(&new)? else { return Ok(false) };
        self.overlay.definitions.insert(waiting.change.space_key, definition);
        let (group, id) = (waiting.group, String::new());
        self.staged.push(Staged { group, index: None, header, place, payload, id, flushed: false });
        Ok(true)
    }

    fn flush(&mut self, writer: &mut Writer, then: After) -> Result<Phase> {
        match writer.flush() {
            Ok(()) => {
                for staged in self.staged.iter_mut().rev().take_while(|s| !s.flushed) {
                    staged.flushed = true;
                }
            }
            Err(e @ Error::DiskFull { .. }) => {
                self.refuse_unwritten(&e);
                return Ok(Phase::Sync);
            }
            Err(e) => return Err(e),
        }
        Ok(match then {
            After::Decide => Phase::Decide,
            After::Rotate => Phase::Rotate,
            After::Sync => Phase::Sync,
        })
    }

    /// What could not be written is refused; what was decided after it is decided again.
    fn refuse_unwritten(&mut self, e: &Error) {
        let first = self.staged.iter().position(|s| !s.flushed).unwrap_or(self.staged.len());
        for staged in self.staged.split_off(first) {
            if let Some(index) = staged.index {
                self.answer(staged.group, index, Err(e.clone()));
            }
        }
        for (group, index, staged) in std::mem::take(&mut self.resting) {
            if staged > first {
                self.answer(group, index, Err(e.clone()));
            }
        }
    }

    fn rotate(&mut self, writer: &mut Writer) -> Result<Phase> {
        match writer.rotate() {
            Ok(()) => {}
            Err(Error::DiskFull { .. }) => {
                if let Some(waiting) = self.waiting.front_mut() {
                    waiting.refused_room = true;
                }
            }
            Err(e) => return Err(e),
        }
        Ok(Phase::Decide)
    }

    /// Makes the batch visible: it is durable now (or as durable as was asked for).
    fn apply(&mut self, memory: &dyn DirectoryCell) {
        self.overlay.clear();
        self.resting.clear();
        let (staged, groups) = (&mut self.staged, &mut self.groups);
        memory.with_mut(&mut |directory| {
            for staged in staged.iter() {
                let applied = apply_one(directory, staged);
                let answer = staged.index.and_then(|i| groups.get_mut(staged.group)?.1.get_mut(i));
                if let Some(Some(Ok(done))) = answer {
                    done.forgotten = applied.forgotten;
                }
            }
        });
        for staged in staged.drain(..) {
            let answer = staged.index.and_then(|i| groups.get_mut(staged.group)?.1.get_mut(i));
            if let Some(Some(Ok(done))) = answer {
                done.id = staged.id;
            }
        }
    }

    fn answer(&mut self, group: usize, index: usize, answer: Result<Done>) {
        if let Some(place) = self.groups.get_mut(group).and_then(|g| g.1.get_mut(index)) {
            *place = Some(answer);
        }
    }

    /// The log is poisoned: nobody knows what became of what was not acknowledged.
    fn fail_all(&mut self, e: &Error) {
        for staged in std::mem::take(&mut self.staged) {
            if let Some(index) = staged.index {
                self.answer(staged.group, index, Err(e.clone()));
            }
        }
        for waiting in std::mem::take(&mut self.waiting) {
            self.answer(waiting.group, waiting.index, Err(e.clone()));
        }
        for (group, index, _) in std::mem::take(&mut self.resting) {
            self.answer(group, index, Err(e.clone()));
        }
        self.overlay.clear();
        self.phase = Phase::Decide;
    }
}

#[derive(Debug)]
enum Pushing {
    Done,
    NoRoom(Waiting),
}

fn apply_one(directory: &mut Directory, staged: &Staged) -> Applied {
    let record = record::decode(&staged.header, &staged.payload);
    let known = record.as_ref().map(record::Record::known);
    directory.apply(&staged.header, staged.place, known.as_ref())
}

/// The directory, behind whatever lock its owner has.
pub trait DirectoryCell: MemoryCell {
    /// Looks at it.
    fn with(&self, look: &mut dyn FnMut(&Directory));
    /// Changes it.
    fn with_mut(&self, change: &mut dyn FnMut(&mut Directory));
}
