//! What an operator sees of a queue.

use std::sync::Arc;

use southbridge_words::{Instant, Seq};

use super::{FederationQueue, Phase};
use crate::externaliser::Hold;

/// How one destination's queue stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueView {
    /// What it does just now.
    pub state: QueueState,
    /// Everything up to here was delivered.
    pub delivered: Seq,
    /// The last durable item for it.
    pub last: Seq,
    /// Durable items not delivered yet, as many as are known of.
    pub items: u64,
    /// Whether there may be more of them in the outbox than were counted.
    pub at_least: bool,
    /// How many of them are in memory.
    pub held: usize,
    /// Volatile EDUs that wait.
    pub volatile: usize,
    /// The id of the transaction that is under way or to be repeated.
    pub transaction: Option<Arc<str>>,
    /// Attempts without success in a row.
    pub failures: u32,
    /// Since when there has been no success, if there were failures.
    pub failing_since: Option<Instant>,
    /// Why it waits, or has waited last, if the last attempt came to nothing.
    pub hold: Option<Hold>,
    /// Until when it waits, if it does.
    pub until: Option<Instant>,
    /// The size of a transaction for this host, in bytes.
    pub transaction_bytes_max: usize,
}

/// What a queue does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QueueState {
    /// It waits for its turn, or has nothing to send.
    Ready,
    /// It waits for a time.
    Waiting,
    /// It reads its items back.
    Reading,
    /// It waits for a connection.
    Asked,
    /// It waits for its transaction to be on record.
    Beginning,
    /// Its transaction is on the wire.
    Flying,
}

impl QueueState {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Ready, Self::Waiting, Self::Reading, Self::Asked, Self::Beginning, Self::Flying];

    /// The name used in metrics, logs and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Waiting => "waiting",
            Self::Reading => "reading",
            Self::Asked => "asked",
            Self::Beginning => "beginning",
            Self::Flying => "flying",
        }
    }
}

impl QueueState {
    /// What the queue does in this phase.
    pub(crate) const fn of(phase: Phase) -> Self {
        match phase {
            Phase::Ready => Self::Ready,
            Phase::Waiting { .. } => Self::Waiting,
            Phase::Reading { .. } => Self::Reading,
            Phase::Asked => Self::Asked,
            Phase::Beginning => Self::Beginning,
            Phase::Flying => Self::Flying,
        }
    }
}

impl FederationQueue {
    /// What an operator sees of it.
    pub(crate) fn view(&self) -> QueueView {
        let (items, at_least) = self.stream.known();
        let until = match self.phase {
            Phase::Waiting { until } => Some(until),
            _ => None,
        };
        QueueView {
            state: QueueState::of(self.phase),
            delivered: self.stream.delivered(),
            last: self.stream.last(),
            items,
            at_least,
            held: self.stream.held(),
            volatile: self.edus.len(),
            transaction: self.open.as_ref().map(|open| open.id()),
            failures: self.health.failures,
            failing_since: self.health.failing_since,
            hold: self.health.hold,
            until,
            transaction_bytes_max: self.sizing.bytes_max(),
        }
    }
}
