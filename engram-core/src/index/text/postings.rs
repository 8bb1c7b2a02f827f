//! Which texts hold one term: slots in rising order, in blocks.
//!
//! A block holds at most [`BLOCK`] postings, so putting one in anywhere, and taking one out, moves
//! no more than that. Beside its postings a list keeps its [`Best`]: what bounds a score from
//! above, whatever the average length is by now. Deliberately absent: compression (five bytes a
//! posting; most terms have few) and positions (the texts' own sequences of terms have them).

use std::mem::size_of;

/// Postings of a block at most.
const BLOCK: usize = 128;

/// Postings that a search looks at one by one before it halves.
const NEAR: usize = 6;

/// A term's occurrences in one text are counted up to this.
pub(super) const TIMES_MAX: u8 = u8::MAX;

/// How often a term may occur to have a class of its own in [`Best`]; the last one is "or oftener".
const CLASSES: usize = 4;

/// The postings that score best can only be among these: for each number of occurrences the
/// shortest text, and for many occurrences the most of them. Empty classes have no length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Best {
    shortest: [u32; CLASSES],
    most: u8,
}

impl Best {
    const NONE: Self = Self { shortest: [u32::MAX; CLASSES], most: 0 };

    fn class(times: u8) -> usize {
        usize::from(times).clamp(1, CLASSES) - 1
    }

    fn add(&mut self, times: u8, length: u32) {
        let shortest = &mut self.shortest[Self::class(times)];
        *shortest = length.min(*shortest);
        self.most = self.most.max(times);
    }

    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.shortest.iter_mut().zip(other.shortest) {
            *mine = theirs.min(*mine);
        }
        self.most = self.most.max(other.most);
    }

    /// Whether a posting may be why it is what it is.
    fn hangs_on(&self, times: u8, length: u32) -> bool {
        self.most == times || self.shortest[Self::class(times)] == length
    }

    /// What to score for a bound: how often, in a text of which length.
    pub(super) fn candidates(&self) -> impl Iterator<Item = (u8, u32)> + '_ {
        let times = [1, 2, 3, self.most];
        times.into_iter().zip(self.shortest).filter(|(_, length)| *length != u32::MAX)
    }
}

#[derive(Debug, Clone)]
struct Block {
    /// The first of `slots`, where a search for the block finds it without going there.
    first: u32,
    best: Best,
    slots: Vec<u32>,
    /// As `slots`; empty while every text holds the term once.
    times: Vec<u8>,
}

impl Block {
    fn new(slot: u32) -> Self {
        Self { first: slot, best: Best::NONE, slots: Vec::new(), times: Vec::new() }
    }

    fn times(&self, at: usize) -> u8 {
        self.times.get(at).copied().unwrap_or(1)
    }

    fn insert(&mut self, at: usize, slot: u32, times: u8, length: u32) {
        if times != 1 && self.times.is_empty() {
            self.times = vec![1; self.slots.len()];
        }
        self.slots.insert(at, slot);
        if times != 1 || !self.times.is_empty() {
            self.times.insert(at, times);
        }
        self.first = self.slots[0];
        self.best.add(times, length);
    }

    fn measure(&mut self, lengths: &[u32]) {
        self.best = Best::NONE;
        for (at, &slot) in self.slots.iter().enumerate() {
            self.best.add(self.times.get(at).copied().unwrap_or(1), lengths[slot as usize]);
        }
    }

    fn split(&mut self, lengths: &[u32]) -> Self {
        let half = self.slots.len() / 2;
        let slots = self.slots.split_off(half);
        let times = if self.times.is_empty() { Vec::new() } else { self.times.split_off(half) };
        let mut upper = Self { first: slots[0], best: Best::NONE, slots, times };
        upper.measure(lengths);
        self.measure(lengths);
        upper
    }

    fn absorb(&mut self, other: Self) {
        if !self.times.is_empty() || !other.times.is_empty() {
            self.times.resize(self.slots.len(), 1);
            self.times.extend((0..other.slots.len()).map(|at| other.times(at)));
        }
        self.slots.extend(other.slots);
        self.best.merge(&other.best);
    }

    fn shrink(&mut self) {
        if self.slots.len() * 2 <= self.slots.capacity() {
            self.slots.shrink_to_fit();
            self.times.shrink_to_fit();
        }
    }
}

/// The list of one term.
#[derive(Debug, Clone)]
pub(super) struct Postings {
    blocks: Vec<Block>,
    len: usize,
    best: Best,
}

/// A place in a list; it only moves forward.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cursor {
    block: usize,
    at: usize,
}

impl Postings {
    pub(super) const fn new() -> Self {
        Self { blocks: Vec::new(), len: 0, best: Best::NONE }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn best(&self) -> &Best {
        &self.best
    }

    /// The block that holds a slot, if any does.
    fn block(&self, slot: u32) -> usize {
        self.blocks.partition_point(|block| block.first <= slot).saturating_sub(1)
    }

    /// Puts in a text that is not there yet. `lengths` has the lengths of all texts, this one's too.
    pub(super) fn insert(&mut self, slot: u32, times: u8, lengths: &[u32]) {
        let length = lengths[slot as usize];
        self.len += 1;
        self.best.add(times, length);
        let mut to = match self.blocks.last() {
            // Slots mostly rise.
            Some(last) if last.first < slot => self.blocks.len() - 1,
            _ => self.block(slot),
        };
        let full = self.blocks.get(to).is_none_or(|block| block.slots.len() == BLOCK);
        if full {
            let at_end = to + 1 >= self.blocks.len()
                && self
                    .blocks
                    .last()
                    .and_then(|block| block.slots.last())
                    .is_none_or(|&last| last < slot);
            if self.blocks.is_empty() {
                // Most terms never have a second block.
                self.blocks.reserve_exact(1);
            }
            if at_end {
                self.blocks.push(Block::new(slot));
                to = self.blocks.len() - 1;
            } else {
                let upper = self.blocks[to].split(lengths);
                let above = slot >= upper.first;
                self.blocks.insert(to + 1, upper);
                to += usize::from(above);
            }
        }
        let block = &mut self.blocks[to];
        let at = match block.slots.last() {
            Some(&last) if last > slot => block.slots.partition_point(|&other| other < slot),
            _ => block.slots.len(),
        };
        block.insert(at, slot, times, length);
    }

    /// Takes a text out. `lengths` still has its length.
    pub(super) fn remove(&mut self, slot: u32, lengths: &[u32]) {
        let index = self.block(slot);
        let Some(block) = self.blocks.get_mut(index) else { return };
        let Ok(at) = block.slots.binary_search(&slot) else { return };
        let (times, length) = (block.times(at), lengths[slot as usize]);
        self.len -= 1;
        block.slots.remove(at);
        if !block.times.is_empty() {
            block.times.remove(at);
            if block.times.iter().all(|&times| times == 1) {
                block.times = Vec::new();
            }
        }
        if block.slots.is_empty() {
            self.blocks.remove(index);
        } else {
            block.first = block.slots[0];
            if block.best.hangs_on(times, length) {
                block.measure(lengths);
            }
            block.shrink();
            self.merge(index);
            // Blocks that shrink together.
            if let Some(before) = index.checked_sub(1) {
                self.merge(before);
            }
        }
        if self.blocks.len() * 2 <= self.blocks.capacity() {
            self.blocks.shrink_to_fit();
        }
        if self.best.hangs_on(times, length) {
            self.best = Best::NONE;
            for block in &self.blocks {
                self.best.merge(&block.best);
            }
        }
    }

    /// Merges a block with the next one where both are small.
    fn merge(&mut self, index: usize) {
        if let (Some(one), Some(next)) = (self.blocks.get(index), self.blocks.get(index + 1))
            && one.slots.len() + next.slots.len() <= BLOCK / 2
        {
            let next = self.blocks.remove(index + 1);
            self.blocks[index].absorb(next);
        }
    }

    /// All of it, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, u8)> + '_ {
        self.blocks.iter().flat_map(|block| {
            block.slots.iter().enumerate().map(|(at, &slot)| (slot, block.times(at)))
        })
    }

    /// The slot at a cursor, if there is one.
    pub(super) fn at(&self, cursor: Cursor) -> Option<u32> {
        let block = self.blocks.get(cursor.block)?;
        // Behind the end of a block is the beginning of the next.
        let next = || self.blocks.get(cursor.block + 1).map(|block| block.first);
        block.slots.get(cursor.at).copied().or_else(next)
    }

    /// Shows the postings from the cursor to below `end`, and leaves it there.
    pub(super) fn run(&self, cursor: &mut Cursor, end: u32, mut show: impl FnMut(u32, u8)) {
        while let Some(block) = self.blocks.get(cursor.block) {
            let slots = &block.slots[cursor.at..];
            let inside = match slots.last() {
                Some(&last) if last >= end => slots.partition_point(|&slot| slot < end),
                _ => slots.len(),
            };
            if block.times.is_empty() {
                slots[..inside].iter().for_each(|&slot| show(slot, 1));
            } else {
                let times = &block.times[cursor.at..];
                slots[..inside].iter().zip(times).for_each(|(&slot, &times)| show(slot, times));
            }
            if inside < slots.len() {
                cursor.at += inside;
                return;
            }
            *cursor = Cursor { block: cursor.block + 1, at: 0 };
        }
    }

    /// How often the text of a slot holds the term, if it does. The slots asked for must rise.
    pub(super) fn seek(&self, cursor: &mut Cursor, slot: u32) -> Option<u8> {
        let is_before =
            |index: usize| self.blocks.get(index).is_some_and(|block| block.first <= slot);
        if is_before(cursor.block + 1) {
            // By leaps that double, then by halves.
            let mut leap = 1;
            while is_before(cursor.block + 2 * leap) {
                leap *= 2;
            }
            let from = cursor.block + leap;
            let to = self.blocks.len().min(from + leap + 1);
            let further = self.blocks[from..to].partition_point(|block| block.first <= slot);
            *cursor = Cursor { block: from + further - 1, at: 0 };
        }
        let block = self.blocks.get(cursor.block)?;
        // Mostly it is near.
        let near = block.slots[cursor.at..].iter().take(NEAR).take_while(|&&other| other < slot);
        let passed = near.count();
        cursor.at += passed;
        if passed == NEAR {
            cursor.at += block.slots[cursor.at..].partition_point(|&other| other < slot);
        }
        (block.slots.get(cursor.at) == Some(&slot)).then(|| block.times(cursor.at))
    }

    /// Memory it takes beside itself.
    pub(super) fn bytes(&self) -> usize {
        let of = |block: &Block| {
            super::heap(block.slots.capacity() * size_of::<u32>())
                + super::heap(block.times.capacity())
        };
        super::heap(self.blocks.capacity() * size_of::<Block>())
            + self.blocks.iter().map(of).sum::<usize>()
    }
}
