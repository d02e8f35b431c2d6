//! What the Externaliser asks for is done here, and it is told what came of it.

use std::rc::Rc;

use southbridge_bus::externaliser::{Action, Answer, Errand as Under, Failure};
use southbridge_store_thread::Job;
use southbridge_words::{ServerName, Ticket};

use super::asking::{self, Question};
use super::inner::Inner;
use super::letter::{self, Errand, Letter};

impl Inner {
    /// Does what is asked for. Most of it goes on by itself afterwards.
    pub(super) fn perform(self: &Rc<Self>, action: Action) {
        match action {
            Action::Write { id, appends, marks } => {
                self.desk.submit(Job::Write { id: id.0, appends, marks });
            }
            Action::Read { destination, after, items_max, bytes_max } => {
                self.desk.submit(Job::Read { destination, after, items_max, bytes_max });
            }
            Action::Send { destination, class, patient, deadline } => {
                self.send(Errand { destination, class, patient, deadline });
            }
            Action::Transmit { destination, transaction } => {
                let letter = self.letters.borrow().get(&destination).map(Rc::clone);
                if let Some(letter) = letter {
                    letter.say(Some(transaction));
                }
            }
            Action::GiveBack { destination } => {
                if let Some(letter) = self.take_letter(&destination) {
                    letter.say(None);
                    self.ended.notify_waiters();
                }
            }
            Action::Ask { ticket, destination, request, class, deadline, repeatable } => {
                let signed = Default::default();
                self.ask(Question { ticket, destination, request, class, deadline, repeatable, signed });
            }
            Action::Withdraw(Under::Transaction(destination)) => {
                if let Some(letter) = self.take_letter(&destination) {
                    letter.withdraw();
                    self.ended.notify_waiters();
                }
            }
            Action::Withdraw(Under::Query(ticket)) => {
                if let Some(task) = self.questions.borrow_mut().remove(&ticket) {
                    task.abort();
                    self.ended.notify_waiters();
                }
            }
            Action::Tell(event) => self.handle_event(event),
        }
    }

    fn send(self: &Rc<Self>, errand: Errand) {
        if self.closing.get() {
            return;
        }
        let letter = Letter::new(errand);
        let earlier = self.letters.borrow_mut().insert(letter.destination().clone(), Rc::clone(&letter));
        earlier.iter().for_each(|earlier| earlier.set_aside());
        self.unsent.borrow_mut().push_back(letter);
    }

    /// Sets out the next transactions, so many at a time that others get their turn between: who was told that a
    /// message for ten thousand is accepted should hear of it before all of them are on their way.
    pub(super) fn set_out(self: &Rc<Self>) {
        for _ in 0..SET_OUT_MAX {
            let Some(letter) = self.unsent.borrow_mut().pop_front() else { return };
            if letter.is_awaited() {
                let task = tokio::task::spawn_local(letter::carry(Rc::clone(self), Rc::clone(&letter)));
                letter.is_carried_by(task.abort_handle());
            }
        }
        self.timing.wake();
    }

    fn ask(self: &Rc<Self>, question: Question) {
        if self.closing.get() {
            return;
        }
        let ticket = question.ticket;
        let task = tokio::task::spawn_local(asking::ask(Rc::clone(self), Box::new(question)));
        self.questions.borrow_mut().insert(ticket, task.abort_handle());
    }

    /// The letter to `destination` that the Externaliser awaits, which it does no longer.
    fn take_letter(&self, destination: &ServerName) -> Option<Rc<Letter>> {
        let letter = self.letters.borrow_mut().remove(destination);
        letter.inspect(|letter| letter.set_aside())
    }

    /// The pool has lent a connection to `letter`.
    pub(super) fn handle_granted(self: &Rc<Self>, letter: &Rc<Letter>) {
        if letter.is_awaited() {
            self.tell(|machine, at| machine.handle_granted(letter.destination(), at));
        } else {
            letter.say(None);
        }
    }

    /// A transaction has come back with an answer, or without.
    pub(super) fn handle_carried(self: &Rc<Self>, letter: &Rc<Letter>, outcome: Result<Answer, Failure>) {
        if !letter.is_awaited() {
            return;
        }
        let destination = letter.destination();
        self.take_letter(destination);
        self.counters.carried(&outcome);
        self.tell(|machine, at| match outcome {
            Ok(answer) => machine.handle_answer(destination, answer, at),
            Err(failure) => machine.handle_failed(destination, failure, at),
        });
        self.ended.notify_waiters();
    }

    /// A query has been answered, or not.
    pub(super) fn handle_asked(self: &Rc<Self>, ticket: Ticket, outcome: Result<Answer, Failure>) {
        if self.questions.borrow_mut().remove(&ticket).is_none() {
            return;
        }
        self.counters.asked(&outcome);
        self.tell(|machine, at| match outcome {
            Ok(answer) => machine.handle_query_answer(ticket, answer, at),
            Err(failure) => machine.handle_query_failed(ticket, failure, at),
        });
        self.ended.notify_waiters();
    }
}

/// About a third of a millisecond.
const SET_OUT_MAX: usize = 128;
