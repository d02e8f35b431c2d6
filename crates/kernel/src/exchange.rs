//! One request and its response: what callers hand in, what they get back, and what can go wrong.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use southbridge_policy::ranker::{Demand, Down};
use southbridge_words::{Class, Instant, Outcome, ServiceName, Step};

use crate::discovery::{Discover, DiscoveryError};
use crate::http::{StreamedBody, Violation};
use crate::net::ConnectError;

/// A request on its way in.
#[derive(Clone)]
pub struct Call {
    /// Whose ranks, limits and statistics this counts for.
    pub service: ServiceName,
    /// How the name becomes a route.
    pub discovery: Rc<dyn Discover>,
    /// Method, path-and-query, headers, body. `Host` and framing headers are the kernel's business.
    pub request: ::http::Request<Bytes>,
    /// How urgent it is.
    pub class: Class,
    /// Whether to refuse at once when the host is down.
    pub demand: Demand,
    /// By when the head of the response must be here; the body must then keep flowing.
    pub deadline: Instant,
    /// Whether it may be sent again when its first sending may have reached the peer.
    pub repeat: Repeat,
    /// Whether the outcome says something about the host (false for side errands such as .well-known).
    pub ranked: bool,
}

/// What a request is about, for people who ask what is under way (K13).
#[derive(Clone, Debug)]
pub struct About {
    /// What is asked.
    pub method: ::http::Method,
    /// Of what: without user, password and query, which may be secrets.
    pub url: String,
    /// The mark under which it was made.
    pub mark: Option<Arc<str>>,
}

/// Makes a request when there is a connection for it, and not before: what gathers meanwhile can still go along,
/// and what has become needless is never made (F6).
pub trait Compose {
    /// What is to be sent now; none when nothing is any more. Asked once for each attempt: what may have reached
    /// the peer must come out the same again.
    fn compose(&self) -> Composing<'_>;
}

/// How a call is carried, where it is not the usual way.
#[derive(Default)]
pub struct Manner<'a> {
    /// Makes what is sent once there is a connection; of the call's request, nothing is sent then. What it makes is
    /// not counted among the bytes of bodies held in memory: its maker has bounds of its own.
    pub composer: Option<&'a dyn Compose>,
    /// The body, where it comes in pieces; that of the call's request is empty then.
    pub body: Option<StreamedBody>,
    /// By when there must be a connection. Default: by the call's deadline.
    pub connect_by: Option<Instant>,
    /// How long the peer may neither take a byte nor give one before the head of its response is there. Default:
    /// until the call's deadline.
    pub silence_max: Option<Duration>,
    /// What it is about. Default: nobody says, and only its host is shown.
    pub about: Option<Rc<About>>,
    /// How often it may be sent. Default: [`Attempts::default`].
    pub attempts: Attempts,
}

/// How often a request may be sent (K16). Whatever is said here: what may have reached the peer is sent again only when
/// that does no harm ([`Repeat`]), and what burdens the peer draws on the kernel's budget of retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempts {
    /// Attempts in all. Default 3: the first, one for a connection that had gone stale, one for what the peer refused
    /// to look at.
    pub attempts_max: u32,
    /// The pause before what a peer has failed at is sent again, doubled with every further time. Default none: the
    /// failure is the caller's to know.
    pub pause_first: Option<Duration>,
}

impl Default for Attempts {
    fn default() -> Self {
        Self { attempts_max: 3, pause_first: None }
    }
}

impl Attempts {
    /// The pause before attempt `next`, counted from 1, for a failure of the peer's; none when there is to be none.
    pub(crate) fn pause_before(&self, next: u32) -> Option<Duration> {
        let doublings = next.saturating_sub(2).min(PAUSE_DOUBLINGS_MAX);
        self.pause_first.map(|first| (first * (1 << doublings)).min(PAUSE_MAX.max(first)))
    }
}

/// A request in the making. It should be quick: a connection is held meanwhile.
pub type Composing<'a> = Pin<Box<dyn Future<Output = Option<::http::Request<Bytes>>> + 'a>>;

/// Whether sending a request twice does no harm (K16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Idempotent: GET, HEAD, and PUT with an id.
    Safe,
    /// The peer may do the work twice: only what surely never left is sent again.
    Never,
}

/// Why an exchange ended without a response.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// Refused on our side before anything was done.
    #[error("too much is waiting already: {what}")]
    Overloaded {
        /// Which bound was met, with its number.
        what: String,
    },
    /// The host is known to be down.
    #[error("{service} is down: {} failures in a row, failing for {:?}; next probe in {:?}", .down.failures, .down.failing_for, .down.retry_in)]
    HostDown {
        /// Which.
        service: ServiceName,
        /// What is known of it.
        down: Down,
    },
    /// The name has no route.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// No connection could be had.
    #[error("{service} cannot be reached")]
    Connect {
        /// Which.
        service: ServiceName,
        /// Why, shared by all that waited for it.
        #[source]
        source: Rc<ConnectError>,
    },
    /// Time ran out.
    #[error("no response from {service} within {waited:?}; it was at the step {step}")]
    DeadlinePassed {
        /// Which.
        service: ServiceName,
        /// How far the request had come.
        step: Step,
        /// How long it had been given.
        waited: Duration,
    },
    /// The connection broke.
    #[error("{service} cut the connection at the step {step}: {reason}")]
    Cut {
        /// Which.
        service: ServiceName,
        /// How far the request had come.
        step: Step,
        /// What the connection said.
        reason: String,
    },
    /// The peer answered with what HTTP does not allow, or more than we take.
    #[error("{service} broke HTTP: {violation}")]
    PeerMisbehaved {
        /// Which.
        service: ServiceName,
        /// What it did.
        violation: Violation,
    },
    /// There was a connection, and nothing to send any more.
    #[error("nothing is left to be sent to {service}")]
    Withdrawn {
        /// Which.
        service: ServiceName,
    },
    /// The request itself cannot be sent.
    #[error("the request cannot be sent: {reason}")]
    BadRequest {
        /// What is wrong with it.
        reason: String,
    },
}

impl ExchangeError {
    /// How far the request had come.
    pub fn step(&self) -> Step {
        match self {
            Self::Overloaded { .. }
            | Self::HostDown { .. }
            | Self::Withdrawn { .. }
            | Self::BadRequest { .. } => Step::Admission,
            Self::Discovery(_) => Step::Discovery,
            Self::Connect { source, .. } => source.step(),
            Self::DeadlinePassed { step, .. } | Self::Cut { step, .. } => *step,
            Self::PeerMisbehaved { .. } => Step::Response,
        }
    }

    /// What the error says about the host.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Overloaded { .. }
            | Self::HostDown { .. }
            | Self::Withdrawn { .. }
            | Self::BadRequest { .. } => Outcome::Abandoned,
            Self::Discovery(DiscoveryError::Overloaded { .. }) => Outcome::Abandoned,
            // Time that ran out in our own queues, or while names were being looked up for too long,
            // says nothing: a name server that fails is reported as such and sooner.
            Self::DeadlinePassed { step: Step::Admission | Step::Discovery, .. } => Outcome::Abandoned,
            // We had no descriptor, port or memory left (faults row 26), or have a bug.
            Self::Connect { source, .. } if source.is_ours() => Outcome::Abandoned,
            _ => Outcome::Failed { step: self.step() },
        }
    }

    /// Whether asking again cannot make the peer do the work twice.
    pub fn is_repeatable(&self) -> bool {
        self.step() < Step::Request
    }
}

/// The longest pause that doubling comes to: longer ones are for whoever asked to decide.
const PAUSE_MAX: Duration = Duration::from_secs(5);
const PAUSE_DOUBLINGS_MAX: u32 = 16;
