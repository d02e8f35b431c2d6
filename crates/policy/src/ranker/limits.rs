//! The bounds and paces of the ranker.

use std::time::Duration;

use crate::limits::InvalidLimit;

/// Bounds and paces of the ranker.
///
/// [`RankerLimits::default`] is meant for a homeserver of any size; each field says why.
#[derive(Clone, Debug, PartialEq)]
pub struct RankerLimits {
    /// Hosts remembered. Default 50,000: several times what the largest public rooms bring together,
    /// at about 0.2 KiB each.
    pub hosts_max: u32,
    /// How long it takes for good news to weigh as much as the bad. Default 10 s: long enough to sit
    /// out a garbage-collection pause, short enough that a repaired host is back within a user's patience.
    pub latency_half_life: Duration,
    /// The expected latency from which a host is slow. Default 2 s: past it people notice.
    pub slow_above: Duration,
    /// The expected latency up to which a slow host is healthy again. Default 1 s: half of
    /// `slow_above`, so that a host at the edge does not change lanes with every answer.
    pub slow_below: Duration,
    /// How long a healthy host with requests on the wire may say nothing before it counts as slow.
    /// Default 5 s: requests to a host that has just begun to hang must not fill the open lane until
    /// the first of them times out.
    pub silence_max: Duration,
    /// Failures in a row from which a host is failing. Default 2: one failure is not an outage.
    pub failures_failing: u32,
    /// Requests in a row without any answer from which a host is down, if they are spread over
    /// `grace`. Default 5.
    pub failures_down: u32,
    /// Requests in a row without any answer from which a host is down however soon they came.
    /// Default 8: a host that has just refused eight times is not asked a ninth.
    pub failures_sure: u32,
    /// Answers in a row that were 429, 5xx or not what was asked for, from which a host is down.
    /// Default 15: it lives, and each such answer is cheap, so it takes more than silence does.
    pub unwilling_down: u32,
    /// Failures this close together of requests that were in flight together are one failure, and no
    /// host is down sooner than this after its first (but for `failures_sure`). Default 1 s: a
    /// restart cuts many requests at once and is not an outage.
    pub grace: Duration,
    /// How long a host must have been failing before a patient request is refused. Default 2 min:
    /// when a transaction is refused, Synapse drops receipts, typing and presence.
    pub patience: Duration,
    /// The first back-off of a host that went down, before jitter. Default 3 s.
    pub backoff_first: Duration,
    /// The longest back-off. Default 1 h: what our own queues may wait for a host that stays down.
    pub backoff_max: Duration,
    /// The longest that somebody's request waits for its turn to be the probe. Default 5 s: a host
    /// that has come back is found out about within that.
    pub probe_every_max: Duration,
    /// From what age on a probe without an outcome stands in nobody's way. Default 10 s: a probe can
    /// hang on a dead connection while the host is back.
    pub probe_overdue: Duration,
    /// How much of a `Retry-After` is honoured. Default 60 s: an absurd one must not silence a host.
    pub retry_after_max: Duration,
    /// The half-life of the success rate. Default 60 s.
    pub rate_half_life: Duration,
    /// The success rate, in percent, below which a single failure makes a host failing. Default 50:
    /// a host that fails every other time has used up its grace.
    pub rate_failing_percent: u8,
    /// After how long without a request a host is unknown again. Default 24 h.
    pub forget_after: Duration,
    /// How often a host that merely goes on as before is written to the store. Default 10 min:
    /// changes of state are written at once, and the rest is worth little.
    pub save_every: Duration,
}

impl Default for RankerLimits {
    fn default() -> Self {
        Self {
            hosts_max: 50_000,
            latency_half_life: Duration::from_secs(10),
            slow_above: Duration::from_secs(2),
            slow_below: Duration::from_secs(1),
            silence_max: Duration::from_secs(5),
            failures_failing: 2,
            failures_down: 5,
            failures_sure: 8,
            unwilling_down: 15,
            grace: Duration::from_secs(1),
            patience: Duration::from_secs(120),
            backoff_first: Duration::from_secs(3),
            backoff_max: Duration::from_secs(3600),
            probe_every_max: Duration::from_secs(5),
            probe_overdue: Duration::from_secs(10),
            retry_after_max: Duration::from_secs(60),
            rate_half_life: Duration::from_secs(60),
            rate_failing_percent: 50,
            forget_after: Duration::from_secs(24 * 3600),
            save_every: Duration::from_secs(600),
        }
    }
}

impl RankerLimits {
    /// Checks the limits against each other.
    ///
    /// # Errors
    /// The first limit that makes no sense.
    pub fn validate(&self) -> Result<(), InvalidLimit> {
        let positive = "must be more than zero";
        InvalidLimit::unless(self.hosts_max > 0, "hosts_max", positive)?;
        InvalidLimit::unless(!self.latency_half_life.is_zero(), "latency_half_life", positive)?;
        InvalidLimit::unless(!self.rate_half_life.is_zero(), "rate_half_life", positive)?;
        InvalidLimit::unless(!self.backoff_first.is_zero(), "backoff_first", positive)?;
        InvalidLimit::unless(!self.probe_every_max.is_zero(), "probe_every_max", positive)?;
        InvalidLimit::unless(!self.forget_after.is_zero(), "forget_after", positive)?;
        InvalidLimit::unless(self.failures_failing > 0, "failures_failing", positive)?;
        InvalidLimit::unless(
            self.rate_failing_percent <= 100,
            "rate_failing_percent",
            "must be at most 100",
        )?;
        self.validate_order()
    }

    fn validate_order(&self) -> Result<(), InvalidLimit> {
        let (slow, failures) = (self.slow_below <= self.slow_above, self.failures_failing);
        InvalidLimit::unless(slow, "slow_below", "must be at most slow_above")?;
        InvalidLimit::unless(
            self.failures_down > failures,
            "failures_down",
            "must be more than failures_failing",
        )?;
        InvalidLimit::unless(
            self.failures_sure >= self.failures_down,
            "failures_sure",
            "must be at least failures_down",
        )?;
        InvalidLimit::unless(
            self.unwilling_down >= self.failures_down,
            "unwilling_down",
            "must be at least failures_down",
        )?;
        let day = Duration::from_secs(24 * 3600);
        InvalidLimit::unless(self.backoff_max <= day, "backoff_max", "must be at most a day")?;
        InvalidLimit::unless(self.probe_every_max <= day, "probe_every_max", "must be at most a day")?;
        InvalidLimit::unless(
            self.backoff_max >= self.backoff_first,
            "backoff_max",
            "must be at least backoff_first",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(RankerLimits::default().validate(), Ok(()));
    }

    #[test]
    fn a_host_cannot_be_down_before_it_is_failing() {
        let limits = RankerLimits { failures_down: 2, ..RankerLimits::default() };
        let error = limits.validate().unwrap_err();
        assert_eq!(error.to_string(), "failures_down must be more than failures_failing");
    }

    #[test]
    fn a_half_life_of_nothing_is_refused() {
        let limits = RankerLimits { latency_half_life: Duration::ZERO, ..RankerLimits::default() };
        assert_eq!(limits.validate().unwrap_err().field, "latency_half_life");
    }
}
