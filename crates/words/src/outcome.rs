//! What became of a request, as far as the far side is concerned.

use std::fmt;
use std::time::Duration;

/// What one request says about the host it was for (F5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The host lives and did what was asked, or said cleanly why not (2xx, 3xx, 4xx but 429).
    Answered {
        /// From our first byte written to their first byte read; our own queues are not counted.
        latency: Duration,
    },
    /// Something answered, but did not do the work: 5xx, 429, or a body that is not what was asked for.
    Unwilling {
        /// As in [`Outcome::Answered`].
        latency: Duration,
        /// What `Retry-After` asked for, if it did.
        retry_after: Option<Duration>,
    },
    /// No answer came.
    Failed {
        /// How far the request had come.
        step: Step,
    },
    /// Given up for a reason on our side (cancelled, overloaded): says nothing about the host.
    Abandoned,
}

/// How far a request had come when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// In one of our own queues.
    Admission,
    /// Finding out where the host is.
    Discovery,
    /// Reaching an address of it.
    Connect,
    /// Agreeing on TLS and checking the certificate.
    Handshake,
    /// Writing the request.
    Request,
    /// Waiting for the head of the response.
    Response,
    /// Reading the body of the response.
    Body,
}

impl Step {
    /// All steps, in the order a request takes them.
    pub const ALL: [Self; 7] = [
        Self::Admission,
        Self::Discovery,
        Self::Connect,
        Self::Handshake,
        Self::Request,
        Self::Response,
        Self::Body,
    ];

    /// The name used in metrics, logs and error bodies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admission => "admission",
            Self::Discovery => "discovery",
            Self::Connect => "connect",
            Self::Handshake => "handshake",
            Self::Request => "request",
            Self::Response => "response",
            Self::Body => "body",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
