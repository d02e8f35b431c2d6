//! How many were dropped, by type.

use std::ops::AddAssign;

use crate::outgoing::EduKind;

/// Parts of expendable EDUs that were dropped, by type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shed {
    /// Of `m.typing`.
    pub typing: u64,
    /// Users of `m.presence`.
    pub presence: u64,
    /// Receipts of `m.receipt`.
    pub receipts: u64,
}

impl Shed {
    /// How many of `kind`; zero for kinds that are never dropped.
    pub const fn of(&self, kind: EduKind) -> u64 {
        match kind {
            EduKind::Typing => self.typing,
            EduKind::Presence => self.presence,
            EduKind::Receipt => self.receipts,
            _ => 0,
        }
    }

    /// How many in all.
    pub const fn total(&self) -> u64 {
        self.typing + self.presence + self.receipts
    }

    /// Whether nothing was dropped.
    pub const fn is_empty(&self) -> bool {
        self.total() == 0
    }

    /// The same, for each of `count` destinations.
    pub const fn times(&self, count: u64) -> Self {
        Self { typing: self.typing * count, presence: self.presence * count, receipts: self.receipts * count }
    }

    pub(super) fn add(&mut self, kind: EduKind, count: u64) {
        match kind {
            EduKind::Typing => self.typing += count,
            EduKind::Presence => self.presence += count,
            _ => self.receipts += count,
        }
    }
}

impl AddAssign for Shed {
    fn add_assign(&mut self, other: Self) {
        self.typing += other.typing;
        self.presence += other.presence;
        self.receipts += other.receipts;
    }
}
