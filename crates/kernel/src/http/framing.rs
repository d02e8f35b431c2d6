//! Whether the head of a response can be read in one way only.
//!
//! The protocol crates read what they are given leniently; a proxy that hands the result on must
//! be sure that everyone else reads it the same way.
//!
//! # Source
//! RFC 9112 §6.3; K19; faults row 9.

use ::http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use ::http::{HeaderMap, Method, StatusCode, Version};

use super::Violation;

/// Checks the framing of a response head.
///
/// # Errors
/// [`Violation::AmbiguousFraming`] when two readers may see two different bodies.
pub fn check_framing(version: Version, status: StatusCode, headers: &HeaderMap) -> Result<(), Violation> {
    if version == Version::HTTP_2 {
        return Ok(());
    }
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return ambiguous("it switches protocols unasked");
    }
    let has_length = headers.contains_key(CONTENT_LENGTH);
    let has_coding = headers.contains_key(TRANSFER_ENCODING);
    if has_length && has_coding {
        return ambiguous("it has both Content-Length and Transfer-Encoding");
    }
    if has_length && headers.get_all(CONTENT_LENGTH).iter().count() > 1 {
        return ambiguous("it has more than one Content-Length");
    }
    if has_coding && !is_chunked_alone(headers) {
        return ambiguous("its Transfer-Encoding is not just chunked");
    }
    if has_coding && version == Version::HTTP_10 {
        return ambiguous("it has Transfer-Encoding in HTTP/1.0");
    }
    Ok(())
}

/// Whether an HTTP/1 connection is not to be used again after a response with this head: the peer has
/// said so, or has announced a body where there is none, and may send it after all (K19).
pub fn ends_connection(version: Version, asked: &Method, status: StatusCode, headers: &HeaderMap) -> bool {
    if version == Version::HTTP_2 {
        return false;
    }
    let says = |word: &str| {
        let lines = headers.get_all(CONNECTION).iter().filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(',')).any(|token| token.trim().eq_ignore_ascii_case(word))
    };
    let closes = says("close") || (version != Version::HTTP_11 && !says("keep-alive"));
    let bodiless = *asked == Method::HEAD
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::RESET_CONTENT);
    let announced = headers.contains_key(TRANSFER_ENCODING)
        || headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0");
    closes || (bodiless && announced)
}

fn is_chunked_alone(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let first =
        codings.next().is_some_and(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
    first && codings.next().is_none()
}

fn ambiguous(reason: &str) -> Result<(), Violation> {
    Err(Violation::AmbiguousFraming { reason: reason.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().expect("test values are well-formed"));
        }
        headers
    }

    type Fields = [(&'static str, &'static str)];

    #[test]
    fn only_unambiguous_framing_passes() {
        let cases: &[(&Fields, Version, bool)] = &[
            (&[("content-length", "2")], Version::HTTP_11, true),
            (&[("transfer-encoding", "Chunked")], Version::HTTP_11, true),
            (&[], Version::HTTP_11, true),
            (&[("content-length", "2"), ("transfer-encoding", "chunked")], Version::HTTP_11, false),
            (&[("content-length", "2"), ("content-length", "2")], Version::HTTP_11, false),
            (&[("transfer-encoding", "gzip, chunked")], Version::HTTP_11, false),
            (&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], Version::HTTP_11, false),
            (&[("transfer-encoding", "identity")], Version::HTTP_11, false),
            (&[("transfer-encoding", "chunked")], Version::HTTP_10, false),
        ];
        for (headers, version, good) in cases {
            let checked = check_framing(*version, StatusCode::OK, &map(headers));
            assert_eq!(checked.is_ok(), *good, "{headers:?}");
        }
        assert!(check_framing(Version::HTTP_11, StatusCode::SWITCHING_PROTOCOLS, &map(&[])).is_err());
    }

    #[test]
    fn a_connection_ends_where_the_peer_says_so_or_announces_what_cannot_be() {
        let cases: &[(&Method, u16, Version, &Fields, bool)] = &[
            (&Method::GET, 200, Version::HTTP_11, &[("content-length", "2")], false),
            (&Method::GET, 200, Version::HTTP_11, &[("connection", "Upgrade, Close")], true),
            (&Method::GET, 200, Version::HTTP_10, &[("content-length", "2")], true),
            (&Method::GET, 200, Version::HTTP_10, &[("connection", "keep-alive")], false),
            (&Method::GET, 204, Version::HTTP_11, &[], false),
            (&Method::GET, 204, Version::HTTP_11, &[("content-length", "2")], true),
            (&Method::GET, 304, Version::HTTP_11, &[("content-length", "0")], false),
            (&Method::GET, 304, Version::HTTP_11, &[("transfer-encoding", "chunked")], true),
            (&Method::HEAD, 200, Version::HTTP_11, &[("content-length", "2")], true),
            (&Method::HEAD, 200, Version::HTTP_2, &[("content-length", "2")], false),
        ];
        for (asked, status, version, headers, ends) in cases {
            let status = StatusCode::from_u16(*status).expect("a status");
            assert_eq!(ends_connection(*version, asked, status, &map(headers)), *ends, "{headers:?}");
        }
    }
}
