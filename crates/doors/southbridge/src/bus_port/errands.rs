//! What a homeserver has done on the I/O thread.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{FutureExt, LocalBoxFuture, try_join_all};
use southbridge_bus::outgoing::{OutgoingEdu, OutgoingPdu};
use southbridge_bus::owed::Owed;
use southbridge_kernel::discovery::Discover;
use southbridge_kernel::http::explain;
use southbridge_kernel::port::{Errand, Line, Started};
use southbridge_store_borrowed::BorrowedOutbox;
use southbridge_words::{Seq, ServerName, Step};
use tracing::warn;

use super::post::{Carried, Post};
use super::{BusId, PreparedBus};
use crate::Southbridge;
use crate::bus::{Acknowledgement, SendError, SideBus};
use crate::client::{Answer, ClientError};
use crate::federation::FederationDiscovery;

/// Opens a bus.
pub(super) struct Open {
    pub(super) bus: PreparedBus,
}

impl Errand<Southbridge> for Open {
    fn start(self: Box<Self>, desk: &Rc<Southbridge>, line: Line<Southbridge>) -> Started {
        let desk = Rc::clone(desk);
        line.carry(move |reply| async move { reply.give(self.on(&desk).await) })
    }
}

impl Open {
    async fn on(self, desk: &Southbridge) -> Result<Answer, ClientError> {
        let PreparedBus { id, signer, bus, federation, owed } = self.bus;
        let kernel = desk.kernel();
        let matrix: Rc<dyn Discover> = Rc::new(FederationDiscovery::new(kernel.clone(), federation));
        // What is taken out at last has been counted in what is owed all along.
        let outbox = BorrowedOutbox::new(owed.bytes_max.saturating_mul(2));
        let opened = SideBus::open_on(kernel, Rc::clone(&matrix), Box::new(outbox), signer, bus).await;
        let bus = opened.map_err(|error| failed(explain(&error)))?;
        desk.buses().insert(id, Post::new(bus, matrix, Owed::new(owed), kernel.clock()));
        Ok(Answer::Done)
    }
}

/// Hands in a live event.
pub(super) struct SendPdu {
    pub(super) bus: BusId,
    pub(super) pdu: OutgoingPdu,
    pub(super) destinations: Vec<ServerName>,
    pub(super) position: u64,
}

impl Errand<Southbridge> for SendPdu {
    fn start(self: Box<Self>, desk: &Rc<Southbridge>, line: Line<Southbridge>) -> Started {
        let Self { bus, pdu, destinations, position } = *self;
        let post = desk.buses().get(bus);
        // Counted now: whoever asks for progress after this at the same port hears of it.
        let handed = post.as_ref().map(|post| {
            let (bytes, now) = (pdu.bytes().len(), post.clock.now());
            post.owed.borrow_mut().hand_in(position, bytes, destinations, now)
        });
        line.carry(move |reply| async move {
            let (Some(post), Some((handed, destinations))) = (post, handed) else {
                return reply.give(Err(no_bus()));
            };
            if destinations.is_empty() {
                return reply.give(Ok(Answer::Done));
            }
            let destinations: Arc<[ServerName]> = destinations.into();
            match post.bus.send_pdu(pdu, Arc::clone(&destinations), None).await {
                Ok(Acknowledgement::Durable(seq)) => handed.accepted(seq),
                Ok(Acknowledgement::Volatile) => {}
                Err(error) => {
                    warn!(%error, destinations = destinations.len(), "an event is given back to the homeserver");
                    for destination in &*destinations {
                        post.give_back(destination).await;
                    }
                }
            }
            reply.give(Ok(Answer::Done));
        })
    }
}

/// Hands in an EDU that may be lost.
pub(super) struct SendEdu {
    pub(super) bus: BusId,
    pub(super) edu: OutgoingEdu,
    pub(super) destinations: Arc<[ServerName]>,
}

impl Errand<Southbridge> for SendEdu {
    fn start(self: Box<Self>, desk: &Rc<Southbridge>, line: Line<Southbridge>) -> Started {
        let post = desk.buses().get(self.bus);
        line.carry(move |reply| async move {
            let Some(post) = post else { return reply.give(Err(no_bus())) };
            let sent = post.bus.send_edu(self.edu, self.destinations, None).await;
            reply.give(sent.map(|_| Answer::Done).map_err(|error| refused(&error)));
        })
    }
}

/// Carries what is waited for.
pub(super) struct Carry {
    pub(super) bus: BusId,
    pub(super) destination: ServerName,
    pub(super) pdus: Vec<OutgoingPdu>,
    pub(super) edus: Vec<OutgoingEdu>,
    pub(super) timeout: Duration,
}

impl Errand<Southbridge> for Carry {
    fn start(self: Box<Self>, desk: &Rc<Southbridge>, line: Line<Southbridge>) -> Started {
        let post = desk.buses().get(self.bus);
        line.carry(move |reply| async move {
            reply.give(match post {
                Some(post) => self.with(&post).await,
                None => Err(no_bus()),
            });
        })
    }
}

impl Carry {
    async fn with(self, post: &Rc<Post>) -> Result<Answer, ClientError> {
        let Self { destination, pdus, edus, timeout, .. } = self;
        let carried = post.carrying(&destination);
        let place = Place { post, destination, carried: Rc::clone(&carried) };
        let only: Arc<[ServerName]> = [place.destination.clone()].into();
        let carrying = async {
            let last = hand_in(post, pdus, edus, &only).await.map_err(|error| refused(&error))?;
            let Some(last) = last else { return Ok(Some(Vec::new())) };
            carried.accepted(last);
            Ok::<_, ClientError>(carried.ended().await)
        };
        let ended = post.tried(&place.destination, carrying, timeout).await;
        let said = ended.unwrap_or(Ok(None))?;
        said.map(Answer::Carried).ok_or_else(|| untaken(&place.destination))
    }
}

/// Hands everything in, in order; where the last of it stands that must not be lost.
async fn hand_in(
    post: &Post,
    pdus: Vec<OutgoingPdu>,
    edus: Vec<OutgoingEdu>,
    only: &Arc<[ServerName]>,
) -> Result<Option<Seq>, SendError> {
    let bus: &SideBus = &post.bus;
    let sending: Vec<LocalBoxFuture<'_, _>> = pdus
        .into_iter()
        .map(|pdu| bus.send_pdu(pdu, Arc::clone(only), None).boxed_local())
        .chain(edus.into_iter().map(|edu| bus.send_edu(edu, Arc::clone(only), None).boxed_local()))
        .collect();
    let acknowledged = try_join_all(sending).await?;
    Ok(acknowledged
        .into_iter()
        .filter_map(|one| match one {
            Acknowledgement::Durable(seq) => Some(seq),
            Acknowledgement::Volatile => None,
        })
        .max())
}

/// A place among those who wait; left when the errand ends, whatever ends it.
struct Place<'a> {
    post: &'a Post,
    destination: ServerName,
    carried: Rc<Carried>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.post.carried(&self.destination, &self.carried);
    }
}

/// Asks how far it has come.
pub(super) struct Progress {
    pub(super) bus: BusId,
    pub(super) floor: u64,
}

impl Errand<Southbridge> for Progress {
    fn start(self: Box<Self>, desk: &Rc<Southbridge>, line: Line<Southbridge>) -> Started {
        // Now, and not when the task has its turn: what is handed in after it is above the floor.
        let progress = desk.buses().get(self.bus).map(|post| post.progress(self.floor));
        line.carry(move |reply| async move {
            reply.give(progress.map(|it| Answer::Progress(Box::new(it))).ok_or_else(no_bus));
        })
    }
}

/// Ends back-offs.
pub(super) struct Wake {
    pub(super) bus: BusId,
    pub(super) destination: ServerName,
}

impl Errand<Southbridge> for Wake {
    fn start(self: Box<Self>, desk: &Rc<Southbridge>, line: Line<Southbridge>) -> Started {
        let post = desk.buses().get(self.bus);
        line.carry(move |reply| async move {
            let woken = post.map(|post| post.bus.wake(&self.destination));
            reply.give(woken.map(|()| Answer::Done).ok_or_else(no_bus));
        })
    }
}

/// Ends the back-off of a destination for which something waits.
pub(super) struct Heard {
    pub(super) bus: BusId,
    pub(super) destination: ServerName,
}

impl Errand<Southbridge> for Heard {
    fn start(self: Box<Self>, desk: &Rc<Southbridge>, line: Line<Southbridge>) -> Started {
        let post = desk.buses().get(self.bus);
        line.carry(move |reply| async move {
            let heard = post.map(|post| post.heard(&self.destination));
            reply.give(heard.map(|()| Answer::Done).ok_or_else(no_bus));
        })
    }
}

/// Gives a destination back.
pub(super) struct GiveBack {
    pub(super) bus: BusId,
    pub(super) destination: ServerName,
}

impl Errand<Southbridge> for GiveBack {
    fn start(self: Box<Self>, desk: &Rc<Southbridge>, line: Line<Southbridge>) -> Started {
        let post = desk.buses().get(self.bus);
        line.carry(move |reply| async move {
            let Some(post) = post else { return reply.give(Err(no_bus())) };
            post.give_back(&self.destination).await;
            reply.give(Ok(Answer::Done));
        })
    }
}

/// Closes a bus.
pub(super) struct Close {
    pub(super) bus: BusId,
    pub(super) floor: u64,
}

impl Errand<Southbridge> for Close {
    fn start(self: Box<Self>, desk: &Rc<Southbridge>, line: Line<Southbridge>) -> Started {
        let post = desk.buses().remove(self.bus);
        line.carry(move |reply| async move {
            let Some(post) = post else { return reply.give(Err(no_bus())) };
            post.bus.clone().close().await;
            post.all_heard().await;
            reply.give(Ok(Answer::Progress(Box::new(post.progress(self.floor)))));
        })
    }
}

pub(super) fn no_bus() -> ClientError {
    failed("this bus was not opened, or has been closed".to_owned())
}

fn failed(reason: String) -> ClientError {
    ClientError::Failed { step: Step::Admission, is_repeatable: true, reason }
}

fn refused(error: &SendError) -> ClientError {
    failed(error.to_string())
}

fn untaken(destination: &ServerName) -> ClientError {
    let reason = format!("{destination} has not taken it in time, and is given back");
    ClientError::Failed { step: Step::Response, is_repeatable: true, reason }
}
