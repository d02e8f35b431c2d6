//! Threads that wait in turn, because only one of them can go on at a time: those of a Python program, which need the
//! interpreter's lock for whatever comes next.
//!
//! Woken all together, they fight for it, and each of them is put to sleep and woken once more. So of those who are known
//! to be quick one is woken, and wakes the next when it waits again, which is when it has let go of the lock.
//!
//! ```text
//! I/O thread:  ring A, ring B, ring C        A is woken; B and C stand in line
//! A:           takes its answer, asks again, and lets go of the lock ─▶ wakes B, and sleeps
//! B:           …
//! ```
//!
//! Nobody depends on another's being quick. A thread that took longer last time neither takes a turn nor stands in line.
//! And whoever has a turn for longer than [`PATIENCE`], as one that was quick and now computes, loses it: all who stand in
//! line are woken, and for [`OPEN_FOR`] everybody is woken at once.
//!
//! # Architecture Invariant
//! The line is bounded by the ports: each stands in it once at the most.
//!
//! # Source
//! K1, K3; issue "The kernel inside Python": what the frontends may cost beside each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_queue::SegQueue;
use southbridge_words::Instant;
use tokio::sync::Notify;

use super::bell::Bell;
use crate::alarm::Alarm;
use crate::clock::Clock;

/// One for all ports of a kernel.
#[derive(Default)]
pub(super) struct Turns {
    /// Whose turn it is, by its number; [`NOBODYS`] while nobody is at work.
    holder: AtomicU64,
    turn_last: AtomicU64,
    line: SegQueue<Arc<Bell>>,
    /// Everybody is woken at once.
    is_open: AtomicBool,
    /// Somebody stands in line.
    stands: Notify,
    /// Kernel side: whose turn it was when somebody was last woken, and when that was seen first, in nanoseconds.
    seen: AtomicU64,
    seen_at: AtomicU64,
}

/// A turn was held for so long that nobody waits for its end any more.
#[derive(Debug, PartialEq, Eq)]
struct Overdue;

impl Turns {
    /// Kernel side: wakes whoever sleeps at `bell`, now or in its turn.
    pub(super) fn wake(&self, bell: &Arc<Bell>, now: Instant) {
        if !bell.is_quick() || self.is_open.load(Ordering::SeqCst) {
            return bell.wake();
        }
        if let Err(Overdue) = self.see(now) {
            // It was quick, had its answer, and went elsewhere: in a program that asks now and then, nobody waits for it.
            self.end(self.seen.load(Ordering::Relaxed));
        }
        if bell.stand_in_line() {
            self.line.push(Arc::clone(bell));
        }
        self.advance();
        let _seen_now = self.see(now);
        if !self.line.is_empty() {
            self.stands.notify_one();
        }
    }

    /// Sees whose turn it is; [`Overdue`] when it has been that one's for long.
    fn see(&self, now: Instant) -> Result<(), Overdue> {
        let holder = self.holder.load(Ordering::SeqCst);
        if self.seen.swap(holder, Ordering::Relaxed) != holder {
            self.seen_at.store(now.as_nanos(), Ordering::Relaxed);
        }
        let seen_at = Instant::from_nanos(self.seen_at.load(Ordering::Relaxed));
        let is_overdue = holder != NOBODYS && now.saturating_since(seen_at) >= PATIENCE;
        if is_overdue { Err(Overdue) } else { Ok(()) }
    }

    /// Whoever was woken at `bell` waits again, or never will: it is the next one's turn.
    pub(super) fn hand_on(&self, bell: &Bell) {
        let turn = bell.take_turn();
        if turn != NOBODYS && self.end(turn) {
            self.advance();
        }
    }

    /// Wakes the next, if nobody is at work.
    fn advance(&self) {
        while !self.line.is_empty() {
            let turn = self.turn_last.fetch_add(1, Ordering::SeqCst) + 1;
            if self.holder.compare_exchange(NOBODYS, turn, Ordering::SeqCst, Ordering::SeqCst).is_err() {
                // Whoever is at work sees the line when it is done.
                return;
            }
            let next = self.line.pop();
            if let Some(bell) = &next
                && bell.give_turn(turn)
            {
                return bell.wake();
            }
            // Nobody sleeps there any more, or another was quicker: and who has come into the line meanwhile saw us at work.
            self.end(turn);
        }
    }

    fn end(&self, turn: u64) -> bool {
        self.holder.compare_exchange(turn, NOBODYS, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Kernel side, as a task of its own: sees to it that nobody waits long for somebody who does not come back.
    pub(super) async fn watch(&self, clock: Clock, alarm: &Alarm) {
        loop {
            self.stands.notified().await;
            let mut seen = NOBODYS;
            while !self.line.is_empty() {
                match self.look(&mut seen) {
                    Ok(()) => alarm.until(clock.now() + PATIENCE).await,
                    Err(Overdue) => {
                        self.open();
                        tokio::time::sleep(OPEN_FOR).await;
                        self.close();
                    }
                }
            }
        }
    }

    /// Looks whose turn it is; [`Overdue`] when that is who was `seen` last time.
    fn look(&self, seen: &mut u64) -> Result<(), Overdue> {
        let holder = self.holder.load(Ordering::SeqCst);
        let before = std::mem::replace(seen, holder);
        if holder == NOBODYS {
            self.advance();
        }
        if holder != NOBODYS && holder == before { Err(Overdue) } else { Ok(()) }
    }

    fn open(&self) {
        self.is_open.store(true, Ordering::SeqCst);
        self.wake_line();
    }

    fn close(&self) {
        self.is_open.store(false, Ordering::SeqCst);
        self.wake_line();
    }

    fn wake_line(&self) {
        // Whoever has the turn has it no more, and may come back whenever it likes.
        self.holder.store(NOBODYS, Ordering::SeqCst);
        while let Some(bell) = self.line.pop() {
            bell.leave_line();
            bell.wake();
        }
    }
}

const NOBODYS: u64 = 0;

/// A thread that is as long as this at work between two waits is quick: it takes its answer and asks again.
pub(super) const QUICK: Duration = Duration::from_micros(250);

/// How long a turn may last; who stands in line looks twice. Long beside a quick thread, even one that lost its processor for
/// a moment; short beside the five milliseconds that a thread may hold Python's lock against all others.
const PATIENCE: Duration = Duration::from_micros(500);

/// For how long everybody is woken at once when somebody was not quick: what the turns are worth is then little beside what
/// the program does, and it waits for the lock anyway.
const OPEN_FOR: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Instant = Instant::from_nanos(1_000_000_000);

    /// A bell at which a quick thread sleeps, as far as can be seen.
    fn quick() -> Arc<Bell> {
        let bell = Bell::new().expect("a descriptor");
        bell.note_work(QUICK);
        bell.pretend_sleeper();
        Arc::new(bell)
    }

    fn woken(bells: &[Arc<Bell>]) -> Vec<u32> {
        bells.iter().map(|bell| bell.rings()).collect()
    }

    /// Three quick threads are answered together. One is woken, and each wakes the next when it waits again.
    #[test]
    fn the_quick_are_woken_one_after_another() {
        let (turns, bells) = (Turns::default(), [quick(), quick(), quick()]);
        bells.iter().for_each(|bell| turns.wake(bell, T0));
        assert_eq!(woken(&bells), [1, 0, 0]);
        turns.hand_on(&bells[1]);
        assert_eq!(woken(&bells), [1, 0, 0], "it is not its turn");
        turns.hand_on(&bells[0]);
        assert_eq!(woken(&bells), [1, 1, 0]);
        turns.wake(&bells[0], T0);
        turns.hand_on(&bells[1]);
        assert_eq!(woken(&bells), [1, 1, 1]);
        turns.hand_on(&bells[2]);
        assert_eq!(woken(&bells), [2, 1, 1], "who came last, and had been first");
        turns.hand_on(&bells[0]);
        assert!(turns.line.is_empty());
        turns.wake(&bells[2], T0);
        assert_eq!(woken(&bells), [2, 1, 2], "nobody is at work");
    }

    /// A thread that computes between its requests, and one of which nothing is known: they are woken at once, and nobody
    /// waits for them.
    #[test]
    fn others_take_no_turns() {
        let (turns, slow, new, fast) = (Turns::default(), quick(), Arc::new(Bell::new().unwrap()), quick());
        slow.note_work(QUICK + Duration::from_nanos(1));
        new.pretend_sleeper();
        for bell in [&slow, &new, &fast] {
            turns.wake(bell, T0);
            assert_eq!(bell.rings(), 1);
        }
    }

    /// Alice had her answer and does something else, with nobody in line. Bob, who comes while she may be back at any moment,
    /// waits for her; had he come later, he would not.
    #[test]
    fn who_went_elsewhere_delays_nobody_who_comes_later() {
        for (after, rings) in [(PATIENCE, [1, 1]), (PATIENCE - Duration::from_nanos(1), [1, 0])] {
            let (turns, bells) = (Turns::default(), [quick(), quick()]);
            turns.wake(&bells[0], T0);
            turns.wake(&bells[1], T0 + after);
            assert_eq!(woken(&bells), rings);
            turns.hand_on(&bells[0]);
            assert_eq!(woken(&bells), [1, 1]);
        }
    }

    /// Alice's turn comes when she is awake already, by a signal say. It is Bob's at once.
    #[test]
    fn who_does_not_sleep_has_no_turn() {
        let (turns, bells) = (Turns::default(), [quick(), quick(), quick()]);
        bells.iter().for_each(|bell| turns.wake(bell, T0));
        bells[1].pretend_awake();
        turns.hand_on(&bells[0]);
        assert_eq!(woken(&bells), [1, 0, 1]);
    }

    /// Alice was quick, and now computes. At the second look Bob and Carol are woken, and so is everybody for a while.
    #[test]
    fn nobody_waits_long_for_who_does_not_come_back() {
        let (turns, bells) = (Turns::default(), [quick(), quick(), quick()]);
        bells.iter().for_each(|bell| turns.wake(bell, T0));
        let mut seen = NOBODYS;
        assert_eq!(turns.look(&mut seen), Ok(()));
        assert_eq!(turns.look(&mut seen), Err(Overdue));
        turns.open();
        assert_eq!(woken(&bells), [1, 1, 1]);
        bells.iter().for_each(|bell| turns.wake(bell, T0));
        assert_eq!(woken(&bells), [2, 2, 2]);
        turns.close();
        bells[1..].iter().for_each(|bell| turns.wake(bell, T0));
        assert_eq!(woken(&bells), [2, 3, 2]);
        turns.hand_on(&bells[0]);
        assert_eq!(woken(&bells), [2, 3, 2], "what Alice had is over, and ends nobody's turn");
        turns.hand_on(&bells[1]);
        assert_eq!(woken(&bells), [2, 3, 3]);
    }

    /// Turns that change hands are not overdue, however long the line is.
    #[test]
    fn a_line_that_moves_is_let_be() {
        let (turns, bells) = (Turns::default(), [quick(), quick(), quick()]);
        let mut seen = NOBODYS;
        bells.iter().for_each(|bell| turns.wake(bell, T0));
        for bell in &bells {
            assert_eq!(turns.look(&mut seen), Ok(()));
            turns.hand_on(bell);
        }
        assert_eq!(turns.look(&mut seen), Ok(()));
        assert_eq!(turns.look(&mut seen), Ok(()), "nobody is at work");
    }
}
