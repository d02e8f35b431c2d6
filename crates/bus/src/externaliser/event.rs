//! What the Externaliser tells: what was accepted, what became of it, what an operator should know.

use std::sync::Arc;
use std::time::Duration;

use southbridge_words::{OutboxError, Seq, ServerName, Ticket};

use super::refused::Refused;
use crate::edus::{Along, Shed};
use crate::outgoing::{FederationErrorResponse, FederationQueryResponse, FederationTransactionResponse};

/// Something to tell. Every ticket handed in is answered by exactly one `Accepted`, `Refused` or `QueryDone`,
/// unless it was refused at once or cancelled.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// It will be sent.
    Accepted {
        /// Which.
        ticket: Ticket,
        /// What is promised of it.
        acknowledgement: Acknowledgement,
    },
    /// It was not accepted after all; nothing of it is kept.
    Refused {
        /// Which.
        ticket: Ticket,
        /// Why.
        why: Refused,
    },
    /// A destination has a transaction. What its answer says about single PDUs is final.
    Delivered {
        /// Who.
        destination: ServerName,
        /// The id of the transaction.
        transaction: Arc<str>,
        /// Every durable item for it up to here was delivered; none when nothing in it was durable.
        upto: Option<Seq>,
        /// How many durable items were in it.
        items: u32,
        /// The volatile EDUs that were in it. None is known of those of a transaction that another process began.
        along: Along,
        /// What the destination said of them.
        response: FederationTransactionResponse,
    },
    /// An attempt came to nothing, and what is queued waits.
    Held {
        /// For whom.
        destination: ServerName,
        /// Why.
        why: Hold,
        /// For how long, unless something is heard from the host.
        wait: Duration,
        /// Attempts without success in a row.
        failures: u32,
    },
    /// A query has ended.
    QueryDone {
        /// Which.
        ticket: Ticket,
        /// Its answer.
        result: Result<FederationQueryResponse, FederationErrorResponse>,
    },
    /// Accepted items will not be delivered. Never silently.
    GivenUp {
        /// Who will not get them.
        destination: ServerName,
        /// Everything up to here is given up.
        upto: Seq,
        /// How many they are, as far as that is known.
        items: u64,
        /// Why.
        reason: GivenUp,
    },
    /// Expendable EDUs were dropped.
    Shed {
        /// Whose.
        destination: ServerName,
        /// How many of each type.
        shed: Shed,
        /// Why.
        why: ShedReason,
    },
    /// A transaction that may have reached its destination could not be rendered again as it was; its items go
    /// out under a new id (receivers know PDUs by their event ids).
    Diverged {
        /// Whose.
        destination: ServerName,
        /// The id that is given up.
        transaction: Arc<str>,
    },
    /// The outbox is in trouble: for an operator.
    OutboxTrouble {
        /// What it said.
        error: OutboxError,
        /// Whose items are concerned; none when it is everybody's.
        destination: Option<ServerName>,
    },
    /// The outbox works again.
    OutboxRecovered,
}

/// What is promised of what was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledgement {
    /// It stands here in the outbox and survives a power cut.
    Durable(Seq),
    /// It is in memory, may be superseded or shed, and does not survive the process.
    Volatile,
}

/// Why a queue waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Hold {
    /// The host is held to be down.
    Down,
    /// It could not be reached, or has not answered.
    Unreachable,
    /// There was no room on our side.
    Overloaded,
    /// It answered 429.
    RateLimited,
    /// It answered 5xx, a redirect, or what is no answer to a transaction: it may or may not have it.
    Failing(u16),
    /// It answered 413 or 520: transactions become smaller.
    TooLarge(u16),
    /// It answered 400 or the like: something in the transaction is not to its liking.
    Rejected(u16),
    /// The transaction cannot be made into a request (it cannot be signed, say).
    Unfit,
    /// It answered 401, 403, 404 or the like: it lives, and does not want us now.
    Unwelcome(u16),
    /// It answered 410: it is gone for a long time.
    Gone,
    /// The outbox could not remember that a transaction was begun, or not read it back.
    Outbox,
    /// The share of retries in all traffic is used up.
    Budget,
    /// It is one of many to be contacted for the first time after a start.
    Start,
}

/// Why accepted items are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GivenUp {
    /// The destination has refused a transaction of this one item again and again, with this status.
    Rejected(u16),
    /// A transaction of this one item could not be made into a request again and again.
    Unfit,
    /// A retention limit was met.
    Retention,
    /// An operator ordered it.
    Ordered,
}

/// Why expendable EDUs were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ShedReason {
    /// More were held than may be, for this destination or in all.
    Pressure,
    /// The destination has not been reached for so long that they are worth nothing any more.
    Unreachable,
    /// A transaction that held them was given up.
    Abandoned,
}

/// What was lost when a backlog was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Durable items, as many as are known of.
    pub items: u64,
    /// Whether there may be more of them in the outbox than were counted.
    pub at_least: bool,
    /// Everything up to here is given up; none if there was nothing durable.
    pub upto: Option<Seq>,
    /// Volatile EDUs.
    pub volatile: u64,
}
