//! HTTP over a connection that the pool lends.
//!
//! hyper speaks the protocol on connections it is given (F13); what is here keeps peers honest:
//! a gauge on every connection, a watch on heads, the check of framing, the pace of bodies.

mod body;
mod framing;
mod gauge;
mod head_watch;
mod pace;
mod request_body;
mod stowing;
mod transport;

pub use body::ResponseBody;
pub(crate) use body::{Ending, FromPeer};
pub use framing::{check_framing, ends_connection};
pub use gauge::{Gauge, Gauged};
pub use head_watch::{HeadFault, HeadWatch};
pub use pace::{Pace, TooSlow};
pub use request_body::{BodyStopped, Pieces, RequestBody, StreamedBody};
pub use stowing::Http1;
pub(crate) use transport::STREAM_WINDOW;
pub use transport::{Driver, End, HttpLimits, Loss, SendFailure, Sender, Sent, explain, open};

/// What a peer did that HTTP, or our limits, do not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Not parseable.
    #[error("its response cannot be read: {reason}")]
    Unreadable {
        /// What the reader said.
        reason: String,
    },
    /// Framing that two readers may read in two ways.
    #[error("the framing of its response is ambiguous: {reason}")]
    AmbiguousFraming {
        /// Which two ways.
        reason: String,
    },
    /// More than the bound.
    #[error("{what} exceeds {bytes_max} bytes")]
    TooLarge {
        /// What: head, body, overhead.
        what: &'static str,
        /// The bound.
        bytes_max: u64,
    },
    /// Slower than the minimum rate.
    #[error("its body came at less than {rate_min} bytes a second")]
    TooSlow {
        /// The bound, in bytes a second.
        rate_min: u64,
    },
    /// Ended before its announced end.
    #[error("its body ended early: {reason}")]
    Truncated {
        /// What the connection said.
        reason: String,
    },
}
