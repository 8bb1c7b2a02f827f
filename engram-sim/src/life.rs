//! How one life of the engine ends, what happens to the disk in between, and how the next begins.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use engram_core::disk::Disk;
use engram_core::inspect;
use engram_core::sim;
use engram_core::store::Drive;
use engram_core::{Durability, Options, Store};

use crate::act::{End, Hit};
use crate::dice::{Dice, SimRng, mix};
use crate::disk::bytes::Bytes;
use crate::disk::state::{Chance, SECTOR};
use crate::disk::{SimDisk, litter};
use crate::frames::{DIR, frames};
use crate::law::Start;
use crate::recall::SimEmbedder;
use crate::world::{SCALE, World};

impl World {
    /// Ends this life, and begins another.
    pub(crate) fn restart(
        &mut self,
        end: End,
        again: &[u8],
        dice: &mut Dice,
    ) -> Result<(), String> {
        let mut end = end;
        if let Some(store) = self.store.take() {
            self.model.synced(store.wal().synced_lsn);
            if end == End::Close {
                match store.close() {
                    Ok(()) => {
                        let synced = store.wal().synced_lsn;
                        if store.poisoned_by().is_none() {
                            self.model.synced(synced);
                        }
                    }
                    Err(_) if self.disk.is_dead() => end = self.end_after_crash(dice),
                    Err(_) => {}
                }
            }
            if end != End::Close {
                self.disk.kill();
            }
            drop(store);
        }
        self.tally.crashes += u64::from(end != End::Close);
        self.next_disk(end, dice);
        self.begin(dice, again)
    }

    pub(crate) fn end_disk(&mut self) {
        self.digest = mix(self.digest ^ self.disk.digest());
        self.faults.add(self.disk.faults());
    }

    /// The disk as the next life finds it.
    pub(crate) fn next_disk(&mut self, end: End, dice: &mut Dice) {
        self.end_disk();
        let (room, planned) = (self.disk.capacity(), self.disk.take_planned());
        let mut state = self.disk.state();
        if end == End::PowerLoss {
            let old = if dice.per_mille(300) { litter(&self.before) } else { Vec::new() };
            let kept_per_mille = [0, 500, 500, 900, 1000][dice.index(5)];
            let mut chance = Chance { dice, kept_per_mille, litter: &old };
            state = state.after_crash(&mut chance);
        }
        self.disk = SimDisk::new(state);
        self.disk.set_capacity(room);
        self.disk.plan_again(planned);
        self.disk.roll(dice.next());
        self.sabotage();
    }

    fn options(&mut self) -> Options {
        self.lives += 1;
        Options {
            segment_bytes: self.plan.segment_bytes,
            compact_automatically: self.plan.automatic,
            compaction_bytes_per_second_max: 0,
            recovery_threads: 1,
            durability: if self.durable {
                Durability::Always
            } else {
                Durability::Interval(Duration::from_micros(50))
            },
            scale: SCALE,
            drive: Drive::Steps,
            disk: Arc::new(self.disk.clone()) as Arc<dyn Disk>,
            clock: Arc::clone(&self.clock) as Arc<dyn engram_core::clock::Clock>,
            rng: Arc::new(SimRng::new(mix(self.plan.seed ^ self.lives))),
            metrics: Arc::clone(&self.metrics),
            embedder: Some(Arc::new(SimEmbedder)),
            ..Options::default()
        }
    }

    /// Opens the store, as often as it takes, and holds what it says to the laws.
    pub(crate) fn begin(&mut self, dice: &mut Dice, again: &[u8]) -> Result<(), String> {
        self.version = self.next_version;
        sim::set_schema(self.version);
        let hits = std::mem::take(&mut self.hits);
        let mut start = self.prepare(&hits)?;
        let mut troubles = again.iter();
        for _ in 0..20 {
            let crash = troubles.next().copied();
            self.disk.crash_at(crash.map(u64::from));
            let image = self.disk.image();
            self.tell_log();
            let with = self.options();
            let opened = Store::open(DIR, with);
            if self.disk.is_dead() {
                drop(opened);
                // What a dead process counted it told nobody.
                self.counters = self.recovery_counters();
                self.tally.crashes += 1;
                self.tally.crashes_in_recovery += 1;
                let end = self.end_after_crash(dice);
                self.next_disk(end, dice);
                start.interrupted = true;
                continue;
            }
            self.disk.crash_at(None);
            match opened {
                Ok(store) => {
                    self.store = Some(store);
                    let result = self.check_start(&start, &image);
                    self.before = self.disk.image();
                    return result;
                }
                Err(e) => {
                    self.refused(&e, &start)?;
                    start.interrupted = true;
                    // Somebody helps: the device is well again, there is room, and what was
                    // damaged beyond repair comes from a backup.
                    self.disk.heal();
                    self.disk.set_room(None);
                    if start.account.headless {
                        self.restore(&mut start)?;
                    } else {
                        self.next_disk(End::Kill, dice);
                    }
                }
            }
        }
        Err("the store does not open, and nothing is wrong with the disk".into())
    }

    /// Tells what the engine will find in the log.
    fn tell_log(&self) {
        let Some(tell) = self.trace else { return };
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(self.disk.state()));
        let told = inspect::dump(&disk, Path::new(DIR), &mut |frame| {
            tell(&format!("       {frame:?}"));
            Ok(())
        });
        if let Err(e) = told {
            tell(&format!("       {e}"));
        }
        for frame in frames(&self.disk.image()) {
            let (path, at, header) = (frame.path.display(), frame.offset, frame.header);
            tell(&format!(
                "       ours: LSN {} at {at} of {path}, {} bytes",
                header.lsn,
                frame.bytes()
            ));
        }
    }

    /// Files as they were before they were hit.
    fn restore(&mut self, start: &mut Start) -> Result<(), String> {
        let mut state = self.disk.state();
        for (path, bytes) in std::mem::take(&mut start.hit) {
            state.replace(&path, bytes);
        }
        self.end_disk();
        self.disk = SimDisk::new(state);
        self.sabotage();
        *start = self.prepare(&[])?;
        start.interrupted = true;
        Ok(())
    }

    /// Hits bytes at rest. Gives the files that were hit, as they were.
    pub(crate) fn hit(&mut self, hits: &[(u64, Hit)]) -> Vec<(PathBuf, Bytes)> {
        let mut state = self.disk.state();
        state.settle();
        let mut were = Vec::new();
        for (seed, hit) in hits {
            let mut dice = Dice::new(*seed);
            let files: Vec<PathBuf> = state.image().into_keys().collect();
            let logs: Vec<&PathBuf> =
                files.iter().filter(|path| path.extension().is_some_and(|e| e == "seg")).collect();
            let saved: Vec<&PathBuf> = files.iter().filter(|path| is_index(path)).collect();
            let hits_index = !saved.is_empty() && Dice::new(!seed).per_mille(300);
            let path = if hits_index {
                saved[dice.index(saved.len())].clone()
            } else if !logs.is_empty() && dice.per_mille(850) {
                logs[dice.index(logs.len())].clone()
            } else {
                files[dice.index(files.len())].clone()
            };
            let Some(bytes) = state.image().get(&path).cloned().filter(|b| !b.is_empty()) else {
                continue;
            };
            let bytes_len = bytes.len();
            let place = place_to_hit(&bytes, &mut dice);
            let old = self.before.get(&path);
            let moves = self.plan.moves && Dice::new(!seed).per_mille(400);
            let Some((at, new, from)) = damaged(&bytes, place, *hit, old, &mut dice) else {
                continue;
            };
            if bytes.reads(at, &new) {
                continue;
            }
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            self.ever_hit.extend(name);
            if were.iter().all(|(hit, _)| *hit != path) {
                were.push((path.clone(), bytes));
            }
            state.overwrite(&path, at, &new);
            if let Some(from) = from.filter(|_| moves) {
                state.overwrite(&path, from, &vec![0; new.len().min(bytes_len - from)]);
            }
            self.tally.hits += 1;
            self.tally.index_hits += u64::from(is_index(&path));
        }
        self.end_disk();
        let (room, planned) = (self.disk.capacity(), self.disk.take_planned());
        self.disk = SimDisk::new(state);
        self.disk.set_capacity(room);
        self.disk.plan_again(planned);
        self.sabotage();
        were
    }
}

/// Whether a file is a saved index: derived, so that hits of it cost nothing.
pub(crate) fn is_index(path: &Path) -> bool {
    path.parent() == Some(&Path::new(DIR).join("index"))
}

/// Somewhere in the used part, mostly: the zeros behind it are many, and say little.
fn place_to_hit(bytes: &Bytes, dice: &mut Dice) -> usize {
    let all = bytes.to_vec();
    let used = all.iter().rposition(|&byte| byte != 0).map_or(all.len(), |at| at + 1);
    let start = 8192;
    if used > start && dice.per_mille(850) {
        start + dice.index(used - start)
    } else if dice.per_mille(800) {
        dice.index(used)
    } else {
        dice.index(all.len())
    }
}

/// Where a hit goes, what is there then, and where that came from.
fn damaged(
    bytes: &Bytes,
    place: usize,
    hit: Hit,
    old: Option<&Bytes>,
    dice: &mut Dice,
) -> Option<(usize, Vec<u8>, Option<usize>)> {
    let sector = place / SECTOR * SECTOR;
    let length = SECTOR.min(bytes.len() - sector);
    let mut new = vec![0; length];
    let mut source = None;
    match hit {
        Hit::Flip => {
            let mut byte = [0];
            bytes.read(place, &mut byte);
            return Some((place, vec![byte[0] ^ 1 << dice.below(8)], None));
        }
        Hit::Zero => {}
        Hit::Misdirected => {
            let from = dice.index(bytes.len()) / SECTOR * SECTOR;
            bytes.read(from, &mut new);
            source = Some(from);
        }
        Hit::Stale => drop(old?.read(sector, &mut new)),
    }
    Some((sector, new, source))
}
