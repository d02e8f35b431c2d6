//! What a submission of the client is answered with.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, Version};
use hyper::ext::ReasonPhrase;
use url::Url;

use super::cookies::CookieView;
use super::readiness::Readiness;
use crate::bus_port::{BusProgress, RefusedPdu};

/// What a submission is answered with.
#[derive(Debug)]
#[non_exhaustive]
pub enum Answer {
    /// A whole response.
    Response(Box<Response>),
    /// The head of a response whose body is drawn; its `body` is empty.
    Head(Box<Response>),
    /// What was downloaded.
    Saved(Box<Saved>),
    /// What is in the jar.
    Cookies(Vec<CookieView>),
    /// Which services can be reached.
    Readiness(Box<Readiness>),
    /// The response to a request that went past the client (`PortRequest`).
    Plain(Box<http::Response<Bytes>>),
    /// How far a bus has come ([`crate::bus_port`]).
    Progress(Box<BusProgress>),
    /// What was carried is there; with what the destination says against single PDUs.
    Carried(Vec<RefusedPdu>),
    /// It has been done.
    Done,
}

impl From<http::Response<Bytes>> for Answer {
    fn from(response: http::Response<Bytes>) -> Self {
        Self::Plain(Box::new(response))
    }
}

/// A response.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its status.
    pub status: StatusCode,
    /// What the peer called it, where that is not its usual name.
    pub reason: Option<ReasonPhrase>,
    /// Which HTTP it came by.
    pub version: Version,
    /// Its headers, as they came: also where the body has been decoded.
    pub headers: HeaderMap,
    /// Where it came from, after all redirects.
    pub url: Url,
    /// The redirects that led there, the first first.
    pub history: Vec<Visited>,
    /// The body.
    pub body: Bytes,
    /// Whether the body has been decoded, so that `Content-Encoding` and `Content-Length` no longer hold.
    pub decoded: bool,
    /// What came after the body.
    pub trailers: Option<HeaderMap>,
    /// How long it took.
    pub timing: Timing,
}

impl Response {
    /// What its status is called: by the peer, and otherwise by everybody; nothing where neither knows a name.
    pub fn reason(&self) -> Cow<'_, str> {
        match self.reason.as_ref().map(ReasonPhrase::as_bytes) {
            None => self.status.canonical_reason().unwrap_or_default().into(),
            // What is not UTF-8 is taken byte by byte, as fields are.
            Some(said) => std::str::from_utf8(said)
                .map_or_else(|_| said.iter().copied().map(char::from).collect::<String>().into(), Cow::from),
        }
    }
}

/// A redirect that was followed.
#[derive(Clone, Debug)]
pub struct Visited {
    /// Its status.
    pub status: StatusCode,
    /// Where it stood.
    pub url: Url,
    /// Its headers.
    pub headers: HeaderMap,
}

/// How long a response took, from its arrival on the I/O thread, by the kernel's clock (K11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// Until the head of the last response was there.
    pub head: Duration,
    /// Until all of it was there; that of the head where the body is drawn.
    pub total: Duration,
}

/// What was downloaded.
#[derive(Clone, Debug)]
pub struct Saved {
    /// The response; its body is in the file.
    pub response: Response,
    /// The file.
    pub path: PathBuf,
    /// How many bytes it has.
    pub bytes: u64,
    /// How many of them were there already, from an earlier attempt.
    pub resumed_at: u64,
}
