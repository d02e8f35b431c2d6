//! A bound on how many connections are served at once.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Notify;

/// So many may be held, and no more.
#[derive(Debug)]
pub struct Slots {
    held: Cell<u32>,
    held_max: u32,
    changed: Notify,
}

/// One of them; given back when it is dropped.
#[derive(Debug)]
pub struct Slot(Rc<Slots>);

impl Slots {
    /// `held_max` slots, all free.
    pub fn new(held_max: u32) -> Rc<Self> {
        Rc::new(Self { held: Cell::new(0), held_max, changed: Notify::new() })
    }

    /// How many are held.
    pub fn held(&self) -> u32 {
        self.held.get()
    }

    /// Takes one, if one is free.
    pub fn try_take(self: &Rc<Self>) -> Option<Slot> {
        (self.held.get() < self.held_max).then(|| self.enter())
    }

    /// Takes one for whoever is in the house already. Where several accept loops have waited for the same
    /// free slot, each may exceed the bound by one.
    pub fn enter(self: &Rc<Self>) -> Slot {
        self.held.set(self.held.get() + 1);
        Slot(Rc::clone(self))
    }

    /// Waits until one could be taken.
    pub async fn any_free(&self) {
        while self.held.get() >= self.held_max {
            self.changed.notified().await;
        }
    }

    /// Waits until none is held.
    pub async fn all_free(&self) {
        while self.held.get() > 0 {
            self.changed.notified().await;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.held.set(self.0.held.get() - 1);
        self.0.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_slot_is_free_again_once_it_is_dropped() {
        let slots = Slots::new(2);
        let first = slots.try_take().unwrap();
        let _second = slots.try_take().unwrap();
        assert!(slots.try_take().is_none());
        let mut waiting = Box::pin(slots.any_free());
        assert!((&mut waiting).now_or_never().is_none());
        drop(first);
        assert!(waiting.now_or_never().is_some());
        assert!(slots.try_take().is_some());
    }

    /// A house that is closing waits for those who are still in it, and for nobody else.
    #[test]
    fn all_are_free_when_the_last_is_dropped() {
        let slots = Slots::new(2);
        assert!(slots.all_free().now_or_never().is_some());
        let slot = slots.try_take().unwrap();
        let mut waiting = Box::pin(slots.all_free());
        assert!((&mut waiting).now_or_never().is_none());
        drop(slot);
        assert!(waiting.now_or_never().is_some());
    }
}
