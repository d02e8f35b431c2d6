//! The parts put together: a kernel, the Federation Resolver on it, and the ways of finding routes.
//!
//! # Source
//! DESIGN, "One picture": the bus is machines, the kernel runs machines, doors bring them together.

use std::rc::Rc;

use southbridge_kernel::admin::MoreMetrics;
use southbridge_kernel::discovery::{Discover, DnsDiscovery};
use southbridge_kernel::net::Network;
use southbridge_kernel::port::{Desk, KernelThread, StartError};
use southbridge_kernel::stats::Exposition;
use southbridge_kernel::tls::Alpn;
use southbridge_kernel::{Kernel, KernelConfig, KernelError};

use crate::bus_port::Buses;
use crate::client::{Answer, ClientError, Clients, Files, Services};
use crate::federation::{FederationConfig, FederationDiscovery};
use crate::statistics::Published;

/// Southbridge on the I/O thread. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Southbridge {
    kernel: Kernel,
    federation: FederationDiscovery,
    matrix: Rc<dyn Discover>,
    https: Rc<dyn Discover>,
    http: Rc<dyn Discover>,
    clients: Rc<Clients>,
    services: Rc<Services>,
    files: Rc<Files>,
    published: Rc<Published>,
    buses: Rc<Buses>,
}

impl Southbridge {
    /// Puts the parts together. Must be called on a thread that runs a tokio `LocalSet`.
    ///
    /// # Errors
    /// [`KernelError`] when a file or system setting that is needed cannot be read.
    pub fn new(kernel: KernelConfig, federation: FederationConfig) -> Result<Self, KernelError> {
        Ok(Self::on(Kernel::new(kernel)?, federation))
    }

    /// Southbridge on a kernel that there is already.
    pub fn on(kernel: Kernel, federation: FederationConfig) -> Self {
        let dns = kernel.dns().clone();
        let https = DnsDiscovery::https(dns.clone(), Alpn::Http2OrHttp1);
        let federation = FederationDiscovery::new(kernel.clone(), federation);
        let files = match kernel.surroundings().network {
            Network::System => Files::default(),
            Network::Memory(_) => Files::at_once(),
        };
        Self {
            matrix: Rc::new(federation.clone()),
            https: Rc::new(https),
            http: Rc::new(DnsDiscovery::http(dns)),
            federation,
            kernel,
            clients: Rc::default(),
            services: Rc::default(),
            files: Rc::new(files),
            published: Rc::default(),
            buses: Rc::default(),
        }
    }

    /// Southbridge on an I/O thread of its own, for programs that attach ports. Plain requests name the schemes
    /// `matrix` (server names), `https` and `http` (`host` or `host:port`); for all else there is [`crate::client`].
    ///
    /// # Errors
    /// [`StartError`] when there is no thread to be had or the configuration does not work.
    pub fn start(
        kernel: KernelConfig,
        federation: FederationConfig,
    ) -> Result<KernelThread<Self>, StartError> {
        KernelThread::start(kernel, move |kernel| Self::on(kernel.clone(), federation))
    }

    /// The kernel.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// The Federation Resolver.
    pub fn federation(&self) -> &FederationDiscovery {
        &self.federation
    }

    /// Finds homeservers by their server names.
    pub fn matrix(&self) -> Rc<dyn Discover> {
        Rc::clone(&self.matrix)
    }

    /// Finds https servers by their authorities.
    pub fn https(&self) -> Rc<dyn Discover> {
        Rc::clone(&self.https)
    }

    /// Finds http servers by their authorities.
    pub fn http(&self) -> Rc<dyn Discover> {
        Rc::clone(&self.http)
    }

    /// What is kept for clients.
    pub(crate) fn clients(&self) -> &Clients {
        &self.clients
    }

    /// The services that programs have declared.
    pub(crate) fn services(&self) -> &Services {
        &self.services
    }

    /// The thread that reads and writes files.
    pub(crate) fn files(&self) -> &Rc<Files> {
        &self.files
    }

    /// What is published of the statistics.
    pub(crate) fn published(&self) -> &Published {
        &self.published
    }

    /// The buses that programs have opened.
    pub(crate) fn buses(&self) -> &Buses {
        &self.buses
    }

    /// What the resolver and DNS count, for the metrics page.
    pub fn metrics(&self) -> MoreMetrics {
        let this = self.clone();
        Rc::new(move |out: &mut Exposition| this.expose(out))
    }

    fn expose(&self, out: &mut Exposition) {
        let resolver = self.federation.counters();
        let dns = self.kernel.dns().counters();
        let caches = [
            ("federation", resolver.composed),
            ("well_known", resolver.well_known),
            ("addresses", dns.addresses),
            ("srv", dns.srv),
        ];
        out.head(
            "southbridge_names_total",
            "counter",
            "Questions to the caches of names, by what came of them.",
        );
        for (cache, counted) in caches {
            let outcomes = [
                ("hit", counted.hits),
                ("stale", counted.stale),
                ("miss", counted.misses),
                ("joined", counted.joined),
                ("evicted", counted.evicted),
            ];
            for (outcome, count) in outcomes {
                out.value("southbridge_names_total", &[("cache", cache), ("outcome", outcome)], count);
            }
        }
        out.head("southbridge_names_under_way", "gauge", "Server names being resolved.");
        out.value("southbridge_names_under_way", &[], resolver.under_way);
    }
}

impl Desk for Southbridge {
    type Answer = Answer;
    type Error = ClientError;

    fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    fn scheme(&self, name: &str) -> Option<Rc<dyn Discover>> {
        match name {
            "matrix" => Some(self.matrix()),
            "https" => Some(self.https()),
            "http" => Some(self.http()),
            _ => None,
        }
    }
}
