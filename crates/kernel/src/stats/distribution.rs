//! How the values of a histogram are spread, as it was read.
//!
//! # Units
//! As they are kept ([`super::Unit::per_one`]).

use super::buckets::{BUCKETS, bucket_of, lower_of, upper_of};

/// Counts by bucket, their sum and the largest value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    counts: Box<[u64]>,
    sum: u64,
    maximum: u64,
}

impl Distribution {
    pub(super) fn new(counts: impl Iterator<Item = u64>, sum: u64, maximum: u64) -> Self {
        let mut counts: Vec<u64> = counts.take(BUCKETS).collect();
        counts.resize(BUCKETS, 0);
        Self { counts: counts.into(), sum, maximum }
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Their sum.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The largest of them.
    pub fn maximum(&self) -> u64 {
        self.maximum
    }

    /// The value that `part` of all are at most: 0.5 is the median. `None` when there are none. At most an eighth
    /// off, and never above the maximum.
    pub fn quantile(&self, part: f64) -> Option<u64> {
        let count = self.count();
        let rank = ((part.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count.max(1));
        let mut below = 0_u64;
        for (bucket, held) in self.counts.iter().enumerate().filter(|(_, held)| **held > 0) {
            if below.saturating_add(*held) >= rank {
                let (lower, upper) = (lower_of(bucket), upper_of(bucket));
                let within = (rank - below) as f64 / *held as f64;
                let value = lower.saturating_add(((upper - lower) as f64 * within).ceil() as u64);
                return Some(value.clamp(lower, upper).min(self.maximum.max(lower)));
            }
            below = below.saturating_add(*held);
        }
        None
    }

    /// How many are at most `bound`, which should be where a bucket ends: a power of two, for instance.
    pub fn at_most(&self, bound: u64) -> u64 {
        self.counts[..=bucket_of(bound)].iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// What has come since `before`. The maximum is that of all times.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let counts = self.counts.iter().zip(&before.counts).map(|(now, then)| now.saturating_sub(*then));
        Self::new(counts, self.sum.saturating_sub(before.sum), self.maximum)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[u64]) -> Distribution {
        let mut counts = [0; BUCKETS];
        values.iter().for_each(|value| counts[bucket_of(*value)] += 1);
        let sum = values.iter().fold(0, |sum: u64, value| sum.saturating_add(*value));
        Distribution::new(counts.into_iter(), sum, values.iter().copied().max().unwrap_or(0))
    }

    #[test]
    fn nothing_has_no_median() {
        assert_eq!(of(&[]).quantile(0.5), None);
        assert_eq!(of(&[7]).quantile(0.5), Some(7));
    }

    #[test]
    fn what_has_come_since_is_counted_alone() {
        let (before, now) = (of(&[1, 2, 1000]), of(&[1, 2, 3, 1000, 1000, 5000]));
        let since = now.since(&before);
        assert_eq!((since.count(), since.sum()), (3, 6003));
        assert_eq!(since.at_most(4), 1);
        assert_eq!(before.since(&now).count(), 0, "a region that began anew");
    }

    proptest! {
        /// Whatever was counted, a quantile is within an eighth of the value that has that rank.
        #[test]
        fn a_quantile_is_near_the_truth(
            mut values in proptest::collection::vec(0..u64::MAX / 300, 1..200), part in 0.0..1.0,
        ) {
            let found = of(&values).quantile(part).unwrap();
            values.sort_unstable();
            let rank = ((part * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let truth = values[rank - 1];
            prop_assert!(found.abs_diff(truth) <= (truth / 8).max(1), "{found} is not {truth}");
        }
    }
}
