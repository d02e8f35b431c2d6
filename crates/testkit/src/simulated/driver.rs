//! Runs the machines: the part that the corridor plays in the kernel.
//!
//! This file has the requests' way from submission to their end; [`super::discovery`] has what the resolver
//! asks for, [`super::lending`] what the pool does.

use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use southbridge_bus::resolver::{LookupId, Resolver};
use southbridge_policy::lane::Lane;
use southbridge_policy::pool::{Lease, Pool, PoolUse, Want};
use southbridge_policy::ranker::{Advice, Demand, Ranker};
use southbridge_policy::seeded::Seeded;
use southbridge_words::{Class, ConnId, Instant, Outcome, PeerId, Step, Ticket};

use super::agenda::{Agenda, Fact};
use super::lending::Conn;
use super::scenery::{Host, draw};
use super::{Ending, Report, SimulationSpec};

/// The machines, the world around them, and what is under way between them.
pub(super) struct Simulation<'a> {
    pub(super) spec: &'a SimulationSpec,
    pub(super) now: Instant,
    pub(super) agenda: Agenda,
    pub(super) hosts: Vec<Host>,
    pub(super) resolver: Resolver,
    pub(super) ranker: Ranker,
    pub(super) pool: Pool,
    pub(super) requests: FxHashMap<Ticket, Request>,
    pub(super) peers: FxHashMap<Arc<str>, PeerId>,
    /// The host that each peer number stands for.
    pub(super) peer_hosts: Vec<usize>,
    pub(super) conns: FxHashMap<ConnId, Conn>,
    pub(super) usage: PoolUse,
    /// Draws for the world: distances, thinking times.
    pub(super) chance: Seeded,
    /// Draws for the users: they ask for the same whatever the world does.
    users: Seeded,
    pub(super) report: Report,
    tickets: u64,
    thread_free_at: Instant,
    turns_at_now: u32,
}

/// One request under way.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) host: usize,
    pub(super) errand: Errand,
    pub(super) submitted_at: Instant,
    pub(super) deadline: Instant,
    pub(super) lane: Lane,
    pub(super) stage: Stage,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    /// Somebody's call; the ranker is owed an outcome.
    Call(Class),
    /// The resolver's fetch of a `.well-known` document.
    Fetch(LookupId),
}

/// How far a request has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// The resolver has it.
    Resolving,
    /// The pool has it.
    Waiting(PeerId),
    /// It is on the wire.
    Sent(Lease, Instant),
}

impl<'a> Simulation<'a> {
    pub(super) fn new(spec: &'a SimulationSpec) -> Self {
        let mut chance = Seeded::new(spec.seed);
        let hosts = draw(spec, &mut chance);
        let mut agenda = Agenda::default();
        agenda.add(Instant::ZERO + START, Fact::FanOut);
        agenda.add(Instant::ZERO + START, Fact::Interactive);
        Self {
            spec,
            now: Instant::ZERO,
            agenda,
            hosts,
            resolver: Resolver::new(spec.resolver.clone(), chance.next_u64()),
            ranker: Ranker::new(spec.ranker.clone(), chance.next_u64()),
            pool: Pool::new(spec.pool.clone()),
            requests: FxHashMap::default(),
            peers: FxHashMap::default(),
            peer_hosts: Vec::new(),
            conns: FxHashMap::default(),
            usage: PoolUse::default(),
            users: Seeded::new(spec.seed.rotate_left(17)),
            chance,
            report: Report::new(spec),
            tickets: 0,
            thread_free_at: Instant::ZERO,
            turns_at_now: 0,
        }
    }

    pub(super) fn run(mut self) -> Report {
        while self.turn() {
            self.drain();
            self.check_limits();
        }
        self.check_end();
        self.report.close(self.now);
        self.report
    }

    /// Lets the next thing happen; false when nothing will ever again.
    fn turn(&mut self) -> bool {
        let pool = self.pool.poll_timeout();
        let resolver = self.resolver.poll_timeout();
        let wake = pool.into_iter().chain(resolver).min();
        match (wake, self.agenda.next_at()) {
            (Some(wake), fact) if fact.is_none_or(|at| wake <= at) => self.wake(wake, pool, resolver),
            (_, Some(_)) => {
                let Some((at, fact)) = self.agenda.next() else { return false };
                self.advance(at);
                self.trace(1, fact_number(fact), 0);
                self.on_fact(fact);
            }
            _ => return false,
        }
        true
    }

    fn wake(&mut self, at: Instant, pool: Option<Instant>, resolver: Option<Instant>) {
        self.advance(at);
        self.trace(2, u64::from(pool == Some(at)), u64::from(resolver == Some(at)));
        if pool.is_some_and(|due| due <= self.now) {
            self.report.steps.pool += 1;
            self.pool.handle_timeout(self.now);
        }
        if resolver.is_some_and(|due| due <= self.now) {
            self.report.steps.resolver += 1;
            self.resolver.handle_timeout(self.now);
        }
    }

    fn advance(&mut self, at: Instant) {
        self.turns_at_now = if at > self.now { 0 } else { self.turns_at_now + 1 };
        self.insist(self.turns_at_now < TURNS_MAX, "time stands still: a machine asks to be woken for ever");
        self.now = self.now.max(at);
    }

    fn on_fact(&mut self, fact: Fact) {
        match fact {
            Fact::FanOut => self.fan_out(),
            Fact::Interactive => self.ask_something(),
            Fact::Deadline(ticket) => self.on_deadline(ticket),
            Fact::Srv(id, host, name) => self.on_srv(id, host, name),
            Fact::Addresses(id, host) => self.on_addresses(id, host),
            Fact::FetchAddress(ticket) => self.on_fetch_address(ticket),
            Fact::Dialled(conn) => self.on_dialled(conn),
            Fact::DialFailed(conn) => self.on_dial_failed(conn),
            Fact::Shaken(conn) => self.on_shaken(conn),
            Fact::Responded(ticket) => self.on_responded(ticket),
            Fact::Cut(ticket) => self.on_cut(ticket),
        }
    }

    fn fan_out(&mut self) {
        for host in 0..self.hosts.len() {
            self.submit(host, Class::Live);
        }
        self.again(self.spec.fan_out_every, Fact::FanOut);
    }

    fn ask_something(&mut self) {
        let host = self.users.below(self.hosts.len() as u64) as usize;
        self.submit(host, Class::Interactive);
        let every = self.spec.interactive_every / u32::try_from(self.hosts.len()).unwrap_or(u32::MAX).max(1);
        let pause = every.mul_f64(self.users.factor(0.5, 1.5));
        self.again(pause, Fact::Interactive);
    }

    fn again(&mut self, after: Duration, fact: Fact) {
        if self.now + after < Instant::ZERO + self.spec.lasts {
            self.agenda.add(self.now + after, fact);
        }
    }

    fn submit(&mut self, host: usize, class: Class) {
        let (timeout, demand) = match class {
            Class::Interactive => (self.spec.interactive_timeout, Demand::Prompt),
            _ => (self.spec.live_timeout, Demand::Patient),
        };
        self.report.steps.ranker += 1;
        let advice = self.ranker.ask(&self.hosts[host].service, demand, self.now);
        let lane = match advice {
            Advice::Go { lane } => lane,
            Advice::Probe => Lane::Limited,
            Advice::Refuse(_) => return self.tally(host, class, Ending::Refused, self.now),
        };
        let ticket = self.enter(host, Errand::Call(class), lane, timeout);
        self.trace(3, ticket.0, lane as u64);
        self.report.steps.resolver += 1;
        match self.resolver.known(&self.hosts[host].name, self.now) {
            Some(address) => self.want(ticket, &address.peer_key),
            None => {
                self.report.steps.resolver += 1;
                self.resolver.handle_request(ticket, &self.hosts[host].name, self.now);
            }
        }
    }

    /// A new request, which nobody has yet.
    pub(super) fn enter(&mut self, host: usize, errand: Errand, lane: Lane, timeout: Duration) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let deadline = self.now + timeout;
        let stage = Stage::Resolving;
        self.requests.insert(ticket, Request { host, errand, submitted_at: self.now, deadline, lane, stage });
        self.agenda.add(deadline, Fact::Deadline(ticket));
        ticket
    }

    /// Hands a request to the pool.
    pub(super) fn want(&mut self, ticket: Ticket, peer_key: &Arc<str>) {
        let Some(request) = self.requests.get_mut(&ticket) else { return };
        let next = PeerId(u32::try_from(self.peers.len()).unwrap_or(u32::MAX));
        let peer = *self.peers.entry(Arc::clone(peer_key)).or_insert(next);
        if peer == next {
            self.peer_hosts.push(request.host);
        }
        request.stage = Stage::Waiting(peer);
        let class = match request.errand {
            Errand::Call(class) => class,
            Errand::Fetch(_) => Class::Live,
        };
        let (lane, deadline) = (request.lane, request.deadline);
        self.report.steps.pool += 1;
        let want = Want { ticket, peer, class, lane, deadline, fresh: false };
        if self.pool.handle_request(want, self.now).is_err() {
            self.end(ticket, Ending::Crowded, Outcome::Abandoned);
        }
    }

    fn on_deadline(&mut self, ticket: Ticket) {
        let Some(request) = self.requests.get_mut(&ticket) else { return };
        let step = match std::mem::replace(&mut request.stage, Stage::Resolving) {
            Stage::Resolving => {
                if matches!(request.errand, Errand::Call(_)) {
                    self.report.steps.resolver += 1;
                    self.resolver.handle_cancelled(ticket);
                }
                Step::Discovery
            }
            Stage::Waiting(_) => {
                self.report.steps.pool += 1;
                self.pool.handle_cancelled(ticket, self.now);
                Step::Connect
            }
            Stage::Sent(lease, _) => {
                self.give_back_spent(lease);
                Step::Response
            }
        };
        self.end(ticket, Ending::Failed, Outcome::Failed { step });
    }

    /// The end of a request, whichever it is.
    pub(super) fn end(&mut self, ticket: Ticket, ending: Ending, outcome: Outcome) {
        let Some(request) = self.requests.remove(&ticket) else {
            return self.insist(false, "a request ended twice");
        };
        self.insist(self.now <= request.deadline, "a request outlived its deadline");
        self.trace(4, ticket.0, ending as u64);
        match request.errand {
            Errand::Fetch(id) => self.on_fetched(id, request.host, outcome),
            Errand::Call(class) => {
                self.report.steps.ranker += 1;
                self.ranker.handle_outcome(&self.hosts[request.host].service, outcome, self.now);
                self.tally(request.host, class, ending, request.submitted_at);
            }
        }
    }

    fn tally(&mut self, host: usize, class: Class, ending: Ending, submitted_at: Instant) {
        if submitted_at >= Instant::ZERO + self.spec.calm_for {
            let took = self.now.saturating_since(submitted_at);
            self.report.note(self.hosts[host].kind, class, ending, took);
        }
    }

    fn drain(&mut self) {
        loop {
            if let Some(action) = self.resolver.poll() {
                self.report.steps.resolver += 1;
                self.on_resolver(action);
            } else if let Some(action) = self.pool.poll() {
                self.report.steps.pool += 1;
                self.on_pool(action);
            } else {
                return;
            }
        }
    }

    /// When the one thread is done with work of this `cost` that comes in now.
    pub(super) fn work(&mut self, cost: Duration) -> Instant {
        self.thread_free_at = self.thread_free_at.max(self.now) + cost;
        self.thread_free_at
    }

    pub(super) fn trace(&mut self, what: u64, one: u64, other: u64) {
        self.report.fold([self.now.as_nanos(), what, one, other]);
    }

    fn check_limits(&mut self) {
        let (limits, held) = (&self.spec.pool, self.usage);
        self.insist(held.connections <= limits.connections_max, "more connections than connections_max");
        self.insist(held.dials <= limits.dials_max, "more dials than dials_max");
        self.insist(held.handshakes <= limits.handshakes_max, "more handshakes than handshakes_max");
        let told = self.pool.usage();
        self.insist(told.connections == held.connections, "the pool miscounts its connections");
        self.insist(told.dials == held.dials, "the pool miscounts its dials");
        self.insist(told.handshakes == held.handshakes, "the pool miscounts its handshakes");
        self.insist(
            told.limited_dials <= limits.limited_dials_max,
            "more dials in the limited lane than it may",
        );
        let limited = told.limited_handshakes <= limits.limited_handshakes_max;
        self.insist(limited, "more handshakes in the limited lane than it may");
        let limited = told.limited_connections <= limits.limited_connections_max;
        self.insist(limited, "more connections in the limited lane than it may");
        let most = &mut self.report.most;
        most.connections = most.connections.max(held.connections);
        most.dials = most.dials.max(held.dials);
        most.handshakes = most.handshakes.max(held.handshakes);
        most.waiting = most.waiting.max(told.waiting);
        most.leases = most.leases.max(told.leases);
    }

    fn check_end(&self) {
        self.insist(self.requests.is_empty(), "requests were left behind");
        self.insist(self.conns.is_empty(), "connections were left behind");
        self.insist(self.pool.usage() == PoolUse::default(), "the pool holds something still");
        self.insist(self.resolver.counters().under_way == 0, "resolutions were left behind");
    }

    /// Panics unless `holds`, with what replays the story.
    pub(super) fn insist(&self, holds: bool, otherwise: &str) {
        assert!(
            holds,
            "{otherwise}, at {:?} of seed {}; replay with {:#?}",
            self.now, self.spec.seed, self.spec
        );
    }
}

fn fact_number(fact: Fact) -> u64 {
    match fact {
        Fact::FanOut => 0,
        Fact::Interactive => 1,
        Fact::Deadline(ticket) => 2 | ticket.0 << 4,
        Fact::Srv(id, ..) => 3 | id.0 << 4,
        Fact::Addresses(id, _) => 4 | id.0 << 4,
        Fact::FetchAddress(ticket) => 5 | ticket.0 << 4,
        Fact::Dialled(conn) => 6 | conn.0 << 4,
        Fact::DialFailed(conn) => 7 | conn.0 << 4,
        Fact::Shaken(conn) => 8 | conn.0 << 4,
        Fact::Responded(ticket) => 9 | ticket.0 << 4,
        Fact::Cut(ticket) => 10 | ticket.0 << 4,
    }
}

const START: Duration = Duration::from_secs(1);
/// More than can happen at one instant, even when five thousand requests come and end together.
const TURNS_MAX: u32 = 1_000_000;
