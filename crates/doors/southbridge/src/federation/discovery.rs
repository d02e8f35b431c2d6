//! Discovery of Matrix server names, as a plug-in of the kernel.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use rustc_hash::{FxHashMap, FxHashSet};
use southbridge_bus::resolver::{
    Action, Explanation, ResolveError, ResolvedFederationAddress, Resolver, ResolverCounters, ResolverLimits,
    WellKnownFailure, WellKnownResult,
};
use southbridge_kernel::discovery::{Discover, DiscoveryError, DnsDiscovery, Route, Security, Way};
use southbridge_kernel::mishap::survived;
use southbridge_kernel::tls::{Alpn, TlsProfile};
use southbridge_kernel::{Clock, Kernel};
use southbridge_words::{CertificateName, Endpoint, Instant, LookupFailure, ServerName, ServiceName, Ticket};
use tokio::sync::{Semaphore, oneshot};

use super::well_known;
use crate::driver::{Desk, Driver, run_timer};

/// How server names are resolved.
#[derive(Clone, Debug)]
pub struct FederationConfig {
    /// Bounds of the resolver.
    pub resolver: ResolverLimits,
    /// How long one .well-known document may take, redirects included. Default 8 s: Synapse gives its
    /// interactive queries 10 s in all, and a dead web server must leave time for the SRV records.
    pub well_known_timeout: Duration,
    /// How many .well-known documents are fetched at a time; the others wait for their turn, and their time does
    /// not run yet. Default 320: fewer than the pool dials at once for hosts that nothing is known of (384), so
    /// that a message to a room of 5,000 new servers does not use up the time of its own lookups in a queue.
    pub well_known_fetches_max: usize,
    /// Hosts that are spoken to with the legacy TLS profile (K22).
    pub legacy_hosts: FxHashSet<String>,
    /// For test worlds: the port dialled for .well-known instead of 443.
    pub well_known_port: Option<u16>,
    /// For test worlds: the port dialled instead of 8448 where a name carries none.
    pub default_port: Option<u16>,
    /// How connections are opened, those for .well-known too, where that is not the kernel's usual way: for a program
    /// that has a kernel and speaks for a homeserver.
    pub way: Option<Way>,
    /// Seed of all jitter.
    pub seed: u64,
}

impl Default for FederationConfig {
    fn default() -> Self {
        Self {
            resolver: ResolverLimits::default(),
            well_known_timeout: Duration::from_secs(8),
            well_known_fetches_max: 320,
            legacy_hosts: FxHashSet::default(),
            well_known_port: None,
            default_port: None,
            way: None,
            seed: 0,
        }
    }
}

/// Finds homeservers. Cheap to clone; all clones are one resolver.
#[derive(Clone)]
pub struct FederationDiscovery {
    inner: Rc<Inner>,
}

pub(super) struct Inner {
    pub(super) kernel: Kernel,
    pub(super) web: Rc<dyn Discover>,
    pub(super) config: FederationConfig,
    way: Option<Rc<Way>>,
    resolver: RefCell<Resolver>,
    desk: Desk<Waiter>,
    /// Names that were resolved anew because nobody answered, and when.
    distrusted: RefCell<FxHashMap<ServerName, Instant>>,
    fetches: Semaphore,
}

pub(super) enum Waiter {
    Address(oneshot::Sender<Result<Arc<ResolvedFederationAddress>, ResolveError>>),
    Explanation(oneshot::Sender<Result<Box<Explanation>, ResolveError>>),
}

impl FederationDiscovery {
    /// A resolver on `kernel`. Must be called within its `LocalSet`.
    pub fn new(kernel: Kernel, config: FederationConfig) -> Self {
        let web =
            DnsDiscovery::https(kernel.dns().clone(), Alpn::Http1).instead_of_443(config.well_known_port);
        let web: Rc<dyn Discover> = match &config.way {
            Some(way) => Rc::new(Through { web, way: Rc::new(way.clone()) }),
            None => Rc::new(web),
        };
        Self::with_web(kernel, config, web)
    }

    /// The same, with web servers found by `web`.
    fn with_web(kernel: Kernel, config: FederationConfig, web: Rc<dyn Discover>) -> Self {
        let inner = Inner {
            web,
            resolver: RefCell::new(Resolver::new(config.resolver.clone(), config.seed)),
            fetches: Semaphore::new(config.well_known_fetches_max.clamp(1, Semaphore::MAX_PERMITS)),
            kernel,
            way: config.way.clone().map(Rc::new),
            config,
            desk: Desk::default(),
            distrusted: RefCell::default(),
        };
        let inner = Rc::new(inner);
        tokio::task::spawn_local(run_timer(Rc::downgrade(&inner)));
        Self { inner }
    }

    /// Where `name` is. Known names are answered without waiting.
    ///
    /// # Errors
    /// [`ResolveError`] when there is no address to be had.
    pub async fn resolve(&self, name: &ServerName) -> Result<Arc<ResolvedFederationAddress>, ResolveError> {
        let now = self.inner.kernel.clock().now();
        let known = self.inner.resolver.borrow_mut().known(name, now);
        self.inner.act();
        if let Some(known) = known {
            return Ok(known);
        }
        let (told, tell) = oneshot::channel();
        let ask = |ticket| self.inner.resolver.borrow_mut().handle_request(ticket, name, now);
        self.inner.answer(Waiter::Address(told), tell, ask).await
    }

    /// How `name` is resolved, step by step. Caches are used and filled as for any request.
    ///
    /// # Errors
    /// [`ResolveError::Overloaded`] when too many ask; a name that cannot be resolved is an explanation too.
    pub async fn explain(&self, name: &ServerName) -> Result<Box<Explanation>, ResolveError> {
        let now = self.inner.kernel.clock().now();
        let (told, tell) = oneshot::channel();
        let ask = |ticket| self.inner.resolver.borrow_mut().handle_explain(ticket, name, now);
        self.inner.answer(Waiter::Explanation(told), tell, ask).await
    }

    /// What the resolver has done so far.
    pub fn counters(&self) -> ResolverCounters {
        self.inner.resolver.borrow().counters()
    }

    /// The route that the kernel takes for a resolved name.
    pub fn route(&self, name: &ServerName, address: &ResolvedFederationAddress) -> Route {
        let legacy = self.inner.config.legacy_hosts.contains(name.as_str());
        let (peer_key, profile) = if legacy {
            (format!("{}|legacy", address.peer_key).into(), TlsProfile::Legacy)
        } else {
            (Arc::clone(&address.peer_key), TlsProfile::Modern)
        };
        let way = self.inner.way.clone();
        let peer_key = keyed(&peer_key, way.as_deref());
        Route {
            peer_key,
            security: Security::Tls(address.certificate.clone()),
            authority: Arc::clone(&address.host_header),
            endpoints: self.endpoints(address),
            profile,
            alpn: if legacy { Alpn::Http1 } else { Alpn::Http2OrHttp1 },
            way,
        }
    }
}

impl FederationDiscovery {
    /// The endpoints of `address`; in a test world, with its own port for 8448.
    fn endpoints(&self, address: &ResolvedFederationAddress) -> Arc<[Endpoint]> {
        let Some(port) = self.inner.config.default_port else { return Arc::clone(&address.endpoints) };
        let moved = address.endpoints.iter().map(|endpoint| {
            let mut moved = *endpoint;
            if moved.address.port() == MATRIX_PORT {
                moved.address.set_port(port);
            }
            moved
        });
        moved.collect()
    }
}

impl Discover for FederationDiscovery {
    fn discover<'a>(
        &'a self,
        service: &'a ServiceName,
        deadline: Instant,
    ) -> LocalBoxFuture<'a, Result<Rc<Route>, DiscoveryError>> {
        Box::pin(async move {
            let name = ServerName::of_service(service).map_err(|error| DiscoveryError::BadName {
                name: service.to_string(),
                reason: error.to_string(),
            })?;
            let at = self.inner.kernel.clock().to_tokio(deadline);
            let resolved = tokio::time::timeout_at(at, self.resolve(&name)).await;
            let late = |_| DiscoveryError::DeadlinePassed { name: name.to_string() };
            let address = resolved.map_err(late)?.map_err(|error| discovery_error(&name, &error))?;
            Ok(Rc::new(self.route(&name, &address)))
        })
    }

    fn distrust(&self, service: &ServiceName) {
        if let Ok(name) = ServerName::of_service(service) {
            self.inner.distrust(name);
        }
    }
}

/// Web servers, reached in a way of their own.
struct Through {
    web: DnsDiscovery,
    way: Rc<Way>,
}

impl Discover for Through {
    fn discover<'a>(
        &'a self,
        service: &'a ServiceName,
        deadline: Instant,
    ) -> LocalBoxFuture<'a, Result<Rc<Route>, DiscoveryError>> {
        Box::pin(async move {
            let route = Route::clone(&*self.web.discover(service, deadline).await?);
            let peer_key = keyed(&route.peer_key, Some(&self.way));
            Ok(Rc::new(Route { peer_key, way: Some(Rc::clone(&self.way)), ..route }))
        })
    }
}

/// `peer_key`, apart from what is reached in another way.
fn keyed(peer_key: &Arc<str>, way: Option<&Way>) -> Arc<str> {
    way.map_or_else(|| Arc::clone(peer_key), |way| format!("{peer_key}|{}", way.key).into())
}

fn discovery_error(name: &ServerName, error: &ResolveError) -> DiscoveryError {
    let (step, name) = (error.step(), name.to_string());
    let is_ours = match error {
        ResolveError::Overloaded => true,
        ResolveError::SrvFailed { failure, .. } | ResolveError::AddressesFailed { failure, .. } => {
            *failure == LookupFailure::Overloaded
        }
        _ => false,
    };
    if is_ours {
        return DiscoveryError::Overloaded { name };
    }
    if error.is_definite() {
        DiscoveryError::NotFound { step, name }
    } else {
        DiscoveryError::Failed { step, name, reason: error.to_string() }
    }
}

impl Inner {
    /// Has `name` resolved anew, but not each time that a host which is simply down fails again.
    fn distrust(&self, name: ServerName) {
        let now = self.kernel.clock().now();
        let mut distrusted = self.distrusted.borrow_mut();
        let lately = distrusted.get(&name).is_some_and(|at| now.saturating_since(*at) < DISTRUST_EVERY);
        if lately {
            return;
        }
        if distrusted.len() >= DISTRUSTED_MAX {
            distrusted.retain(|_, at| now.saturating_since(*at) < DISTRUST_EVERY);
        }
        if distrusted.len() < DISTRUSTED_MAX {
            let mut resolver = self.resolver.borrow_mut();
            self.kernel.dns().distrust(&name.host_lowercase());
            // The records of where it was delegated to may have a day to run, and be wrong as well.
            if let Some(address) = resolver.known(&name, now)
                && let CertificateName::Dns(delegate) = &address.certificate
            {
                self.kernel.dns().distrust(delegate);
            }
            resolver.handle_distrusted(&name, now);
            distrusted.insert(name, now);
        }
    }

    async fn answer<T>(
        self: &Rc<Self>,
        waiter: Waiter,
        tell: oneshot::Receiver<Result<T, ResolveError>>,
        ask: impl FnOnce(Ticket),
    ) -> Result<T, ResolveError> {
        // A channel that closes means that the program is ending.
        self.wait(waiter, tell, ask).await.unwrap_or(Err(ResolveError::Overloaded))
    }

    fn tell_address(&self, ticket: Ticket, result: Result<Arc<ResolvedFederationAddress>, ResolveError>) {
        match (self.desk.take(ticket), result) {
            (Some(Waiter::Address(told)), result) => {
                let _gone = told.send(result);
            }
            (Some(Waiter::Explanation(told)), Err(error)) => {
                let _gone = told.send(Err(error));
            }
            _ => {}
        }
    }
}

impl Driver for Inner {
    type Waiter = Waiter;
    type Action = Action;

    fn desk(&self) -> &Desk<Waiter> {
        &self.desk
    }

    fn clock(&self) -> Clock {
        self.kernel.clock()
    }

    fn poll(&self) -> Option<Action> {
        self.resolver.borrow_mut().poll()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.resolver.borrow().poll_timeout()
    }

    fn handle_timeout(&self) {
        self.resolver.borrow_mut().handle_timeout(self.kernel.clock().now());
    }

    fn handle_left(self: &Rc<Self>, ticket: Ticket) {
        self.resolver.borrow_mut().handle_cancelled(ticket);
        self.act();
    }

    fn perform(self: &Rc<Self>, action: Action) {
        let inner = Rc::clone(self);
        match action {
            Action::FetchWellKnown { id, host } => {
                tokio::task::spawn_local(async move {
                    let turn = inner.fetches.acquire().await;
                    let result = survived(well_known::fetch(&inner, &host)).await;
                    drop(turn);
                    // A bug of ours says nothing about the host.
                    let result = result.unwrap_or(WellKnownResult::Failed(WellKnownFailure::Overloaded));
                    inner.resolver.borrow_mut().handle_well_known(id, result, inner.kernel.clock().now());
                    inner.act();
                });
            }
            Action::LookupSrv { id, name } => {
                tokio::task::spawn_local(async move {
                    let result = inner.kernel.dns().srv_of(&name).await.map_err(|error| error.failure);
                    inner.resolver.borrow_mut().handle_srv(id, result, inner.kernel.clock().now());
                    inner.act();
                });
            }
            Action::LookupAddresses { id, name } => {
                tokio::task::spawn_local(async move {
                    let result = inner.kernel.dns().addresses_of(&name).await.map_err(|error| error.failure);
                    inner.resolver.borrow_mut().handle_addresses(id, result, inner.kernel.clock().now());
                    inner.act();
                });
            }
            Action::Resolved { ticket, address } => self.tell_address(ticket, Ok(address)),
            Action::Failed { ticket, error } => self.tell_address(ticket, Err(error)),
            Action::Explained { ticket, explanation } => {
                if let Some(Waiter::Explanation(told)) = self.desk.take(ticket) {
                    let _gone = told.send(Ok(explanation));
                }
            }
        }
    }
}

/// How often one name may be resolved anew because nobody answered.
const DISTRUST_EVERY: Duration = Duration::from_secs(300);
/// Names remembered for that.
const DISTRUSTED_MAX: usize = 4096;
/// Where homeservers listen when nothing says otherwise.
const MATRIX_PORT: u16 = 8448;

#[cfg(test)]
#[path = "discovery_tests.rs"]
mod tests;
