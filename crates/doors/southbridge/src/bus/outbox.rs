//! The way to the thread of the outbox and back.
//!
//! Jobs go out in order and each gets its reply; those of one kind in that order. What the thread has no room for waits
//! here: the Externaliser bounds it (one write, and one page for each destination that is being served).
//!
//! # Source
//! F16; DESIGN decision 8.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use southbridge_bus::externaliser::WriteId;
use southbridge_store_thread::{Busy, Job, OutboxThread, Reply};
use southbridge_words::{OutboxError, Seq, ServerName};

/// Where jobs are handed in.
pub(super) struct Desk {
    thread: RefCell<Option<OutboxThread>>,
    waiting: RefCell<VecDeque<Job>>,
    under_way: RefCell<VecDeque<Asked>>,
    upkeep: Cell<bool>,
    /// Replies to what was handed in when there was no thread any more.
    vain: RefCell<VecDeque<Reply>>,
}

/// What a job asked for, to answer it when the thread cannot any more.
enum Asked {
    Write(WriteId),
    Page { destination: ServerName, after: Seq },
    Upkeep,
}

impl Desk {
    pub(super) fn new(thread: OutboxThread) -> Self {
        Self {
            thread: RefCell::new(Some(thread)),
            waiting: RefCell::default(),
            under_way: RefCell::default(),
            upkeep: Cell::new(false),
            vain: RefCell::default(),
        }
    }

    /// Hands `job` in. It is answered by the thread, or, when there is none any more, by [`Desk::unanswered`].
    pub(super) fn submit(&self, job: Job) {
        let asked = Asked::of(&job);
        if self.thread.borrow().is_none() {
            return self.vain.borrow_mut().push_back(asked.unanswered(ended()));
        }
        self.under_way.borrow_mut().push_back(asked);
        self.waiting.borrow_mut().push_back(job);
        self.push();
    }

    /// The next reply to what was handed in when there was no thread any more.
    pub(super) fn unanswered(&self) -> Option<Reply> {
        self.vain.borrow_mut().pop_front()
    }

    /// Asks for upkeep or news, unless that is under way; says whether it did.
    pub(super) fn submit_upkeep(&self, job: Job) -> bool {
        let is_free = self.thread.borrow().is_some() && !self.upkeep.replace(true);
        if is_free {
            self.submit(job);
        }
        is_free
    }

    /// Notes that `reply` has come, and hands in what has waited for room.
    pub(super) fn taken(&self, reply: &Reply) {
        let mut under_way = self.under_way.borrow_mut();
        if let Some(at) = under_way.iter().position(|asked| asked.is_answered_by(reply)) {
            under_way.remove(at);
        }
        drop(under_way);
        if matches!(reply, Reply::Upkept(_)) {
            self.upkeep.set(false);
        }
        self.push();
    }

    /// How many jobs have no reply yet.
    pub(super) fn under_way(&self) -> usize {
        self.under_way.borrow().len()
    }

    /// How many of them wait for room on the thread.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// Bytes in jobs that the thread has.
    pub(super) fn bytes(&self) -> usize {
        self.thread.borrow().as_ref().map_or(0, OutboxThread::bytes)
    }

    /// Lets the thread finish what it was given and close the outbox. Nothing is handed in any more.
    pub(super) fn close(&self) {
        self.waiting.borrow_mut().clear();
        self.thread.replace(None);
    }

    /// The replies that will never come, now that the thread has ended.
    pub(super) fn abandon(&self) -> Vec<Reply> {
        self.close();
        self.under_way.borrow_mut().drain(..).map(|asked| asked.unanswered(ended())).collect()
    }

    fn push(&self) {
        let thread = self.thread.borrow();
        let Some(thread) = &*thread else { return };
        let mut waiting = self.waiting.borrow_mut();
        while let Some(job) = waiting.pop_front() {
            match thread.submit(job) {
                Ok(()) => {}
                // A stopped thread ends its replies too, and that is when its jobs are given up.
                Err(Busy::Full(job) | Busy::Stopped(job)) => return waiting.push_front(*job),
                Err(_) => return,
            }
        }
    }
}

fn ended() -> OutboxError {
    OutboxError::Failed { reason: "its thread has ended".to_owned() }
}

impl Asked {
    fn of(job: &Job) -> Self {
        match job {
            Job::Write { id, .. } => Self::Write(WriteId(*id)),
            Job::Read { destination, after, .. } => {
                Self::Page { destination: destination.clone(), after: *after }
            }
            Job::Recover | Job::Upkeep { .. } | Job::News => Self::Upkeep,
        }
    }

    fn is_answered_by(&self, reply: &Reply) -> bool {
        match (self, reply) {
            (Self::Write(id), Reply::Written { id: answered, .. }) => id.0 == *answered,
            (Self::Page { destination, after }, Reply::Page { destination: of, after: read, .. }) => {
                after == read && destination == of
            }
            (Self::Upkeep, Reply::Upkept(_) | Reply::Recovered(_)) => true,
            _ => false,
        }
    }

    fn unanswered(self, failed: OutboxError) -> Reply {
        match self {
            Self::Write(id) => Reply::Written { id: id.0, result: Err(failed) },
            Self::Page { destination, after } => Reply::Page { destination, after, result: Err(failed) },
            Self::Upkeep => Reply::Upkept(Err(failed)),
        }
    }
}
