//! The Federation Queue: what one destination is to be sent, and how far that has come (F6, F7, F9, F15).
//!
//! A queue exists only while it has work or state. One transaction is under way at a time; it holds a strict
//! prefix of the durable items, then volatile EDUs, and no more than was queued when the connection was granted. A few
//! EDUs go along with items; many of them would hold up a message, and follow it instead. From
//! then on it is immutable: the same id and bytes until the destination's 200, unless it was surely not processed.
//!
//! ```text
//!                       its turn, and the items are not in memory
//!            ┌───────────────────────────────▶ Reading ───┐ page
//!            │                                            ▼
//!  ┌──────▶ Ready ──────── its turn ─────────────────▶ Asked ◀───────────────┐
//!  │         ▲ ▲                                         │ granted           │
//!  │ the     │ └───── granted, and nothing is left ──────┤                   │
//!  │ time    │                                           │ something durable │ (the same transaction)
//!  │ has     │                                           ├──────▶ Beginning  │
//!  │ come,   │                             only volatile,│           │ on    │
//!  │ or a    │                             or on record  ▼           ▼ record│
//!  │ wake-up │ 200, or cut in two ◀──────────────────── Flying ◀─────┘       │
//!  │         └───────────────────────────────────────────┤                   │
//!  │                                                     │ any other answer, │
//!  └────────────────────────── Waiting ◀─────────────────┘ no answer at all ─┘
//! ```
//!
//! # What survives what
//! A transaction with something durable in it is on record before its first byte goes out. While a host is not
//! asked for longer than `hold_max`, nothing of its durable items is in memory, and the transaction is rendered again
//! from the record. A purely volatile transaction is repeated a few times and then dropped.
//!
//! # Units
//! Sizes are bytes of JSON; waits run on the monotonic clock, ages on the wall clock.
//!
//! # Source
//! F6, F7, F15; faults rows 16 to 18; DESIGN decision 7.

use std::collections::VecDeque;

use southbridge_policy::seeded::Seeded;
use southbridge_words::Instant;
use southbridge_words::{Backlog, Mark, Seq, ServerName};

use crate::edus::{Shed, WaitingEdus};
use crate::externaliser::{Action, Line, Moment, QueueKey, Urgency};
use crate::transaction::Press;

mod answering;
mod composing;
mod health;
mod held;
mod limits;
mod losing;
mod sending;
mod sizing;
mod stream;
mod verdict;
mod view;

use composing::Open;
use health::Health;
pub(crate) use held::{Held, Meter};
pub use limits::QueueLimits;
pub(crate) use sizing::Sizing;
use stream::Stream;
pub use view::{QueueState, QueueView};

/// One destination's queue. See the [module](self).
#[derive(Debug)]
pub(crate) struct FederationQueue {
    destination: ServerName,
    stream: Stream,
    edus: WaitingEdus,
    open: Option<Box<Open>>,
    phase: Phase,
    health: Health,
    sizing: Sizing,
    /// Marks that are not on record yet.
    unwritten: u32,
    /// Whether volatile EDUs had to wait while items went: they go along with the next.
    are_edus_due: bool,
}

/// What a queue does; see the graph in the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Ready,
    Waiting { until: Instant },
    Reading { after: Seq, last: Seq },
    Asked,
    Beginning,
    Flying,
}

/// What a queue may look at and touch while it decides.
pub(crate) struct Scene<'a> {
    pub(crate) limits: &'a QueueLimits,
    pub(crate) origin: &'a ServerName,
    pub(crate) seeded: &'a mut Seeded,
    pub(crate) ids: &'a mut TransactionIds,
    pub(crate) actions: &'a mut VecDeque<Action>,
    pub(crate) marks: &'a mut VecDeque<(QueueKey, Mark)>,
    pub(crate) meter: &'a Meter,
    pub(crate) press: &'a mut Press,
    /// Volatile EDUs that were dropped and are told in no event.
    pub(crate) shed: &'a mut Shed,
    /// The queue's own key.
    pub(crate) key: QueueKey,
    /// Whether nothing can be put on record just now, so that nothing durable can be begun.
    pub(crate) is_blocked: bool,
    pub(crate) at: Moment,
}

/// Gives transactions their ids: unlike any other process's, and counted from there.
#[derive(Debug)]
pub(crate) struct TransactionIds {
    prefix: u64,
    count: u64,
}

impl TransactionIds {
    /// Ids that begin with `prefix`, which no other process has.
    pub(crate) const fn new(prefix: u64) -> Self {
        Self { prefix, count: 0 }
    }

    /// One that was not used before.
    pub(crate) fn next(&mut self) -> String {
        self.count += 1;
        format!("{:016x}.{}", self.prefix, self.count)
    }
}

impl FederationQueue {
    /// A queue with nothing in it.
    pub(crate) fn new(destination: ServerName, sizing: Sizing, is_good: bool) -> Self {
        let health = Health { is_good, ..Health::default() };
        Self {
            destination,
            stream: Stream::unknown(),
            edus: WaitingEdus::default(),
            open: None,
            phase: Phase::Ready,
            health,
            sizing,
            unwritten: 0,
            are_edus_due: false,
        }
    }

    /// Takes up what the outbox says of the destination, where this queue knows nothing yet.
    pub(crate) fn recover(&mut self, backlog: &Backlog) {
        self.stream = Stream::recovered(backlog);
        self.open = backlog.open.as_ref().map(|open| Box::new(Open::recovered(open)));
    }

    /// Whether it knows how far its durable items have come.
    pub(crate) fn knows_its_stream(&self) -> bool {
        self.stream.is_known()
    }

    /// The outbox has items up to `last`.
    pub(crate) fn extend(&mut self, last: Seq) {
        self.stream.extend(last);
    }

    /// An item was accepted; it is kept in memory if it `fits` there. `alone` when nobody else puts items into the outbox.
    pub(crate) fn push(&mut self, item: &Held, fits: bool, alone: bool, limits: &QueueLimits) {
        if alone {
            self.stream.begin(item.seq);
        }
        let is_waiting = matches!(self.phase, Phase::Waiting { .. });
        let is_held = fits && !is_waiting && self.stream.held() < limits.items_max;
        self.stream.push(item, is_held);
    }

    /// Whose queue it is.
    pub(crate) const fn destination(&self) -> &ServerName {
        &self.destination
    }

    /// What it does.
    pub(crate) const fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether it has something to send, as far as it may.
    pub(crate) fn has_work(&self, is_blocked: bool) -> bool {
        match &self.open {
            Some(open) => !is_blocked || open.is_ready(),
            None => !self.edus.is_empty() || (!is_blocked && !self.stream.is_empty()),
        }
    }

    /// Whether it can be forgotten.
    pub(crate) fn is_over(&self) -> bool {
        self.phase == Phase::Ready
            && self.open.is_none()
            && self.unwritten == 0
            && self.stream.is_empty()
            && self.edus.is_empty()
    }

    /// What is worth remembering of it: how large its transactions may be, and whether it answered.
    pub(crate) const fn remembered(&self) -> (Sizing, bool) {
        (self.sizing, self.health.is_good)
    }

    /// The line it belongs into.
    pub(crate) fn line(&self, limits: &QueueLimits, is_memory_short: bool, at: Moment) -> Line {
        let is_backlog = self.stream.is_backlog(limits.items_max, limits.live_age, at.wall)
            || (is_memory_short && self.stream.is_behind());
        let urgency = match (self.stream.is_empty(), is_backlog) {
            (true, _) => Urgency::Volatile,
            (false, true) => Urgency::Backlog,
            (false, false) => Urgency::Fresh,
        };
        Line::new(urgency, self.health.is_good)
    }

    /// Whether its next attempt is one after another that came to nothing.
    pub(crate) fn is_retry(&self) -> bool {
        self.health.is_retry()
    }

    /// A mark of this queue is on record, or will never be.
    pub(crate) fn handle_marked(&mut self) {
        self.unwritten = self.unwritten.saturating_sub(1);
    }

    /// Lets go of items that can be read back; for a queue that has no turn. Of all of them when memory is short: else
    /// everybody who has had a turn would keep a page.
    pub(crate) fn release_surplus(&mut self, is_memory_short: bool) {
        if (self.stream.is_behind() || is_memory_short) && self.stream.held() > 0 {
            self.stream.release();
        }
    }

    /// Remembers that `mark` is to be put on record.
    fn mark(&mut self, mark: Mark, scene: &mut Scene<'_>) {
        self.unwritten += 1;
        scene.marks.push_back((scene.key, mark));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hundred thousand of them wait for dead hosts now and then.
    #[test]
    fn a_queue_is_small() {
        assert!(size_of::<FederationQueue>() <= 320, "{} bytes", size_of::<FederationQueue>());
    }
}
