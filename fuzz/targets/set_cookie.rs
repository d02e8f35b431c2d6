//! What responses set: the first byte says where they come from, and each further line is a `Set-Cookie`.
#![no_main]

use http::{HeaderMap, HeaderValue, header::SET_COOKIE};
use libfuzzer_sys::fuzz_target;
use southbridge::client::Jar;
use url::Url;

const FROM: [&str; 7] = [
    "https://www.shop.example.co.uk/cart/now",
    "http://www.shop.example.co.uk/",
    "https://example.org:8443/a/b/c?d=e",
    "http://192.0.2.1/x",
    "https://[2001:db8::1]/y",
    "http://localhost/",
    "https://co.uk/",
];

fuzz_target!(|bytes: &[u8]| {
    let Some((first, lines)) = bytes.split_first() else { return };
    let Ok(from) = Url::parse(FROM[usize::from(*first) % FROM.len()]) else { return };
    let mut jar = Jar::default();
    let mut headers = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n').take(80) {
        let Ok(line) = HeaderValue::from_bytes(line) else { continue };
        headers.append(SET_COOKIE, line);
    }
    jar.take_up(&headers, &from);
    let views = jar.views();
    assert!(views.len() <= 64, "{} cookies of one response", views.len());
    for view in &views {
        let text = format!("{}={}", view.name, view.value);
        assert!(!text.contains(';'), "{text:?} would be sent as two cookies");
        assert!(HeaderValue::from_str(&text).is_ok() || !text.is_ascii(), "{text:?} would be sent by no header");
        assert!(view.path.starts_with('/'), "{:?} is no path", view.path);
    }
    // What it sets goes back to where it came from, and to no stranger: neither beside it under a public suffix nor
    // elsewhere; and what is Secure never goes in the clear.
    for stranger in ["https://other.co.uk/cart/now", "https://co.uk/", "https://org/", "https://b.test/", "http://192.0.2.2/x"] {
        let Ok(stranger) = Url::parse(stranger) else { return };
        if stranger.origin() == from.origin() {
            continue;
        }
        assert_eq!(jar.header(&stranger, &[], &[]), None, "{views:?} from {from}, to {stranger}");
    }
    let mut clear = from.clone();
    let _ = clear.set_scheme("http");
    let _ = clear.set_port(None);
    if let Some(sent) = jar.header(&clear, &[], &[]) {
        let sent = String::from_utf8_lossy(sent.as_bytes()).into_owned();
        for view in views.iter().filter(|view| view.secure) {
            let twin = |other: &&southbridge::client::CookieView| {
                !other.secure && other.name == view.name && other.value == view.value
            };
            let pair = format!("{}={}", view.name, view.value);
            if clear.host_str() != Some("localhost") && !views.iter().any(|other| twin(&other)) {
                assert!(!sent.split("; ").any(|one| one == pair), "{view:?} in the clear: {sent:?}");
            }
        }
    }
});
