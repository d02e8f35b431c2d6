//! What came of a request, as the bus needs to know it.
//!
//! # Source
//! RFC 9110 §10.2.3 (`Retry-After`); faults row 16.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use southbridge_words::{Step, WallTime};

/// A response, whatever it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The value of `Retry-After` as it came, if it came.
    pub retry_after: Option<String>,
    /// The body; the driver bounds it, and hands in nothing of one that it cut short.
    pub body: Bytes,
}

impl Answer {
    /// An answer without `Retry-After`.
    pub fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self { status, retry_after: None, body: body.into() }
    }

    /// For how long we are asked to wait, in either form of the header and however absurd; none when there
    /// is no such header, or it is nonsense.
    pub fn retry_after(&self, wall: WallTime) -> Option<Duration> {
        let value = self.retry_after.as_deref()?.trim();
        if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some(value.parse().map_or(Duration::MAX, Duration::from_secs));
        }
        let since = httpdate::parse_http_date(value).ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(since.saturating_sub(Duration::from_millis(wall.unix_millis())))
    }
}

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The host is held to be down, and nothing was sent.
    #[error("the host is down; it may be asked again in {retry_in:?}")]
    Down {
        /// In how long the next request may go out.
        retry_in: Duration,
    },
    /// There was no room on our side: nothing was sent, and nothing is said about the host.
    #[error("no room on our side: {reason}")]
    Overloaded {
        /// Which bound was met.
        reason: String,
    },
    /// Surely no byte of the request has reached the host.
    #[error("not sent, at the step {step}: {reason}")]
    NotSent {
        /// How far it came.
        step: Step,
        /// What happened.
        reason: String,
    },
    /// The host may have received the request, and may have done what it asks for.
    #[error("no answer, at the step {step}: {reason}")]
    PerhapsSent {
        /// How far it came.
        step: Step,
        /// What happened.
        reason: String,
    },
    /// The request itself cannot be made (it could not be signed, say): asking again will not help.
    #[error("the request cannot be made: {reason}")]
    Unfit {
        /// What is wrong with it.
        reason: String,
    },
}

impl Failure {
    /// Whether the host surely knows nothing of the request.
    pub const fn is_unsent(&self) -> bool {
        !matches!(self, Self::PerhapsSent { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server may name the seconds or the day; it may also say anything at all.
    #[test]
    fn retry_after_is_read_in_both_forms() {
        let wall = WallTime::from_unix_millis(784_111_777_000);
        let asked = |value: &str| {
            let answer = Answer { status: 429, retry_after: Some(value.to_owned()), body: Bytes::new() };
            answer.retry_after(wall)
        };
        assert_eq!(asked(" 120 "), Some(Duration::from_secs(120)));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:47 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:27 GMT"), Some(Duration::ZERO), "it has passed");
        assert_eq!(asked("99999999999999999999999"), Some(Duration::MAX));
        for nonsense in ["", "-5", "soon", "1.5"] {
            assert_eq!(asked(nonsense), None, "{nonsense:?}");
        }
        assert_eq!(Answer::new(429, "").retry_after(wall), None);
    }

    /// Only silence after the first byte leaves it open whether the host has done the work.
    #[test]
    fn what_was_not_sent_is_known() {
        let reason = String::new;
        assert!(Failure::Down { retry_in: Duration::ZERO }.is_unsent());
        assert!(Failure::NotSent { step: Step::Connect, reason: reason() }.is_unsent());
        assert!(!Failure::PerhapsSent { step: Step::Response, reason: reason() }.is_unsent());
    }
}
