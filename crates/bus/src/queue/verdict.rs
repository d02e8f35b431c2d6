//! What an answer to a transaction means, by its class.
//!
//! | answer | meaning |
//! | --- | --- |
//! | 200 with a body that answers a transaction | done; what it says of single PDUs is final |
//! | 413 | surely not processed: withdrawn, and smaller from now on |
//! | 520 | perhaps processed (a CDN's word for "too large for me" among others): the same again; smaller from now on |
//! | 400, 422 | refused as a whole: the same again a few times, then cut in two, until the one that poisons stands alone |
//! | 429 | later, when it says or by our own back-off |
//! | 410 | gone: later, by days |
//! | 401, 403, 404, other 4xx | it lives and does not want us now: later, by minutes to hours |
//! | 5xx, 408, 421, 425, 3xx, other 2xx, a 200 that is no answer | unknown: the same again, later |
//!
//! # Source
//! Faults rows 16 and 17; Matrix Server-Server API v1.19, "Transactions"; reference B.4.

use std::time::Duration;

use southbridge_words::WallTime;

use crate::externaliser::Answer;
use crate::outgoing::FederationTransactionResponse;

/// See the [module](self).
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// The destination has it.
    Done(FederationTransactionResponse),
    /// It is too large. `surely` when it was surely not processed.
    TooLarge { status: u16, surely: bool },
    /// Something in it is not to its liking; it was not processed.
    Rejected { status: u16 },
    /// Too many requests.
    RateLimited { retry_after: Option<Duration> },
    /// Gone for a long time.
    Gone,
    /// Not now, and not soon.
    Unwelcome { status: u16 },
    /// Not known whether it was processed.
    Unknown { status: u16, retry_after: Option<Duration> },
}

impl Verdict {
    /// Whether the transaction may have been processed without our being told.
    pub(crate) const fn leaves_doubt(&self) -> bool {
        matches!(self, Self::Unknown { .. } | Self::TooLarge { surely: false, .. })
    }

    /// Reads `answer`.
    pub(crate) fn of(answer: &Answer, wall: WallTime) -> Self {
        let status = answer.status;
        match status {
            200 => match FederationTransactionResponse::parse(&answer.body) {
                Ok(response) => Self::Done(response),
                Err(_) => Self::Unknown { status, retry_after: None },
            },
            413 => Self::TooLarge { status, surely: true },
            520 => Self::TooLarge { status, surely: false },
            400 | 422 => Self::Rejected { status },
            429 => Self::RateLimited { retry_after: answer.retry_after(wall) },
            410 => Self::Gone,
            408 | 421 | 425 => Self::Unknown { status, retry_after: answer.retry_after(wall) },
            401..=499 => Self::Unwelcome { status },
            _ => Self::Unknown { status, retry_after: answer.retry_after(wall) },
        }
    }
}
