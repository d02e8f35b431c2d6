//! What a name service answers.

use std::sync::Arc;

use crate::Instant;

/// One SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SrvRecord {
    /// Lower is tried first.
    pub priority: u16,
    /// The share among records of one priority.
    pub weight: u16,
    /// The port of the service.
    pub port: u16,
    /// Where the service is: a name without the final dot, or `.` for "decidedly not offered".
    pub target: Arc<str>,
}

/// What a source said about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// The records. Empty when the source says that there are none (NXDOMAIN, NODATA).
    pub value: T,
    /// Until when this need not be asked again.
    pub fresh_until: Instant,
    /// Whether the records are past their time and stand in for a source that failed.
    pub stale: bool,
    /// Whether the answer was at hand and nobody had to be asked.
    pub cached: bool,
}

/// Why a source gave no answer. Never to be taken for "there are no records".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum LookupFailure {
    /// The server answered that it failed (SERVFAIL).
    #[error("the name server failed (SERVFAIL)")]
    ServFail,
    /// No answer came in time.
    #[error("no name server answered in time")]
    TimedOut,
    /// The server would not answer (REFUSED, NOTIMP), or could not be reached.
    #[error("the name server refused to answer")]
    Refused,
    /// The answer cannot be read, or contradicts itself (CNAME loop).
    #[error("the answer of the name server cannot be read")]
    Malformed,
    /// Too much was waiting on our own side.
    #[error("too many lookups are waiting already")]
    Overloaded,
}
