//! What the kernel does for the bus: admits, asks the ranker, has the name resolved, borrows a connection, carries.

use southbridge_bus::externaliser::{Errand, Failure};
use southbridge_bus::resolver::LookupId;
use southbridge_bus::transaction::Transaction;
use southbridge_policy::lane::Lane;
use southbridge_policy::pool::{Action, Lease, Refusal, Returned, Want};
use southbridge_policy::ranker::{Advice, Demand};
use southbridge_words::{Class, ConnId, Instant, Outcome, PeerId, ServerName, Step, Ticket};

use super::agenda::Within;
use super::driver::Simulation;
use super::hosts::index_of;
use super::wire::Load;
use crate::simulated_names::fetch_failed;

/// One request under way.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) host: usize,
    pub(super) load: Carry,
    class: Class,
    lane: Lane,
    deadline: Instant,
    peer: Option<PeerId>,
    pub(super) stage: Stage,
    pub(super) attempt: u32,
    is_reused: bool,
}

/// What a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carry {
    /// A transaction for its host; its bytes are composed when a connection is lent.
    Transaction,
    /// The query of this ticket; and whether it may be sent twice.
    Query(Ticket, bool),
    /// A `.well-known` document, for this lookup of the resolver.
    Fetch(LookupId),
}

/// How far a request has come.
#[derive(Debug)]
pub(super) enum Stage {
    Naming,
    Waiting,
    /// A connection is lent, and what to send is being composed.
    Lent(Lease),
    OnWire(Lease, Instant),
}

impl Simulation<'_> {
    pub(super) fn send(&mut self, destination: &ServerName, class: Class, patient: bool, deadline: Instant) {
        let host = index_of(destination);
        self.note("send", host as u64, class as u64);
        let Some(process) = &mut self.process else { return };
        let is_first = !process.sends.contains_key(&host);
        let demand = if patient { Demand::Patient } else { Demand::Prompt };
        let advice = process.ranker.ask(&self.hosts[host].service, demand, self.now);
        self.insist(is_first, || format!("two transactions at a time for host {host}"));
        match advice {
            Advice::Refuse(down) => {
                let failure = Failure::Down { retry_in: down.retry_in };
                let destination = destination.clone();
                self.tell_bus(|bus, at| bus.handle_failed(&destination, failure, at));
            }
            advice => {
                let lane = advice.lane().unwrap_or(Lane::Limited);
                if let Some(errand) = self.carry(host, Carry::Transaction, class, lane, deadline) {
                    self.name_errand(errand, host);
                }
            }
        }
    }

    pub(super) fn carry_query(
        &mut self,
        ticket: Ticket,
        destination: &ServerName,
        class: Class,
        deadline: Instant,
        repeatable: bool,
    ) {
        let host = index_of(destination);
        self.note("ask", host as u64, ticket.0);
        let Some(process) = &mut self.process else { return };
        let is_first = !process.asks.contains_key(&ticket);
        let advice = process.ranker.ask(&self.hosts[host].service, Demand::Prompt, self.now);
        self.insist(is_first, || "a query is asked twice at a time".to_owned());
        match advice {
            Advice::Refuse(down) => {
                let failure = Failure::Down { retry_in: down.retry_in };
                self.tell_bus(|bus, at| bus.handle_query_failed(ticket, failure, at));
            }
            advice => {
                let lane = advice.lane().unwrap_or(Lane::Limited);
                if let Some(errand) =
                    self.carry(host, Carry::Query(ticket, repeatable), class, lane, deadline)
                {
                    self.name_errand(errand, host);
                }
            }
        }
    }

    /// Lets an errand in, if there is room for it.
    pub(super) fn carry(
        &mut self,
        host: usize,
        load: Carry,
        class: Class,
        lane: Lane,
        deadline: Instant,
    ) -> Option<Ticket> {
        let (errand, now) = (self.ticket(), self.now);
        let stage = Stage::Naming;
        let carried =
            Carried { host, load, class, lane, deadline, peer: None, stage, attempt: 0, is_reused: false };
        let process = self.process.as_mut()?;
        let service = &self.hosts[host].service;
        let is_admitted = process.admission.handle_request(errand, service, class, 0).is_ok();
        process.carried.insert(errand, carried);
        match load {
            Carry::Transaction => drop(process.sends.insert(host, errand)),
            Carry::Query(ticket, _) => drop(process.asks.insert(ticket, errand)),
            Carry::Fetch(_) => {}
        }
        if !is_admitted {
            self.fail(errand, crowded(), Outcome::Abandoned);
            return None;
        }
        process.budget.handle_request(now);
        self.add(deadline.saturating_since(now), Within::Deadline(errand));
        Some(errand)
    }

    pub(super) fn want(&mut self, errand: Ticket, peer: PeerId, fresh: bool) {
        let now = self.now;
        let Some(process) = &mut self.process else { return };
        let Some(carried) = process.carried.get_mut(&errand) else { return };
        carried.stage = Stage::Waiting;
        carried.peer = Some(peer);
        let Carried { class, lane, deadline, .. } = *carried;
        let want = Want { ticket: errand, peer, class, lane, deadline, fresh };
        if process.pool.handle_request(want, now).is_err() {
            self.fail(errand, crowded(), Outcome::Abandoned);
        }
    }

    pub(super) fn on_pool(&mut self, action: Action) {
        match action {
            Action::Dial { conn, peer } => self.dial(conn, peer),
            Action::Handshake { conn } => {
                let host =
                    self.process.as_ref().and_then(|process| process.conns.get(&conn)).map(|conn| conn.host);
                let takes = host.map(|host| self.hosts[host].round_trip).unwrap_or_default();
                self.add(takes, Within::Shaken(conn));
            }
            Action::Lend { ticket, lease } => self.on_lent(ticket, lease),
            Action::Refuse { ticket, refusal } => self.on_no_connection(ticket, refusal),
            Action::Stow { .. } => {}
            Action::Revoke { conn } | Action::GiveUp { conn } | Action::Close { conn } => {
                self.lose_conn(conn);
            }
        }
    }

    fn on_lent(&mut self, errand: Ticket, lease: Lease) {
        let conn = lease.conn;
        self.note("lent", errand.0, conn.0);
        let Some(process) = &mut self.process else { return };
        let Some(carried) = process.carried.get_mut(&errand) else {
            return self.breach("a lease for a request that is over".to_owned());
        };
        if let Some(conn) = process.conns.get_mut(&conn) {
            conn.tickets.push(errand);
        }
        let (host, load) = (carried.host, carried.load);
        carried.stage = Stage::Lent(lease);
        match load {
            Carry::Transaction => {
                let name = self.name(host);
                self.tell_bus(|bus, at| bus.handle_granted(&name, at));
            }
            Carry::Query(ticket, _) => {
                let number = self.tickets.get(&ticket).and_then(|of| match of {
                    super::callers::Errand::Query(number, _) => Some(*number),
                    super::callers::Errand::Item(_) => None,
                });
                match number {
                    Some(number) => self.put_on_wire(errand, Load::Query(number)),
                    None => self.breach("a query is asked for nobody".to_owned()),
                }
            }
            Carry::Fetch(_) => self.put_on_wire(errand, Load::Fetch),
        }
    }

    /// The bus sends what it was granted a connection for.
    pub(super) fn transmit(&mut self, destination: &ServerName, transaction: &Transaction) {
        let host = index_of(destination);
        let Some(process) = &self.process else { return };
        let errand = process.sends.get(&host).copied();
        let is_lent = errand.is_some_and(|errand| matches!(process.carried[&errand].stage, Stage::Lent(_)));
        let Some(errand) = errand.filter(|_| is_lent) else {
            return self.breach(format!("I3: host {host} is sent what was not granted"));
        };
        let told = self.ledger.transmit(host, transaction);
        let is_repetition = self.check(told);
        self.note("transmit", host as u64, transaction.body.len() as u64);
        self.report.transmitted(self.now, host, is_repetition);
        if self.is_doomed() {
            return self.crash();
        }
        let load = Load::Transaction { id: transaction.id.clone(), body: transaction.body.clone() };
        self.put_on_wire(errand, load);
        if self.is_doomed() {
            self.crash();
        }
    }

    fn put_on_wire(&mut self, errand: Ticket, load: Load) {
        let now = self.now;
        let Some(process) = &mut self.process else { return };
        let Some(carried) = process.carried.get_mut(&errand) else { return };
        carried.attempt += 1;
        let (host, attempt) = (carried.host, carried.attempt);
        let mut conn = None;
        carried.stage = match std::mem::replace(&mut carried.stage, Stage::Naming) {
            Stage::Lent(lease) => {
                carried.is_reused = lease.reused;
                conn = process.conns.get(&lease.conn);
                Stage::OnWire(lease, now)
            }
            stage => stage,
        };
        let is_reused = carried.is_reused;
        let verified = conn.filter(|conn| conn.host == host).and_then(|conn| conn.verified);
        if !matches!(load, Load::Fetch) {
            process.ranker.handle_sent(&self.hosts[host].service, now);
        }
        let Some(moves) = verified else {
            return self.breach(format!("I3: host {host} is sent something where it was not verified"));
        };
        if is_reused && self.happens(self.spec.stale_permille) {
            let after = self.millis(1, 2);
            return self.add(after, Within::Cut { errand, attempt, is_stale: true });
        }
        self.launch(errand, attempt, (host, moves), load);
    }

    pub(super) fn give_back(&mut self, destination: &ServerName) {
        let host = index_of(destination);
        self.note("give back", host as u64, 0);
        let errand = self.process.as_ref().and_then(|process| process.sends.get(&host)).copied();
        match errand {
            Some(errand) => {
                let is_lent =
                    self.carried(errand).is_some_and(|carried| matches!(carried.stage, Stage::Lent(_)));
                self.insist(is_lent, || format!("host {host} gives back what it was not lent"));
                self.end_errand(errand, Returned::Reusable, Outcome::Abandoned);
            }
            None => self.breach(format!("host {host} gives back what it has not")),
        }
    }

    pub(super) fn withdraw(&mut self, errand: &Errand) {
        let Some(process) = &self.process else { return };
        let errand = match errand {
            Errand::Transaction(destination) => process.sends.get(&index_of(destination)),
            Errand::Query(ticket) => process.asks.get(ticket),
        };
        let Some(errand) = errand.copied() else { return };
        self.note("withdraw", errand.0, 0);
        self.end_errand(errand, Returned::Spent, Outcome::Abandoned);
    }

    fn on_no_connection(&mut self, errand: Ticket, refusal: Refusal) {
        let Some(carried) = self.carried(errand) else {
            return self.breach("a refusal for a request that is over".to_owned());
        };
        let peer = carried.peer;
        let is_trying = self.process.as_ref().zip(peer);
        let is_trying = is_trying.is_some_and(|(process, peer)| process.pool.peer_usage(peer).connecting > 0);
        match refusal {
            Refusal::DeadlinePassed if !is_trying => self.fail(errand, crowded(), Outcome::Abandoned),
            _ => self.fail(errand, unsent(Step::Connect), Outcome::Failed { step: Step::Connect }),
        }
    }

    fn lose_conn(&mut self, conn: ConnId) {
        let Some(process) = &mut self.process else { return };
        let Some(lost) = process.conns.remove(&conn) else { return };
        for errand in lost.tickets {
            self.fail(errand, perhaps_sent(), Outcome::Failed { step: Step::Response });
        }
    }

    pub(super) fn on_deadline(&mut self, errand: Ticket) {
        let Some(carried) = self.carried(errand) else { return };
        let (failure, step) = match carried.stage {
            Stage::Naming => (unsent(Step::Discovery), Step::Discovery),
            Stage::Waiting => (unsent(Step::Connect), Step::Connect),
            // Our own outbox was too slow.
            Stage::Lent(_) => return self.fail(errand, crowded(), Outcome::Abandoned),
            Stage::OnWire(..) => (perhaps_sent(), Step::Response),
        };
        self.fail(errand, failure, Outcome::Failed { step });
    }

    /// The connection was cut under an errand.
    pub(super) fn on_cut(&mut self, errand: Ticket, attempt: u32, is_stale: bool) {
        let Some(carried) = self.carried(errand).filter(|carried| carried.attempt == attempt) else { return };
        if !matches!(carried.stage, Stage::OnWire(..)) {
            return;
        }
        // Without a byte written there is no harm in it; closed under us, what may be sent twice is, if the budget bears it.
        let may_repeat = carried.is_reused && carried.load.is_repeatable();
        let may_again = attempt < ATTEMPTS_MAX && (is_stale || may_repeat);
        let Some(peer) = carried.peer.filter(|_| may_again) else {
            return self.on_cut_for_good(errand, is_stale);
        };
        self.note("cut", errand.0, u64::from(is_stale));
        let now = self.now;
        let has_budget =
            self.process.as_mut().is_some_and(|process| process.budget.handle_retry(now).is_ok());
        if !is_stale && !has_budget {
            return self.on_cut_for_good(errand, false);
        }
        // The kernel takes another connection, and the bus composes again.
        self.take_lease(errand, Returned::Spent);
        self.want(errand, peer, true);
    }

    fn on_cut_for_good(&mut self, errand: Ticket, is_stale: bool) {
        self.note("cut for good", errand.0, u64::from(is_stale));
        let failure = if is_stale { unsent(Step::Request) } else { perhaps_sent() };
        self.fail(errand, failure, Outcome::Failed { step: Step::Response });
    }

    pub(super) fn carried(&self, errand: Ticket) -> Option<&Carried> {
        self.process.as_ref()?.carried.get(&errand)
    }

    /// The end of an errand without an answer.
    pub(super) fn fail(&mut self, errand: Ticket, failure: Failure, outcome: Outcome) {
        let Some(carried) = self.carried(errand) else { return };
        let (host, load) = (carried.host, carried.load);
        self.note("failed", host as u64, errand.0);
        self.end_errand(errand, Returned::Spent, outcome);
        match load {
            Carry::Transaction => {
                let name = self.name(host);
                self.tell_bus(|bus, at| bus.handle_failed(&name, failure, at));
            }
            Carry::Query(ticket, _) => self.tell_bus(|bus, at| bus.handle_query_failed(ticket, failure, at)),
            Carry::Fetch(id) => {
                let now = self.now;
                let Some(process) = &mut self.process else { return };
                process.names.resolver.handle_well_known(id, fetch_failed(outcome), now);
            }
        }
    }

    /// The end of an errand, whichever it is; nobody is told but the pool and the ranker.
    pub(super) fn end_errand(&mut self, errand: Ticket, returned: Returned, outcome: Outcome) {
        self.take_lease(errand, returned);
        let now = self.now;
        let Some(process) = &mut self.process else { return };
        let Some(carried) = process.carried.remove(&errand) else { return };
        process.admission.handle_done(errand);
        match carried.stage {
            Stage::Waiting => process.pool.handle_cancelled(errand, now),
            Stage::Naming => process.names.resolver.handle_cancelled(errand),
            _ => {}
        }
        match carried.load {
            Carry::Transaction => process.sends.remove(&carried.host),
            Carry::Query(ticket, _) => process.asks.remove(&ticket),
            // A side errand says nothing about its host.
            Carry::Fetch(_) => return,
        };
        process.ranker.handle_outcome(&self.hosts[carried.host].service, outcome, now);
    }

    fn take_lease(&mut self, errand: Ticket, returned: Returned) {
        let now = self.now;
        let Some(process) = &mut self.process else { return };
        let Some(carried) = process.carried.get_mut(&errand) else { return };
        match std::mem::replace(&mut carried.stage, Stage::Naming) {
            Stage::Lent(lease) | Stage::OnWire(lease, _) => {
                if let Some(conn) = process.conns.get_mut(&lease.conn) {
                    conn.tickets.retain(|other| *other != errand);
                }
                process.pool.handle_returned(lease, returned, now);
            }
            stage => carried.stage = stage,
        }
    }
}

impl Carry {
    fn is_repeatable(self) -> bool {
        match self {
            Self::Transaction | Self::Fetch(_) => true,
            Self::Query(_, is_repeatable) => is_repeatable,
        }
    }
}

pub(super) fn unsent(step: Step) -> Failure {
    Failure::NotSent { step, reason: "simulated".to_owned() }
}

fn perhaps_sent() -> Failure {
    Failure::PerhapsSent { step: Step::Response, reason: "simulated".to_owned() }
}

pub(super) fn crowded() -> Failure {
    Failure::Overloaded { reason: "simulated".to_owned() }
}

/// As the kernel's corridor has it.
const ATTEMPTS_MAX: u32 = 3;
