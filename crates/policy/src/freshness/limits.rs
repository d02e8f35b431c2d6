//! What a cache may hold, for how long, and what it has done so far.

use std::time::Duration;

use crate::seeded::Seeded;

/// The bounds of one cache. All are clamps: what a source asks for is fitted into them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreshnessLimits {
    /// Entries held, those being fetched included. The one used longest ago makes room.
    pub entries_max: u32,
    /// Waiters held in all.
    pub waiting_max: u32,
    /// Refreshes in the background at a time; further ones wait for the next time the entry is asked for.
    pub background_max: u32,
    /// The least time a value counts as fresh, whatever its source says (a TTL of zero would be
    /// asked again for every request).
    pub fresh_min: Duration,
    /// The longest time a value counts as fresh.
    pub fresh_max: Duration,
    /// The longest time an absence is believed.
    pub absent_max: Duration,
    /// How long past its time a value may stand in for a source that fails.
    pub stale_max: Duration,
    /// How long the first failure is remembered. Each further one in a row doubles it.
    pub failure_first: Duration,
    /// The longest time a failure is remembered.
    pub failure_max: Duration,
}

impl FreshnessLimits {
    /// How long the `failures`th failure in a row (from 1) is remembered. Up to a fifth shorter by
    /// chance, so that what failed together is not asked again together; never longer than the bound.
    pub(super) fn failure_time(&self, failures: u32, seeded: &mut Seeded) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let whole = self.failure_first.saturating_mul(doubled).min(self.failure_max);
        whole.mul_f64(seeded.factor(0.8, 1.0))
    }

    /// How long a value that its source calls fresh for `asked` is taken to be fresh.
    pub(super) fn fresh_time(&self, asked: Duration, present: bool) -> Duration {
        let most = if present { self.fresh_max } else { self.absent_max };
        asked.max(self.fresh_min).min(most)
    }
}

/// What a cache has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FreshnessCounters {
    /// Asked for, and at hand.
    pub hits: u64,
    /// Asked for, and fetched while the asker waited.
    pub misses: u64,
    /// Served past its time because the source failed.
    pub stale: u64,
    /// Answered with a failure that was remembered.
    pub failed: u64,
    /// Askers joined to a fetch that was under way.
    pub joined: u64,
    /// Fetches in the background, ahead of time.
    pub refreshed: u64,
    /// Entries that made room for others.
    pub evicted: u64,
    /// Askers turned away because a bound was met.
    pub refused: u64,
}
