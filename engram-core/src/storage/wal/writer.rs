//! The one owner of the active segment: frames into a buffer, one write, one sync, rotation.
//!
//! A step machine without threads: whoever drives it calls [`Writer::push`] until it has no
//! more or there is no room, then [`Writer::flush`], [`Writer::sync`], [`Writer::rotate`].
//!
//! Every failed write or sync poisons it, except a full disk. Poisoned, it takes nothing more:
//! after a failed sync the kernel may have dropped the pages and marked them clean, so trying
//! again can lie. Deliberately absent: what changes mean, and who waits for them.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::blocks::Blocks;
use super::env::{Env, is_full};
use super::footer::{Checkpoint, FooterBuilder};
use super::frame::{self, Codec, HEADER_BYTES_U64, Header, Kind};
use super::head::Head;
use super::knowledge::Place;
use super::prealloc::{Filling, Spare, Surplus, ZeroFill, next_segment_bytes, urgent_spare_name};
use super::segment::{FRAMES_START, Identity, SegmentHeader, SegmentName};
use super::segments::{Segment, Segments};
use crate::disk::{File, write_all_at, write_all_blocks_at};
use crate::error::{Error, Result};
use crate::sim::{Broken, broken, schema};

/// Room at a segment's end that only forgets may use while there is no next segment.
pub const FORGET_RESERVE_BYTES: u64 = 1 << 20;

/// A frame to be written.
#[derive(Debug, Clone, Copy)]
pub struct NewFrame<'a> {
    /// What it is.
    pub kind: Kind,
    /// Keyed hash of space and id.
    pub key: u64,
    /// Keyed hash of the space.
    pub space_key: u64,
    /// Its payload.
    pub payload: &'a [u8],
    /// CRC-32C of the payload.
    pub payload_crc: u32,
    /// Whether it may use the room kept for forgets.
    pub urgent: bool,
}

/// The segment being written.
#[derive(Debug)]
pub struct Active {
    /// Its number.
    pub number: u32,
    /// Its header.
    pub header: SegmentHeader,
    /// Its file.
    pub file: Arc<dyn File>,
    /// Bytes of the file.
    pub capacity: u64,
    /// Where the next frame goes.
    pub offset: u64,
    /// Its footer so far.
    pub footer: FooterBuilder,
}

/// What to take back when a batch cannot be written.
#[derive(Debug, Clone, Copy)]
struct Undo {
    offset: u64,
    next_lsn: u64,
    footer: Checkpoint,
}

/// How much has been made ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It stands in the buffer.
    Placed(Header, Place),
    /// The segment is full: flush, rotate, push again.
    NoRoom,
}

/// The writer.
#[derive(Debug)]
pub struct Writer {
    env: Arc<Env>,
    segments: Arc<Segments>,
    identity: Identity,
    segment_bytes_max: u64,
    /// Whether a sync follows each write, so that the page cache would be in the way only.
    syncs_each: bool,
    active: Active,
    buffer: Blocks,
    undo: Option<Undo>,
    next_lsn: u64,
    written_lsn: u64,
    synced_lsn: u64,
    /// Bytes written since the last sync.
    unsynced_bytes: u64,
    /// Bytes that a sync had to do lately.
    bytes_a_sync: u64,
    spare: Option<Spare>,
    /// What the frame that found no room needs of a segment.
    room_wanted: u64,
    full: bool,
    /// The active segment has its footer, and the next one could not get its name yet.
    sealed: bool,
    poisoned: Option<String>,
    /// What can be given back.
    pub surplus: Vec<Surplus>,
}

impl Writer {
    /// Goes on in `active`; `next_lsn` comes next, and all below it is synced. `syncs_each`: a sync
    /// follows each write.
    #[must_use]
    pub fn new(
        env: Arc<Env>,
        segments: Arc<Segments>,
        segment_bytes_max: u64,
        syncs_each: bool,
        active: Active,
        next_lsn: u64,
    ) -> Self {
        let identity = active.header.identity;
        let last = next_lsn - 1;
        Self {
            env,
            segments,
            identity,
            segment_bytes_max,
            syncs_each,
            active,
            buffer: Blocks::default(),
            undo: None,
            next_lsn,
            written_lsn: last,
            synced_lsn: last,
            unsynced_bytes: 0,
            bytes_a_sync: 0,
            spare: None,
            room_wanted: 0,
            full: false,
            sealed: false,
            poisoned: None,
            surplus: Vec::new(),
        }
    }

    /// The highest LSN written.
    #[must_use]
    pub fn written_lsn(&self) -> u64 {
        self.written_lsn
    }

    /// The highest LSN known to be synced.
    #[must_use]
    pub fn synced_lsn(&self) -> u64 {
        self.synced_lsn
    }

    /// Why it takes no more, if so.
    #[must_use]
    pub fn poisoned(&self) -> Option<&str> {
        self.poisoned.as_deref()
    }

    /// Whether the disk was full when last asked for room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Bytes of the active segment that are not used yet.
    #[must_use]
    pub fn unused_bytes(&self) -> u64 {
        self.active.capacity.saturating_sub(self.active.offset)
    }

    /// Number of the active segment.
    #[must_use]
    pub fn active_number(&self) -> u32 {
        self.active.number
    }

    /// Whether the next segment waits.
    #[must_use]
    pub fn has_spare(&self) -> bool {
        self.spare.is_some()
    }

    /// Bytes of the spare.
    #[must_use]
    pub fn spare_bytes(&self) -> u64 {
        self.spare.as_ref().map_or(0, |spare| spare.bytes)
    }

    /// Takes a spare that was made in the background; the disk has room again.
    pub fn give_spare(&mut self, spare: Spare) {
        self.spare = Some(spare);
        self.set_full(false);
    }

    /// How large the next segment should be.
    #[must_use]
    pub fn next_segment_bytes(&self) -> u64 {
        let log_bytes: u64 = self.segments.list().iter().map(|segment| segment.bytes).sum();
        next_segment_bytes(log_bytes, self.env.scale.segment_bytes_min, self.segment_bytes_max)
    }

    /// How it should be made.
    #[must_use]
    pub fn next_segment_filling(&self) -> Filling {
        let large = self.bytes_a_sync >= self.env.scale.reserved_from_bytes;
        if large { Filling::Reserved } else { Filling::Written }
    }

    /// Poisons the writer, as a panicking driver must.
    pub fn poison(&mut self, cause: String) -> Error {
        if self.poisoned.is_none() {
            tracing::error!(
                cause,
                "the log takes no more writes; reads go on; restart to recover what was \
                 acknowledged"
            );
            self.env.metrics.poisoned.set(1.0);
            self.poisoned = Some(cause);
        }
        self.poison_error()
    }

    fn poison_error(&self) -> Error {
        Error::Poisoned { cause: self.poisoned.clone().unwrap_or_default() }
    }

    /// # Errors
    /// [`Error::Poisoned`], if it is.
    pub fn check_poison(&self) -> Result<()> {
        if self.poisoned.is_some() { Err(self.poison_error()) } else { Ok(()) }
    }

    /// Puts a frame into the buffer, with the next LSN.
    ///
    /// # Errors
    /// [`Error::Poisoned`].
    pub fn push(&mut self, new: &NewFrame<'_>) -> Result<Pushed> {
        self.check_poison()?;
        let bytes = HEADER_BYTES_U64 + new.payload.len() as u64;
        let reserve = if new.urgent { 0 } else { self.forget_reserve(1) };
        let needed = bytes + self.active.footer.bytes_with_one_more() + reserve;
        if self.sealed || self.active.offset + needed > self.active.capacity {
            let empty = FooterBuilder::default().bytes_with_one_more();
            self.room_wanted = FRAMES_START + bytes + empty;
            return Ok(Pushed::NoRoom);
        }
        if self.undo.is_none() {
            self.undo = Some(Undo {
                offset: self.active.offset,
                next_lsn: self.next_lsn,
                footer: self.active.footer.checkpoint(),
            });
        }
        let header = Header {
            length: u32::try_from(new.payload.len()).unwrap_or(u32::MAX),
            kind: new.kind,
            codec: Codec::PLAIN,
            schema: schema(),
            lsn: self.next_lsn,
            synced: self.synced_lsn,
            salt: self.active.header.salt,
            key: new.key,
            space_key: new.space_key,
            payload_crc: new.payload_crc,
            reserved: [0; 4],
        };
        self.buffer.push(&header.encode());
        self.buffer.push(new.payload);
        let place = Place {
            segment: self.active.number,
            offset: u32::try_from(self.active.offset).unwrap_or(u32::MAX),
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
        };
        self.active.footer.add(self.active.offset, &header);
        self.active.offset += bytes;
        self.next_lsn += 1;
        Ok(Pushed::Placed(header, place))
    }

    /// Whether frames of these payloads, in bytes, fit beside each other, so that none of them
    /// is written without the others. Where not, the next segment is to hold them.
    pub fn has_room_for(&mut self, payloads: &[usize]) -> bool {
        let listed = FooterBuilder::default().bytes_with_one_more();
        let frame = |&payload: &usize| HEADER_BYTES_U64 + payload as u64 + listed;
        let bytes: u64 = payloads.iter().map(frame).sum();
        // One frame more will be listed when the last of these asks for itself.
        let reserve = self.forget_reserve(0);
        let needed = bytes + self.active.footer.bytes_with_one_more() + reserve;
        if self.sealed || self.active.offset + needed > self.active.capacity {
            self.room_wanted = FRAMES_START + bytes + listed;
            return false;
        }
        true
    }

    /// Nothing while the next segment waits. A new segment takes what it was made for (an
    /// episode, and the definition of its space) to its last byte, or none would ever do.
    fn forget_reserve(&self, frames_of_new_segment: u64) -> u64 {
        if self.spare.is_some() || self.active.footer.count() <= frames_of_new_segment {
            return 0;
        }
        FORGET_RESERVE_BYTES.min(self.active.capacity / 4)
    }

    /// Bytes in the buffer.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffer.pushed().len()
    }

    /// Writes the buffer with one call.
    ///
    /// # Errors
    /// [`Error::DiskFull`]: what was pushed since the last flush is taken back, nothing of it
    /// is on disk. Else [`Error::Poisoned`].
    pub fn flush(&mut self) -> Result<()> {
        self.check_poison()?;
        let Some(undo) = self.undo.take() else { return Ok(()) };
        match self.write_pushed(undo.offset) {
            Ok(()) => {
                self.unsynced_bytes += self.active.offset - undo.offset;
                self.buffer.written(undo.offset);
                self.written_lsn = self.next_lsn - 1;
                self.note_active();
                Ok(())
            }
            Err(e) if is_full(&e) => Err(self.take_back(undo)),
            Err(e) => {
                let name = self.active_name();
                Err(self.poison(format!("writing to {name} failed: {e}")))
            }
        }
    }

    /// Writes what was pushed, which begins at `offset`.
    fn write_pushed(&mut self, offset: u64) -> io::Result<()> {
        let file = self.active.file.as_ref();
        if self.syncs_each
            && let Some((start, blocks)) = self.buffer.whole(offset, self.active.capacity)
        {
            return write_all_blocks_at(file, blocks, start);
        }
        write_all_at(file, self.buffer.pushed(), offset)
    }

    /// The disk was full in the middle of a write: zeros over all that may have been written,
    /// so that what is refused now cannot come back after a crash.
    fn take_back(&mut self, undo: Undo) -> Error {
        let refused = self.buffered() as u64;
        self.buffer.zero_pushed();
        let wiped = self.write_pushed(undo.offset).and_then(|()| self.active.file.sync());
        self.buffer.take_back();
        if let Err(e) = wiped {
            let name = self.active_name();
            return self.poison(format!("taking back a refused write to {name} failed: {e}"));
        }
        self.synced_lsn = self.written_lsn;
        self.active.offset = undo.offset;
        self.next_lsn = undo.next_lsn;
        self.active.footer.back_to(undo.footer);
        self.disk_full(refused)
    }

    fn note_active(&self) {
        let (end, bytes) = (self.written_lsn, self.active.offset);
        self.segments.update(self.active.number, |segment| {
            segment.end = end;
            segment.bytes = bytes;
        });
    }

    /// Makes all that was written durable.
    ///
    /// # Errors
    /// [`Error::Poisoned`].
    pub fn sync(&mut self) -> Result<()> {
        self.check_poison()?;
        if self.synced_lsn == self.written_lsn {
            return Ok(());
        }
        let before = self.env.clock.elapsed();
        if let Err(e) = self.active.file.sync()
            && !broken(Broken::FailedSyncIgnored)
        {
            let name = self.active_name();
            return Err(self.poison(format!("syncing {name} failed: {e}")));
        }
        let took = self.env.clock.elapsed().saturating_sub(before);
        self.env.metrics.sync_duration.record(took.as_secs_f64());
        self.synced_lsn = self.written_lsn;
        // An eighth of it is the last one.
        let bytes = std::mem::take(&mut self.unsynced_bytes);
        self.bytes_a_sync = self.bytes_a_sync - self.bytes_a_sync / 8 + bytes / 8;
        Ok(())
    }

    /// Leaves a mark: all before it is synced. Whoever reads the log after a crash knows it.
    ///
    /// # Errors
    /// [`Error::Poisoned`].
    pub fn mark(&mut self) -> Result<()> {
        self.sync()?;
        let payload_crc = frame::crc(&[]);
        let mark = NewFrame {
            kind: Kind::MARK,
            key: 0,
            space_key: 0,
            payload: &[],
            payload_crc,
            urgent: true,
        };
        if self.push(&mark)? == Pushed::NoRoom {
            return Ok(());
        }
        match self.flush() {
            Ok(()) => self.sync(),
            // A mark is a help, not a promise.
            Err(Error::DiskFull { .. }) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Seals the active segment and begins the next one. The buffer must be flushed.
    ///
    /// # Errors
    /// [`Error::DiskFull`] when there is no room for the next segment, or its name: then another
    /// call goes on from there. Else [`Error::Poisoned`].
    pub fn rotate(&mut self) -> Result<()> {
        self.check_poison()?;
        debug_assert!(self.buffered() == 0, "rotation would skip a buffered frame");
        let wanted = std::mem::take(&mut self.room_wanted);
        let spare = match self.spare.take_if(|spare| spare.bytes >= wanted) {
            Some(spare) => spare,
            None => self.urgent_spare(wanted)?,
        };
        if !self.sealed {
            self.seal()?;
            self.sealed = true;
        }
        match self.begin_segment(spare) {
            Ok(()) => {
                self.sealed = false;
                self.set_full(false);
                Ok(())
            }
            // What was made of it is made anew.
            Err(e) if is_full(&e) => Err(self.disk_full(wanted)),
            Err(e) => Err(self.poison(format!("beginning segment {} failed: {e}", self.next_lsn))),
        }
    }

    /// Makes the next segment's file at once, as small as allowed if need be, but with room for
    /// a frame of any size.
    fn urgent_spare(&mut self, wanted: u64) -> Result<Spare> {
        let name = urgent_spare_name();
        let min = self.env.scale.segment_bytes_min;
        let wanted = wanted.next_multiple_of(min).max(min);
        for bytes in [self.next_segment_bytes().max(wanted), wanted] {
            let available = self.env.disk.available_bytes(&self.env.dir).unwrap_or(u64::MAX);
            if available < bytes {
                continue;
            }
            let fill = ZeroFill::begin(&self.env, &name, bytes, self.next_segment_filling());
            match fill.and_then(|fill| fill.run(&self.env)) {
                Ok(spare) => {
                    self.set_full(false);
                    return Ok(spare);
                }
                Err(e) if is_full(&e) => {}
                Err(e) => return Err(self.poison(format!("making a segment failed: {e}"))),
            }
        }
        Err(self.disk_full(wanted))
    }

    fn disk_full(&mut self, needed: u64) -> Error {
        self.set_full(true);
        let available = self.env.disk.available_bytes(&self.env.dir).unwrap_or(0);
        let dir = self.env.dir.clone();
        Error::DiskFull { available, needed, dir }
    }

    /// The refusal while the disk is full.
    #[must_use]
    pub fn full_error(&self) -> Error {
        let available = self.env.disk.available_bytes(&self.env.dir).unwrap_or(0);
        let needed = self.env.scale.segment_bytes_min;
        Error::DiskFull { available, needed, dir: self.env.dir.clone() }
    }

    fn set_full(&mut self, full: bool) {
        if full != self.full {
            self.full = full;
            self.env.metrics.disk_full.set(if full { 1.0 } else { 0.0 });
            if full {
                tracing::warn!(
                    "the disk is full: new memories are refused, reads and forgets go on"
                );
            } else {
                tracing::info!("the disk has room again: writing goes on");
            }
        }
    }

    /// Writes the footer, behind frames that are synced: whoever finds it may trust them.
    fn seal(&mut self) -> Result<()> {
        self.sync()?;
        let end = self.written_lsn.max(self.active.header.start - 1).max(self.skipped_end());
        let footer = self.active.footer.finish(self.active.header.salt, end, self.synced_lsn);
        let file = Arc::clone(&self.active.file);
        let before = self.env.clock.elapsed();
        let written = write_all_at(file.as_ref(), &footer, self.active.offset);
        if let Err(e) = written.and_then(|()| file.sync()) {
            let name = self.active_name();
            return Err(self.poison(format!("sealing {name} failed: {e}")));
        }
        let took = self.env.clock.elapsed().saturating_sub(before);
        self.env.metrics.sync_duration.record(took.as_secs_f64());
        self.synced_lsn = self.written_lsn;
        let bytes = self.active.offset + footer.len() as u64;
        self.segments.update(self.active.number, |segment| {
            segment.sealed = true;
            segment.end = end;
            segment.bytes = bytes;
            segment.file_bytes = bytes;
        });
        self.surplus.push(Surplus::End(file, bytes));
        Ok(())
    }

    fn skipped_end(&self) -> u64 {
        self.active.header.skipped.1
    }

    fn begin_segment(&mut self, spare: Spare) -> io::Result<()> {
        // A segment without frames gives its name to the next one, and what its header says of the
        // segment before.
        let old = &self.active.header;
        let replaces = old.start == self.next_lsn;
        let header = SegmentHeader {
            identity: self.identity,
            salt: self.env.rng.u64(),
            start: self.next_lsn,
            end: 0,
            generation: 0,
            synced: self.synced_lsn,
            skipped: if replaces { old.skipped } else { (0, 0) },
            cut: replaces && old.cut,
            accepted_loss: false,
        };
        write_all_at(spare.file.as_ref(), &header.encode_block(), 0)?;
        spare.file.sync()?;
        let name = SegmentName { start: header.start, rewritten: None };
        let path: PathBuf = self.env.wal_path(&name.file_name());
        self.env.disk.rename(&spare.path, &path)?;
        self.env.disk.sync_dir(&self.env.wal_dir())?;
        Head::of(header.start, spare.bytes).write(&self.env)?;
        let number = self.segments.new_number();
        self.buffer.clear();
        self.active = Active {
            number,
            header,
            file: spare.file,
            capacity: spare.bytes,
            offset: FRAMES_START,
            footer: FooterBuilder::default(),
        };
        let segment = active_segment(&self.active, self.next_lsn - 1);
        self.segments.add(segment, Some(Arc::clone(&self.active.file)));
        Ok(())
    }

    fn active_name(&self) -> String {
        SegmentName { start: self.active.header.start, rewritten: None }.file_name()
    }
}

/// The active segment, as the list of segments holds it.
#[must_use]
pub fn active_segment(active: &Active, end: u64) -> Segment {
    Segment {
        number: active.number,
        name: SegmentName { start: active.header.start, rewritten: None },
        header: active.header,
        end,
        bytes: active.offset,
        file_bytes: active.capacity,
        sealed: false,
        needs_rewrite: false,
        keep: false,
    }
}
