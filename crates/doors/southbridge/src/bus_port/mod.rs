//! The Federation Side Bus at a port, for a homeserver that runs in the same process and keeps the truth itself.
//!
//! One submission hands over one event and all its destinations. Nothing is written to a disk: the homeserver asks now and
//! then how far each destination has come ([`progress`]), writes that down in its own database, and is given back whoever
//! takes nothing for too long. Whatever goes to a destination goes through its one queue, in the order in which it was
//! handed in at the port: live events ([`send_pdu`]), and what the homeserver takes from its database and waits for
//! ([`carry`]). What the homeserver asks others itself goes by the same resolver, rules and connections ([`ask`]).
//!
//! # Units
//! Positions are the homeserver's (Synapse: stream orderings); see [`southbridge_bus::owed`].
//!
//! # Source
//! F2, F6, F7, F15, F21 (b); K3; decision 0016.

mod asking;
mod errands;
mod post;
mod setup;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use southbridge_bus::outgoing::{OutgoingEdu, OutgoingPdu};
use southbridge_words::{ServerName, Ticket, WallTime};

use crate::bus::Traffic;
use crate::client::{ClientError, Port};
pub use asking::{PeerRequest, ask, ask_as_wished};
use errands::{At, Closing, Open};
pub(crate) use errands::{Carry, Close, Deed, GiveBack, Heard, Progress, SendEdu, SendPdu, Wake, open_post};
pub(crate) use post::{Buses, Post};
pub(crate) use setup::bus_config;
pub use setup::{BusSetup, PreparedBus, addresses};
pub use southbridge_bus::edus::Along;
pub use southbridge_bus::owed::{OwedLimits, Told};

/// Which bus of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BusId(pub u64);

/// How far a bus has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BusProgress {
    /// What there is to be written down, each destination once.
    pub told: Vec<Told>,
    /// What destinations said against single PDUs of live events; the latest of them, if there are many.
    pub refused: Vec<RefusedPdu>,
    /// Transactions that were delivered since this was asked last; of those with which something that was carried ended,
    /// whoever waited for it knows.
    pub transactions: u64,
    /// Volatile EDUs that went along with all transactions since this was asked last.
    pub edus: Along,
    /// Requests with transactions since this was asked last, and their answers.
    pub traffic: Traffic,
    /// Items of live events that wait to be delivered, counted for each destination.
    pub waiting: usize,
    /// Parts of volatile EDUs that wait, counted for each destination.
    pub edus_waiting: usize,
    /// Destinations for which something waits or is under way, carried or live.
    pub destinations: usize,
}

/// What a destination said against a PDU. It is final, and the destination has everything else of that transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedPdu {
    /// Who.
    pub destination: ServerName,
    /// Which.
    pub event_id: String,
    /// Why.
    pub error: String,
}

/// Opens a bus; the answer is `Answer::Done`. What is handed in at the same port after it goes there.
///
/// # Errors
/// [`ClientError::Overloaded`] when the port is full.
pub fn open(port: &Port, bus: PreparedBus) -> Result<(BusId, Ticket), ClientError> {
    let id = bus.id();
    Ok((id, port.submit(Open { bus })?))
}

/// Hands in a PDU at `position` for `destinations`, each of them once. The answer, `Answer::Done`, says that it is queued
/// and no more. One that is not accepted is given back for each of its destinations.
///
/// # Errors
/// [`ClientError::Overloaded`] when the port is full, [`ClientError::InvalidRequest`] when it is no PDU that anybody takes:
/// nothing of it was handed in.
pub fn send_pdu(
    port: &Port,
    bus: BusId,
    pdu: PduParts,
    destinations: Vec<ServerName>,
    position: u64,
) -> Result<Ticket, ClientError> {
    let pdu = pdu.outgoing()?;
    Ok(port.submit(At { bus, deed: SendPdu { pdu, destinations, position } })?)
}

/// Hands in an EDU that may be lost (typing, presence, receipts) for `destinations`, each of them once.
///
/// # Errors
/// [`ClientError::Overloaded`] when the port is full, [`ClientError::InvalidRequest`] when `content` is no JSON object, or it
/// is of another type.
pub fn send_edu(
    port: &Port,
    bus: BusId,
    edu: EduParts,
    destinations: Arc<[ServerName]>,
) -> Result<Ticket, ClientError> {
    let edu = edu.volatile()?;
    Ok(port.submit(At { bus, deed: SendEdu { edu, destinations } })?)
}

/// Carries `pdus` and `edus` to `destination`, after whatever waits for it; the answer, `Answer::Carried`, comes when all of
/// it was delivered. It is tried again for as long as `timeout`, and once more then; if nothing comes of that either, the
/// destination is given back, with all that waits for it.
///
/// # Errors
/// As [`send_edu`].
pub fn carry(
    port: &Port,
    bus: BusId,
    destination: ServerName,
    pdus: Vec<PduParts>,
    edus: Vec<EduParts>,
    timeout: Duration,
) -> Result<Ticket, ClientError> {
    let pdus = pdus.into_iter().map(PduParts::outgoing).collect::<Result<_, _>>()?;
    let edus = edus.into_iter().map(EduParts::outgoing).collect::<Result<_, _>>()?;
    Ok(port.submit(At { bus, deed: Carry { destination, pdus, edus, timeout } })?)
}

/// Asks how far it has come, now that everything up to `floor` was handed in; the answer is `Answer::Progress`.
///
/// # Errors
/// [`ClientError::Overloaded`] when the port is full.
pub fn progress(port: &Port, bus: BusId, floor: u64) -> Result<Ticket, ClientError> {
    Ok(port.submit(At { bus, deed: Progress { floor } })?)
}

/// `destination` is back: what waits for it is tried at once, and whatever is handed in next.
///
/// # Errors
/// As [`progress`].
pub fn wake(port: &Port, bus: BusId, destination: ServerName) -> Result<Ticket, ClientError> {
    Ok(port.submit(At { bus, deed: Wake { destination } })?)
}

/// `destination` has said something: if something waits for it because it could not be reached, that is tried at once. This
/// costs little, and may be told of whoever says anything.
///
/// # Errors
/// As [`progress`].
pub fn heard(port: &Port, bus: BusId, destination: ServerName) -> Result<Ticket, ClientError> {
    Ok(port.submit(At { bus, deed: Heard { destination } })?)
}

/// Gives `destination` back at once.
///
/// # Errors
/// As [`progress`].
pub fn give_back(port: &Port, bus: BusId, destination: ServerName) -> Result<Ticket, ClientError> {
    Ok(port.submit(At { bus, deed: GiveBack { destination } })?)
}

/// Closes the bus: what is under way may end for a while; the answer is the last `Answer::Progress`.
///
/// # Errors
/// As [`progress`].
pub fn close(port: &Port, bus: BusId, floor: u64) -> Result<Ticket, ClientError> {
    Ok(port.submit(Closing { bus, floor })?)
}

/// A PDU, as a program says it.
#[derive(Clone, Debug)]
pub struct PduParts {
    /// The very bytes that are sent.
    pub bytes: Bytes,
    /// Its event id, by which destinations speak of it.
    pub event_id: Arc<str>,
}

impl PduParts {
    pub(crate) fn outgoing(self) -> Result<OutgoingPdu, ClientError> {
        let pdu = OutgoingPdu::new(self.bytes).map(|pdu| pdu.with_event_id(self.event_id));
        pdu.map_err(|error| ClientError::InvalidRequest { reason: error.to_string() })
    }
}

/// An EDU, as a program says it.
#[derive(Clone, Debug)]
pub struct EduParts {
    /// Its type.
    pub edu_type: Arc<str>,
    /// Its content, as a JSON object.
    pub content: Bytes,
    /// When it was made.
    pub created_at: WallTime,
}

impl EduParts {
    pub(crate) fn outgoing(self) -> Result<OutgoingEdu, ClientError> {
        OutgoingEdu::new(self.edu_type, self.content, self.created_at)
            .map_err(|error| ClientError::InvalidRequest { reason: error.to_string() })
    }

    /// The same, of one that may be lost.
    pub(crate) fn volatile(self) -> Result<OutgoingEdu, ClientError> {
        let edu = self.outgoing()?;
        if edu.kind().is_durable() {
            let reason = format!("{} must not be lost: it is carried, and waited for", edu.edu_type());
            return Err(ClientError::InvalidRequest { reason });
        }
        Ok(edu)
    }
}
