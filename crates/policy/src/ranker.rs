//! The Host Ranker: how each host is doing, and what that means for a request to it.

use std::time::Duration;

use southbridge_words::{HostRecord, HostState, Instant, Outcome, ServiceName, Step, WallTime};

use crate::lane::Lane;

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
    /// Send it: it is the one that finds out whether the host is back.
    Probe,
    /// Answer at once that the host is down.
    Refuse(Down),
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
#[allow(missing_docs, reason = "the names say it")]
pub struct HostView {
    pub state: HostState,
    pub latency: Duration,
    pub failures: u32,
    pub successes: u64,
    pub failing_for: Option<Duration>,
    pub retry_in: Option<Duration>,
    pub in_flight: u32,
    pub last: Option<Step>,
    pub idle_for: Duration,
}

/// The Host Ranker (F5), as a machine. The helper who builds it adds `RankerLimits` with every field documented.
#[derive(Debug)]
pub struct Ranker {}

/// Bounds and paces of the ranker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RankerLimits {}

#[allow(clippy::todo, unused_variables, missing_docs)]
impl Ranker {
    pub fn new(limits: RankerLimits, seed: u64) -> Self {
        todo!()
    }
    /// Every `ask` that is answered `Go` or `Probe` must be followed by exactly one `handle_outcome`.
    pub fn ask(&mut self, host: &ServiceName, demand: Demand, now: Instant) -> Advice {
        todo!()
    }
    pub fn handle_outcome(&mut self, host: &ServiceName, outcome: Outcome, now: Instant) {}
    /// Something was heard *from* the host, or an operator says it is back: its back-off ends.
    pub fn handle_wake(&mut self, host: &ServiceName, now: Instant) {}
    pub fn view(&self, host: &ServiceName, now: Instant) -> Option<HostView> {
        todo!()
    }
    /// Every host known, in no particular order.
    pub fn hosts(&self) -> impl Iterator<Item = &ServiceName> {
        std::iter::empty()
    }
    pub fn counts(&self) -> [(HostState, u32); 5] {
        todo!()
    }
    /// Records of hosts changed since the last call, for the store; at most `records_max`.
    pub fn take_changed(&mut self, records_max: usize, now: Instant, wall: WallTime) -> Vec<HostRecord> {
        todo!()
    }
    /// Takes up what the store kept. First contacts with hosts that were failing are spread by jitter.
    pub fn restore(&mut self, records: Vec<HostRecord>, now: Instant, wall: WallTime) {}
}
