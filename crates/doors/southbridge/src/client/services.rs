//! Services that a program declares: found and connected before the first request, and asked for by name.
//!
//! A declared service `orders` is what `http://orders/…` and `https://orders/…` lead to, from any client of the
//! process; how it is found and spoken to is its own affair. Whether it can be reached is known without asking it
//! anything (K12): it is visited now and then, and each visit tells.
//!
//! # Source
//! K6, K7, K12; issue 4, item 4.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use southbridge_kernel::discovery::{
    Discover, DiscoveryError, DnsDiscovery, Route, Security, SrvDiscovery, Way, certificate_name,
};
use southbridge_kernel::net::AddressPolicy;
use southbridge_kernel::port::{Errand, Line, Started};
use southbridge_kernel::tls::{Alpn, TlsProfile};
use southbridge_kernel::{Declared, Kernel};
use southbridge_words::{Endpoint, Instant, ServiceName, Ticket};
use tokio::sync::Notify;
use url::Url;

use super::config::ClientTls;
use super::response::Answer;
use super::routes::{Destination, SharedTls};
use super::settings::connector;
use super::{ClientError, Port};
use crate::Southbridge;

/// A service, as a program declares it.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name: letters, digits, dashes and dots, as it stands in URLs.
    pub name: String,
    /// How it is found.
    pub discovery: ServiceDiscovery,
    /// Whether it is spoken to with TLS, and how. Default: plain.
    pub tls: Option<ClientTls>,
    /// What is sent as `Host`, and verified in its certificate. Default: its name, or the name that is looked up.
    pub host: Option<String>,
}

/// How a service is found.
#[derive(Clone, Debug)]
pub enum ServiceDiscovery {
    /// At these addresses, until others are pushed.
    Addresses(Vec<SocketAddr>),
    /// At the addresses of this name.
    Dns {
        /// The name.
        host: String,
        /// The port.
        port: u16,
    },
    /// Where the SRV records of `PREFIX.NAME` say.
    Srv {
        /// `_http._tcp`.
        prefix: String,
        /// `example.org`.
        name: String,
    },
}

/// Which services can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Grows with every change.
    pub version: u64,
    /// Every declared service, by name.
    pub services: Vec<ServiceView>,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceView {
    /// Its name.
    pub name: String,
    /// Whether there is a connection to it, or was at its last visit.
    pub ready: bool,
    /// Why not.
    pub why: Option<String>,
}

impl Readiness {
    /// Whether every service can be reached.
    pub fn all_ready(&self) -> bool {
        self.services.iter().all(|service| service.ready)
    }
}

impl Service {
    /// A service that is found like this, spoken to without TLS.
    pub fn new(name: &str, discovery: ServiceDiscovery) -> Self {
        Self { name: name.to_owned(), discovery, tls: None, host: None }
    }

    fn check(&self) -> Result<(), ClientError> {
        let invalid = |reason: &str| {
            Err(ClientError::InvalidSetting {
                setting: "service",
                reason: format!("{:?}: {reason}", self.name),
            })
        };
        let is_name = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'.');
        if self.name.is_empty() || self.name.len() > NAME_MAX || !self.name.bytes().all(is_name) {
            return invalid("a name has 1 to 63 lower-case letters, digits, dashes and dots");
        }
        match &self.discovery {
            ServiceDiscovery::Addresses(addresses) if addresses.iter().any(|address| address.port() == 0) => {
                invalid("port 0 is no port")
            }
            ServiceDiscovery::Dns { port: 0, .. } => invalid("port 0 is no port"),
            _ => Ok(()),
        }
    }
}

/// Declares `service`, or declares it anew; the answer is `Answer::Done`. Reads the files that its TLS names.
///
/// # Errors
/// [`ClientError::InvalidSetting`] names what is wrong with it; [`ClientError::Overloaded`] when the port is full.
pub fn declare(port: &Port, service: Service) -> Result<Ticket, ClientError> {
    service.check()?;
    let tls = service.tls.as_ref().map(connector).transpose()?;
    Ok(port.submit(Task::Declare { service: Box::new(service), tls })?)
}

/// Takes a service back; the answer is `Answer::Done`.
///
/// # Errors
/// [`ClientError::Overloaded`] when the port is full.
pub fn withdraw(port: &Port, name: &str) -> Result<Ticket, ClientError> {
    Ok(port.submit(Task::Withdraw { name: name.to_owned() })?)
}

/// A service declared by its addresses is at `addresses` from now on; the answer is `Answer::Done`. Connections to
/// those that went away end when what is under way on them has.
///
/// # Errors
/// [`ClientError::Overloaded`] when the port is full. [`ClientError::InvalidSetting`] is the answer when there is no
/// such service.
pub fn push(port: &Port, name: &str, addresses: Vec<SocketAddr>) -> Result<Ticket, ClientError> {
    Ok(port.submit(Task::Push { name: name.to_owned(), addresses })?)
}

/// Which services can be reached: the answer is `Answer::Readiness`, at once, or as soon as its version is past
/// `since`. Asked again and again with the version of before, it tells of every change.
///
/// # Errors
/// [`ClientError::Overloaded`] when the port is full.
pub fn ready(port: &Port, since: Option<u64>) -> Result<Ticket, ClientError> {
    Ok(port.submit(Task::Ready { since })?)
}

enum Task {
    Declare { service: Box<Service>, tls: SharedTls },
    Withdraw { name: String },
    Push { name: String, addresses: Vec<SocketAddr> },
    Ready { since: Option<u64> },
}

impl Errand<Southbridge> for Task {
    fn start(self: Box<Self>, desk: &Rc<Southbridge>, line: Line<Southbridge>) -> Started {
        let desk = Rc::clone(desk);
        line.carry(move |reply| async move {
            let services = desk.services();
            reply.give(match *self {
                Self::Declare { service, tls } => services.declare(desk.kernel(), &service, tls),
                Self::Withdraw { name } => services.withdraw(&name),
                Self::Push { name, addresses } => services.push(&name, addresses),
                Self::Ready { since } => Ok(Answer::Readiness(Box::new(services.ready(since).await))),
            });
        })
    }
}

/// The services of this process.
#[derive(Default)]
pub(crate) struct Services {
    known: RefCell<BTreeMap<String, Served>>,
    news: Rc<News>,
}

/// What is known of who can be reached.
#[derive(Default)]
struct News {
    version: Cell<u64>,
    states: RefCell<BTreeMap<String, Result<(), String>>>,
    changed: Notify,
}

struct Served {
    destination: Destination,
    pushed: Option<Rc<Pushed>>,
    _declared: Declared,
}

impl Services {
    /// The service that `url` names, if it names one.
    pub(super) fn find(&self, url: &Url) -> Option<Destination> {
        let known = self.known.borrow();
        if known.is_empty() || url.port().is_some() {
            return None;
        }
        known.get(url.host_str()?).map(|served| served.destination.clone())
    }

    fn declare(&self, kernel: &Kernel, service: &Service, tls: SharedTls) -> Result<Answer, ClientError> {
        if self.known.borrow().len() >= SERVICES_MAX && !self.known.borrow().contains_key(&service.name) {
            return Err(ClientError::Overloaded { what: format!("{SERVICES_MAX} services are declared") });
        }
        let (discovery, pushed) = discovery(kernel, service, tls);
        // The name stands for itself in ranks and statistics, apart from hosts and Matrix servers of that name.
        let name = ServiceName::new(&format!("service:{}", service.name));
        let (news, shown) = (Rc::clone(&self.news), service.name.clone());
        self.news.set(&service.name, Some(Err("it has not been connected yet".to_owned())));
        let declared = kernel.declare_telling(name.clone(), Rc::clone(&discovery), move |state| {
            news.set(&shown, Some(state));
        });
        let destination = Destination { service: name, discovery };
        self.known
            .borrow_mut()
            .insert(service.name.clone(), Served { destination, pushed, _declared: declared });
        Ok(Answer::Done)
    }

    fn withdraw(&self, name: &str) -> Result<Answer, ClientError> {
        match self.known.borrow_mut().remove(name) {
            Some(_) => self.news.set(name, None),
            None => return Err(unknown(name)),
        }
        Ok(Answer::Done)
    }

    fn push(&self, name: &str, addresses: Vec<SocketAddr>) -> Result<Answer, ClientError> {
        let known = self.known.borrow();
        let pushed = known.get(name).ok_or_else(|| unknown(name))?.pushed.as_ref();
        let pushed = pushed.ok_or_else(|| ClientError::InvalidSetting {
            setting: "service",
            reason: format!("{name:?} is found by itself; nothing can be pushed for it"),
        })?;
        pushed.set(addresses);
        Ok(Answer::Done)
    }

    async fn ready(&self, since: Option<u64>) -> Readiness {
        loop {
            let changed = self.news.changed.notified();
            let version = self.news.version.get();
            if since.is_none_or(|since| version > since) {
                return self.news.readiness();
            }
            changed.await;
        }
    }
}

impl News {
    fn set(&self, name: &str, state: Option<Result<(), String>>) {
        let mut states = self.states.borrow_mut();
        let before = match &state {
            Some(state) => states.insert(name.to_owned(), state.clone()),
            None => states.remove(name),
        };
        if before.map(|state| state.is_ok()) != state.map(|state| state.is_ok()) {
            self.version.set(self.version.get() + 1);
            self.changed.notify_waiters();
        }
    }

    fn readiness(&self) -> Readiness {
        let view = |(name, state): (&String, &Result<(), String>)| ServiceView {
            name: name.clone(),
            ready: state.is_ok(),
            why: state.clone().err(),
        };
        Readiness { version: self.version.get(), services: self.states.borrow().iter().map(view).collect() }
    }
}

/// A service whose addresses the program tells.
struct Pushed {
    route: RefCell<Rc<Route>>,
}

impl Pushed {
    fn set(&self, addresses: Vec<SocketAddr>) {
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

fn discovery(kernel: &Kernel, service: &Service, tls: SharedTls) -> (Rc<dyn Discover>, Option<Rc<Pushed>>) {
    let looked_up = match &service.discovery {
        ServiceDiscovery::Addresses(_) => service.name.as_str(),
        ServiceDiscovery::Dns { host, .. } => host,
        ServiceDiscovery::Srv { name, .. } => name,
    };
    let host = service.host.as_deref().unwrap_or(looked_up);
    let secure = service.tls.is_some();
    let legacy = service.tls.as_ref().is_some_and(|tls| tls.legacy);
    let terms = Terms {
        peer_key: format!("service:{}", service.name).into(),
        security: if secure { Security::Tls(certificate_name(host)) } else { Security::Plain },
        authority: host.into(),
        profile: if legacy { TlsProfile::Legacy } else { TlsProfile::Modern },
        alpn: if secure && !legacy { Alpn::Http2OrHttp1 } else { Alpn::Http1 },
        way: Rc::new(Way {
            key: format!("service:{}", service.name).into(),
            addresses: Some(AddressPolicy::everything()),
            tls,
            proxy: None,
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

fn unknown(name: &str) -> ClientError {
    ClientError::InvalidSetting { setting: "service", reason: format!("no service is called {name:?}") }
}

const NAME_MAX: usize = 63;
/// Each has a task and a connection or two of its own.
const SERVICES_MAX: usize = 1024;
