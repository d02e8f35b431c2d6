//! Southbridge's kernel and Federation Resolver, set up against a federation of peers.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use southbridge::federation::{FederationConfig, FederationDiscovery};
use southbridge_kernel::dns::DnsConfig;
use southbridge_kernel::exchange::{Call, ExchangeError, Repeat};
use southbridge_kernel::net::AddressPolicy;
use southbridge_kernel::tls::TlsConfig;
use southbridge_kernel::{Kernel, KernelConfig};
use southbridge_policy::pool::PoolLimits;
use southbridge_policy::ranker::Demand;
use southbridge_words::{Class, ServiceName};

use crate::Done;
use crate::peers::Peers;

/// A kernel with the resolver on it.
#[derive(Clone)]
pub struct Bridge {
    /// The kernel.
    pub kernel: Kernel,
    discovery: Rc<FederationDiscovery>,
}

/// What is asked of a host.
#[derive(Clone, Debug)]
pub struct Question {
    /// Method, path, body.
    pub request: http::Request<Bytes>,
    /// How urgent it is.
    pub class: Class,
    /// Whether it would rather be refused than wait.
    pub demand: Demand,
    /// How long it may take.
    pub timeout: Duration,
}

impl Bridge {
    /// A kernel with the limits that a daemon has by default.
    ///
    /// # Errors
    /// It cannot be set up.
    pub fn new(peers: &Peers) -> Done<Self> {
        Self::with(peers, PoolLimits::default(), TlsConfig::default().sessions_max)
    }

    /// A kernel with limits of its own.
    ///
    /// # Errors
    /// It cannot be set up.
    pub fn with(peers: &Peers, pool: PoolLimits, sessions_max: usize) -> Done<Self> {
        let kernel = Kernel::new(KernelConfig {
            dns: DnsConfig { servers: vec![peers.dns], ..DnsConfig::default() },
            tls: TlsConfig {
                ca_files: vec![peers.ca.clone()],
                use_system_roots: false,
                sessions_max,
                ..TlsConfig::default()
            },
            addresses: AddressPolicy::new(["127.0.0.0/8".parse()?], []),
            pool,
            ..KernelConfig::default()
        })?;
        let config = FederationConfig {
            well_known_port: Some(peers.well_known_port),
            default_port: Some(peers.default_port),
            ..FederationConfig::default()
        };
        let discovery = Rc::new(FederationDiscovery::new(kernel.clone(), config));
        Ok(Self { kernel, discovery })
    }

    /// How it finds homeservers.
    pub fn discovery(&self) -> Rc<dyn southbridge_kernel::discovery::Discover> {
        Rc::<FederationDiscovery>::clone(&self.discovery)
    }

    /// Asks host `name` for `path`, and reads the answer to its end.
    ///
    /// # Errors
    /// What went wrong.
    pub async fn get(&self, name: &str, path: &str) -> Result<usize, ExchangeError> {
        self.ask(name, Question::get(path)).await
    }

    /// Asks host `name`, and reads the answer to its end.
    ///
    /// # Errors
    /// What went wrong.
    pub async fn ask(&self, name: &str, question: Question) -> Result<usize, ExchangeError> {
        let call = Call {
            service: ServiceName::new(name),
            discovery: Rc::<FederationDiscovery>::clone(&self.discovery),
            request: question.request,
            class: question.class,
            demand: question.demand,
            deadline: self.kernel.deadline(question.timeout),
            repeat: Repeat::Safe,
            ranked: true,
        };
        let response = self.kernel.exchange(call).await?;
        Ok(response.into_body().collect_all(1 << 20).await?.len())
    }
}

impl Question {
    /// An interactive GET.
    pub fn get(path: &str) -> Self {
        let request = http::Request::get(path).body(Bytes::new()).expect("our own paths are well-formed");
        let timeout = Duration::from_secs(60);
        Self { request, class: Class::Interactive, demand: Demand::Prompt, timeout }
    }

    /// A transaction with number `id` and a body of 2 KB.
    pub fn transaction(id: u64) -> Self {
        let path = format!("/_matrix/federation/v1/send/{id}");
        let request = http::Request::put(path)
            .header("content-type", "application/json")
            .body(Bytes::from_static(&[b' '; 2048]))
            .expect("our own paths are well-formed");
        let timeout = Duration::from_secs(60);
        Self { request, class: Class::Live, demand: Demand::Patient, timeout }
    }
}

/// An answer of one kilobyte.
pub const ONE_KILOBYTE: &str = "/blob/1000";
