//! A bus, an outbox that answers at once, and a clock that moves when it is told to.

use std::sync::Arc;
use std::time::Duration;

use southbridge_words::{Instant, ServerName, Ticket, WallTime};

use super::store::Store;
use crate::externaliser::{
    Action, Answer, Errand, Event, Externaliser, ExternaliserLimits, Failure, Moment, QueueView, WriteId,
};
use crate::outgoing::{OutgoingEdu, OutgoingPdu};
use crate::transaction::Transaction;

/// See the [module](self).
pub(super) struct World {
    pub(super) bus: Externaliser,
    pub(super) store: Store,
    pub(super) at: Moment,
    /// Writes are not answered until [`World::write`].
    pub(super) holds_writes: bool,
    held: Option<(WriteId, Vec<southbridge_words::Append>, Vec<southbridge_words::Mark>)>,
    pub(super) events: Vec<Event>,
    pub(super) done: Vec<Action>,
    tickets: u64,
}

impl World {
    pub(super) fn new(limits: ExternaliserLimits) -> Self {
        Self::reopened(limits, Store::default(), 1)
    }

    /// Another process, with what the last one has left.
    pub(super) fn reopened(limits: ExternaliserLimits, store: Store, seed: u64) -> Self {
        let now = Instant::ZERO + Duration::from_secs(1000);
        let at = Moment { now, wall: WallTime::from_unix_millis(1_760_000_000_000) };
        Self::reopened_at(limits, store, seed, at)
    }

    /// The same, at another time.
    pub(super) fn reopened_at(limits: ExternaliserLimits, store: Store, seed: u64, at: Moment) -> Self {
        let mut bus = Externaliser::new(name("a.example"), limits, seed);
        bus.handle_recovered(store.recover(), at);
        let (events, done) = (Vec::new(), Vec::new());
        let mut world = Self { bus, store, at, holds_writes: false, held: None, events, done, tickets: 0 };
        world.drain();
        world
    }

    /// Does what the bus wants of the outbox, and keeps the rest.
    pub(super) fn drain(&mut self) {
        while let Some(action) = self.bus.poll() {
            match action {
                Action::Write { id, appends, marks } => {
                    self.held = Some((id, appends, marks));
                    if !self.holds_writes {
                        self.write();
                    }
                }
                Action::Read { destination, after, items_max, bytes_max } => {
                    let page = self.store.read(&destination, after, items_max, bytes_max);
                    self.bus.handle_page(&destination, page, self.at);
                }
                Action::Tell(event) => self.events.push(event),
                other => self.done.push(other),
            }
        }
    }

    /// Answers the write that is held.
    pub(super) fn write(&mut self) {
        let Some((id, appends, marks)) = self.held.take() else { return };
        let result = self.store.write(&appends, &marks);
        self.bus.handle_written(id, result, self.at);
        self.drain();
    }

    pub(super) fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// Hands in a PDU that says `text`.
    pub(super) fn pdu(&mut self, text: &str, to: &[&str]) {
        let ticket = self.ticket();
        self.bus.send_pdu(ticket, pdu(text), names(to), None, self.at).unwrap();
        self.drain();
    }

    /// Hands in an EDU.
    pub(super) fn edu(&mut self, edu_type: &str, content: &str, to: &[&str]) {
        let ticket = self.ticket();
        let edu = OutgoingEdu::new(edu_type, content.to_owned(), self.at.wall).unwrap();
        self.bus.send_edu(ticket, edu, names(to), None, self.at).unwrap();
        self.drain();
    }

    /// The time goes on; what is due happens when it is due.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.at.now + time;
        while let Some(due) = self.bus.poll_timeout().filter(|due| *due <= end) {
            self.move_to(due.max(self.at.now));
        }
        self.move_to(end);
    }

    fn move_to(&mut self, now: Instant) {
        self.at.wall = self.at.wall + now.saturating_since(self.at.now);
        self.at.now = now;
        self.bus.handle_timeout(self.at);
        self.drain();
    }

    /// The time until the next thing is due.
    pub(super) fn next_wait(&self) -> Duration {
        self.bus.poll_timeout().expect("something is due").saturating_since(self.at.now)
    }

    /// The pool has a connection for `to`: what is transmitted, if anything is.
    pub(super) fn grant(&mut self, to: &str) -> Option<Transaction> {
        let to = name(to);
        self.bus.handle_granted(&to, self.at);
        self.drain();
        self.transmitted(&to)
    }

    /// What was transmitted to `to` last, once.
    pub(super) fn transmitted(&mut self, to: &ServerName) -> Option<Transaction> {
        let is_it =
            |action: &Action| matches!(action, Action::Transmit { destination, .. } if destination == to);
        let at = self.done.iter().position(is_it)?;
        match self.done.remove(at) {
            Action::Transmit { transaction, .. } => Some(transaction),
            _ => None,
        }
    }

    /// Whether the bus has asked for a connection to `to`, once for each time.
    pub(super) fn is_asked(&mut self, to: &str) -> bool {
        let to = name(to);
        let before = self.done.len();
        self.done.retain(|action| !matches!(action, Action::Send { destination, .. } if *destination == to));
        before > self.done.len()
    }

    /// Whether a connection to `to` was given back, once for each time.
    pub(super) fn is_given_back(&mut self, to: &str) -> bool {
        let to = name(to);
        let before = self.done.len();
        self.done.retain(|action| !matches!(action, Action::GiveBack { destination } if *destination == to));
        before > self.done.len()
    }

    /// Whether what is under way to `to` was stopped.
    pub(super) fn is_withdrawn(&mut self, to: &str) -> bool {
        let errand = Action::Withdraw(Errand::Transaction(name(to)));
        let before = self.done.len();
        self.done.retain(|action| *action != errand);
        before > self.done.len()
    }

    pub(super) fn answer(&mut self, from: &str, answer: Answer) {
        self.bus.handle_answer(&name(from), answer, self.at);
        self.drain();
    }

    pub(super) fn ok(&mut self, from: &str) {
        self.answer(from, Answer::new(200, OK));
    }

    pub(super) fn fail(&mut self, to: &str, failure: Failure) {
        self.bus.handle_failed(&name(to), failure, self.at);
        self.drain();
    }

    pub(super) fn view(&self, of: &str) -> Option<QueueView> {
        self.bus.view(&name(of))
    }

    /// Whether there is any queue.
    pub(super) fn view_any(&self) -> bool {
        self.bus.queues().next().is_some()
    }

    /// What was told since the last time.
    pub(super) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}

pub(super) fn name(text: &str) -> ServerName {
    ServerName::parse(text).unwrap()
}

pub(super) fn names(texts: &[&str]) -> Arc<[ServerName]> {
    texts.iter().map(|text| name(text)).collect()
}

pub(super) fn pdu(text: &str) -> OutgoingPdu {
    OutgoingPdu::new(format!("{{\"is\":\"{text}\"}}")).unwrap()
}

/// What the PDUs in `transaction` say, in order.
pub(super) fn said(transaction: &Transaction) -> Vec<String> {
    let body: serde_json::Value = serde_json::from_slice(&transaction.body).unwrap();
    let pdus = body["pdus"].as_array().unwrap();
    pdus.iter().map(|pdu| pdu["is"].as_str().unwrap().to_owned()).collect()
}

/// The types of the EDUs in `transaction`.
pub(super) fn edus(transaction: &Transaction) -> Vec<String> {
    let body: serde_json::Value = serde_json::from_slice(&transaction.body).unwrap();
    let edus = body["edus"].as_array().cloned().unwrap_or_default();
    edus.iter().map(|edu| edu["edu_type"].as_str().unwrap().to_owned()).collect()
}

/// A transaction was taken, and nothing is wrong with it.
pub(super) const OK: &str = "{\"pdus\":{}}";
