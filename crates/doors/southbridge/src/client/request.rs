//! A request of the client, as a program writes it, and as it goes to the I/O thread.
//!
//! # Source
//! K19 (what must not get into a head); RFC 9110 §5.5, §7.2; issue 4, item 2.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use southbridge_kernel::exchange::Repeat;
use southbridge_policy::ranker::Demand;
use southbridge_words::Class;
use url::Url;

use super::config::{Auth, ClientConfig, Timeouts};
use super::decode::ACCEPTED;
use super::given::is_pair;
use super::multipart::{Multipart, OpenFile, Segment};
use super::proxy::{basic, basic_of};
use super::{ClientError, Fed};

/// A request. What is `None` is as the client has it.
#[derive(Clone, Debug)]
pub struct Request {
    /// What to do.
    pub method: Method,
    /// Where. A name and a password in it become Basic authorization.
    pub url: Url,
    /// Appended to the query, form-encoded.
    pub params: Vec<(String, String)>,
    /// Headers. `Content-Length`, `Transfer-Encoding`, `Connection` and the like are the kernel's business and left
    /// out; `Host` is that of the URL.
    pub headers: HeaderMap,
    /// What goes along.
    pub body: Body,
    /// As whom to come.
    pub auth: Option<Auth>,
    /// How long to wait for what.
    pub timeouts: Option<Timeouts>,
    /// Redirects that are followed; zero delivers them.
    pub redirects_max: Option<u32>,
    /// Whether an encoded body is asked for, and decoded.
    pub decompress: Option<bool>,
    /// Bytes of the whole response that are taken, decoded.
    pub body_bytes_max: Option<u64>,
    /// Cookies for this request only.
    pub cookies: Vec<(String, String)>,
    /// How urgent it is. Default `Interactive`.
    pub class: Class,
    /// Whether it may be sent again when its first sending may have reached the peer. Default: whether the method is
    /// idempotent.
    pub repeat: Option<Repeat>,
    /// Whether to be refused at once when the host has been failing. Default `Patient`: only after minutes.
    pub demand: Demand,
    /// The mark under which it is made, for people who ask what is under way.
    pub mark: Option<Arc<str>>,
}

/// What goes along with a request.
#[derive(Clone, Debug, Default)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// These bytes.
    Bytes(Bytes),
    /// JSON, serialised already.
    Json(Bytes),
    /// A form (`application/x-www-form-urlencoded`).
    Form(Vec<(String, String)>),
    /// A form with files (`multipart/form-data`).
    Multipart(Multipart),
    /// What is in a file.
    File(std::path::PathBuf),
    /// What is in a file that is open.
    Open(OpenFile),
    /// What the application feeds, of `bytes` in all where that is known. Only with `Client::open`.
    Stream {
        /// How many bytes there will be.
        bytes: Option<u64>,
    },
}

impl Request {
    /// A request for an absolute URL.
    ///
    /// # Errors
    /// [`ClientError::InvalidRequest`] when it is none that can be asked for.
    pub fn new(method: Method, url: &str) -> Result<Self, ClientError> {
        let url =
            Url::parse(url).map_err(|error| ClientError::invalid(format!("{url:?} is no URL: {error}")))?;
        Ok(Self::at(method, url))
    }

    /// A request for `url`.
    pub fn at(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            params: Vec::new(),
            headers: HeaderMap::new(),
            body: Body::Empty,
            auth: None,
            timeouts: None,
            redirects_max: None,
            decompress: None,
            body_bytes_max: None,
            cookies: Vec::new(),
            class: Class::Interactive,
            repeat: None,
            demand: Demand::Patient,
            mark: None,
        }
    }

    /// Adds a header. Checked here, so that nothing gets into a head that is not one header (K19).
    ///
    /// # Errors
    /// [`ClientError::InvalidRequest`] names what is wrong with it.
    pub fn header(&mut self, name: &str, value: &[u8]) -> Result<(), ClientError> {
        let parsed = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| ClientError::invalid(format!("{name:?} is not the name of a header")))?;
        let mut value = HeaderValue::from_bytes(value).map_err(|_| {
            ClientError::invalid(format!(
                "the value of {name} has bytes that no header has (CR, LF, NUL and such)"
            ))
        })?;
        value.set_sensitive(parsed == AUTHORIZATION || parsed == COOKIE);
        self.headers.append(parsed, value);
        Ok(())
    }
}

/// A request that has been checked, with the client's settings in it: what goes to the I/O thread.
pub(super) struct Prepared {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) payload: Payload,
    pub(super) timeouts: Timeouts,
    pub(super) redirects_max: u32,
    pub(super) decompress: bool,
    pub(super) body_bytes_max: u64,
    pub(super) cookies: Vec<(String, String)>,
    pub(super) class: Class,
    pub(super) repeat: Repeat,
    pub(super) demand: Demand,
    pub(super) mark: Option<Arc<str>>,
}

/// What goes along, ready to go.
pub(super) enum Payload {
    Whole(Bytes),
    Segments(Vec<Segment>),
    Fed { fed: Fed, bytes: Option<u64> },
}

impl Request {
    /// Checks the request and puts the settings of the client into it; `fed` is where the pieces of a streamed body
    /// come from.
    pub(super) fn prepare(self, config: &ClientConfig, fed: Option<Fed>) -> Result<Prepared, ClientError> {
        let timeouts = self.timeouts.unwrap_or(config.timeouts);
        timeouts.validate()?;
        let mut url = self.url;
        check_url(&url)?;
        check_method(&self.method)?;
        add_params(&mut url, config.params.iter().chain(&self.params));
        let mut headers = self.headers;
        if headers.is_empty() {
            // Room for those that every request has: a map that is left to grow has it for twice as many.
            headers.reserve(DEFAULTS + config.headers.len());
        }
        add_missing(&mut headers, &config.headers);
        check_host(&mut headers, &url)?;
        let own = basic_of(&url);
        let auth = match (self.auth.as_ref().or(config.auth.as_ref()), own) {
            (_, Some(own)) => Some(own),
            (Some(auth), None) => Some(auth.value()?),
            (None, None) => None,
        };
        if let (Some(auth), false) = (auth, headers.contains_key(AUTHORIZATION)) {
            headers.insert(AUTHORIZATION, auth);
        }
        let _bare = url.set_username("").and_then(|()| url.set_password(None));
        let payload = self.body.pack(&mut headers, fed)?;
        for (name, value) in &self.cookies {
            check_cookie(name, value)?;
        }
        let decompress = self.decompress.unwrap_or(config.decompress);
        let defaults: [_; DEFAULTS] = [
            (ACCEPT, Some("*/*")),
            (USER_AGENT, Some(USER_AGENT_VALUE)),
            (ACCEPT_ENCODING, decompress.then_some(ACCEPTED)),
        ];
        for (name, value) in defaults {
            if let (Some(value), false) = (value, headers.contains_key(&name)) {
                headers.insert(name, HeaderValue::from_static(value));
            }
        }
        let repeat =
            self.repeat.unwrap_or(if self.method.is_idempotent() { Repeat::Safe } else { Repeat::Never });
        Ok(Prepared {
            method: self.method,
            url,
            headers,
            payload,
            timeouts,
            redirects_max: self.redirects_max.unwrap_or(config.redirects_max),
            decompress,
            body_bytes_max: self.body_bytes_max.unwrap_or(config.limits.whole_bytes_max),
            cookies: self.cookies,
            class: self.class,
            repeat,
            demand: self.demand,
            mark: self.mark,
        })
    }
}

impl Body {
    fn pack(self, headers: &mut HeaderMap, fed: Option<Fed>) -> Result<Payload, ClientError> {
        let mut is = |kind: &str| -> Result<(), ClientError> {
            if !headers.contains_key(CONTENT_TYPE) {
                let value =
                    HeaderValue::from_str(kind).map_err(|_| ClientError::invalid("the type of its body"))?;
                headers.insert(CONTENT_TYPE, value);
            }
            Ok(())
        };
        Ok(match self {
            Self::Empty => Payload::Whole(Bytes::new()),
            Self::Bytes(bytes) => Payload::Whole(bytes),
            Self::Json(bytes) => {
                is("application/json")?;
                Payload::Whole(bytes)
            }
            Self::Form(fields) => {
                is("application/x-www-form-urlencoded")?;
                let mut form = url::form_urlencoded::Serializer::new(String::new());
                form.extend_pairs(fields);
                Payload::Whole(form.finish().into())
            }
            Self::Multipart(multipart) => {
                let (kind, segments) = multipart.segments()?;
                is(&kind)?;
                match Segment::all_in_memory(&segments) {
                    Some(bytes) => Payload::Whole(bytes),
                    None => Payload::Segments(segments),
                }
            }
            Self::File(path) => Payload::Segments(vec![Segment::File(path)]),
            Self::Open(file) => Payload::Segments(vec![Segment::Open(file)]),
            Self::Stream { bytes } => match fed {
                Some(fed) => Payload::Fed { fed, bytes },
                None => return Err(ClientError::invalid("a body that is fed needs Client::open")),
            },
        })
    }
}

impl Auth {
    fn value(&self) -> Result<HeaderValue, ClientError> {
        match self {
            Self::Basic { user, .. } if user.contains(':') => {
                Err(ClientError::invalid("the user of Basic authorization has a colon in it"))
            }
            Self::Basic { user, password } => basic(user.as_bytes(), password.expose())
                .ok_or_else(|| ClientError::invalid("the authorization is no header value")),
            Self::Bearer(token) => {
                let mut value = HeaderValue::from_bytes(&[b"Bearer ", token.expose()].concat())
                    .map_err(|_| ClientError::invalid("the token has bytes that no header has"))?;
                value.set_sensitive(true);
                Ok(value)
            }
        }
    }
}

fn check_url(url: &Url) -> Result<(), ClientError> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(ClientError::invalid(format!("{}: only http and https are spoken", url.scheme())));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(ClientError::invalid("its URL has no host"));
    }
    if url.port() == Some(0) {
        return Err(ClientError::invalid("port 0 is no port"));
    }
    if url.as_str().len() > URL_MAX {
        return Err(ClientError::invalid(format!(
            "its URL has {} bytes, the most is {URL_MAX}",
            url.as_str().len()
        )));
    }
    Ok(())
}

fn check_method(method: &Method) -> Result<(), ClientError> {
    if *method == Method::CONNECT {
        return Err(ClientError::invalid("CONNECT is for proxies"));
    }
    Ok(())
}

fn add_params<'a>(url: &mut Url, params: impl Iterator<Item = &'a (String, String)>) {
    let mut params = params.peekable();
    if params.peek().is_some() {
        url.query_pairs_mut().extend_pairs(params);
    }
}

fn add_missing(headers: &mut HeaderMap, defaults: &HeaderMap) {
    for name in defaults.keys() {
        if !headers.contains_key(name) {
            for value in defaults.get_all(name) {
                headers.append(name, value.clone());
            }
        }
    }
}

/// Other clients' adapters say the host again; one that says another is asking for something that is not done.
fn check_host(headers: &mut HeaderMap, url: &Url) -> Result<(), ClientError> {
    let Some(host) = headers.remove(HOST) else { return Ok(()) };
    let own = authority(url);
    let same = host.to_str().is_ok_and(|host| {
        let default = if url.scheme() == "https" { ":443" } else { ":80" };
        host.eq_ignore_ascii_case(&own)
            || host.strip_suffix(default).is_some_and(|host| host.eq_ignore_ascii_case(&own))
    });
    if same { Ok(()) } else { Err(ClientError::invalid(format!("Host is that of the URL, {own}"))) }
}

/// The host of `url`, with its port where that is not the scheme's own.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn check_cookie(name: &str, value: &str) -> Result<(), ClientError> {
    if !is_pair(name, value) {
        return Err(ClientError::invalid(format!("the cookie {name:?} has in it what no cookie has")));
    }
    Ok(())
}

/// The headers that are put into a request which has none.
const DEFAULTS: usize = 3;
const USER_AGENT_VALUE: &str = concat!("southbridge/", env!("CARGO_PKG_VERSION"));
/// What common servers take for a whole head.
const URL_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use southbridge_words::Secret;

    use super::*;

    fn prepare(request: Request) -> Result<Prepared, ClientError> {
        request.prepare(&ClientConfig::default(), None)
    }

    fn get(url: &str) -> Request {
        Request::new(Method::GET, url).unwrap()
    }

    /// Nothing that is put into a request can become a second header, or a second request.
    #[test]
    fn a_head_cannot_be_split() {
        let mut request = get("http://a.test/");
        for value in ["x\r\nEvil: 1", "x\nEvil: 1", "x\0", "x\r"] {
            assert!(request.header("X", value.as_bytes()).is_err(), "{value:?}");
        }
        for name in ["X\r\nEvil", "X:", "", "X Y", "X\n"] {
            assert!(request.header(name, b"1").is_err(), "{name:?}");
        }
        let bearer = Some(Auth::Bearer(Secret::new(*b"x\r\nEvil: 1")));
        assert!(prepare(Request { auth: bearer, ..get("http://a.test/") }).is_err());
        let cookies = vec![("a".to_owned(), "b\r\nEvil: 1".to_owned())];
        assert!(prepare(Request { cookies, ..get("http://a.test/") }).is_err());
        let prepared = prepare(get("http://a.test/x\r\nEvil: 1?y=\r\nEvil")).unwrap();
        assert_eq!(prepared.url.as_str(), "http://a.test/xEvil:%201?y=Evil");
    }

    #[test]
    fn what_cannot_be_asked_for_is_refused() {
        for url in ["ftp://a.test/", "file:///x", "http://a.test:0/", "data:x"] {
            assert!(Request::new(Method::GET, url).and_then(prepare).is_err(), "{url}");
        }
        assert!(Request::new(Method::GET, "a.test/x").is_err());
        assert!(prepare(Request { method: Method::CONNECT, ..get("http://a.test/") }).is_err());
        let mut other_host = get("http://a.test:81/");
        other_host.header("Host", b"b.test").unwrap();
        assert!(prepare(other_host).is_err());
        let mut same_host = get("http://a.test/");
        same_host.header("Host", b"A.test:80").unwrap();
        assert!(prepare(same_host).is_ok());
    }

    /// Ten thousand may wait, each with its headers.
    #[test]
    fn a_plain_request_has_room_for_its_headers_and_no_more() {
        let prepared = prepare(get("http://a.test/")).unwrap();
        assert_eq!((prepared.headers.len(), prepared.headers.capacity()), (DEFAULTS, DEFAULTS));
    }

    #[test]
    fn a_name_in_the_url_is_basic_authorization_and_leaves_the_url() {
        let prepared = prepare(get("http://us%3Aer:p%40ss@a.test/")).unwrap();
        assert_eq!(prepared.url.as_str(), "http://a.test/");
        assert_eq!(prepared.headers[AUTHORIZATION], "Basic dXM6ZXI6cEBzcw==");
        assert!(prepared.headers[AUTHORIZATION].is_sensitive());
    }

    #[test]
    fn params_and_forms_are_encoded() {
        let params = vec![("a b".to_owned(), "\u{e9}&=".to_owned())];
        let form = Body::Form(params.clone());
        let request = Request { params, body: form, method: Method::POST, ..get("http://a.test/?x=1") };
        let prepared = prepare(request).unwrap();
        assert_eq!(prepared.url.query(), Some("x=1&a+b=%C3%A9%26%3D"));
        assert_eq!(prepared.headers[CONTENT_TYPE], "application/x-www-form-urlencoded");
        assert!(matches!(prepared.payload, Payload::Whole(body) if body == "a+b=%C3%A9%26%3D"));
        assert_eq!(prepared.repeat, Repeat::Never);
    }
}
