//! Attempts and connections that come to nothing, and who is told why.
//!
//! The machine says who is refused, and names the attempt; the reason is noted here before the machine is told, and
//! forgotten when everybody has heard it.
//!
//! # Source
//! F12 (report), K14; `reference/faults.md` rows 1 and 2.

use std::future::Future;
use std::rc::Rc;

use southbridge_policy::pool::{Pool, Refusal};
use southbridge_words::{ConnId, Instant, Step, Ticket};

use super::{Closing, Connection, Inner, LendError, Stage, State, Waiting};
use crate::mishap::survived;
use crate::net::ConnectError;

impl Inner {
    /// Tells `ticket` that it waits in vain.
    pub(super) fn refuse(&self, ticket: Ticket, refusal: Refusal) {
        let mut state = self.state.borrow_mut();
        let Some(Waiting { peer, told }) = state.waiting.remove(&ticket) else { return };
        let error = match refusal {
            Refusal::DeadlinePassed if state.pool.peer_usage(peer).connecting > 0 => {
                LendError::DeadlinePassed { step: Step::Connect }
            }
            // Nobody had begun to connect: the queue was ours.
            Refusal::DeadlinePassed => LendError::DeadlinePassed { step: Step::Admission },
            Refusal::ConnectFailed { conn } => {
                let why = state.failures.get(&conn);
                LendError::Failed(Rc::clone(
                    why.expect("a failure is noted before the machine is told of it"),
                ))
            }
        };
        drop(state);
        let _gone = told.send(Err(error));
    }

    /// The dial or the handshake failed.
    pub(super) fn handle_not_opened(self: &Rc<Self>, conn: ConnId, error: ConnectError) {
        self.opener.stats.connects_failed.add(1);
        tracing::debug!(%conn, %error, "connection not opened");
        {
            let mut state = self.state.borrow_mut();
            if state.connections.remove(&conn).is_none() {
                return;
            }
            let exhausted = matches!(error, ConnectError::Exhausted { .. });
            state.failures.insert(conn, Rc::new(error));
            state.pool.handle_connect_failed(conn, self.clock.now());
            if exhausted {
                // Descriptors that idle connections hold are better used by those who were just refused.
                state.pool.handle_exhausted(self.clock.now());
            }
        }
        self.act();
    }

    /// Lives the `life` of `conn`. One that ends by a panic ends all the same: its place is free again, and those
    /// who waited for it are told.
    pub(super) async fn outlive(self: Rc<Self>, conn: ConnId, life: impl Future<Output = ()>) {
        if survived(life).await.is_some() {
            return;
        }
        let was_open =
            self.state.borrow().connections.get(&conn).map(|held| matches!(held.stage, Stage::Open(_)));
        match was_open {
            Some(true) => self.handle_ended(conn),
            Some(false) => self.handle_not_opened(conn, ConnectError::Broken),
            None => {}
        }
    }

    /// Ends an attempt that has kept others waiting for too long; those who are refused for it come next.
    pub(super) fn give_up(&self, conn: ConnId) {
        let addresses_max = self.opener.config.dial.addresses_max;
        let error = self.state.borrow().why_silent(conn, addresses_max, self.clock.now());
        self.opener.stats.connects_failed.add(1);
        tracing::debug!(%conn, %error, "connection given up, for its place was needed");
        self.state.borrow_mut().failures.insert(conn, Rc::new(error));
        self.close(conn, Closing::AtOnce);
    }

    /// The connection takes no more requests; those under way go on.
    pub(super) fn handle_draining(self: &Rc<Self>, conn: ConnId) {
        self.tell_of_end(conn, |pool, now| pool.handle_draining(conn, now));
    }

    /// The connection has ended by itself.
    pub(super) fn handle_ended(self: &Rc<Self>, conn: ConnId) {
        self.tell_of_end(conn, |pool, now| pool.handle_closed(conn, now));
        self.state.borrow_mut().connections.remove(&conn);
    }

    /// Tells the machine, with the reason at hand for those who waited for nothing but this connection.
    fn tell_of_end(self: &Rc<Self>, conn: ConnId, tell: impl FnOnce(&mut Pool, Instant)) {
        {
            let mut state = self.state.borrow_mut();
            let Some(Stage::Open(open)) = state.connections.get(&conn).map(|held| &held.stage) else {
                return;
            };
            let reason = "the peer closed the connection before it carried a request".to_owned();
            let why = ConnectError::Handshake { address: open.remote, reason };
            state.failures.insert(conn, Rc::new(why));
            tell(&mut state.pool, self.clock.now());
        }
        self.act();
    }
}

impl State {
    /// What there is to say of an attempt of which nothing has been heard.
    fn why_silent(&self, conn: ConnId, addresses_max: usize, now: Instant) -> ConnectError {
        let held = self.connections.get(&conn);
        let Some(Connection { peer, stage: Stage::Opening(opening), .. }) = held else {
            unreachable!("the machine gives up only what is being opened")
        };
        let waited = now.saturating_since(opening.since);
        if let Some(address) = opening.remote {
            return ConnectError::HandshakeTimedOut { address, waited };
        }
        let endpoints = &self.peers.get(peer).expect("a peer is known while it is dialled").route.endpoints;
        // Of several addresses some may have failed already; none has answered.
        let attempts = endpoints.iter().take(addresses_max).map(|at| (at.address, "no answer".to_owned()));
        ConnectError::TimedOut { attempts: attempts.collect(), waited }
    }
}

#[cfg(test)]
#[path = "failing_tests.rs"]
mod tests;
