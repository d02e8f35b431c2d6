//! When a host that is down may be asked again.

use std::time::Duration;

use southbridge_words::Instant;

use super::limits::RankerLimits;
use crate::seeded::Seeded;

/// The back-off of one host, and the one request that finds out whether the host is back.
///
/// Two paces. Our own queues wait out the whole back-off, which doubles with every probe that fails.
/// Somebody's request that is at hand anyway may be the probe sooner: it costs nobody else anything,
/// and a host that has come back must not go on being refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Probing {
    backoff: Duration,
    retry_at: Instant,
    next_at: Instant,
    started_at: Option<Instant>,
}

impl Probing {
    /// Takes up a back-off that the store remembers, of which `left` is to come.
    pub(super) fn remembered(
        backoff: Duration,
        left: Duration,
        limits: &RankerLimits,
        seeded: &mut Seeded,
        now: Instant,
    ) -> Self {
        let backoff = backoff.clamp(limits.backoff_first, limits.backoff_max);
        // Not all at once: a restart must not knock at every dead door in its first second.
        let spread = limits.probe_every_max.mul_f64(seeded.factor(0.0, 1.0));
        let next_at = now + spread;
        let retry_at = (now + left.min(limits.backoff_max)).max(next_at);
        Self { backoff, retry_at, next_at, started_at: None }
    }

    /// Since when the probe under way has been so, if one is.
    pub(super) const fn started_at(&self) -> Option<Instant> {
        self.started_at
    }

    /// When the back-off ends, for whoever has no request at hand.
    pub(super) const fn retry_at(&self) -> Instant {
        self.retry_at
    }

    /// From when on a request at hand may be the probe.
    pub(super) fn due_at(&self, limits: &RankerLimits) -> Instant {
        match self.started_at {
            Some(started_at) => self.next_at.max(started_at + limits.probe_overdue),
            None => self.next_at,
        }
    }

    pub(super) fn handle_started(&mut self, limits: &RankerLimits, now: Instant) {
        self.started_at = Some(now);
        self.next_at = now + self.backoff.min(limits.probe_every_max);
    }

    /// The host went down, or was probed and still is.
    pub(super) fn handle_failed(&mut self, limits: &RankerLimits, seeded: &mut Seeded, now: Instant) {
        self.started_at = None;
        self.backoff = match self.backoff {
            Duration::ZERO => limits.backoff_first,
            backoff => backoff.saturating_mul(2).min(limits.backoff_max),
        };
        let drawn = self.backoff.mul_f64(seeded.factor(JITTER.0, JITTER.1)).min(limits.backoff_max);
        self.retry_at = now + drawn;
        self.next_at = now + drawn.min(limits.probe_every_max);
    }

    /// The probe was given up by its caller: the next may go as soon as its pace allows.
    pub(super) fn handle_abandoned(&mut self) {
        self.started_at = None;
    }
}

// As wide as Synapse's own, so that neither side falls into step with the other.
const JITTER: (f64, f64) = (0.8, 1.4);

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Instant = Instant::ZERO;

    #[test]
    fn the_back_off_grows_to_its_cap_and_the_pace_of_probes_to_theirs() {
        let (limits, mut seeded) = (RankerLimits::default(), Seeded::new(1));
        let mut probing = Probing::default();
        let mut previous = Duration::ZERO;
        for _ in 0..20 {
            probing.handle_failed(&limits, &mut seeded, T0);
            assert!(probing.backoff > previous || probing.backoff == limits.backoff_max);
            assert!(probing.retry_at <= T0 + limits.backoff_max);
            assert!(probing.due_at(&limits) <= T0 + limits.probe_every_max);
            assert!(probing.due_at(&limits) >= T0 + limits.backoff_first.mul_f64(0.8));
            previous = probing.backoff;
        }
        assert_eq!(probing.backoff, limits.backoff_max);
    }

    #[test]
    fn a_probe_under_way_holds_back_the_next_until_it_is_overdue() {
        let (limits, mut seeded) = (RankerLimits::default(), Seeded::new(1));
        let mut probing = Probing::default();
        probing.handle_failed(&limits, &mut seeded, T0);
        let start = probing.due_at(&limits);
        probing.handle_started(&limits, start);
        assert_eq!(probing.due_at(&limits), start + limits.probe_overdue);
        probing.handle_abandoned();
        assert!(probing.due_at(&limits) <= start + limits.probe_every_max);
    }
}
