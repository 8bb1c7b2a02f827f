//! Lines gathered into batches, one for each space and lane.

use std::collections::HashMap;

use engram_core::episode::limits::BATCH_EPISODES_MAX;

/// A batch of so many bytes is sent.
const BATCH_BYTES: usize = 4 << 20;
/// With so many bytes waiting in batches of many spaces, the largest is sent.
const WAITING_BYTES_MAX: usize = 32 << 20;

/// Lines of one space, to be sent in one request.
#[derive(Debug)]
pub(super) struct Batch {
    /// Their space.
    pub(super) space: String,
    /// Which request in flight carries it.
    pub(super) lane: usize,
    /// The lines, each with its newline.
    pub(super) body: Vec<u8>,
    /// The number in the source of each line.
    pub(super) numbers: Vec<u64>,
    /// Bytes of the source that they took.
    pub(super) read: u64,
}

impl Batch {
    fn new(space: String, lane: usize) -> Self {
        Self { space, lane, body: Vec::new(), numbers: Vec::new(), read: 0 }
    }
}

/// The batches that are being gathered.
#[derive(Debug)]
pub(super) struct Batches {
    lanes: u64,
    waiting: HashMap<String, Vec<Batch>>,
    waiting_bytes: usize,
}

impl Batches {
    /// Batches for so many lanes.
    pub(super) fn new(lanes: usize) -> Self {
        Self { lanes: lanes.max(1) as u64, waiting: HashMap::new(), waiting_bytes: 0 }
    }

    /// Adds a line; gives batches that are to be sent now.
    pub(super) fn add(
        &mut self,
        space: &str,
        lane_hash: u64,
        number: u64,
        line: &[u8],
        read: u64,
    ) -> Vec<Batch> {
        if !self.waiting.contains_key(space) {
            let lanes = usize::try_from(self.lanes).unwrap_or(1);
            let batches = (0..lanes).map(|lane| Batch::new(space.to_owned(), lane)).collect();
            self.waiting.insert(space.to_owned(), batches);
        }
        let place = usize::try_from(lane_hash % self.lanes).unwrap_or_default();
        let Some(batch) = self.waiting.get_mut(space).and_then(|all| all.get_mut(place)) else {
            return Vec::new();
        };
        batch.body.extend_from_slice(line);
        batch.body.push(b'\n');
        batch.numbers.push(number);
        batch.read += read;
        self.waiting_bytes += line.len() + 1;
        let full = batch.body.len() >= BATCH_BYTES || batch.numbers.len() >= BATCH_EPISODES_MAX;
        if full {
            let capacity = batch.body.capacity();
            let done = std::mem::replace(batch, Batch::new(space.to_owned(), place));
            batch.body.reserve(capacity.min(BATCH_BYTES));
            self.waiting_bytes -= done.body.len();
            return vec![done];
        }
        if self.waiting_bytes > WAITING_BYTES_MAX { self.take_largest() } else { Vec::new() }
    }

    /// All that still waits, larger spaces first.
    pub(super) fn rest(&mut self) -> Vec<Batch> {
        self.waiting_bytes = 0;
        let all = std::mem::take(&mut self.waiting).into_values().flatten();
        let mut all: Vec<Batch> = all.filter(|batch| !batch.numbers.is_empty()).collect();
        all.sort_by_key(|batch| std::cmp::Reverse(batch.body.len()));
        all
    }

    fn take_largest(&mut self) -> Vec<Batch> {
        let bytes = |all: &Vec<Batch>| all.iter().map(|batch| batch.body.len()).sum::<usize>();
        let largest = self.waiting.iter().max_by_key(|(_, all)| bytes(all));
        let Some(space) = largest.map(|(space, _)| space.clone()) else { return Vec::new() };
        let taken = self.waiting.remove(&space).unwrap_or_default();
        self.waiting_bytes -= bytes(&taken);
        taken.into_iter().filter(|batch| !batch.numbers.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_full_by_lines_or_by_bytes() {
        let mut batches = Batches::new(1);
        for number in 1..BATCH_EPISODES_MAX as u64 {
            assert!(batches.add("a", 0, number, b"{}", 3).is_empty());
        }
        let full = batches.add("a", 0, 0, b"{}", 3);
        assert_eq!(full.len(), 1);
        assert_eq!(full[0].numbers.len(), BATCH_EPISODES_MAX);
        assert_eq!(full[0].read, 3 * BATCH_EPISODES_MAX as u64);
        let large = vec![b'x'; BATCH_BYTES];
        assert_eq!(batches.add("a", 0, 1, &large, 1).len(), 1);
        assert!(batches.rest().is_empty());
    }

    #[test]
    fn many_spaces_do_not_fill_the_memory() {
        let mut batches = Batches::new(2);
        let line = vec![b'x'; 1 << 20];
        let mut sent = 0;
        for number in 0..200 {
            let space = format!("s{number}");
            sent += batches.add(&space, number, number, &line, 1).len();
            assert!(batches.waiting_bytes <= WAITING_BYTES_MAX);
        }
        assert_eq!(sent + batches.rest().len(), 200);
    }

    #[test]
    fn lines_of_one_hash_share_a_lane_in_order() {
        let mut batches = Batches::new(2);
        for number in 0..10 {
            batches.add("a", number % 3, number, b"{}", 1);
        }
        let rest = batches.rest();
        assert!(rest.iter().all(|batch| batch.numbers.is_sorted()));
        assert_eq!(rest.iter().map(|batch| batch.numbers.len()).sum::<usize>(), 10);
    }
}
