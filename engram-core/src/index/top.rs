//! The best few of many: a bounded heap.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// A slot and how well it answers; higher is better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// How well; never NaN.
    pub score: f32,
    /// Which.
    pub slot: u32,
}

impl Eq for Scored {}

impl Ord for Scored {
    /// By score; of equals the lower slot is the greater one, so that answers do not depend on
    /// the order in which they were found.
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.slot.cmp(&self.slot))
    }
}

impl PartialOrd for Scored {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Keeps the best `limit` of what it is shown.
#[derive(Debug)]
pub struct Top {
    limit: usize,
    heap: BinaryHeap<Reverse<Scored>>,
}

impl Top {
    /// For so many.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, heap: BinaryHeap::new() }
    }

    /// Shows it one.
    pub fn push(&mut self, one: Scored) {
        if self.heap.len() < self.limit {
            self.heap.push(Reverse(one));
        } else if let Some(mut worst) = self.heap.peek_mut()
            && worst.0 < one
        {
            *worst = Reverse(one);
        }
    }

    /// What a score must pass to be kept; `None` while there is room.
    #[must_use]
    pub fn bar(&self) -> Option<f32> {
        self.heap.peek().filter(|_| self.heap.len() >= self.limit).map(|worst| worst.0.score)
    }

    /// The best, best first.
    #[must_use]
    pub fn into_sorted(self) -> Vec<Scored> {
        self.heap.into_sorted_vec().into_iter().map(|Reverse(one)| one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_kept_and_ties_fall_to_the_lower_slot() {
        let mut top = Top::new(3);
        assert_eq!(top.bar(), None);
        for (slot, score) in [(9, 1.0), (4, 3.0), (2, 1.0), (7, 2.0), (1, 0.5)] {
            top.push(Scored { score, slot });
        }
        assert_eq!(top.bar(), Some(1.0));
        let slots: Vec<u32> = top.into_sorted().iter().map(|one| one.slot).collect();
        assert_eq!(slots, [4, 7, 2]);
        let mut none = Top::new(0);
        none.push(Scored { score: 1.0, slot: 1 });
        assert!(none.into_sorted().is_empty());
    }
}
