//! Reads the head of one request, and refuses what two readers could read in two ways.
//!
//! Both doors stand between a program that is trusted a little and peers that are not trusted at
//! all, so a head is either plain or refused: no bare line feeds, no folded lines, one way of
//! framing the body, one `Host`, one way to read the target.
//!
//! # Source
//! RFC 9112 §3 (request line and targets), §5 (fields), §6.3 (framing); RFC 9110 §7.6.1
//! (hop-by-hop fields); faults 9, 10 and 29.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, StatusCode, Version};

/// The head of a request, checked. It has no field in it that belongs to this hop.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// What is to be done.
    pub method: Method,
    /// To what.
    pub target: Target,
    /// `HTTP/1.0` or `HTTP/1.1`.
    pub version: Version,
    /// The end-to-end fields, in the order they came.
    pub headers: HeaderMap,
    /// What the caller shows to be let in.
    pub credentials: Credentials,
    /// How long the body is.
    pub framing: Framing,
    /// Whether the caller waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
}

/// The two forms of target that a proxy is asked for (RFC 9112 §3.2.2 and §3.2.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `scheme://authority/path?query`.
    Absolute {
        /// What stands before `://`, as it was written.
        scheme: Box<str>,
        /// What stands between `://` and the path, as it was written.
        authority: Box<str>,
        /// The rest, byte for byte.
        path_and_query: PathAndQuery,
    },
    /// `host:port`, with CONNECT only.
    Authority(Box<str>),
}

/// What stood in `Proxy-Authorization`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// There was none.
    Missing,
    /// One line.
    One(HeaderValue),
    /// Several: which of them counts is anybody's guess, so none does.
    Several,
}

/// How the end of the body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// By its length in bytes; zero where nothing was said.
    Length(u64),
    /// By its last chunk.
    Chunked,
}

/// Why a head is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// Bytes that no head has, or lines that do not end in CR LF.
    #[error("the request head cannot be read: {reason}")]
    Unreadable {
        /// What is wrong, and where.
        reason: String,
    },
    /// More than is taken.
    #[error("the request head exceeds {what_max}")]
    TooLarge {
        /// The bound, with its unit.
        what_max: &'static str,
    },
    /// The end of the body can be read in two ways, or in none.
    #[error("the framing of the request is ambiguous: {reason}")]
    AmbiguousFraming {
        /// Which two.
        reason: String,
    },
    /// The target is not one that can be asked for here.
    #[error("the request target is refused: {reason}")]
    Target {
        /// What is wrong with it.
        reason: String,
    },
    /// `Expect` with something other than `100-continue`.
    #[error("the only expectation that can be met is 100-continue")]
    Expectation,
}

impl HeadError {
    /// The status to answer with.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl RequestHead {
    /// Reads a head that ends in an empty line, as [`HeadScan`] finds it.
    ///
    /// # Errors
    /// [`HeadError`]; the connection must not be used for another request.
    pub fn parse(head: &Bytes) -> Result<Self, HeadError> {
        if HeadScan::default().advance(head)? != Some(head.len()) {
            return Err(unreadable("it does not end in one empty line"));
        }
        Self::parse_scanned(head)
    }

    /// [`Self::parse`] for a head that [`HeadScan`] has just found the end of.
    pub(super) fn parse_scanned(head: &Bytes) -> Result<Self, HeadError> {
        let mut space = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut raw = httparse::Request::new(&mut []);
        match raw.parse_with_uninit_headers(head, &mut space) {
            Ok(httparse::Status::Complete(length)) if length == head.len() => {}
            Ok(_) => return Err(unreadable("it ends early")),
            Err(httparse::Error::TooManyHeaders) => {
                return Err(HeadError::TooLarge { what_max: FIELDS_MAX_TEXT });
            }
            Err(error) => return Err(unreadable(&error.to_string())),
        }
        let (Some(method), Some(target), Some(minor)) = (raw.method, raw.path, raw.version) else {
            return Err(unreadable("the request line is not complete"));
        };
        let method =
            Method::from_bytes(method.as_bytes()).map_err(|_| unreadable("the method is not a token"))?;
        let version = if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
        let target = Target::parse(&method, head, target)?;
        let fields = Fields::read(head, raw.headers, version)?;
        let Fields { headers, credentials, framing, expects_continue } = fields;
        Ok(Self { method, target, version, headers, credentials, framing, expects_continue })
    }
}

impl Target {
    fn parse(method: &Method, head: &Bytes, target: &str) -> Result<Self, HeadError> {
        if let Some(found) = target.bytes().find(|byte| !byte.is_ascii_graphic() || *byte == b'#') {
            return Err(refused(format!("it has {:?} in it", char::from(found))));
        }
        if *method == Method::CONNECT {
            return Ok(Self::Authority(target.into()));
        }
        let Some((scheme, rest)) = target.split_once("://") else {
            return Err(refused("it is not an absolute one (scheme://authority/path)".to_owned()));
        };
        let path_at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(path_at);
        if !path.starts_with('/') {
            return Err(refused("it has no path".to_owned()));
        }
        let path_and_query = PathAndQuery::from_maybe_shared(head.slice_ref(path.as_bytes()))
            .map_err(|error| refused(format!("its path is not one ({error})")))?;
        if path_and_query.as_str() != path {
            return Err(refused("its path cannot be passed on as it stands".to_owned()));
        }
        Ok(Self::Absolute { scheme: scheme.into(), authority: authority.into(), path_and_query })
    }
}

/// Finds the end of a head as its bytes come in, and refuses stray line ends at once.
#[derive(Debug, Default)]
pub struct HeadScan {
    scanned: usize,
    line_start: usize,
    after_cr: bool,
}

impl HeadScan {
    /// Looks at what is new in `read`, which begins as it did the last time.
    /// The length of the head, its empty line included, once that is there.
    ///
    /// # Errors
    /// [`HeadError`] for a line that does not end in CR LF, a NUL, or more bytes than a head may have.
    pub fn advance(&mut self, read: &[u8]) -> Result<Option<usize>, HeadError> {
        for (at, byte) in read.iter().enumerate().skip(self.scanned) {
            match (*byte, self.after_cr) {
                (b'\n', true) => {
                    if at == self.line_start + 1 {
                        return within_bound(at + 1).map(|()| Some(at + 1));
                    }
                    self.line_start = at + 1;
                    self.after_cr = false;
                }
                (b'\n', false) => return Err(stray("line feed", at)),
                (_, true) => return Err(stray("carriage return", at)),
                (b'\r', false) => self.after_cr = true,
                (0, false) => return Err(stray("NUL", at)),
                (_, false) => {}
            }
        }
        self.scanned = read.len();
        within_bound(read.len()).map(|()| None)
    }
}

fn within_bound(length: usize) -> Result<(), HeadError> {
    if length > HEAD_BYTES_MAX { Err(HeadError::TooLarge { what_max: HEAD_BYTES_MAX_TEXT }) } else { Ok(()) }
}

struct Fields {
    headers: HeaderMap,
    credentials: Credentials,
    framing: Framing,
    expects_continue: bool,
}

impl Fields {
    fn read(head: &Bytes, raw: &[httparse::Header<'_>], version: Version) -> Result<Self, HeadError> {
        let named = Nominated::of(raw)?;
        let mut headers = HeaderMap::with_capacity(raw.len());
        let mut credentials = Credentials::Missing;
        let mut framing = FramingRead::default();
        let mut expects_continue = false;
        let mut hosts = 0;
        for field in raw {
            let name = HeaderName::from_bytes(field.name.as_bytes())
                .map_err(|_| unreadable("a field name is not a token"))?;
            match name.as_str() {
                "content-length" => framing.length(field.value)?,
                "transfer-encoding" => framing.coding(field.value, version)?,
                "expect" if field.value.eq_ignore_ascii_case(b"100-continue") => expects_continue = true,
                "expect" => return Err(HeadError::Expectation),
                "host" => hosts += 1,
                "proxy-authorization" => credentials.add(value(head, field)?),
                other if is_hop_by_hop(other) || named.has(other) => {}
                _ => drop(headers.append(name, value(head, field)?)),
            }
        }
        if hosts > 1 {
            return Err(unreadable("it has more than one Host"));
        }
        // RFC 9110 §10.1.1: an HTTP/1.0 caller cannot mean it.
        expects_continue &= version == Version::HTTP_11;
        Ok(Self { headers, credentials, framing: framing.decide()?, expects_continue })
    }
}

impl Credentials {
    fn add(&mut self, line: HeaderValue) {
        *self = match self {
            Self::Missing => Self::One(line),
            _ => Self::Several,
        };
    }
}

#[derive(Default)]
struct FramingRead {
    length: Option<u64>,
    chunked: bool,
}

impl FramingRead {
    fn length(&mut self, value: &[u8]) -> Result<(), HeadError> {
        if self.length.is_some() {
            return Err(ambiguous("more than one Content-Length"));
        }
        let digits = std::str::from_utf8(value).ok().filter(|text| is_digits(text));
        let length = digits.and_then(|text| text.parse().ok());
        self.length = Some(length.ok_or_else(|| ambiguous("Content-Length is not a number of bytes"))?);
        Ok(())
    }

    fn coding(&mut self, value: &[u8], version: Version) -> Result<(), HeadError> {
        if self.chunked {
            return Err(ambiguous("more than one Transfer-Encoding"));
        }
        if version == Version::HTTP_10 {
            return Err(ambiguous("Transfer-Encoding in HTTP/1.0"));
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            return Err(ambiguous("Transfer-Encoding other than chunked"));
        }
        self.chunked = true;
        Ok(())
    }

    fn decide(self) -> Result<Framing, HeadError> {
        match (self.length, self.chunked) {
            (Some(_), true) => Err(ambiguous("both Content-Length and Transfer-Encoding")),
            (None, true) => Ok(Framing::Chunked),
            (length, false) => Ok(Framing::Length(length.unwrap_or(0))),
        }
    }
}

/// The fields that `Connection` names: they are for this hop only.
struct Nominated(Vec<Box<str>>);

impl Nominated {
    fn of(raw: &[httparse::Header<'_>]) -> Result<Self, HeadError> {
        let mut names = Vec::new();
        for field in raw.iter().filter(|field| field.name.eq_ignore_ascii_case("connection")) {
            let text = std::str::from_utf8(field.value).map_err(|_| unreadable("Connection is not ASCII"))?;
            names.extend(text.split(',').map(str::trim).filter(|token| is_field(token)).map(Into::into));
        }
        Ok(Self(names))
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|token| token.eq_ignore_ascii_case(name))
    }
}

/// Whether a token of `Connection` names a field, and is not one of its own options.
fn is_field(token: &str) -> bool {
    !token.is_empty() && !token.eq_ignore_ascii_case("close") && !token.eq_ignore_ascii_case("keep-alive")
}

/// Whether the field `name` (in lower case) is about one hop only, and never passed on.
///
/// `Proxy-*` are all between the caller and us; so is what `Upgrade` and `TE` would begin.
pub fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection" | "keep-alive" | "te" | "trailer" | "trailers" | "transfer-encoding" | "upgrade"
    ) || name.starts_with("proxy-")
}

/// Takes the hop-by-hop fields, and those that `Connection` names, out of a response's.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(http::header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(http::header::CONNECTION)
            .iter()
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(',').map(str::trim))
            .filter(|token| {
                is_field(token) && !KEPT_FIELDS.iter().any(|field| token.eq_ignore_ascii_case(field))
            })
            .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
            .collect();
        named.iter().for_each(|name| drop(headers.remove(name)));
    }
    let gone: Vec<HeaderName> = headers.keys().filter(|name| is_hop_by_hop(name.as_str())).cloned().collect();
    gone.iter().for_each(|name| drop(headers.remove(name)));
}

fn value(head: &Bytes, field: &httparse::Header<'_>) -> Result<HeaderValue, HeadError> {
    let shared = if field.value.is_empty() { Bytes::new() } else { head.slice_ref(field.value) };
    HeaderValue::from_maybe_shared(shared)
        .map_err(|_| unreadable(&format!("the value of {} has a control character", field.name)))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn unreadable(reason: &str) -> HeadError {
    HeadError::Unreadable { reason: reason.to_owned() }
}

fn stray(what: &str, at: usize) -> HeadError {
    HeadError::Unreadable { reason: format!("stray {what} at byte {at}") }
}

fn ambiguous(reason: &str) -> HeadError {
    HeadError::AmbiguousFraming { reason: reason.to_owned() }
}

fn refused(reason: String) -> HeadError {
    HeadError::Target { reason }
}

/// What a peer may not take away from its own message by naming it in `Connection`.
const KEPT_FIELDS: [&str; 2] = ["content-length", "content-type"];

/// The longest head taken. Synapse's have 500 to 1,500 bytes; a path with a long event list 8 KiB.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEAD_BYTES_MAX_TEXT: &str = "65536 bytes";
/// The most fields taken. Synapse sends seven, and one more for each signing key.
const FIELDS_MAX: usize = 100;
const FIELDS_MAX_TEXT: &str = "100 fields";

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
