//! Where a walk has been: a set of slots, as large as the walk and not as the index.
//!
//! A few thousand slots of a million are visited. An array of stamps for all of them misses the
//! cache at each look, and has to be kept between walks; this table is made anew for each walk.

use super::graph::NONE;

/// Open addressing with linear probing, at most half full.
#[derive(Debug)]
pub(super) struct Visited {
    cells: Vec<u32>,
    len: usize,
}

impl Visited {
    /// Room for about so many before it grows.
    pub(super) fn new(expected: usize) -> Self {
        Self { cells: vec![NONE; (2 * expected.max(32)).next_power_of_two()], len: 0 }
    }

    /// How many it has seen.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Notes a slot; says whether it is new.
    pub(super) fn insert(&mut self, slot: u32) -> bool {
        if !self.put(slot) {
            return false;
        }
        self.len += 1;
        if 2 * self.len > self.cells.len() {
            let doubled = vec![NONE; 2 * self.cells.len()];
            for old in std::mem::replace(&mut self.cells, doubled) {
                if old != NONE {
                    self.put(old);
                }
            }
        }
        true
    }

    fn put(&mut self, slot: u32) -> bool {
        let mask = self.cells.len() - 1;
        let mut at = (slot.wrapping_mul(0x9E37_79B1) >> 7) as usize & mask;
        loop {
            match self.cells[at] {
                found if found == slot => return false,
                NONE => {
                    self.cells[at] = slot;
                    return true;
                }
                _ => at = (at + 1) & mask,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_new_once_also_when_the_table_grows() {
        let mut visited = Visited::new(0);
        assert!((0..10_000).step_by(3).all(|slot| visited.insert(slot)));
        assert!((0..10_000).step_by(3).all(|slot| !visited.insert(slot)));
        assert!(visited.insert(1) && visited.len() == 3335);
    }
}
