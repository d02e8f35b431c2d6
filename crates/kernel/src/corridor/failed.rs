//! Why one attempt failed, and whether another may follow.
//!
//! # Source
//! K16; RFC 9110 §9.2.2 (idempotent methods), RFC 9113 §8.7 (requests the peer has not looked at).

use std::time::Duration;

use southbridge_words::Step;

use crate::discovery::DiscoveryError;
use crate::exchange::{Call, ExchangeError, Repeat};
use crate::http::{SendFailure, Sent, Violation};
use crate::pool::LendError;

/// Why one attempt failed.
pub(crate) enum Failed {
    Discovery(DiscoveryError),
    Lend(LendError),
    /// The connection was gone before anything was written.
    Stale,
    Request(String),
    Violation(Violation),
    Send {
        failure: SendFailure,
        /// Nothing came back, on a connection that had served before.
        silent: bool,
    },
}

impl Failed {
    /// Whether another attempt may do good and can do no harm (K16): nothing left us, or nothing came back on a
    /// connection that may have been closed under us and the request is safe to repeat.
    pub(super) fn may_repeat(&self, call: &Call) -> bool {
        match self {
            Self::Stale => true,
            // By now the pool has given up what it could do without (faults row 26).
            Self::Lend(LendError::Failed(why)) => why.is_ours(),
            Self::Send { failure, silent } => match failure.sent {
                Sent::Nothing | Sent::Unprocessed => true,
                Sent::Perhaps => *silent && call.repeat == Repeat::Safe,
            },
            _ => false,
        }
    }

    /// Whether another attempt is a burden for the peer, which the retry budget must bear. A connection that
    /// was found closed before a byte was written is none.
    pub(super) fn burdened_peer(&self) -> bool {
        match self {
            Self::Stale | Self::Lend(_) => false,
            Self::Send { failure, .. } => failure.sent != Sent::Nothing,
            _ => true,
        }
    }

    /// Whether the peer will not do this over HTTP/2.
    pub(super) fn wants_http1(&self) -> bool {
        matches!(self, Self::Send { failure, .. } if failure.wants_http1)
    }

    /// What the caller is told, `waited` after it asked.
    pub(super) fn into_error(self, call: &Call, waited: Duration) -> ExchangeError {
        let service = call.service.clone();
        match self {
            Self::Discovery(error) => ExchangeError::Discovery(error),
            Self::Lend(LendError::Full(full)) => ExchangeError::Overloaded { what: full.to_string() },
            Self::Lend(LendError::Failed(source)) => ExchangeError::Connect { service, source },
            Self::Lend(LendError::DeadlinePassed { step }) => {
                ExchangeError::DeadlinePassed { service, step, waited }
            }
            Self::Stale => {
                let reason = "the connection was closed before the request".to_owned();
                ExchangeError::Cut { service, step: Step::Request, reason }
            }
            Self::Request(reason) => ExchangeError::BadRequest { reason },
            Self::Violation(violation) => ExchangeError::PeerMisbehaved { service, violation },
            Self::Send { failure, .. } => {
                ExchangeError::Cut { service, step: Step::Response, reason: failure.reason }
            }
        }
    }
}
