//! What drives a machine of the bus that is asked by ticket: does its actions, wakes it when it wants to be woken, and knows who
//! waits for an answer.
//!
//! The machine itself knows neither time nor tasks; what its actions are is for whoever implements [`Driver`].

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use rustc_hash::FxHashMap;
use southbridge_kernel::Clock;
use southbridge_words::{Instant, Ticket};
use tokio::sync::Notify;
use tokio::sync::oneshot::{self, error::RecvError};

/// A machine, and what is around it. [`run_timer`] must be running.
pub(crate) trait Driver: Sized + 'static {
    /// Whom an answer is told to.
    type Waiter;
    /// What the machine wants done.
    type Action;

    /// When the machine is woken, and who waits.
    fn desk(&self) -> &Desk<Self::Waiter>;
    /// Tells the time.
    fn clock(&self) -> Clock;
    /// What the machine wants done next.
    fn poll(&self) -> Option<Self::Action>;
    /// When the machine wants to be woken.
    fn poll_timeout(&self) -> Option<Instant>;
    /// Wakes the machine.
    fn handle_timeout(&self);
    /// Does what the machine wants.
    fn perform(self: &Rc<Self>, action: Self::Action);
    /// Whoever had this ticket waits no more, and has no answer.
    fn handle_left(self: &Rc<Self>, ticket: Ticket);

    /// Does what the machine asks for, until it asks for nothing more.
    fn act(self: &Rc<Self>) {
        while let Some(action) = self.poll() {
            self.perform(action);
        }
        self.desk().timing.arm(self.poll_timeout());
    }

    /// Asks, with a ticket of its own, and waits for what `tell` is told. Dropping it gives the place up.
    ///
    /// # Errors
    /// The waiter was dropped without a word. The machine answers every ticket, so this means that everything ends.
    async fn wait<T>(
        self: &Rc<Self>,
        waiter: Self::Waiter,
        tell: oneshot::Receiver<T>,
        ask: impl FnOnce(Ticket),
    ) -> Result<T, RecvError> {
        let ticket = self.desk().enter(waiter);
        ask(ticket);
        let _place = Place { driver: self, ticket };
        self.act();
        tell.await
    }
}

/// Who waits, by ticket, and when the machine is woken.
#[derive(Debug)]
pub(crate) struct Desk<W> {
    waiting: RefCell<FxHashMap<Ticket, W>>,
    ticket_next: Cell<u64>,
    timing: Timing,
}

impl<W> Default for Desk<W> {
    fn default() -> Self {
        Self { waiting: RefCell::default(), ticket_next: Cell::new(0), timing: Timing::default() }
    }
}

impl<W> Desk<W> {
    fn enter(&self, waiter: W) -> Ticket {
        let ticket = Ticket(self.ticket_next.get());
        self.ticket_next.set(ticket.0 + 1);
        self.waiting.borrow_mut().insert(ticket, waiter);
        ticket
    }

    /// Who waits with this ticket, if he does still: he waits no more.
    pub(crate) fn take(&self, ticket: Ticket) -> Option<W> {
        self.waiting.borrow_mut().remove(&ticket)
    }

    /// Drops all who wait.
    pub(crate) fn clear(&self) {
        self.waiting.take();
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }
}

/// A place among those who wait; leaving it early tells the machine.
struct Place<'a, D: Driver> {
    driver: &'a Rc<D>,
    ticket: Ticket,
}

impl<D: Driver> Drop for Place<'_, D> {
    fn drop(&mut self) {
        if self.driver.desk().take(self.ticket).is_some() {
            self.driver.handle_left(self.ticket);
        }
    }
}

/// Until when a timer sleeps, and what wakes it before that. Dropping it wakes it as well.
#[derive(Debug)]
pub(crate) struct Timing {
    armed: Cell<Instant>,
    rearm: Rc<Notify>,
}

impl Default for Timing {
    fn default() -> Self {
        Self { armed: Cell::new(Instant::FAR_FUTURE), rearm: Rc::default() }
    }
}

impl Timing {
    /// Has the timer wake at `next`, if it would sleep for longer.
    pub(crate) fn arm(&self, next: Option<Instant>) {
        let next = next.unwrap_or(Instant::FAR_FUTURE);
        if next < self.armed.get() {
            self.armed.set(next);
            self.wake();
        }
    }

    /// Has the timer look at once.
    pub(crate) fn wake(&self) {
        self.rearm.notify_one();
    }

    /// Says that the timer sleeps until `next`, and gives what is notified when it is to wake.
    pub(crate) fn sleeps_until(&self, next: Instant) -> Rc<Notify> {
        self.armed.set(next);
        Rc::clone(&self.rearm)
    }
}

impl Drop for Timing {
    fn drop(&mut self) {
        self.rearm.notify_one();
    }
}

/// Wakes the machine when it asked to be woken, and keeps nothing alive meanwhile.
pub(crate) async fn run_timer<D: Driver>(driver: Weak<D>) {
    while let Some(awake) = driver.upgrade() {
        let next = awake.poll_timeout().unwrap_or(Instant::FAR_FUTURE);
        let rearm = awake.desk().timing.sleeps_until(next);
        let at = awake.clock().to_tokio(next);
        drop(awake);
        let is_due = tokio::select! {
            biased;
            () = rearm.notified() => false,
            () = tokio::time::sleep_until(at) => true,
        };
        if let Some(awake) = driver.upgrade().filter(|_| is_due) {
            awake.desk().timing.sleeps_until(Instant::FAR_FUTURE);
            awake.handle_timeout();
            awake.act();
        }
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
