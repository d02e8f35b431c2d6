//! A histogram of durations in powers of two.
//!
//! # Units
//! Buckets end at 2^k microseconds: 64 µs, 128 µs, … 134 s, and beyond.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts durations. One relaxed add for the bucket, one for the sum.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_micros: AtomicU64,
}

impl Histogram {
    /// Counts one `duration`.
    pub fn record(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket(micros)].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// Their sum, in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.sum_micros.load(Ordering::Relaxed) as f64 / 1e6
    }

    /// Each bucket's upper bound in seconds (`None`: no bound), with how many fell into it or below.
    pub fn cumulative(&self) -> impl Iterator<Item = (Option<f64>, u64)> + '_ {
        let mut below = 0;
        self.buckets.iter().enumerate().map(move |(at, bucket)| {
            below += bucket.load(Ordering::Relaxed);
            let bound = (at + 1 < BUCKETS).then(|| (1_u64 << (at as u32 + FIRST_POWER)) as f64 / 1e6);
            (bound, below)
        })
    }
}

fn bucket(micros: u64) -> usize {
    let power = u64::BITS - micros.saturating_sub(1).leading_zeros();
    (power.saturating_sub(FIRST_POWER) as usize).min(BUCKETS - 1)
}

/// The first bucket ends at 2^6 = 64 µs.
const FIRST_POWER: u32 = 6;
/// The last but one ends at 2^27 µs = 134 s, past every deadline.
const BUCKETS: usize = 23;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_bucket_that_ends_at_or_above_it() {
        for (micros, bound) in [(0, 64e-6), (64, 64e-6), (65, 128e-6), (1000, 1024e-6), (1025, 2048e-6)] {
            let histogram = Histogram::default();
            histogram.record(Duration::from_micros(micros));
            let first = histogram.cumulative().find(|(_, count)| *count == 1).and_then(|(bound, _)| bound);
            assert_eq!(first, Some(bound), "{micros} µs");
        }
    }

    #[test]
    fn what_is_past_every_bound_is_counted_too() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_secs(100_000));
        assert_eq!(histogram.cumulative().last(), Some((None, 1)));
        assert_eq!(histogram.count(), 1);
    }
}
