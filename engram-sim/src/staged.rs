//! Scenes that random runs hardly get to: what a disk shows of a former life, and damage that
//! comes while the engine runs. Seeds vary sizes and numbers; the laws are the same.

use std::path::PathBuf;

use engram_core::sim;

use crate::act::{Act, End, Kind, Plan, Put};
use crate::dice::{Dice, mix};
use crate::disk::bytes::Bytes;
use crate::disk::{Op, SimDisk, Trouble};
use crate::frames::{Frame, frames};
use crate::life::is_index;
use crate::tally::Tally;
use crate::world::{Sabotage, World};

/// A scene, by its seed.
pub type Scene = fn(u64, Option<Sabotage>, &mut Tally) -> Result<(), String>;

fn plan(seed: u64) -> Plan {
    Plan {
        seed,
        segment_bytes: 16 << 10,
        automatic: false,
        durable: true,
        kinds: vec![Kind::Kill],
        legacy: false,
        recalls: false,
        moves: false,
        acts: Vec::new(),
    }
}

fn put(id: u8, bytes: u64) -> Act {
    let bytes = u16::try_from(bytes).unwrap_or(u16::MAX);
    Act::Put(Put { space: 0, id, bytes, dimension: 0, absent: false, forget: false })
}

fn play(
    seed: u64,
    sabotage: Option<Sabotage>,
    tally: &mut Tally,
    scene: impl FnOnce(&mut World, &mut Dice) -> Result<(), String>,
) -> Result<(), String> {
    play_plan(&plan(seed), sabotage, tally, scene)
}

fn play_plan(
    plan: &Plan,
    sabotage: Option<Sabotage>,
    tally: &mut Tally,
    scene: impl FnOnce(&mut World, &mut Dice) -> Result<(), String>,
) -> Result<(), String> {
    let seed = plan.seed;
    let mut world = World::new(plan, sabotage);
    let mut dice = Dice::new(seed);
    let result = world.begin(&mut dice, &[]).and_then(|()| scene(&mut world, &mut dice));
    world.disk.kill();
    sim::break_promise(None);
    sim::set_schema(1);
    tally.add(&world.tally);
    result
}

/// Behind the end of the log the disk shows frames of another memory, numbered as the next ones
/// would be.
///
/// # Errors
/// What did not hold.
pub fn former_life(seed: u64, sabotage: Option<Sabotage>, tally: &mut Tally) -> Result<(), String> {
    let mut others: Vec<u8> = Vec::new();
    let mut dice = Dice::new(mix(seed));
    let own = 1 + dice.below(3);
    let mut other = Tally::default();
    play(mix(seed), None, &mut other, |world, dice| {
        for id in 0..5 {
            let act = put(id, 20 + dice.below(200));
            world.act(&act, dice)?;
        }
        let image = world.disk.image();
        for frame in frames(&image).iter().filter(|frame| frame.header.lsn > own) {
            let Some(file) = image.get(&frame.path) else { continue };
            let mut bytes = vec![0; frame.bytes()];
            file.read(frame.offset, &mut bytes);
            others.extend(bytes);
        }
        Ok(())
    })?;
    play(seed, sabotage, tally, |world, dice| {
        for id in 0..own {
            let act = put(u8::try_from(id).unwrap_or(0), 20 + dice.below(200));
            world.act(&act, dice)?;
        }
        world.act(&Act::Quiet, dice)?;
        let all = frames(&world.disk.image());
        let Some(last) = all.last() else { return Err("nothing was written".into()) };
        world.disk.hurt(&last.path, last.offset + last.bytes(), &others);
        world.act(&Act::Restart { end: End::Kill, again: Vec::new() }, dice)?;
        world.act(&put(9, 50), dice)?;
        world.act(&Act::Restart { end: End::Kill, again: Vec::new() }, dice)
    })
}

/// The newest version of an episode is damaged while the engine runs, compaction finds that, and
/// another compaction comes past the version before it: that one is not superseded any more.
///
/// # Errors
/// What did not hold.
pub fn damaged_while_running(
    seed: u64,
    sabotage: Option<Sabotage>,
    tally: &mut Tally,
) -> Result<(), String> {
    play(seed, sabotage, tally, |world, dice| {
        // The old version stands among what lives; the new one among what is dead.
        let living = [(0, 300), (1, 3000), (2, 3000)];
        let dying = [(3, 2200), (0, 300), (3, 2200), (3, 2200)];
        for (id, bytes) in living.into_iter().chain(dying) {
            let act = put(id, bytes + dice.below(200));
            world.act(&act, dice)?;
        }
        world.act(&put(4, 3000), dice)?;
        let found = versions(world, 0);
        let [old, new] = &found[..] else {
            return Err(format!("{} versions of one episode, not 2", found.len()));
        };
        world.disk.hurt(&new.path, new.offset + new.bytes() - 1, b"!");
        let Some(store) = world.store.clone() else { return Ok(()) };
        for _ in 0..4 {
            // The first run takes both segments, and ends at the damage.
            let _damage_is_found = store.compact_from_memory();
        }
        if store.incidents().is_empty() {
            return Err("4: compaction came past damage and did not say so".into());
        }
        if versions_left(world, old) == 0 {
            let lsn = old.header.lsn;
            return Err(format!("9: LSN {lsn} left the log, and nothing intact replaced it"));
        }
        Ok(())
    })
}

/// The frames of the episode with this number, in order.
fn versions(world: &World, id: u8) -> Vec<Frame> {
    let all = frames(&world.disk.image());
    let key = all.iter().find(|frame| names(frame, id)).map(|frame| frame.header.key);
    all.into_iter().filter(|frame| Some(frame.header.key) == key).collect()
}

fn names(frame: &Frame, id: u8) -> bool {
    let (_, id) = crate::world::key_of(0, id);
    matches!(frame.record(), Some(engram_core::record::Record::Remember(r)) if r.id == id)
}

fn versions_left(world: &World, frame: &Frame) -> usize {
    frames(&world.disk.image()).iter().filter(|other| other.same_record(frame)).count()
}

/// A sync fails, and the cache calls clean what never reached the disk. The next process shows what
/// it found there, and then power is lost.
///
/// # Errors
/// What did not hold.
pub fn survivors(seed: u64, sabotage: Option<Sabotage>, tally: &mut Tally) -> Result<(), String> {
    play(seed, sabotage, tally, |world, dice| {
        world.act(&put(0, 20 + dice.below(2000)), dice)?;
        world.disk.plan(Op::Sync, 0, Trouble::Eio);
        world.act(&Act::Batch { space: 0, count: 3, bytes: 600 }, dice)?;
        world.act(&Act::Restart { end: End::Kill, again: Vec::new() }, dice)?;
        world.act(&Act::Restart { end: End::PowerLoss, again: Vec::new() }, dice)
    })
}

/// The saved index of the one space, if there is one.
fn saved_index(world: &World) -> Result<(PathBuf, Bytes), String> {
    let saved = world.disk.image().into_iter().find(|(path, _)| is_index(path));
    saved.ok_or_else(|| "no index was saved".into())
}

/// Recalls, so that there is an index, and begins a new life.
fn recall_and_close(world: &mut World, dice: &mut Dice) -> Result<(), String> {
    world.act(&Act::Upkeep(1), dice)?;
    world.act(&Act::Restart { end: End::Close, again: Vec::new() }, dice)
}

/// Bits flip among the vectors of a saved index.
///
/// # Errors
/// What did not hold.
pub fn saved_vectors_hit(
    seed: u64,
    sabotage: Option<Sabotage>,
    tally: &mut Tally,
) -> Result<(), String> {
    let plan = Plan { recalls: true, ..plan(seed) };
    play_plan(&plan, sabotage, tally, |world, dice| {
        let count = 6 + dice.below(4);
        for id in 0..count {
            let act = put(u8::try_from(id).unwrap_or(0), 20 + dice.below(100));
            world.act(&act, dice)?;
        }
        for _ in 0..6 {
            recall_and_close(world, dice)?;
            let (path, bytes) = saved_index(world)?;
            // The vectors are the last of it, but for their checksum: nobody has linked them.
            let vectors = bytes.len() * 2 / 3..bytes.len() - 4;
            for _ in 0..2 {
                let at = vectors.start + dice.index(vectors.len());
                let mut byte = [0];
                bytes.read(at, &mut byte);
                world.disk.hurt(&path, at, &[byte[0] ^ 0x40]);
            }
            world.act(&Act::Restart { end: End::Kill, again: Vec::new() }, dice)?;
        }
        Ok(())
    })
}

/// A log is taken back to an older copy beside a newer index, and its LSNs are given again.
///
/// # Errors
/// What did not hold.
pub fn log_taken_back(
    seed: u64,
    sabotage: Option<Sabotage>,
    tally: &mut Tally,
) -> Result<(), String> {
    let plan = Plan { recalls: true, ..plan(seed) };
    play_plan(&plan, sabotage, tally, |world, dice| {
        for id in 0..4 {
            world.act(&put(id, 20 + dice.below(100)), dice)?;
        }
        recall_and_close(world, dice)?;
        let (mut state, model) = (world.disk.state(), world.model.clone());
        for id in 4..10 {
            world.act(&put(id, 20 + dice.below(100)), dice)?;
        }
        recall_and_close(world, dice)?;
        let (path, bytes) = saved_index(world)?;
        state.replace(&path, bytes);
        world.store = None;
        world.disk.kill();
        world.end_disk();
        world.disk = SimDisk::new(state);
        world.model = model;
        world.sabotage();
        // Nobody recalls, and so makes the index right, before the numbers are given again.
        world.plan.recalls = false;
        world.begin(dice, &[])?;
        for id in 4..10 {
            world.act(&put(id, 20 + dice.below(100)), dice)?;
        }
        world.plan.recalls = true;
        for _ in 0..4 {
            world.act(&Act::Upkeep(1), dice)?;
        }
        Ok(())
    })
}
