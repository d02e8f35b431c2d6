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

mod queue;
mod thread;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use southbridge_policy::ranker::Demand;
use southbridge_words::{Class, ServiceName, Step, Ticket};

use crate::exchange::Repeat;
use queue::Shared;

pub use thread::{KernelThread, Schemes, StartError};

/// What an application hands in.
#[derive(Debug)]
pub struct PortRequest {
    /// How the service's name becomes a route: one of the names in [`Schemes`].
    pub scheme: &'static str,
    /// To whom.
    pub service: ServiceName,
    /// Method, path-and-query, headers and body.
    pub request: http::Request<Bytes>,
    /// How urgent it is.
    pub class: Class,
    /// Whether to refuse at once when the host is down.
    pub demand: Demand,
    /// Whether it may be sent twice.
    pub repeat: Repeat,
    /// How long the whole exchange may take, the body included.
    pub timeout: Duration,
    /// The most bytes of body to take.
    pub body_bytes_max: u64,
}

/// What became of a submission.
#[derive(Debug)]
pub struct Completion {
    /// Which submission.
    pub ticket: Ticket,
    /// The whole response, or why there is none.
    pub result: Result<http::Response<Bytes>, PortError>,
}

/// Why a submission completed without a response. Unlike `ExchangeError`, it may cross threads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PortError {
    /// How far the request had come.
    pub step: Step,
    /// Whether asking again cannot make the peer do the work twice.
    pub is_repeatable: bool,
    /// What happened, in a sentence.
    pub message: String,
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
pub struct Port {
    shared: Arc<Shared>,
}

impl Port {
    /// Hands `request` in. Never blocks.
    ///
    /// # Errors
    /// [`SubmitError`] when the port is full or the kernel gone; the request is then dropped.
    pub fn submit(&self, request: PortRequest) -> Result<Ticket, SubmitError> {
        self.shared.submit(request)
    }

    /// Gives up `ticket`: its exchange is cancelled in the kernel. Its completion may still come, if it
    /// was on its way.
    pub fn cancel(&self, ticket: Ticket) {
        self.shared.cancel(ticket);
    }

    /// Takes at most `completions_max` completions that are ready.
    pub fn drain(&self, completions_max: usize, mut take: impl FnMut(Completion)) -> usize {
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

    /// Submissions under way, completions not yet drained included.
    pub fn held(&self) -> usize {
        self.shared.held()
    }
}

impl AsFd for Port {
    /// The descriptor to watch for reading.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.as_fd()
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.shared.detach();
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("held", &self.held()).finish_non_exhaustive()
    }
}
