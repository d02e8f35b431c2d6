//! Numbers of the I/O thread.

use std::cell::Cell;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(Cell<u64>);

impl Count {
    /// Adds `more`.
    pub fn add(&self, more: u64) {
        self.0.set(self.0.get().wrapping_add(more));
    }

    /// The number.
    pub fn value(&self) -> u64 {
        self.0.get()
    }
}
