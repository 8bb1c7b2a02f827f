//! Recall beside the oracle: what a recall may answer, worked out from the memory alone, and an
//! embedder whose vectors anyone can work out again.
//!
//! Every cue here asks for more than there is, so the answer is a set that must be equal to the
//! oracle's. How answers are ranked is for other tests.

use std::collections::BTreeMap;

use engram_core::embedder::{Embedder, NotEmbedded, Purpose, Reach};
use engram_core::recall::{Cue, Recollection, Weights};
use engram_core::{Episode, Store, Timestamp};

use crate::dice::Dice;
use crate::model::{Change, Key, Known, Memory};
use crate::world::World;

/// Components of a made vector.
const DIMENSION: usize = 8;

/// How far eight bits a component may take a cosine from the true one.
const ROUNDED: f64 = 0.03;
/// And full precision.
const EXACT: f64 = 1e-4;

/// A vector for each text, by its checksum: as different as can be, whatever the texts have in
/// common.
#[derive(Debug, Clone, Copy)]
pub struct SimEmbedder;

impl Embedder for SimEmbedder {
    fn model(&self) -> &'static str {
        "sim"
    }

    fn reach(&self) -> Reach {
        Reach::Near
    }

    fn embed(&self, texts: &[&str], _: Purpose) -> Result<Vec<Option<Vec<f32>>>, NotEmbedded> {
        Ok(texts.iter().map(|text| Some(made(text))).collect())
    }
}

/// The vector of a text.
fn made(text: &str) -> Vec<f32> {
    let sum = crc_fast::crc32_iscsi(text.as_bytes());
    direction(&mut Dice::new(u64::from(sum)), DIMENSION)
}

/// A vector by dice.
#[must_use]
pub fn direction(dice: &mut Dice, dimension: usize) -> Vec<f32> {
    let mut component = || f32::from(u16::try_from(1 + dice.below(2000)).unwrap_or(1)) - 1000.5;
    (0..dimension).map(|_| component()).collect()
}

/// What the engine embeds of an episode.
fn said(episode: &Episode) -> String {
    let mut text = episode.what.clone();
    let names = episode.place.iter().chain(&episode.who);
    for name in names.filter(|name| !name.chars().any(|c| c.is_ascii_digit())) {
        text = text + "\n" + name;
    }
    text
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Episodes of one space, by id.
type Wanted<'a> = BTreeMap<&'a str, &'a Known>;

/// A recall that is held against the memory.
struct Asked<'a> {
    store: &'a Store,
    space: &'a str,
    all: Wanted<'a>,
    fixed_at: u64,
}

impl<'a> Asked<'a> {
    fn new(store: &'a Store, space: &'a str, memory: &'a Memory) -> Self {
        let of_space = memory.episodes.iter().filter(|(key, _)| key.0 == space);
        let all = of_space.map(|(key, known)| (key.1.as_str(), known)).collect();
        Self { store, space, all, fixed_at: memory.fixed_at(space) }
    }

    fn recall(&self, cue: Cue) -> Result<Recollection, String> {
        let cue = Cue { limit: Some(self.all.len() + 20), explain: true, ..cue };
        let answer = self.store.recall(self.space, &cue);
        answer.map_err(|e| format!("recall fails: {e}: {cue:?}"))
    }

    /// The answer is made of what the memory has, and of nothing twice.
    fn is_ours(&self, answer: &Recollection) -> Result<(), String> {
        let mut given = Vec::new();
        for one in &answer.episodes {
            let (id, lsn) = (one.stored.episode.id.as_str(), one.stored.lsn);
            let space = self.space;
            let Some(known) = self.all.get(id) else {
                return Err(format!("7: {space}/{id} is recalled, and is not there"));
            };
            if known.lsn != 0 && known.lsn != lsn || known.episode != one.stored.episode {
                let lsn = known.lsn;
                return Err(format!("7: {space}/{id} is recalled, and not as of LSN {lsn}"));
            }
            if given.contains(&id) {
                return Err(format!("{space}/{id} is recalled twice"));
            }
            given.push(id);
        }
        Ok(())
    }

    /// The answer to a cue is exactly what of the memory is `wanted`.
    fn exactly(&self, cue: Cue, wanted: impl Fn(&Known) -> bool) -> Result<Recollection, String> {
        let told = format!("{cue:?}");
        let answer = self.recall(cue)?;
        if answer.pending > 0 || !answer.unreadable.is_empty() {
            let Recollection { pending, unreadable, .. } = &answer;
            return Err(format!("recall lacks {pending} and cannot read {unreadable:?}: {told}"));
        }
        self.is_ours(&answer)?;
        let given = |id: &str| answer.episodes.iter().any(|one| one.stored.episode.id == id);
        for (&id, known) in &self.all {
            let wanted = wanted(known);
            if wanted != given(id) {
                let how =
                    if wanted { "is not recalled" } else { "is recalled, and does not match" };
                return Err(format!("1: {}/{id} of LSN {} {how}: {told}", self.space, known.lsn));
            }
        }
        let indexed = answer.explained.as_ref().map_or(0, |explained| explained.indexed);
        let (all, space) = (self.all.len(), self.space);
        if indexed != all {
            return Err(format!("7: the index of {space} has {indexed} episodes, of {all}"));
        }
        Ok(answer)
    }

    /// By people, and a range of time.
    fn filtered(&self, dice: &mut Dice) -> Result<(), String> {
        let at = |second: u64| Timestamp::from_second(1_700_000_000 + second.cast_signed()).ok();
        let (from, length) = (dice.below(900), dice.below(900));
        let (from, to) = (at(from), at(from + length));
        let cue = Cue { from, to, who: vec!["Ann".into()], ..Cue::default() };
        let wanted = |Known { episode, .. }: &Known| {
            episode.who.iter().any(|name| name == "Ann")
                && from.is_some_and(|from| from <= episode.when)
                && to.is_some_and(|to| episode.when < to)
        };
        self.exactly(cue, wanted).map(drop)
    }

    /// By a word that one text alone has.
    fn by_words(&self, dice: &mut Dice) -> Result<(), String> {
        let known: Vec<&&Known> = self.all.values().collect();
        let Some(known) = known.get(dice.index(known.len())) else { return Ok(()) };
        let Some(word) = known.episode.what.split(' ').next().filter(|word| word.len() > 12) else {
            return Ok(());
        };
        if !word.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Ok(());
        }
        let weights = Weights { vector: 0.0, ..Weights::default() };
        let has = |known: &Known| known.episode.what.split(' ').any(|other| other == word);
        self.exactly(Cue { weights, ..Cue::of(word) }, has)?;
        // With meaning beside it, others may come too.
        let answer = self.recall(Cue::of(word))?;
        self.is_ours(&answer)?;
        let found = answer.episodes.iter().any(|one| one.stored.episode.what.starts_with(word));
        if found { Ok(()) } else { Err(format!("1: the one text with {word:?} is not recalled")) }
    }

    /// By vectors: given ones where the space has a dimension, else made ones.
    fn by_meaning(&self, dice: &mut Dice, dimension: Option<u32>) -> Result<(), String> {
        let weights = Weights { text: 0.0, ..Weights::default() };
        let text = format!("cue {}", dice.below(1000));
        let (cue, vector, bound) = match dimension {
            Some(dimension) => {
                let vector = direction(dice, dimension as usize);
                let cue = Cue { embedding: vector.clone(), weights, ..Cue::default() };
                (cue, vector, EXACT)
            }
            None => (Cue { weights, ..Cue::of(&*text) }, made(&text), ROUNDED),
        };
        let has = |known: &Known| {
            let is_newer = known.lsn == 0 || known.lsn > self.fixed_at;
            dimension.is_none_or(|one| is_newer && known.episode.embedding.len() == one as usize)
        };
        let answer = self.exactly(cue, has)?;
        for one in &answer.episodes {
            let episode = &one.stored.episode;
            let own =
                if dimension.is_some() { episode.embedding.clone() } else { made(&said(episode)) };
            let (truth, told) = (cosine(&own, &vector), one.why.vector.map(|why| why.value));
            if told.is_none_or(|told| (f64::from(told) - truth).abs() > bound) {
                let (space, id, lsn) = (self.space, &episode.id, one.stored.lsn);
                return Err(format!(
                    "2: the vector of {space}/{id} of LSN {lsn} is another's: {told:?}, not {truth}"
                ));
            }
        }
        Ok(())
    }
}

/// Holds recalls of every space against what is there.
///
/// # Errors
/// What did not hold.
pub(crate) fn recalls(store: &Store, memory: &Memory, dice: &mut Dice) -> Result<u64, String> {
    let mut count = 0;
    for space in store.spaces() {
        let asked = Asked::new(store, &space.name, memory);
        asked.exactly(Cue { min_confidence: Some(0.0), ..Cue::default() }, |_| true)?;
        match dice.below(4) {
            0 => asked.filtered(dice)?,
            1 => asked.by_words(dice)?,
            _ => asked.by_meaning(dice, space.dimension)?,
        }
        count += 2;
    }
    Ok(count)
}

impl World {
    /// What happens beside an act: the indexes' thread has its turn, or somebody recalls while
    /// calls of the disk go wrong.
    pub(crate) fn beside(&mut self, dice: &mut Dice) -> Result<(), String> {
        let Some(store) = self.store.clone() else { return Ok(()) };
        match dice.below(10) {
            0..=2 => {
                for _ in 0..=dice.below(8) {
                    let _idle = store.stepper().index();
                }
            }
            3 | 4 => store.stepper().save_indexes(),
            5 | 6 => return self.recall_in_trouble(&store),
            _ => {}
        }
        Ok(())
    }

    /// What comes is ours, and what does not come is said.
    fn recall_in_trouble(&mut self, store: &Store) -> Result<(), String> {
        if self.model.in_doubt() && !self.durable {
            return Ok(());
        }
        let memory = self.visible_now();
        for space in store.spaces() {
            let asked = Asked::new(store, &space.name, &memory);
            let answer = asked.recall(Cue { min_confidence: Some(0.0), ..Cue::default() })?;
            asked.is_ours(&answer)?;
            let lacks = answer.pending + answer.unreadable.len();
            if answer.episodes.len() + lacks < asked.all.len() {
                let (given, all) = (answer.episodes.len(), asked.all.len());
                return Err(format!("1: recall gives {given} of {all}, and says it lacks {lacks}"));
            }
            self.tally.recalls += 1;
        }
        Ok(())
    }

    /// In the middle of a batch a recall sees each change of it or not, and all else.
    pub(crate) fn recall_between(
        &mut self,
        store: &Store,
        changes: &[&Change],
    ) -> Result<(), String> {
        if self.model.in_doubt() {
            return Ok(());
        }
        let memory = self.visible_now();
        let mut touched: BTreeMap<&Key, Vec<&Episode>> = BTreeMap::new();
        for change in changes {
            match change {
                Change::Put(key, episode, _) => touched.entry(key).or_default().push(episode),
                Change::Del(key) => drop(touched.entry(key).or_default()),
                Change::DelSpace(_) => return Ok(()),
            }
        }
        for space in store.spaces() {
            let asked = Asked::new(store, &space.name, &memory);
            let mut answer = asked.recall(Cue { min_confidence: Some(0.0), ..Cue::default() })?;
            let lacks = answer.pending + answer.unreadable.len();
            let key = |id: &str| (space.name.clone(), id.to_owned());
            answer.episodes.retain(|one| {
                let episode = &one.stored.episode;
                !touched.get(&key(&episode.id)).is_some_and(|new| new.contains(&episode))
            });
            asked.is_ours(&answer)?;
            let given = |id: &str| answer.episodes.iter().any(|one| one.stored.episode.id == id);
            let others = asked.all.keys().filter(|id| !touched.contains_key(&key(id)));
            let missed: Vec<&&str> = others.filter(|id| !given(id)).collect();
            if missed.len() > lacks {
                return Err(format!("1: {}: {missed:?} are not recalled", space.name));
            }
            self.tally.recalls += 1;
        }
        Ok(())
    }
}
