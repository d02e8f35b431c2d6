//! What goes along with one transaction.

use std::fmt;

use bytes::Bytes;

use super::along::Along;
use super::shed::Shed;
use super::slots::Slot;

/// The volatile EDUs of one transaction. Keep it until the transaction's outcome is known: what was surely not
/// processed can be put back by [`WaitingEdus::restore`](super::WaitingEdus::restore).
#[derive(Default)]
pub struct Batch {
    pub(super) json: Bytes,
    pub(super) along: Along,
    pub(super) slots: Vec<Slot>,
    pub(super) expired: Shed,
}

impl Batch {
    /// The EDUs, as JSON objects separated by commas; empty when there are none.
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    /// How many EDUs they are.
    pub fn len(&self) -> usize {
        self.along.total() as usize
    }

    /// The same, by type.
    pub fn along(&self) -> Along {
        self.along
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.along.total() == 0
    }

    /// What was found too old to be sent while this was composed.
    pub fn expired(&self) -> Shed {
        self.expired
    }

    /// What is in it, by type: what is lost if it is neither delivered nor restored.
    pub fn contents(&self) -> Shed {
        let mut contents = Shed::default();
        for slot in &self.slots {
            contents.add(slot.part.kind, 1);
        }
        contents
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Batch({} EDUs of {} parts, [redacted], {} bytes)",
            self.len(),
            self.slots.len(),
            self.json.len()
        )
    }
}
