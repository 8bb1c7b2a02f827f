//! What is made ahead: the writer's next segment, and room for compaction on a full disk.

use std::sync::Arc;
use std::time::Duration;

use super::MAINTENANCE_EVERY;
use crate::disk::Open;
use crate::driver::Shared;
use crate::storage::wal::env::{is_full, remove_if_there};
use crate::storage::wal::prealloc::{Filled, Filling, Surplus, ZeroFill};
use crate::storage::wal::segment::{BALLAST_NAME, SPARE_NAME};
use crate::store::policy::spare_is_late;
use crate::sync::atomic::Ordering;

/// How long to wait between two steps of a spare that is not late: 64 MB/s where nothing else is under way.
/// A segment of zeros all at once holds up every sync beside it, and half a mebibyte some.
const FILL_PAUSE: Duration = Duration::from_millis(2);

/// Spare and ballast.
#[derive(Debug)]
pub(super) struct Ahead {
    shared: Arc<Shared>,
    spare: Option<ZeroFill>,
    /// The writer has no next segment.
    spare_wanted: bool,
    /// Bytes that the active segment had left when the spare was begun.
    left_at_begin: u64,
    ballast: Option<ZeroFill>,
    ballast_wanted: bool,
    not_before: Duration,
    /// It was said that nothing can be made, and nothing was since.
    told: bool,
}

impl Ahead {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            spare: None,
            spare_wanted: false,
            left_at_begin: 0,
            ballast: None,
            ballast_wanted: true,
            not_before: Duration::ZERO,
            told: false,
        }
    }

    /// A step of each, of a spare that is late as many as allowed. Says whether there is more to do.
    pub(super) fn turn(&mut self, steps_if_late: usize) -> bool {
        self.ask_writer();
        let mut busy = self.make_spare();
        for _ in 1..steps_if_late {
            if self.spare_is_late() {
                busy |= self.make_spare();
            }
        }
        busy |= self.make_ballast();
        let filling = [&self.spare, &self.ballast].into_iter().flatten();
        let filling = filling.map(ZeroFill::done_bytes).sum();
        self.shared.seen.filling_bytes.store(filling, Ordering::Relaxed);
        busy
    }

    /// How long to wait before the next step; `None` where nothing is being made.
    pub(super) fn pause(&self) -> Option<Duration> {
        let filling = self.spare.is_some() || self.ballast.is_some();
        let pause = if self.spare_is_late() { Duration::ZERO } else { FILL_PAUSE };
        filling.then_some(pause)
    }

    fn now(&self) -> Duration {
        self.shared.env.clock.elapsed()
    }

    /// Sees what the writer needs. Its lock is not easily had while it writes, so this is not for
    /// every turn.
    fn ask_writer(&mut self) {
        if self.spare.is_some() || !self.shared.writer_needs.swap(false, Ordering::AcqRel) {
            return;
        }
        let mut engine = self.shared.engine();
        self.spare_wanted = !engine.writer.has_spare();
        let surplus = std::mem::take(&mut engine.writer.surplus);
        drop(engine);
        surplus.into_iter().for_each(Surplus::give_back);
    }

    /// One step towards the next spare. Says whether there is more to do.
    fn make_spare(&mut self) -> bool {
        let fill = match self.spare.take() {
            Some(fill) => Ok(Some(fill)),
            None => self.begin_spare(),
        };
        let shared = Arc::clone(&self.shared);
        match fill.and_then(|fill| fill.map(|fill| fill.step(&shared.env)).transpose()) {
            Ok(None) => return false,
            Ok(Some(Filled::More(fill))) => self.spare = Some(fill),
            Ok(Some(Filled::Done(spare))) => {
                self.told = false;
                let writer = &mut shared.engine().writer;
                // From here on it counts as a spare.
                shared.seen.filling_bytes.store(0, Ordering::Relaxed);
                writer.give_spare(spare);
                shared.publish(writer);
                self.spare_wanted = false;
            }
            Err(e) => return self.failed(&e),
        }
        true
    }

    fn begin_spare(&mut self) -> std::io::Result<Option<ZeroFill>> {
        let shared = &self.shared;
        if !self.spare_wanted || self.now() < self.not_before {
            return Ok(None);
        }
        let (bytes, filling) = {
            let writer = &shared.engine().writer;
            if writer.poisoned().is_some() {
                return Ok(None);
            }
            self.left_at_begin = writer.unused_bytes();
            (writer.next_segment_bytes(), writer.next_segment_filling())
        };
        let room = shared.env.disk.available_bytes(&shared.env.dir).unwrap_or(u64::MAX);
        let bytes = if room < bytes * 2 { shared.env.scale.segment_bytes_min } else { bytes };
        if room < bytes {
            self.not_before = self.now() + MAINTENANCE_EVERY;
            return Ok(None);
        }
        ZeroFill::begin(&shared.env, SPARE_NAME, bytes, filling).map(Some)
    }

    fn failed(&mut self, e: &std::io::Error) -> bool {
        self.not_before = self.now() + MAINTENANCE_EVERY;
        if !is_full(e) && !std::mem::replace(&mut self.told, true) {
            tracing::warn!(
                cause = %e,
                "the next segment's file cannot be made ahead; it is tried again, and made when it \
                 is needed; check the disk"
            );
        }
        false
    }

    /// Keeps room for compaction on a full disk.
    fn make_ballast(&mut self) -> bool {
        let fill = match self.ballast.take() {
            Some(fill) => Ok(Some(fill)),
            None => self.begin_ballast(),
        };
        let shared = Arc::clone(&self.shared);
        match fill.and_then(|fill| fill.map(|fill| fill.step(&shared.env)).transpose()) {
            Ok(None) => return false,
            Ok(Some(Filled::More(fill))) => self.ballast = Some(fill),
            Ok(Some(Filled::Done(ballast))) => {
                self.ballast_wanted = false;
                shared.seen.ballast_bytes.store(ballast.bytes, Ordering::Relaxed);
            }
            Err(e) => return self.failed(&e),
        }
        true
    }

    fn begin_ballast(&mut self) -> std::io::Result<Option<ZeroFill>> {
        let env = &self.shared.env;
        let spare = self.shared.seen.spare_bytes.load(Ordering::Relaxed);
        if !self.ballast_wanted || spare == 0 || self.now() < self.not_before {
            return Ok(None);
        }
        if env.disk.available_bytes(&env.dir).unwrap_or(0) < spare * 4 {
            return Ok(None);
        }
        let have = env.disk.open(&env.wal_path(BALLAST_NAME), Open::Read);
        if let Ok(bytes) = have.and_then(|file| file.len())
            && bytes >= spare
        {
            self.ballast_wanted = false;
            self.shared.seen.ballast_bytes.store(bytes, Ordering::Relaxed);
            return Ok(None);
        }
        ZeroFill::begin(env, BALLAST_NAME, spare, Filling::Written).map(Some)
    }

    /// Gives the ballast up, so that compaction has room. Says whether there was one.
    pub(super) fn give_up_ballast(&mut self) -> bool {
        let env = &self.shared.env;
        self.ballast_wanted = true;
        // One that is being made would go on in a file without a name.
        self.ballast = None;
        self.shared.seen.ballast_bytes.store(0, Ordering::Relaxed);
        remove_if_there(env.disk.as_ref(), &env.wal_path(BALLAST_NAME)).unwrap_or(false)
    }

    fn spare_is_late(&self) -> bool {
        let left = self.shared.seen.unused_bytes.load(Ordering::Relaxed);
        self.spare.as_ref().is_some_and(|fill| {
            spare_is_late(fill.done_bytes(), fill.bytes(), self.left_at_begin, left)
        })
    }
}
