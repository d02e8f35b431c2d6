//! Callers that wait for an answer, and the tickets they hold.

use std::cell::{Cell, RefCell};

use rustc_hash::FxHashMap;
use southbridge_bus::externaliser::{Acknowledgement, Refused};
use southbridge_bus::outgoing::{FederationErrorResponse, FederationQueryResponse};
use southbridge_words::Ticket;
use tokio::sync::oneshot;

/// What a caller of `send_pdu` or `send_edu` is told.
pub(super) type Accepted = Result<Acknowledgement, Refused>;
/// What a caller of `query` is told.
pub(super) type Answered = Result<FederationQueryResponse, FederationErrorResponse>;

/// Everybody who waits.
#[derive(Default)]
pub(super) struct Waiting {
    tickets: Cell<u64>,
    callers: RefCell<FxHashMap<Ticket, Caller>>,
}

enum Caller {
    Sending(oneshot::Sender<Accepted>),
    Asking(oneshot::Sender<Answered>),
}

impl Waiting {
    /// A ticket that was not used before.
    pub(super) fn ticket(&self) -> Ticket {
        let number = self.tickets.get();
        self.tickets.set(number + 1);
        Ticket(number)
    }

    pub(super) fn sending(&self, ticket: Ticket) -> oneshot::Receiver<Accepted> {
        let (told, tell) = oneshot::channel();
        self.callers.borrow_mut().insert(ticket, Caller::Sending(told));
        tell
    }

    pub(super) fn asking(&self, ticket: Ticket) -> oneshot::Receiver<Answered> {
        let (told, tell) = oneshot::channel();
        self.callers.borrow_mut().insert(ticket, Caller::Asking(told));
        tell
    }

    /// Whether `ticket` was still waited for.
    pub(super) fn give_up(&self, ticket: Ticket) -> bool {
        self.callers.borrow_mut().remove(&ticket).is_some()
    }

    pub(super) fn tell_accepted(&self, ticket: Ticket, accepted: Accepted) {
        match self.callers.borrow_mut().remove(&ticket) {
            Some(Caller::Sending(told)) => {
                let _gone = told.send(accepted);
            }
            Some(Caller::Asking(told)) => {
                if let Err(why) = accepted {
                    let _gone = told.send(Err(unasked(&why)));
                }
            }
            None => {}
        }
    }

    pub(super) fn tell_answered(&self, ticket: Ticket, answered: Answered) {
        if let Some(Caller::Asking(told)) = self.callers.borrow_mut().remove(&ticket) {
            let _gone = told.send(answered);
        }
    }

    /// Tells everybody that the bus is closed.
    pub(super) fn close(&self) {
        for (_, caller) in self.callers.take() {
            match caller {
                Caller::Sending(told) => {
                    let _gone = told.send(Err(Refused::Closing));
                }
                Caller::Asking(told) => {
                    let _gone = told.send(Err(unasked(&Refused::Closing)));
                }
            }
        }
    }
}

/// Why a query was not asked, in the words of a federation error.
pub(super) fn unasked(why: &Refused) -> FederationErrorResponse {
    let errcode = match why {
        Refused::TooManyQueries { .. } | Refused::Overloaded { .. } => "M_LIMIT_EXCEEDED",
        Refused::InvalidQuery { .. } => "M_INVALID_PARAM",
        _ => "M_UNKNOWN",
    };
    FederationErrorResponse::ours(errcode, why.to_string())
}
