//! The Host Ranker: how each host is doing, and what that means for a request to it.
//!
//! Whoever wants to send asks first and reports what became of it. The ranker never sends anything
//! itself and holds no request back: a host that is down is *probed* by the requests of those who want
//! something of it, one at a time, while the others are answered at once.
//!
//! - **One failure is not an outage.** Two in a row make a host failing, five that span a second, or
//!   eight in a row, make it down. Failures of requests that were cut off together are one failure.
//! - **One good answer** and the host is healthy, or slow; it is never refused after that.
//! - **429, 5xx and answers that are none** show that the way is open: they make a host failing, and
//!   down only after many. While a `Retry-After` lasts (up to a cap) the host's requests travel in the
//!   limited lane, and nobody probes it if it is down; otherwise nothing is refused on its account,
//!   for the host answers such requests quickly itself, and says more in its answer than we could.
//! - **A patient demand** is refused only by a host that has been failing for minutes.
//!
//! # Units
//! A latency runs from our first byte written to their first byte read. Time spent in our own queues
//! is not the host's fault and is not counted.
//!
//! # Source
//! F5, F19, DESIGN decision 6. The estimate is Finagle's peak-EWMA: bad news at once, good news by degrees.

use std::time::Duration;

use southbridge_words::{HostRecord, HostState, Instant, Outcome, ServiceName, Step, WallTime};

use crate::lane::Lane;
use crate::seeded::{Seeded, SeededMap, SeededState};

mod breaker;
mod estimate;
mod host;
mod limits;
mod moment;
mod probing;
mod record;
mod shelf;
mod streak;
#[cfg(test)]
mod tests;

pub use breaker::BreakerLimits;
use host::{Host, Scene};
pub use limits::RankerLimits;
use shelf::Shelf;

/// What is asked of the ranker before a request goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Refuse at once when the host is down.
    Prompt,
    /// Refuse only when the host has been failing for minutes: a refusal costs the caller more than
    /// waiting (a transaction, whose failure makes Synapse drop receipts, typing and presence).
    Patient,
}

/// What the ranker thinks of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Send it.
    Go {
        /// In this lane.
        lane: Lane,
    },
    /// Send it, in the limited lane: it is the one that finds out whether the host is back.
    Probe,
    /// Answer at once that the host is down.
    Refuse(Down),
}

impl Advice {
    /// The lane to send in; none for a refusal.
    pub const fn lane(&self) -> Option<Lane> {
        match self {
            Self::Go { lane } => Some(*lane),
            Self::Probe => Some(Lane::Limited),
            Self::Refuse(_) => None,
        }
    }
}

/// Why a host is held to be down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Down {
    /// Failures in a row.
    pub failures: u32,
    /// For how long it has been failing.
    pub failing_for: Duration,
    /// How far the last request came.
    pub last: Option<Step>,
    /// In how long the next request may go out as a probe.
    pub retry_in: Duration,
}

/// What the ranker knows of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostView {
    /// Its rank.
    pub state: HostState,
    /// The latency expected of it; zero when it never answered.
    pub latency: Duration,
    /// Failures in a row.
    pub failures: u32,
    /// Requests it did, since this process knows it.
    pub successes: u64,
    /// The share of its recent requests that it did, in percent, once there were enough.
    pub success_percent: Option<u8>,
    /// For how long it has been failing, if it has.
    pub failing_for: Option<Duration>,
    /// How much of its back-off is left, if it is down. Somebody's request may be a probe sooner.
    pub retry_in: Option<Duration>,
    /// Requests asked for whose outcome is to come.
    pub in_flight: u32,
    /// How far the last failed request came.
    pub last: Option<Step>,
    /// Since when it has neither been tried nor answered.
    pub idle_for: Duration,
}

/// The Host Ranker (F5), as a machine.
#[derive(Debug)]
pub struct Ranker {
    limits: RankerLimits,
    /// Those of hosts that have some of their own.
    own: SeededMap<ServiceName, RankerLimits>,
    seeded: Seeded,
    shelf: Shelf,
}

impl Ranker {
    /// A ranker that knows no host. `seed` keys its jitter and its hash: unpredictable in earnest,
    /// chosen in a test.
    ///
    /// # Panics
    /// When `limits` do not [validate](RankerLimits::validate).
    pub fn new(limits: RankerLimits, seed: u64) -> Self {
        limits.validate().expect("the limits were validated where they were read");
        let mut seeded = Seeded::new(seed);
        let shelf = Shelf::new(limits.hosts_max, seeded.next_u64());
        let own = SeededMap::with_hasher(SeededState::new(seeded.next_u64()));
        Self { limits, own, seeded, shelf }
    }

    /// From now on `host` is held to be down, and probed, as `breaker` says, or as all others again. It is kept until
    /// it is taken back: whoever sets it bounds how many there are.
    ///
    /// # Panics
    /// When `breaker` does not [validate](BreakerLimits::validate).
    pub fn bound(&mut self, host: &ServiceName, breaker: Option<&BreakerLimits>) {
        match breaker {
            Some(breaker) => self.own.insert(host.clone(), breaker.among(&self.limits)),
            None => self.own.remove(host),
        };
    }

    /// Asks whether a request may go to `host`.
    ///
    /// Every `ask` that is answered `Go` or `Probe` must be followed by exactly one `handle_outcome`.
    pub fn ask(&mut self, host: &ServiceName, demand: Demand, now: Instant) -> Advice {
        let mut scene =
            Scene { limits: limits_of(&self.own, &self.limits, host), seeded: &mut self.seeded, now };
        self.shelf
            .visit_or_add(host, now, |known| known.ask(demand, &mut scene))
            // No room even to remember it: as good as any unknown host.
            .unwrap_or(Advice::Go { lane: Lane::Limited })
    }

    /// The first byte of a request to `host` was written. Lets the ranker notice a healthy host that
    /// has begun to hang before the first request times out.
    pub fn handle_sent(&mut self, host: &ServiceName, now: Instant) {
        self.shelf.visit(host, |known| known.handle_sent(now));
    }

    /// Takes what became of a request.
    pub fn handle_outcome(&mut self, host: &ServiceName, outcome: Outcome, now: Instant) {
        let mut scene =
            Scene { limits: limits_of(&self.own, &self.limits, host), seeded: &mut self.seeded, now };
        self.shelf.visit_or_add(host, now, |known| known.handle_outcome(outcome, &mut scene));
    }

    /// Something was heard *from* the host, or an operator says it is back: its back-off ends. The
    /// next requests go out in the limited lane; a single failure takes the host down again.
    pub fn handle_wake(&mut self, host: &ServiceName, now: Instant) {
        let scene = Scene { limits: limits_of(&self.own, &self.limits, host), seeded: &mut self.seeded, now };
        self.shelf.visit(host, |known| known.handle_wake(&scene));
    }

    /// What is known of `host` holds no longer: it is another by that name.
    pub fn handle_replaced(&mut self, host: &ServiceName, now: Instant) {
        self.shelf.visit(host, |known| known.forget(now));
    }

    /// What is known of `host`.
    pub fn view(&self, host: &ServiceName, now: Instant) -> Option<HostView> {
        self.shelf.get(host).map(|known| known.view(now))
    }

    /// Every host known, in no particular order.
    pub fn hosts(&self) -> impl Iterator<Item = &ServiceName> {
        self.shelf.names()
    }

    /// How many hosts are in each state, the best first. A host forgotten for its idleness counts as
    /// what it was until somebody asks for it.
    pub fn counts(&self) -> [(HostState, u32); 5] {
        HostState::ALL.map(|state| (state, self.shelf.count(state)))
    }

    /// Records of hosts changed since the last call, for the store; at most `records_max`.
    ///
    /// Every change of state and every failure is a change; a host that goes on as before is one
    /// every `save_every`.
    pub fn take_changed(&mut self, records_max: usize, now: Instant, wall: WallTime) -> Vec<HostRecord> {
        let mut records = Vec::new();
        while records.len() < records_max {
            let Some((name, host)) = self.shelf.next_changed() else { break };
            host.saved_at = Some(now.into());
            records.push(host.to_record(name, now, wall));
        }
        records
    }

    /// Takes up what the store kept. First contacts with hosts that were down are spread by jitter
    /// over `probe_every_max`.
    ///
    /// Records of hosts known already, or older than `forget_after`, are left aside; so are the
    /// longest unseen when there are more than `hosts_max`.
    pub fn restore(&mut self, mut records: Vec<HostRecord>, now: Instant, wall: WallTime) {
        records.sort_by(|a, b| (b.seen_at, &a.host).cmp(&(a.seen_at, &b.host)));
        records.truncate(self.limits.hosts_max as usize);
        for record in records.into_iter().rev() {
            if self.shelf.is_full() {
                break;
            }
            let mut scene = Scene { limits: &self.limits, seeded: &mut self.seeded, now };
            if let Some(host) = Host::from_record(&record, &mut scene, wall)
                && !self.shelf.is_known(&record.host)
            {
                self.shelf.add(record.host, host);
            }
        }
    }
}

fn limits_of<'a>(
    own: &'a SeededMap<ServiceName, RankerLimits>,
    usual: &'a RankerLimits,
    host: &ServiceName,
) -> &'a RankerLimits {
    // Most programs have none, and every request comes by here.
    if own.is_empty() { usual } else { own.get(host).unwrap_or(usual) }
}
