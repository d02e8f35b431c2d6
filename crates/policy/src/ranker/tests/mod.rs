//! The ranker's stories, its graph of states, and its promises.

use std::time::Duration;

use southbridge_words::{Instant, Outcome, ServiceName, Step, WallTime};

use super::*;

mod graph;
mod memory;
mod promises;
mod stories;

pub(super) const T0: Instant = Instant::from_nanos(1_000_000_000);
pub(super) const NOON: WallTime = WallTime::from_unix_millis(1_800_000_000_000);
pub(super) const REFUSED: Outcome = Outcome::Failed { step: Step::Connect };
pub(super) const QUICK: Outcome = Outcome::Answered { latency: Duration::from_millis(50) };
pub(super) const LAZY: Outcome = Outcome::Answered { latency: Duration::from_secs(4) };
pub(super) const BUSY: Outcome = Outcome::Unwilling { latency: Duration::from_millis(50), retry_after: None };

pub(super) fn host() -> ServiceName {
    ServiceName::new("matrix.example.org")
}

pub(super) fn ranker() -> Ranker {
    Ranker::new(RankerLimits::default(), 7)
}

pub(super) fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub(super) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

impl Ranker {
    /// One request after the other, `every` apart, each ending as `outcome` says. Refused ones end there.
    pub(super) fn live_through(
        &mut self,
        outcome: Outcome,
        times: u32,
        every: Duration,
        mut now: Instant,
    ) -> Instant {
        for _ in 0..times {
            if !matches!(self.ask(&host(), Demand::Prompt, now), Advice::Refuse(_)) {
                self.handle_outcome(&host(), outcome, now);
            }
            now += every;
        }
        now
    }

    pub(super) fn state(&self, now: Instant) -> HostState {
        self.view(&host(), now).map_or(HostState::Unknown, |view| view.state)
    }

    /// Asks again and again until the answer is not a refusal; how long that took.
    pub(super) fn refused_for(&mut self, demand: Demand, from: Instant) -> Duration {
        let mut now = from;
        while matches!(self.ask(&host(), demand, now), Advice::Refuse(_)) {
            now += millis(100);
        }
        now.saturating_since(from)
    }
}
