//! The order of a space's episodes by time.
//!
//! Runs of entries' numbers, each run a few hundred long: four bytes an episode, where a tree of
//! times took sixty. What is compared stands in the entries. Episodes come in the order of time
//! but for a few, so the end is looked at first, and runs are full but for those that were split.
//!
//! Deliberately absent: which space, and what an entry is.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

/// When an episode happened, in seconds and nanoseconds, and its LSN among equals.
pub(super) type Moment = (i64, u32, u64);

/// Most numbers of one run: what is moved where one is put between others.
const RUN_MAX: usize = 512;

/// The order.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// None is empty.
    runs: Vec<Run>,
}

#[derive(Debug)]
struct Run {
    first: Moment,
    numbers: Vec<u32>,
}

impl Order {
    /// Puts an entry in. `moment_of` knows when it and all that are here happened.
    pub(super) fn insert(
        &mut self,
        number: u32,
        moment: Moment,
        moment_of: impl Fn(u32) -> Moment,
    ) {
        let is_last = |numbers: &Vec<u32>| numbers.last().is_none_or(|&n| moment_of(n) < moment);
        if let Some(run) = self.runs.last_mut().filter(|run| is_last(&run.numbers)) {
            if run.numbers.len() < RUN_MAX {
                run.numbers.push(number);
            } else {
                self.runs.push(Run { first: moment, numbers: vec![number] });
            }
            return;
        }
        let at = self.run_of(moment);
        let Some(run) = self.runs.get_mut(at) else {
            self.runs.push(Run { first: moment, numbers: vec![number] });
            return;
        };
        run.numbers.insert(run.numbers.partition_point(|&n| moment_of(n) < moment), number);
        run.first = run.first.min(moment);
        if run.numbers.len() > RUN_MAX {
            let numbers = run.numbers.split_off(RUN_MAX / 2);
            run.numbers.shrink_to(RUN_MAX);
            let first = numbers.first().map_or(moment, |&first| moment_of(first));
            self.runs.insert(at.saturating_add(1), Run { first, numbers });
        }
    }

    /// Takes an entry out, which `moment_of` must still know.
    pub(super) fn remove(&mut self, moment: Moment, moment_of: impl Fn(u32) -> Moment) {
        let at = self.run_of(moment);
        let Some(run) = self.runs.get_mut(at) else { return };
        let Ok(place) = run.numbers.binary_search_by_key(&moment, |&n| moment_of(n)) else {
            return;
        };
        run.numbers.remove(place);
        match run.numbers.first() {
            None => {
                self.runs.remove(at);
                return;
            }
            Some(&first) if place == 0 => run.first = moment_of(first),
            Some(_) => {}
        }
        self.join(at);
        self.join(at.saturating_sub(1));
    }

    /// Makes one of a run and the next where both are small.
    fn join(&mut self, at: usize) {
        let next = at.saturating_add(1);
        let len = |run| self.runs.get(run).map_or(RUN_MAX, |run: &Run| run.numbers.len());
        if len(at).saturating_add(len(next)) > RUN_MAX / 2 {
            return;
        }
        let mut taken = self.runs.remove(next);
        if let Some(run) = self.runs.get_mut(at) {
            run.numbers.append(&mut taken.numbers);
        }
    }

    /// The numbers from `first` on and before `end`, backwards.
    pub(super) fn newest_first(
        &self,
        first: Moment,
        end: Moment,
        moment_of: impl Fn(u32) -> Moment,
    ) -> impl Iterator<Item = u32> {
        let before = self.runs.partition_point(|run| run.first < end);
        let (whole, edge) =
            self.runs.split_at_checked(before.saturating_sub(1)).unwrap_or_default();
        let edge = edge.first().map_or(&[][..], |run| run.numbers.as_slice());
        let part = edge.get(..edge.partition_point(|&n| moment_of(n) < end)).unwrap_or_default();
        let behind = whole.iter().rev().flat_map(|run| run.numbers.iter().rev());
        part.iter()
            .rev()
            .chain(behind)
            .copied()
            .take_while(move |&number| moment_of(number) >= first)
    }

    /// The last run that begins at or before a moment; the first one where none does.
    fn run_of(&self, moment: Moment) -> usize {
        self.runs.partition_point(|run| run.first <= moment).saturating_sub(1)
    }
}

#[cfg(test)]
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "tests may panic"
)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::index::mix::split_mix;

    /// An order beside a tree that does the same.
    #[derive(Default)]
    struct Both {
        order: Order,
        tree: BTreeMap<Moment, u32>,
        moments: Vec<Moment>,
    }

    impl Both {
        fn insert(&mut self, seconds: i64, nanos: u32) {
            let number = u32::try_from(self.moments.len()).unwrap();
            let moment = (seconds, nanos, u64::from(number));
            self.moments.push(moment);
            self.tree.insert(moment, number);
            self.order.insert(number, moment, |number| self.moments[number as usize]);
        }

        fn remove(&mut self, moment: Moment) {
            self.tree.remove(&moment);
            self.order.remove(moment, |number| self.moments[number as usize]);
        }

        fn check(&self, first: Moment, end: Moment) {
            let moment_of = |number: u32| self.moments[number as usize];
            let ours: Vec<u32> = self.order.newest_first(first, end, moment_of).collect();
            let range = (first < end).then(|| self.tree.range(first..end).rev());
            let wanted: Vec<u32> = range.into_iter().flatten().map(|(_, &number)| number).collect();
            assert_eq!(ours, wanted, "from {first:?} to {end:?}");
        }

        fn check_all(&self) {
            self.check((i64::MIN, 0, 0), (i64::MAX, u32::MAX, u64::MAX));
            for run in &self.order.runs {
                assert!((1..=RUN_MAX).contains(&run.numbers.len()), "{}", run.numbers.len());
                assert_eq!(run.first, self.moments[run.numbers[0] as usize]);
            }
        }
    }

    #[test]
    fn it_is_the_order_of_a_tree() {
        for spread in [1, 40, 1_000_000] {
            let (mut both, mut state) = (Both::default(), spread);
            for round in 0..20_000u64 {
                let drawn = split_mix(&mut state);
                let seconds = i64::try_from(drawn % spread).unwrap() - 20;
                // Grows, shrinks to almost nothing, and grows again.
                let shrinks = (8_000..14_000).contains(&round);
                let at = (seconds, 0, drawn >> 40);
                match both.tree.range(at..).next().map(|(&moment, _)| moment) {
                    Some(moment) if (drawn >> 20) % 10 < if shrinks { 9 } else { 2 } => {
                        both.remove(moment);
                    }
                    _ => both.insert(seconds, u32::from(drawn & 1 << 30 != 0)),
                }
                if round % 500 == 0 {
                    both.check_all();
                    let other = split_mix(&mut state) % spread;
                    both.check((seconds, 1, 0), (i64::try_from(other).unwrap() - 20, 1, 7));
                }
            }
            both.check_all();
        }
    }

    #[test]
    fn what_comes_in_order_fills_its_runs_and_what_goes_gives_them_back() {
        let mut both = Both::default();
        for second in 0..10_000 {
            both.insert(second, 0);
        }
        assert_eq!(both.order.runs.len(), 10_000usize.div_ceil(RUN_MAX));
        both.check_all();
        let moments = both.moments.clone();
        for moment in moments.iter().filter(|moment| moment.0 % 50 != 0) {
            both.remove(*moment);
        }
        both.check_all();
        assert!(both.order.runs.len() <= 2, "{} runs of 200 entries", both.order.runs.len());
        both.remove((3, 3, 3));
        both.check_all();
    }
}
