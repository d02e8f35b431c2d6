//! Why a request of the client came to nothing: whose fault, how far it had come, may it be asked again.
//!
//! Errors cross threads, so what caused them travels as text.
//!
//! # Source
//! K15, K16; STYLE, "Errors".

use std::time::Duration;

use southbridge_kernel::discovery::DiscoveryError;
use southbridge_kernel::exchange::ExchangeError;
use southbridge_kernel::http::{Violation, explain};
use southbridge_kernel::net::ConnectError;
use southbridge_kernel::port::{PortError, SubmitError, Unanswered};
use southbridge_words::Step;

use super::services::shown;

/// Which bound on time was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// That on getting a connection.
    Connect,
    /// That on hearing anything.
    Read,
    /// That on all of it.
    Total,
}

/// Why there is no response, or no more of one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The request cannot be sent as it is. Nothing was sent.
    #[error("the request cannot be sent: {reason}")]
    InvalidRequest {
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A setting makes no sense.
    #[error("{setting}: {reason}")]
    InvalidSetting {
        /// Which.
        setting: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Refused on our side before anything was done.
    #[error("too much is waiting already: {what}")]
    Overloaded {
        /// Which bound was met, with its number.
        what: String,
    },
    /// The service has been failing; it is not asked for a moment.
    #[error(
        "{service} is down: {failures} failures in a row, failing for {failing_for:?}; next probe in {retry_in:?}"
    )]
    HostDown {
        /// Which.
        service: String,
        /// How many requests have failed in a row.
        failures: u32,
        /// For how long it has been failing.
        failing_for: Duration,
        /// When the next request may go out, to see whether it is back.
        retry_in: Duration,
    },
    /// The name leads nowhere.
    #[error("{reason}")]
    NameNotFound {
        /// What was asked for, and what was said.
        reason: String,
    },
    /// No connection could be had.
    #[error("{service} cannot be reached: {reason}")]
    ConnectFailed {
        /// Which.
        service: String,
        /// What each address said.
        reason: String,
    },
    /// Whatever its name leads to must not be dialled.
    #[error("{service} must not be reached: {reason}")]
    AddressDenied {
        /// Which.
        service: String,
        /// By which rule.
        reason: String,
    },
    /// TLS could not be agreed on, or the certificate is not good.
    #[error("{service}: {reason}")]
    TlsFailed {
        /// With whom.
        service: String,
        /// What went wrong, and which setting would help.
        reason: String,
    },
    /// Time ran out.
    #[error("{patience:?} timeout: nothing from {service} within {waited:?}, at the step {step}")]
    TimedOut {
        /// Of whom.
        service: String,
        /// Which bound was met.
        patience: Patience,
        /// How far the request had come.
        step: Step,
        /// How long that bound is.
        waited: Duration,
    },
    /// The connection broke.
    #[error("{service} cut the connection at the step {step}: {reason}")]
    Cut {
        /// Whose.
        service: String,
        /// How far the request had come.
        step: Step,
        /// What the connection said.
        reason: String,
    },
    /// The peer answered what HTTP does not allow.
    #[error("{service} broke HTTP: {reason}")]
    PeerMisbehaved {
        /// Which.
        service: String,
        /// What it did.
        reason: String,
    },
    /// More than is taken.
    #[error("{what} of {service} exceeds {bytes_max} bytes")]
    TooLarge {
        /// Whose.
        service: String,
        /// What: the head, the body, the file.
        what: String,
        /// Where it was found out.
        step: Step,
        /// The bound.
        bytes_max: u64,
    },
    /// The body is encoded in a way that cannot be undone, or should not be.
    #[error("the body of {service} cannot be decoded: {reason}")]
    DecodeFailed {
        /// Whose.
        service: String,
        /// Why.
        reason: String,
    },
    /// Redirects without end.
    #[error("more than {redirects_max} redirects, the last to {url}")]
    TooManyRedirects {
        /// The bound.
        redirects_max: u32,
        /// Where the next one would have led.
        url: String,
    },
    /// A redirect that must not, or cannot, be followed.
    #[error("the redirect of {url} cannot be followed: {reason}")]
    RedirectRefused {
        /// Where it stood.
        url: String,
        /// Why.
        reason: String,
    },
    /// The body of the request stopped coming.
    #[error("the body of the request stopped: {reason}")]
    BodyStopped {
        /// What its maker said.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {reason}")]
    FileFailed {
        /// Which.
        path: String,
        /// What the system said.
        reason: String,
        /// How far the request had come.
        step: Step,
    },
    /// The application asked for it.
    #[error("cancelled by the application")]
    Cancelled,
    /// There is no I/O thread any more.
    #[error("the kernel has stopped")]
    Stopped,
    /// A bug of ours, or a request that went past the client.
    #[error("{reason}")]
    Failed {
        /// How far the request had come.
        step: Step,
        /// Whether it may be asked again.
        is_repeatable: bool,
        /// What is known.
        reason: String,
    },
}

impl ClientError {
    /// How far the request had come.
    pub fn step(&self) -> Step {
        match self {
            Self::InvalidRequest { .. }
            | Self::InvalidSetting { .. }
            | Self::Overloaded { .. }
            | Self::HostDown { .. }
            | Self::Cancelled
            | Self::Stopped => Step::Admission,
            Self::NameNotFound { .. } => Step::Discovery,
            Self::ConnectFailed { .. } | Self::AddressDenied { .. } => Step::Connect,
            Self::TlsFailed { .. } => Step::Handshake,
            Self::BodyStopped { .. } => Step::Request,
            Self::PeerMisbehaved { .. } | Self::TooManyRedirects { .. } | Self::RedirectRefused { .. } => {
                Step::Response
            }
            Self::DecodeFailed { .. } => Step::Body,
            Self::TooLarge { step, .. }
            | Self::TimedOut { step, .. }
            | Self::Cut { step, .. }
            | Self::FileFailed { step, .. }
            | Self::Failed { step, .. } => *step,
        }
    }

    /// Whether asking again cannot make the peer do the work twice.
    pub fn is_repeatable(&self) -> bool {
        match self {
            // What was in flight when it was given up, or when the kernel stopped, may have been sent.
            Self::InvalidRequest { .. } | Self::InvalidSetting { .. } | Self::Cancelled | Self::Stopped => {
                false
            }
            Self::Failed { is_repeatable, .. } => *is_repeatable,
            _ => self.step() < Step::Request,
        }
    }

    /// The name of the variant: what an exception of another language is called, without its `Error`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::InvalidRequest { .. } => "InvalidRequest",
            Self::InvalidSetting { .. } => "InvalidSetting",
            Self::Overloaded { .. } => "Overloaded",
            Self::HostDown { .. } => "HostDown",
            Self::NameNotFound { .. } => "NameNotFound",
            Self::ConnectFailed { .. } => "ConnectFailed",
            Self::AddressDenied { .. } => "AddressDenied",
            Self::TlsFailed { .. } => "TlsFailed",
            Self::TimedOut { .. } => "TimedOut",
            Self::Cut { .. } => "Cut",
            Self::PeerMisbehaved { .. } => "PeerMisbehaved",
            Self::TooLarge { .. } => "TooLarge",
            Self::DecodeFailed { .. } => "DecodeFailed",
            Self::TooManyRedirects { .. } => "TooManyRedirects",
            Self::RedirectRefused { .. } => "RedirectRefused",
            Self::BodyStopped { .. } => "BodyStopped",
            Self::FileFailed { .. } => "FileFailed",
            Self::Cancelled => "Cancelled",
            Self::Stopped => "Stopped",
            Self::Failed { .. } => "Failed",
        }
    }

    pub(super) fn invalid(reason: impl Into<String>) -> Self {
        Self::InvalidRequest { reason: reason.into() }
    }

    /// What the kernel said, as the client says it; `patience` is the bound on time that was met, if one was.
    pub(crate) fn of_exchange(error: &ExchangeError, patience: Patience) -> Self {
        let reason = || explain(error);
        match error {
            ExchangeError::Overloaded { what } => Self::Overloaded { what: what.clone() },
            ExchangeError::HostDown { service, down } => Self::HostDown {
                service: shown(service),
                failures: down.failures,
                failing_for: down.failing_for,
                retry_in: down.retry_in,
            },
            ExchangeError::Discovery(DiscoveryError::Overloaded { .. }) => {
                Self::Overloaded { what: reason() }
            }
            ExchangeError::Discovery(_) => Self::NameNotFound { reason: reason() },
            ExchangeError::Connect { service, source } => {
                let (service, reason) = (shown(service), explain(source.as_ref()));
                match (source.as_ref(), source.step()) {
                    (ConnectError::Denied { .. }, _) => Self::AddressDenied { service, reason },
                    (_, Step::Handshake) => Self::TlsFailed { service, reason },
                    _ => Self::ConnectFailed { service, reason },
                }
            }
            ExchangeError::DeadlinePassed { service, step, waited } => {
                Self::TimedOut { service: shown(service), patience, step: *step, waited: *waited }
            }
            ExchangeError::Cut { service, step, reason } => {
                Self::Cut { service: shown(service), step: *step, reason: reason.clone() }
            }
            ExchangeError::PeerMisbehaved { service, violation } => {
                let service = shown(service);
                match violation {
                    Violation::TooLarge { what, bytes_max } => {
                        let step = if *what == "head" { Step::Response } else { Step::Body };
                        Self::TooLarge { service, what: format!("the {what}"), step, bytes_max: *bytes_max }
                    }
                    other => Self::PeerMisbehaved { service, reason: other.to_string() },
                }
            }
            ExchangeError::BadRequest { reason } => Self::InvalidRequest { reason: reason.clone() },
            other => Self::Failed {
                step: other.step(),
                is_repeatable: other.is_repeatable(),
                reason: explain(other),
            },
        }
    }
}

impl From<Unanswered> for ClientError {
    fn from(why: Unanswered) -> Self {
        match why {
            Unanswered::Cancelled => Self::Cancelled,
            Unanswered::Stopped => Self::Stopped,
            Unanswered::Failed => {
                Self::Failed { step: Step::Response, is_repeatable: false, reason: why.to_string() }
            }
        }
    }
}

impl From<PortError> for ClientError {
    fn from(error: PortError) -> Self {
        Self::Failed { step: error.step, is_repeatable: error.is_repeatable, reason: error.message }
    }
}

impl From<SubmitError> for ClientError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Stopped => Self::Stopped,
            other => Self::Overloaded { what: other.to_string() },
        }
    }
}
