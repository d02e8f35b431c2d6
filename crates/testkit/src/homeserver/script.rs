//! What a fake homeserver does, per host.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;

use crate::certificates::{Alpn, CertificateKind};

/// One host, from handshake to answers. The default is healthy and has no `.well-known`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostScript {
    /// How it takes connections and requests.
    pub behaviour: Behaviour,
    /// What `/.well-known/matrix/server` says.
    pub well_known: WellKnown,
    /// Which HTTP versions it offers.
    pub alpn: Alpn,
    /// What is right or wrong with its certificate.
    pub certificate: CertificateKind,
    /// How long it thinks before each answer.
    pub latency: Duration,
    /// What it says when media is asked for.
    pub media: Media,
    /// Answers for targets that begin so; the first match wins, before all else.
    pub canned: Vec<(String, Canned)>,
}

/// How a host takes connections and requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// As it should.
    #[default]
    Healthy,
    /// Every request but `.well-known` gets this status, these headers, and a Matrix error.
    Status {
        /// The status code.
        status: u16,
        /// For example `Retry-After`.
        headers: Vec<(String, String)>,
    },
    /// Every request but `.well-known` gets a 502 in HTML, as from a reverse proxy.
    HtmlBadGateway,
    /// Resets the connection when it has read the client's hello.
    Reset,
    /// Never answers the client's hello.
    HangAfterAccept,
    /// Shakes hands, and never reads a request.
    HangAfterTls,
    /// Takes every request but `.well-known`, and never answers.
    HangAfterRequest,
}

/// What `/.well-known/matrix/server` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WellKnown {
    /// 404.
    #[default]
    Absent,
    /// `{"m.server": …}`.
    Delegate(String),
    /// Anything else.
    Canned(Canned),
    /// The same delegation, after so many redirects to itself with another query.
    Redirects {
        /// How many.
        hops: u32,
        /// What it says at last.
        delegate: String,
    },
    /// 302 to this URL.
    RedirectTo(String),
    /// Takes the request, and never answers.
    Hang,
}

/// A response, word for word (hyper adds the framing and the date).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canned {
    /// The status code.
    pub status: u16,
    /// In this order; a name may come twice.
    pub headers: Vec<(String, String)>,
    /// All of it.
    pub body: Bytes,
}

impl Canned {
    /// JSON with this status.
    pub fn json(status: u16, body: &str) -> Self {
        let headers = vec![("content-type".into(), "application/json".into())];
        Self { status, headers, body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    /// The same with one more header.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// What a host says when media is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Media {
    /// So many bytes: multipart on the authenticated path, bare on the legacy one.
    Bytes(u64),
    /// Elsewhere: a `Location` part on the authenticated path, 307 on the legacy one.
    Redirect(String),
    /// The authenticated path is `M_UNRECOGNIZED`; the legacy one gives so many bytes.
    LegacyOnly(u64),
}

impl Default for Media {
    fn default() -> Self {
        Self::Bytes(1000)
    }
}

type Rule = Box<dyn Fn(&str) -> Arc<HostScript> + Send + Sync>;

/// The scripts of all hosts.
#[derive(Default)]
pub(super) struct Scripts {
    hosts: RwLock<HashMap<String, Arc<HostScript>>>,
    otherwise: RwLock<Option<Rule>>,
    healthy: Arc<HostScript>,
}

impl Scripts {
    pub(super) fn set(&self, host: &str, script: HostScript) {
        let mut hosts = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
        hosts.insert(host.to_ascii_lowercase(), Arc::new(script));
    }

    pub(super) fn otherwise(&self, rule: Rule) {
        *self.otherwise.write().unwrap_or_else(PoisonError::into_inner) = Some(rule);
    }

    /// The script of `host`, which is in lower case and has no port.
    pub(super) fn get(&self, host: &str) -> Arc<HostScript> {
        if let Some(script) = self.hosts.read().unwrap_or_else(PoisonError::into_inner).get(host) {
            return Arc::clone(script);
        }
        match &*self.otherwise.read().unwrap_or_else(PoisonError::into_inner) {
            Some(rule) => rule(host),
            None => Arc::clone(&self.healthy),
        }
    }
}

impl fmt::Debug for Scripts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripts")
    }
}
