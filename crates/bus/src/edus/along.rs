//! How many volatile EDUs went along, by type.

use std::ops::AddAssign;

use crate::outgoing::EduKind;

/// EDUs as they stand in transactions, merged, by type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Along {
    /// Of `m.typing`.
    pub typing: u32,
    /// Of `m.presence`.
    pub presence: u32,
    /// Of `m.receipt`.
    pub receipts: u32,
}

impl Along {
    /// How many in all.
    pub const fn total(&self) -> u32 {
        self.typing + self.presence + self.receipts
    }

    /// Each type, and how many.
    pub const fn by_type(&self) -> [(&'static str, u32); 3] {
        [("m.typing", self.typing), ("m.presence", self.presence), ("m.receipt", self.receipts)]
    }

    pub(super) const fn add_one(&mut self, kind: EduKind) {
        match kind {
            EduKind::Typing => self.typing += 1,
            EduKind::Presence => self.presence += 1,
            _ => self.receipts += 1,
        }
    }
}

impl AddAssign for Along {
    fn add_assign(&mut self, other: Self) {
        self.typing = self.typing.saturating_add(other.typing);
        self.presence = self.presence.saturating_add(other.presence);
        self.receipts = self.receipts.saturating_add(other.receipts);
    }
}
