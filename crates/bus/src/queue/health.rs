//! How a queue gets on with its host, and how long it waits after what went wrong.
//!
//! Whether a host is down is the ranker's business; a queue only spaces its own attempts, and believes what it is
//! told. All waits are jittered, so that what failed together does not come back together (faults row 28).

use std::time::Duration;

use southbridge_policy::seeded::Seeded;
use southbridge_words::Instant;

use crate::externaliser::Hold;

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// Attempts without success in a row.
    pub(crate) failures: u32,
    /// Since when there was no success, if there were failures.
    pub(crate) failing_since: Option<Instant>,
    /// Why the last attempt came to nothing.
    pub(crate) hold: Option<Hold>,
    /// When a wake-up has last ended a wait.
    pub(crate) woken_at: Option<Instant>,
    /// Whether it answered sensibly the last time.
    pub(crate) is_good: bool,
    /// Answers that refused what stands first as it is: the transaction, and those that took its place.
    pub(crate) refusals: u32,
    /// Items given up since the last success.
    pub(crate) given_up: u32,
}

impl Health {
    /// It did what was asked.
    pub(crate) fn succeed(&mut self) {
        *self = Self { is_good: true, woken_at: self.woken_at, ..Self::default() };
    }

    /// An attempt came to nothing.
    pub(crate) fn fail(&mut self, why: Hold, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.hold(why, now);
    }

    /// It may not be asked just now.
    pub(crate) fn hold(&mut self, why: Hold, now: Instant) {
        self.failing_since.get_or_insert(now);
        self.hold = Some(why);
        // Whoever answers at once, or was not even asked, holds nobody up.
        self.is_good &=
            !matches!(why, Hold::Down | Hold::Unreachable | Hold::Failing(_) | Hold::TooLarge(520));
    }

    /// Whether the next attempt is one after another that came to nothing.
    pub(crate) fn is_retry(&self) -> bool {
        self.failures > 0 || self.hold.is_some_and(|hold| hold != Hold::Start)
    }

    /// For how long there was no success.
    pub(crate) fn failing_for(&self, now: Instant) -> Option<Duration> {
        self.failing_since.map(|since| now.saturating_since(since))
    }

    /// The wait after as many failures as there were: `first` doubled, at most `most`, give or take a third.
    pub(crate) fn doubled(&self, first: Duration, most: Duration, seeded: &mut Seeded) -> Duration {
        let exponent = self.failures.saturating_add(self.given_up).saturating_sub(1).min(30);
        first.saturating_mul(1 << exponent).min(most).mul_f64(seeded.factor(0.67, 1.33))
    }
}

/// What was asked for, at least `least` and at most `most`, and up to a quarter more: never less.
pub(crate) fn asked_for(wait: Duration, least: Duration, most: Duration, seeded: &mut Seeded) -> Duration {
    wait.clamp(least.min(most), most).mul_f64(seeded.factor(1.0, 1.25))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(1);
    const MOST: Duration = Duration::from_secs(300);

    /// A second, two, four, and in the end five minutes; never quite the same for two hosts.
    #[test]
    fn waits_double_up_to_a_bound() {
        let mut seeded = Seeded::new(1);
        let mut health = Health::default();
        for expected in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            health.fail(Hold::Unreachable, Instant::ZERO);
            let factor = health.doubled(FIRST, MOST, &mut seeded).as_secs_f64() / f64::from(expected);
            assert!((0.67..1.33).contains(&factor), "{factor} of {expected}");
        }
        health.failures = u32::MAX;
        assert!(health.doubled(FIRST, MOST, &mut seeded) < MOST * 2);
    }

    /// An absurd wish is cut, a wish for nothing is not taken at its word, and nobody is asked too early.
    #[test]
    fn a_wish_is_honoured_within_bounds() {
        let mut seeded = Seeded::new(2);
        let mut wait = |asked: u64| asked_for(Duration::from_secs(asked), FIRST, MOST, &mut seeded).as_secs();
        assert!((300..375).contains(&wait(1_000_000)));
        assert!((30..38).contains(&wait(30)));
        assert_eq!(wait(0), 1);
    }
}
