//! Marks: what the program says that it is doing, where the I/O thread can read it.
//!
//! A table of slots, each an atomic version and atomic words. Entering takes a slot and leaving frees it, both without a
//! lock, a system call or a message; whoever reads takes a slot for what it says only if its version was the same before
//! and after. What does not fit into the table is counted and not shown: marks are a help, and never a reason to wait.
//!
//! # Units
//! A name is cut after [`NAME_BYTES_MAX`] bytes of UTF-8. Ages are milliseconds, a few too coarse.
//!
//! # Source
//! K13, K3.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// The marks of one process.
#[derive(Debug, Default)]
pub struct Marks {
    /// Made with the first mark: most programs have none.
    slots: OnceLock<Box<[Slot]>>,
    /// Counts whenever a mark is entered, left or asked under, so that the latest can be told.
    moment: AtomicU64,
    unlisted: AtomicU64,
}

/// One mark that has been entered. No two of a process are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkId(u64);

/// One mark, as `/debug/marks` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct MarkView {
    /// What the program says.
    pub name: String,
    /// The marks around it, the outermost first.
    pub within: Vec<String>,
    /// The number of the thread that entered it.
    pub thread: u32,
    /// Whether that is the main thread.
    pub is_main: bool,
    /// Whether it is the one that its thread was last seen in. Of several tasks on one loop, that is the one that entered
    /// or left a mark last, or asked for something under one.
    pub is_current: bool,
    /// Milliseconds since it was entered.
    pub age_ms: u64,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Slot {
    /// Counts by [`ROUND`]; what is left of that is its stage.
    version: AtomicU64,
    within: AtomicU64,
    entered_ms: AtomicU64,
    seen: AtomicU64,
    thread: AtomicU32,
    len: AtomicU32,
    name: [AtomicU64; NAME_BYTES_MAX / 8],
}

/// What a slot held at one moment.
struct Held {
    id: MarkId,
    within: Option<MarkId>,
    entered_ms: u64,
    seen: u64,
    thread: u32,
    name: String,
}

impl Marks {
    /// Enters a mark on `thread`, within another. `None` when the table is full: it is not shown then.
    pub fn enter(&self, name: &str, thread: u32, within: Option<MarkId>) -> Option<MarkId> {
        let slots = self.slots.get_or_init(|| (0..SLOTS).map(|_| Slot::default()).collect());
        let first = FIRST.get();
        for at in (first..SLOTS).chain(0..first) {
            let slot = &slots[at];
            let version = slot.version.load(Ordering::Relaxed);
            if version & STAGE == FREE && slot.take(version) {
                FIRST.set(at);
                slot.fill(name, thread, within, self.next_moment());
                slot.version.store(version | ACTIVE, Ordering::Release);
                return Some(MarkId((version | ACTIVE) * SLOTS as u64 + at as u64));
            }
        }
        self.unlisted.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// Leaves `id`, for the mark that was around it. Once left, it stays so.
    pub fn leave(&self, id: MarkId, back_to: Option<MarkId>) {
        let Some(slot) = self.slot(id) else { return };
        let (active, free) = (id.version(), (id.version() & !STAGE) + ROUND);
        if slot.version.compare_exchange(active, free, Ordering::Release, Ordering::Relaxed).is_ok()
            && let Some(back_to) = back_to
        {
            self.see(back_to);
        }
    }

    /// The program was seen in `id`.
    pub fn see(&self, id: MarkId) {
        if let Some(slot) = self.slot(id)
            && slot.version.load(Ordering::Relaxed) == id.version()
        {
            slot.seen.store(self.next_moment(), Ordering::Relaxed);
        }
    }

    /// The name of `id`, while it has not been left.
    pub fn name(&self, id: MarkId) -> Option<Arc<str>> {
        Some(self.slot(id)?.read(id)?.name.into())
    }

    /// How many marks were not shown because the table was full.
    pub fn unlisted(&self) -> u64 {
        self.unlisted.load(Ordering::Relaxed)
    }

    /// The marks that the program is in: those of the main thread (which has the number of its process, `pid`) first, and of each
    /// thread the latest first.
    pub fn views(&self, pid: u32) -> Vec<MarkView> {
        let mut held = self.held();
        held.sort_by_key(|one| (one.thread != pid, one.thread, std::cmp::Reverse(one.seen)));
        let now = now_ms();
        let mut before = None;
        held.iter()
            .map(|one| MarkView {
                name: one.name.clone(),
                within: around(one, &held),
                thread: one.thread,
                is_main: one.thread == pid,
                is_current: before.replace(one.thread) != Some(one.thread),
                age_ms: now.saturating_sub(one.entered_ms),
            })
            .collect()
    }

    /// In a child that was forked off: of the threads, only the one that forked is there. It was `forked` and is `thread` now.
    pub fn keep_after_fork(&self, forked: u32, thread: u32) {
        for one in self.held() {
            let Some(slot) = self.slot(one.id) else { continue };
            if one.thread == forked {
                slot.thread.store(thread, Ordering::Relaxed);
            } else {
                self.leave(one.id, None);
            }
        }
    }

    fn held(&self) -> Vec<Held> {
        let slots = self.slots.get().map(|slots| &**slots).unwrap_or_default();
        let ids = slots
            .iter()
            .enumerate()
            .map(|(at, slot)| MarkId(slot.version.load(Ordering::Acquire) * SLOTS as u64 + at as u64));
        ids.zip(slots).filter_map(|(id, slot)| slot.read(id)).collect()
    }

    fn slot(&self, id: MarkId) -> Option<&Slot> {
        self.slots.get()?.get((id.0 % SLOTS as u64) as usize)
    }

    fn next_moment(&self) -> u64 {
        self.moment.fetch_add(1, Ordering::Relaxed)
    }
}

impl MarkId {
    /// As a number, for whoever cannot keep it as it is.
    pub fn number(self) -> u64 {
        self.0
    }

    /// What [`MarkId::number`] gave. Any other number is a mark that has been left.
    pub fn of_number(number: u64) -> Self {
        Self(number)
    }

    fn version(self) -> u64 {
        self.0 / SLOTS as u64
    }
}

impl Slot {
    fn take(&self, version: u64) -> bool {
        let taken =
            self.version.compare_exchange(version, version | FILLING, Ordering::Acquire, Ordering::Relaxed);
        // Whoever sees a word of what comes now also sees that the version has changed.
        fence(Ordering::Release);
        taken.is_ok()
    }

    fn fill(&self, name: &str, thread: u32, within: Option<MarkId>, moment: u64) {
        let mut end = name.len().min(NAME_BYTES_MAX);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        let name = &name.as_bytes()[..end];
        for (word, bytes) in self.name.iter().zip(name.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_le_bytes(whole), Ordering::Relaxed);
        }
        self.len.store(name.len() as u32, Ordering::Relaxed);
        self.thread.store(thread, Ordering::Relaxed);
        self.within.store(within.map_or(0, MarkId::number), Ordering::Relaxed);
        self.entered_ms.store(now_ms(), Ordering::Relaxed);
        self.seen.store(moment, Ordering::Relaxed);
    }

    /// What it holds, if that is `id`.
    fn read(&self, id: MarkId) -> Option<Held> {
        let version = self.version.load(Ordering::Acquire);
        if version & STAGE != ACTIVE || version != id.version() {
            return None;
        }
        let mut bytes = [0; NAME_BYTES_MAX];
        for (word, bytes) in self.name.iter().zip(bytes.chunks_mut(8)) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        let len = self.len.load(Ordering::Relaxed) as usize;
        let within = self.within.load(Ordering::Relaxed);
        let (entered_ms, seen) = (self.entered_ms.load(Ordering::Relaxed), self.seen.load(Ordering::Relaxed));
        let thread = self.thread.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        if self.version.load(Ordering::Relaxed) != version {
            return None;
        }
        let name = String::from_utf8_lossy(&bytes[..len.min(NAME_BYTES_MAX)]).into_owned();
        let within = (within != 0).then_some(MarkId(within));
        Some(Held { id, within, entered_ms, seen, thread, name })
    }
}

/// The names of the marks around `one`, as far as they have not been left; the outermost first.
fn around(one: &Held, all: &[Held]) -> Vec<String> {
    let mut names = Vec::new();
    let mut next = one.within;
    while let Some(found) = next.and_then(|id| all.iter().find(|other| other.id == id)) {
        names.push(found.name.clone());
        if names.len() == DEPTH_MAX {
            break;
        }
        next = found.within;
    }
    names.reverse();
    names
}

/// The coarse clock takes a fifth of the time of the fine one, and lags by a tick.
fn now_ms() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    Duration::try_from(now).map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

thread_local! {
    /// Where this thread looks first for a free slot: where it last found one, and threads begin apart.
    static FIRST: Cell<usize> = Cell::new(NEXT.fetch_add(SLOTS / 16, Ordering::Relaxed) % SLOTS);
}

static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Bytes of a name that are kept: a phrase, and not a record.
pub const NAME_BYTES_MAX: usize = 64;
/// Marks at a time that are shown: more than anybody reads. 128 KiB of memory.
const SLOTS: usize = 1024;
const DEPTH_MAX: usize = 32;

const STAGE: u64 = 3;
const FREE: u64 = 0;
const FILLING: u64 = 1;
const ACTIVE: u64 = 2;
const ROUND: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const MAIN: u32 = 7;

    fn told(marks: &Marks) -> Vec<(String, Vec<String>, u32, bool)> {
        let views = marks.views(MAIN);
        views.into_iter().map(|one| (one.name, one.within, one.thread, one.is_current)).collect()
    }

    fn one(name: &str, within: &[&str], thread: u32, current: bool) -> (String, Vec<String>, u32, bool) {
        (name.to_owned(), within.iter().map(|&it| it.to_owned()).collect(), thread, current)
    }

    #[test]
    fn marks_nest_and_end() {
        let marks = Marks::default();
        assert!(told(&marks).is_empty());
        let outer = marks.enter("checkout", MAIN, None).unwrap();
        let inner = marks.enter("loading cart", MAIN, Some(outer)).unwrap();
        let other = marks.enter("mailing", 8, None).unwrap();
        assert_eq!(
            told(&marks),
            [
                one("loading cart", &["checkout"], MAIN, true),
                one("checkout", &[], MAIN, false),
                one("mailing", &[], 8, true)
            ]
        );
        assert_eq!(marks.name(inner).as_deref(), Some("loading cart"));
        marks.leave(inner, Some(outer));
        marks.leave(inner, None);
        marks.leave(other, None);
        assert_eq!(told(&marks), [one("checkout", &[], MAIN, true)]);
        assert_eq!(marks.name(inner), None);
        marks.leave(outer, None);
        assert!(told(&marks).is_empty());
    }

    /// Two tasks of one loop: which one runs is known by what it did last.
    #[test]
    fn the_mark_that_was_seen_last_is_the_current_one() {
        let marks = Marks::default();
        let first = marks.enter("first", MAIN, None).unwrap();
        let second = marks.enter("second", MAIN, None).unwrap();
        assert_eq!(told(&marks)[0].0, "second");
        marks.see(first);
        assert_eq!(told(&marks)[0].0, "first");
        marks.leave(first, None);
        marks.see(first);
        assert_eq!(told(&marks), [one("second", &[], MAIN, true)]);
        marks.leave(second, None);
    }

    #[test]
    fn names_and_their_number_are_bounded() {
        let marks = Marks::default();
        let long = "\u{e9}".repeat(100);
        let id = marks.enter(&long, MAIN, None).unwrap();
        assert_eq!(marks.name(id).as_deref(), Some(&*"\u{e9}".repeat(32)));
        let odd = marks.enter(&format!("x{long}"), MAIN, None).unwrap();
        assert_eq!(marks.name(odd).unwrap().len(), 63, "it is cut between characters");
        let mut ids: Vec<_> = (2..SLOTS).map(|_| marks.enter("m", MAIN, None).unwrap()).collect();
        assert_eq!(marks.enter("one too many", MAIN, None), None);
        assert_eq!(marks.unlisted(), 1);
        marks.leave(ids.pop().unwrap(), None);
        assert!(marks.enter("there is room again", MAIN, None).is_some());
    }

    /// A thread of the parent is not in the child, and what it was in is over there.
    #[test]
    fn a_fork_keeps_the_marks_of_the_thread_that_forked() {
        let marks = Marks::default();
        let kept = marks.enter("forking", 8, None).unwrap();
        let lost = marks.enter("serving", MAIN, None).unwrap();
        marks.keep_after_fork(8, 20);
        assert_eq!(told(&marks), [one("forking", &[], 20, true)]);
        assert_eq!(marks.name(lost), None);
        marks.leave(kept, None);
        assert!(told(&marks).is_empty());
    }

    /// Threads enter and leave as fast as they can; whoever reads sees whole names only.
    #[test]
    fn a_reader_never_sees_half_a_mark() {
        let marks = Marks::default();
        let names = ["a".repeat(64), "b".repeat(40), "c".repeat(9)];
        std::thread::scope(|scope| {
            let working: Vec<_> = (0..3)
                .map(|thread| {
                    let (marks, names) = (&marks, &names);
                    scope.spawn(move || {
                        for turn in 0..20_000 {
                            let id = marks.enter(&names[turn % 3], thread, None).unwrap();
                            assert!(marks.name(id).is_some());
                            marks.leave(id, None);
                        }
                    })
                })
                .collect();
            while working.iter().any(|thread| !thread.is_finished()) {
                for view in marks.views(0) {
                    assert!(names.contains(&view.name), "{}", view.name);
                }
            }
        });
        assert!(told(&marks).is_empty());
    }
}
