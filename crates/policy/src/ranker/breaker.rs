//! The circuit breaker of one service: when it opens, and when it lets one request through to see.
//!
//! # Source
//! K16, S4.

use std::time::Duration;

use super::limits::RankerLimits;
use crate::limits::InvalidLimit;

/// When one host is held to be down, and how often it is probed then. All else is as for every host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerLimits {
    /// Requests in a row without any answer from which the host is down, however soon they came. Default 5.
    pub failures_max: u32,
    /// Answers in a row that were 429 or 5xx from which it is down. Default 15: it lives, and each is cheap.
    pub errors_max: u32,
    /// Failures this close together of requests that were in flight together are one failure. Default 1 s: a restart
    /// cuts many at once.
    pub grace: Duration,
    /// After how long a host that went down is first probed, give or take some for jitter. Default 3 s.
    pub probe_after: Duration,
    /// The longest that a request which is at hand waits for its turn to be the probe. Default 5 s.
    pub probe_every_max: Duration,
}

impl Default for BreakerLimits {
    fn default() -> Self {
        Self {
            failures_max: 5,
            errors_max: 15,
            grace: Duration::from_secs(1),
            probe_after: Duration::from_secs(3),
            probe_every_max: Duration::from_secs(5),
        }
    }
}

impl BreakerLimits {
    /// Checks the limits.
    ///
    /// # Errors
    /// The first limit that makes no sense.
    pub fn validate(&self) -> Result<(), InvalidLimit> {
        let (minute, day) = (Duration::from_secs(60), Duration::from_secs(24 * 3600));
        InvalidLimit::unless(
            self.failures_max >= 2,
            "failures_max",
            "must be at least 2: one failure is not an outage",
        )?;
        InvalidLimit::unless(
            self.errors_max >= self.failures_max,
            "errors_max",
            "must be at least failures_max",
        )?;
        InvalidLimit::unless(self.grace <= minute, "grace", "must be at most a minute")?;
        InvalidLimit::unless(!self.probe_after.is_zero(), "probe_after", "must be more than zero")?;
        InvalidLimit::unless(
            self.probe_every_max >= self.probe_after,
            "probe_every_max",
            "must be at least probe_after",
        )?;
        InvalidLimit::unless(self.probe_every_max <= day, "probe_every_max", "must be at most a day")
    }

    /// What holds for the host, `usual` being what holds for all others.
    pub(super) fn among(&self, usual: &RankerLimits) -> RankerLimits {
        self.validate().expect("the limits were validated where they were read");
        RankerLimits {
            failures_failing: usual.failures_failing.min(self.failures_max - 1),
            failures_down: self.failures_max,
            failures_sure: self.failures_max,
            unwilling_down: self.errors_max,
            grace: self.grace,
            backoff_first: self.probe_after,
            backoff_max: usual.backoff_max.max(self.probe_after),
            probe_every_max: self.probe_every_max,
            ..usual.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use southbridge_words::{Instant, Outcome, ServiceName, Step};

    use super::*;
    use crate::ranker::{Advice, Demand, Ranker};

    /// One service has a breaker of its own: it is down after two failures, its neighbour is not.
    #[test]
    fn a_service_may_have_a_breaker_of_its_own() {
        let mut ranker = Ranker::new(RankerLimits::default(), 1);
        let (strict, usual) = (ServiceName::new("strict"), ServiceName::new("usual"));
        let breaker = BreakerLimits {
            failures_max: 2,
            probe_after: Duration::from_secs(10),
            probe_every_max: Duration::from_secs(10),
            ..BreakerLimits::default()
        };
        ranker.bound(&strict, Some(&breaker));
        let ask = |ranker: &mut Ranker, host: &ServiceName, at| ranker.ask(host, Demand::Prompt, at);
        let at = |millis| Instant::ZERO + Duration::from_millis(millis);
        for host in [&strict, &usual] {
            for failure in 0..2 {
                assert!(matches!(ask(&mut ranker, host, at(failure)), Advice::Go { .. }));
                ranker.handle_outcome(host, Outcome::Failed { step: Step::Connect }, at(failure));
            }
        }
        let Advice::Refuse(down) = ask(&mut ranker, &strict, at(2)) else { panic!("it is down") };
        assert_eq!(down.failures, 2);
        assert!(
            down.retry_in >= Duration::from_secs(7) && down.retry_in <= Duration::from_secs(10),
            "{down:?}"
        );
        assert!(matches!(ask(&mut ranker, &usual, at(2)), Advice::Go { .. }));
        assert_eq!(ask(&mut ranker, &strict, at(10_100)), Advice::Probe);
        ranker.handle_outcome(&strict, Outcome::Answered { latency: Duration::from_millis(5) }, at(10_200));
        assert!(matches!(ask(&mut ranker, &strict, at(10_300)), Advice::Go { .. }));
        for failure in 0..2 {
            ranker.handle_outcome(&strict, Outcome::Failed { step: Step::Connect }, at(20_000 + failure));
        }
        assert!(matches!(ask(&mut ranker, &strict, at(20_010)), Advice::Refuse(_)));
        ranker.handle_replaced(&strict, at(20_020));
        assert!(matches!(ask(&mut ranker, &strict, at(20_030)), Advice::Go { .. }), "it is another");
    }

    #[test]
    fn a_breaker_that_makes_no_sense_is_named() {
        assert_eq!(BreakerLimits::default().validate(), Ok(()));
        let hasty = BreakerLimits { failures_max: 1, ..BreakerLimits::default() };
        assert_eq!(hasty.validate().unwrap_err().field, "failures_max");
        let slow = BreakerLimits { probe_after: Duration::from_secs(9), ..BreakerLimits::default() };
        assert_eq!(slow.validate().unwrap_err().field, "probe_every_max");
    }

    /// Whatever a breaker says that is valid, the ranker takes.
    #[test]
    fn the_extremes_are_taken() {
        for (failures_max, errors_max) in [(2, 2), (3, 1000), (1000, 1000)] {
            let limits = BreakerLimits { failures_max, errors_max, ..BreakerLimits::default() };
            assert_eq!(limits.among(&RankerLimits::default()).validate(), Ok(()));
        }
    }
}
