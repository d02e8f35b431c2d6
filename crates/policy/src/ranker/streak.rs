//! Failures in a row.

use std::time::Duration;

use southbridge_words::Instant;

use super::limits::RankerLimits;
use super::moment::Moment;

/// The failures of one host since it last did what was asked.
///
/// A restart of the far side cuts all that is in flight at once. Counting each would take a host
/// down that is back in a second, so failures that follow a counted one within the grace, of requests
/// that were in flight with it, are its *echoes* and not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Streak {
    failures: u32,
    unreached: u32,
    unwilling: u32,
    since: Option<Moment>,
    echoes: u32,
    counted_at: Instant,
}

/// What sort of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No answer came.
    Unreached,
    /// An answer came that was none: 429, 5xx, not what was asked for.
    Unwilling,
}

/// Whether a failure adds to the streak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tally {
    Counted,
    Echo,
}

impl Streak {
    /// A streak that the store remembers, of a host that was down or that was not.
    pub(super) fn remembered(failures: u32, since: Option<Moment>, unreached: u32) -> Self {
        Self { failures, unreached, since, ..Self::default() }
    }

    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) const fn since(&self) -> Option<Moment> {
        self.since
    }

    /// For how long the host has been failing.
    pub(super) fn age(&self, now: Instant) -> Duration {
        self.since.map_or(Duration::ZERO, |since| since.age(now))
    }

    /// Takes one failure, with `in_flight` other requests still under way.
    pub(super) fn handle_failure(
        &mut self,
        failure: Failure,
        in_flight: u32,
        grace: Duration,
        now: Instant,
    ) -> Tally {
        let echo = self.is_echo(grace, now);
        // Any answer shows that the way to the host is open.
        if failure == Failure::Unwilling {
            self.unreached = 0;
        }
        if echo {
            return Tally::Echo;
        }
        self.failures = self.failures.saturating_add(1);
        let counter = match failure {
            Failure::Unreached => &mut self.unreached,
            Failure::Unwilling => &mut self.unwilling,
        };
        *counter = counter.saturating_add(1);
        self.since.get_or_insert(now.into());
        self.echoes = in_flight;
        self.counted_at = now;
        Tally::Counted
    }

    /// A request ended that says nothing about the host: it will make no echo.
    pub(super) fn handle_abandoned(&mut self) {
        self.echoes = self.echoes.saturating_sub(1);
    }

    /// Leaves the host one failure short of being down, and no further back than that: a sign of life
    /// earns it a chance, and does not undo what was seen.
    pub(super) fn soften(&mut self, limits: &RankerLimits) {
        self.unreached = self.unreached.min(limits.failures_down - 1);
        self.unwilling = self.unwilling.min(limits.unwilling_down - 1);
    }

    pub(super) fn is_down(&self, limits: &RankerLimits, now: Instant) -> bool {
        let lasting = self.age(now) >= limits.grace;
        self.unreached >= limits.failures_sure
            || lasting && self.unreached >= limits.failures_down
            || lasting && self.unwilling >= limits.unwilling_down
    }

    fn is_echo(&mut self, grace: Duration, now: Instant) -> bool {
        let echo = self.echoes > 0 && now.saturating_since(self.counted_at) < grace;
        self.echoes = if echo { self.echoes - 1 } else { 0 };
        echo
    }
}
