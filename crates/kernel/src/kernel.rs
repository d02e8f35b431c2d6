//! The kernel itself: what lives on the I/O thread, put together.
//!
//! # Source
//! K1, K2; DESIGN decision 1.

use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Weak;

use ::http::Response;
use rustc_hash::FxHashMap;
use southbridge_policy::admission::{Admission, AdmissionLimits};
use southbridge_policy::budget::{BudgetLimits, RetryBudget};
use southbridge_policy::pool::{PoolLimits, PoolUse};
use southbridge_policy::ranker::{HostView, Ranker, RankerLimits};
use southbridge_words::{HostRecord, HostState, Instant, ServiceName};

use crate::alarm::Alarm;
use crate::clock::Clock;
use crate::declared::{Declared, ServiceTerms, Told, Watch, declare};
use crate::discovery::{Discover, DiscoveryError, dns_failed};
use crate::dns::{Dns, DnsConfig, DnsConfigError};
use crate::exchange::{Call, Compose, ExchangeError, Manner};
use crate::http::ResponseBody;
use crate::net::{self, AddressPolicy, ConnectError, Stream};
use crate::pool::{Lending, Opener, OpeningConfig, PeerView};
use crate::port::{PortFacts, PortView};
use crate::stats::{Exposition, Stats, StatsConfig};
use crate::surroundings::Surroundings;
use crate::tls::{TlsConfig, TlsConfigError, TlsConnector};
use crate::underway::{RequestView, Underway};

/// How the kernel is set up. Every machine's own limits document their units and reasons.
#[derive(Clone, Debug)]
pub struct KernelConfig {
    /// Names and their servers.
    pub dns: DnsConfig,
    /// Roots and sessions.
    pub tls: TlsConfig,
    /// Which addresses may be dialled.
    pub addresses: AddressPolicy,
    /// Bounds of the Connection Pool.
    pub pool: PoolLimits,
    /// How connections are opened.
    pub opening: OpeningConfig,
    /// Bounds on what may be under way.
    pub admission: AdmissionLimits,
    /// How hosts are ranked.
    pub ranker: RankerLimits,
    /// How many retries there may be.
    pub budget: BudgetLimits,
    /// The slowest a response body may come, in bytes a second. Default 1024: a modem of 1985, so that
    /// whoever is slower is not slow but stuck.
    pub body_rate_min: u64,
    /// Where figures are kept, and how many services have their own.
    pub stats: StatsConfig,
    /// Seed of all jitter and weighted choice.
    pub seed: u64,
}

impl Default for KernelConfig {
    fn default() -> Self {
        Self {
            dns: DnsConfig::default(),
            tls: TlsConfig::default(),
            addresses: AddressPolicy::default(),
            pool: PoolLimits::default(),
            opening: OpeningConfig::default(),
            admission: AdmissionLimits::default(),
            ranker: RankerLimits::default(),
            budget: BudgetLimits::default(),
            body_rate_min: 1024,
            stats: StatsConfig::default(),
            seed: rand::random(),
        }
    }
}

/// Why the kernel cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// DNS.
    #[error(transparent)]
    Dns(#[from] DnsConfigError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsConfigError),
    /// Memory for figures.
    #[error("no memory for statistics can be mapped")]
    Stats(#[source] std::io::Error),
}

/// The kernel, seen from the I/O thread. Cheap to clone; all clones are one kernel.
#[derive(Clone)]
pub struct Kernel {
    shared: Rc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) clock: Clock,
    pub(crate) around: Surroundings,
    pub(crate) stats: Rc<Stats>,
    pub(crate) dns: Dns,
    pub(crate) lending: Lending,
    pub(crate) ranker: RefCell<Ranker>,
    pub(crate) admission: RefCell<Admission>,
    pub(crate) budget: RefCell<RetryBudget>,
    pub(crate) underway: Rc<Underway>,
    /// Who is told how declared services do.
    pub(crate) watched: RefCell<FxHashMap<ServiceName, Rc<Watch>>>,
    pub(crate) policy: Rc<AddressPolicy>,
    pub(crate) opening: OpeningConfig,
    pub(crate) body_rate_min: u64,
    pub(crate) head_bytes_max: u32,
    pub(crate) ports: RefCell<Vec<Weak<dyn PortFacts>>>,
}

impl Kernel {
    /// Sets the kernel up. Must be called on a thread that runs a tokio `LocalSet`.
    ///
    /// # Errors
    /// [`KernelError`] when a configuration file or system setting that is needed cannot be read.
    pub fn new(config: KernelConfig) -> Result<Self, KernelError> {
        Self::amid(Surroundings::real(), config)
    }

    /// Sets the kernel up with a clock and a network that may be made up.
    ///
    /// # Errors
    /// As [`Kernel::new`].
    pub fn amid(around: Surroundings, config: KernelConfig) -> Result<Self, KernelError> {
        let clock = around.clock;
        let stats = Rc::new(Stats::new(&config.stats).map_err(KernelError::Stats)?);
        let policy = Rc::new(config.addresses);
        let opener = Opener {
            config: config.opening.clone(),
            policy: Rc::clone(&policy),
            tls: Rc::new(TlsConnector::new(&config.tls, clock)?),
            stats: Rc::clone(&stats),
            around: around.clone(),
        };
        let shared = Shared {
            clock,
            stats,
            dns: Dns::new(&config.dns, &around)?,
            lending: Lending::new(config.pool, opener, clock, config.seed),
            ranker: RefCell::new(Ranker::new(config.ranker, config.seed)),
            admission: RefCell::new(Admission::new(config.admission, config.seed)),
            budget: RefCell::new(RetryBudget::new(config.budget)),
            underway: Rc::new(Underway::default()),
            watched: RefCell::default(),
            policy,
            head_bytes_max: config.opening.http.head_bytes_max,
            opening: config.opening,
            body_rate_min: config.body_rate_min,
            around,
            ports: RefCell::default(),
        };
        Ok(Self { shared: Rc::new(shared) })
    }

    /// Carries `call` to its host. Dropping the future, or later the body, cancels it (K15).
    ///
    /// # Errors
    /// [`ExchangeError`] says how far it came, whose fault it was, and whether it may be asked again.
    pub fn exchange(
        &self,
        call: Call,
    ) -> impl Future<Output = Result<Response<ResponseBody>, ExchangeError>> {
        Rc::clone(&self.shared).exchange(call, Manner::default())
    }

    /// Like [`Kernel::exchange`], but what is sent is made by `composer` once there is a connection (F6).
    ///
    /// # Errors
    /// As [`Kernel::exchange`]; [`ExchangeError::Withdrawn`] when `composer` had nothing any more.
    pub fn exchange_composed(
        &self,
        call: Call,
        composer: &dyn Compose,
    ) -> impl Future<Output = Result<Response<ResponseBody>, ExchangeError>> {
        // Not an `async fn`, which would hold the call twice: thousands of these wait at a time.
        Rc::clone(&self.shared).exchange(call, Manner { composer: Some(composer), ..Manner::default() })
    }

    /// Like [`Kernel::exchange`], in its own manner.
    ///
    /// # Errors
    /// As [`Kernel::exchange`]; [`ExchangeError::Withdrawn`] when the manner's composer had nothing any more.
    pub fn exchange_as(
        &self,
        call: Call,
        manner: Manner<'_>,
    ) -> impl Future<Output = Result<Response<ResponseBody>, ExchangeError>> {
        Rc::clone(&self.shared).exchange(call, manner)
    }

    /// Declares `service`: it is connected now, before the first request, and kept connected for as long as
    /// the answer is held (K7).
    pub fn declare(&self, service: ServiceName, discovery: Rc<dyn Discover>) -> Declared {
        declare(&self.shared, service, discovery, &ServiceTerms::default(), |_| ())
    }

    /// Like [`Kernel::declare`], on terms of its own; `tell` is told of every visit and of every change of its rank (K12).
    /// A service is declared once at a time: the terms of the last one hold, and end with it.
    ///
    /// # Panics
    /// When the breaker of `terms` does not [validate](southbridge_policy::ranker::BreakerLimits::validate).
    pub fn declare_as(
        &self,
        service: ServiceName,
        discovery: Rc<dyn Discover>,
        terms: &ServiceTerms,
        tell: impl Fn(Told) + 'static,
    ) -> Declared {
        declare(&self.shared, service, discovery, terms, tell)
    }

    /// Opens a TCP connection to `host:port` under the address policy, for a tunnel (CONNECT).
    ///
    /// # Errors
    /// [`OpenError`] says whether the name or the connection failed.
    pub async fn open(&self, host: &str, port: u16) -> Result<Stream, OpenError> {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let answer = self.shared.dns.addresses(bare).await.map_err(|error| dns_failed(bare, &error))?;
        if answer.value.is_empty() {
            return Err(DiscoveryError::NotFound { step: "address", name: bare.to_owned() }.into());
        }
        let addresses: Vec<SocketAddr> = answer.value.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
        let shared = &self.shared;
        shared.stats.dials.add(1);
        let dialled = net::dial(&addresses, &shared.policy, &shared.opening.dial, &shared.around).await;
        Ok(dialled.inspect_err(|_| shared.stats.connects_failed.add(1))?.0)
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> Rc<Shared> {
        Rc::clone(&self.shared)
    }

    /// The clock and the network it lives with.
    pub fn surroundings(&self) -> &Surroundings {
        &self.shared.around
    }

    /// The kernel's clock.
    pub fn clock(&self) -> Clock {
        self.shared.clock
    }

    /// What wakes whoever waits for a time on that clock.
    pub fn alarm(&self) -> &Alarm {
        &self.shared.around.alarm
    }

    /// The one DNS subsystem (F4).
    pub fn dns(&self) -> &Dns {
        &self.shared.dns
    }

    /// The kernel's numbers.
    pub fn stats(&self) -> &Rc<Stats> {
        &self.shared.stats
    }

    /// Something was heard from `host`, or an operator says it is back: its back-off ends.
    pub fn wake(&self, host: &ServiceName) {
        self.shared.ranker.borrow_mut().handle_wake(host, self.clock().now());
        self.shared.look_at(host);
    }

    /// What is known of `host`.
    pub fn host(&self, host: &ServiceName) -> Option<HostView> {
        self.shared.ranker.borrow().view(host, self.clock().now())
    }

    /// What is known of every host, sorted by name.
    pub fn hosts(&self) -> Vec<(ServiceName, HostView)> {
        let now = self.clock().now();
        let ranker = self.shared.ranker.borrow();
        let mut hosts: Vec<_> =
            ranker.hosts().filter_map(|host| Some((host.clone(), ranker.view(host, now)?))).collect();
        hosts.sort_by(|one, other| one.0.cmp(&other.0));
        hosts
    }

    /// How many hosts are in each state.
    pub fn host_counts(&self) -> [(HostState, u32); 5] {
        self.shared.ranker.borrow().counts()
    }

    /// Records of hosts that changed since the last call, for the store.
    pub fn take_changed_hosts(&self, records_max: usize) -> Vec<HostRecord> {
        let clock = self.clock();
        self.shared.ranker.borrow_mut().take_changed(records_max, clock.now(), clock.wall())
    }

    /// Takes up what the store kept of hosts.
    pub fn restore_hosts(&self, records: Vec<HostRecord>) {
        let clock = self.clock();
        self.shared.ranker.borrow_mut().restore(records, clock.now(), clock.wall());
    }

    /// The oldest requests under way (K13).
    pub fn requests(&self, views_max: usize) -> Vec<RequestView> {
        self.shared.underway.views(views_max, self.clock().now())
    }

    /// How many requests are under way.
    pub fn requests_count(&self) -> usize {
        self.shared.underway.count()
    }

    /// The ports that are attached.
    pub fn ports(&self) -> Vec<PortView> {
        let ports = self.shared.ports.borrow();
        ports.iter().filter_map(Weak::upgrade).filter_map(|port| port.view()).collect()
    }

    /// One more port is attached.
    pub(crate) fn note_port(&self, port: Weak<dyn PortFacts>) {
        let mut ports = self.shared.ports.borrow_mut();
        ports.retain(|port| port.strong_count() > 0);
        ports.push(port);
    }

    /// What the Connection Pool holds.
    pub fn pool_usage(&self) -> PoolUse {
        self.shared.lending.usage()
    }

    /// Every peer that something is held for.
    pub fn peers(&self) -> Vec<PeerView> {
        self.shared.lending.peers(self.clock().now())
    }

    /// Writes what the kernel holds at this moment: what is not counted but found out when somebody asks.
    pub(crate) fn expose(&self, out: &mut Exposition) {
        out.head("southbridge_hosts", "gauge", "Hosts known, by state.");
        for (state, count) in self.host_counts() {
            out.value("southbridge_hosts", &[("state", state.name())], count);
        }
        let usage = self.pool_usage();
        let gauges = [
            ("southbridge_requests_under_way", self.requests_count() as u64, "Requests under way."),
            ("southbridge_connections", usage.connections.into(), "Connections, from dial to close."),
            ("southbridge_connections_idle", usage.idle.into(), "Connections nobody uses."),
            ("southbridge_dials", usage.dials.into(), "TCP handshakes in progress."),
            ("southbridge_tls_handshakes", usage.handshakes.into(), "TLS handshakes in progress."),
            (
                "southbridge_limited_connections",
                usage.limited_connections.into(),
                "Connections of the limited lane.",
            ),
            ("southbridge_leases", usage.leases.into(), "Connections and streams lent."),
            ("southbridge_waiting", usage.waiting.into(), "Requests that wait for a connection."),
        ];
        for (name, value, help) in gauges {
            out.head(name, "gauge", help);
            out.value(name, &[], value);
        }
    }

    /// A deadline `after` from now.
    pub fn deadline(&self, after: std::time::Duration) -> Instant {
        self.clock().now() + after
    }
}

/// Why no tunnel could be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The name has no addresses.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// No address could be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}
