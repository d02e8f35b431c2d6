//! What may be expected of a host: how soon it answers, and how often.

use std::time::Duration;

use southbridge_words::Instant;

use super::moment::RoughMoment;

/// How long one host is expected to take: bad news at once, good news by degrees (peak-EWMA).
///
/// # Units
/// Microseconds, up to [`LATENCY_MAX`], which fits. Zero when the host never answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Estimate {
    latency_us: u32,
    updated_at: RoughMoment,
}

impl Estimate {
    pub(super) fn new(latency: Duration, at: RoughMoment) -> Self {
        Self { latency_us: micros(latency), updated_at: at }
    }

    pub(super) const fn latency(&self) -> Duration {
        Duration::from_micros(self.latency_us as u64)
    }

    /// Folds in one observed `latency`. What it is below the estimate counts for half after `half_life`.
    pub(super) fn observe(&mut self, latency: Duration, half_life: Duration, now: Instant) {
        let latency = latency.min(LATENCY_MAX);
        self.latency_us = micros(match self.latency().checked_sub(latency) {
            None => latency,
            Some(excess) => latency + excess.mul_f64(decay(self.updated_at.age(now), half_life)),
        });
        self.updated_at = now.into();
    }
}

fn micros(latency: Duration) -> u32 {
    u32::try_from(latency.min(LATENCY_MAX).as_micros()).unwrap_or(u32::MAX)
}

/// Which part of a host's recent requests it did, the older ones fading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SuccessRate {
    good: f32,
    bad: f32,
    updated_at: RoughMoment,
}

impl SuccessRate {
    pub(super) fn new(now: Instant) -> Self {
        Self { good: 0.0, bad: 0.0, updated_at: now.into() }
    }

    pub(super) fn handle_good(&mut self, half_life: Duration, now: Instant) {
        self.fade(half_life, now);
        self.good += 1.0;
    }

    pub(super) fn handle_bad(&mut self, half_life: Duration, now: Instant) {
        self.fade(half_life, now);
        self.bad += 1.0;
    }

    /// The share of good ones in percent, once there are enough to speak of a share.
    pub(super) fn percent(&self) -> Option<u8> {
        let all = self.good + self.bad;
        (all >= SAMPLES_MIN).then(|| (100.0 * self.good / all).round() as u8)
    }

    fn fade(&mut self, half_life: Duration, now: Instant) {
        let factor = decay(self.updated_at.age(now), half_life) as f32;
        self.good *= factor;
        self.bad *= factor;
        self.updated_at = now.into();
    }
}

fn decay(age: Duration, half_life: Duration) -> f64 {
    0.5_f64.powf(age.div_duration_f64(half_life))
}

// Nothing waits that long; what says so is a broken clock or a broken store.
const LATENCY_MAX: Duration = Duration::from_secs(3600);
// With fewer, one unlucky minute after a quiet night would look like a habit.
const SAMPLES_MIN: f32 = 8.0;

#[cfg(test)]
mod tests {
    use super::*;

    const HALF_LIFE: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    /// A host hangs once for eight seconds and is quick ever after.
    #[test]
    fn bad_news_counts_at_once_and_good_news_by_degrees() {
        let mut estimate = Estimate::new(Duration::from_millis(100), at(0).into());
        estimate.observe(Duration::from_secs(8), HALF_LIFE, at(1));
        assert_eq!(estimate.latency(), Duration::from_secs(8));
        estimate.observe(Duration::ZERO, HALF_LIFE, at(11));
        assert_eq!(estimate.latency(), Duration::from_secs(4));
        estimate.observe(Duration::ZERO, HALF_LIFE, at(21));
        assert_eq!(estimate.latency(), Duration::from_secs(2));
    }

    #[test]
    fn a_rate_needs_samples_and_forgets_old_ones() {
        let minute = Duration::from_secs(60);
        let mut rate = SuccessRate::new(at(0));
        (0..7).for_each(|_| rate.handle_bad(minute, at(0)));
        assert_eq!(rate.percent(), None);
        rate.handle_bad(minute, at(0));
        assert_eq!(rate.percent(), Some(0));
        (0..16).for_each(|_| rate.handle_good(minute, at(60)));
        assert_eq!(rate.percent(), Some(80));
    }
}
