//! The vector index of one space: which episodes mean something similar.
//!
//! One dimension, cosine similarity. Vectors are kept as eight-bit integers. Few are all compared; of
//! more, those that seem near by a bit a component; and a graph over the integers is walked when
//! that would take too long. Derived data: the truth is in the log, and
//! so are the vectors in full precision, with which a caller may rank the answers again. See
//! `docs/decisions/0017-the-vector-index.md`. Deliberately absent: threads, locks and files.

mod codes;
mod graph;
mod kernel;
mod rows;
mod saved;
mod sketch;
mod visited;

use codes::{Codes, Query};
use graph::Graph;

pub use codes::DIMENSION_MAX;
pub use graph::Links;
pub use saved::Damaged;

use crate::index::bits::Bits;
use crate::index::top::{Scored, Top};

/// Up to so many vectors in the graph, they are scanned instead of walking it.
pub const SCAN_VECTORS_MAX: usize = 100_000;

/// How widely the graph is searched unless told otherwise.
pub const BREADTH: usize = 256;

/// Nodes that a walk looks at, for each that it is wide; where a filter is, a visit also costs more
/// than a step of a scan. Decides from when on a filter is too rare to walk.
const VISITS_PER_BREADTH: usize = 32;

/// Slots whose scores are computed at a time.
const BATCH: usize = 256;

/// A scan compares those that seem nearest by their sketches: so many for each that is wanted, and so
/// many at least. Of 218,000 texts that found 999 of 1,000 nearest tens, and 99 of 100 nearest
/// hundreds.
const COMPARED_PER_ANSWER: usize = 20;
const COMPARED_MIN: usize = 4_096;

/// How the nearest are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// All are compared.
    Exact,
    /// Those are compared that seem near by a bit a component.
    Sketch,
    /// The graph is walked.
    Graph,
}

impl Way {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Sketch => "sketch",
            Self::Graph => "graph",
        }
    }
}

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

    /// The `limit` nearest among the allowed (`None`: all) to a vector, best first, with their cosines
    /// as near as eight bits tell. `breadth`: how widely the graph is searched, more is slower and misses
    /// less. Fewer than `limit` come back only when there are fewer.
    ///
    /// # Panics
    /// When the query does not have [`Vectors::dimension`] components.
    #[must_use]
    pub fn nearest(
        &self,
        vector: &[f32],
        limit: usize,
        breadth: usize,
        allowed: Option<&Bits>,
    ) -> Vec<Scored> {
        assert_eq!(vector.len(), self.dimension(), "components of the query");
        let breadth = breadth.max(limit).max(1);
        let query = Query::new(vector);
        let whole = || {
            let mut slots = self.codes.present.clone();
            if let Some(allowed) = allowed {
                slots.keep(allowed);
            }
            self.scan_near((vector, &query), &slots, limit, Vec::new())
        };
        if self.way(limit, breadth, allowed) != Way::Graph {
            return whole();
        }
        let visits_max = match allowed {
            Some(allowed) => allowed.len().max(VISITS_PER_BREADTH * breadth),
            None => usize::MAX,
        };
        let reached = self.graph.nearest(&self.codes, &query, breadth, allowed, visits_max);
        let Some(reached) = reached else { return whole() };
        let linked = self.len() - self.unlinked.len();
        let starved = reached.len() < limit.min(linked);
        let mut unlinked = self.unlinked.clone();
        if let Some(allowed) = allowed {
            unlinked.keep(allowed);
        }
        let best = self.scan_near((vector, &query), &unlinked, limit, reached);
        if starved && best.len() < limit { whole() } else { best }
    }

    /// How the `limit` nearest among the allowed are looked for; `breadth` as for
    /// [`Vectors::nearest`].
    #[must_use]
    pub fn way(&self, limit: usize, breadth: usize, allowed: Option<&Bits>) -> Way {
        // The rarer the allowed, the longer a walk looks for them: a scan of few is quicker.
        let few = allowed.is_some_and(|allowed| self.is_few(allowed, breadth.max(limit).max(1)));
        let linked = self.len() - self.unlinked.len();
        if limit > 0 && linked > self.scan_max && !few {
            return Way::Graph;
        }
        let slots = allowed.map_or(self.len(), Bits::len);
        if slots > 2 * compared(limit) { Way::Sketch } else { Way::Exact }
    }

    /// What [`Vectors::nearest`] looks for, by comparing all of the allowed.
    ///
    /// # Panics
    /// When the query does not have [`Vectors::dimension`] components.
    #[must_use]
    pub fn exact(&self, query: &[f32], limit: usize, allowed: Option<&Bits>) -> Vec<Scored> {
        assert_eq!(query.len(), self.dimension(), "components of the query");
        let mut best = Top::new(limit);
        let query = Query::new(query);
        match allowed {
            None => self.scan(&query, self.codes.present.iter(), &mut best),
            Some(allowed) => {
                let slots = allowed.iter().filter(|&slot| self.contains(slot));
                self.scan(&query, slots, &mut best);
            }
        }
        best.into_sorted()
    }

    /// Whether a scan of the allowed takes less time than a walk: that visits about
    /// [`VISITS_PER_BREADTH`] nodes for each that it is wide, times as many as are not allowed.
    fn is_few(&self, allowed: &Bits, breadth: usize) -> bool {
        let visits = VISITS_PER_BREADTH.saturating_mul(breadth).saturating_mul(self.len());
        allowed.len().saturating_mul(allowed.len()) <= visits
    }

    /// The best of some slots and of what was found already.
    fn scan_near(
        &self,
        (vector, query): (&[f32], &Query),
        slots: &Bits,
        limit: usize,
        found: Vec<Scored>,
    ) -> Vec<Scored> {
        let mut best = Top::new(limit);
        for one in found {
            best.push(one);
        }
        if slots.len() > 2 * compared(limit) {
            let near = self.codes.seem_near(vector, slots, compared(limit));
            self.scan(query, near.into_iter(), &mut best);
        } else {
            self.scan(query, slots.iter(), &mut best);
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

/// How many a scan compares by more than their sketches, to find so many.
fn compared(limit: usize) -> usize {
    limit.saturating_mul(COMPARED_PER_ANSWER).max(COMPARED_MIN)
}

#[cfg(test)]
mod tests;
