//! The best texts for a query, without a look at every text that has one of its words.
//!
//! Two ways. **Windows**: the slots are gone through in windows. Words whose lists together could
//! not bring a text over the bar (the worst score that is still kept) are not enumerated: the
//! others add up their parts in an array, and only texts that could pass the bar with the rest
//! look the rest up. That is `MaxScore` (Turtle and Flood, 1995) as Lucene runs it: `the`, `what`
//! and `was` are hardly read. **Driven**: where a phrase or a narrow filter leaves few texts, those
//! are gone through and looked up one by one. Both give the same answers; a filter is asked before
//! a text is kept, so it never starves an answer.

use std::borrow::Cow;
use std::ops::Bound;

use super::bm25::{self, Bm25};
use super::postings::{Cursor, Postings};
use super::query::{Ask, Query};
use super::{Texts, decode};
use crate::index::bits::Bits;
use crate::index::top::{Scored, Top};
use crate::index::words::{begins, stems_before};

/// Slots of a window; its sums lie in the processor's nearest cache.
const WINDOW: usize = 2_048;
const WINDOW_SLOTS: u32 = 2_048;

/// In a space where so many texts have a word, it is one that everybody says.
pub(super) const MANY: usize = 16_384;

/// Looking a text up costs as much as running over so many postings.
const LOOK_UP: usize = 8;

/// A word of the query, its list, and where the search is in it.
struct Clause<'a> {
    list: Cow<'a, Postings>,
    weight: f32,
    most: u64,
    /// What it gives where it occurs once, by length.
    once: [u64; ONCE],
    cursor: Cursor,
}

/// Texts so short, which most are, need no arithmetic.
const ONCE: usize = 64;

impl<'a> Clause<'a> {
    fn new(bm25: &Bm25, share: f32, asked: u16, list: Cow<'a, Postings>) -> Self {
        let weight = bm25.weight(list.len(), share, asked);
        let most = bm25.most(weight, list.best());
        let mut once = [0; ONCE];
        for (length, once) in (0..).zip(&mut once) {
            *once = bm25.part(weight, 1, length);
        }
        Self { list, weight, most, once, cursor: Cursor::default() }
    }

    fn part(&self, bm25: &Bm25, times: u8, length: u32) -> u64 {
        match self.once.get(length as usize) {
            Some(&part) if times == 1 => part,
            _ => bm25.part(self.weight, times, length),
        }
    }
}

/// What must stand somewhere: for each place the ids that will do, sorted.
type Phrase = Vec<Vec<u32>>;

impl Texts {
    /// The best `limit` texts for a query, best first, of equals the lower slot; only slots that
    /// are `allowed`, if that is given. What is not found has no word of the query.
    #[must_use]
    pub fn search(&self, query: &Query, limit: usize, allowed: Option<&Bits>) -> Vec<Scored> {
        let bm25 = Bm25::new(self.len(), self.total);
        let phrases: Vec<Phrase> = query
            .phrases
            .iter()
            .map(|phrase| phrase.iter().map(|ask| self.ids_of(ask)).collect())
            .collect();
        let mut top = Top::new(limit);
        let clause = |(ask, asked, list): (&Ask, _, Option<_>)| {
            Some(Clause::new(&bm25, ask.share(), asked, list?))
        };
        let mut clauses: Vec<Clause<'_>> =
            self.asked(query).into_iter().filter_map(clause).collect();
        if limit == 0 || clauses.is_empty() {
            return Vec::new();
        }
        let postings: usize = clauses.iter().map(|clause| clause.list.len()).sum();
        let few = |bits: &&Bits| bits.len().saturating_mul(LOOK_UP * clauses.len()) < postings;
        if !phrases.is_empty() {
            // The place of the phrases that the fewest texts can fill.
            let places = phrases.iter().flatten();
            let lists = places
                .map(|ids| self.list(ids))
                .min_by_key(|list| list.as_ref().map_or(0, |list| list.len()));
            let Some(Some(list)) = lists else { return Vec::new() };
            let may = |slot: &u32| allowed.is_none_or(|bits| bits.contains(*slot));
            let slots = list.iter().map(|(slot, _)| slot).filter(may);
            let places = phrases.iter().flatten().filter_map(|ids| self.list(ids)).collect();
            self.driven(&bm25, slots, &mut clauses, places, &phrases, &mut top);
        } else if let Some(bits) = allowed.filter(few) {
            self.driven(&bm25, bits.iter(), &mut clauses, Vec::new(), &[], &mut top);
        } else {
            self.windows(&bm25, &mut clauses, allowed, &mut top);
        }
        top.into_sorted()
    }

    /// What a text would have at most that holds every word of a query as often as can be: beside
    /// it a score says how much of the query was found.
    #[must_use]
    pub fn whole(&self, query: &Query) -> f32 {
        let bm25 = Bm25::new(self.len(), self.total);
        let weight = |(ask, asked, list): (&Ask, u16, Option<Cow<'_, Postings>>)| {
            let having = list.map_or(0, |list| list.len());
            bm25.weight(having, ask.share(), asked) / bm25::ONE
        };
        self.asked(query).into_iter().map(weight).sum()
    }

    /// What scores: each word of a query, how often it is asked, and who has it, if anybody does.
    /// Words that more than [`MANY`] texts have are left out where there are others, unless a phrase has
    /// them: they would take nearly all of the time, and weigh next to nothing.
    fn asked<'a>(&'a self, query: &'a Query) -> Vec<(&'a Ask, u16, Option<Cow<'a, Postings>>)> {
        let list = |(ask, &asked): (&'a Ask, &u16)| (ask, asked, self.list(&self.ids_of(ask)));
        let mut all: Vec<_> = query.words.iter().map(list).collect();
        let len = |list: &Option<Cow<'_, Postings>>| list.as_ref().map_or(0, |list| list.len());
        if all.iter().any(|(.., list)| (1..=MANY).contains(&len(list))) {
            let quoted = |ask| query.phrases.iter().flatten().any(|other| other == ask);
            all.retain(|(ask, _, list)| len(list) <= MANY || quoted(*ask));
        }
        all
    }

    /// The ids of what is asked, sorted.
    fn ids_of(&self, ask: &Ask) -> Vec<u32> {
        match ask {
            Ask::Term(term) => self.dictionary.get(term.as_str()).copied().into_iter().collect(),
            Ask::Prefix(start) => {
                let mut ids = Vec::new();
                for start in begins(start) {
                    let from = (Bound::Included(start), Bound::Unbounded);
                    let terms = self.dictionary.range::<str, _>(from);
                    let own = terms.take_while(|(term, _)| term.starts_with(start));
                    ids.extend(own.map(|(_, &id)| id));
                }
                let before = stems_before(start);
                ids.extend(before.filter_map(|stem| self.dictionary.get(stem.as_str())));
                ids.sort_unstable();
                ids.dedup();
                ids
            }
        }
    }

    /// The texts that hold any of some terms, occurrences added up. `None`: nobody has any.
    fn list(&self, ids: &[u32]) -> Option<Cow<'_, Postings>> {
        let list = |id: u32| Some(&self.terms.get(id as usize)?.as_ref()?.postings);
        if let [one] = ids {
            return list(*one).map(Cow::Borrowed);
        }
        let mut times = vec![0_u8; if ids.is_empty() { 0 } else { self.encoded.len() }];
        for (slot, more) in ids.iter().filter_map(|&id| list(id)).flat_map(Postings::iter) {
            let times = &mut times[slot as usize];
            *times = times.saturating_add(more);
        }
        let mut all = Postings::new();
        for (slot, &times) in (0..).zip(&times).filter(|(_, times)| **times > 0) {
            all.insert(slot, times, &self.lengths);
        }
        (all.len() > 0).then_some(Cow::Owned(all))
    }

    /// Looks up each of some slots, which rise.
    fn driven(
        &self,
        bm25: &Bm25,
        slots: impl Iterator<Item = u32>,
        clauses: &mut [Clause<'_>],
        places: Vec<Cow<'_, Postings>>,
        phrases: &[Phrase],
        top: &mut Top,
    ) {
        let mut places: Vec<_> = places.into_iter().map(|list| (list, Cursor::default())).collect();
        places.sort_by_key(|(list, _)| list.len());
        let mut text = Vec::new();
        for slot in slots {
            let Some(&length) = self.lengths.get(slot as usize) else { break };
            if places.iter_mut().any(|(list, cursor)| list.seek(cursor, slot).is_none()) {
                continue;
            }
            let mut sum = None;
            for clause in &mut *clauses {
                if let Some(times) = clause.list.seek(&mut clause.cursor, slot) {
                    *sum.get_or_insert(0) += clause.part(bm25, times, length);
                }
            }
            let Some(sum) = sum else { continue };
            let score = Bm25::score(sum);
            if top.bar().is_some_and(|bar| score <= bar) {
                continue;
            }
            if !phrases.is_empty() {
                text.clear();
                text.extend(
                    self.encoded
                        .get(slot as usize)
                        .into_iter()
                        .flatten()
                        .flat_map(|one| decode(one)),
                );
            }
            if phrases.iter().all(|phrase| stands_in(phrase, &text)) {
                top.push(Scored { score, slot });
            }
        }
    }

    /// Goes through all slots that could pass the bar.
    fn windows(
        &self,
        bm25: &Bm25,
        clauses: &mut [Clause<'_>],
        allowed: Option<&Bits>,
        top: &mut Top,
    ) {
        clauses.sort_by_key(|clause| clause.most);
        let bounds = Bounds::new(bm25, clauses);
        let mut sums = vec![0_u64; WINDOW];
        let mut met = [0_u64; WINDOW / 64];
        let mut bar = 0;
        loop {
            // Clauses that pass the bar neither alone nor together are looked up only.
            let from = bounds.any.iter().take_while(|&&most| most <= bar).count();
            let (rest, main) = clauses.split_at_mut(from);
            let next = main.iter().filter_map(|clause| clause.list.at(clause.cursor)).min();
            let Some(next) = next else { break };
            let base = next - next % WINDOW_SLOTS;
            let end = base.saturating_add(WINDOW_SLOTS);
            for clause in main {
                let mut cursor = clause.cursor;
                clause.list.run(&mut cursor, end, |slot, times| {
                    let at = (slot - base) as usize;
                    sums[at] += clause.part(bm25, times, self.lengths[slot as usize]);
                    met[at / 64] |= 1 << (at % 64);
                });
                clause.cursor = cursor;
            }
            for (word, met) in (base..).step_by(64).zip(&mut met) {
                let mut left = std::mem::take(met);
                while left != 0 {
                    let slot = word + left.trailing_zeros();
                    left &= left - 1;
                    let mut sum = std::mem::take(&mut sums[(slot - base) as usize]);
                    let length = self.lengths[slot as usize];
                    let most = bounds.of_length(length);
                    if sum + most[from] <= bar || allowed.is_some_and(|bits| !bits.contains(slot)) {
                        continue;
                    }
                    for (clause, most) in rest.iter_mut().zip(most).rev() {
                        if let Some(times) = clause.list.seek(&mut clause.cursor, slot) {
                            sum += clause.part(bm25, times, length);
                        }
                        // `most`: of the clauses that are left.
                        if sum + most <= bar {
                            break;
                        }
                    }
                    if sum > bar || top.bar().is_none() {
                        top.push(Scored { score: Bm25::score(sum), slot });
                        bar = top.bar().map_or(0, Bm25::sum);
                    }
                }
            }
        }
    }
}

/// What the first so many clauses can give together. A text of `n` terms holds at most `n` of
/// them, and short texts score best: so bounds by length are much lower than the sum of what each
/// clause gives to the shortest text.
struct Bounds {
    /// By number of clauses, from 1: what they give to any text.
    any: Vec<u64>,
    /// By length: by number of clauses, from 0, what they give to texts of that length.
    by_length: Vec<Vec<u64>>,
}

impl Bounds {
    /// Texts of more terms have the bound of this many.
    const LENGTHS: u32 = 32;

    fn new(bm25: &Bm25, clauses: &[Clause<'_>]) -> Self {
        let mut any = vec![0; clauses.len()];
        let mut by_length = Vec::new();
        for length in 0..=Self::LENGTHS {
            let mut sums = vec![0];
            // The largest parts so far, as many as terms fit into the text, in order.
            let mut fit: Vec<u64> = Vec::new();
            for (clause, any) in clauses.iter().zip(&mut any) {
                let part = bm25.most_from(clause.weight, clause.list.best(), length);
                fit.insert(fit.partition_point(|&other| other >= part), part);
                if length < Self::LENGTHS {
                    fit.truncate(length as usize);
                }
                let sum = fit.iter().sum::<u64>();
                sums.push(sum);
                *any = sum.max(*any);
            }
            by_length.push(sums);
        }
        Self { any, by_length }
    }

    fn of_length(&self, length: u32) -> &[u64] {
        &self.by_length[length.min(Self::LENGTHS) as usize]
    }
}

/// Whether a phrase stands in a text.
fn stands_in(phrase: &[Vec<u32>], text: &[u32]) -> bool {
    text.windows(phrase.len())
        .any(|part| part.iter().zip(phrase).all(|(id, ids)| ids.binary_search(id).is_ok()))
}
