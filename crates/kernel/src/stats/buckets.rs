//! The buckets of a histogram: log-linear, so that one shape fits nanoseconds and terabytes.
//!
//! Eight buckets to each doubling: what is read out of one is at most an eighth off, wherever it lies, and nothing
//! is ever outside. A bucket holds what is above its lower end, up to and with its upper end, as the bounds of
//! Prometheus do.
//!
//! # Units
//! Whatever is stored: see [`super::Unit`].
//!
//! # Source
//! K10; DESIGN decision 11. The shape is that of the HDR histogram.

/// How many buckets there are: eight for each of 61 doublings, and the eight below.
pub(super) const BUCKETS: usize = ((u64::BITS - SUB_BITS + 1) as usize) << SUB_BITS;
/// Eight buckets to a doubling.
const SUB_BITS: u32 = 3;

/// The bucket that `value` falls into.
pub(super) fn bucket_of(value: u64) -> usize {
    let below = value.saturating_sub(1);
    let width = (u64::BITS - below.leading_zeros()).saturating_sub(SUB_BITS + 1);
    ((width as usize) << SUB_BITS) + (below >> width) as usize
}

/// The upper end of `bucket`, which belongs to it.
pub(super) fn upper_of(bucket: usize) -> u64 {
    let (width, step) = split(bucket);
    u64::try_from((step + 1) << width).unwrap_or(u64::MAX)
}

/// The lower end of `bucket`, which does not belong to it (but zero does).
pub(super) fn lower_of(bucket: usize) -> u64 {
    let (width, step) = split(bucket);
    u64::try_from(step << width).unwrap_or(u64::MAX)
}

/// The width of a bucket as a power of two, and how many such widths lie below it.
fn split(bucket: usize) -> (u32, u128) {
    let octave = (bucket >> SUB_BITS) as u32;
    let sub = (bucket & ((1 << SUB_BITS) - 1)) as u128;
    match octave {
        0 => (0, sub),
        octave => (octave - 1, sub + (1 << SUB_BITS)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_values_have_a_bucket_each() {
        assert_eq!((bucket_of(0), bucket_of(1), bucket_of(2), bucket_of(9)), (0, 0, 1, 8));
        for value in 1..=16 {
            assert_eq!(upper_of(bucket_of(value)), value);
        }
    }

    #[test]
    fn the_largest_value_has_the_last_bucket() {
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert_eq!(upper_of(BUCKETS - 1), u64::MAX);
    }

    #[test]
    fn buckets_follow_one_another_without_a_gap() {
        assert_eq!(lower_of(0), 0);
        for bucket in 1..BUCKETS {
            assert_eq!(lower_of(bucket), upper_of(bucket - 1), "{bucket}");
        }
    }

    /// The bounds that Prometheus is shown lie where buckets end, so what it is told is exact.
    #[test]
    fn a_bucket_ends_at_every_power_of_two() {
        for power in 0..64 {
            assert_eq!(upper_of(bucket_of(1 << power)), 1 << power);
        }
    }

    proptest! {
        #[test]
        fn a_value_lies_in_its_bucket_and_the_bucket_is_narrow(value in any::<u64>()) {
            let bucket = bucket_of(value);
            prop_assert!(bucket < BUCKETS);
            prop_assert!(value <= upper_of(bucket) && (value > lower_of(bucket) || value == 0));
            prop_assert!(upper_of(bucket) - lower_of(bucket) <= (value / 8).max(1));
        }
    }
}
