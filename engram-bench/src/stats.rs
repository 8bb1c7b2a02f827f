//! Medians and quartiles, and ratios of slices that were measured side by side.
//!
//! A machine's speed drifts while a benchmark runs, by more than what is to be measured. So two
//! things are compared by short slices in turn, and the ratio is taken within each pair: the
//! drift hits both sides. Deliberately absent: means, which one slow slice can spoil.

/// The middle of some observations, and how far they spread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    /// A quarter of the observations is below.
    pub(crate) first_quartile: f64,
    /// Half of them are.
    pub(crate) median: f64,
    /// Three quarters are.
    pub(crate) third_quartile: f64,
    /// How many there are.
    pub(crate) observations: usize,
}

impl Spread {
    /// Of any observations; `None` of none.
    pub(crate) fn of(observations: &[f64]) -> Option<Self> {
        let mut sorted = observations.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            first_quartile: quantile(&sorted, 0.25)?,
            median: quantile(&sorted, 0.5)?,
            third_quartile: quantile(&sorted, 0.75)?,
            observations: sorted.len(),
        })
    }

    /// Of the ratios of paired observations.
    pub(crate) fn of_ratios(numerators: &[f64], denominators: &[f64]) -> Option<Self> {
        let ratios: Vec<f64> = numerators.iter().zip(denominators).map(|(a, b)| a / b).collect();
        Self::of(&ratios)
    }
}

/// A quantile of sorted observations, between two of them by linear interpolation (Hyndman and
/// Fan's type 7).
pub(crate) fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = part * float(last);
    let below = index(place.floor());
    let (low, high) = (sorted.get(below)?, sorted.get(below.saturating_add(1)).or(sorted.last())?);
    Some(low + (high - low) * place.fract())
}

/// A count as a number to compute with.
#[expect(clippy::cast_precision_loss, reason = "exact to 2^53, far beyond any count here")]
pub(crate) fn float(count: usize) -> f64 {
    count as f64
}

/// Bytes as a number to compute with.
#[expect(clippy::cast_precision_loss, reason = "exact to 2^53 bytes, 9 petabytes")]
pub(crate) fn bytes(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small index")]
fn index(place: f64) -> usize {
    place as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_those_of_the_textbook() {
        let spread = Spread::of(&[5.0, 1.0, 4.0, 2.0, 3.0]).unwrap();
        assert_eq!((spread.first_quartile, spread.median, spread.third_quartile), (2.0, 3.0, 4.0));
        assert_eq!(quantile(&[1.0, 2.0], 0.5), Some(1.5));
        assert_eq!(quantile(&[7.0], 0.75), Some(7.0));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn a_drift_of_both_sides_leaves_their_ratio() {
        let spread = Spread::of_ratios(&[2.0, 4.0, 8.0], &[1.0, 2.0, 4.0]).unwrap();
        assert_eq!((spread.first_quartile, spread.third_quartile), (2.0, 2.0));
    }
}
