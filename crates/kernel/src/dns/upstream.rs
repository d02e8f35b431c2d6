//! Asks the name servers: one after the other, the one that answered last first.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{DnsRequestOptions, DnsResponse, Query};
use hickory_proto::rr::{Name, RecordType};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};
use southbridge_words::LookupFailure;
use tokio::sync::Semaphore;

use super::reading::{Found, Kind, Reading, read, read_error};
use super::{DnsConfig, DnsConfigError};

/// The name servers, and how many questions they may be asked at a time.
pub(super) struct Upstream {
    servers: Vec<NameServerPool<TokioRuntimeProvider>>,
    preferred: Cell<usize>,
    permits: Semaphore,
    rounds: usize,
    lookup_max: Duration,
    records_max: usize,
    queries: Cell<u64>,
    failures: Cell<u64>,
}

impl Upstream {
    pub(super) fn new(config: &DnsConfig) -> Result<Self, DnsConfigError> {
        let addresses = config.validate()?;
        let library = |error: NetError| DnsConfigError::Library { reason: error.to_string() };
        let mut servers = Vec::new();
        for address in &addresses {
            let tls = TlsConfig::new().map_err(library)?;
            let context = Arc::new(PoolContext::new(options(config), tls));
            servers.push(NameServerPool::from_config(
                [server(*address)],
                context,
                TokioRuntimeProvider::default(),
            ));
        }
        Ok(Self {
            lookup_max: config.lookup_max(servers.len()),
            rounds: config.attempts as usize * servers.len(),
            servers,
            preferred: Cell::new(0),
            permits: Semaphore::new(config.queries_max),
            records_max: config.records_max,
            queries: Cell::new(0),
            failures: Cell::new(0),
        })
    }

    /// Records of type `kind` of `name`, which is absolute.
    pub(super) async fn ask<R: Kind>(&self, name: Name, kind: RecordType) -> Result<Found<R>, LookupFailure> {
        // Waiting for one's turn is not the server's fault, and not counted.
        let turn = tokio::time::timeout(self.lookup_max, self.permits.acquire()).await;
        let Ok(Ok(_permit)) = turn else { return Err(LookupFailure::Overloaded) };
        let asked = tokio::time::timeout(self.lookup_max, self.follow(name, kind)).await;
        let found = asked.unwrap_or(Err(LookupFailure::TimedOut));
        if found.is_err() {
            self.failures.set(self.failures.get() + 1);
        }
        found
    }

    /// Questions asked so far.
    pub(super) fn queries(&self) -> u64 {
        self.queries.get()
    }

    /// Lookups that came to nothing so far.
    pub(super) fn failures(&self) -> u64 {
        self.failures.get()
    }

    /// Questions that may be asked at once from now.
    pub(super) fn idle(&self) -> usize {
        self.permits.available_permits()
    }

    /// A recursive server follows aliases by itself; the few that stop half-way are helped along.
    async fn follow<R: Kind>(&self, mut name: Name, kind: RecordType) -> Result<Found<R>, LookupFailure> {
        let mut ttl = Duration::MAX;
        for _ in 0..ALIAS_QUESTIONS_MAX {
            let reading = match self.exchange(&name, kind).await {
                Ok(response) => read(&response, &name, kind, self.records_max)?,
                Err(error) => Reading::Found(read_error(&error)?),
            };
            match reading {
                Reading::Found(found) => {
                    return Ok(Found { ttl: found.ttl.map(|found| found.min(ttl)), ..found });
                }
                Reading::Alias(target, alias_ttl) => {
                    name = target;
                    ttl = ttl.min(alias_ttl);
                }
            }
        }
        Err(LookupFailure::Malformed)
    }

    /// Asks one server after the other until one knows; the order begins with the one that knew last.
    async fn exchange(&self, name: &Name, kind: RecordType) -> Result<DnsResponse, NetError> {
        let first = self.preferred.get();
        let mut last = NetError::NoConnections;
        for round in 0..self.rounds {
            let at = (first + round) % self.servers.len();
            match self.exchange_with(&self.servers[at], name, kind).await {
                Err(error) if is_worth_another(&error) => last = error,
                answered => {
                    self.preferred.set(at);
                    return answered;
                }
            }
        }
        Err(last)
    }

    async fn exchange_with(
        &self,
        server: &NameServerPool<TokioRuntimeProvider>,
        name: &Name,
        kind: RecordType,
    ) -> Result<DnsResponse, NetError> {
        self.queries.set(self.queries.get() + 1);
        let mut options = DnsRequestOptions::default();
        let answered = server.lookup(Query::query(name.clone(), kind), options).first_answer().await;
        if !matches!(&answered, Err(error) if is_edns_trouble(error)) {
            return answered;
        }
        // Servers from before 1999 take the extension for an error.
        options.use_edns = false;
        self.queries.set(self.queries.get() + 1);
        server.lookup(Query::query(name.clone(), kind), options).first_answer().await
    }
}

/// Whether another server may know better.
fn is_worth_another(error: &NetError) -> bool {
    read_error::<std::net::IpAddr>(error).is_err()
}

fn is_edns_trouble(error: &NetError) -> bool {
    use hickory_proto::op::ResponseCode::{BADVERS, FormErr, NotImp};
    use hickory_resolver::net::DnsError::ResponseCode;
    matches!(error, NetError::Dns(ResponseCode(FormErr | NotImp | BADVERS)))
}

fn server(address: SocketAddr) -> NameServerConfig {
    let mut connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = address.port();
    }
    NameServerConfig::new(address.ip(), true, connections.into())
}

/// One server a pool, one attempt a question: which server comes next is decided here.
fn options(config: &DnsConfig) -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.timeout = config.timeout;
    options.attempts = 0;
    options.cache_size = 0;
    options.num_concurrent_reqs = 1;
    options.max_active_requests = config.queries_max;
    options
}

/// How often an alias is asked for that an answer did not follow to its end.
const ALIAS_QUESTIONS_MAX: usize = 4;
