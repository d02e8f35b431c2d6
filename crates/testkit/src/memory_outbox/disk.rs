//! The disk that outlives the process, and what is to become of the next write.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::lines::Lines;

/// What becomes of a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// It is durable, and its writer is told.
    #[default]
    Kept,
    /// There is no room; nothing is written.
    Full,
    /// The disk does not answer; nothing is written.
    Unavailable,
    /// The process ends before the write was durable.
    CrashBefore,
    /// The process ends when the write was durable, and nobody was told.
    CrashAfter,
    /// It fails half-way (EIO, a short write): nothing of it counts, and this outbox is used no more.
    Torn,
    /// Its sync fails, and it was not on the disk; this outbox is used no more.
    SyncFailedLost,
    /// Its sync fails, and it was on the disk all the same; this outbox is used no more.
    SyncFailedKept,
}

/// A simulated disk. Cheap to clone; every clone is the same disk.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    lines: Lines,
    /// Of the next write alone.
    next: Option<Fate>,
    /// Of all others.
    always: Fate,
    writes: u64,
    is_misdirected: bool,
}

impl MemoryDisk {
    /// Says what becomes of the next write; the ones after it go well again.
    pub fn set_fate(&self, fate: Fate) {
        self.state().next = Some(fate);
    }

    /// Says what becomes of every write from now on, until told otherwise: a disk that is full, and then is not.
    pub fn set_fate_of_all(&self, fate: Fate) {
        self.state().always = fate;
    }

    /// From now on every read is given the block of another place, until told otherwise.
    pub fn misdirect_reads(&self, is_misdirected: bool) {
        self.state().is_misdirected = is_misdirected;
    }

    pub(super) fn is_misdirected(&self) -> bool {
        self.state().is_misdirected
    }

    /// How many writes were begun: the points at which a story may crash.
    pub fn writes(&self) -> u64 {
        self.state().writes
    }

    /// How many items lie on it.
    pub fn items(&self) -> usize {
        self.state().lines.items()
    }

    pub(super) fn begin_write(&self) -> Fate {
        let mut state = self.state();
        state.writes += 1;
        let always = state.always;
        state.next.take().unwrap_or(always)
    }

    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Lines) -> T) -> T {
        work(&mut self.state().lines)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
