//! The graph over the vectors: a hierarchy of small worlds.
//!
//! Y. A. Malkov, D. A. Yashunin: Efficient and robust approximate nearest neighbor search using
//! Hierarchical Navigable Small World graphs (2016), arXiv:1603.09320. A node's level comes from
//! a hash of its slot, so that the same changes give the same graph. A link is one way and may
//! point at a node that is gone: a walk skips what is not [`Graph::linked`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::codes::{Codes, Query};
use super::rows::Rows;
use super::visited::Visited;
use crate::index::bits::Bits;
use crate::index::mix::split_mix;
use crate::index::top::{Scored, Top};

/// Links that a new node gets on each level, and the most a node has above the lowest.
pub(super) const LINKS: usize = 16;

/// The most links that a node has on the lowest level.
pub(super) const LINKS_LOWEST: usize = 2 * LINKS;

/// How widely neighbours of a new node are looked for (the paper's `efConstruction`).
pub(super) const BREADTH_BUILDING: usize = 128;

/// No node.
pub(super) const NONE: u32 = u32::MAX;

/// What a new node is to be linked with: found by [`Vectors::plan`](super::Vectors::plan), for
/// [`Vectors::link`](super::Vectors::link).
#[derive(Debug, Clone)]
pub struct Links {
    /// The new node.
    pub(super) slot: u32,
    /// Of its vector, when the plan was made.
    pub(super) version: u32,
    /// A node with the very same vector; then it needs no neighbours.
    twin_of: Option<u32>,
    /// Its neighbours on each level, the lowest first.
    levels: Vec<Vec<u32>>,
}

/// The links of one node on the lowest level: two whole lines of memory.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Row([u32; LINKS_LOWEST]);

/// Who is linked with whom.
#[derive(Debug, Clone)]
pub(super) struct Graph {
    /// The links of the lowest level; the rest of a row is [`NONE`].
    lowest: Rows<Row>,
    /// The links above it, of nodes that reach so high: [`LINKS`] for each level.
    upper: BTreeMap<u32, Vec<u32>>,
    /// Which slots are in the graph.
    pub(super) linked: Bits,
    /// By node the slots with the very same vector. They are not in the graph: a thousand equal ones
    /// would be each other's neighbours and nobody else's, and cut the graph in two.
    pub(super) twins: BTreeMap<u32, Vec<u32>>,
    /// The node of each twin.
    pub(super) twin_of: BTreeMap<u32, u32>,
    /// The nodes that have twins.
    with_twins: Bits,
    /// A node of the highest level that there is.
    pub(super) entry: Option<u32>,
}

/// The highest level that a slot's node is on: each level has a sixteenth of the one below.
pub(super) fn level(slot: u32) -> usize {
    let hash = split_mix(&mut u64::from(slot));
    (hash.leading_zeros() / LINKS.ilog2()) as usize
}

impl Graph {
    pub(super) fn new() -> Self {
        Self {
            lowest: Rows::new(1, Row([NONE; LINKS_LOWEST])),
            upper: BTreeMap::new(),
            linked: Bits::default(),
            twins: BTreeMap::new(),
            twin_of: BTreeMap::new(),
            with_twins: Bits::default(),
            entry: None,
        }
    }

    /// The memory it takes.
    pub(super) fn bytes(&self) -> usize {
        let upper: usize = self.upper.values().map(|links| links.capacity() * 4 + 48).sum();
        // Of a twin a number here, and there two in the leaf of a tree.
        self.lowest.bytes() + upper + self.twin_of.len() * 16
    }

    /// A node's row of one level, with its [`NONE`]s.
    pub(super) fn row(&self, slot: u32, level: usize) -> &[u32] {
        if level == 0 {
            return self.lowest.row(slot).first().map_or(&[], |row| &row.0);
        }
        let at = (level - 1) * LINKS;
        self.upper.get(&slot).and_then(|links| links.get(at..at + LINKS)).unwrap_or_default()
    }

    pub(super) fn row_mut(&mut self, slot: u32, level: usize) -> &mut [u32] {
        if level == 0 {
            return self.lowest.row_mut(slot).first_mut().map_or(&mut [], |row| &mut row.0);
        }
        let at = (level - 1) * LINKS;
        let links = self.upper.get_mut(&slot).and_then(|links| links.get_mut(at..at + LINKS));
        links.unwrap_or_default()
    }

    /// A node's neighbours on one level, without those that are gone.
    fn neighbours(&self, slot: u32, level: usize) -> impl Iterator<Item = u32> + '_ {
        let row = self.row(slot, level).iter().copied().take_while(|&one| one != NONE);
        row.filter(|&one| self.linked.contains(one))
    }

    /// Makes a node without links.
    pub(super) fn enter(&mut self, slot: u32) {
        self.lowest.grow(slot as usize + 1);
        self.lowest.wipe(slot);
        if level(slot) > 0 {
            self.upper.insert(slot, vec![NONE; level(slot) * LINKS]);
        }
        self.linked.insert(slot);
        if self.entry.is_none_or(|entry| level(entry) < level(slot)) {
            self.entry = Some(slot);
        }
    }

    fn set_row(&mut self, slot: u32, level: usize, links: &[u32]) {
        let row = self.row_mut(slot, level);
        row.fill(NONE);
        for (place, &link) in row.iter_mut().zip(links) {
            *place = link;
        }
    }

    /// From the entry down to above `lowest`, each time to the nearest.
    fn descend(&self, codes: &Codes, query: &Query, lowest: usize) -> Option<Scored> {
        let entry = self.entry?;
        let mut scores = Vec::with_capacity(LINKS_LOWEST);
        codes.scores(query, &[entry], &mut scores);
        let mut best = Scored { slot: entry, score: scores.first().copied()? };
        let mut near = Vec::with_capacity(LINKS_LOWEST);
        for level in (lowest + 1..=level(entry)).rev() {
            loop {
                near.clear();
                near.extend(self.neighbours(best.slot, level));
                codes.scores(query, &near, &mut scores);
                let found = near.iter().zip(&scores).map(|(&slot, &score)| Scored { score, slot });
                match found.max() {
                    Some(better) if better > best => best = better,
                    _ => break,
                }
            }
        }
        Some(best)
    }

    /// The best `breadth` on one level among the allowed, best first (the paper's Algorithm 2).
    /// `None` when more than `visits_max` nodes were looked at.
    fn search(
        &self,
        (codes, query): (&Codes, &Query),
        begin: &[Scored],
        (level, breadth): (usize, usize),
        (allowed, visits_max): (Option<&Bits>, usize),
    ) -> Option<Vec<Scored>> {
        let may = |slot: u32| allowed.is_none_or(|allowed| allowed.contains(slot));
        // Twins may be asked for by the hundred thousand; there are only so many nodes.
        let nodes = self.linked.len();
        let mut visited = Visited::new(nodes.min(breadth.saturating_mul(LINKS)));
        let mut next = BinaryHeap::with_capacity(nodes.min(breadth.saturating_mul(4)));
        let mut best = Top::new(breadth);
        for &one in begin {
            if visited.insert(one.slot) {
                next.push(one);
                self.offer(one, &may, &mut best);
            }
        }
        let mut near = Vec::with_capacity(LINKS_LOWEST);
        let mut scores = Vec::with_capacity(LINKS_LOWEST);
        while let Some(from) = next.pop() {
            if best.bar().is_some_and(|bar| from.score < bar) {
                break;
            }
            near.clear();
            let row = self.row(from.slot, level).iter().copied().take_while(|&one| one != NONE);
            near.extend(row.filter(|&one| visited.insert(one) && self.linked.contains(one)));
            codes.scores(query, &near, &mut scores);
            for (&slot, &score) in near.iter().zip(&scores) {
                if best.bar().is_none_or(|bar| score > bar) {
                    // Its links are wanted soon: memory brings them meanwhile.
                    std::hint::black_box(self.row(slot, level).first());
                    next.push(Scored { score, slot });
                    self.offer(Scored { score, slot }, &may, &mut best);
                }
            }
            if visited.len() > visits_max {
                return None;
            }
        }
        Some(best.into_sorted())
    }

    /// Shows a node and its twins, as far as they may be seen.
    fn offer(&self, one: Scored, may: &impl Fn(u32) -> bool, best: &mut Top) {
        if may(one.slot) {
            best.push(one);
        }
        if self.with_twins.contains(one.slot) {
            let twins = self.twins.get(&one.slot).into_iter().flatten();
            for &slot in twins.filter(|&&slot| may(slot)) {
                best.push(Scored { slot, ..one });
            }
        }
    }

    /// The nearest nodes, as far as a walk finds them. `None` when more than `visits_max` nodes
    /// were looked at.
    pub(super) fn nearest(
        &self,
        codes: &Codes,
        query: &Query,
        breadth: usize,
        allowed: Option<&Bits>,
        visits_max: usize,
    ) -> Option<Vec<Scored>> {
        let Some(begin) = self.descend(codes, query, 0) else { return Some(Vec::new()) };
        self.search((codes, query), &[begin], (0, breadth), (allowed, visits_max))
    }

    /// Finds neighbours for a slot on each of its levels.
    pub(super) fn plan(&self, codes: &Codes, slot: u32) -> Links {
        let query = codes.query(slot);
        let top = level(slot).min(self.entry.map_or(0, level));
        let mut begin: Vec<Scored> = self.descend(codes, &query, top).into_iter().collect();
        let mut levels = vec![Vec::new(); level(slot) + 1];
        let mut twin_of = None;
        // Nodes only, no twins.
        let nodes = (Some(&self.linked), usize::MAX);
        for level in (0..=top).rev() {
            let found = self.search((codes, &query), &begin, (level, BREADTH_BUILDING), nodes);
            begin = found.unwrap_or_default();
            begin.retain(|one| one.slot != slot);
            let mut nearest = begin.iter().take(LINKS).map(|one| one.slot);
            twin_of =
                twin_of.or_else(|| nearest.find(|&one| codes.saved(one) == codes.saved(slot)));
            if let Some(links) = levels.get_mut(level) {
                *links = select(codes, &begin, LINKS);
            }
        }
        Links { slot, version: codes.version(slot), twin_of, levels }
    }

    /// Puts a planned node in; says whether it is in. Neighbours that left since are left out;
    /// when none of them stayed, it needs a new plan.
    pub(super) fn link(&mut self, codes: &Codes, links: &Links) -> bool {
        if let Some(node) = links.twin_of {
            let same = self.linked.contains(node) && codes.saved(node) == codes.saved(links.slot);
            if same {
                self.join(links.slot, node);
            }
            return same;
        }
        let stays = |&slot: &u32| slot != links.slot && self.linked.contains(slot);
        let mut levels = links.levels.clone();
        for level in &mut levels {
            level.retain(stays);
        }
        if self.entry.is_some() && levels.first().is_none_or(Vec::is_empty) {
            return false;
        }
        self.enter(links.slot);
        for (level, near) in levels.iter().enumerate() {
            self.set_row(links.slot, level, near);
            for &neighbour in near {
                self.link_back(codes, neighbour, links.slot, level);
            }
        }
        true
    }

    /// Makes a slot the twin of a node.
    pub(super) fn join(&mut self, slot: u32, node: u32) {
        self.twins.entry(node).or_default().push(slot);
        self.twin_of.insert(slot, node);
        self.with_twins.insert(node);
    }

    /// Adds a link; when the row is full, the ones that say most are kept.
    fn link_back(&mut self, codes: &Codes, from: u32, to: u32, level: usize) {
        let mut links: Vec<u32> = self.neighbours(from, level).filter(|&one| one != to).collect();
        links.push(to);
        self.relink(codes, from, level, links);
    }

    /// Gives a node these links, or the best of them.
    fn relink(&mut self, codes: &Codes, slot: u32, level: usize, mut links: Vec<u32>) {
        let most = if level == 0 { LINKS_LOWEST } else { LINKS };
        if links.len() > most {
            let query = codes.query(slot);
            let mut scores = Vec::new();
            codes.scores(&query, &links, &mut scores);
            let found = links.iter().zip(&scores).map(|(&slot, &score)| Scored { score, slot });
            let mut ranked: Vec<Scored> = found.collect();
            ranked.sort_unstable_by_key(|&one| Reverse(one));
            links = select(codes, &ranked, most);
        }
        self.set_row(slot, level, &links);
    }

    /// Takes a node out. Nodes that led to it, as far as they are its neighbours or theirs, are
    /// linked with its neighbours instead. Gives back its twins: they need a place of their own.
    pub(super) fn unlink(&mut self, codes: &Codes, slot: u32) -> Vec<u32> {
        if let Some(node) = self.twin_of.remove(&slot)
            && let Some(twins) = self.twins.get_mut(&node)
        {
            twins.retain(|&twin| twin != slot);
        }
        if !self.linked.remove(slot) {
            return Vec::new();
        }
        for level in 0..=level(slot) {
            let near: Vec<u32> = self.neighbours(slot, level).collect();
            let mut known = Visited::new(LINKS_LOWEST * LINKS_LOWEST);
            let mut around = Vec::new();
            for &one in &near {
                around.extend(std::iter::once(one).filter(|&one| known.insert(one)));
                around.extend(self.neighbours(one, level).filter(|&one| known.insert(one)));
            }
            for one in around.into_iter().filter(|&one| one != slot) {
                if self.row(one, level).contains(&slot) {
                    let mut links: Vec<u32> = self.neighbours(one, level).collect();
                    let new = near.iter().filter(|&&new| new != one && !links.contains(&new));
                    let new: Vec<u32> = new.copied().collect();
                    links.extend(new);
                    self.relink(codes, one, level, links);
                }
            }
        }
        self.lowest.wipe(slot);
        self.upper.remove(&slot);
        if self.entry == Some(slot) {
            let highest = self.upper.keys().copied().max_by_key(|&one| (level(one), Reverse(one)));
            self.entry = highest.or_else(|| self.linked.iter().next());
        }
        self.with_twins.remove(slot);
        let twins = self.twins.remove(&slot).unwrap_or_default();
        for twin in &twins {
            self.twin_of.remove(twin);
        }
        twins
    }
}

/// The most telling `most` of candidates that are given best first (the paper's Algorithm 4): one
/// that is nearer to a chosen one than to the node itself is reached through that. What room is
/// left goes to the nearest of the others.
fn select(codes: &Codes, candidates: &[Scored], most: usize) -> Vec<u32> {
    let mut chosen = Vec::with_capacity(most);
    let mut queries: Vec<Query> = Vec::with_capacity(most);
    for one in candidates {
        if chosen.len() >= most {
            break;
        }
        if !codes.is_near_one(one.slot, &queries, one.score) {
            chosen.push(one.slot);
            queries.push(codes.query(one.slot));
        }
    }
    chosen
}
