//! What a caller is told when it does not get what it asked for.
//!
//! # Source
//! The Matrix client-server API's standard error response: `errcode` for programs, `error` for people. Codes that
//! Matrix has are used for what they mean there; the others begin with `ORG.SOUTHBRIDGE.`, as the specification asks of
//! codes that are not its own.

use std::fmt;

use http::StatusCode;
use serde_json::json;

/// A request, or a part of it, that is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For HTTP.
    pub status: StatusCode,
    /// For programs.
    pub code: Code,
    /// For people: the thing, the value, and the way out.
    pub text: String,
}

/// Why, for programs to decide by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// It is not JSON.
    NotJson,
    /// It is JSON of another shape.
    BadJson,
    /// A value is not one that may stand there.
    InvalidParam,
    /// Too many bytes.
    TooLarge,
    /// No secret was shown.
    MissingToken,
    /// It was another secret.
    UnknownToken,
    /// There is no such path, or it takes other methods.
    Unrecognized,
    /// There is no such queue or set.
    NotFound,
    /// No room at the moment; ask again.
    LimitExceeded,
    /// The request did not arrive in time.
    Slow,
    /// The destination set is not known, or no longer.
    UnknownSet,
    /// The outbox takes nothing durable at the moment.
    OutboxFull,
    /// The outbox has failed, or does not answer.
    OutboxFailed,
    /// The signature does not fit, is missing, or no key that was good then is the signer's.
    NotVerified,
    /// The keys to check it with are not to be had at the moment.
    NoKeys,
    /// They did not come in time.
    TimedOut,
    /// The bus is ending, or handing over.
    Closing,
}

impl Code {
    /// All codes, for the description.
    pub const ALL: [Self; 17] = [
        Self::NotJson,
        Self::BadJson,
        Self::InvalidParam,
        Self::TooLarge,
        Self::MissingToken,
        Self::UnknownToken,
        Self::Unrecognized,
        Self::NotFound,
        Self::LimitExceeded,
        Self::Slow,
        Self::UnknownSet,
        Self::OutboxFull,
        Self::OutboxFailed,
        Self::NotVerified,
        Self::NoKeys,
        Self::TimedOut,
        Self::Closing,
    ];

    /// As it stands in `errcode`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotJson => "M_NOT_JSON",
            Self::BadJson => "M_BAD_JSON",
            Self::InvalidParam => "M_INVALID_PARAM",
            Self::TooLarge => "M_TOO_LARGE",
            Self::MissingToken => "M_MISSING_TOKEN",
            Self::UnknownToken => "M_UNKNOWN_TOKEN",
            Self::Unrecognized => "M_UNRECOGNIZED",
            Self::NotFound => "M_NOT_FOUND",
            Self::LimitExceeded => "M_LIMIT_EXCEEDED",
            Self::Slow => "ORG.SOUTHBRIDGE.SLOW_REQUEST",
            Self::UnknownSet => "ORG.SOUTHBRIDGE.UNKNOWN_SET",
            Self::OutboxFull => "ORG.SOUTHBRIDGE.OUTBOX_FULL",
            Self::OutboxFailed => "ORG.SOUTHBRIDGE.OUTBOX_FAILED",
            Self::NotVerified => "ORG.SOUTHBRIDGE.NOT_VERIFIED",
            Self::NoKeys => "ORG.SOUTHBRIDGE.NO_KEYS",
            Self::TimedOut => "ORG.SOUTHBRIDGE.TIMEOUT",
            Self::Closing => "ORG.SOUTHBRIDGE.CLOSING",
        }
    }

    /// The status that goes with it.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::NotJson | Self::BadJson | Self::InvalidParam | Self::UnknownSet | Self::NotVerified => {
                StatusCode::BAD_REQUEST
            }
            Self::NoKeys => StatusCode::BAD_GATEWAY,
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MissingToken | Self::UnknownToken => StatusCode::UNAUTHORIZED,
            Self::Unrecognized | Self::NotFound => StatusCode::NOT_FOUND,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::LimitExceeded | Self::OutboxFull | Self::OutboxFailed | Self::Closing => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }
}

impl Failure {
    /// A failure with the status that goes with `code`.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { status: code.status(), code, text: text.into() }
    }

    /// As JSON: `errcode` and `error`.
    pub fn to_json(&self) -> serde_json::Value {
        json!({ "errcode": self.code.name(), "error": self.text })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.text)
    }
}

impl From<super::routes::NoRoute> for Failure {
    fn from(found: super::routes::NoRoute) -> Self {
        use super::routes::NoRoute;
        let text = found.to_string();
        match found {
            NoRoute::Method { .. } => {
                Self { status: StatusCode::METHOD_NOT_ALLOWED, ..Self::new(Code::Unrecognized, text) }
            }
            NoRoute::Encoding { .. } => Self::new(Code::InvalidParam, text),
            NoRoute::Path { .. } => Self::new(Code::Unrecognized, text),
        }
    }
}
