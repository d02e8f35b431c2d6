//! Whether the head of a response can be read in one way only.
//!
//! The protocol crates read what they are given leniently; a proxy that hands the result on must
//! be sure that everyone else reads it the same way.
//!
//! # Source
//! RFC 9112 §6.3; K19; faults row 9.

use ::http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use ::http::{HeaderMap, Version};

use super::Violation;

/// Checks the framing of a response head.
///
/// # Errors
/// [`Violation::AmbiguousFraming`] when two readers may see two different bodies.
pub fn check_framing(version: Version, headers: &HeaderMap) -> Result<(), Violation> {
    if version == Version::HTTP_2 {
        return Ok(());
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

    #[test]
    fn only_unambiguous_framing_passes() {
        let cases: &[(&[(&'static str, &'static str)], Version, bool)] = &[
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
            assert_eq!(check_framing(*version, &map(headers)).is_ok(), *good, "{headers:?}");
        }
    }
}
