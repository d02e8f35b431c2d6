//! Volatile EDUs: in, and out again when there are too many.
//!
//! They come in at a pace. What an EDU for few destinations costs is nothing, and it is given to their queues at
//! once; of what goes beyond the pace, each part waits in the broadcast, is collapsed there, and is spread when its turn
//! comes.
//!
//! What is stale goes first. Then presence: it is most of the volume, and homeservers repeat it within half an hour.
//! Then, of every queue, the older half of what waits, until there is room again: by then that is mostly receipts, and
//! some typing that lapses by itself. Queues whose oldest part is older go before others. Nothing here is ever
//! durable, so what must not be dropped cannot be.
//!
//! # Source
//! F8, F19; faults row 27.

use std::sync::Arc;

use southbridge_words::{Instant, ServerName};

use super::event::{Event, ShedReason};
use super::machine::Externaliser;
use super::moment::Moment;
use super::queues::QueueKey;
use crate::edus::{Shed, VolatileEdu, WaitingEdus};
use crate::outgoing::EduKind;

impl Externaliser {
    /// A volatile EDU for each of `destinations`: at once, if there is time for it, and nothing waits that came before.
    pub(super) fn broadcast(&mut self, destinations: &Arc<[ServerName]>, edu: &VolatileEdu, at: Moment) {
        let pushes = edu.parts() * destinations.len();
        if self.broadcast.is_empty() && pushes <= SLICE_MAX && self.spreading.is_open(at.now) {
            self.spreading.spend(pushes, at.now);
            return self.push_volatile(destinations, edu, at);
        }
        self.shed += self.broadcast.push(edu, destinations, &self.limits.queue.edus).shed;
        self.spread(at);
    }

    /// Spreads what waits, as far as the pace allows.
    pub(super) fn spread(&mut self, at: Moment) {
        while self.spreading.is_open(at.now)
            && let Some(spread) = self.broadcast.next(SLICE_MAX)
        {
            self.spreading.spend(spread.destinations().len(), at.now);
            self.push_volatile(spread.destinations(), &spread.edu, at);
        }
    }

    /// When something may be spread again, if anything waits.
    pub(super) fn spread_timeout(&self) -> Option<Instant> {
        (!self.broadcast.is_empty()).then(|| self.spreading.opens_at())
    }

    fn push_volatile(&mut self, destinations: &[ServerName], edu: &VolatileEdu, at: Moment) {
        for destination in destinations {
            let key = self.queue_of(destination);
            let shed = self.visit(key, at, |queue, scene| queue.push_volatile(edu, scene));
            self.shed += shed.unwrap_or_default();
        }
    }

    /// Drops what is expendable until there is room again, if there is not.
    pub(super) fn relieve_pressure(&mut self, at: Moment) {
        if self.volatile_bytes <= self.limits.volatile_bytes_max {
            return;
        }
        let limits = self.limits.queue.edus.clone();
        let keys = self.by_age();
        self.shed_of(&keys, at, |edus| edus.expire(&limits, at.wall));
        self.shed_of(&keys, at, |edus| edus.shed_kind(EduKind::Presence));
        // Halves of what is bounded by a number of 64 bits.
        for _ in 0..64 {
            self.shed_of(&keys, at, |edus| edus.shed_to(edus.bytes() / 2));
        }
    }

    fn by_age(&self) -> Vec<QueueKey> {
        let mut aged: Vec<_> = self
            .queues
            .keys()
            .into_iter()
            .filter_map(|key| Some((self.queues.get(key)?.queue.oldest_volatile()?, key)))
            .collect();
        aged.sort_unstable();
        aged.into_iter().map(|(_, key)| key).collect()
    }

    fn shed_of(&mut self, keys: &[QueueKey], at: Moment, mut drop: impl FnMut(&mut WaitingEdus) -> Shed) {
        // An eighth less than the bound, so that the next EDU does not start it all again.
        let target = self.limits.volatile_bytes_max / 8 * 7;
        for key in keys {
            if self.volatile_bytes <= target {
                return;
            }
            let told = self.visit(*key, at, |queue, _| (queue.shed(&mut drop), queue.destination().clone()));
            if let Some((shed, destination)) = told
                && !shed.is_empty()
            {
                self.tell(Event::Shed { destination, shed, why: ShedReason::Pressure });
            }
        }
    }
}

// A third of a millisecond.
const SLICE_MAX: usize = 1_000;
