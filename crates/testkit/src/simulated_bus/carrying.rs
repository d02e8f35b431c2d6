//! What the kernel does for the bus: asks the ranker, resolves the name, borrows a connection, carries.

use southbridge_bus::externaliser::{Errand, Failure};
use southbridge_bus::transaction::Transaction;
use southbridge_policy::lane::Lane;
use southbridge_policy::pool::{Action, Capacity, Lease, Refusal, Returned, Want};
use southbridge_policy::ranker::{Advice, Demand};
use southbridge_words::{Class, ConnId, Instant, Outcome, PeerId, ServerName, Step, Ticket};

use super::agenda::Within;
use super::driver::Simulation;
use super::hosts::{Ailment, Reach, index_of};
use super::wire::Load;

/// One request under way.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) host: usize,
    pub(super) load: Carry,
    class: Class,
    lane: Lane,
    deadline: Instant,
    pub(super) stage: Stage,
    pub(super) attempt: u32,
}

/// What a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carry {
    /// A transaction for its host; its bytes are composed when a connection is lent.
    Transaction,
    /// The query of this ticket; and whether it may be sent twice.
    Query(Ticket, bool),
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

/// A connection.
#[derive(Debug)]
pub(super) struct Conn {
    host: usize,
    tickets: Vec<Ticket>,
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
                let errand = self.carry(host, Carry::Transaction, class, lane, deadline);
                if let Some(process) = &mut self.process {
                    process.sends.insert(host, errand);
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
                let errand = self.carry(host, Carry::Query(ticket, repeatable), class, lane, deadline);
                if let Some(process) = &mut self.process {
                    process.asks.insert(ticket, errand);
                }
            }
        }
    }

    fn carry(&mut self, host: usize, load: Carry, class: Class, lane: Lane, deadline: Instant) -> Ticket {
        let errand = self.ticket();
        let carried = Carried { host, load, class, lane, deadline, stage: Stage::Naming, attempt: 0 };
        if let Some(process) = &mut self.process {
            process.carried.insert(errand, carried);
        }
        let naming = self.millis(0, 20);
        self.add(naming, Within::Named(errand));
        self.add(deadline.saturating_since(self.now), Within::Deadline(errand));
        errand
    }

    pub(super) fn on_named(&mut self, errand: Ticket) {
        let Some(carried) = self.carried(errand) else { return };
        let host = carried.host;
        if self.hosts[host].ailment == Ailment::Nameless && !self.is_healed {
            return self.fail(errand, unsent(Step::Discovery), Outcome::Failed { step: Step::Discovery });
        }
        self.want(errand, false);
    }

    fn want(&mut self, errand: Ticket, fresh: bool) {
        let now = self.now;
        let Some(process) = &mut self.process else { return };
        let Some(carried) = process.carried.get_mut(&errand) else { return };
        carried.stage = Stage::Waiting;
        let Carried { host, class, lane, deadline, .. } = *carried;
        let want = Want { ticket: errand, peer: peer(host), class, lane, deadline, fresh };
        if process.pool.handle_request(want, now).is_err() {
            self.fail(errand, crowded(), Outcome::Abandoned);
        }
    }

    pub(super) fn on_pool(&mut self, action: Action) {
        match action {
            Action::Dial { conn, peer } => self.dial(conn, peer.0 as usize),
            Action::Handshake { conn } => {
                let host =
                    self.process.as_ref().and_then(|process| process.conns.get(&conn)).map(|conn| conn.host);
                let takes = host.map(|host| self.hosts[host].round_trip).unwrap_or_default();
                self.add(takes, Within::Shaken(conn));
            }
            Action::Lend { ticket, lease } => self.on_lent(ticket, lease),
            Action::Refuse { ticket, refusal } => self.on_no_connection(ticket, refusal),
            Action::Revoke { conn } | Action::GiveUp { conn } | Action::Close { conn } => {
                self.lose_conn(conn);
            }
        }
    }

    fn dial(&mut self, conn: ConnId, host: usize) {
        self.note("dial", conn.0, host as u64);
        if let Some(process) = &mut self.process {
            process.conns.insert(conn, Conn { host, tickets: Vec::new() });
        }
        let there = self.hosts[host].round_trip;
        let host = &self.hosts[host];
        let is_cut = host.is_cut_out || host.is_cut_back;
        let (after, is_up) = match host.reach(self.spec, self.now, self.is_healed) {
            Reach::Open if !is_cut => (there, true),
            Reach::Refusing if !is_cut => (there, false),
            _ => (CONNECT_TIMEOUT, false),
        };
        self.add(after, Within::Dialled(conn, is_up));
    }

    pub(super) fn on_dialled(&mut self, conn: ConnId, is_up: bool) {
        let now = self.now;
        let Some(process) = &mut self.process else { return };
        if is_up {
            process.pool.handle_dialled(conn, now);
        } else if process.conns.remove(&conn).is_some() {
            process.pool.handle_connect_failed(conn, now);
        }
    }

    pub(super) fn on_shaken(&mut self, conn: ConnId) {
        let now = self.now;
        let Some(process) = &mut self.process else { return };
        let Some(host) = process.conns.get(&conn).map(|conn| conn.host) else { return };
        let is_shared = host % 3 == 0;
        let capacity = if is_shared { Capacity::Shared { streams_max: 10 } } else { Capacity::Exclusive };
        process.pool.handle_connected(conn, capacity, now);
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
        let mut is_reused = false;
        carried.stage = match std::mem::replace(&mut carried.stage, Stage::Naming) {
            Stage::Lent(lease) => {
                is_reused = lease.reused;
                Stage::OnWire(lease, now)
            }
            stage => stage,
        };
        process.ranker.handle_sent(&self.hosts[host].service, now);
        if is_reused && self.happens(self.spec.stale_permille) {
            let after = self.millis(1, 2);
            return self.add(after, Within::Cut { errand, attempt, is_stale: true });
        }
        self.launch(errand, attempt, host, load);
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
        let host = carried.host;
        let is_trying =
            self.process.as_ref().is_some_and(|process| process.pool.peer_usage(peer(host)).connecting > 0);
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
        self.note("cut", errand.0, u64::from(is_stale));
        if !is_stale {
            return self.fail(errand, perhaps_sent(), Outcome::Failed { step: Step::Response });
        }
        // Not a byte was written: the kernel takes another connection, and the bus composes again.
        self.take_lease(errand, Returned::Spent);
        self.want(errand, true);
    }

    pub(super) fn carried(&self, errand: Ticket) -> Option<&Carried> {
        self.process.as_ref()?.carried.get(&errand)
    }

    /// The end of an errand without an answer.
    fn fail(&mut self, errand: Ticket, failure: Failure, outcome: Outcome) {
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
        }
    }

    /// The end of an errand, whichever it is; nobody is told but the pool and the ranker.
    pub(super) fn end_errand(&mut self, errand: Ticket, returned: Returned, outcome: Outcome) {
        self.take_lease(errand, returned);
        let now = self.now;
        let Some(process) = &mut self.process else { return };
        let Some(carried) = process.carried.remove(&errand) else { return };
        if matches!(carried.stage, Stage::Waiting) {
            process.pool.handle_cancelled(errand, now);
        }
        match carried.load {
            Carry::Transaction => process.sends.remove(&carried.host),
            Carry::Query(ticket, _) => process.asks.remove(&ticket),
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

fn peer(host: usize) -> PeerId {
    PeerId(u32::try_from(host).unwrap_or(u32::MAX))
}

fn unsent(step: Step) -> Failure {
    Failure::NotSent { step, reason: "simulated".to_owned() }
}

fn perhaps_sent() -> Failure {
    Failure::PerhapsSent { step: Step::Response, reason: "simulated".to_owned() }
}

fn crowded() -> Failure {
    Failure::Overloaded { reason: "simulated".to_owned() }
}

const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
