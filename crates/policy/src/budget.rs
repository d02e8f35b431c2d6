//! The retry budget: what fails is asked again only as far as the traffic can bear.
//!
//! When everything fails at once, retries multiply the load on whatever is failing. So they draw on a
//! budget: a share of the requests of the last seconds, plus a few a second, so that a quiet system
//! can retry at all.
//!
//! # Why not the obvious?
//! A token bucket that requests fill would let an hour of calm pay for a storm, unless its size is
//! guessed right for every load. Counting within a window needs no guess: both sides expire.
//!
//! # Source
//! K16; the twenty percent are those of `reference/faults.md` row 28.

use std::time::Duration;

use southbridge_words::Instant;

use crate::limits::InvalidLimit;

/// How much may be retried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetLimits {
    /// Retries per hundred requests. Default 20: a region that comes back is not knocked over again.
    pub share_percent: u32,
    /// Retries a second that are allowed whatever the traffic. Default 10: enough for a person's
    /// clicks on an otherwise quiet system.
    pub per_second_min: u32,
    /// Over how long requests and retries are counted. Default 10 s.
    pub window: Duration,
}

impl Default for BudgetLimits {
    fn default() -> Self {
        Self { share_percent: 20, per_second_min: 10, window: Duration::from_secs(10) }
    }
}

impl BudgetLimits {
    /// Checks the limits.
    ///
    /// # Errors
    /// The first limit that makes no sense.
    pub fn validate(&self) -> Result<(), InvalidLimit> {
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
        InvalidLimit::unless(self.share_percent <= 100, "share_percent", "must be at most 100")?;
        InvalidLimit::unless(self.window >= second, "window", "must be at least a second")?;
        InvalidLimit::unless(self.window <= hour, "window", "must be at most an hour")
    }
}

/// The budget is spent: what failed is not tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{retries} of {retries_max} retries are spent")]
pub struct BudgetSpent {
    /// Retries within the window.
    pub retries: u64,
    /// The most that the requests within the window allow.
    pub retries_max: u64,
}

/// The retry budget (K16), as a machine.
#[derive(Debug)]
pub struct RetryBudget {
    limits: BudgetLimits,
    slots: [Slot; SLOTS],
    /// The slot that is being filled, counted from the origin of the clock.
    current: u64,
    total: Slot,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slot {
    requests: u64,
    retries: u64,
}

impl RetryBudget {
    /// A budget of which nothing is spent.
    ///
    /// # Panics
    /// When `limits` do not [validate](BudgetLimits::validate).
    pub fn new(limits: BudgetLimits) -> Self {
        limits.validate().expect("the limits were validated where they were read");
        Self { limits, slots: [Slot::default(); SLOTS], current: 0, total: Slot::default() }
    }

    /// A first attempt is made: it pays for its part of a retry.
    pub fn handle_request(&mut self, now: Instant) {
        self.advance(now);
        self.slots[slot_index(self.current)].requests += 1;
        self.total.requests += 1;
    }

    /// Asks to make one retry, and books it.
    ///
    /// # Errors
    /// [`BudgetSpent`] when the last seconds have seen as many retries as they can bear.
    pub fn handle_retry(&mut self, now: Instant) -> Result<(), BudgetSpent> {
        self.advance(now);
        let (retries, retries_max) = (self.total.retries, self.retries_max());
        if retries >= retries_max {
            return Err(BudgetSpent { retries, retries_max });
        }
        self.slots[slot_index(self.current)].retries += 1;
        self.total.retries += 1;
        Ok(())
    }

    fn retries_max(&self) -> u64 {
        let share = self.total.requests * u64::from(self.limits.share_percent) / 100;
        let least = u64::from(self.limits.per_second_min) * self.limits.window.as_secs();
        share + least
    }

    fn advance(&mut self, now: Instant) {
        let width = self.limits.window.as_nanos() as u64 / SLOTS as u64;
        let target = (now.as_nanos() / width).max(self.current);
        let passed = (target - self.current).min(SLOTS as u64);
        for slot in target + 1 - passed..=target {
            let expired = std::mem::take(&mut self.slots[slot_index(slot)]);
            self.total.requests -= expired.requests;
            self.total.retries -= expired.retries;
        }
        self.current = target;
    }
}

fn slot_index(slot: u64) -> usize {
    (slot % SLOTS as u64) as usize
}

// Tenths: what expires at once is a tenth of the budget.
const SLOTS: usize = 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BARE: BudgetLimits =
        BudgetLimits { share_percent: 20, per_second_min: 0, window: Duration::from_secs(10) };

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn spend(budget: &mut RetryBudget, now: Instant) -> u64 {
        (0..).take_while(|_| budget.handle_retry(now).is_ok()).count() as u64
    }

    #[test]
    fn a_hundred_requests_pay_for_twenty_retries() {
        let mut budget = RetryBudget::new(BARE);
        (0..100).for_each(|_| budget.handle_request(at(1)));
        assert_eq!(spend(&mut budget, at(1)), 20);
        let error = budget.handle_retry(at(2)).unwrap_err();
        assert_eq!(error.to_string(), "20 of 20 retries are spent");
    }

    #[test]
    fn a_quiet_system_can_retry() {
        let mut budget = RetryBudget::new(BudgetLimits::default());
        assert_eq!(spend(&mut budget, at(1)), 100);
        assert_eq!(spend(&mut budget, at(12)), 100);
    }

    #[test]
    fn an_hour_of_calm_does_not_pay_for_a_storm() {
        let mut budget = RetryBudget::new(BARE);
        (0..3600).for_each(|second| budget.handle_request(at(second)));
        assert_eq!(spend(&mut budget, at(3599)), 2);
    }

    proptest! {
        /// Whatever the traffic and its pauses.
        #[test]
        fn retries_never_exceed_their_share_of_the_window(steps in prop::collection::vec((0_u64..3000, 0_u8..20), 1..300)) {
            let mut budget = RetryBudget::new(BARE);
            let mut now = Instant::ZERO;
            let (mut requests, mut retries) = (0_u64, 0_u64);
            for (wait, count) in steps {
                now += Duration::from_millis(wait);
                (0..count).for_each(|_| budget.handle_request(now));
                requests += u64::from(count);
                retries += spend(&mut budget, now);
                prop_assert!(retries * 5 <= requests);
                let sum = budget.slots.iter().fold(0, |sum, slot| sum + slot.requests);
                prop_assert_eq!(sum, budget.total.requests);
            }
        }
    }
}
