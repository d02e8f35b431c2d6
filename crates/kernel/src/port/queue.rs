//! The two queues of a port and the bell between them.
//!
//! # Architecture Invariant
//! With [`crate::stats`] the only place where threads meet. Both queues are bounded by the number of
//! submissions a port may hold, so the kernel can always complete what it has taken.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use southbridge_words::{Step, Ticket};
use tokio::sync::Notify;

use super::{Completion, PortError, PortRequest, SubmitError};

/// What goes into the kernel.
pub(super) enum Submission {
    Request(Ticket, Box<PortRequest>),
    Cancel(Ticket),
}

/// Both sides of one port.
pub(super) struct Shared {
    submissions: ArrayQueue<Submission>,
    completions: ArrayQueue<Completion>,
    held: AtomicUsize,
    held_max: usize,
    ticket_next: AtomicU64,
    armed: AtomicBool,
    bell: OwnedFd,
    /// Rings the kernel; one for all ports of a kernel.
    kernel: Arc<Notify>,
    detached: AtomicBool,
    stopped: Arc<AtomicBool>,
    /// The kernel has looked at this port for the last time.
    finished: AtomicBool,
}

impl Shared {
    pub(super) fn new(
        held_max: usize,
        kernel: Arc<Notify>,
        stopped: Arc<AtomicBool>,
    ) -> std::io::Result<Self> {
        let held_max = held_max.max(1);
        Ok(Self {
            // Every request may be followed by its cancellation.
            submissions: ArrayQueue::new(2 * held_max),
            completions: ArrayQueue::new(held_max),
            held: AtomicUsize::new(0),
            held_max,
            ticket_next: AtomicU64::new(0),
            armed: AtomicBool::new(false),
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            kernel,
            detached: AtomicBool::new(false),
            stopped,
            finished: AtomicBool::new(false),
        })
    }

    pub(super) fn submit(&self, request: PortRequest) -> Result<Ticket, SubmitError> {
        if self.stopped.load(Ordering::Acquire) {
            return Err(SubmitError::Stopped);
        }
        let held = self.held.fetch_add(1, Ordering::AcqRel);
        if held >= self.held_max {
            self.held.fetch_sub(1, Ordering::AcqRel);
            return Err(SubmitError::QueueFull { held });
        }
        let ticket = Ticket(self.ticket_next.fetch_add(1, Ordering::Relaxed));
        if self.submissions.push(Submission::Request(ticket, Box::new(request))).is_err() {
            self.held.fetch_sub(1, Ordering::AcqRel);
            return Err(SubmitError::QueueFull { held });
        }
        self.kernel.notify_one();
        Ok(ticket)
    }

    pub(super) fn cancel(&self, ticket: Ticket) {
        // A queue too full for a cancellation is one the kernel has yet to look at: the deadline will do.
        if self.submissions.push(Submission::Cancel(ticket)).is_ok() {
            self.kernel.notify_one();
        }
    }

    pub(super) fn take_completion(&self) -> Option<Completion> {
        let completion = self.completions.pop().or_else(|| self.take_orphan())?;
        self.held.fetch_sub(1, Ordering::AcqRel);
        Some(completion)
    }

    /// A submission that came when the kernel had looked for the last time: nobody else will answer it.
    fn take_orphan(&self) -> Option<Completion> {
        while self.finished.load(Ordering::Acquire) {
            if let Submission::Request(ticket, _) = self.submissions.pop()? {
                return Some(Completion { ticket, result: Err(stopped()) });
            }
        }
        None
    }

    pub(super) fn arm(&self) -> bool {
        self.armed.store(true, Ordering::SeqCst);
        // The kernel pushes first and looks at the flag second; we set the flag first and look second.
        // One of the two sees the other.
        std::sync::atomic::fence(Ordering::SeqCst);
        let ready = !self.completions.is_empty() || (self.finished.load(Ordering::SeqCst) && self.held() > 0);
        !ready || !self.armed.swap(false, Ordering::SeqCst)
    }

    pub(super) fn acknowledge(&self) {
        let mut count = [0_u8; 8];
        // Nothing to read means that nobody rang, which is what is wanted.
        let _nothing_rang = rustix::io::read(&self.bell, &mut count);
    }

    pub(super) fn wait(&self, timeout: Duration) -> bool {
        if !self.arm() {
            return true;
        }
        let limit = Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
        let mut fds = [PollFd::new(&self.bell, PollFlags::IN)];
        let rung = matches!(poll(&mut fds, Some(&limit)), Ok(count) if count > 0);
        if rung {
            self.acknowledge();
        }
        rung || !self.completions.is_empty()
    }

    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }

    pub(super) fn detach(&self) {
        self.detached.store(true, Ordering::Release);
        self.kernel.notify_one();
    }

    /// Kernel side: the next submission.
    pub(super) fn take_submission(&self) -> Option<Submission> {
        self.submissions.pop()
    }

    /// Kernel side: `completion` is ready.
    pub(super) fn complete(&self, completion: Completion) {
        let pushed = self.completions.push(completion);
        debug_assert!(pushed.is_ok(), "there is room for every submission that is held");
        std::sync::atomic::fence(Ordering::SeqCst);
        self.ring();
    }

    /// Kernel side: it will not look at this port again.
    pub(super) fn finish(&self) {
        self.finished.store(true, Ordering::SeqCst);
        self.ring();
    }

    fn ring(&self) {
        if self.armed.swap(false, Ordering::SeqCst) {
            // The counter of an eventfd overflows after 2^64 - 2 rings; a full one wakes as well.
            let _woken = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        }
    }

    /// Kernel side: whether the application has let go of the port.
    pub(super) fn is_detached(&self) -> bool {
        self.detached.load(Ordering::Acquire)
    }
}

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

/// What every submission is told once the kernel has stopped.
pub(super) fn stopped() -> PortError {
    let message = "the kernel has stopped".to_owned();
    PortError { step: Step::Admission, is_repeatable: false, message }
}
