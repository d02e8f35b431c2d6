//! A pace: so many a second, and so many at once after a rest.

use std::time::Duration;

use southbridge_words::Instant;

/// See the [module](self).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    per_second: u32,
    /// How far ahead of an even pace it may be.
    ahead_max: Duration,
    /// When an even pace would come to the next.
    next: Instant,
}

impl Pace {
    /// `per_second` (at least one) a second, and a burst of what is due in `ahead_max`.
    pub(crate) const fn new(per_second: u32, ahead_max: Duration) -> Self {
        Self { per_second, ahead_max, next: Instant::ZERO }
    }

    /// Whether one may come now.
    pub(crate) fn is_open(&self, now: Instant) -> bool {
        self.opens_at() <= now
    }

    /// When the next may come.
    pub(crate) fn opens_at(&self) -> Instant {
        Instant::ZERO + self.next.saturating_since(Instant::ZERO).saturating_sub(self.ahead_max)
    }

    /// So many have come.
    pub(crate) fn spend(&mut self, count: usize, now: Instant) {
        let took = Duration::from_secs_f64(count as f64 / f64::from(self.per_second.max(1)));
        self.next = self.next.max(now) + took;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hundred a second: after a rest ten come at once, then one every ten milliseconds; a large one is let through and
    /// makes the next wait for it.
    #[test]
    fn a_pace_is_kept_after_a_burst() {
        let mut pace = Pace::new(100, Duration::from_millis(100));
        let mut now = Instant::ZERO + Duration::from_secs(50);
        let burst = (0..100).take_while(|_| pace.is_open(now).then(|| pace.spend(1, now)).is_some()).count();
        assert_eq!(burst, 11);
        assert_eq!(pace.opens_at(), now + Duration::from_millis(10));
        let mut count = 0;
        for _ in 0..1000 {
            now += Duration::from_millis(1);
            while pace.is_open(now) {
                pace.spend(1, now);
                count += 1;
            }
        }
        assert_eq!(count, 100);
        pace.spend(500, now);
        assert!(!pace.is_open(now + Duration::from_millis(4900)));
        assert!(pace.is_open(now + Duration::from_millis(5020)));
    }
}
