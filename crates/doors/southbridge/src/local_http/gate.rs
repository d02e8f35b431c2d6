//! Keeps requests waiting while the house is not ready for them.

use std::cell::Cell;

use tokio::sync::Notify;

/// Closed at first, opened once: a caller that comes early waits instead of being refused.
///
/// Synapse takes a refused connection for a dead destination and remembers it for ten minutes.
#[derive(Debug, Default)]
pub struct Gate {
    open: Cell<bool>,
    opened: Notify,
}

impl Gate {
    /// Lets everyone through, now and later.
    pub fn open(&self) {
        self.open.set(true);
        self.opened.notify_waiters();
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        self.open.get()
    }

    /// Waits until it is open. Bounded by the caller's deadline, and by the slots in front of the gate.
    pub async fn pass(&self) {
        while !self.open.get() {
            self.opened.notified().await;
        }
    }
}
