//! The beginning of federation media: the body of a stranger that names its own boundary.
//!
//! The input is a `Content-Type` up to a line feed, then the body.
#![no_main]

use http::HeaderValue;
use http::uri::PathAndQuery;
use libfuzzer_sys::fuzz_target;
use southbridge::location::Place;
use southbridge::synapse_door::{Boundary, PartHeads};

fuzz_target!(|bytes: &[u8]| {
    let mut halves = bytes.splitn(2, |byte| *byte == b'\n');
    let (Some(content_type), Some(body)) = (halves.next(), halves.next()) else { return };
    let Ok(content_type) = HeaderValue::from_bytes(content_type) else { return };
    let Ok(Some(boundary)) = Boundary::of(&content_type) else { return };
    let Ok(PartHeads::Complete { content_at, location }) = boundary.find_heads(body) else { return };
    assert!(content_at <= body.len(), "the file begins behind the end");
    // Where it leads, if anywhere, can stand in a request line.
    let here = Place::Peer { path_and_query: PathAndQuery::from_static("/") };
    if let Some(Ok(place)) = location.as_ref().map(|location| here.join(location)) {
        let path = place.path_and_query().as_str();
        assert!(path.bytes().all(|byte| byte.is_ascii_graphic()), "{path:?} would break a request line");
    }
    // The heads do not end in the middle of what was needed to find them.
    let again = boundary.find_heads(&body[..content_at]);
    assert_eq!(
        again,
        Ok(PartHeads::Complete { content_at, location }),
        "more of the file changed what was found"
    );
});
