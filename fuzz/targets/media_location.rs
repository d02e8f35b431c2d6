//! Where a media redirect leads: a reference written by a stranger, joined to where we are.
#![no_main]

use http::uri::PathAndQuery;
use libfuzzer_sys::fuzz_target;
use southbridge::location::Place;

fuzz_target!(|bytes: &[u8]| {
    let here =
        Place::Peer { path_and_query: PathAndQuery::from_static("/_matrix/media/v3/download/a/b?x=y") };
    let Ok(place) = here.join(bytes) else { return };
    let path = place.path_and_query().as_str();
    assert!(path.starts_with('/'), "{path:?} is no path");
    assert!(path.bytes().all(|byte| byte.is_ascii_graphic()), "{path:?} would break a request line");
    if let Place::Web { authority, .. } = &place {
        assert!(!authority.contains(['@', '/', '?', '#', '\\']), "{authority:?} could be read in two ways");
    }
    // A second step from there is read with the same care.
    let _ = place.join(bytes);
});
