//! How a client is set up.
//!
//! # Units
//! Bytes and durations.
//!
//! # Source
//! K14, K15; issue 4, item 2. Each default says why.

use std::path::PathBuf;
use std::time::Duration;

use http::HeaderMap;
use southbridge_kernel::net::AddressPolicy;
use southbridge_words::Secret;
use url::Url;

use super::ClientError;
use super::given::is_pair;
use super::proxy::ProxyRules;

/// How a client is set up.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// What relative URLs are relative to. Default none.
    pub base_url: Option<Url>,
    /// Sent with every request that does not have them itself. Default none.
    pub headers: HeaderMap,
    /// Appended to the query of every request. Default none.
    pub params: Vec<(String, String)>,
    /// As whom to come. Default nobody.
    pub auth: Option<Auth>,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// Redirects that are followed for one request; zero delivers them. Default 20, as browsers do.
    pub redirects_max: u32,
    /// What of a request may follow a redirect from https to http. Default `WithoutBody`.
    pub downgrade: Downgrade,
    /// Whether encoded bodies are asked for, and decoded. Default true.
    pub decompress: bool,
    /// How much is taken of a body.
    pub limits: BodyLimits,
    /// Whether cookies are kept and sent. Default true.
    pub cookies: bool,
    /// Names and values of cookies that are sent with every request, until a peer sets one of that name or the request
    /// has one; not to another origin than the program has asked. Default none.
    pub cookies_always: Vec<(String, String)>,
    /// Which addresses may be dialled. Default [`Reach::Anywhere`].
    pub reach: Reach,
    /// Connections at a time to one origin that speaks HTTP/1.1. Default: as many as the kernel gives a peer (8).
    pub connections_max: Option<u32>,
    /// Whether HTTP/2 is offered to https peers. Default true.
    pub http2: bool,
    /// Who stands between. Default [`ProxyChoice::Environment`].
    pub proxy: ProxyChoice,
    /// Whom to trust, and as whom to come. Default: as the kernel does.
    pub tls: Option<ClientTls>,
}

/// How long to wait for what. Timeouts become deadlines when the request arrives on the I/O thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until there is a connection, our own queue included. Default 10 s.
    pub connect: Option<Duration>,
    /// While the peer neither takes nor gives a byte. Default 60 s.
    pub read: Option<Duration>,
    /// For all of it: redirects and the body of the response included. Default none: a long body may take long,
    /// as long as it comes.
    pub total: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Some(Duration::from_secs(10)), read: Some(Duration::from_secs(60)), total: None }
    }
}

/// How much is taken of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimits {
    /// Bytes of a whole response, decoded. Default 256 MiB. Streams and downloads have no such bound of their own.
    pub whole_bytes_max: u64,
    /// How many times larger than what came what is decoded may be, once it is past `ratio_free_bytes`. Default 250:
    /// repetitive JSON comes to 50 or 100, a bomb to a thousand and more.
    pub ratio_max: u32,
    /// Decoded bytes up to which the ratio does not matter. Default 1 MiB.
    pub ratio_free_bytes: u64,
    /// Bytes of a stream that wait to be drawn, or fed. Default 128 KiB.
    pub buffer_bytes: usize,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self {
            whole_bytes_max: 256 << 20,
            ratio_max: 250,
            ratio_free_bytes: 1 << 20,
            buffer_bytes: 128 << 10,
        }
    }
}

/// As whom to come.
#[derive(Clone, Debug)]
pub enum Auth {
    /// A name and a password (RFC 7617).
    Basic {
        /// The name; no colon in it.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A token (RFC 6750).
    Bearer(Secret),
}

/// Which addresses may be dialled. The deny policy of the kernel goes on holding for federation.
#[derive(Clone, Debug)]
pub enum Reach {
    /// Whatever the program names, loopback and private networks included. A public server cannot redirect into
    /// those, however: that a stranger has named.
    Anywhere,
    /// What this policy allows.
    Policy(AddressPolicy),
}

/// What of a request may follow a redirect from https to http.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Downgrade {
    /// Nothing: such redirects are refused.
    Refuse,
    /// A request without a body, and without authorization.
    WithoutBody,
    /// Everything but the authorization.
    Follow,
}

/// Who stands between.
#[derive(Clone, Debug)]
pub enum ProxyChoice {
    /// Whoever `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` name when the client is made.
    Environment,
    /// Nobody.
    Direct,
    /// Whoever these rules name.
    Rules(ProxyRules),
}

/// Whom to trust, and as whom to come. The files are read when the client is made.
#[derive(Clone, Debug, Default)]
pub struct ClientTls {
    /// PEM files of certificate authorities that are trusted as well.
    pub ca_files: Vec<PathBuf>,
    /// Whether the system's are not trusted: only those of `ca_files` are then. Default false.
    pub only_ca_files: bool,
    /// PEM files with our certificate chain and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Whether peers may speak TLS 1.0 and 1.1 (K22). Default false.
    pub legacy: bool,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            base_url: None,
            headers: HeaderMap::new(),
            params: Vec::new(),
            auth: None,
            timeouts: Timeouts::default(),
            redirects_max: 20,
            downgrade: Downgrade::WithoutBody,
            decompress: true,
            limits: BodyLimits::default(),
            cookies: true,
            cookies_always: Vec::new(),
            reach: Reach::Anywhere,
            connections_max: None,
            http2: true,
            proxy: ProxyChoice::Environment,
            tls: None,
        }
    }
}

impl ClientConfig {
    /// Whether these settings make sense.
    ///
    /// # Errors
    /// [`ClientError::InvalidSetting`] names the first that does not.
    pub fn validate(&self) -> Result<(), ClientError> {
        let invalid =
            |setting, reason: &str| Err(ClientError::InvalidSetting { setting, reason: reason.to_owned() });
        if let Some(url) = &self.base_url
            && (url.cannot_be_a_base() || !matches!(url.scheme(), "http" | "https"))
        {
            return invalid("base_url", "it must be an http or https URL");
        }
        if self.limits.ratio_max == 0 {
            return invalid("limits.ratio_max", "it is zero; one is what is not encoded at all");
        }
        if self.connections_max == Some(0) {
            return invalid("connections_max", "it is zero; leave it out for the kernel's own bound");
        }
        if self.limits.buffer_bytes == 0 {
            return invalid("limits.buffer_bytes", "it is zero, and nothing would ever flow");
        }
        if let Some((name, _)) = self.cookies_always.iter().find(|(name, value)| !is_pair(name, value)) {
            return invalid("cookies", &format!("{name:?} has in it what no cookie has"));
        }
        self.timeouts.validate()
    }
}

impl Timeouts {
    /// Whether these make sense.
    ///
    /// # Errors
    /// [`ClientError::InvalidSetting`] names the first that does not.
    pub fn validate(&self) -> Result<(), ClientError> {
        let all = [
            ("timeouts.connect", self.connect),
            ("timeouts.read", self.read),
            ("timeouts.total", self.total),
        ];
        match all.into_iter().find(|(_, timeout)| timeout.is_some_and(|timeout| timeout.is_zero())) {
            Some((setting, _)) => Err(ClientError::InvalidSetting {
                setting,
                reason: "it is zero; leave it out for none".to_owned(),
            }),
            None => Ok(()),
        }
    }
}
