//! What a response says about its host and its connection.
//!
//! # Source
//! DESIGN decision 6; RFC 9110 §10.2.3 (`Retry-After`); faults row 16.

use std::time::{Duration, UNIX_EPOCH};

use ::http::header::RETRY_AFTER;
use ::http::response::Parts;
use ::http::{HeaderMap, StatusCode};
use southbridge_words::{Outcome, WallTime};

/// 4xx proves that a host lives; 5xx and 429 count against it.
pub(super) fn outcome_of(parts: &Parts, latency: Duration, wall: impl FnOnce() -> WallTime) -> Outcome {
    if parts.status.is_server_error() || parts.status == StatusCode::TOO_MANY_REQUESTS {
        Outcome::Unwilling { latency, retry_after: retry_after(&parts.headers, wall()) }
    } else {
        Outcome::Answered { latency }
    }
}

/// What `Retry-After` asks for, in either of its forms; the ranker caps what is absurd.
fn retry_after(headers: &HeaderMap, wall: WallTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(value.parse().map_or(Duration::MAX, Duration::from_secs));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    let since = at.duration_since(UNIX_EPOCH).ok()?;
    Some(since.saturating_sub(Duration::from_millis(wall.unix_millis())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_after_is_read_in_both_forms_and_however_absurd() {
        let wall = WallTime::from_unix_millis(784_111_777_000);
        let asked = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().expect("a header value"));
            retry_after(&headers, wall)
        };
        assert_eq!(asked("120"), Some(Duration::from_secs(120)));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:47 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:27 GMT"), Some(Duration::ZERO), "it has passed");
        assert_eq!(asked("99999999999999999999999"), Some(Duration::MAX));
        for nonsense in ["", "-5", "soon", "1.5"] {
            assert_eq!(asked(nonsense), None, "{nonsense:?}");
        }
    }
}
