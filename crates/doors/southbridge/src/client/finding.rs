//! How declared services are found, and how connections to them are opened.
//!
//! # Source
//! K6, K7, K14.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use southbridge_kernel::Kernel;
use southbridge_kernel::discovery::{
    Discover, DiscoveryError, DnsDiscovery, Route, Security, SrvDiscovery, Way, certificate_name,
};
use southbridge_kernel::net::AddressPolicy;
use southbridge_kernel::tls::{Alpn, TlsProfile};
use southbridge_policy::pool::PeerLimits;
use southbridge_words::{Endpoint, Instant, ServiceName};

use super::declaration::{Service, ServiceDiscovery};
use super::routes::SharedTls;

/// A service whose addresses the program tells.
pub(super) struct Pushed {
    route: RefCell<Rc<Route>>,
}

impl Pushed {
    pub(super) fn set(&self, addresses: Vec<SocketAddr>) {
        let endpoints = addresses.into_iter().map(Endpoint::new).collect();
        let moved = Route { endpoints, ..(**self.route.borrow()).clone() };
        self.route.replace(Rc::new(moved));
    }
}

impl Discover for Pushed {
    fn discover<'a>(
        &'a self,
        service: &'a ServiceName,
        _deadline: Instant,
    ) -> LocalBoxFuture<'a, Result<Rc<Route>, DiscoveryError>> {
        let route = Rc::clone(&self.route.borrow());
        let found = if route.endpoints.is_empty() {
            Err(DiscoveryError::NotFound { step: "pushed address", name: service.to_string() })
        } else {
            Ok(route)
        };
        Box::pin(std::future::ready(found))
    }
}

/// Asks another discovery, and has connections opened as a service wants them.
struct Own {
    /// What the inner one is asked for.
    asked: ServiceName,
    inner: Rc<dyn Discover>,
    terms: Terms,
    last: RefCell<Option<(Rc<Route>, Rc<Route>)>>,
}

/// How a service is spoken to.
#[derive(Clone)]
struct Terms {
    peer_key: Arc<str>,
    security: Security,
    authority: Arc<str>,
    profile: TlsProfile,
    alpn: Alpn,
    way: Rc<Way>,
}

impl Own {
    async fn find(&self, deadline: Instant) -> Result<Rc<Route>, DiscoveryError> {
        let found = self.inner.discover(&self.asked, deadline).await?;
        if let Some((before, route)) = &*self.last.borrow()
            && before.endpoints == found.endpoints
        {
            return Ok(Rc::clone(route));
        }
        let route = Rc::new(self.terms.route(Arc::clone(&found.endpoints)));
        self.last.replace(Some((found, Rc::clone(&route))));
        Ok(route)
    }
}

impl Terms {
    fn route(&self, endpoints: Arc<[Endpoint]>) -> Route {
        let Self { peer_key, security, authority, profile, alpn, way } = self.clone();
        Route { peer_key, security, authority, endpoints, profile, alpn, way: Some(way) }
    }
}

impl Discover for Own {
    fn discover<'a>(
        &'a self,
        _service: &'a ServiceName,
        deadline: Instant,
    ) -> LocalBoxFuture<'a, Result<Rc<Route>, DiscoveryError>> {
        Box::pin(self.find(deadline))
    }

    fn distrust(&self, _service: &ServiceName) {
        self.inner.distrust(&self.asked);
    }
}

/// How `service` is found and spoken to; `declaration` tells its connections from those of an earlier one of its name.
pub(super) fn discovery(
    kernel: &Kernel,
    service: &Service,
    declaration: u64,
    tls: SharedTls,
) -> (Rc<dyn Discover>, Option<Rc<Pushed>>) {
    let looked_up = match &service.discovery {
        ServiceDiscovery::Addresses(_) => service.name.as_str(),
        ServiceDiscovery::Dns { host, .. } => host,
        ServiceDiscovery::Srv { name, .. } => name,
    };
    let host = service.host.as_deref().unwrap_or(looked_up);
    let secure = service.tls.is_some();
    let legacy = service.tls.as_ref().is_some_and(|tls| tls.legacy);
    let key: Arc<str> = format!("service:{}#{declaration}", service.name).into();
    let limits = &service.limits;
    let own = PeerLimits { connections_max: limits.connections_max, waiting_max: limits.waiting_max };
    let terms = Terms {
        peer_key: Arc::clone(&key),
        security: if secure { Security::Tls(certificate_name(host)) } else { Security::Plain },
        authority: host.into(),
        profile: if legacy { TlsProfile::Legacy } else { TlsProfile::Modern },
        alpn: if secure && !legacy { Alpn::Http2OrHttp1 } else { Alpn::Http1 },
        way: Rc::new(Way {
            key,
            addresses: Some(AddressPolicy::everything()),
            tls,
            proxy: None,
            limits: (own != PeerLimits::default()).then_some(own),
        }),
    };
    let dns = kernel.dns().clone();
    let (asked, inner): (_, Rc<dyn Discover>) = match &service.discovery {
        ServiceDiscovery::Addresses(addresses) => {
            let endpoints = addresses.iter().map(|address| Endpoint::new(*address)).collect();
            let pushed = Rc::new(Pushed { route: RefCell::new(Rc::new(terms.route(endpoints))) });
            return (Rc::clone(&pushed) as Rc<dyn Discover>, Some(pushed));
        }
        ServiceDiscovery::Dns { host, port } => (format!("{host}:{port}"), Rc::new(DnsDiscovery::http(dns))),
        ServiceDiscovery::Srv { prefix, name } => {
            (name.clone(), Rc::new(SrvDiscovery::new(dns, prefix, secure)))
        }
    };
    let asked = ServiceName::new(&asked);
    (Rc::new(Own { asked, inner, terms, last: RefCell::default() }), None)
}
