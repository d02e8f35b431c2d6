//! How slowly a body may come.
//!
//! Before the deadline of its request a body may dawdle for a few windows in a row; after it, the
//! body must keep flowing at the minimum rate. Only time spent waiting *for the peer* counts: a reader
//! of ours that sleeps holds back the sender, and that is not the sender's fault.
//!
//! # Units
//! Rates are bytes a second, averaged over a window of waiting.
//!
//! # Source
//! F12, K15; faults rows 4 and 5.

use std::time::Duration;

use southbridge_words::Instant;

/// The pace of one body.
#[derive(Clone, Debug)]
pub struct Pace {
    rate_min: u64,
    deadline: Instant,
    waiting_since: Option<Instant>,
    waited: Duration,
    bytes: u64,
    slow_windows: u32,
}

/// The body came too slowly for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSlow;

impl Pace {
    /// A body that must come at `rate_min` bytes a second once `deadline` has passed.
    pub fn new(rate_min: u64, deadline: Instant) -> Self {
        Self { rate_min, deadline, waiting_since: None, waited: Duration::ZERO, bytes: 0, slow_windows: 0 }
    }

    /// Nothing is at hand: from `now` on it is the peer who is waited for.
    pub fn handle_waiting(&mut self, now: Instant) {
        self.waiting_since.get_or_insert(now);
    }

    /// `bytes` came.
    pub fn handle_bytes(&mut self, bytes: u64, now: Instant) {
        self.settle(now);
        self.waiting_since = None;
        self.bytes += bytes;
    }

    /// Whether the body has become too slow by `now`.
    ///
    /// # Errors
    /// [`TooSlow`] when it must be given up.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), TooSlow> {
        self.settle(now);
        let overdue = now >= self.deadline;
        if self.waited < if overdue { OVERDUE_WINDOW } else { WINDOW } {
            return Ok(());
        }
        let enough = self.bytes as f64 >= self.rate_min as f64 * self.waited.as_secs_f64();
        self.waited = Duration::ZERO;
        self.bytes = 0;
        self.slow_windows = if enough { 0 } else { self.slow_windows + 1 };
        if !enough && (overdue || self.slow_windows >= SLOW_WINDOWS_MAX) { Err(TooSlow) } else { Ok(()) }
    }

    /// When to call `handle_timeout`, while waiting.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let since = self.waiting_since?;
        let overdue_at = self.deadline.max(since + OVERDUE_WINDOW.saturating_sub(self.waited));
        Some((since + WINDOW.saturating_sub(self.waited)).min(overdue_at))
    }

    fn settle(&mut self, now: Instant) {
        if let Some(since) = self.waiting_since {
            self.waited += now.saturating_since(since);
            self.waiting_since = Some(now);
        }
    }
}

/// Long enough for a congested path to recover from a loss.
const WINDOW: Duration = Duration::from_secs(10);
/// Past the deadline there is no patience left, only enough to tell a pause from a stop.
const OVERDUE_WINDOW: Duration = Duration::from_secs(1);
const SLOW_WINDOWS_MAX: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Instant = Instant::from_nanos(1_000_000_000);
    const DEADLINE: Instant = Instant::from_nanos(76_000_000_000);

    /// Plays a body that sends `bytes` every `every`, and tells when it is given up.
    fn play(bytes: u64, every: Duration, until: Duration) -> Option<Duration> {
        let mut pace = Pace::new(1024, DEADLINE);
        let mut now = T0;
        let mut next = T0 + every;
        pace.handle_waiting(now);
        while now.saturating_since(T0) < until {
            let timeout = pace.poll_timeout().expect("it is waiting");
            if timeout < next {
                now = timeout.max(now);
                if pace.handle_timeout(now).is_err() {
                    return Some(now.saturating_since(T0));
                }
            } else {
                now = next;
                next += every;
                pace.handle_bytes(bytes, now);
                pace.handle_waiting(now);
            }
        }
        None
    }

    #[test]
    fn a_steady_body_may_take_longer_than_its_deadline() {
        assert_eq!(play(4096, Duration::from_millis(500), Duration::from_secs(600)), None);
    }

    #[test]
    fn a_body_that_drips_is_given_up() {
        let after = play(1, Duration::from_secs(1), Duration::from_secs(600)).expect("given up");
        assert!(after <= Duration::from_secs(35), "{after:?}");
    }

    #[test]
    fn a_body_that_stops_is_given_up_within_its_deadline() {
        let after = play(0, Duration::from_secs(700), Duration::from_secs(600)).expect("given up");
        assert!(after <= Duration::from_secs(75), "{after:?}");
    }

    /// Our reader sleeps for an hour between two reads; nothing is held against the peer.
    #[test]
    fn a_sleeping_reader_is_not_the_peers_fault() {
        let mut pace = Pace::new(1024, DEADLINE);
        let mut now = T0;
        for _ in 0..10 {
            now += Duration::from_secs(3600);
            pace.handle_waiting(now);
            now += Duration::from_millis(1);
            assert!(pace.handle_timeout(now).is_ok());
            pace.handle_bytes(100, now);
        }
    }
}
