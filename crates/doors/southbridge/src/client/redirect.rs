//! Where a redirect leads, and what of the request goes along.
//!
//! | status | what is asked there |
//! | --- | --- |
//! | 301, 302 | the same; a POST becomes a GET without a body |
//! | 303 | GET without a body; HEAD stays |
//! | 307, 308 | the same, body included |
//! | 300, 304, 305 and others | nothing: they are delivered |
//!
//! What is meant for one origin (scheme, host and port) does not go to another: authorization, and cookies that the
//! caller set by hand.
//!
//! # Source
//! RFC 9110 §15.4; the Fetch standard, "HTTP-redirect fetch"; what curl, requests and browsers do; faults row 12.

use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION, CONTENT_TYPE, COOKIE, LOCATION,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use url::{Origin, Position, Url};

use super::ClientError;
use super::config::Downgrade;

/// What follows a redirect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Where to.
    pub url: Url,
    /// What is asked there.
    pub method: Method,
    /// Whether the body goes along.
    pub keeps_body: bool,
    /// Whether another origin is asked.
    pub crosses: bool,
}

/// What `status` and `headers`, answered at `url` to `method`, lead to; `None` when it is no redirect that can be
/// followed.
///
/// # Errors
/// [`ClientError::RedirectRefused`] when it says where, and that must not be followed.
pub fn turn(
    url: &Url,
    method: &Method,
    has_body: bool,
    status: StatusCode,
    headers: &HeaderMap,
    downgrade: Downgrade,
) -> Result<Option<Turn>, ClientError> {
    let Some((method, keeps_body)) = asked_next(method, status) else { return Ok(None) };
    let Some(location) = headers.get(LOCATION) else { return Ok(None) };
    let refused = |reason: String| ClientError::RedirectRefused { url: without_secrets(url), reason };
    let next = resolve(url, location).map_err(&refused)?;
    let keeps_body = keeps_body && has_body;
    if url.scheme() == "https" && next.scheme() == "http" {
        let allowed = match downgrade {
            Downgrade::Refuse => false,
            Downgrade::WithoutBody => !keeps_body,
            Downgrade::Follow => true,
        };
        if !allowed {
            return Err(refused(
                "it leads from https to http; the setting `downgrade` would allow it".to_owned(),
            ));
        }
    }
    let crosses = !same_origin(url, &next);
    Ok(Some(Turn { url: next, method, keeps_body, crosses }))
}

impl Turn {
    /// Takes from `headers` what must not go along.
    pub fn strip(&self, headers: &mut HeaderMap) {
        if !self.keeps_body {
            for name in OF_BODIES {
                headers.remove(name);
            }
        }
        if self.crosses {
            for name in OF_ORIGINS {
                headers.remove(name);
            }
        }
    }
}

/// What is asked next, and whether with the body.
fn asked_next(method: &Method, status: StatusCode) -> Option<(Method, bool)> {
    match status.as_u16() {
        301 | 302 if *method == Method::POST => Some((Method::GET, false)),
        301 | 302 | 307 | 308 => Some((method.clone(), true)),
        303 if *method == Method::HEAD => Some((Method::HEAD, false)),
        303 => Some((Method::GET, false)),
        _ => None,
    }
}

/// Where `location`, found at `url`, leads.
fn resolve(url: &Url, location: &HeaderValue) -> Result<Url, String> {
    let bytes = location.as_bytes();
    if bytes.len() > LOCATION_MAX {
        return Err(format!("its location has {} bytes, the most is {LOCATION_MAX}", bytes.len()));
    }
    // Servers do send UTF-8 here; whatever is not that is taken byte by byte, as browsers do.
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    };
    let mut next = url.join(&text).map_err(|error| format!("its location is no URL: {error}"))?;
    if !matches!(next.scheme(), "http" | "https") {
        return Err(format!("it leads to {}, and only http and https are followed", next.scheme()));
    }
    if next.host_str().is_none_or(str::is_empty) {
        return Err("it leads to no host".to_owned());
    }
    if next.fragment().is_none() {
        next.set_fragment(url.fragment());
    }
    // Nobody's name and password but the caller's are sent anywhere.
    let _bare = next.set_username("").and_then(|()| next.set_password(None));
    Ok(next)
}

/// Whether both are the same scheme, host and port.
pub fn same_origin(one: &Url, other: &Url) -> bool {
    let (one, other) = (one.origin(), other.origin());
    matches!(one, Origin::Tuple(..)) && one == other
}

/// `url` as it may stand in an error: without a password.
pub fn without_secrets(url: &Url) -> String {
    let rest = if url.query().is_some() { "?…" } else { "" };
    [&url[..Position::BeforeUsername], &url[Position::BeforeHost..Position::AfterPath], rest].concat()
}

const OF_BODIES: [HeaderName; 4] = [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION];
const OF_ORIGINS: [HeaderName; 2] = [AUTHORIZATION, COOKIE];
/// Signed locations of storage services have up to 2 KiB.
const LOCATION_MAX: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(from: &str, method: &Method, status: u16, to: &str) -> Result<Option<Turn>, ClientError> {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_bytes(to.as_bytes()).unwrap());
        let status = StatusCode::from_u16(status).unwrap();
        let has_body = matches!(*method, Method::POST | Method::PUT);
        turn(&Url::parse(from).unwrap(), method, has_body, status, &headers, Downgrade::WithoutBody)
    }

    /// What browsers and the field do with each status and method.
    #[test]
    fn the_status_says_what_is_asked_next() {
        let cases = [
            (301, Method::GET, Some((Method::GET, false))),
            (301, Method::POST, Some((Method::GET, false))),
            (302, Method::POST, Some((Method::GET, false))),
            (302, Method::PUT, Some((Method::PUT, true))),
            (303, Method::POST, Some((Method::GET, false))),
            (303, Method::PUT, Some((Method::GET, false))),
            (303, Method::HEAD, Some((Method::HEAD, false))),
            (307, Method::POST, Some((Method::POST, true))),
            (308, Method::POST, Some((Method::POST, true))),
            (308, Method::DELETE, Some((Method::DELETE, false))),
            (300, Method::GET, None),
            (304, Method::GET, None),
            (305, Method::GET, None),
            (200, Method::GET, None),
        ];
        for (status, method, expected) in cases {
            let turn = follow("http://a.test/x", &method, status, "/y").unwrap();
            let seen = turn.map(|turn| (turn.method, turn.keeps_body));
            assert_eq!(seen, expected, "{status} {method}");
        }
    }

    #[test]
    fn locations_are_resolved_and_keep_the_fragment() {
        let cases = [
            ("/y?z", "http://a.test:81/y?z#f"),
            ("y", "http://a.test:81/p/y#f"),
            ("//b.test/", "http://b.test/#f"),
            ("https://B.test#g", "https://b.test/#g"),
            ("http://u:p@b.test/", "http://b.test/#f"),
            ("/\u{e9}", "http://a.test:81/%C3%A9#f"),
        ];
        for (location, expected) in cases {
            let turn = follow("http://a.test:81/p/x#f", &Method::GET, 302, location).unwrap().unwrap();
            assert_eq!(turn.url.as_str(), expected, "{location}");
        }
    }

    /// Faults row 12: nothing but http and https, however it is written.
    #[test]
    fn what_is_no_web_is_refused() {
        let long = format!("/{}", "x".repeat(LOCATION_MAX));
        for location in
            ["file:///etc/passwd", "data:x", "javascript:x", "http://", "http://:80/", "ftp://a/", &long]
        {
            let error = follow("http://a.test/", &Method::GET, 302, location).unwrap_err();
            assert_eq!(error.name(), "RedirectRefused", "{location}");
        }
    }

    /// A body goes from https to http with nobody; a GET does, without what was secret.
    #[test]
    fn a_downgrade_takes_nothing_secret_along() {
        assert!(follow("https://a.test/", &Method::POST, 307, "http://a.test/").is_err());
        let turn = follow("https://a.test/", &Method::GET, 302, "http://a.test/").unwrap().unwrap();
        assert!(turn.crosses);
        let mut headers = HeaderMap::new();
        for name in [AUTHORIZATION, COOKIE, CONTENT_TYPE, http::header::ACCEPT] {
            headers.insert(name, HeaderValue::from_static("x"));
        }
        turn.strip(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), [http::header::ACCEPT]);
    }

    #[test]
    fn another_port_is_another_origin() {
        let crosses = |from, to| follow(from, &Method::GET, 302, to).unwrap().unwrap().crosses;
        assert!(!crosses("http://a.test/", "http://a.test:80/y"));
        assert!(crosses("http://a.test/", "http://a.test:81/"));
        assert!(crosses("http://a.test/", "https://a.test/"));
        assert!(crosses("http://a.test/", "http://b.a.test/"));
    }
}
