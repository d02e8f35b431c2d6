//! How a service's name becomes a route. Discovery is a plug-in (K6).

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use southbridge_words::{CertificateName, Endpoint, Instant, ServiceName};

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
        Self { route: Rc::new(Route { peer_key, security, authority: authority.into(), endpoints }) }
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

/// The certificate name for a host as it stands in a URL: an address, or a DNS name in lower case.
pub fn certificate_name(host: &str) -> CertificateName {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(address) => CertificateName::Ip(address),
        Err(_) => CertificateName::Dns(host.to_ascii_lowercase().into()),
    }
}
