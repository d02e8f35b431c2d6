//! How large a transaction may be for one host, as far as it lets us know.
//!
//! 413 and 520 halve the size in bytes; many transactions of nearly that size without complaint let it grow
//! again. What a host refuses for another reason is looked for by halving the number of items, until the one that
//! poisons stands alone; every success doubles it again.

use super::QueueLimits;
use crate::transaction::{EDUS_MAX, PDUS_MAX};

/// See the [module](self). Eight bytes, and all that is remembered of a queue that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizing {
    bytes_max: u32,
    items_max: u16,
    large_ones: u16,
}

impl Sizing {
    /// As large as any.
    pub(crate) fn new(limits: &QueueLimits) -> Self {
        Self { bytes_max: clamp(limits.transaction_bytes_max), items_max: ITEMS_MAX, large_ones: 0 }
    }

    /// The size of a transaction's body.
    pub(crate) const fn bytes_max(self) -> usize {
        self.bytes_max as usize
    }

    /// Durable items in a transaction.
    pub(crate) const fn items_max(self) -> usize {
        self.items_max as usize
    }

    /// Whether an item that poisons is being looked for.
    pub(crate) const fn is_searching(self) -> bool {
        self.items_max < ITEMS_MAX
    }

    /// A body of `bytes` was too large.
    pub(crate) fn shrink(&mut self, bytes: usize, limits: &QueueLimits) {
        let half = clamp(bytes).min(self.bytes_max) / 2;
        self.bytes_max = half.max(clamp(limits.transaction_bytes_min));
        self.large_ones = 0;
    }

    /// A transaction of `items` was refused as a whole.
    pub(crate) fn split(&mut self, items: u32) {
        self.items_max = u16::try_from(items / 2).unwrap_or(ITEMS_MAX).clamp(1, ITEMS_MAX);
    }

    /// A body of `bytes` was taken.
    pub(crate) fn succeed(&mut self, bytes: usize, limits: &QueueLimits) {
        self.items_max = (self.items_max * 2).min(ITEMS_MAX);
        let most = clamp(limits.transaction_bytes_max);
        if self.bytes_max < most && clamp(bytes) > self.bytes_max / 4 * 3 {
            self.large_ones += 1;
            if self.large_ones >= LARGE_ONES {
                self.bytes_max = self.bytes_max.saturating_add(self.bytes_max / 2).min(most);
                self.large_ones = 0;
            }
        }
    }
}

fn clamp(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

const ITEMS_MAX: u16 = (PDUS_MAX + EDUS_MAX) as u16;
// Seldom enough that what another 413 or 520 costs is lost among them.
const LARGE_ONES: u16 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    /// Too large is halved down to a floor; a long time of full transactions makes it grow, up to what is configured.
    #[test]
    fn a_size_shrinks_at_once_and_grows_slowly() {
        let limits = QueueLimits::default();
        let mut sizing = Sizing::new(&limits);
        sizing.shrink(600_000, &limits);
        assert_eq!(sizing.bytes_max(), 300_000);
        (0..31).for_each(|_| sizing.succeed(299_000, &limits));
        assert_eq!(sizing.bytes_max(), 300_000);
        sizing.succeed(299_000, &limits);
        assert_eq!(sizing.bytes_max(), 450_000);
        (0..20).for_each(|_| sizing.shrink(usize::MAX, &limits));
        assert_eq!(sizing.bytes_max(), limits.transaction_bytes_min);
    }

    /// Many items, one of them poison: the search comes down to one, and is over after a few successes.
    #[test]
    fn a_search_ends_at_one_item() {
        let limits = QueueLimits::default();
        let mut sizing = Sizing::new(&limits);
        for items in [75, 37, 18, 9, 4, 2, 1, 1] {
            sizing.split(u32::try_from(sizing.items_max()).unwrap());
            assert_eq!(sizing.items_max(), items);
        }
        assert!(sizing.is_searching());
        (0..8).for_each(|_| sizing.succeed(10, &limits));
        assert!(!sizing.is_searching());
    }
}
