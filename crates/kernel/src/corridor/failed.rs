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
    /// There was a connection, and nothing to send any more.
    Withdrawn,
    Request(String),
    Violation(Violation),
    /// The peer neither took anything nor gave anything for so long.
    Silent {
        waited: Duration,
    },
    Send {
        failure: SendFailure,
        /// Nothing came back, on a connection that had served before.
        silent: bool,
    },
}

impl Failed {
    /// Whether another attempt may do good and can do no harm (K16): nothing left us, or nothing came back on a
    /// connection that may have been closed under us and the request is safe to repeat.
    pub(super) fn may_repeat(&self, repeat: Repeat) -> bool {
        match self {
            Self::Stale => true,
            // By now the pool has given up what it could do without (faults row 26).
            Self::Lend(LendError::Failed(why)) => why.is_ours(),
            Self::Send { failure, silent } => match failure.sent {
                Sent::Nothing | Sent::Unprocessed => true,
                Sent::Perhaps => *silent && repeat == Repeat::Safe,
            },
            _ => false,
        }
    }

    /// Whether another attempt may do good after a pause, where that is wanted, and can do no harm: nothing was sent, or
    /// the request is safe to repeat.
    pub(super) fn may_repeat_later(&self, repeat: Repeat) -> bool {
        match self {
            Self::Discovery(error) => {
                !matches!(error, DiscoveryError::Overloaded { .. } | DiscoveryError::DeadlinePassed { .. })
            }
            Self::Lend(LendError::Failed(_)) => true,
            Self::Send { .. } | Self::Silent { .. } => repeat == Repeat::Safe,
            _ => false,
        }
    }

    /// Whether another attempt is a burden for the peer, which the retry budget must bear. A connection that
    /// was found closed before a byte was written is none.
    pub(super) fn burdened_peer(&self) -> bool {
        match self {
            Self::Stale | Self::Withdrawn | Self::Lend(_) => false,
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
            // Its time was the request's, and whichever watch runs out first says the same.
            Self::Discovery(DiscoveryError::DeadlinePassed { .. }) => {
                ExchangeError::DeadlinePassed { service, step: Step::Discovery, waited }
            }
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
            Self::Withdrawn => ExchangeError::Withdrawn { service },
            Self::Request(reason) => ExchangeError::BadRequest { reason },
            Self::Silent { waited } => {
                ExchangeError::DeadlinePassed { service, step: Step::Response, waited }
            }
            Self::Violation(violation) => ExchangeError::PeerMisbehaved { service, violation },
            Self::Send { failure, .. } => {
                ExchangeError::Cut { service, step: Step::Response, reason: failure.reason }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Loss;

    fn send(sent: Sent, silent: bool) -> Failed {
        let failure = SendFailure {
            sent,
            reason: String::new(),
            misread: false,
            too_large: false,
            loss: Loss::Connection,
            wants_http1: false,
        };
        Failed::Send { failure, silent }
    }

    /// What may be tried again at all, what only when it is safe, and what the budget must bear.
    #[test]
    fn only_what_can_do_no_harm_is_repeated() {
        let cases = [
            ("found closed", Failed::Stale, true, true, false),
            ("never written", send(Sent::Nothing, false), true, true, false),
            ("not looked at", send(Sent::Unprocessed, false), true, true, true),
            ("closed under us", send(Sent::Perhaps, true), true, false, true),
            ("answered in part", send(Sent::Perhaps, false), false, false, true),
            ("withdrawn", Failed::Withdrawn, false, false, false),
            ("not sendable", Failed::Request(String::new()), false, false, true),
        ];
        for (name, failed, safe, never, burden) in cases {
            assert_eq!(failed.may_repeat(Repeat::Safe), safe, "{name}");
            assert_eq!(failed.may_repeat(Repeat::Never), never, "{name}");
            assert_eq!(failed.burdened_peer(), burden, "{name}");
        }
    }

    /// What a service that is asked again after a pause is asked again for.
    #[test]
    fn later_only_what_never_left_or_is_safe_is_repeated() {
        let lost = || DiscoveryError::NotFound { step: "address", name: "orders".to_owned() };
        let cases = [
            ("no address", Failed::Discovery(lost()), true, true),
            ("cut in the middle", send(Sent::Perhaps, false), true, false),
            ("silent", Failed::Silent { waited: Duration::from_secs(1) }, true, false),
            ("withdrawn", Failed::Withdrawn, false, false),
            ("not sendable", Failed::Request(String::new()), false, false),
        ];
        for (name, failed, safe, never) in cases {
            assert_eq!(failed.may_repeat_later(Repeat::Safe), safe, "{name}");
            assert_eq!(failed.may_repeat_later(Repeat::Never), never, "{name}");
        }
    }
}
