//! Where a redirect leads: the first byte says from where, the second the status, the rest is the `Location`.
#![no_main]

use http::{HeaderMap, HeaderValue, Method, StatusCode, header::LOCATION};
use libfuzzer_sys::fuzz_target;
use southbridge::client::{Downgrade, turn};
use url::Url;

const FROM: [&str; 4] = [
    "https://example.org/a/b?c=d#e",
    "http://example.org:8080/",
    "https://[2001:db8::1]/x/../y",
    "http://192.0.2.1/",
];
const STATUS: [u16; 6] = [301, 302, 303, 307, 308, 300];

fuzz_target!(|bytes: &[u8]| {
    let [from, status, location @ ..] = bytes else { return };
    let Ok(mut url) = Url::parse(FROM[usize::from(*from) % FROM.len()]) else { return };
    let Ok(status) = StatusCode::from_u16(STATUS[usize::from(*status) % STATUS.len()]) else { return };
    let Ok(location) = HeaderValue::from_bytes(location) else { return };
    let headers = HeaderMap::from_iter([(LOCATION, location)]);
    // A second step from there is read with the same care.
    for _ in 0..2 {
        let turned = turn(&url, &Method::POST, true, status, &headers, Downgrade::Refuse);
        if let Err(refused) = &turned {
            assert!(!refused.to_string().contains(['\r', '\n']), "{refused} would break a line of the log");
        }
        let Ok(Some(next)) = turned else { return };
        assert!(matches!(next.url.scheme(), "http" | "https"), "{} is followed", next.url);
        assert!(next.url.host_str().is_some_and(|host| !host.is_empty()), "{} has no host", next.url);
        assert!(next.url.username().is_empty() && next.url.password().is_none(), "{} names somebody", next.url);
        assert!(!(url.scheme() == "https" && next.url.scheme() == "http"), "{} is less than {url}", next.url);
        assert_eq!(next.crosses, next.url.origin() != url.origin(), "from {url} to {}", next.url);
        let target = &next.url[url::Position::BeforePath..url::Position::AfterQuery];
        assert!(target.starts_with('/'), "{target:?} is no target");
        assert!(target.bytes().all(|byte| byte.is_ascii_graphic()), "{target:?} would break a request line");
        assert!(target.parse::<http::Uri>().is_ok() || target.len() > 8192, "{target:?} is no target of hyper's");
        url = next.url;
    }
});
