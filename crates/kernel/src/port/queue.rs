//! The two queues of a port and the bell between them.
//!
//! # Architecture Invariant
//! With [`crate::stats`] the only place where threads meet. Both queues are bounded by the places of a port, so the
//! kernel can always say what it has to say: a submission takes one place for its answer, and each of its streams
//! one for the word that it can go on. They take memory for what stands in them, not for all places: a program may
//! have a port for each of a hundred threads.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_queue::SegQueue;
use southbridge_words::Ticket;
use tokio::sync::Notify;

use super::bell::Bell;
use super::desk::{Desk, Errand, Unanswered};
use super::doorstep::{Caller, Doorstep};
use super::stream::Pipe;
use super::turns::Turns;
use super::{Completion, News, SubmitError};
use crate::clock::Clock;

/// What goes into the kernel.
pub(super) enum Submission<D: Desk> {
    Errand(Ticket, Box<dyn Errand<D>>),
    Cancel(Ticket),
}

/// What comes out.
enum Word<D: Desk> {
    Done(Ticket, Result<D::Answer, D::Error>),
    /// A stream can go on.
    Ready(Arc<Pipe<D>>),
}

/// Both sides of one port.
pub(super) struct Shared<D: Desk> {
    submissions: SegQueue<Submission<D>>,
    completions: SegQueue<Word<D>>,
    held: AtomicUsize,
    held_max: usize,
    ticket_next: AtomicU64,
    bell: Arc<Bell>,
    /// In which order threads are woken; one for all ports of a kernel.
    turns: Arc<Turns>,
    /// Wakes whoever rings the bell on the kernel's side, once all that is ready has had its turn.
    ringer: Notify,
    /// Where it calls when it has something for the kernel; one for all ports of a kernel.
    doorstep: Arc<Doorstep>,
    pub(super) caller: Caller,
    detached: AtomicBool,
    /// Who else is told that the application is told something, where a test moves the clock.
    heard: Option<Arc<Notify>>,
    /// The kernel has looked at this port for the last time.
    finished: AtomicBool,
    /// Who waits here: how, and in which thread.
    pub(super) frontend: &'static str,
    pub(super) thread: u32,
}

impl<D: Desk> Shared<D> {
    pub(super) fn new(
        held_max: usize,
        frontend: &'static str,
        doorstep: Arc<Doorstep>,
        turns: Arc<Turns>,
        heard: Option<Arc<Notify>>,
    ) -> std::io::Result<Self> {
        let held_max = held_max.max(1);
        Ok(Self {
            submissions: SegQueue::new(),
            completions: SegQueue::new(),
            held: AtomicUsize::new(0),
            held_max,
            ticket_next: AtomicU64::new(0),
            bell: Arc::new(Bell::new()?),
            turns,
            ringer: Notify::new(),
            caller: doorstep.caller(),
            doorstep,
            detached: AtomicBool::new(false),
            heard,
            finished: AtomicBool::new(false),
            frontend,
            thread: crate::debug::thread_id(),
        })
    }

    /// Takes `places`, and a number for what they are taken for.
    pub(super) fn reserve(&self, places: usize) -> Result<Ticket, SubmitError> {
        if self.doorstep.is_stopped() {
            return Err(SubmitError::Stopped);
        }
        let held = self.held.fetch_add(places, Ordering::AcqRel);
        if held + places > self.held_max {
            self.release(places);
            return Err(SubmitError::QueueFull { held });
        }
        Ok(Ticket(self.ticket_next.fetch_add(1, Ordering::Relaxed)))
    }

    /// Gives `places` back.
    pub(super) fn release(&self, places: usize) {
        self.held.fetch_sub(places, Ordering::AcqRel);
    }

    /// Hands `errand` in, for whose answer a place is reserved.
    pub(super) fn submit(&self, ticket: Ticket, errand: Box<dyn Errand<D>>) -> Result<(), SubmitError> {
        if !self.has_room() {
            let held = self.held();
            self.release(1);
            return Err(SubmitError::QueueFull { held });
        }
        self.submissions.push(Submission::Errand(ticket, errand));
        self.doorstep.call(&self.caller);
        Ok(())
    }

    pub(super) fn cancel(&self, ticket: Ticket) {
        // A queue too full for a cancellation is one the kernel has yet to look at: the deadline will do.
        if self.has_room() {
            self.submissions.push(Submission::Cancel(ticket));
            self.doorstep.call(&self.caller);
        }
    }

    /// Whether one more submission may be handed in. Every request may be followed by its cancellation.
    fn has_room(&self) -> bool {
        self.submissions.len() < 2 * self.held_max
    }

    pub(super) fn take_completion(&self) -> Option<Completion<D>> {
        let word = self.completions.pop().or_else(|| self.take_orphan())?;
        Some(match word {
            Word::Done(ticket, result) => {
                self.release(1);
                Completion { ticket, news: News::Done(result) }
            }
            Word::Ready(pipe) => pipe.take_word(),
        })
    }

    /// A submission that came when the kernel had looked for the last time: nobody else will answer it.
    fn take_orphan(&self) -> Option<Word<D>> {
        while self.finished.load(Ordering::Acquire) {
            if let Submission::Errand(ticket, _) = self.submissions.pop()? {
                return Some(Word::Done(ticket, Err(Unanswered::Stopped.into())));
            }
        }
        None
    }

    pub(super) fn arm(&self) -> bool {
        self.bell.arm(|| self.is_ready())
    }

    pub(super) fn acknowledge(&self) {
        self.bell.acknowledge();
    }

    pub(super) fn wait(&self, timeout: Duration) -> bool {
        self.bell.sleep(timeout, || self.is_ready())
    }

    pub(super) fn wait_in_turn(&self, timeout: Duration, work: Duration, is_over: impl Fn() -> bool) -> bool {
        self.bell.note_work(work);
        self.turns.hand_on(&self.bell);
        self.bell.sleep(timeout, || is_over() || self.is_ready())
    }

    pub(super) fn rouse(&self) {
        self.bell.wake();
    }

    fn ring(&self, clock: Clock) {
        self.bell.ring();
        if self.bell.has_sleepers() {
            self.turns.wake(&self.bell, clock.now());
        }
    }

    /// Whether there is something to be taken.
    fn is_ready(&self) -> bool {
        let orphaned = || self.finished.load(Ordering::SeqCst) && !self.submissions.is_empty();
        !self.completions.is_empty() || orphaned()
    }

    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }

    pub(super) fn detach(&self) {
        self.detached.store(true, Ordering::SeqCst);
        self.turns.hand_on(&self.bell);
        self.clear();
        self.doorstep.call(&self.caller);
    }

    /// Kernel side: the next submission.
    pub(super) fn take_submission(&self) -> Option<Submission<D>> {
        self.submissions.pop()
    }

    /// Kernel side: the answer to `ticket` is there.
    pub(super) fn complete(&self, ticket: Ticket, result: Result<D::Answer, D::Error>) {
        self.say(Word::Done(ticket, result));
    }

    /// Kernel side: the same, where nobody is left who would ring. `finish` does.
    pub(super) fn complete_unrung(&self, ticket: Ticket, result: Result<D::Answer, D::Error>) {
        self.completions.push(Word::Done(ticket, result));
    }

    /// Kernel side: a stream can go on.
    pub(super) fn signal(&self, pipe: Arc<Pipe<D>>) {
        self.say(Word::Ready(pipe));
    }

    fn say(&self, word: Word<D>) {
        self.completions.push(word);
        debug_assert!(
            self.completions.len() <= self.held_max,
            "there is room for everything that has a place"
        );
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.is_detached() {
            self.clear();
        }
        if let Some(heard) = &self.heard {
            heard.notify_one();
        }
        if self.bell.is_wanted() {
            self.ringer.notify_one();
        }
    }

    /// Kernel side, as a task of its own: rings when there is something to say. It comes last of those that are ready
    /// to run, and while others are under way it lets the sockets be looked at a few times more, so that what completes
    /// together makes one wake-up (DESIGN decision 2).
    pub(super) async fn ring_when_asked(self: Arc<Self>, clock: Clock) {
        // Whoever moves the clock has just been told that it is the application's turn, and looks at once.
        let turns = if self.heard.is_some() { 0 } else { TURNS_AWAITED };
        loop {
            self.ringer.notified().await;
            for _ in 0..turns {
                if self.completions.len() >= self.held() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            self.ring(clock);
        }
    }

    /// Kernel side: it will not look at this port again.
    pub(super) fn finish(&self) {
        self.finished.store(true, Ordering::SeqCst);
        if self.is_detached() {
            self.clear();
        }
        self.bell.ring();
        self.bell.wake();
    }

    /// Nobody drains any more. What lies in the queues may hold the port itself, and would keep it for ever.
    fn clear(&self) {
        std::iter::from_fn(|| self.completions.pop()).for_each(drop);
        if self.finished.load(Ordering::SeqCst) {
            std::iter::from_fn(|| self.submissions.pop()).for_each(drop);
        }
    }

    /// Kernel side: whether the application has let go of the port.
    pub(super) fn is_detached(&self) -> bool {
        self.detached.load(Ordering::SeqCst)
    }
}

impl<D: Desk> AsFd for Shared<D> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

/// How often the I/O thread looks at its sockets between the first completion and the ring. Whoever waits is told that
/// much later, which is microseconds where nothing else happens. With more, wake-ups become no fewer; with two, a request
/// costs a third more.
const TURNS_AWAITED: usize = 8;
