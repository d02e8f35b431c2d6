//! What the pool decides, and what the hosts make of it: dials, handshakes, requests on the wire.

use southbridge_policy::pool::{Action, Capacity, Lease, Refusal, Returned};
use southbridge_words::{ConnId, Instant, Outcome, PeerId, Step, Ticket};

use super::Ending;
use super::agenda::Fact;
use super::driver::{Simulation, Stage};
use super::scenery::Mood;

/// One connection, by the simulation's own count.
#[derive(Debug)]
pub(super) struct Conn {
    peer: PeerId,
    progress: Progress,
    /// Who has a request on it.
    tickets: Vec<Ticket>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Dialling,
    Queued,
    Shaking,
    Open,
}

impl Simulation<'_> {
    pub(super) fn on_pool(&mut self, action: Action) {
        match action {
            Action::Dial { conn, peer } => self.dial(conn, peer),
            Action::Handshake { conn } => self.shake(conn),
            Action::Lend { ticket, lease } => self.send(ticket, lease),
            Action::Refuse { ticket, refusal } => self.refuse(ticket, refusal),
            Action::Revoke { conn } => self.revoke(conn),
            Action::GiveUp { conn } => self.give_up(conn),
            Action::Stow { .. } => {}
            Action::Close { conn } => {
                self.trace(9, conn.0, 0);
                self.forget(conn);
            }
        }
    }

    fn dial(&mut self, conn: ConnId, peer: PeerId) {
        self.trace(6, conn.0, u64::from(peer.0));
        self.report.dials += 1;
        self.usage.dials += 1;
        self.usage.connections += 1;
        let fresh = self.conns.insert(conn, Conn { peer, progress: Progress::Dialling, tickets: Vec::new() });
        self.insist(fresh.is_none(), "a connection's number was used twice");
        let host = &self.hosts[self.peer_hosts[peer.0 as usize]];
        let there = self.now + host.round_trip;
        match host.mood(self.spec, self.now, &mut self.chance) {
            Mood::Answers(_) => self.agenda.add(there, Fact::Dialled(conn)),
            Mood::Refuses => self.agenda.add(there, Fact::DialFailed(conn)),
            Mood::Silent => self.agenda.add(self.now + self.spec.connect_timeout, Fact::DialFailed(conn)),
        }
    }

    pub(super) fn on_dialled(&mut self, conn: ConnId) {
        if self.progress(conn, Progress::Queued) {
            self.report.steps.pool += 1;
            self.pool.handle_dialled(conn, self.now);
        }
    }

    pub(super) fn on_dial_failed(&mut self, conn: ConnId) {
        if self.forget(conn) {
            self.report.steps.pool += 1;
            self.pool.handle_connect_failed(conn, self.now);
        }
    }

    fn shake(&mut self, conn: ConnId) {
        self.trace(7, conn.0, 0);
        self.report.handshakes += 1;
        self.progress(conn, Progress::Shaking);
        let Some(held) = self.conns.get(&conn) else {
            return self.insist(false, "a handshake on a connection that is gone");
        };
        let round_trip = self.hosts[self.peer_hosts[held.peer.0 as usize]].round_trip;
        let done = self.work(self.spec.handshake_cost) + round_trip;
        self.agenda.add(done, Fact::Shaken(conn));
    }

    pub(super) fn on_shaken(&mut self, conn: ConnId) {
        if !self.progress(conn, Progress::Open) {
            return;
        }
        let host = &self.hosts[self.peer_hosts[self.conns[&conn].peer.0 as usize]];
        let capacity = if host.http2 { Capacity::Shared { streams_max: 100 } } else { Capacity::Exclusive };
        self.report.steps.pool += 1;
        self.pool.handle_connected(conn, capacity, self.now);
    }

    /// The request goes out; what the host makes of it is decided when it arrives there.
    fn send(&mut self, ticket: Ticket, lease: Lease) {
        self.trace(8, ticket.0, lease.conn.0);
        let Some(request) = self.requests.get_mut(&ticket) else {
            return self.insist(false, "a lease for a request that is over");
        };
        let Some(conn) = self.conns.get_mut(&lease.conn) else {
            return self.insist(false, "a lease on a connection that is gone");
        };
        conn.tickets.push(ticket);
        let (host, is_shared) = (request.host, conn.tickets.len() > 1);
        request.stage = Stage::Sent(lease, self.now);
        self.insist(!is_shared || self.hosts[host].http2, "two requests at a time on an HTTP/1.1 connection");
        self.report.steps.ranker += 1;
        self.ranker.handle_sent(&self.hosts[host].service, self.now);
        let out = self.work(self.spec.request_cost) + self.hosts[host].round_trip;
        match self.hosts[host].mood(self.spec, out, &mut self.chance) {
            Mood::Answers(thinking) => self.agenda.add(out + thinking, Fact::Responded(ticket)),
            Mood::Refuses => self.agenda.add(out, Fact::Cut(ticket)),
            Mood::Silent => {}
        }
    }

    pub(super) fn on_responded(&mut self, ticket: Ticket) {
        let Some((lease, sent_at)) = self.take_lease(ticket) else { return };
        self.report.steps.pool += 1;
        self.pool.handle_returned(lease, Returned::Reusable, self.now);
        let latency = self.now.saturating_since(sent_at);
        self.end(ticket, Ending::Delivered, Outcome::Answered { latency });
    }

    pub(super) fn on_cut(&mut self, ticket: Ticket) {
        let Some((lease, _)) = self.take_lease(ticket) else { return };
        self.give_back_spent(lease);
        self.end(ticket, Ending::Failed, Outcome::Failed { step: Step::Response });
    }

    /// Takes a request off its connection; `None` when it is over already.
    fn take_lease(&mut self, ticket: Ticket) -> Option<(Lease, Instant)> {
        let request = self.requests.get_mut(&ticket)?;
        match std::mem::replace(&mut request.stage, Stage::Resolving) {
            Stage::Sent(lease, sent_at) => {
                if let Some(conn) = self.conns.get_mut(&lease.conn) {
                    conn.tickets.retain(|other| *other != ticket);
                }
                Some((lease, sent_at))
            }
            stage => {
                request.stage = stage;
                None
            }
        }
    }

    /// An HTTP/1.1 connection is gone with its request; of an HTTP/2 one only the stream is.
    pub(super) fn give_back_spent(&mut self, lease: Lease) {
        let (conn, ticket) = (lease.conn, lease.ticket);
        if let Some(held) = self.conns.get_mut(&conn) {
            held.tickets.retain(|other| *other != ticket);
        }
        self.report.steps.pool += 1;
        self.pool.handle_returned(lease, Returned::Spent, self.now);
    }

    fn refuse(&mut self, ticket: Ticket, refusal: Refusal) {
        let Some(request) = self.requests.get(&ticket) else {
            return self.insist(false, "a refusal for a request that is over");
        };
        let Stage::Waiting(peer) = request.stage else {
            return self.insist(false, "a refusal for a request that does not wait");
        };
        let connecting = self.pool.peer_usage(peer).connecting > 0;
        let (ending, outcome) = match refusal {
            // Nobody even tried: that is our own crowd, and says nothing about the host.
            Refusal::DeadlinePassed if !connecting => (Ending::Crowded, Outcome::Abandoned),
            _ => (Ending::Failed, Outcome::Failed { step: Step::Connect }),
        };
        self.end(ticket, ending, outcome);
    }

    fn give_up(&mut self, conn: ConnId) {
        self.trace(11, conn.0, 0);
        self.report.given_up += 1;
        let is_connecting = self.forget(conn);
        self.insist(is_connecting, "gave up what is not there");
    }

    fn revoke(&mut self, conn: ConnId) {
        self.trace(10, conn.0, 0);
        let tickets = self.conns.get(&conn).map(|held| held.tickets.clone()).unwrap_or_default();
        self.forget(conn);
        for ticket in tickets {
            if let Some((lease, _)) = self.take_lease(ticket) {
                // Void by now; giving it back is harmless, and what the kernel does.
                self.pool.handle_returned(lease, Returned::Spent, self.now);
                self.end(ticket, Ending::Failed, Outcome::Failed { step: Step::Response });
            }
        }
    }

    /// Notes how far a connection has come; false when it is gone.
    fn progress(&mut self, conn: ConnId, to: Progress) -> bool {
        let Some(held) = self.conns.get_mut(&conn) else { return false };
        let from = std::mem::replace(&mut held.progress, to);
        self.count(from, Some(to));
        true
    }

    /// The connection is gone; false when it was already.
    fn forget(&mut self, conn: ConnId) -> bool {
        let Some(held) = self.conns.remove(&conn) else { return false };
        self.count(held.progress, None);
        true
    }

    fn count(&mut self, from: Progress, to: Option<Progress>) {
        self.usage.dials -= u32::from(from == Progress::Dialling);
        self.usage.handshakes -= u32::from(from == Progress::Shaking);
        self.usage.handshakes += u32::from(to == Some(Progress::Shaking));
        self.usage.connections -= u32::from(to.is_none());
    }
}
