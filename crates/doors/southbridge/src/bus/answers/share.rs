//! A part of what all answers together may hold in memory.

use std::cell::Cell;
use std::rc::Rc;

/// How many bytes of answers are being read.
#[derive(Debug, Default)]
pub(in crate::bus) struct Held(Cell<u64>);

impl Held {
    /// Bytes held at the moment.
    pub(in crate::bus) fn bytes(&self) -> u64 {
        self.0.get()
    }
}

/// There is no room for another piece of an answer.
#[derive(Debug, thiserror::Error)]
#[error("answers that are being read hold {held} bytes, the most is {held_max}")]
pub(super) struct NoRoom {
    held: u64,
    held_max: u64,
}

/// What one answer has of it; given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    held: Rc<Held>,
    held_max: u64,
    bytes: u64,
}

impl Share {
    pub(super) fn of(held: &Rc<Held>, held_max: u64) -> Self {
        Self { held: Rc::clone(held), held_max, bytes: 0 }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn grow(&mut self, bytes: u64) -> Result<(), NoRoom> {
        let held = self.held.bytes();
        if held.saturating_add(bytes) > self.held_max {
            return Err(NoRoom { held, held_max: self.held_max });
        }
        self.held.0.set(held + bytes);
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.held.0.set(self.held.bytes() - self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_given_back() {
        let held = Rc::new(Held::default());
        let mut one = Share::of(&held, 10);
        let mut other = Share::of(&held, 10);
        one.grow(7).unwrap();
        assert!(other.grow(4).is_err());
        other.grow(3).unwrap();
        assert_eq!((held.bytes(), one.bytes(), other.bytes()), (10, 7, 3));
        drop((one, other));
        assert_eq!(held.bytes(), 0);
    }
}
