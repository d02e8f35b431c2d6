//! A service whose address is written down.

use std::net::SocketAddr;
use std::rc::Rc;

use futures_util::future::LocalBoxFuture;
use southbridge_words::{CertificateName, Endpoint, Instant, ServiceName};

use super::{Discover, DiscoveryError, Route, Security};
use crate::tls::{Alpn, TlsProfile};

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
        Self { route: Rc::new(Route { peer_key, security, authority, endpoints, profile, alpn, way: None }) }
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
