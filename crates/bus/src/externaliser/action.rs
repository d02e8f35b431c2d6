//! What the Externaliser wants done.

use southbridge_words::{Append, Class, Instant, Mark, Seq, ServerName, Ticket};

use super::event::Event;
use crate::outgoing::ResolvedQuery;
use crate::transaction::Transaction;

/// Pairs a [`Action::Write`] with its result. Counted from zero; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// What the Externaliser wants done. Never blocks; most are answered by a `handle_…`.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Write all of this to the outbox in one commit; answer with `handle_written`. One at a time is under way.
    Write {
        /// Comes back with the result.
        id: WriteId,
        /// What is to be accepted.
        appends: Vec<Append>,
        /// What is to be remembered.
        marks: Vec<Mark>,
    },
    /// Read on from the outbox; answer with `handle_page`. One at a time for each destination.
    Read {
        /// Whose items.
        destination: ServerName,
        /// From where, exclusively.
        after: Seq,
        /// How many at most.
        items_max: usize,
        /// How many bytes at most, but for the first.
        bytes_max: usize,
    },
    /// Ask the pool for a connection to carry a transaction. Answer with `handle_granted` when one was lent (once
    /// for each attempt), then with one `handle_answer` or `handle_failed`, which ends it.
    Send {
        /// To whom.
        destination: ServerName,
        /// How urgent it is: live traffic, or catching up.
        class: Class,
        /// Whether to be refused only by a host that has been down for minutes. Queues can wait, so they are
        /// refused at once.
        patient: bool,
        /// By when the head of the response must be here.
        deadline: Instant,
    },
    /// Send this on the connection that was lent.
    Transmit {
        /// To whom.
        destination: ServerName,
        /// What.
        transaction: Transaction,
    },
    /// There is nothing to send any more: give the connection back. It ends the [`Action::Send`]; no answer is awaited.
    GiveBack {
        /// Whose it was.
        destination: ServerName,
    },
    /// Send a query; answer with `handle_query_answer` or `handle_query_failed`.
    Ask {
        /// Whose it is.
        ticket: Ticket,
        /// To whom.
        destination: ServerName,
        /// What.
        request: ResolvedQuery,
        /// How urgent it is.
        class: Class,
        /// By when the head of the response must be here.
        deadline: Instant,
        /// Whether it may be sent again when its first sending may have reached the peer.
        repeatable: bool,
    },
    /// Stop what is under way; no answer is awaited.
    Withdraw(Errand),
    /// Tell whoever is concerned.
    Tell(Event),
}

/// What can be under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Errand {
    /// The [`Action::Send`] for this destination.
    Transaction(ServerName),
    /// The [`Action::Ask`] of this ticket.
    Query(Ticket),
}
