//! A small world whose every answer is scripted.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use southbridge_words::{Answer, Instant, LookupFailure, ServerName, SrvRecord, Ticket};

use crate::resolver::{
    Action, CacheHeaders, Explanation, ResolveError, ResolvedFederationAddress, Resolver, ResolverLimits,
    WellKnownAnswer, WellKnownFailure, WellKnownResult,
};

pub(super) const T0: Instant = Instant::from_nanos(1_000_000_000);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

pub(super) type Outcome = Result<Arc<ResolvedFederationAddress>, ResolveError>;
type Looked<T> = Result<Vec<T>, LookupFailure>;

/// What hosts and name servers say, what was asked of them, and the resolver that asks.
pub(super) struct World {
    pub(super) resolver: Resolver,
    pub(super) now: Instant,
    well_known: BTreeMap<String, WellKnownResult>,
    srv: BTreeMap<String, Looked<SrvRecord>>,
    addresses: BTreeMap<String, Looked<IpAddr>>,
    ttl: Duration,
    /// Everything that was asked, in order: `well-known HOST`, `srv NAME`, `addresses NAME`.
    pub(super) asked: Vec<String>,
    next_ticket: u64,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            resolver: Resolver::new(ResolverLimits::default(), 7),
            now: T0,
            well_known: BTreeMap::new(),
            srv: BTreeMap::new(),
            addresses: BTreeMap::new(),
            ttl: HOUR,
            asked: Vec::new(),
            next_ticket: 0,
        }
    }

    /// `host` answers 200 with this body.
    pub(super) fn well_known(&mut self, host: &str, body: &str) -> &mut Self {
        self.well_known_answer(host, 200, "", body)
    }

    pub(super) fn well_known_answer(
        &mut self,
        host: &str,
        status: u16,
        control: &str,
        body: &str,
    ) -> &mut Self {
        let cache_control = (!control.is_empty()).then(|| control.to_owned());
        let answer = WellKnownAnswer {
            status,
            caching: CacheHeaders { cache_control, ..CacheHeaders::default() },
            body: body.as_bytes().to_vec(),
            ..WellKnownAnswer::default()
        };
        self.well_known.insert(host.into(), WellKnownResult::Answered(answer));
        self
    }

    pub(super) fn well_known_fails(&mut self, host: &str, failure: WellKnownFailure) -> &mut Self {
        self.well_known.insert(host.into(), WellKnownResult::Failed(failure));
        self
    }

    /// `name` has these SRV records of priority, weight, port and target.
    pub(super) fn srv(&mut self, name: &str, records: &[(u16, u16, u16, &str)]) -> &mut Self {
        let record = |&(priority, weight, port, target): &(u16, u16, u16, &str)| SrvRecord {
            priority,
            weight,
            port,
            target: target.into(),
        };
        self.srv.insert(name.into(), Ok(records.iter().map(record).collect()));
        self
    }

    pub(super) fn srv_fails(&mut self, name: &str, failure: LookupFailure) -> &mut Self {
        self.srv.insert(name.into(), Err(failure));
        self
    }

    pub(super) fn host(&mut self, name: &str, addresses: &[&str]) -> &mut Self {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        self.addresses.insert(name.into(), Ok(addresses));
        self
    }

    pub(super) fn addresses_fail(&mut self, name: &str, failure: LookupFailure) -> &mut Self {
        self.addresses.insert(name.into(), Err(failure));
        self
    }

    /// How long DNS answers are fresh from now on.
    pub(super) fn ttl(&mut self, ttl: Duration) -> &mut Self {
        self.ttl = ttl;
        self
    }

    pub(super) fn wait(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self.resolver.handle_timeout(self.now);
        self
    }

    /// Resolves `name`, with the world answering everything that is asked.
    pub(super) fn resolve(&mut self, name: &str) -> Outcome {
        let ticket = self.request(name);
        let mut outcome = None;
        for action in self.settle() {
            match action {
                Action::Resolved { ticket: of, address } if of == ticket => outcome = Some(Ok(address)),
                Action::Failed { ticket: of, error } if of == ticket => outcome = Some(Err(error)),
                other => panic!("nobody asked for {other:?}"),
            }
        }
        outcome.expect("every ticket is answered")
    }

    pub(super) fn explain(&mut self, name: &str) -> Explanation {
        let ticket = self.ticket();
        self.resolver.handle_explain(ticket, &server_name(name), self.now);
        match self.settle().pop() {
            Some(Action::Explained { explanation, .. }) => *explanation,
            other => panic!("not an explanation: {other:?}"),
        }
    }

    /// Hands in a request without answering anything.
    pub(super) fn request(&mut self, name: &str) -> Ticket {
        let ticket = self.ticket();
        self.resolver.handle_request(ticket, &server_name(name), self.now);
        ticket
    }

    /// What was asked since the last time.
    pub(super) fn take_asked(&mut self) -> Vec<String> {
        std::mem::take(&mut self.asked)
    }

    /// Answers everything that is asked, and gives what tickets were told.
    pub(super) fn settle(&mut self) -> Vec<Action> {
        let mut told = Vec::new();
        while let Some(action) = self.resolver.poll() {
            match action {
                Action::FetchWellKnown { id, host } => {
                    self.asked.push(format!("well-known {host}"));
                    let missing = WellKnownResult::Failed(WellKnownFailure::Connect);
                    let result = self.well_known.get(&*host).cloned().unwrap_or(missing);
                    self.resolver.handle_well_known(id, result, self.now);
                }
                Action::LookupSrv { id, name } => {
                    self.asked.push(format!("srv {name}"));
                    let answer = looked(&self.srv, &name, self.now + self.ttl);
                    self.resolver.handle_srv(id, answer, self.now);
                }
                Action::LookupAddresses { id, name } => {
                    self.asked.push(format!("addresses {name}"));
                    let answer = looked(&self.addresses, &name, self.now + self.ttl);
                    self.resolver.handle_addresses(id, answer, self.now);
                }
                answer => told.push(answer),
            }
        }
        told
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }
}

pub(super) fn server_name(name: &str) -> ServerName {
    ServerName::parse(name).expect("a server name")
}

fn looked<T: Clone>(
    all: &BTreeMap<String, Looked<T>>,
    name: &str,
    fresh_until: Instant,
) -> Result<Answer<Arc<[T]>>, LookupFailure> {
    let records = all.get(name).cloned().unwrap_or(Ok(Vec::new()))?;
    Ok(Answer { value: records.into(), fresh_until, stale: false, cached: false })
}

/// Where, under which name, and as whom: `ADDRESS… as HOST verified as CERTIFICATE key KEY`.
pub(super) fn summary(outcome: &Outcome) -> String {
    match outcome {
        Ok(resolved) => {
            let endpoints: Vec<String> = resolved
                .endpoints
                .iter()
                .map(|endpoint| match (endpoint.priority, endpoint.weight) {
                    (0, 0) => endpoint.address.to_string(),
                    (priority, weight) => format!("{}/{priority}/{weight}", endpoint.address),
                })
                .collect();
            let (host, certificate, key) = (&resolved.host_header, &resolved.certificate, &resolved.peer_key);
            format!("{} as {host} verified as {certificate} key {key}", endpoints.join(" "))
        }
        Err(error) => error.to_string(),
    }
}
