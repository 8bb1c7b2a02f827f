//! The vector index of one space: which episodes mean something similar.
//!
//! One dimension, cosine similarity. Vectors are kept as eight-bit integers; a graph over the same
//! integers is walked when a scan would take too long. Derived data: the truth is in the log, and
//! so are the vectors in full precision, with which a caller may rank the answers again. See
//! `docs/decisions/0017-the-vector-index.md`. Deliberately absent: threads, locks and files.

mod codes;
mod graph;
mod kernel;
mod rows;
mod saved;
mod visited;

use codes::{Codes, Query};
use graph::Graph;

pub use codes::DIMENSION_MAX;
pub use graph::Links;
pub use saved::Damaged;

use crate::index::bits::Bits;
use crate::index::top::{Scored, Top};

/// Up to so many vectors in the graph, all are compared instead of walking it.
pub const SCAN_VECTORS_MAX: usize = 100_000;

/// How widely the graph is searched unless told otherwise.
pub const BREADTH: usize = 256;

/// Nodes that a walk looks at, for each that it is wide; where a filter is, a visit also costs more
/// than a step of a scan. Decides from when on a filter is too rare to walk.
const VISITS_PER_BREADTH: usize = 32;

/// Slots whose scores are computed at a time.
const BATCH: usize = 256;

/// The vectors of a space, by slot.
#[derive(Debug, Clone)]
pub struct Vectors {
    codes: Codes,
    graph: Graph,
    unlinked: Bits,
    scan_max: usize,
}

impl Vectors {
    /// None yet, of so many components each.
    ///
    /// # Panics
    /// When the dimension is zero or above [`DIMENSION_MAX`].
    #[must_use]
    pub fn new(dimension: usize) -> Self {
        assert!((1..=DIMENSION_MAX).contains(&dimension), "a dimension of {dimension}");
        Self {
            codes: Codes::new(dimension),
            graph: Graph::new(),
            unlinked: Bits::default(),
            scan_max: SCAN_VECTORS_MAX,
        }
    }

    /// The same with another bound than [`SCAN_VECTORS_MAX`].
    #[must_use]
    pub fn with_scan_max(mut self, vectors: usize) -> Self {
        self.scan_max = vectors;
        self
    }

    /// Components of a vector.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.codes.dimension
    }

    /// How many vectors there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.codes.present.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory it takes, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.codes.bytes() + self.graph.bytes()
    }

    /// Whether a slot has a vector.
    #[must_use]
    pub fn contains(&self, slot: u32) -> bool {
        self.codes.present.contains(slot)
    }

    /// Gives a slot a vector, in place of what it had. Only its direction counts; one without a
    /// direction (all zeros) is as near as a right angle to everything. It is found at once, and
    /// is in the graph once it is linked.
    ///
    /// # Panics
    /// When the vector does not have [`Vectors::dimension`] components.
    pub fn set(&mut self, slot: u32, vector: &[f32]) {
        assert_eq!(vector.len(), self.dimension(), "components of the vector for slot {slot}");
        self.unlink(slot);
        self.codes.set(slot, vector);
        self.unlinked.insert(slot);
    }

    /// Forgets a slot's vector at once: zeros are written over it, it leaves the graph, and no
    /// answer names it. Says whether there was one.
    pub fn remove(&mut self, slot: u32) -> bool {
        self.unlink(slot);
        self.unlinked.remove(slot);
        self.codes.wipe(slot)
    }

    fn unlink(&mut self, slot: u32) {
        for twin in self.graph.unlink(&self.codes, slot) {
            self.unlinked.insert(twin);
        }
    }

    /// The `limit` nearest among the allowed (`None`: all), best first, with their cosines as near
    /// as eight bits tell. `breadth`: how widely the graph is searched, more is slower and misses
    /// less. Fewer than `limit` come back only when there are fewer.
    ///
    /// # Panics
    /// When the query does not have [`Vectors::dimension`] components.
    #[must_use]
    pub fn nearest(
        &self,
        query: &[f32],
        limit: usize,
        breadth: usize,
        allowed: Option<&Bits>,
    ) -> Vec<Scored> {
        let breadth = breadth.max(limit).max(1);
        if limit == 0 || self.len() - self.unlinked.len() <= self.scan_max {
            return self.exact(query, limit, allowed);
        }
        assert_eq!(query.len(), self.dimension(), "components of the query");
        let query = Query::new(query);
        let reached = match allowed {
            // The rarer the allowed, the longer a walk looks for them: a scan of few is quicker.
            Some(allowed) if self.is_few(allowed, breadth) => None,
            Some(allowed) => {
                let visits_max = allowed.len().max(VISITS_PER_BREADTH * breadth);
                self.graph.nearest(&self.codes, &query, breadth, Some(allowed), visits_max)
            }
            None => self.graph.nearest(&self.codes, &query, breadth, None, usize::MAX),
        };
        let mut best = Top::new(limit);
        let Some(reached) = reached else { return self.scan_allowed(&query, limit, allowed) };
        let starved = reached.len() < limit.min(self.len() - self.unlinked.len());
        for one in reached {
            best.push(one);
        }
        let allows = |slot: &u32| allowed.is_none_or(|allowed| allowed.contains(*slot));
        self.scan(&query, self.unlinked.iter().filter(allows), &mut best);
        if starved && best.bar().is_none() {
            return self.scan_allowed(&query, limit, allowed);
        }
        best.into_sorted()
    }

    /// Whether the graph is walked, rather than all compared, when nothing is filtered.
    #[must_use]
    pub fn walks(&self) -> bool {
        self.len() - self.unlinked.len() > self.scan_max
    }

    /// The same by comparing all of the allowed.
    ///
    /// # Panics
    /// When the query does not have [`Vectors::dimension`] components.
    #[must_use]
    pub fn exact(&self, query: &[f32], limit: usize, allowed: Option<&Bits>) -> Vec<Scored> {
        assert_eq!(query.len(), self.dimension(), "components of the query");
        self.scan_allowed(&Query::new(query), limit, allowed)
    }

    /// Whether a scan of the allowed takes less time than a walk: that visits about
    /// [`VISITS_PER_BREADTH`] nodes for each that it is wide, times as many as are not allowed.
    fn is_few(&self, allowed: &Bits, breadth: usize) -> bool {
        let visits = VISITS_PER_BREADTH.saturating_mul(breadth).saturating_mul(self.len());
        allowed.len().saturating_mul(allowed.len()) <= visits
    }

    fn scan_allowed(&self, query: &Query, limit: usize, allowed: Option<&Bits>) -> Vec<Scored> {
        let mut best = Top::new(limit);
        match allowed {
            None => self.scan(query, self.codes.present.iter(), &mut best),
            Some(allowed) => {
                let slots = allowed.iter().filter(|&slot| self.contains(slot));
                self.scan(query, slots, &mut best);
            }
        }
        best.into_sorted()
    }

    fn scan(&self, query: &Query, slots: impl Iterator<Item = u32>, best: &mut Top) {
        let mut slots = slots.peekable();
        let (mut batch, mut scores) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
        while slots.peek().is_some() {
            batch.clear();
            batch.extend(slots.by_ref().take(BATCH));
            self.codes.scores(query, &batch, &mut scores);
            for (&slot, &score) in batch.iter().zip(&scores) {
                if best.bar().is_none_or(|bar| score >= bar) {
                    best.push(Scored { score, slot });
                }
            }
        }
    }

    /// The vectors that are not in the graph yet, by rising slot.
    pub fn unlinked(&self) -> impl Iterator<Item = u32> + '_ {
        self.unlinked.iter()
    }

    /// How many are not.
    #[must_use]
    pub fn unlinked_len(&self) -> usize {
        self.unlinked.len()
    }

    /// Finds neighbours for a vector that is not in the graph; `None` when it is, or is gone.
    #[must_use]
    pub fn plan(&self, slot: u32) -> Option<Links> {
        self.unlinked.contains(slot).then(|| self.graph.plan(&self.codes, slot))
    }

    /// Puts a vector into the graph as planned; says whether it did. It does not when the vector
    /// was changed or removed since, or when none of the neighbours is left.
    pub fn link(&mut self, links: &Links) -> bool {
        let slot = links.slot;
        self.unlinked.contains(slot)
            && self.codes.version(slot) == links.version
            && self.graph.link(&self.codes, links)
            && self.unlinked.remove(slot)
    }
}

#[cfg(test)]
mod tests;
