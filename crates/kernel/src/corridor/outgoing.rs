//! The request as it goes out.
//!
//! # Source
//! K19; RFC 9112 §3 (absolute-form to proxies) and §6, RFC 9113 §8.3; faults row 10.

use ::http::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use ::http::request::Parts;
use ::http::{Method, Request, Uri, Version};
use bytes::Bytes;
use http_body_util::Full;

use crate::discovery::{Proxy, Route};
use crate::exchange::ExchangeError;
use crate::http::{RequestBody, StreamedBody};

/// What can be seen to be wrong with a request before anybody is asked for anything.
pub(super) fn check_request(request: &Request<Bytes>) -> Result<(), ExchangeError> {
    let refused = |reason: &str| Err(ExchangeError::BadRequest { reason: reason.to_owned() });
    if request.uri().path_and_query().is_none() {
        return refused("it has no path");
    }
    if *request.method() == Method::CONNECT {
        return refused("CONNECT is not an exchange");
    }
    Ok(())
}

/// `request` as it goes out along `route`, with `streamed` for its body where there is one.
pub(super) fn outgoing(
    request: Request<Bytes>,
    streamed: Option<&StreamedBody>,
    route: &Route,
    http2: bool,
) -> Result<Request<RequestBody>, String> {
    let (mut parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().ok_or("it has no path")?.clone();
    for name in KERNELS_OWN {
        parts.headers.remove(name);
    }
    if http2 {
        let mut uri = ::http::uri::Parts::default();
        uri.scheme = Some(::http::uri::Scheme::HTTPS);
        uri.authority = Some(route.authority.parse().map_err(|_| "its authority is not one".to_owned())?);
        uri.path_and_query = Some(target);
        parts.uri = Uri::from_parts(uri).map_err(|error| error.to_string())?;
        parts.version = Version::HTTP_2;
    } else {
        parts.uri = match route.proxy() {
            Some(Proxy::Forward { authorization }) => {
                if let Some(authorization) = authorization {
                    parts.headers.insert(::http::header::PROXY_AUTHORIZATION, authorization.clone());
                }
                absolute(route, target)?
            }
            _ => Uri::from(target),
        };
        parts.version = Version::HTTP_11;
        parts.headers.insert(HOST, host_value(route)?);
        frame(&mut parts, body.len(), streamed);
    }
    // What else the caller hung on the request is none of the peer's business, nor of the library's.
    parts.extensions.clear();
    let body = match streamed {
        Some(streamed) => RequestBody::Streamed(streamed.clone()),
        None => RequestBody::Whole(Full::new(body)),
    };
    Ok(Request::from_parts(parts, body))
}

/// Says in the headers of `parts` where the body ends: after `whole` bytes, unless it is `streamed`.
fn frame(parts: &mut Parts, whole: usize, streamed: Option<&StreamedBody>) {
    let announces = !matches!(parts.method, Method::GET | Method::HEAD);
    let bytes = match streamed {
        Some(streamed) => streamed.bytes(),
        None => Some(whole as u64),
    };
    match bytes {
        Some(0) if !announces => {}
        Some(bytes) => {
            parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes));
        }
        None => {
            parts.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
}

/// `target` as a proxy wants to hear it.
fn absolute(route: &Route, target: ::http::uri::PathAndQuery) -> Result<Uri, String> {
    let mut parts = ::http::uri::Parts::default();
    parts.scheme = Some(::http::uri::Scheme::HTTP);
    parts.authority = Some(route.authority.parse().map_err(|_| "its authority is not one".to_owned())?);
    parts.path_and_query = Some(target);
    Uri::from_parts(parts).map_err(|error| error.to_string())
}

/// How many bytes `request` takes as HTTP/1.1 text, body included, at the least.
pub(super) fn text_bytes(request: &Request<RequestBody>) -> u64 {
    let line = request.method().as_str().len() + request.uri().path().len() + " HTTP/1.1\r\n".len() + 1;
    let query = request.uri().query().map_or(0, |query| 1 + query.len());
    let head = line + query + header_bytes(request.headers()) + "\r\n".len();
    head as u64 + http_body::Body::size_hint(request.body()).exact().unwrap_or(0)
}

fn header_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum()
}

fn host_value(route: &Route) -> Result<HeaderValue, String> {
    HeaderValue::from_str(&route.authority).map_err(|_| "its Host is not a header value".to_owned())
}

/// Framing and the connection's own affairs are never the caller's to set.
const KERNELS_OWN: [HeaderName; 6] = [
    HOST,
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
    ::http::header::CONNECTION,
    ::http::header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];
