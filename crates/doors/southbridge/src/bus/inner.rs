//! The driver: does what the Externaliser asks for, and tells it what came of it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use rustc_hash::FxHashMap;
use southbridge_bus::externaliser::{Externaliser, Moment};
use southbridge_bus::signing::Signer;
use southbridge_kernel::Kernel;
use southbridge_kernel::discovery::Discover;
use southbridge_words::{ServerName, ServiceName, Ticket};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::answers::Held;
use super::attempts::Attempts;
use super::canonicals::Canonicals;
use super::counters::Counters;
use super::ending::Silent;
use super::letter::Letter;
use super::outbox::Desk;
use super::results::Ring;
use super::waiting::Waiting;
use super::{AnswerLimits, BusConfig, Keys};
use crate::driver::Timing;

/// What all clones of a bus share.
pub(super) struct Inner {
    pub(super) parts: Parts,
    pub(super) externaliser: RefCell<Externaliser>,
    pub(super) keys: Keys,
    pub(super) desk: Desk,
    pub(super) ring: Rc<Ring>,
    pub(super) waiting: Waiting,
    pub(super) attempts: Attempts,
    pub(super) counters: Counters,
    pub(super) timing: Timing,
    pub(super) canonical: Canonicals,
    pub(super) closing: Cell<bool>,
    pub(super) outbox_closed: Cell<bool>,
    /// Told when something under way has ended, for whoever closes the bus.
    pub(super) ended: Notify,
    /// Transactions that the Externaliser awaits.
    pub(super) letters: RefCell<FxHashMap<ServerName, Rc<Letter>>>,
    /// Of these, those that have not set out yet.
    pub(super) unsent: RefCell<VecDeque<Rc<Letter>>>,
    pub(super) questions: RefCell<FxHashMap<Ticket, AbortHandle>>,
    /// Tasks that ended without a word; the timer tells of them.
    pub(super) silent: RefCell<Vec<Silent>>,
    held: Rc<Held>,
}

/// What the bus is made of and does not change.
pub(super) struct Parts {
    pub(super) kernel: Kernel,
    pub(super) matrix: Rc<dyn Discover>,
    pub(super) signer: Signer,
    pub(super) config: BusConfig,
}

impl Inner {
    pub(super) fn new(parts: Parts, externaliser: Externaliser, desk: Desk, ring: Rc<Ring>) -> Rc<Self> {
        let Parts { kernel, matrix, signer, config } = &parts;
        let keys =
            Keys::new(kernel.clone(), Rc::clone(matrix), signer.clone(), config.keys.clone(), config.seed);
        Rc::new(Self {
            parts,
            externaliser: RefCell::new(externaliser),
            keys,
            desk,
            ring,
            waiting: Waiting::default(),
            attempts: Attempts::default(),
            counters: Counters::default(),
            timing: Timing::default(),
            canonical: Canonicals::default(),
            closing: Cell::new(false),
            outbox_closed: Cell::new(false),
            ended: Notify::new(),
            letters: RefCell::default(),
            unsent: RefCell::default(),
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
            if let Some(action) = action {
                self.perform(action);
            } else if let Some(reply) = self.desk.unanswered() {
                self.handle_outcome(reply);
            } else {
                break;
            }
        }
        self.set_out();
        self.timing.arm(self.externaliser.borrow().poll_timeout());
    }

    /// Something was heard from `destination`, or an operator says that it is back.
    pub(super) fn wake(self: &Rc<Self>, destination: &ServerName) {
        self.kernel().wake(&ServiceName::from(destination));
        self.tell(|machine, at| machine.wake(destination, at));
    }
}
