//! Who may ask the admin socket.
//!
//! Without a secret it listens at loopback or on a unix socket only, and everybody who reaches it is at home.
//! Except for a web page in a browser at home, which may make that browser ask anybody: its requests are told
//! by the name they were sent to, which a page can point anywhere only if it is a name of the public DNS, and
//! by the `Origin` that browsers add to everything that is not a plain read.
//!
//! # Source
//! K13; RFC 9110 §7.2 (`Host`), RFC 6454 §7 (`Origin`).

use std::net::{IpAddr, Ipv6Addr};

use ::http::HeaderMap;
use ::http::header::{AUTHORIZATION, HOST, HeaderValue, ORIGIN};
use ::http::{Method, Request};
use southbridge_words::Secret;
use subtle::ConstantTimeEq;

/// Why a visitor is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The secret was not shown.
    Secret,
    /// It was sent to a name that somebody else may have pointed here.
    Name,
    /// A web page asks for something to be done.
    Page,
}

/// Lets a request in, or not.
///
/// # Errors
/// [`Refused`] says what is wrong with it.
pub(super) fn check<B>(request: &Request<B>, secret: Option<&Secret>) -> Result<(), Refused> {
    let headers = request.headers();
    if let Some(secret) = secret {
        // No page of somebody else's can make a browser show it.
        return if shows(headers, secret) { Ok(()) } else { Err(Refused::Secret) };
    }
    let named = headers.get_all(HOST).iter().map(HeaderValue::as_bytes).all(is_at_home);
    if !named || request.uri().host().is_some_and(|host| !is_at_home(host.as_bytes())) {
        return Err(Refused::Name);
    }
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if !reads && headers.contains_key(ORIGIN) { Err(Refused::Page) } else { Ok(()) }
}

fn shows(headers: &HeaderMap, secret: &Secret) -> bool {
    let shown = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    let (scheme, token) = shown.split_at(shown.len().min(BEARER.len()));
    scheme.eq_ignore_ascii_case(BEARER) && token.ct_eq(secret.expose()).into()
}

/// Whether `host`, with or without a port, is an address, or a name that only this machine or its network
/// gives a meaning to: one without a dot, or below `localhost`.
fn is_at_home(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    if let Some(literal) = host.strip_prefix('[') {
        return literal.split_once(']').is_some_and(|(address, _)| address.parse::<Ipv6Addr>().is_ok());
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_end_matches('.');
    name.parse::<IpAddr>().is_ok() || !name.contains('.') || name.to_ascii_lowercase().ends_with(".localhost")
}

const BEARER: &[u8] = b"Bearer ";

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: &str, fields: &[(&str, &str)], secret: Option<&Secret>) -> Result<(), Refused> {
        let mut request = Request::builder().method(method).uri("/metrics");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        check(&request.body(()).expect("a request"), secret)
    }

    #[test]
    fn whoever_is_at_home_needs_no_secret() {
        let hosts = [
            "127.0.0.1:9110",
            "[::1]:9110",
            "localhost",
            "LOCALHOST:9110",
            "x",
            "a.localhost:1",
            "192.0.2.1",
            "",
        ];
        for host in hosts {
            assert_eq!(ask("GET", &[("host", host)], None), Ok(()), "{host}");
        }
        assert_eq!(ask("GET", &[], None), Ok(()), "HTTP/1.0 needs no name");
        assert_eq!(ask("POST", &[("host", "localhost")], None), Ok(()));
    }

    /// A page has its own name pointed at this machine, and then asks itself for the numbers.
    #[test]
    fn a_name_that_a_web_page_can_point_here_is_refused() {
        for host in [
            "evil.example",
            "evil.example:9110",
            "127.0.0.1.evil.example",
            "localhost.evil.example.",
            "[evil",
        ] {
            assert_eq!(ask("GET", &[("host", host)], None), Err(Refused::Name), "{host}");
        }
        let twice = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(ask("GET", &twice, None), Err(Refused::Name));
    }

    /// A page sends a form to `http://127.0.0.1:9110/hosts/a.example/wake`.
    #[test]
    fn a_web_page_cannot_have_anything_done() {
        for origin in ["https://evil.example", "null"] {
            let fields = [("host", "127.0.0.1:9110"), ("origin", origin)];
            assert_eq!(ask("POST", &fields, None), Err(Refused::Page));
            assert_eq!(ask("GET", &fields, None), Ok(()), "what it cannot read it may ask");
        }
    }

    #[test]
    fn where_there_is_a_secret_it_alone_counts() {
        let secret = Secret::new(*b"sesame");
        let ask = |shown: &str| {
            ask("POST", &[("host", "southbridge.example"), ("authorization", shown)], Some(&secret))
        };
        assert_eq!(ask("Bearer sesame"), Ok(()));
        assert_eq!(ask("bearer sesame"), Ok(()));
        for wrong in ["Bearer sesam", "Bearer ", "sesame", "Basic sesame", ""] {
            assert_eq!(ask(wrong), Err(Refused::Secret), "{wrong}");
        }
    }
}
