//! What must hold: the invariants of ARCHITECTURE.md, checked after every start and beside
//! every change. Where a check holds one of them, its sentence begins with the invariant's number.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engram_core::disk::Disk;
use engram_core::storage::wal::report::{CompactionStats, Incident, IncidentKind};
use engram_core::store::{Drive, ListQuery};
use engram_core::{Error, Options, Store};

use crate::act::Hit;
use crate::dice::{Dice, SimClock, SimRng};
use crate::disk::SimDisk;
use crate::disk::bytes::Bytes;
use crate::disk::state::Image;
use crate::frames::{DIR, Frame, frames, segments};
use crate::legacy;
use crate::life::is_index;
use crate::model::{Known, Memory};
use crate::recall::{SimEmbedder, recalls};
use crate::replay::{Account, Lost, account, lost, lsns};
use crate::world::{SCALE, World};

/// What is known of a directory before the engine sees it.
#[derive(Debug)]
pub(crate) struct Start {
    /// What recovery must make of it.
    pub(crate) account: Account,
    lost: Vec<Lost>,
    /// The image that was hit.
    hurt: Image,
    /// Files that were hit, as they were.
    pub(crate) hit: Vec<(PathBuf, Bytes)>,
    /// A recovery was cut short, or refused, so that reports tell only the rest.
    pub(crate) interrupted: bool,
}

/// The counters of recovery, as they were before.
const RECOVERED: &str = "engram_wal_recovery_successes_total";
const FAILED: [(&str, &str); 3] = [
    ("engram_wal_recovery_failures_total{reason=damaged}", "damaged"),
    ("engram_wal_recovery_failures_total{reason=undecodable}", "undecodable"),
    ("engram_wal_recovery_failures_total{reason=tail}", "tail"),
];

impl World {
    /// Looks at the directory before the engine does: what was promised must be in it. Then hits
    /// it, and works out what recovery must make of the rest.
    pub(crate) fn prepare(&mut self, hits: &[(u64, Hit)]) -> Result<Start, String> {
        let whole = self.disk.image();
        let mut before = account(&whole, self.version);
        if !legacy::is_waiting(&whole) {
            let admitted = self.model.admits(&before.memory);
            admitted.map_err(|why| format!("1, 3, 7: the log on disk is wrong: {why}"))?;
        }
        let mut start = Start {
            lost: Vec::new(),
            hurt: Image::new(),
            hit: Vec::new(),
            interrupted: false,
            account: Account::default(),
        };
        if !hits.is_empty() {
            start.hit = self.hit(hits);
            start.hurt = self.disk.image();
            start.lost = lost(&whole, &start.hurt);
            let tail = lsns(before.tail.iter());
            start.lost.retain(|lost| !tail.contains(&lost.frame.header.lsn));
            before = account(&start.hurt, self.version);
        }
        start.account = before;
        Ok(start)
    }

    /// Whether the engine may refuse to open.
    pub(crate) fn refused(&self, e: &Error, start: &Start) -> Result<(), String> {
        let troubled = self.disk.faults().total() > 0 || self.disk.is_bounded();
        if troubled || start.account.headless {
            return Ok(());
        }
        Err(format!("the store refuses to open: {e}"))
    }

    /// Holds a store that was just opened on `image` to the laws.
    pub(crate) fn check_start(&mut self, start: &Start, image: &Image) -> Result<(), String> {
        let Some(store) = self.store.clone() else { return Ok(()) };
        self.tally.starts += 1;
        let planned = self.disk.take_planned();
        let result = self.check_start_quietly(&store, start, image);
        self.disk.plan_again(planned);
        result
    }

    fn check_start_quietly(
        &mut self,
        store: &Store,
        start: &Start,
        image: &Image,
    ) -> Result<(), String> {
        let again = start.interrupted && start.hit.is_empty();
        // Frames that were out of order may be in order once others were written again.
        let anew = again || start.interrupted && !start.account.strays.is_empty();
        let mut expected = if anew { account(image, self.version) } else { start.account.clone() };
        if legacy::is_waiting(image) {
            expected.memory.episodes.extend(legacy::episodes());
        } else if again {
            let admitted = self.model.admits(&expected.memory);
            admitted.map_err(|why| format!("5: recovery cut short lost something: {why}"))?;
        }
        let found = contents(store, &expected.memory, self.version)?;
        let visible = visible(&expected.memory, self.version);
        if let Some(why) = visible.differs(&found) {
            return Err(format!("1, 2, 3, 4, 7: after a start, {why}"));
        }
        self.check_recalls(store, &visible)?;
        let now = self.disk.image();
        let troubled = self.disk.faults().total() > 0 || self.disk.is_bounded();
        let seen = check_kept(&expected, start, image, &now, troubled)?;
        if !again {
            check_named(store, start)?;
        }
        self.check_report(store, start, image, &now)?;
        // LSNs of episodes taken over were not known before.
        for (key, known) in &mut expected.memory.episodes {
            if let Some(found) = found.episodes.get(key) {
                known.lsn = found.lsn;
            }
        }
        let log_was_hit = start.hit.iter().any(|(path, _)| !is_index(path));
        self.model.restart(expected.memory, seen, log_was_hit);
        self.known = store.incidents();
        // What the device did not give at this start it may give at the next one.
        if self.tally.starts.is_multiple_of(4) && self.disk.faults().read_eio == 0 {
            self.check_second_start(store)?;
        }
        Ok(())
    }

    /// The counters of recovery as they are.
    pub(crate) fn recovery_counters(&self) -> [u64; 4] {
        let count = |name| self.figures.count(name).unwrap_or_default();
        let [damaged, undecodable, tail] = FAILED.map(|(name, _)| count(name));
        [count(RECOVERED), damaged, undecodable, tail]
    }

    /// Reports and metrics equal the ground truth.
    fn check_report(
        &mut self,
        store: &Store,
        start: &Start,
        image: &Image,
        now: &Image,
    ) -> Result<(), String> {
        let report = store.recovery_report();
        let counted = [RECOVERED].into_iter().chain(FAILED.map(|(name, _)| name));
        let told = [
            report.recovered,
            report.failed.damaged,
            report.failed.undecodable,
            report.failed.tail,
        ];
        for ((name, told), before) in counted.zip(told).zip(&mut self.counters) {
            let value = self.figures.count(name).unwrap_or(u64::MAX);
            if value != *before + told {
                return Err(format!("10: {name} rose from {before} to {value}, not by {told}"));
            }
            *before = value;
        }
        if start.interrupted || legacy::is_waiting(image) {
            return Ok(());
        }
        let changes = start.account.kept.iter().filter(|frame| frame.is_change());
        let (known, unknown): (Vec<&Frame>, Vec<&Frame>) =
            changes.partition(|frame| frame.record().is_some());
        if report.recovered != known.len() as u64 {
            let (told, true_count) = (report.recovered, known.len());
            return Err(format!(
                "10: {told} entries recovered by the report, {true_count} in truth"
            ));
        }
        if report.failed.undecodable != unknown.len() as u64 {
            let (told, true_count) = (report.failed.undecodable, unknown.len());
            return Err(format!("10: {told} undecodable by the report, {true_count} in truth"));
        }
        if start.hit.is_empty() {
            // What no compaction has rewritten yet is found again, and known.
            let odd = report.incidents.iter().find(|incident| {
                let fine =
                    matches!(incident.verdict, IncidentKind::Tail | IncidentKind::Undecodable);
                !fine && !is_known(incident, &self.known) && !self.ever_hit.contains(&incident.file)
            });
            if report.incidents.is_empty() && report.failed.damaged > 0 {
                return Err(format!("10: damage is reported where there is none: {report:?}"));
            }
            if let Some(odd) = odd {
                return Err(format!("10: an incident where there is none: {odd:?}"));
            }
        }
        let head = lsns(frames(now).iter()).last().copied().unwrap_or(0);
        if report.head_lsn < head {
            return Err(format!("10: the report's head is {}, the log's {head}", report.head_lsn));
        }
        Ok(())
    }

    /// A second start finds nothing new, and the same memory.
    fn check_second_start(&mut self, store: &Store) -> Result<(), String> {
        let disk = SimDisk::new(self.disk.state());
        let options = Options {
            segment_bytes: 16 << 10,
            recovery_threads: 1,
            compaction_bytes_per_second_max: 0,
            scale: SCALE,
            drive: Drive::Steps,
            disk: Arc::new(disk.clone()) as Arc<dyn Disk>,
            clock: Arc::new(SimClock::default()),
            rng: Arc::new(SimRng::new(self.tally.starts)),
            embedder: Some(Arc::new(SimEmbedder)),
            ..Options::default()
        };
        let second = Store::open(DIR, options)
            .map_err(|e| format!("13: a second start refuses to open: {e}"))?;
        let report = second.recovery_report();
        let old = store.incidents();
        // What could not be set aside stays where it is, and is found again.
        let stays = store.recovery_report().incidents.iter().any(|i| i.quarantined_as.is_none());
        let new = report.incidents.iter().find(|incident| !is_known(incident, &old));
        if let Some(new) = new.filter(|_| !stays) {
            return Err(format!("13: a second start finds something new: {new:?}"));
        }
        if report.incidents.is_empty() && report.failed.damaged + report.failed.tail > 0 {
            return Err(format!("13: a second start counts what it does not name: {report:?}"));
        }
        let found = contents(&second, self.model.now(), self.version)?;
        let visible = self.visible_now();
        if let Some(why) = visible.differs(&found) {
            return Err(format!("5: after a second start, {why}"));
        }
        self.check_recalls(&second, &visible)?;
        disk.kill();
        Ok(())
    }

    /// While it runs: callers read what they were told. The figures are looked at while `idle`:
    /// a run of compaction counts its inputs until they are gone.
    pub(crate) fn check_now(&mut self, idle: bool) -> Result<(), String> {
        let Some(store) = self.store.clone().filter(|_| !self.disk.is_dead()) else {
            return Ok(());
        };
        let planned = self.disk.take_planned();
        let result = self.check_now_quietly(&store, idle);
        self.disk.plan_again(planned);
        result
    }

    fn check_now_quietly(&mut self, store: &Store, idle: bool) -> Result<(), String> {
        if self.model.in_doubt() && !self.durable {
            // Written, and perhaps visible, yet its callers were told that nobody knows.
            return Ok(());
        }
        let found = contents(store, self.model.now(), self.version)?;
        let visible = self.visible_now();
        if let Some(why) = visible.differs(&found) {
            return Err(format!("6: while it runs, {why}"));
        }
        self.check_recalls(store, &visible)?;
        if idle && !self.model.in_doubt() && store.poisoned_by().is_none() {
            self.check_gauges(store)?;
        }
        Ok(())
    }

    /// What callers see by what they were told.
    pub(crate) fn visible_now(&self) -> Memory {
        visible(self.model.now(), self.version)
    }

    fn check_recalls(&mut self, store: &Store, memory: &Memory) -> Result<(), String> {
        if self.plan.recalls {
            let mut dice = Dice::new(self.plan.seed ^ self.tally.starts ^ self.tally.recalls);
            self.tally.recalls += recalls(store, memory, &mut dice)?;
        }
        Ok(())
    }

    fn check_gauges(&self, store: &Store) -> Result<(), String> {
        let wal = store.wal();
        let image = self.disk.image();
        let ours: BTreeSet<String> = wal.segments.iter().map(|s| s.file.clone()).collect();
        let theirs: BTreeSet<String> =
            segments(&image).iter().map(|segment| segment.name.file_name()).collect();
        if ours != theirs {
            // A rewritten segment got its name, and the sync behind that failed.
            return Ok(());
        }
        let bytes: usize = frames(&image).iter().filter(|f| f.is_change()).map(Frame::bytes).sum();
        let counted = wal.live_bytes + wal.dead_bytes;
        let stays = store.incidents().iter().any(|i| i.verdict == IncidentKind::Damaged);
        if counted != bytes as u64 && !stays {
            return Err(format!(
                "10: live and dead bytes are {counted} by the engine, {bytes} on disk"
            ));
        }
        let aside = store.quarantine().map_err(|e| e.to_string())?;
        let aside: u64 = aside.iter().map(|item| item.bytes).sum();
        if wal.quarantine_bytes != aside {
            return Err(format!(
                "10: the quarantine holds {aside} bytes, the status says {}",
                wal.quarantine_bytes
            ));
        }
        let live: u64 = store.spaces().iter().map(|space| space.episodes).sum();
        let known = visible(self.model.now(), self.version).episodes.len();
        if live != known as u64 {
            return Err(format!("10: spaces hold {live} episodes by their list, {known} in truth"));
        }
        Ok(())
    }
}

/// Every loss is named, and nothing else is.
fn check_named(store: &Store, start: &Start) -> Result<(), String> {
    let incidents = store.incidents();
    let report = store.recovery_report();
    let mut named: BTreeSet<u64> = incidents.iter().flat_map(lsns_of).collect();
    // Of bytes that are hit for the second time the list keeps what it told the first time.
    named.extend(report.incidents.iter().flat_map(lsns_of));
    for lost in start.lost.iter().filter(|lost| lost.witnessed && lost.frame.is_change()) {
        let lsn = lost.frame.header.lsn;
        let file = lost.frame.path.file_name().and_then(|name| name.to_str());
        // Of a rewritten segment without its footer nobody knows which LSNs it held.
        let told = lost.unnumbered && incidents.iter().any(|i| Some(i.file.as_str()) == file);
        if !named.contains(&lsn) && !told {
            let (path, at) = (lost.frame.path.display(), lost.frame.offset);
            return Err(format!(
                "4: LSN {lsn} at {at} of {path} was lost to damage, and no incident names it"
            ));
        }
    }
    if start.interrupted || start.account.headless {
        return Ok(());
    }
    let kept = lsns(start.account.kept.iter());
    for [first, last] in &report.lost_lsns {
        if let Some(lsn) = (*first..=*last).find(|lsn| kept.contains(lsn)) {
            let told = &report.incidents;
            return Err(format!("4: LSN {lsn} is named as lost, and can be read: {told:?}"));
        }
    }
    Ok(())
}

/// Nothing readable is thrown away: each frame stays in the log, or is set aside whole. Gives
/// the highest LSN that was seen.
fn check_kept(
    expected: &Account,
    start: &Start,
    image: &Image,
    now: &Image,
    troubled: bool,
) -> Result<u64, String> {
    let there = frames(now);
    for frame in expected.kept.iter().filter(|frame| frame.is_change()) {
        let lsn = frame.header.lsn;
        let same = there.iter().filter(|other| other.header.lsn == lsn);
        if !same.clone().any(|other| other.same_record(frame)) {
            return Err(format!("9: LSN {lsn} left the log, or was changed, at a start"));
        }
        if same.count() > 1 {
            return Err(format!("2: LSN {lsn} is in the log twice"));
        }
    }
    let aside = Aside::of(now, &ASIDE);
    for frame in &expected.tail {
        if !aside.holds(&frame.header.encode()) {
            let lsn = frame.header.lsn;
            return Err(format!("rule 2: LSN {lsn} of a torn tail was thrown away"));
        }
    }
    let read =
        |stray: &&Frame| !expected.kept.iter().any(|kept| kept.header.lsn == stray.header.lsn);
    let quarantine = Aside::of(now, &ASIDE[..if troubled { 2 } else { 1 }]);
    for frame in expected.strays.iter().filter(read) {
        if !quarantine.holds(&[&frame.header.encode(), &*frame.payload].concat()) {
            let (lsn, path, at) = (frame.header.lsn, frame.path.display(), frame.offset);
            return Err(format!(
                "rule 2: LSN {lsn} stands at {at} of {path} and nowhere else, and was thrown away"
            ));
        }
    }
    for lost in &start.lost {
        let Frame { path, offset, .. } = &lost.frame;
        let Some(hurt) = start.hurt.get(path) else { continue };
        let there = expected.kept.iter().filter(|frame| frame.path == *path);
        let there: Vec<Range<usize>> =
            there.map(|frame| frame.offset..frame.offset + frame.bytes()).collect();
        if let Some(left) = left_of(&lost.frame, hurt, &there).find(|left| !aside.holds(left)) {
            let (lsn, path, bytes) = (lost.frame.header.lsn, path.display(), left.len());
            return Err(format!(
                "rule 2: {bytes} bytes that are left of LSN {lsn} at {offset} of {path} were \
                 thrown away"
            ));
        }
    }
    let all = expected.kept.iter().chain(&expected.tail).chain(&there);
    let highest = lsns(all).last().copied().unwrap_or(0);
    let seen = lsns(frames(image).iter()).last().copied().unwrap_or(0);
    Ok(highest.max(seen))
}

/// The runs of bytes that a frame had and that still stand in its place, but for those that are
/// another frame's now; short ones tell nothing, and zeros are as good as nothing.
fn left_of(frame: &Frame, hurt: &Bytes, there: &[Range<usize>]) -> impl Iterator<Item = Vec<u8>> {
    let mut was = frame.header.encode().to_vec();
    was.extend(&frame.payload);
    let mut now = vec![0; was.len()];
    hurt.read(frame.offset, &mut now);
    let mut runs = vec![Vec::new()];
    for (at, (old, new)) in (frame.offset..).zip(was.into_iter().zip(now)) {
        let is_anothers = there.iter().any(|range| range.contains(&at));
        match runs.last_mut() {
            Some(run) if old == new && !is_anothers => run.push(new),
            _ => runs.push(Vec::new()),
        }
    }
    runs.into_iter().filter_map(|mut run| {
        run.truncate(run.iter().rposition(|&byte| byte != 0).map_or(0, |at| at + 1));
        (run.len() >= 16).then_some(run)
    })
}

/// Whether an incident is one of these, or tells of bytes that one of them told of: after another
/// crash the run of bad bytes may begin and end elsewhere.
fn is_known(incident: &Incident, known: &[Incident]) -> bool {
    known.iter().any(|old| {
        let (end, old_end) = (incident.offset + incident.bytes, old.offset + old.bytes);
        let overlaps = incident.offset <= old_end && old.offset <= end;
        old.id == incident.id || (old.file == incident.file && overlaps)
    })
}

/// The LSNs that an incident names.
fn lsns_of(incident: &Incident) -> BTreeSet<u64> {
    let ranges = incident.lsns.iter();
    ranges.flat_map(|&[first, last]| first..=last.min(first + 10_000)).collect()
}

/// The quarantine, and where bytes may stand that could not be taken there.
const ASIDE: [&str; 2] = ["quarantine", "wal"];

/// Bytes that left the log, or that could not and stand where they were.
struct Aside(Vec<Vec<u8>>);

impl Aside {
    fn of(image: &Image, dirs: &[&str]) -> Self {
        let dirs: Vec<PathBuf> = dirs.iter().map(|dir| Path::new(DIR).join(dir)).collect();
        let within = |path: &&PathBuf| dirs.iter().any(|dir| path.parent() == Some(dir.as_path()));
        Self(image.iter().filter(|(path, _)| within(path)).map(|(_, b)| b.to_vec()).collect())
    }

    fn holds(&self, bytes: &[u8]) -> bool {
        self.0.iter().any(|file| memchr::memmem::find(file, bytes).is_some())
    }
}

/// What a version shows of a memory.
fn visible(memory: &Memory, version: u16) -> Memory {
    let mut memory = memory.clone();
    memory.episodes.retain(|_, known| known.schema <= version);
    for fixed_by in memory.fixed_by.values_mut() {
        fixed_by.retain(|&(_, schema)| schema <= version);
    }
    memory
}

/// What a store serves: every episode by list and by get, and of what it must not understand
/// that it says so.
pub(crate) fn contents(store: &Store, expected: &Memory, version: u16) -> Result<Memory, String> {
    let mut found = Memory::default();
    for space in store.spaces() {
        if let Some(dimension) = space.dimension {
            found.dimensions.insert(space.name.clone(), dimension);
        }
        let mut query = ListQuery { limit: Some(1000), ..ListQuery::default() };
        let mut listed = 0;
        loop {
            let page = store.list(&space.name, &query).map_err(|e| format!("a list fails: {e}"))?;
            if let Some(e) = page.unreadable.first() {
                return Err(format!("4: an episode cannot be read: {e}"));
            }
            for stored in page.episodes {
                listed += 1;
                let got = store.get(&space.name, &stored.episode.id);
                let got = got.map_err(|e| format!("a listed episode cannot be read: {e}"))?;
                if got != stored {
                    return Err(format!("list and get differ: {stored:?}, {got:?}"));
                }
                let key = (space.name.clone(), stored.episode.id.clone());
                let known = Known { lsn: stored.lsn, schema: 0, episode: stored.episode };
                found.episodes.insert(key, known);
            }
            query.cursor = page.next_cursor;
            if query.cursor.is_none() {
                break;
            }
        }
        if listed != space.episodes {
            let (name, episodes) = (space.name, space.episodes);
            return Err(format!("10: space {name} lists {listed} episodes and counts {episodes}"));
        }
    }
    for (key, known) in expected.episodes.iter().filter(|(_, known)| known.schema > version) {
        match store.get(&key.0, &key.1) {
            Err(Error::Undecodable { lsn, .. }) if lsn == known.lsn => {}
            other => return Err(format!("9: {key:?} is not understood, yet get says {other:?}")),
        }
    }
    Ok(found)
}

/// A run's figures agree with each other.
pub(crate) fn compacted(stats: &CompactionStats) -> Result<(), String> {
    let given_back = stats.bytes_before.saturating_sub(stats.bytes_after);
    if stats.bytes_reclaimed > stats.bytes_before || stats.bytes_reclaimed < given_back {
        return Err(format!("10: bytes reclaimed do not agree with the rest: {stats:?}"));
    }
    Ok(())
}
