//! The driver: does what the Externaliser asks for, and tells it what came of it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use rustc_hash::FxHashMap;
use southbridge_bus::externaliser::{
    Action, Answer, Errand as Under, Externaliser, Failure, Moment, WriteId,
};
use southbridge_bus::signing::Signer;
use southbridge_kernel::Kernel;
use southbridge_kernel::discovery::Discover;
use southbridge_store_thread::{Job, Reply};
use southbridge_words::{Instant, ServerName, ServiceName, Ticket};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::answers::Held;
use super::asking::{self, Question};
use super::canonicals::Canonicals;
use super::counters::Counters;
use super::letter::{self, Errand, Letter};
use super::outbox::Desk;
use super::results::Ring;
use super::waiting::Waiting;
use super::{AnswerLimits, BusConfig};

/// What all clones of a bus share.
pub(super) struct Inner {
    pub(super) parts: Parts,
    pub(super) externaliser: RefCell<Externaliser>,
    pub(super) desk: Desk,
    pub(super) ring: Rc<Ring>,
    pub(super) waiting: Waiting,
    pub(super) counters: Counters,
    pub(super) timing: Timing,
    pub(super) canonical: Canonicals,
    pub(super) closing: Cell<bool>,
    pub(super) outbox_closed: Cell<bool>,
    /// Told when something under way has ended, for whoever closes the bus.
    pub(super) ended: Notify,
    letters: RefCell<FxHashMap<ServerName, Rc<Letter>>>,
    questions: RefCell<FxHashMap<Ticket, AbortHandle>>,
    /// Tasks that ended without a word; the timer tells of them.
    silent: RefCell<Vec<Silent>>,
    held: Rc<Held>,
}

/// What the bus is made of and does not change.
pub(super) struct Parts {
    pub(super) kernel: Kernel,
    pub(super) matrix: Rc<dyn Discover>,
    pub(super) signer: Signer,
    pub(super) config: BusConfig,
}

/// When the timer comes next.
pub(super) struct Timing {
    pub(super) armed: Cell<Instant>,
    pub(super) rearm: Rc<Notify>,
}

enum Silent {
    Letter(Rc<Letter>),
    Question(Ticket),
}

impl Inner {
    pub(super) fn new(parts: Parts, externaliser: Externaliser, desk: Desk, ring: Rc<Ring>) -> Rc<Self> {
        let timing = Timing { armed: Cell::new(Instant::FAR_FUTURE), rearm: Rc::default() };
        Rc::new(Self {
            parts,
            externaliser: RefCell::new(externaliser),
            desk,
            ring,
            waiting: Waiting::default(),
            counters: Counters::default(),
            timing,
            canonical: Canonicals::default(),
            closing: Cell::new(false),
            outbox_closed: Cell::new(false),
            ended: Notify::new(),
            letters: RefCell::default(),
            questions: RefCell::default(),
            silent: RefCell::default(),
            held: Rc::default(),
        })
    }

    pub(super) fn kernel(&self) -> &Kernel {
        &self.parts.kernel
    }

    pub(super) fn matrix(&self) -> Rc<dyn Discover> {
        Rc::clone(&self.parts.matrix)
    }

    pub(super) fn signer(&self) -> &Signer {
        &self.parts.signer
    }

    pub(super) fn answer_limits(&self) -> &AnswerLimits {
        &self.parts.config.answers
    }

    pub(super) fn held(&self) -> &Rc<Held> {
        &self.held
    }

    /// The time, both ways.
    pub(super) fn moment(&self) -> Moment {
        let clock = self.kernel().clock();
        Moment { now: clock.now(), wall: clock.wall() }
    }

    /// Transactions and queries under way.
    pub(super) fn under_way(&self) -> (usize, usize) {
        (self.letters.borrow().len(), self.questions.borrow().len())
    }

    /// Tells the Externaliser something, and does what it wants then.
    pub(super) fn tell<T>(self: &Rc<Self>, fact: impl FnOnce(&mut Externaliser, Moment) -> T) -> T {
        let told = fact(&mut self.externaliser.borrow_mut(), self.moment());
        self.act();
        told
    }

    /// Does what the Externaliser asks for, until it asks for nothing more.
    pub(super) fn act(self: &Rc<Self>) {
        loop {
            let action = self.externaliser.borrow_mut().poll();
            let Some(action) = action else { break };
            self.perform(action);
        }
        let next = self.externaliser.borrow().poll_timeout().unwrap_or(Instant::FAR_FUTURE);
        if next < self.timing.armed.get() {
            self.timing.armed.set(next);
            self.timing.rearm.notify_one();
        }
    }

    fn perform(self: &Rc<Self>, action: Action) {
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
                if let Some(letter) = self.letters.borrow_mut().remove(&destination) {
                    letter.say(None);
                    self.ended.notify_waiters();
                }
            }
            Action::Ask { ticket, destination, request, class, deadline, repeatable } => {
                let signed = Default::default();
                self.ask(Question { ticket, destination, request, class, deadline, repeatable, signed });
            }
            Action::Withdraw(Under::Transaction(destination)) => {
                if let Some(letter) = self.letters.borrow_mut().remove(&destination) {
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
        let task = tokio::task::spawn_local(letter::carry(Rc::clone(self), Rc::clone(&letter)));
        letter.is_carried_by(task.abort_handle());
        self.letters.borrow_mut().insert(letter.destination().clone(), letter);
    }

    fn ask(self: &Rc<Self>, question: Question) {
        if self.closing.get() {
            return;
        }
        let ticket = question.ticket;
        let task = tokio::task::spawn_local(asking::ask(Rc::clone(self), Box::new(question)));
        self.questions.borrow_mut().insert(ticket, task.abort_handle());
    }

    /// Whether `letter` is the one that the Externaliser awaits.
    fn is_awaited(&self, letter: &Rc<Letter>) -> bool {
        self.letters.borrow().get(letter.destination()).is_some_and(|awaited| Rc::ptr_eq(awaited, letter))
    }

    /// The pool has lent a connection to `letter`.
    pub(super) fn handle_granted(self: &Rc<Self>, letter: &Rc<Letter>) {
        if self.is_awaited(letter) {
            self.tell(|machine, at| machine.handle_granted(letter.destination(), at));
        } else {
            letter.say(None);
        }
    }

    /// A transaction has come back with an answer, or without.
    pub(super) fn handle_carried(self: &Rc<Self>, letter: &Rc<Letter>, outcome: Result<Answer, Failure>) {
        if !self.is_awaited(letter) {
            return;
        }
        let destination = letter.destination();
        self.letters.borrow_mut().remove(destination);
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

    /// The task of `letter` has ended without a word. It may be ending together with everything else, so nothing
    /// is done here.
    pub(super) fn leave_word(&self, letter: Rc<Letter>) {
        self.silent.borrow_mut().push(Silent::Letter(letter));
        self.timing.rearm.notify_one();
    }

    /// The same for a query.
    pub(super) fn leave_word_of_query(&self, ticket: Ticket) {
        self.silent.borrow_mut().push(Silent::Question(ticket));
        self.timing.rearm.notify_one();
    }

    /// Tells of the tasks that ended without a word.
    pub(super) fn tell_of_silent(self: &Rc<Self>) {
        for silent in self.silent.take() {
            match silent {
                Silent::Letter(letter) => {
                    let failure = letter.failure_of_a_panic();
                    self.handle_carried(&letter, Err(failure));
                }
                Silent::Question(ticket) => self.handle_asked(ticket, Err(asking::failure_of_a_panic())),
            }
        }
    }

    /// A reply of the thread of the outbox.
    pub(super) fn handle_reply(&self, reply: Reply) {
        self.desk.taken(&reply);
        self.handle_outcome(reply);
    }

    /// The thread of the outbox has ended: what it was asked will not be answered.
    pub(super) fn handle_outbox_ended(self: &Rc<Self>) {
        for reply in self.desk.abandon() {
            self.handle_outcome(reply);
        }
        self.act();
        self.outbox_closed.set(true);
        self.ended.notify_waiters();
    }

    fn handle_outcome(&self, reply: Reply) {
        let (mut machine, at) = (self.externaliser.borrow_mut(), self.moment());
        match reply {
            Reply::Written { id, result } => {
                machine.handle_written(WriteId(id), result, at);
            }
            Reply::Page { destination, result, .. } => machine.handle_page(&destination, result, at),
            Reply::Upkept(Ok(upkeep)) => machine.handle_upkeep(upkeep, at),
            Reply::Upkept(Err(error)) => {
                tracing::warn!(%error, "the outbox could not look after itself");
            }
            Reply::Recovered(_) => {}
        }
    }

    /// Something was heard from `destination`, or an operator says that it is back.
    pub(super) fn wake(self: &Rc<Self>, destination: &ServerName) {
        self.kernel().wake(&ServiceName::from(destination));
        self.tell(|machine, at| machine.wake(destination, at));
    }

    /// Stops the transactions that no connection was lent for.
    pub(super) fn withdraw_unbegun(&self) {
        self.letters.borrow_mut().retain(|_, letter| {
            let begun = letter.is_begun();
            if !begun {
                letter.withdraw();
            }
            begun
        });
    }

    /// Waits until nothing is under way, and all is on record.
    pub(super) async fn at_rest(&self) {
        loop {
            let ended = self.ended.notified();
            if self.under_way() == (0, 0) && self.desk.under_way() == 0 {
                return;
            }
            ended.await;
        }
    }

    /// Stops all that is under way, of which nothing is heard any more, and lets the outbox close.
    pub(super) fn end(&self) {
        self.closing.set(true);
        for (_, letter) in self.letters.take() {
            letter.withdraw();
        }
        for (_, task) in self.questions.take() {
            task.abort();
        }
        self.waiting.close();
        self.desk.close();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The timer sleeps without holding on to this; it finds it gone.
        self.timing.rearm.notify_one();
    }
}
