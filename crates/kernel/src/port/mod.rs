//! The port: where an application thread puts submissions and takes completions.
//!
//! An application thread attaches one port per event loop. Submitting is a push into a lock-free queue
//! and never blocks; completions come in batches: the first one after the application *armed* the port
//! writes its eventfd once, and however many follow before the application looks are drained together.
//!
//! ```text
//! application:  submit ─▶ [submissions] ─▶ kernel      drain ◀─ [completions] ◀─ kernel
//!               arm ────▶ armed = true                 eventfd ◀── armed.swap(false) was true
//! ```
//!
//! # Units
//! Queue sizes count entries; timeouts become deadlines on the kernel's clock when they arrive there.
//!
//! # Source
//! K1–K3, K15; DESIGN decision 2.

mod bell;
mod desk;
mod doorstep;
mod landing;
mod plain;
mod queue;
mod stream;
mod thread;
mod turns;
mod view;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use southbridge_words::Ticket;

use queue::Shared;

pub use desk::{Desk, Errand, Line, Reply, Started, Unanswered};
pub use landing::{KernelSide, Landing};
pub use plain::{PortError, PortRequest};
pub use stream::{Draw, Drawn, Fed, Feed, Flow, Gone, Pushed, Taken};
pub use thread::{KernelThread, StartError};
pub(crate) use view::PortFacts;
pub use view::PortView;

/// Something that an application is told about a submission.
pub struct Completion<D: Desk> {
    /// Which submission.
    pub ticket: Ticket,
    /// What there is to be told.
    pub news: News<D>,
}

/// What an application is told.
pub enum News<D: Desk> {
    /// The answer, or why there is none: once for every submission.
    Done(Result<D::Answer, D::Error>),
    /// There is something to draw again, after [`Drawn::Pending`].
    Readable,
    /// There is room to feed again, after [`Pushed::Full`].
    Writable,
}

impl<D: Desk> Completion<D> {
    /// The answer, if this is one.
    pub fn answer(self) -> Option<Result<D::Answer, D::Error>> {
        match self.news {
            News::Done(result) => Some(result),
            News::Readable | News::Writable => None,
        }
    }
}

/// A submission was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// As many are under way as the port was made for.
    #[error("the port holds {held} submissions already, which is all it was made for")]
    QueueFull {
        /// Submissions under way.
        held: usize,
    },
    /// The kernel has stopped.
    #[error("the kernel has stopped")]
    Stopped,
}

/// One application thread's side of a port. `Send`, not `Clone`: one loop, one port.
pub struct Port<D: Desk> {
    shared: Arc<Shared<D>>,
}

/// Makes the streams of a submission that is about to be handed in.
pub struct Opening<'a, D: Desk> {
    shared: &'a Arc<Shared<D>>,
    ticket: Ticket,
}

impl<D: Desk> Port<D> {
    /// Hands `errand` in. Never blocks.
    ///
    /// # Errors
    /// [`SubmitError`] when the port is full or the kernel gone; the errand is then dropped.
    pub fn submit(&self, errand: impl Errand<D>) -> Result<Ticket, SubmitError> {
        let ticket = self.shared.reserve(1)?;
        self.shared.submit(ticket, Box::new(errand))?;
        Ok(ticket)
    }

    /// Hands in an errand with streams of its own: `make` makes the errand, and what the application keeps. Each
    /// stream takes a place for as long as one of its ends is held.
    ///
    /// # Errors
    /// [`SubmitError`] when the port is full or the kernel gone; the errand is then dropped.
    pub fn open<E: Errand<D>, T>(
        &self,
        make: impl FnOnce(&Opening<'_, D>) -> Result<(E, T), SubmitError>,
    ) -> Result<(Ticket, T), SubmitError> {
        let ticket = self.shared.reserve(1)?;
        let (errand, kept) =
            make(&Opening { shared: &self.shared, ticket }).inspect_err(|_| self.shared.release(1))?;
        self.shared.submit(ticket, Box::new(errand))?;
        Ok((ticket, kept))
    }

    /// Gives up `ticket`: its exchange is cancelled in the kernel. Its completion may still come, if it
    /// was on its way.
    pub fn cancel(&self, ticket: Ticket) {
        self.shared.cancel(ticket);
    }

    /// Takes at most `completions_max` completions that are ready.
    pub fn drain(&self, completions_max: usize, mut take: impl FnMut(Completion<D>)) -> usize {
        let mut taken = 0;
        while taken < completions_max {
            let Some(completion) = self.shared.take_completion() else { break };
            take(completion);
            taken += 1;
        }
        taken
    }

    /// Asks for a wake-up when the next completion is ready. `false` when one is ready already: drain
    /// again instead of waiting.
    #[must_use = "when completions are ready already, no wake-up will come"]
    pub fn arm(&self) -> bool {
        self.shared.arm()
    }

    /// Clears the descriptor after it woke the application.
    pub fn acknowledge(&self) {
        self.shared.acknowledge();
    }

    /// Blocks the calling thread until a completion is ready or `timeout` is over; for plain threads.
    /// `true` when there is something to drain.
    pub fn wait(&self, timeout: Duration) -> bool {
        self.shared.wait(timeout)
    }

    /// The same for threads of which only one can go on at a time, as those of an interpreter with a lock: who is quick
    /// is woken when the one before waits again. Back as well when it `is_over` for another reason, which
    /// [`rouse`](Self::rouse) has it look at. `work` is how long the thread was at work since it last came from here.
    pub fn wait_in_turn(&self, timeout: Duration, work: Duration, is_over: impl Fn() -> bool) -> bool {
        self.shared.wait_in_turn(timeout, work, is_over)
    }

    /// Wakes all threads that block here, to look whether their wait is over: another has taken what is theirs.
    pub fn rouse(&self) {
        self.shared.rouse();
    }

    /// Places taken: by submissions whose answer has not been drained, and by streams.
    pub fn held(&self) -> usize {
        self.shared.held()
    }
}

impl<D: Desk> Opening<'_, D> {
    /// A stream to the application with room for `bytes_max`.
    ///
    /// # Errors
    /// [`SubmitError::QueueFull`] when the port has no place for it.
    pub fn downward(&self, bytes_max: usize) -> Result<(Flow<D>, Draw<D>), SubmitError> {
        self.shared.reserve(1)?;
        Ok(stream::downward(self.shared, self.ticket, bytes_max))
    }

    /// A stream from the application with room for `bytes_max`.
    ///
    /// # Errors
    /// [`SubmitError::QueueFull`] when the port has no place for it.
    pub fn upward(&self, bytes_max: usize) -> Result<(Feed<D>, Fed<D>), SubmitError> {
        self.shared.reserve(1)?;
        Ok(stream::upward(self.shared, self.ticket, bytes_max))
    }
}

impl<D: Desk> AsFd for Port<D> {
    /// The descriptor to watch for reading.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.as_fd()
    }
}

impl<D: Desk> Drop for Port<D> {
    fn drop(&mut self) {
        self.shared.detach();
    }
}

impl<D: Desk> fmt::Debug for Port<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("held", &self.held()).finish_non_exhaustive()
    }
}
