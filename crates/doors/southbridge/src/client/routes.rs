//! Where the client's requests go: a declared service, or a host by its URL, directly or through a proxy.
//!
//! # Source
//! K6, K9; DESIGN decisions 9 and 10. Ranks, limits and statistics are kept by origin (`https://host:port`), so that
//! they are told apart from the Matrix server of the same name.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use rustc_hash::FxHashMap;
use southbridge_kernel::Kernel;
use southbridge_kernel::discovery::{
    Discover, DiscoveryError, Proxy, Route, Security, Way, certificate_name, dns_failed,
};
use southbridge_kernel::dns::Dns;
use southbridge_kernel::exchange::Attempts;
use southbridge_kernel::net::{AddressPolicy, Network};
use southbridge_kernel::tls::{Alpn, TlsConnector, TlsProfile};
use southbridge_policy::pool::PeerLimits;
use southbridge_policy::ranker::Demand;
use southbridge_words::{Endpoint, Instant, ServiceName};
use url::{Position, Url};

use super::config::{ProxyChoice, Reach};
use super::proxy::ProxyServer;
use super::request::authority;
use super::settings::Settings;

/// Who is asked: for the ranks, and to get there.
#[derive(Clone)]
pub(super) struct Destination {
    pub(super) service: ServiceName,
    pub(super) discovery: Rc<dyn Discover>,
    pub(super) attempts: Attempts,
    /// How patient requests are while it is down, whatever they say themselves.
    pub(super) demand: Option<Demand>,
}

/// The origins that a client has asked.
#[derive(Default)]
pub(super) struct Origins {
    /// By origin; those that strangers named apart from those that the program named.
    known: [RefCell<FxHashMap<Box<str>, Destination>>; 2],
}

/// Who named a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NamedBy {
    Program,
    /// A public server, by a redirect.
    Stranger,
}

impl Origins {
    /// Where `url` leads.
    pub(super) fn find(&self, url: &Url, by: NamedBy, settings: &Settings, kernel: &Kernel) -> Destination {
        let known = &self.known[usize::from(by == NamedBy::Stranger)];
        let origin = &url[..Position::BeforePath];
        if let Some(found) = known.borrow().get(origin) {
            return found.clone();
        }
        let made = Destination {
            service: ServiceName::new(origin),
            discovery: Rc::new(OriginDiscovery::new(url, by, settings, kernel)),
            attempts: Attempts::default(),
            demand: None,
        };
        let mut known = known.borrow_mut();
        if known.len() >= ORIGINS_MAX {
            // Nothing is lost but the work of making them again.
            known.clear();
        }
        known.insert(origin.into(), made.clone());
        made
    }
}

/// Addresses, and the route that they make.
type Found = (Arc<[IpAddr]>, Rc<Route>);

/// Finds one origin by the address records of its host, or of the proxy before it.
struct OriginDiscovery {
    dns: Dns,
    /// Whose addresses are dialled.
    host: Arc<str>,
    port: u16,
    security: Security,
    authority: Arc<str>,
    peer_key: Arc<str>,
    profile: TlsProfile,
    alpn: Alpn,
    way: Rc<Way>,
    /// The route of before, while its addresses are the same.
    last: RefCell<Option<Found>>,
}

impl OriginDiscovery {
    fn new(url: &Url, by: NamedBy, settings: &Settings, kernel: &Kernel) -> Self {
        let secure = url.scheme() == "https";
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or(if secure { 443 } else { 80 });
        let server = match (&settings.config.proxy, &kernel.surroundings().network) {
            // The proxy of the environment is no part of a world that a test makes up.
            (ProxyChoice::Environment, Network::Memory(_)) => None,
            _ => settings.proxy.of(url),
        };
        let way = way(settings, by, server, secure.then(|| format!("{host}:{port}")));
        let alpn = if secure && settings.http2 { Alpn::Http2OrHttp1 } else { Alpn::Http1 };
        let narrow = if alpn == Alpn::Http1 { "|h1" } else { "" };
        let legacy = settings.profile == TlsProfile::Legacy;
        let (dial_host, dial_port) = server.map_or((host, port), |server| (&server.host, server.port));
        Self {
            dns: kernel.dns().clone(),
            host: bare(dial_host).into(),
            port: dial_port,
            security: if secure { Security::Tls(certificate_name(host)) } else { Security::Plain },
            authority: authority(url).into(),
            peer_key: format!("client:{}://{host}|{port}{narrow}|{}", url.scheme(), way.key).into(),
            profile: settings.profile,
            alpn: if legacy { Alpn::Http1 } else { alpn },
            way: Rc::new(way),
            last: RefCell::default(),
        }
    }

    async fn find(&self) -> Result<Rc<Route>, DiscoveryError> {
        let answer =
            self.dns.addresses_of(&self.host).await.map_err(|error| dns_failed(&self.host, &error))?;
        let addresses = answer.value;
        if addresses.is_empty() {
            return Err(DiscoveryError::NotFound { step: "address", name: self.host.to_string() });
        }
        if let Some((before, route)) = &*self.last.borrow()
            && *before == addresses
        {
            return Ok(Rc::clone(route));
        }
        let route = Rc::new(Route {
            peer_key: Arc::clone(&self.peer_key),
            security: self.security.clone(),
            authority: Arc::clone(&self.authority),
            endpoints: addresses.iter().map(|ip| Endpoint::new(SocketAddr::new(*ip, self.port))).collect(),
            profile: self.profile,
            alpn: self.alpn,
            way: Some(Rc::clone(&self.way)),
        });
        self.last.replace(Some((addresses, Rc::clone(&route))));
        Ok(route)
    }
}

impl Discover for OriginDiscovery {
    fn discover<'a>(
        &'a self,
        _service: &'a ServiceName,
        _deadline: Instant,
    ) -> LocalBoxFuture<'a, Result<Rc<Route>, DiscoveryError>> {
        Box::pin(self.find())
    }
}

/// How connections are opened for what `by` named.
fn way(settings: &Settings, by: NamedBy, server: Option<&ProxyServer>, tunnel: Option<String>) -> Way {
    // What a proxy reaches is for the proxy to say; the proxy itself is named by the program.
    let by = if server.is_some() { NamedBy::Program } else { by };
    let (reach, addresses) = match (&settings.reach, by) {
        (Reach::Anywhere, NamedBy::Program) => ("anywhere".to_owned(), AddressPolicy::everything()),
        (Reach::Anywhere, NamedBy::Stranger) => ("public".to_owned(), AddressPolicy::default()),
        (Reach::Policy(policy), _) => (format!("policy {policy}"), policy.clone()),
    };
    let proxy = server.map(|server| {
        let authorization = server.authorization.clone();
        match tunnel {
            Some(target) => Proxy::Tunnel { target: target.into(), authorization },
            None => Proxy::Forward { authorization },
        }
    });
    let through = server.map_or(String::new(), |server| {
        // Connections of one identity are for nobody else.
        let as_whom = server.authorization.as_ref().map_or("", |_| settings.key.as_str());
        format!("|via {}:{} {as_whom}", server.host, server.port)
    });
    let tls = settings.tls.as_ref().map_or("", |_| settings.key.as_str());
    let connections_max = settings.config.connections_max;
    let bound = connections_max.map_or(String::new(), |most| format!("|{most} at a time"));
    Way {
        key: format!("{reach}|{tls}{through}{bound}").into(),
        addresses: Some(addresses),
        tls: settings.tls.clone(),
        proxy,
        limits: connections_max.map(|_| PeerLimits { connections_max, waiting_max: None }),
    }
}

fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

/// What `TlsConnector`s are shared as.
pub(super) type SharedTls = Option<Arc<TlsConnector>>;

/// Origins that one client remembers.
const ORIGINS_MAX: usize = 1024;
