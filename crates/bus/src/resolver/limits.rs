//! The bounds of the resolver.

use std::time::Duration;

use southbridge_policy::freshness::FreshnessLimits;

/// How much the resolver remembers, and for how long. Durations are plain; counts are entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolverLimits {
    /// Composed results remembered, by server name. Default 20 000: about 0.2 KiB each.
    pub names_max: u32,
    /// .well-known outcomes remembered, by host. Default 20 000: about 0.1 KiB each.
    pub well_knowns_max: u32,
    /// Tickets waiting in all. Default 20 000.
    pub waiting_max: u32,
    /// Refreshes under way in the background. Default 32, so that they never crowd out requests.
    pub background_max: u32,
    /// How long a composed result may stand in when resolving anew fails. Default 24 h.
    pub stale_max: Duration,
    /// How long the first failure to resolve is remembered; doubles up to
    /// [`failure_max`](Self::failure_max). Default 1 s.
    pub failure_first: Duration,
    /// The longest time a failure to resolve is remembered. Default 60 s.
    pub failure_max: Duration,
    /// The least time a delegation is believed. Default 5 min, as Synapse does.
    pub well_known_fresh_min: Duration,
    /// The longest time a delegation is believed. Default 48 h, the specification's cap.
    pub well_known_fresh_max: Duration,
    /// The time a delegation is believed when its answer does not say, give or take a tenth. Default 24 h.
    pub well_known_fresh_default: Duration,
    /// How long past its time a delegation may stand in for a host that fails. Default 7 days.
    pub well_known_stale_max: Duration,
    /// How long the host of a delegation may answer a clean 404 or 410 before the delegation is given up.
    /// Default 2 days.
    pub well_known_absent_max: Duration,
    /// How long a host that is not known to delegate is believed when it says so with a clean 404 or 410: that
    /// is an answer and no failure. Up to a fifth shorter by chance, so that hosts that were met together
    /// are not asked again together. Default 1 h, the specification's cap for errors.
    pub well_known_none_max: Duration,
    /// How long the first failed .well-known fetch is remembered; doubles. Default 2 min.
    pub well_known_failure_first: Duration,
    /// The longest time a failed .well-known fetch is remembered. Default 1 h, the specification's cap.
    pub well_known_failure_max: Duration,
    /// How long to wait for a .well-known fetch that nobody answers for. The driver has a shorter timeout
    /// of its own; this one only makes sure that no ticket hangs. Default 40 s.
    pub fetch_max: Duration,
    /// The same for DNS lookups. Default 30 s.
    pub lookup_max: Duration,
    /// Explanations in progress. Default 16.
    pub explanations_max: u32,
    /// Targets used of one SRV answer, the best first. Default 16.
    pub targets_max: usize,
    /// Addresses used of one target. Default 16.
    pub addresses_per_target_max: usize,
    /// Endpoints in one result. Default 32.
    pub endpoints_max: usize,
}

impl Default for ResolverLimits {
    fn default() -> Self {
        Self {
            names_max: 20_000,
            well_knowns_max: 20_000,
            waiting_max: 20_000,
            background_max: 32,
            stale_max: DAY,
            failure_first: Duration::from_secs(1),
            failure_max: MINUTE,
            well_known_fresh_min: MINUTE.saturating_mul(5),
            well_known_fresh_max: DAY.saturating_mul(2),
            well_known_fresh_default: DAY,
            well_known_stale_max: DAY.saturating_mul(7),
            well_known_absent_max: DAY.saturating_mul(2),
            well_known_none_max: HOUR,
            well_known_failure_first: MINUTE.saturating_mul(2),
            well_known_failure_max: HOUR,
            fetch_max: Duration::from_secs(40),
            lookup_max: Duration::from_secs(30),
            explanations_max: 16,
            targets_max: 16,
            addresses_per_target_max: 16,
            endpoints_max: 32,
        }
    }
}

impl ResolverLimits {
    /// The bounds of the cache of composed results.
    pub(super) fn composed(&self) -> FreshnessLimits {
        FreshnessLimits {
            entries_max: self.names_max,
            waiting_max: self.waiting_max,
            background_max: self.background_max,
            fresh_min: COMPOSED_FRESH_MIN,
            fresh_max: self.well_known_fresh_max,
            absent_max: Duration::ZERO,
            stale_max: self.stale_max,
            failure_first: self.failure_first,
            failure_max: self.failure_max,
        }
    }

    /// The bounds of the cache of .well-known outcomes.
    pub(super) fn well_known(&self) -> FreshnessLimits {
        FreshnessLimits {
            entries_max: self.well_knowns_max,
            waiting_max: self.waiting_max,
            background_max: self.background_max,
            fresh_min: self.well_known_fresh_min,
            fresh_max: self.well_known_fresh_max,
            absent_max: self.well_known_none_max,
            stale_max: self.well_known_stale_max,
            failure_first: self.well_known_failure_first,
            failure_max: self.well_known_failure_max,
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
// A composition of records that are about to end is not composed anew for each request.
const COMPOSED_FRESH_MIN: Duration = Duration::from_secs(1);
