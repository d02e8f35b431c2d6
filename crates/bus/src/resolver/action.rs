//! What the resolver asks for, what it is told, and what it answers.

use std::fmt;
use std::sync::Arc;

use southbridge_words::{LookupFailure, Ticket, WallTime};

use super::{CacheHeaders, Explanation, ResolvedFederationAddress};

/// Pairs a lookup or fetch with its answer. Never used twice by one resolver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookupId(pub u64);

impl fmt::Display for LookupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "l{}", self.0)
    }
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// GET `https://HOST/.well-known/matrix/server`, following a few redirects (https only), and tell
    /// [`handle_well_known`](super::Resolver::handle_well_known).
    FetchWellKnown {
        /// Goes into the answer.
        id: LookupId,
        /// The host, in lower case; port 443.
        host: Arc<str>,
    },
    /// Look up SRV records, and tell [`handle_srv`](super::Resolver::handle_srv).
    LookupSrv {
        /// Goes into the answer.
        id: LookupId,
        /// The whole name, without the final dot: `_matrix-fed._tcp.HOST` or `_matrix._tcp.HOST`.
        name: Arc<str>,
    },
    /// Look up A and AAAA, and tell [`handle_addresses`](super::Resolver::handle_addresses).
    LookupAddresses {
        /// Goes into the answer.
        id: LookupId,
        /// The name, without the final dot.
        name: Arc<str>,
    },
    /// `ticket` has its answer.
    Resolved {
        /// Whose.
        ticket: Ticket,
        /// The answer, shared by all who asked for this name.
        address: Arc<ResolvedFederationAddress>,
    },
    /// `ticket` gets no address.
    Failed {
        /// Whose.
        ticket: Ticket,
        /// Why.
        error: ResolveError,
    },
    /// `ticket`, which asked for an explanation, has it.
    Explained {
        /// Whose.
        ticket: Ticket,
        /// How the name was resolved, and what came of it.
        explanation: Box<Explanation>,
    },
}

/// How a .well-known fetch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WellKnownResult {
    /// With a whole response, redirects followed.
    Answered(WellKnownAnswer),
    /// Without one.
    Failed(WellKnownFailure),
}

/// A response to a .well-known fetch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WellKnownAnswer {
    /// The status code of the last response.
    pub status: u16,
    /// What it says about caching.
    pub caching: CacheHeaders,
    /// Its body; the fetcher keeps it below 50 KiB.
    pub body: Vec<u8>,
    /// When it came, for `Expires` without `Date`.
    pub received_at: WallTime,
}

/// Why a .well-known fetch brought no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum WellKnownFailure {
    /// The host has no address, or none could be learned.
    #[error("its host has no address")]
    Dns,
    /// No address of it took a connection.
    #[error("its host cannot be connected to")]
    Connect,
    /// No TLS, or a certificate that is not good.
    #[error("TLS with its host failed")]
    Tls,
    /// It took too long.
    #[error("its host did not answer in time")]
    TimedOut,
    /// The body is longer than is taken.
    #[error("its body is larger than is taken")]
    TooLarge,
    /// Too many redirects, a loop, or one to where it may not lead.
    #[error("it redirects where it may not, or too often")]
    Redirect,
    /// The response is not HTTP, or was cut off.
    #[error("its response cannot be read")]
    Protocol,
    /// We ourselves were too busy to ask: says nothing about the host, and is not remembered.
    #[error("this side is too busy to fetch it")]
    Overloaded,
}

/// Why a server name has no address. Cheap to clone: one error may be told to many.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// SRV records could be there, and are not known.
    #[error("looking up the SRV records {name} failed: {failure}")]
    SrvFailed {
        /// What was looked up.
        name: Arc<str>,
        /// What came of it.
        failure: LookupFailure,
    },
    /// An SRV record says that there is no Matrix federation at this name.
    #[error("the SRV record {name} says that the service is not offered")]
    NotOffered {
        /// What was looked up.
        name: Arc<str>,
    },
    /// Addresses could be there, and are not known.
    #[error("looking up the addresses of {name} failed: {failure}")]
    AddressesFailed {
        /// What was looked up.
        name: Arc<str>,
        /// What came of it.
        failure: LookupFailure,
    },
    /// The name has neither A nor AAAA records.
    #[error("{name} has no address")]
    NoAddress {
        /// What was looked up.
        name: Arc<str>,
    },
    /// Too much is being resolved already; nothing is remembered against the name.
    #[error("too many names are being resolved already")]
    Overloaded,
}

impl ResolveError {
    /// The step that failed, as metrics and error bodies name it.
    pub fn step(&self) -> &'static str {
        match self {
            Self::SrvFailed { .. } | Self::NotOffered { .. } => "srv",
            Self::AddressesFailed { .. } | Self::NoAddress { .. } => "address",
            Self::Overloaded => "admission",
        }
    }

    /// Whether the sources answered, and there is nothing: asking again soon will not help.
    pub fn is_definite(&self) -> bool {
        matches!(self, Self::NotOffered { .. } | Self::NoAddress { .. })
    }
}
