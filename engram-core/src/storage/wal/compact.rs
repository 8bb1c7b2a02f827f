//! Compaction: a few sealed segments become one, without their dead frames.
//!
//! A step machine: each [`Compaction::step`] copies a quarter of a megabyte, or does a part of
//! what ends a run: sync, verify by reading back, rename (the commit point), sync of the
//! directory, swap of positions, removal of the inputs. A crash before the rename leaves a
//! temporary file, after it inputs that are obsolete by their generation; both are removed at
//! the next start. A failure before the rename leaves the inputs as they were.
//!
//! A frame is dropped only for a named, durable reason; one that nothing explains is kept.
//! Deliberately absent: when to run ([`crate::store::policy`]), and waiting.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::contents::Room;
use super::env::{Env, remove_if_there};
use super::footer::{Footer, FooterBuilder, digest_step};
use super::frame::{Header, Kind};
use super::knowledge::{Dropped, Fate, Knowledge, Place, Reason};
use super::plan::{Position, judge};
use super::quarantine::{Keep, Quarantine};
use super::read::{ReadHeader, SpanReader};
use super::recover::{damage_incident, log_incident, lost_header};
use super::report::{CompactionStats, Incident, IncidentKind};
use super::scan::{Scanner, Span};
use super::segment::{FRAMES_START, SegmentHeader, SegmentName, TEMPORARY_SUFFIX};
use super::segments::{Segment, Segments};
use super::survey::{RecoveryProgress, Surveyed, scan};
use crate::disk::{File, Open, write_all_at};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::record::SCHEMA;
use crate::sim::{Broken, broken};

/// Frames whose positions are swapped under one lock.
const SWAP_FRAMES: usize = 1024;

/// The memory, behind whatever lock its owner has.
pub trait MemoryCell: Send + Sync {
    /// Looks at it.
    fn read(&self, look: &mut dyn FnMut(&dyn Knowledge));
    /// Changes it.
    fn write(&self, change: &mut dyn FnMut(&mut dyn Knowledge));
}

/// What a step did.
#[derive(Debug)]
pub enum Progress {
    /// There is more to do.
    More {
        /// Bytes that this step read, to copy or to verify them, for whoever limits the rate.
        bytes: u64,
    },
    /// The run is over.
    Done(CompactionStats),
}

#[derive(Debug)]
enum Phase {
    /// Quarantine what is damaged in the input of this index.
    Examine(usize),
    /// Copy from the input of this index.
    Copy(usize, Option<Box<SpanReader>>),
    Seal,
    /// Read the output back.
    Verify(Box<ReadBack>),
    Commit,
    /// Swap positions from this frame on.
    Swap(usize),
    /// Account for dropped frames from this one on.
    Account(usize),
    Remove,
    Finished,
}

/// What was read of an input.
#[derive(Debug, Default)]
struct Read {
    /// Its frames.
    frames: usize,
    /// Their digest, as a footer has it.
    digest: u32,
    /// Whether its footer is there, and these are the frames that it lists.
    whole: bool,
}

/// How far the output was read back.
#[derive(Debug)]
struct ReadBack {
    reader: SpanReader,
    /// Frames that were found in their place.
    found: usize,
    /// Whether the footer was.
    sealed: bool,
}

/// One run.
#[derive(Debug)]
pub struct Compaction {
    env: Arc<Env>,
    segments: Arc<Segments>,
    quarantine: Arc<Quarantine>,
    inputs: Vec<Segment>,
    /// Frames die only by LSNs up to here: those above may not be on disk yet.
    durable_lsn: u64,
    number: u32,
    name: SegmentName,
    header: SegmentHeader,
    file: Arc<dyn File>,
    buffer: Vec<u8>,
    written: u64,
    footer: FooterBuilder,
    kept: Vec<(Header, u32)>,
    gone: Vec<Header>,
    dropped: Dropped,
    revived: VecDeque<Header>,
    unexplained: Vec<u64>,
    damage: bool,
    /// What was read of the input that is copied.
    read: Read,
    /// By input that was examined, where frames stand that belong elsewhere, and what others it has.
    examined: HashMap<u32, (Vec<u64>, Read)>,
    stats: CompactionStats,
    begun: Duration,
    /// Bytes that this step read.
    moved: u64,
    phase: Phase,
}

impl Compaction {
    /// Begins a run over neighbouring sealed segments.
    ///
    /// # Errors
    /// What the disk said; nothing was changed.
    pub fn begin(
        env: Arc<Env>,
        segments: Arc<Segments>,
        quarantine: Arc<Quarantine>,
        inputs: Vec<Segment>,
        durable_lsn: u64,
        reason: &str,
    ) -> Result<Self> {
        let (inputs, generation) = segments.with_unsettled(inputs);
        let (Some(first), Some(last)) = (inputs.first(), inputs.last()) else {
            return Err(Error::NoSuch { what: "a segment to compact".into() });
        };
        let generation = generation + 1;
        let header = SegmentHeader {
            identity: first.header.identity,
            salt: env.rng.u64(),
            start: first.header.start,
            end: last.end,
            generation,
            synced: last.end,
            // What the first of them says of the segment before it stays true.
            skipped: if first.header.cut { first.header.skipped } else { (0, 0) },
            cut: first.header.cut,
            accepted_loss: false,
        };
        let name = SegmentName { start: header.start, rewritten: Some((last.end, generation)) };
        let path = env.wal_path(&format!("{}{TEMPORARY_SUFFIX}", name.file_name()));
        let io = |e: std::io::Error| Error::io("make", path.clone(), &e);
        remove_if_there(env.disk.as_ref(), &path).map_err(io)?;
        let file = env.disk.open(&path, Open::New).map_err(io)?;
        let stats = CompactionStats {
            reason: reason.to_owned(),
            segments_in: inputs.len() as u64,
            segments_out: 1,
            bytes_before: inputs.iter().map(|s| s.file_bytes.max(s.bytes)).sum(),
            ..CompactionStats::default()
        };
        Ok(Self {
            number: segments.new_number(),
            begun: env.clock.elapsed(),
            buffer: header.encode_block(),
            env,
            segments,
            quarantine,
            inputs,
            durable_lsn,
            name,
            header,
            file,
            written: 0,
            footer: FooterBuilder::default(),
            kept: Vec::new(),
            gone: Vec::new(),
            dropped: Dropped::default(),
            revived: VecDeque::new(),
            unexplained: Vec::new(),
            damage: false,
            read: Read::default(),
            examined: HashMap::new(),
            stats,
            moved: 0,
            phase: Phase::Examine(0),
        })
    }

    /// The segments that the run rewrites.
    #[must_use]
    pub fn input_numbers(&self) -> Vec<u32> {
        self.inputs.iter().map(|input| input.number).collect()
    }

    /// Does the next part.
    ///
    /// # Errors
    /// What went wrong. The run is over: the inputs stand untouched (after the commit point,
    /// the output stands complete), and another run may begin.
    pub fn step(&mut self, memory: &dyn MemoryCell) -> Result<Progress> {
        let phase = std::mem::replace(&mut self.phase, Phase::Finished);
        let committed = matches!(phase, Phase::Swap(_) | Phase::Account(_) | Phase::Remove);
        let result = self.act(phase, memory);
        if result.is_err() && !committed {
            self.segments.forget_unlisted(self.number);
            // It is removed at the next start if it cannot be now.
            if let Err(e) = remove_if_there(self.env.disk.as_ref(), &self.temporary()) {
                tracing::debug!(cause = %e, "an unfinished segment stays until the next start");
            }
        }
        result
    }

    fn act(&mut self, phase: Phase, memory: &dyn MemoryCell) -> Result<Progress> {
        self.moved = 0;
        self.phase = match phase {
            Phase::Examine(at) => self.examine(at)?,
            Phase::Copy(at, reader) => self.copy(at, reader, memory)?,
            Phase::Seal => self.seal()?,
            Phase::Verify(reading) => self.verify(reading)?,
            Phase::Commit => self.commit()?,
            Phase::Swap(at) => self.swap(at, memory),
            Phase::Account(at) => self.account(at, memory),
            Phase::Remove => {
                self.remove(memory);
                let took = self.env.clock.elapsed().saturating_sub(self.begun);
                self.stats.duration_seconds = took.as_secs_f64();
                return Ok(Progress::Done(self.stats.clone()));
            }
            Phase::Finished => return Ok(Progress::Done(self.stats.clone())),
        };
        Ok(Progress::More { bytes: self.moved })
    }

    fn temporary(&self) -> std::path::PathBuf {
        self.env.wal_path(&format!("{}{TEMPORARY_SUFFIX}", self.name.file_name()))
    }

    /// The file of an input, and its length.
    fn opened(&self, input: &Segment) -> Result<(Arc<dyn File>, u64)> {
        let path = self.env.wal_path(&input.name.file_name());
        let file = self.env.disk.open(&path, Open::Read);
        let file = file.map_err(|e| Error::io("open", path.clone(), &e))?;
        let file_bytes = file.len().map_err(|e| Error::io("measure", path, &e))?;
        Ok((file, file_bytes))
    }

    /// Keeps the damage of an input, and finds the forgets that were lost in it.
    fn examine(&mut self, at: usize) -> Result<Phase> {
        let Some(input) = self.inputs.get(at) else { return Ok(Phase::Copy(0, None)) };
        if !input.needs_rewrite {
            return Ok(Phase::Examine(at + 1));
        }
        let (source, file_bytes) = self.opened(input)?;
        let surveyed = Surveyed {
            name: input.name,
            header: ReadHeader { header: input.header, bad: [false; 2], unreadable: [false; 2] },
            file_bytes,
            position: Position::Followed { next_start: input.end + 1, cut: None },
            held: Some(Arc::clone(&source)),
        };
        let (facts, contents) =
            scan(&self.env, &surveyed, false, &RecoveryProgress::default(), Room::default())?;
        let judgement = judge(&facts, surveyed.position);
        let read = Read { frames: facts.frames.len(), digest: contents.digest, whole: true };
        self.examined.insert(input.number, (facts.misplaced.clone(), read));
        let file = input.name.file_name();
        for loss in &judgement.damaged {
            self.damage = true;
            let mut name = None;
            if loss.bytes > 0 {
                let keep = Keep::of_damage(&file, loss, input.header.salt);
                let kept = self.quarantine.keep(source.as_ref(), &keep);
                let kept = kept.map_err(|e| {
                    Error::io("copy damaged bytes to", self.env.quarantine_dir(), &e)
                })?;
                name = Some(kept);
            }
            let incident = damage_incident(&self.env, &facts, loss, name);
            // What is written down nowhere must be found again: the input stays.
            self.name_incident(&incident).map_err(|e| {
                Error::io("add an incident to the list in", self.env.quarantine_dir(), &e)
            })?;
            for listed in &loss.listed {
                if matches!(listed.kind, Kind::FORGET | Kind::FORGET_SPACE) {
                    self.revived.push_back(lost_header(listed.kind, listed.lsn, listed.key));
                }
            }
        }
        self.revived.make_contiguous().sort_by_key(|header| header.lsn);
        Ok(Phase::Examine(at + 1))
    }

    fn copy(
        &mut self,
        at: usize,
        reader: Option<Box<SpanReader>>,
        memory: &dyn MemoryCell,
    ) -> Result<Phase> {
        let Some(input) = self.inputs.get(at).cloned() else {
            self.write_revived(u64::MAX, memory)?;
            return Ok(Phase::Seal);
        };
        let mut reader = if let Some(reader) = reader {
            reader
        } else {
            let (file, bytes) = self.opened(&input)?;
            let header = &input.header;
            let examined = self.examined.get(&input.number);
            let misplaced = examined.map(|(misplaced, _)| misplaced.clone()).unwrap_or_default();
            let scanner =
                Scanner::new(header.salt, header.start, input.end, FRAMES_START).without(misplaced);
            self.read = Read::default();
            Box::new(SpanReader::new(file, bytes, scanner, false))
        };
        let path = self.env.wal_path(&input.name.file_name());
        let from = reader.offset();
        while reader.offset() < from + self.env.scale.step_bytes {
            let item = reader.next_span().map_err(|e| Error::io("read", path.clone(), &e.cause))?;
            let Some(item) = item else {
                let Read { frames, digest, .. } = self.read;
                let same = |(_, read): &(_, Read)| (read.frames, read.digest) == (frames, digest);
                let whole = self.examined.get(&input.number).map_or(self.read.whole, same);
                if !whole {
                    return Err(self.found_damage(&input, reader.offset()));
                }
                self.moved = reader.offset() - from;
                self.flush()?;
                return Ok(Phase::Copy(at + 1, None));
            };
            match item.span {
                Span::Frame(header) if header.kind != Kind::FOOTER => {
                    let payload = item.payload;
                    self.read.frames += 1;
                    self.read.digest = digest_step(self.read.digest, &header);
                    self.write_revived(header.lsn, memory)?;
                    self.judge_frame(&header, payload, memory)?;
                }
                Span::Frame(_) => {
                    let Read { frames, digest, .. } = self.read;
                    let footer = Footer::decode(item.payload);
                    let is_of = |f: Footer| f.frames.len() == frames && f.digest == digest;
                    self.read.whole = footer.is_some_and(is_of);
                }
                Span::Bad { .. } | Span::Stale { .. } if !input.needs_rewrite => {
                    return Err(self.found_damage(&input, item.offset));
                }
                _ => {}
            }
        }
        self.moved = reader.offset() - from;
        self.flush()?;
        Ok(Phase::Copy(at, Some(reader)))
    }

    /// There is damage in an input that no start has seen: it is examined first, in another run.
    fn found_damage(&self, input: &Segment, offset: u64) -> Error {
        self.segments.update(input.number, |segment| segment.needs_rewrite = true);
        Error::Damaged { file: input.name.file_name(), offset, lsn: input.header.start }
    }

    /// Forgets that were lost to damage, up to an LSN, as frames of nothing but their key.
    fn write_revived(&mut self, before: u64, memory: &dyn MemoryCell) -> Result<()> {
        while let Some(header) = self.revived.front().copied().filter(|h| h.lsn < before) {
            self.revived.pop_front();
            self.judge_frame(&header, &[], memory)?;
        }
        Ok(())
    }

    fn judge_frame(
        &mut self,
        header: &Header,
        payload: &[u8],
        memory: &dyn MemoryCell,
    ) -> Result<()> {
        let mut fate = Fate::Live;
        memory.read(&mut |knowledge| fate = knowledge.fate(header, &self.dropped));
        if let Fate::Dead(Reason::SupersededBy(lsn) | Reason::ForgottenBy(lsn)) = fate
            && lsn > self.durable_lsn
        {
            fate = Fate::Live;
        }
        if broken(Broken::UndecodableDropped) && header.schema > SCHEMA
            || broken(Broken::UnknownDropped) && fate == Fate::Unexplained
        {
            fate = Fate::Dead(Reason::NothingOlder);
        }
        match fate {
            Fate::Dead(_) => {
                memory.read(&mut |knowledge| knowledge.note_dropped(header, &mut self.dropped));
                self.gone.push(*header);
                self.stats.frames_dropped += 1;
                return Ok(());
            }
            Fate::Unexplained => self.unexplained.push(header.lsn),
            Fate::Live => {}
        }
        self.keep_frame(header, payload)
    }

    fn keep_frame(&mut self, header: &Header, payload: &[u8]) -> Result<()> {
        let frame = Header { salt: self.header.salt, ..*header };
        let offset = self.written + self.buffer.len() as u64;
        self.footer.add(offset, &frame);
        self.buffer.extend_from_slice(&frame.encode());
        self.buffer.extend_from_slice(payload);
        self.kept.push((frame, u32::try_from(offset).unwrap_or(u32::MAX)));
        self.stats.frames_kept += 1;
        if self.buffer.len() as u64 >= self.env.scale.step_bytes { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let written = write_all_at(self.file.as_ref(), &self.buffer, self.written);
        written.map_err(|e| Error::io("write", self.temporary(), &e))?;
        self.file.begin_sync(self.written, self.buffer.len() as u64);
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn seal(&mut self) -> Result<Phase> {
        let end = self.header.end;
        let footer = self.footer.finish(self.header.salt, end, end);
        self.buffer.extend_from_slice(&footer);
        self.flush()?;
        self.file.sync().map_err(|e| Error::io("sync", self.temporary(), &e))?;
        let scanner = Scanner::new(self.header.salt, self.header.start, end, FRAMES_START);
        let reader = SpanReader::new(Arc::clone(&self.file), self.written, scanner, false);
        Ok(Phase::Verify(Box::new(ReadBack { reader, found: 0, sealed: false })))
    }

    /// Reads the output back: every frame in its place, the footer as it was built.
    fn verify(&mut self, mut reading: Box<ReadBack>) -> Result<Phase> {
        let path = self.temporary();
        let damaged = |offset| Error::Damaged {
            file: path.display().to_string(),
            offset,
            lsn: self.header.start,
        };
        let from = reading.reader.offset();
        while reading.reader.offset() < from + self.env.scale.step_bytes {
            let item = reading.reader.next_span();
            let item = item.map_err(|e| Error::io("read back", path.clone(), &e.cause))?;
            let Some(item) = item else {
                let whole = reading.sealed && reading.found == self.kept.len();
                self.moved = reading.reader.offset() - from;
                return if whole { Ok(Phase::Commit) } else { Err(damaged(self.written)) };
            };
            match item.span {
                Span::Frame(header) if header.kind == Kind::FOOTER => reading.sealed = true,
                Span::Frame(header)
                    if self.kept.get(reading.found).is_some_and(|&(kept, offset)| {
                        kept == header && u64::from(offset) == item.offset
                    }) =>
                {
                    reading.found += 1;
                }
                _ => return Err(damaged(item.offset)),
            }
        }
        self.moved = reading.reader.offset() - from;
        Ok(Phase::Verify(reading))
    }

    fn commit(&mut self) -> Result<Phase> {
        let path = self.env.wal_path(&self.name.file_name());
        let disk = self.env.disk.as_ref();
        let renamed = disk.rename(&self.temporary(), &path);
        if let Err(e) = renamed.and_then(|()| {
            let early = broken(Broken::InputsRemovedEarly);
            if early { Ok(()) } else { disk.sync_dir(&self.env.wal_dir()) }
        }) {
            // It is complete and may stay; a later run over this range must replace it too.
            self.segments.note_unsettled(&self.header);
            return Err(Error::io("give a rewritten segment its name", path, &e));
        }
        self.segments.note_settled(&self.header);
        self.segments.add_unlisted(self.number, Arc::clone(&self.file));
        Ok(Phase::Swap(0))
    }

    fn swap(&mut self, at: usize, memory: &dyn MemoryCell) -> Phase {
        let end = self.kept.len().min(at + SWAP_FRAMES);
        let (kept, number) = (&self.kept[at..end], self.number);
        memory.write(&mut |knowledge| {
            for (header, offset) in kept {
                let bytes = u32::try_from(header.frame_bytes()).unwrap_or(u32::MAX);
                knowledge.moved(header, Place { segment: number, offset: *offset, bytes });
            }
        });
        if end == self.kept.len() { Phase::Account(0) } else { Phase::Swap(end) }
    }

    fn account(&mut self, at: usize, memory: &dyn MemoryCell) -> Phase {
        let end = self.gone.len().min(at + SWAP_FRAMES);
        let gone = &self.gone[at..end];
        memory.write(&mut |knowledge| {
            for header in gone {
                knowledge.dropped(header);
            }
        });
        if end == self.gone.len() { Phase::Remove } else { Phase::Account(end) }
    }

    fn remove(&mut self, memory: &dyn MemoryCell) {
        let numbers: Vec<u32> = self.inputs.iter().map(|input| input.number).collect();
        let output = Segment {
            number: self.number,
            name: self.name,
            header: self.header,
            end: self.header.end,
            bytes: self.written,
            file_bytes: self.written,
            sealed: true,
            needs_rewrite: false,
            keep: false,
        };
        let (sweep, number) = (self.damage, self.number);
        let mut since = None;
        memory.write(&mut |knowledge| {
            for &input in &numbers {
                let old = knowledge.usage(input).forgotten_since;
                since = match (since, old) {
                    (Some(a), Some(b)) => Some(i64::min(a, b)),
                    (a, b) => a.or(b),
                };
                knowledge.segment_gone(input, sweep);
            }
            if knowledge.usage(number).dead > 0 {
                knowledge.carry_forgotten_since(number, since);
            }
        });
        self.segments.replace(&numbers, output);
        self.segments.forget_unlisted(self.number);
        self.stats.bytes_after = self.written;
        self.stats.bytes_reclaimed = self.stats.bytes_before.saturating_sub(self.written);
        self.alarm_unexplained();
        for input in &self.inputs {
            let path = self.env.wal_path(&input.name.file_name());
            if let Err(e) = remove_if_there(self.env.disk.as_ref(), &path) {
                // It is obsolete by its generation: the next start removes it.
                tracing::warn!(file = %path.display(), cause = %e, "a replaced segment stays until the next start");
            }
        }
    }

    fn alarm_unexplained(&self) {
        Metrics::set(&self.env.metrics.unexplained_frames, self.unexplained.len() as u64);
        let Some(&first) = self.unexplained.first() else { return };
        let incident = Incident {
            id: format!("unexplained-{first}"),
            at: self.env.clock.now(),
            verdict: IncidentKind::Unexplained,
            file: self.name.file_name(),
            offset: 0,
            bytes: 0,
            lsns: self.unexplained.iter().take(1000).map(|&lsn| [lsn, lsn]).collect(),
            keys: Vec::new(),
            quarantined_as: None,
            detail: format!(
                "{} frames are known to nothing in memory, and no durable reason says that they \
                 are dead; they are kept; please report this",
                self.unexplained.len()
            ),
        };
        if let Err(e) = self.name_incident(&incident) {
            tracing::warn!(cause = %e, "the incident list cannot be written");
        }
    }

    /// Logs an incident and adds it to the list, unless it is known.
    fn name_incident(&self, incident: &Incident) -> std::io::Result<()> {
        if !self.quarantine.knows(&incident.id) {
            log_incident(incident);
        }
        self.quarantine.record(incident).map(|_| ())
    }
}
