//! What the resolver asks for, and what DNS and `.well-known` hosts say.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use southbridge_bus::resolver::{Action, LookupId, ResolveError, WellKnownAnswer, WellKnownResult};
use southbridge_policy::lane::Lane;
use southbridge_words::{Answer, HostState, LookupFailure, Outcome, SrvRecord, Step, Ticket, WallTime};

use super::Ending;
use super::agenda::{Fact, SrvName};
use super::driver::{Errand, Simulation};
use super::scenery::Route;
use crate::simulated_names::{fetch_failed, index_of, well_known};

impl Simulation<'_> {
    pub(super) fn on_resolver(&mut self, action: Action) {
        match action {
            Action::FetchWellKnown { id, host } => {
                let host = index_of(&host);
                let ticket = self.enter(host, Errand::Fetch(id), self.lane_of(host), self.spec.fetch_timeout);
                let at = self.now + self.dns_takes(host);
                self.agenda.add(at, Fact::FetchAddress(ticket));
            }
            Action::LookupSrv { id, name } => {
                let which =
                    if name.starts_with("_matrix-fed.") { SrvName::MatrixFed } else { SrvName::Matrix };
                let host = index_of(&name);
                let at = self.now + self.dns_takes(host);
                self.agenda.add(at, Fact::Srv(id, host, which));
            }
            Action::LookupAddresses { id, name } => {
                let host = index_of(&name);
                let at = self.now + self.dns_takes(host);
                self.agenda.add(at, Fact::Addresses(id, host));
            }
            Action::Resolved { ticket, address } => {
                self.trace(5, ticket.0, address.endpoints.len() as u64);
                self.want(ticket, &address.peer_key);
            }
            // Our own crowd, which says nothing about the host.
            Action::Failed { ticket, error: ResolveError::Overloaded } => {
                self.end(ticket, Ending::Crowded, Outcome::Abandoned);
            }
            Action::Failed { ticket, .. } => {
                self.end(ticket, Ending::Failed, Outcome::Failed { step: Step::Discovery });
            }
            Action::Explained { .. } => self.insist(false, "nobody asked for an explanation"),
        }
    }

    /// A fetch travels in the lane of the host it is for, and is no request to it: a host that is well is
    /// not made to wait among strangers when its delegation is looked at again.
    fn lane_of(&self, host: usize) -> Lane {
        let view = self.ranker.view(&self.hosts[host].service, self.now);
        match view.map(|view| view.state) {
            Some(HostState::Healthy) => Lane::Open,
            _ => Lane::Limited,
        }
    }

    /// SERVFAIL comes at once; every other name server that fails says nothing until we give up on it.
    fn dns_takes(&mut self, host: usize) -> Duration {
        let answered = Duration::from_millis(5 + self.chance.below(30));
        let silent = self.hosts[host].is_unresolvable(self.spec, self.now) && host.is_multiple_of(2);
        if silent { DNS_TIMEOUT } else { answered }
    }

    pub(super) fn on_srv(&mut self, id: LookupId, host: usize, name: SrvName) {
        self.report.steps.resolver += 1;
        if let Some(failure) = self.dns_failure(host) {
            return self.resolver.handle_srv(id, Err(failure), self.now);
        }
        let host = &self.hosts[host];
        let records: Vec<SrvRecord> = match (host.route, name) {
            (Route::Srv, SrvName::MatrixFed) => {
                let target = host.domain.as_str().into();
                vec![SrvRecord { priority: 10, weight: 1, port: 443, target }]
            }
            _ => Vec::new(),
        };
        let answer = self.answer(Arc::from(records));
        self.resolver.handle_srv(id, Ok(answer), self.now);
    }

    pub(super) fn on_addresses(&mut self, id: LookupId, host: usize) {
        self.report.steps.resolver += 1;
        if let Some(failure) = self.dns_failure(host) {
            return self.resolver.handle_addresses(id, Err(failure), self.now);
        }
        let number = u32::try_from(host).unwrap_or(u32::MAX).wrapping_add(FIRST_ADDRESS);
        let addresses: Arc<[IpAddr]> = [IpAddr::from(Ipv4Addr::from(number))].into();
        let answer = self.answer(addresses);
        self.resolver.handle_addresses(id, Ok(answer), self.now);
    }

    fn dns_failure(&self, host: usize) -> Option<LookupFailure> {
        let failure = if host.is_multiple_of(2) { LookupFailure::TimedOut } else { LookupFailure::ServFail };
        self.hosts[host].is_unresolvable(self.spec, self.now).then_some(failure)
    }

    fn answer<T>(&self, value: T) -> Answer<T> {
        Answer { value, fresh_until: self.now + DNS_TTL, stale: false, cached: false }
    }

    /// The fetcher knows where to go, and takes its place among those who want a connection.
    pub(super) fn on_fetch_address(&mut self, ticket: Ticket) {
        let Some(request) = self.requests.get(&ticket) else { return };
        let host = request.host;
        if self.dns_failure(host).is_some() {
            return self.end(ticket, Ending::Failed, Outcome::Failed { step: Step::Discovery });
        }
        let key = format!("well-known:{}", self.hosts[host].domain).into();
        self.want(ticket, &key);
    }

    /// Tells the resolver what came of its fetch.
    pub(super) fn on_fetched(&mut self, id: LookupId, host: usize, outcome: Outcome) {
        let result = match outcome {
            Outcome::Answered { .. } | Outcome::Unwilling { .. } => {
                WellKnownResult::Answered(self.well_known_of(host))
            }
            failed => fetch_failed(failed),
        };
        self.report.steps.resolver += 1;
        self.resolver.handle_well_known(id, result, self.now);
    }

    fn well_known_of(&self, host: usize) -> WellKnownAnswer {
        let host = &self.hosts[host];
        let delegate = (host.route == Route::WellKnown).then(|| format!("{}:8448", host.domain));
        well_known(delegate.as_deref(), WallTime::from_unix_millis(self.now.as_nanos() / 1_000_000))
    }
}

const DNS_TTL: Duration = Duration::from_secs(300);
const DNS_TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_ADDRESS: u32 = 0x0a00_0000;
