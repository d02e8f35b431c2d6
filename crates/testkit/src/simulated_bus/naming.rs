//! From a name to a route: the Federation Resolver, the two caches of DNS below it, and what the world says to them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use southbridge_bus::resolver::{
    Action, LookupId, ResolveError, ResolvedFederationAddress, Resolver, ResolverLimits,
};
use southbridge_policy::freshness::{Asked, Fetched, FreshnessLimits, Known, StepCache};
use southbridge_policy::lane::Lane;
use southbridge_words::{
    Answer, Class, Endpoint, HostState, LookupFailure, Outcome, PeerId, SrvRecord, Step, Ticket,
};

use super::agenda::Within;
use super::carrying::{Carry, crowded, unsent};
use super::driver::Simulation;
use super::homes::DnsFault;
use crate::simulated_names::index_of;

type Cache<V, T> = StepCache<Arc<str>, V, LookupFailure, T>;

/// What a process knows of names. Gone with it.
pub(super) struct Names {
    pub(super) resolver: Resolver,
    addresses: Cache<Arc<[IpAddr]>, Asker>,
    srv: Cache<Arc<[SrvRecord]>, LookupId>,
    peers: FxHashMap<Arc<str>, PeerId>,
    routes: Vec<Route>,
}

/// A peer: whose it is, and where.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) host: usize,
    pub(super) endpoints: Arc<[Endpoint]>,
}

/// Who waits for addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    Resolver(LookupId),
    Fetch(Ticket),
}

/// A question to a name server.
#[derive(Clone, Debug)]
pub(super) enum Lookup {
    Addresses(Arc<str>),
    Srv(Arc<str>),
}

impl Names {
    pub(super) fn new(limits: ResolverLimits, seed: u64) -> Self {
        Self {
            resolver: Resolver::new(limits, seed),
            addresses: StepCache::new(dns_limits(), seed ^ 2),
            srv: StepCache::new(dns_limits(), seed ^ 3),
            peers: FxHashMap::default(),
            routes: Vec::new(),
        }
    }

    pub(super) fn route(&self, peer: PeerId) -> &Route {
        &self.routes[peer.0 as usize]
    }

    /// The number of the peer with this key, which is to be found there from now on.
    fn peer(&mut self, key: &Arc<str>, route: Route) -> PeerId {
        let next = PeerId(u32::try_from(self.routes.len()).unwrap_or(u32::MAX));
        let peer = *self.peers.entry(Arc::clone(key)).or_insert(next);
        match self.routes.get_mut(peer.0 as usize) {
            Some(known) => *known = route,
            None => self.routes.push(route),
        }
        peer
    }

    fn due(&mut self) -> Option<Lookup> {
        self.addresses.poll().map(Lookup::Addresses).or_else(|| self.srv.poll().map(Lookup::Srv))
    }
}

impl Simulation<'_> {
    /// An errand needs a route.
    pub(super) fn name_errand(&mut self, errand: Ticket, host: usize) {
        let now = self.now;
        let Some(process) = &mut self.process else { return };
        process.names.resolver.handle_request(errand, &self.hosts[host].name, now);
    }

    /// Does the next thing that is to be done about names; false when there is none.
    pub(super) fn drain_names(&mut self) -> bool {
        let Some(process) = &mut self.process else { return false };
        if let Some(lookup) = process.names.due() {
            self.look_up(lookup);
        } else if let Some(action) = process.names.resolver.poll() {
            self.on_resolver(action);
        } else {
            return false;
        }
        true
    }

    fn on_resolver(&mut self, action: Action) {
        match action {
            Action::FetchWellKnown { id, host } => self.fetch(id, &host),
            Action::LookupSrv { id, name } => self.ask_srv(id, &name),
            Action::LookupAddresses { id, name } => self.ask_addresses(Asker::Resolver(id), &name),
            Action::Resolved { ticket, address } => self.on_resolved(ticket, &address),
            Action::Failed { ticket, error: ResolveError::Overloaded } => {
                self.fail(ticket, crowded(), Outcome::Abandoned);
            }
            Action::Failed { ticket, .. } => {
                let step = Step::Discovery;
                self.fail(ticket, unsent(step), Outcome::Failed { step });
            }
            Action::Explained { .. } => self.breach("nobody asked for an explanation".to_owned()),
        }
    }

    fn on_resolved(&mut self, errand: Ticket, address: &ResolvedFederationAddress) {
        let Some(host) = self.carried(errand).map(|carried| carried.host) else { return };
        self.note("resolved", host as u64, address.endpoints.len() as u64);
        let is_its_own = index_of(&address.certificate.to_string()) == host;
        self.insist(is_its_own, || format!("I3: host {host} would be met by another's certificate"));
        let route = Route { host, endpoints: Arc::clone(&address.endpoints) };
        let Some(process) = &mut self.process else { return };
        let peer = process.names.peer(&address.peer_key, route);
        self.want(errand, peer, false);
    }

    /// A `.well-known` document is fetched by an errand of its own, in the lane of its host.
    fn fetch(&mut self, id: LookupId, name: &Arc<str>) {
        let host = index_of(name);
        let (now, deadline) = (self.now, self.now + FETCH_TIMEOUT);
        let Some(process) = &mut self.process else { return };
        let view = process.ranker.view(&self.hosts[host].service, now);
        let lane = match view.map(|view| view.state) {
            Some(HostState::Healthy) => Lane::Open,
            _ => Lane::Limited,
        };
        if let Some(errand) = self.carry(host, Carry::Fetch(id), Class::Interactive, lane, deadline) {
            self.ask_addresses(Asker::Fetch(errand), name);
        }
    }

    fn ask_srv(&mut self, id: LookupId, name: &Arc<str>) {
        let now = self.now;
        let Some(process) = &mut self.process else { return };
        let told = match process.names.srv.ask(name, id, now) {
            Asked::Waiting => return,
            Asked::Known(known) => Ok(answer(known)),
            Asked::Failed(failing) => Err(failing.error),
            Asked::Full(_) => Err(LookupFailure::Overloaded),
        };
        process.names.resolver.handle_srv(id, told, now);
    }

    fn ask_addresses(&mut self, asker: Asker, name: &Arc<str>) {
        let now = self.now;
        let Some(process) = &mut self.process else { return };
        let told = match process.names.addresses.ask(name, asker, now) {
            Asked::Waiting => return,
            Asked::Known(known) => Ok(answer(known)),
            Asked::Failed(failing) => Err(failing.error),
            Asked::Full(_) => Err(LookupFailure::Overloaded),
        };
        self.tell_addresses(asker, name, told);
    }

    fn tell_addresses(
        &mut self,
        asker: Asker,
        name: &Arc<str>,
        told: Result<Answer<Arc<[IpAddr]>>, LookupFailure>,
    ) {
        let now = self.now;
        let Some(process) = &mut self.process else { return };
        match (asker, told) {
            (Asker::Resolver(id), told) => process.names.resolver.handle_addresses(id, told, now),
            (Asker::Fetch(errand), Ok(found)) if !found.value.is_empty() => {
                let endpoints =
                    found.value.iter().map(|ip| Endpoint::new(SocketAddr::new(*ip, 443))).collect();
                let route = Route { host: index_of(name), endpoints };
                let peer = process.names.peer(&format!("well-known:{name}").into(), route);
                self.want(errand, peer, false);
            }
            (Asker::Fetch(errand), _) => {
                let step = Step::Discovery;
                self.fail(errand, unsent(step), Outcome::Failed { step });
            }
        }
    }

    /// A question goes to the name servers. One that says nothing is given up after a while.
    fn look_up(&mut self, lookup: Lookup) {
        let (Lookup::Addresses(name) | Lookup::Srv(name)) = &lookup;
        let host = index_of(name);
        self.note("look up", host as u64, u64::from(matches!(lookup, Lookup::Srv(_))));
        let is_silent = self.dns_fault(host) == Some(DnsFault::Silent);
        let takes = if is_silent { DNS_TIMEOUT } else { self.millis(2, 30) };
        self.add(takes, Within::LookedUp(lookup));
    }

    pub(super) fn on_looked_up(&mut self, lookup: &Lookup) {
        let (Lookup::Addresses(name) | Lookup::Srv(name)) = lookup;
        let (host, now) = (index_of(name), self.now);
        self.note("looked up", host as u64, self.dns_fault(host).map_or(0, |fault| 1 + fault as u64));
        let fault = self.dns_fault(host).map(DnsFault::failure);
        let home = &self.hosts[host].home;
        let Some(process) = &mut self.process else { return };
        match lookup {
            Lookup::Srv(name) => {
                let found = fault.map_or_else(|| Ok(kept(home.srv(name), home.ttl)), Err);
                let Some(settled) = process.names.srv.handle_fetched(name, found, now) else { return };
                let told = settled.answer.map(answer).map_err(|failing| failing.error);
                for id in settled.waiters {
                    process.names.resolver.handle_srv(id, told.clone(), now);
                }
            }
            Lookup::Addresses(name) => {
                let found = fault.map_or_else(|| Ok(kept(home.addresses(host, name), home.ttl)), Err);
                let Some(settled) = process.names.addresses.handle_fetched(name, found, now) else { return };
                let told = settled.answer.map(answer).map_err(|failing| failing.error);
                for asker in settled.waiters {
                    self.tell_addresses(asker, name, told.clone());
                }
            }
        }
    }

    /// Nobody answers where the host was found, or somebody else does: it is looked for anew.
    pub(super) fn distrust(&mut self, host: usize) {
        let now = self.now;
        self.note("distrust", host as u64, 0);
        let name = &self.hosts[host].name;
        let Some(process) = &mut self.process else { return };
        let plain: Arc<str> = name.host_lowercase().into();
        process.names.addresses.expire(&plain, now);
        process.names.srv.expire(&plain, now);
        // Where it was delegated to is looked for anew as well.
        if let Some(address) = process.names.resolver.known(name, now) {
            let delegate: Arc<str> = address.certificate.to_string().into();
            process.names.addresses.expire(&delegate, now);
        }
        process.names.resolver.handle_distrusted(name, now);
    }
}

fn kept<T>(records: Vec<T>, ttl: Duration) -> Fetched<Arc<[T]>> {
    if records.is_empty() {
        Fetched::Absent(Arc::from([]), ttl)
    } else {
        Fetched::Present(records.into(), ttl)
    }
}

fn answer<V>(known: Known<V>) -> Answer<V> {
    let Known { value, fresh_until, stale } = known;
    Answer { value, fresh_until, stale, cached: false }
}

/// As the kernel's DNS has them.
fn dns_limits() -> FreshnessLimits {
    FreshnessLimits {
        entries_max: 20_000,
        waiting_max: 20_000,
        background_max: 32,
        fresh_min: Duration::from_secs(5),
        fresh_max: Duration::from_secs(24 * 3600),
        absent_max: Duration::from_secs(3600),
        stale_max: Duration::from_secs(24 * 3600),
        failure_first: Duration::from_secs(1),
        failure_max: Duration::from_secs(30),
    }
}

const FETCH_TIMEOUT: Duration = Duration::from_secs(8);
const DNS_TIMEOUT: Duration = Duration::from_secs(6);
