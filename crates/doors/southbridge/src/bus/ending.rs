//! How things end: a task that says no word, the thread of the outbox, the whole bus.
//!
//! # Source
//! STYLE, "Errors": an error can be handled and a hang cannot.

use std::rc::{Rc, Weak};

use southbridge_bus::externaliser::WriteId;
use southbridge_store_thread::{Job, Reply};
use southbridge_words::{Ticket, WallTime};
use tracing::{debug, error, warn};

use super::asking;
use super::inner::Inner;
use super::letter::Letter;

/// A task that ended without a word.
pub(super) enum Silent {
    Letter(Rc<Letter>),
    Question(Ticket),
}

impl Inner {
    /// The task of `letter` has ended without a word. It may be ending together with everything else, so nothing
    /// is done here.
    pub(super) fn leave_word(&self, letter: Rc<Letter>) {
        self.silent.borrow_mut().push(Silent::Letter(letter));
        self.timing.wake();
    }

    /// The same for a query.
    pub(super) fn leave_word_of_query(&self, ticket: Ticket) {
        self.silent.borrow_mut().push(Silent::Question(ticket));
        self.timing.wake();
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

    /// What is to be done now and then.
    pub(super) fn look_after(&self, wall: WallTime) {
        self.desk.submit_upkeep(Job::Upkeep { now: wall });
        if self.under_way().0 == 0 {
            self.canonical.clear();
        }
    }

    /// Others may have done something: says whether it could be asked for.
    pub(super) fn ask_for_news(&self) -> bool {
        self.desk.submit_upkeep(Job::News)
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

    /// What the outbox has said, or would have.
    pub(super) fn handle_outcome(&self, reply: Reply) {
        let (mut machine, at) = (self.externaliser.borrow_mut(), self.moment());
        match reply {
            Reply::Written { id, result } => {
                machine.handle_written(WriteId(id), result, at);
            }
            Reply::Page { destination, result, .. } => machine.handle_page(&destination, result, at),
            Reply::Upkept(Ok(upkeep)) => {
                self.counters.upkeep_trouble.set(false);
                machine.handle_upkeep(upkeep, at);
            }
            Reply::Upkept(Err(error)) => {
                // Once is told; what goes on like that every few seconds is not news.
                if self.counters.upkeep_trouble.replace(true) {
                    debug!(%error, "the outbox could not look after itself");
                } else {
                    warn!(%error, "the outbox could not look after itself");
                }
            }
            Reply::Recovered(_) => {}
        }
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
        self.unsent.take();
        for (_, task) in self.questions.take() {
            task.abort();
        }
        self.keys.close();
        self.waiting.close();
        self.desk.close();
    }
}

/// Ends the bus when a task without which it cannot go on ends by a panic.
pub(super) struct LastWords(pub(super) Weak<Inner>);

impl Drop for LastWords {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(inner) = self.0.upgrade()
        {
            error!("the bus has a bug and ends; what was accepted is sent after a restart");
            inner.end();
        }
    }
}
