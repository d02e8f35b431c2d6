//! How a service's name becomes a route. Discovery is a plug-in (K6).

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use southbridge_words::{CertificateName, Endpoint, Instant, ServiceName};

use crate::dns::{Dns, DnsError};
use crate::tls::{Alpn, TlsProfile};

/// Where a service is, and whom to expect there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Services with the same key share connections.
    pub peer_key: Arc<str>,
    /// TLS and the name to verify, or plain TCP.
    pub security: Security,
    /// The value of `Host` (and of `:authority`).
    pub authority: Arc<str>,
    /// Where to connect. Never empty.
    pub endpoints: Arc<[Endpoint]>,
    /// Which TLS versions and ciphers to speak (K22).
    pub profile: TlsProfile,
    /// Which protocols to offer.
    pub alpn: Alpn,
}

/// How the bytes travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Security {
    /// TLS; the certificate must be valid for this name.
    Tls(CertificateName),
    /// Plain TCP, for `http://` on the forward proxy and declared services.
    Plain,
}

/// Why a name has no route.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// The name is not one that can be looked up.
    #[error("{name:?} is not a name that can be looked up: {reason}")]
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The sources answered, and there is no such name.
    #[error("{step} of {name} found nothing")]
    NotFound {
        /// The step: `srv`, `address`…
        step: &'static str,
        /// What was asked for.
        name: String,
    },
    /// A source failed to answer.
    #[error("{step} of {name} failed: {reason}")]
    Failed {
        /// The step.
        step: &'static str,
        /// What was asked for.
        name: String,
        /// What the source said.
        reason: String,
    },
    /// No answer came in time.
    #[error("discovery of {name} took longer than the request had left")]
    DeadlinePassed {
        /// What was asked for.
        name: String,
    },
}

/// A way of finding routes.
pub trait Discover {
    /// The route of `service` now. Must be cheap when it is known.
    ///
    /// # Errors
    /// [`DiscoveryError`] when there is none. The answer (or error) may be shared by many callers.
    fn discover<'a>(
        &'a self,
        service: &'a ServiceName,
        deadline: Instant,
    ) -> LocalBoxFuture<'a, Result<Rc<Route>, DiscoveryError>>;
}

/// One route that never changes.
#[derive(Clone, Debug)]
pub struct StaticDiscovery {
    route: Rc<Route>,
}

impl StaticDiscovery {
    /// Everything goes to `address`.
    pub fn new(authority: &str, address: SocketAddr, certificate: Option<CertificateName>) -> Self {
        let security = certificate.map_or(Security::Plain, Security::Tls);
        let peer_key = format!("static:{authority}@{address}").into();
        let endpoints = [Endpoint::new(address)].into();
        let (authority, profile, alpn) = (authority.into(), TlsProfile::Modern, Alpn::Http2OrHttp1);
        Self { route: Rc::new(Route { peer_key, security, authority, endpoints, profile, alpn }) }
    }
}

impl Discover for StaticDiscovery {
    fn discover<'a>(
        &'a self,
        _service: &'a ServiceName,
        _deadline: Instant,
    ) -> LocalBoxFuture<'a, Result<Rc<Route>, DiscoveryError>> {
        Box::pin(std::future::ready(Ok(Rc::clone(&self.route))))
    }
}

/// A `host:port` authority, looked up by address records. For everything that is not federation.
#[derive(Clone)]
pub struct DnsDiscovery {
    dns: Dns,
    secure: bool,
    alpn: Alpn,
    /// Dials this port instead of 443: test worlds cannot have that one.
    instead_of_443: Option<u16>,
}

impl DnsDiscovery {
    /// `https` authorities.
    pub fn https(dns: Dns, alpn: Alpn) -> Self {
        Self { dns, secure: true, alpn, instead_of_443: None }
    }

    /// `http` authorities: plain TCP.
    pub fn http(dns: Dns) -> Self {
        Self { dns, secure: false, alpn: Alpn::Http1, instead_of_443: None }
    }

    /// Dials `port` where the URL says 443.
    #[must_use]
    pub fn instead_of_443(mut self, port: Option<u16>) -> Self {
        self.instead_of_443 = port;
        self
    }

    async fn find(&self, service: &ServiceName) -> Result<Rc<Route>, DiscoveryError> {
        let default_port = if self.secure { 443 } else { 80 };
        let (host, port) = split_authority(service.as_str(), default_port)?;
        let port = self.instead_of_443.filter(|_| port == 443).unwrap_or(port);
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let answer = self.dns.addresses(bare).await.map_err(|error| dns_failed(bare, &error))?;
        if answer.value.is_empty() {
            return Err(DiscoveryError::NotFound { step: "address", name: bare.to_owned() });
        }
        let endpoints = answer.value.iter().map(|ip| Endpoint::new(SocketAddr::new(*ip, port))).collect();
        let security = if self.secure { Security::Tls(certificate_name(host)) } else { Security::Plain };
        let scheme = if self.secure { "https" } else { "http" };
        let lower = host.to_ascii_lowercase();
        let narrow = if self.alpn == Alpn::Http1 { "|h1" } else { "" };
        Ok(Rc::new(Route {
            peer_key: format!("{scheme}:{lower}|{port}{narrow}").into(),
            security,
            authority: service.as_str().into(),
            endpoints,
            profile: TlsProfile::Modern,
            alpn: self.alpn,
        }))
    }
}

impl Discover for DnsDiscovery {
    fn discover<'a>(
        &'a self,
        service: &'a ServiceName,
        _deadline: Instant,
    ) -> LocalBoxFuture<'a, Result<Rc<Route>, DiscoveryError>> {
        Box::pin(self.find(service))
    }
}

/// What a failure of DNS means for discovery.
pub fn dns_failed(name: &str, error: &DnsError) -> DiscoveryError {
    DiscoveryError::Failed { step: "address", name: name.to_owned(), reason: error.failure.to_string() }
}

/// Takes `host[:port]` apart.
///
/// # Errors
/// [`DiscoveryError::BadName`] when there is no host or the port is not one.
pub fn split_authority(authority: &str, default_port: u16) -> Result<(&str, u16), DiscoveryError> {
    let bad =
        |reason: &str| DiscoveryError::BadName { name: authority.to_owned(), reason: reason.to_owned() };
    let (host, port) = match authority.rfind(':').filter(|at| !authority[*at..].contains(']')) {
        Some(at) => (&authority[..at], Some(&authority[at + 1..])),
        None => (authority, None),
    };
    let port = match port {
        None => default_port,
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            port.parse().ok().filter(|port| *port != 0).ok_or_else(|| bad("its port is not 1 to 65535"))?
        }
        Some(_) => return Err(bad("its port is not a number")),
    };
    if host.is_empty() || host.contains('@') || host.contains('/') {
        return Err(bad("its host is not one"));
    }
    Ok((host, port))
}

/// The certificate name for a host as it stands in a URL: an address, or a DNS name in lower case.
pub fn certificate_name(host: &str) -> CertificateName {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(address) => CertificateName::Ip(address),
        Err(_) => CertificateName::Dns(host.to_ascii_lowercase().into()),
    }
}
