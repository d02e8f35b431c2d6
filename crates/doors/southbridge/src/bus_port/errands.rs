//! What a homeserver has done on the I/O thread: at a port of this process, or at a door of the daemon.

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{FutureExt, LocalBoxFuture, try_join_all};
use southbridge_bus::outgoing::{OutgoingEdu, OutgoingPdu};
use southbridge_bus::owed::{Owed, OwedLimits};
use southbridge_bus::signing::Signer;
use southbridge_kernel::Kernel;
use southbridge_kernel::discovery::Discover;
use southbridge_kernel::http::explain;
use southbridge_kernel::port::{Errand, Line, Started};
use southbridge_store_borrowed::BorrowedOutbox;
use southbridge_words::{Seq, ServerName, Step};
use tracing::warn;

use super::post::{Carried, Post};
use super::{BusId, PreparedBus};
use crate::Southbridge;
use crate::bus::{Acknowledgement, BusConfig, SendError, SideBus};
use crate::client::{Answer, ClientError};
use crate::federation::FederationDiscovery;

/// Something that is done with one bus.
pub(crate) trait Deed: Send + 'static {
    /// Begins it. Called in the order in which things were handed in: what counts from then on is counted in the call, and
    /// all else is done by what it gives.
    fn begin(self, post: Rc<Post>) -> impl Future<Output = Result<Answer, ClientError>> + 'static;
}

/// A deed, and with which bus it is done.
pub(super) struct At<D> {
    pub(super) bus: BusId,
    pub(super) deed: D,
}

impl<D: Deed> Errand<Southbridge> for At<D> {
    fn start(self: Box<Self>, desk: &Rc<Southbridge>, line: Line<Southbridge>) -> Started {
        let Self { bus, deed } = *self;
        carry_out(desk.buses().get(bus).map(|post| deed.begin(post)), line)
    }
}

fn carry_out(
    begun: Option<impl Future<Output = Result<Answer, ClientError>> + 'static>,
    line: Line<Southbridge>,
) -> Started {
    line.carry(move |reply| async move {
        reply.give(match begun {
            Some(begun) => begun.await,
            None => Err(no_bus()),
        });
    })
}

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
        desk.buses().insert(id, open_post(kernel, matrix, signer, bus, owed).await?);
        Ok(Answer::Done)
    }
}

/// Opens a bus whose outbox is borrowed.
pub(crate) async fn open_post(
    kernel: &Kernel,
    matrix: Rc<dyn Discover>,
    signer: Signer,
    bus: BusConfig,
    owed: OwedLimits,
) -> Result<Rc<Post>, ClientError> {
    // What is taken out at last has been counted in what is owed all along.
    let outbox = BorrowedOutbox::new(owed.bytes_max.saturating_mul(2));
    let opened = SideBus::open_on(kernel, Rc::clone(&matrix), Box::new(outbox), signer, bus).await;
    let bus = opened.map_err(|error| failed(explain(&error)))?;
    Ok(Post::new(bus, matrix, Owed::new(owed), kernel.clock()))
}

/// Hands in a live event.
pub(crate) struct SendPdu {
    pub(crate) pdu: OutgoingPdu,
    pub(crate) destinations: Vec<ServerName>,
    pub(crate) position: u64,
}

impl Deed for SendPdu {
    fn begin(self, post: Rc<Post>) -> impl Future<Output = Result<Answer, ClientError>> + 'static {
        let Self { pdu, destinations, position } = self;
        // Counted now: whoever asks for progress after this at the same port hears of it.
        let (bytes, now) = (pdu.bytes().len(), post.clock.now());
        let (handed, destinations) = post.owed.borrow_mut().hand_in(position, bytes, destinations, now);
        async move {
            if destinations.is_empty() {
                return Ok(Answer::Done);
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
            Ok(Answer::Done)
        }
    }
}

/// Hands in an EDU that may be lost.
pub(crate) struct SendEdu {
    pub(crate) edu: OutgoingEdu,
    pub(crate) destinations: Arc<[ServerName]>,
}

impl Deed for SendEdu {
    async fn begin(self, post: Rc<Post>) -> Result<Answer, ClientError> {
        let sent = post.bus.send_edu(self.edu, self.destinations, None).await;
        sent.map(|_| Answer::Done).map_err(|error| refused(&error))
    }
}

/// Carries what is waited for.
pub(crate) struct Carry {
    pub(crate) destination: ServerName,
    pub(crate) pdus: Vec<OutgoingPdu>,
    pub(crate) edus: Vec<OutgoingEdu>,
    pub(crate) timeout: Duration,
}

impl Deed for Carry {
    async fn begin(self, post: Rc<Post>) -> Result<Answer, ClientError> {
        self.with(&post).await
    }
}

impl Carry {
    async fn with(self, post: &Rc<Post>) -> Result<Answer, ClientError> {
        let Self { destination, pdus, edus, timeout } = self;
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
pub(crate) struct Progress {
    pub(crate) floor: u64,
}

impl Deed for Progress {
    fn begin(self, post: Rc<Post>) -> impl Future<Output = Result<Answer, ClientError>> + 'static {
        // Now, and not when the task has its turn: what is handed in after it is above the floor.
        let progress = post.progress(self.floor);
        async move { Ok(Answer::Progress(Box::new(progress))) }
    }
}

/// Ends back-offs.
pub(crate) struct Wake {
    pub(crate) destination: ServerName,
}

impl Deed for Wake {
    async fn begin(self, post: Rc<Post>) -> Result<Answer, ClientError> {
        post.bus.wake(&self.destination);
        Ok(Answer::Done)
    }
}

/// Ends the back-off of a destination for which something waits.
pub(crate) struct Heard {
    pub(crate) destination: ServerName,
}

impl Deed for Heard {
    async fn begin(self, post: Rc<Post>) -> Result<Answer, ClientError> {
        post.heard(&self.destination);
        Ok(Answer::Done)
    }
}

/// Gives a destination back.
pub(crate) struct GiveBack {
    pub(crate) destination: ServerName,
}

impl Deed for GiveBack {
    async fn begin(self, post: Rc<Post>) -> Result<Answer, ClientError> {
        post.give_back(&self.destination).await;
        Ok(Answer::Done)
    }
}

/// Closes a bus; nobody else uses it any more.
pub(crate) struct Close {
    pub(crate) floor: u64,
}

impl Deed for Close {
    async fn begin(self, post: Rc<Post>) -> Result<Answer, ClientError> {
        post.bus.clone().close().await;
        post.all_heard().await;
        Ok(Answer::Progress(Box::new(post.progress(self.floor))))
    }
}

impl Errand<Southbridge> for Closing {
    fn start(self: Box<Self>, desk: &Rc<Southbridge>, line: Line<Southbridge>) -> Started {
        let Self { bus, floor } = *self;
        carry_out(desk.buses().remove(bus).map(|post| Close { floor }.begin(post)), line)
    }
}

/// Closes one of the buses of a process.
pub(super) struct Closing {
    pub(super) bus: BusId,
    pub(super) floor: u64,
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
