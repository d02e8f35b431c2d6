//! The Externaliser itself: what callers want of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use southbridge_policy::budget::RetryBudget;
use southbridge_policy::seeded::Seeded;
use southbridge_words::{Append, Instant, ItemKind, Partitions, ServerName, Ticket};

use super::action::Action;
use super::event::{Acknowledgement, Event, Lost};
use super::limits::ExternaliserLimits;
use super::moment::Moment;
use super::pace::Pace;
use super::queries::{Queries, QueryScene};
use super::queues::{QueueKey, Queues};
use super::refused::Refused;
use super::writing::{Accepting, Writing};
use crate::edus::{Broadcast, EduReader, Shed};
use crate::outgoing::{OutgoingEdu, OutgoingPdu, OutgoingQuery};
use crate::queue::{FederationQueue, Meter, QueueState, QueueView, Scene, TransactionIds};
use crate::transaction::Press;

/// The Externaliser. See the [module](super) for the rules it follows.
///
/// Tell it facts with `handle_*`, drain [`poll`](Self::poll) after each, and come back at
/// [`poll_timeout`](Self::poll_timeout).
#[derive(Debug)]
pub struct Externaliser {
    pub(super) origin: ServerName,
    pub(super) limits: ExternaliserLimits,
    pub(super) seeded: Seeded,
    pub(super) ids: TransactionIds,
    pub(super) queues: Queues,
    pub(super) queries: Queries,
    pub(super) writing: Writing,
    pub(super) budget: RetryBudget,
    pub(super) meter: Meter,
    press: Press,
    pub(super) owned: Partitions,
    /// Bytes of volatile EDUs in all queues.
    pub(super) volatile_bytes: usize,
    /// Volatile EDUs dropped at the door.
    pub(super) shed: Shed,
    pub(super) reader: EduReader,
    /// Volatile EDUs that there was no time for yet.
    pub(super) broadcast: Broadcast,
    pub(super) spreading: Pace,
    pub(super) is_closing: bool,
    pub(super) actions: VecDeque<Action>,
}

/// What there is, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Queues, by what they do, in the order of [`QueueState::ALL`].
    pub queues: [usize; 6],
    /// Queues that have something to deliver, under way or not.
    pub with_work: usize,
    /// Names of destinations known, with a queue or without.
    pub destinations: usize,
    /// Queues that wait for their turn.
    pub lined_up: usize,
    /// Sends asked for or under way.
    pub sends: usize,
    /// Items that wait to be accepted.
    pub accepting: usize,
    /// Bytes of durable items in memory.
    pub item_bytes: usize,
    /// Bytes of volatile EDUs in memory.
    pub volatile_bytes: usize,
    /// Parts of volatile EDUs that wait, counted for each destination.
    pub volatile_parts: usize,
    /// Parts of volatile EDUs that wait to be spread over their destinations.
    pub broadcast_parts: usize,
    /// Queries under way.
    pub queries: usize,
    /// Of the 256 shares of all destinations, those that this process delivers to.
    pub partitions: u32,
    /// Expendable EDUs dropped so far for want of room or of a host that answers, by type, and not told in
    /// an [`Event::Shed`].
    pub shed: Shed,
}

impl Externaliser {
    /// A bus of `origin` with nothing in it. `seed` keys hashes, jitter and transaction ids: unpredictable in earnest,
    /// chosen in a test; no two processes may have the same.
    ///
    /// # Panics
    /// When `limits` do not [validate](ExternaliserLimits::validate).
    pub fn new(origin: ServerName, limits: ExternaliserLimits, seed: u64) -> Self {
        limits.validate().expect("the limits were validated where they were read");
        let mut seeded = Seeded::new(seed);
        Self {
            origin,
            ids: TransactionIds::new(seeded.next_u64()),
            queues: Queues::new(seeded.next_u64(), &limits),
            queries: Queries::new(seeded.next_u64()),
            writing: Writing::default(),
            budget: RetryBudget::new(limits.retries.clone()),
            meter: Meter::default(),
            press: Press::default(),
            owned: Partitions::ALL,
            volatile_bytes: 0,
            shed: Shed::default(),
            reader: EduReader::new(limits.queue.edus.clone()),
            broadcast: Broadcast::new(seeded.next_u64()),
            spreading: Pace::new(limits.spreads_per_second, SPREAD_AHEAD),
            is_closing: false,
            actions: VecDeque::new(),
            seeded,
            limits,
        }
    }

    /// Takes a PDU for `destinations`, each of them once. `key` is the caller's name for it, if it may be handed
    /// in again: the second time it is acknowledged and not sent anew. Accepted means: in the outbox.
    ///
    /// # Errors
    /// [`Refused`] at once; later refusals come as [`Event::Refused`].
    #[allow(clippy::needless_pass_by_value, reason = "it is handed over")]
    pub fn send_pdu(
        &mut self,
        ticket: Ticket,
        pdu: OutgoingPdu,
        destinations: Arc<[ServerName]>,
        key: Option<Arc<str>>,
        at: Moment,
    ) -> Result<(), Refused> {
        self.check(&destinations)?;
        let (kind, bytes) = (ItemKind::Pdu, pdu.bytes().clone());
        let append = Append { kind, bytes, destinations, accepted_at: at.wall, key };
        self.writing.accept(Accepting { ticket, append, since: at.now }, &self.limits)
    }

    /// Takes an EDU for `destinations`, each of them once. One that must not be lost is accepted when it is in the
    /// outbox, others at once; `key` is of use for the former only.
    ///
    /// # Errors
    /// [`Refused`] at once; later refusals come as [`Event::Refused`].
    #[allow(clippy::needless_pass_by_value, reason = "it is handed over")]
    pub fn send_edu(
        &mut self,
        ticket: Ticket,
        edu: OutgoingEdu,
        destinations: Arc<[ServerName]>,
        key: Option<Arc<str>>,
        at: Moment,
    ) -> Result<(), Refused> {
        self.check(&destinations)?;
        if edu.kind().is_durable() {
            let (kind, bytes) = (ItemKind::Edu, edu.to_json());
            let append = Append { kind, bytes, destinations, accepted_at: at.wall, key };
            return self.writing.accept(Accepting { ticket, append, since: at.now }, &self.limits);
        }
        let volatile = self.reader.read(&edu, at.now, at.wall).expect("its kind was looked at");
        self.broadcast(&destinations, &volatile, at);
        let acknowledgement = Acknowledgement::Volatile;
        self.actions.push_back(Action::Tell(Event::Accepted { ticket, acknowledgement }));
        self.fill(at);
        Ok(())
    }

    /// Takes a query. Past `timeout` (zero is for ever) it ends with an error, even if it was never sent.
    ///
    /// # Errors
    /// [`Refused`] when too many are under way, or it cannot be asked.
    pub fn query(
        &mut self,
        ticket: Ticket,
        query: &OutgoingQuery,
        destination: ServerName,
        timeout: Duration,
        at: Moment,
    ) -> Result<(), Refused> {
        if self.is_closing {
            return Err(Refused::Closing);
        }
        let (queries, mut scene) = self.query_scene(at);
        queries.begin(ticket, query, destination, timeout, &mut scene)
    }

    /// Nobody waits for `ticket` any more. A query ends, without an event; an item that is not being written yet is taken
    /// back; what is accepted stays so.
    pub fn cancel(&mut self, ticket: Ticket, at: Moment) {
        let (queries, mut scene) = self.query_scene(at);
        if !queries.cancel(ticket, &mut scene) {
            self.writing.cancel(ticket);
        }
    }

    /// Something was heard from `destination`, or an operator says that it is back: what waits for it is tried at once.
    pub fn wake(&mut self, destination: &ServerName, at: Moment) {
        if let Some(key) = self.queues.find(destination) {
            self.visit(key, at, |queue, scene| queue.wake(scene));
        }
        let (queries, mut scene) = self.query_scene(at);
        queries.wake(destination, &mut scene);
        self.fill(at);
    }

    /// Gives up everything that is queued for `destination`, by order, and says what that was. Items that wait to
    /// be accepted are not concerned, nor are volatile EDUs that wait to be given to queues ([`Counts::broadcast_parts`]):
    /// each stands there once for all of its destinations, and comes to this one when its turn does.
    pub fn drop_backlog(&mut self, destination: &ServerName, at: Moment) -> Lost {
        let Some(key) = self.queues.find(destination) else { return Lost::default() };
        let lost = self.visit(key, at, FederationQueue::drop_backlog).unwrap_or_default();
        self.fill(at);
        lost
    }

    /// The bus is being closed: nothing more is taken and no transaction begun; what is on the wire may end.
    pub fn handle_closing(&mut self) {
        self.is_closing = true;
    }

    /// Whether nothing is under way: no transaction, no query, no write.
    pub fn is_idle(&self) -> bool {
        self.queues.lines.sends() == 0
            && self.queries.len() == 0
            && self.writing.is_idle()
            && self.actions.is_empty()
    }

    /// The next decision. Writes come last, so that what was told in between shares them.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front().or_else(|| self.writing.next(&self.limits))
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), if nothing is told before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let timeouts = [
            self.queues.poll_timeout(&self.limits).filter(|_| !self.is_closing),
            self.spread_timeout(),
            self.queries.poll_timeout(),
            self.writing.poll_timeout(self.limits.accepting_patience),
        ];
        timeouts.into_iter().flatten().min()
    }

    /// How `destination`'s queue stands; none if it has none.
    pub fn view(&self, destination: &ServerName) -> Option<QueueView> {
        let place = self.queues.get(self.queues.find(destination)?)?;
        Some(place.queue.view())
    }

    /// All queues there are, in no particular order (but the same one for the same story).
    pub fn queues(&self) -> impl Iterator<Item = (&ServerName, QueueView)> {
        self.queues.iter().map(|queue| (queue.destination(), queue.view()))
    }

    /// What there is, in numbers. Counts all queues, one by one.
    pub fn counts(&self) -> Counts {
        let mut queues = [0; 6];
        let (mut with_work, mut volatile_parts) = (0, self.broadcast.lacking());
        for queue in self.queues.iter() {
            queues[QueueState::of(queue.phase()) as usize] += 1;
            with_work += usize::from(queue.has_work(false));
            volatile_parts += queue.volatile_parts();
        }
        Counts {
            queues,
            with_work,
            destinations: self.queues.names(),
            lined_up: self.queues.lines.waiting(),
            sends: self.queues.lines.sends(),
            accepting: self.writing.accepting().0,
            item_bytes: self.meter.bytes(),
            volatile_bytes: self.volatile_bytes,
            volatile_parts,
            broadcast_parts: self.broadcast.parts(),
            queries: self.queries.len(),
            partitions: self.owned.count(),
            shed: self.shed,
        }
    }

    fn check(&self, destinations: &Arc<[ServerName]>) -> Result<(), Refused> {
        let (count, count_max) = (destinations.len(), self.limits.destinations_max);
        match count {
            _ if self.is_closing => Err(Refused::Closing),
            0 => Err(Refused::NoDestination),
            _ if count > count_max => Err(Refused::TooManyDestinations { count, count_max }),
            _ => Ok(()),
        }
    }

    pub(super) fn query_scene(&mut self, at: Moment) -> (&mut Queries, QueryScene<'_>) {
        let Self { queries, limits, seeded, budget, actions, .. } = self;
        (queries, QueryScene { limits, seeded, budget, actions, at })
    }

    /// Lets `tell` tell the queue something, and puts it where it belongs afterwards.
    pub(super) fn visit<R>(
        &mut self,
        key: QueueKey,
        at: Moment,
        tell: impl FnOnce(&mut FederationQueue, &mut Scene<'_>) -> R,
    ) -> Option<R> {
        let is_blocked = self.writing.is_blocked();
        let place = self.queues.get_mut(key)?;
        let mut scene = Scene {
            limits: &self.limits.queue,
            origin: &self.origin,
            seeded: &mut self.seeded,
            ids: &mut self.ids,
            actions: &mut self.actions,
            marks: &mut self.writing.marks,
            meter: &self.meter,
            press: &mut self.press,
            shed: &mut self.shed,
            key,
            is_blocked,
            at,
        };
        let before = place.queue.volatile_bytes();
        let told = tell(&mut place.queue, &mut scene);
        self.volatile_bytes = self.volatile_bytes + place.queue.volatile_bytes() - before;
        self.settle(key, at);
        Some(told)
    }

    pub(super) fn settle(&mut self, key: QueueKey, at: Moment) {
        let (is_blocked, is_memory_short) = (self.writing.is_blocked(), self.is_memory_short());
        self.queues.settle(key, is_blocked, is_memory_short, &self.limits, at);
    }

    pub(super) fn is_memory_short(&self) -> bool {
        self.meter.bytes() >= self.limits.memory_bytes_max
    }

    /// Gives the free places to those whose turn it is.
    pub(super) fn fill(&mut self, at: Moment) {
        self.writing.note(at.now);
        // What was in a transaction that is taken back waits again.
        self.relieve_pressure(at);
        for (key, _) in self.writing.take_vain_marks() {
            self.visit(key, at, |queue, _| queue.handle_marked());
        }
        while !self.is_closing {
            let (is_blocked, is_memory_short) = (self.writing.is_blocked(), self.is_memory_short());
            let Some((line, key)) = self.queues.next(is_blocked, is_memory_short, &self.limits, at) else {
                return;
            };
            let is_retry = self.visit(key, at, |queue, scene| {
                queue.start(line, scene);
                queue.is_retry()
            });
            if is_retry == Some(false) {
                self.budget.handle_request(at.now);
            }
        }
    }

    /// The queue of `destination`, which is added if it has none.
    pub(super) fn queue_of(&mut self, destination: &ServerName) -> QueueKey {
        self.queues.find_or_add(destination, &self.limits)
    }
}

// What an even pace does in this time is done at once: four thousand pushes, a millisecond and a half.
const SPREAD_AHEAD: Duration = Duration::from_millis(10);
