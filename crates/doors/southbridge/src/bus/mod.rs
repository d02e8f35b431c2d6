//! The Federation Side Bus on the I/O thread: hand it PDUs, EDUs and queries, and forget about them.
//!
//! [`SideBus`] drives the [`Externaliser`]: it carries its transactions and queries with the kernel, signs them, has its
//! decisions written by an outbox on a thread of its own, and tells callers and readers what became of everything. It
//! decides nothing itself.
//!
//! # Units
//! Sizes are bytes; a timeout of zero is for ever (F9).
//!
//! # Source
//! F2, F6, F7, F9, F10, F16, F18; DESIGN decisions 5, 7, 8.

mod answers;
mod asking;
mod attempts;
mod canonicals;
mod config;
mod counters;
mod ending;
mod events;
mod inner;
pub mod keys;
mod letter;
mod metrics;
mod opening;
mod outbox;
mod performing;
mod results;
mod timer;
mod waiting;

use std::error::Error;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use southbridge_bus::externaliser::{Counts, Externaliser, Lost, Moment, QueueView};
use southbridge_bus::outgoing::{
    FederationErrorResponse, FederationQueryResponse, OutgoingEdu, OutgoingPdu, OutgoingQuery,
};
use southbridge_kernel::admin::{AlsoWake, MoreMetrics};
use southbridge_words::{ServerName, Ticket};

pub use config::{AnswerLimits, BusConfig, ResultLimits};
pub use counters::Traffic;
use inner::Inner;
pub use keys::{Keys, KeysConfig, VerifyError};
pub use results::{Delivery, InvalidResumeToken, Results, ResumeToken};
pub use southbridge_bus::externaliser::{Acknowledgement, Refused as SendError};

/// The Federation Side Bus. Cheap to clone; all clones are one. It stays on the I/O thread.
#[derive(Clone)]
pub struct SideBus {
    inner: Rc<Inner>,
    _hold: Rc<Hold>,
}

/// What all clones hold together. When nobody holds the bus any more, it ends as by a crash: at once, and nothing
/// that was accepted is lost. [`SideBus::close`] is the polite way.
struct Hold(Rc<Inner>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl SideBus {
    /// Hands in one PDU for all its destinations. Once this is answered with
    /// [`Acknowledgement::Durable`], it survives a power cut. A caller that may hand it in again after a crash gives
    /// it a `key`: the second time it is known (faults row 24). Dropping the future before takes it back, if it
    /// is not written yet.
    ///
    /// # Errors
    /// [`SendError`]; nothing of it is kept.
    pub async fn send_pdu(
        &self,
        pdu: OutgoingPdu,
        destinations: Arc<[ServerName]>,
        key: Option<Arc<str>>,
    ) -> Result<Acknowledgement, SendError> {
        self.accept(|machine, ticket, at| machine.send_pdu(ticket, pdu, destinations, key, at)).await
    }

    /// Hands in one EDU for all its destinations: typing, presence and receipts are acknowledged as
    /// [`Acknowledgement::Volatile`], everything else is as durable as a PDU.
    ///
    /// # Errors
    /// As [`SideBus::send_pdu`].
    pub async fn send_edu(
        &self,
        edu: OutgoingEdu,
        destinations: Arc<[ServerName]>,
        key: Option<Arc<str>>,
    ) -> Result<Acknowledgement, SendError> {
        self.accept(|machine, ticket, at| machine.send_edu(ticket, edu, destinations, key, at)).await
    }

    /// Asks `destination`; transient errors are retried until `timeout` has passed (zero: for ever), where
    /// asking twice does no harm. Dropping the future withdraws the query (K15).
    ///
    /// # Errors
    /// What the destination said, or, without a [`response`](FederationErrorResponse::response), why it
    /// was not asked or has not answered.
    pub async fn query(
        &self,
        query: OutgoingQuery,
        destination: ServerName,
        timeout: Duration,
    ) -> Result<FederationQueryResponse, FederationErrorResponse> {
        let ticket = self.open_ticket().map_err(|why| waiting::unasked(&why))?;
        let tell = self.inner.waiting.asking(ticket);
        let _place = Place { bus: self, ticket };
        let asked = self.inner.tell(|machine, at| machine.query(ticket, &query, destination, timeout, at));
        asked.map_err(|why| waiting::unasked(&why))?;
        tell.await.unwrap_or_else(|_| Err(waiting::unasked(&SendError::Closing)))
    }

    /// Something was heard from `destination`, or an operator says that it is back: its back-off ends, in the
    /// kernel as in its queue.
    pub fn wake(&self, destination: &ServerName) {
        self.inner.wake(destination);
    }

    /// Has what is queued for `destination` tried now, as [`wake`](Self::wake) does, and ends when an attempt has come to
    /// nothing. One that comes to something does not end it.
    pub async fn until_in_vain(&self, destination: &ServerName) {
        let place = self.inner.attempts.watch(destination);
        let in_vain = place.news.notified();
        self.inner.wake(destination);
        in_vain.await;
    }

    /// The keys of other homeservers, and checking what they signed.
    pub fn keys(&self) -> &Keys {
        &self.inner.keys
    }

    /// For the admin socket: an operator who wakes a host wakes its queue as well.
    pub fn also_wake(&self) -> AlsoWake {
        let weak = Rc::downgrade(&self.inner);
        Rc::new(move |service| {
            let (Some(inner), Ok(name)) = (weak.upgrade(), ServerName::of_service(service)) else {
                return false;
            };
            let is_known = inner.externaliser.borrow().view(&name).is_some();
            inner.wake(&name);
            is_known
        })
    }

    /// How the queue for `destination` stands; none when there is none.
    pub fn queue(&self, destination: &ServerName) -> Option<QueueView> {
        self.inner.externaliser.borrow().view(destination)
    }

    /// At most `max` queues, sorted by the names of their destinations, from the one after `after` on.
    pub fn queues(&self, after: Option<&ServerName>, max: usize) -> Vec<(ServerName, QueueView)> {
        let machine = self.inner.externaliser.borrow();
        let mut found = Vec::new();
        for (name, view) in machine.queues().filter(|(name, _)| after.is_none_or(|after| *name > after)) {
            found.push((name.clone(), view));
            // Sorted now and then, so that a page of a hundred thousand costs no more than a few pages.
            if found.len() >= 2 * max.max(SORTED_MIN) {
                first_by_name(&mut found, max);
            }
        }
        first_by_name(&mut found, max);
        found
    }

    /// Gives up all that is queued for `destination`, and says what is lost by that. Volatile EDUs that wait to be given
    /// to queues, for want of time, are not in it yet, and reach it afterwards.
    ///
    /// # Errors
    /// [`SendError::Closing`].
    #[expect(clippy::unused_async, reason = "a store that is far away will have to be waited for")]
    pub async fn drop_backlog(&self, destination: &ServerName) -> Result<Lost, SendError> {
        if self.inner.closing.get() {
            return Err(SendError::Closing);
        }
        Ok(self.inner.tell(|machine, at| machine.drop_backlog(destination, at)))
    }

    /// How much there is of everything. Looks at each queue.
    pub fn counts(&self) -> Counts {
        self.inner.externaliser.borrow().counts()
    }

    /// The transactions that were on their way since this was asked last.
    pub fn take_traffic(&self) -> Traffic {
        self.inner.counters.traffic.take()
    }

    /// What becomes of everything: what comes after `from`, or from now on.
    pub fn results(&self, from: Option<ResumeToken>) -> Results {
        self.inner.ring.read(from)
    }

    /// Lets go of the results up to `token`, for a bus whose results have one reader: who comes later and asks for them is
    /// told that there is a gap.
    pub fn forget_results(&self, token: ResumeToken) {
        self.inner.ring.forget(token);
    }

    /// What the bus counts, for the metrics page.
    pub fn metrics(&self) -> MoreMetrics {
        let weak = Rc::downgrade(&self.inner);
        Rc::new(move |out| {
            if let Some(inner) = weak.upgrade() {
                inner.expose(out);
            }
        })
    }

    /// Hands something in, and waits for its acknowledgement.
    async fn accept(
        &self,
        hand_in: impl FnOnce(&mut Externaliser, Ticket, Moment) -> Result<(), SendError>,
    ) -> Result<Acknowledgement, SendError> {
        let ticket = self.open_ticket()?;
        let tell = self.inner.waiting.sending(ticket);
        let _place = Place { bus: self, ticket };
        self.inner.tell(|machine, at| hand_in(machine, ticket, at))?;
        tell.await.unwrap_or(Err(SendError::Closing))
    }

    fn open_ticket(&self) -> Result<Ticket, SendError> {
        if self.inner.closing.get() { Err(SendError::Closing) } else { Ok(self.inner.waiting.ticket()) }
    }
}

/// A caller's place; leaving it early takes back what was handed in.
struct Place<'a> {
    bus: &'a SideBus,
    ticket: Ticket,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let inner = &self.bus.inner;
        if inner.waiting.give_up(self.ticket) {
            inner.externaliser.borrow_mut().cancel(self.ticket, inner.moment());
            // Whoever drops this may be ending together with everything else: the timer does what follows.
            inner.timing.wake();
        }
    }
}

fn first_by_name(queues: &mut Vec<(ServerName, QueueView)>, max: usize) {
    queues.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    queues.truncate(max);
}

const SORTED_MIN: usize = 128;

/// The sentence of an error and those of its causes, within a bound: peers have a say in some of them.
fn words(error: &dyn Error) -> String {
    crate::synapse_door::verdict::with_causes(error)
}
