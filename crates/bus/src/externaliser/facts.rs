//! What comes back from the pool, from peers and from the clock.

use std::time::Duration;

use southbridge_words::{ServerName, Ticket};

use super::action::Action;
use super::answer::{Answer, Failure};
use super::event::{Event, Hold};
use super::machine::Externaliser;
use super::moment::Moment;
use super::queues::QueueKey;
use super::refused::Refused;
use crate::queue::FederationQueue;

#[allow(clippy::needless_pass_by_value, reason = "facts are handed over")]
impl Externaliser {
    /// The pool has lent a connection for `destination`. A `Transmit` follows, at once or when the transaction is on
    /// record; or a `GiveBack`.
    pub fn handle_granted(&mut self, destination: &ServerName, at: Moment) {
        match self.queues.find(destination) {
            Some(key) => {
                self.visit(key, at, FederationQueue::handle_granted);
                self.fill(at);
            }
            None => self.actions.push_back(Action::GiveBack { destination: destination.clone() }),
        }
    }

    /// `destination` has answered its transaction.
    pub fn handle_answer(&mut self, destination: &ServerName, answer: Answer, at: Moment) {
        let Some(key) = self.queues.find(destination) else { return };
        self.visit(key, at, |queue, scene| queue.handle_answer(&answer, scene));
        self.fill(at);
    }

    /// What was sent to `destination`, or was to be, has failed.
    pub fn handle_failed(&mut self, destination: &ServerName, failure: Failure, at: Moment) {
        let Some(key) = self.queues.find(destination) else { return };
        self.visit(key, at, |queue, scene| queue.handle_failed(&failure, scene));
        self.fill(at);
    }

    /// The query of `ticket` was answered.
    pub fn handle_query_answer(&mut self, ticket: Ticket, answer: Answer, at: Moment) {
        let (queries, mut scene) = self.query_scene(at);
        queries.handle_answer(ticket, answer, &mut scene);
    }

    /// The query of `ticket` was not answered.
    pub fn handle_query_failed(&mut self, ticket: Ticket, failure: Failure, at: Moment) {
        let (queries, mut scene) = self.query_scene(at);
        queries.handle_failed(ticket, &failure, &mut scene);
    }

    /// The time has come to `at`.
    pub fn handle_timeout(&mut self, at: Moment) {
        if self.writing.falls_silent(self.limits.accepting_patience, at.now) {
            self.on_silence(at);
        }
        if self.writing.handle_timeout(at.now) && !self.writing.is_blocked() {
            self.settle_all(at);
        }
        while let Some(item) = self.writing.next_late(self.limits.accepting_patience, at.now) {
            let reason = "it has not answered for as long as an item may wait".to_owned();
            let why = Refused::OutboxUnavailable { reason };
            self.tell(Event::Refused { ticket: item.ticket, why });
        }
        while let Some(key) = self.queues.next_due(at.now) {
            self.on_due(key, at);
        }
        let (queries, mut scene) = self.query_scene(at);
        queries.handle_timeout(&mut scene);
        self.spread(at);
        self.fill(at);
    }

    /// A wait is over: the next attempt is made, if the share of retries in all traffic allows it.
    fn on_due(&mut self, key: QueueKey, at: Moment) {
        let Some(place) = self.queues.get(key) else { return };
        if place.queue.is_retry() && self.budget.handle_retry(at.now).is_err() {
            let wait = BUDGET_WAIT.mul_f64(self.seeded.factor(0.5, 1.5));
            self.visit(key, at, |queue, _| queue.postpone(Hold::Budget, at.now + wait));
            return;
        }
        self.visit(key, at, |queue, scene| queue.handle_due(scene.at.now));
    }

    /// Puts every queue where it belongs, after what holds for all of them has changed.
    pub(super) fn settle_all(&mut self, at: Moment) {
        for key in self.queues.keys() {
            self.settle(key, at);
        }
    }
}

// About the window that the budget is counted in.
const BUDGET_WAIT: Duration = Duration::from_secs(2);
