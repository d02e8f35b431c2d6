//! The bell of a port: how whoever waits there is woken.
//!
//! A loop has other descriptors to watch, and watches one more: it is made readable once after it was *armed*. A thread has
//! nothing else to wait for, and sleeps on a word of memory: one call of the system in the place of three.
//!
//! # Source
//! K3; the word and the count of sleepers are an event count, as in `futex(2)`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::Timespec;
use rustix::thread::futex;

use super::turns::QUICK;

/// Rung by the I/O thread, heard by whoever waits at the port.
pub(super) struct Bell {
    descriptor: OwnedFd,
    armed: AtomicBool,
    /// Threads that sleep, or are about to.
    sleepers: AtomicU32,
    /// How often it was rung for sleepers; what they sleep on.
    rings: AtomicU32,
    /// Whether whoever sleeps here was back soon, the last time it was woken; see [`super::turns`].
    quick: AtomicBool,
    stands_in_line: AtomicBool,
    /// The number of the turn that it has; 0 for none.
    turn: AtomicU64,
}

impl Bell {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            descriptor: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            armed: AtomicBool::new(false),
            sleepers: AtomicU32::new(0),
            rings: AtomicU32::new(0),
            quick: AtomicBool::new(false),
            stands_in_line: AtomicBool::new(false),
            turn: AtomicU64::new(0),
        })
    }

    /// Asks for the descriptor to be made readable; `false` when something `is_ready` already.
    pub(super) fn arm(&self, is_ready: impl Fn() -> bool) -> bool {
        self.armed.store(true, Ordering::SeqCst);
        // The kernel speaks first and looks at the flag second; we set the flag first and look second.
        // One of the two sees the other.
        fence(Ordering::SeqCst);
        !is_ready() || !self.armed.swap(false, Ordering::SeqCst)
    }

    /// Makes the descriptor unreadable again.
    pub(super) fn acknowledge(&self) {
        let mut count = [0_u8; 8];
        // Nothing to read means that nobody rang, which is what is wanted.
        let _nothing_rang = rustix::io::read(&self.descriptor, &mut count);
    }

    /// Sleeps until something `is_ready`, a signal comes, or `timeout` is over. Whether something is ready.
    pub(super) fn sleep(&self, timeout: Duration, is_ready: impl Fn() -> bool) -> bool {
        let rings = self.rings.load(Ordering::SeqCst);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if !is_ready() {
            let limit = Timespec::try_from(timeout).ok();
            // Rung since, interrupted, or over: in any case there is a look, and whoever called decides.
            let _why = futex::wait(&self.rings, futex::Flags::PRIVATE, rings, limit.as_ref());
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        is_ready()
    }

    /// Whether somebody wants to hear it. What was said, and a fence, must come before.
    pub(super) fn is_wanted(&self) -> bool {
        self.armed.load(Ordering::SeqCst) || self.has_sleepers()
    }

    /// Whether threads sleep.
    pub(super) fn has_sleepers(&self) -> bool {
        self.sleepers.load(Ordering::SeqCst) > 0
    }

    /// Makes the descriptor readable, if that was asked for.
    pub(super) fn ring(&self) {
        if self.armed.load(Ordering::SeqCst) && self.armed.swap(false, Ordering::SeqCst) {
            // The counter of an eventfd overflows after 2^64 - 2 rings; a full one wakes as well.
            let _woken = rustix::io::write(&self.descriptor, &1_u64.to_ne_bytes());
        }
    }

    /// Wakes the threads that sleep.
    pub(super) fn wake(&self) {
        if self.has_sleepers() {
            self.rings.fetch_add(1, Ordering::SeqCst);
            // All of them: which one waits for what was said is for them to see.
            let _woken = futex::wake(&self.rings, futex::Flags::PRIVATE, u32::MAX >> 1);
        }
    }

    /// A thread that was woken here has been at work for `time`, and waits again.
    pub(super) fn note_work(&self, time: Duration) {
        self.quick.store(time <= QUICK, Ordering::Relaxed);
    }

    pub(super) fn is_quick(&self) -> bool {
        self.quick.load(Ordering::Relaxed)
    }

    /// Whether it did not stand in line before.
    pub(super) fn stand_in_line(&self) -> bool {
        !self.stands_in_line.swap(true, Ordering::SeqCst)
    }

    pub(super) fn leave_line(&self) {
        self.stands_in_line.store(false, Ordering::SeqCst);
    }

    /// Its turn has come; `false` when nobody sleeps here.
    pub(super) fn give_turn(&self, turn: u64) -> bool {
        self.leave_line();
        // Before somebody is woken, who may be back at once.
        self.turn.store(turn, Ordering::SeqCst);
        self.has_sleepers()
    }

    /// The turn that it had.
    pub(super) fn take_turn(&self) -> u64 {
        self.turn.swap(0, Ordering::SeqCst)
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[cfg(test)]
impl Bell {
    pub(super) fn pretend_sleeper(&self) {
        self.sleepers.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn pretend_awake(&self) {
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    /// How often whoever sleeps here was woken.
    pub(super) fn rings(&self) -> u32 {
        self.rings.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three threads sleep at one port. One ring, and all of them look.
    #[test]
    fn a_ring_wakes_everybody_who_sleeps() {
        let (bell, ready) = (Bell::new().expect("a descriptor"), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let sleep = || bell.sleep(Duration::from_secs(60), || ready.load(Ordering::SeqCst));
            let sleepers = [0; 3].map(|_| scope.spawn(sleep));
            while bell.sleepers.load(Ordering::SeqCst) < 3 {
                std::thread::yield_now();
            }
            ready.store(true, Ordering::SeqCst);
            bell.wake();
            assert!(sleepers.into_iter().all(|one| one.join().expect("it does not panic")));
        });
        assert!(!bell.has_sleepers() && !bell.is_wanted());
    }

    /// Nobody rings: whoever sleeps is back in time, and says that nothing is ready.
    #[test]
    fn a_sleep_ends_with_its_time() {
        let bell = Bell::new().expect("a descriptor");
        assert!(!bell.sleep(Duration::from_millis(1), || false));
        assert!(bell.sleep(Duration::from_secs(60), || true), "not a wink where something is ready");
    }

    /// Armed once, rung twice: the descriptor is written to once, and not at all while nobody armed.
    #[test]
    fn what_was_armed_once_is_rung_once() {
        let bell = Bell::new().expect("a descriptor");
        let count = || {
            let mut count = [0_u8; 8];
            rustix::io::read(&bell, &mut count).map(|_| u64::from_ne_bytes(count)).unwrap_or_default()
        };
        bell.ring();
        assert_eq!(count(), 0);
        assert!(bell.arm(|| false));
        bell.ring();
        bell.ring();
        assert_eq!(count(), 1);
        assert!(!bell.arm(|| true), "what is ready is not waited for");
        bell.ring();
        assert_eq!(count(), 0);
    }
}
