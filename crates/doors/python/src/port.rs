//! One event loop's, or one thread's, side of the kernel: submissions go in, batches of completions come out.
//!
//! A frontend watches the descriptor and calls [`Port::drain`]; everything else happens here.
//!
//! # Source
//! K2, K3; DESIGN decision 2.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use southbridge::client::Port as KernelPort;
use southbridge_words::Ticket;

use crate::process::Own;
use crate::response::Response;
use crate::waiting::{Waiting, Who};
use crate::{errors, process, seam};

/// A port of this process's kernel. One event loop, one port.
#[pyclass(frozen, weakref, module = "southbridge._kernel")]
pub struct Port {
    port: Own<KernelPort>,
    waiting: Mutex<FxHashMap<Ticket, Waiting>>,
}

#[pymethods]
impl Port {
    /// Attaches a port to the kernel, which is started if need be.
    #[new]
    pub fn new(py: Python<'_>) -> PyResult<Self> {
        let port = process::attach(py)?;
        // Nothing can be ready yet, so there is nothing to drain first.
        let _armed = port.arm();
        Ok(Self { port: Own::new(port), waiting: Mutex::default() })
    }

    /// The descriptor to watch for reading.
    fn fileno(&self, py: Python<'_>) -> PyResult<RawFd> {
        Ok(self.ours(py)?.as_fd().as_raw_fd())
    }

    /// Whether it was attached in this process.
    #[getter]
    pub fn is_ours(&self) -> bool {
        self.port.is_ours()
    }

    /// How many submissions wait here.
    fn __len__(&self) -> usize {
        self.waiting().len()
    }

    /// Sends `response`'s request; `done` is called, without arguments, when it is settled.
    fn start(&self, py: Python<'_>, response: &Bound<'_, Response>, done: Py<PyAny>) -> PyResult<u64> {
        Ok(self.submit(py, response, Who::Called(done))?.0)
    }

    /// Gives `ticket` up: nobody will be told of it, and the kernel stops working on it.
    #[pyo3(name = "cancel")]
    fn cancel_ticket(&self, ticket: u64) {
        self.cancel(Ticket(ticket));
    }

    /// Tells those whose answers are here, `completions_max` at most. `True`: there may be more, and the
    /// descriptor does not say so; call again soon.
    ///
    /// Raises what a callback raised, once everybody has been told.
    #[pyo3(signature = (completions_max=64))]
    pub fn drain(&self, py: Python<'_>, completions_max: usize) -> PyResult<bool> {
        let port = self.ours(py)?;
        let mut outcome = Ok(());
        let mut left = completions_max;
        while left > 0 {
            let taken = self.tell_some(py, port, left.min(BATCH), &mut outcome);
            left -= taken;
            if taken == 0 {
                port.acknowledge();
                if port.arm() {
                    return outcome.map(|()| false);
                }
            }
        }
        outcome.map(|()| true)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Ok(waiting) = self.waiting.try_lock() else { return Ok(()) };
        for one in waiting.values() {
            visit.call(&one.response)?;
            one.who.traverse(visit)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        let waiting = std::mem::take(&mut *self.waiting());
        drop(waiting);
    }
}

impl Port {
    fn ours(&self, py: Python<'_>) -> PyResult<&KernelPort> {
        self.port.get().ok_or_else(|| errors::forked(py))
    }

    fn waiting(&self) -> MutexGuard<'_, FxHashMap<Ticket, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends `response`'s request; `who` is told when it is settled.
    pub fn submit(&self, py: Python<'_>, response: &Bound<'_, Response>, who: Who) -> PyResult<Ticket> {
        let port = self.ours(py)?;
        let outgoing = response.get().take_to_send(py)?;
        let submitted = seam::submit(port, &outgoing);
        let ticket = submitted.map_err(|failure| {
            let error = errors::of_failure(py, &failure);
            response.get().settle(Err(failure));
            error
        })?;
        self.waiting().insert(ticket, Waiting { response: response.clone().unbind(), who });
        Ok(ticket)
    }

    /// Gives `ticket` up.
    pub fn cancel(&self, ticket: Ticket) {
        let waiting = self.waiting().remove(&ticket);
        if let Some(waiting) = waiting
            && let Some(port) = self.port.get()
        {
            port.cancel(ticket);
            waiting.response.get().abandon();
        }
    }

    /// Blocks this thread, with the interpreter's lock released, until `response` is settled.
    ///
    /// # Errors
    /// What a signal handler raised; the request is then given up.
    pub fn block(&self, py: Python<'_>, response: &Bound<'_, Response>) -> PyResult<()> {
        let done = Arc::new(AtomicBool::new(false));
        let ticket = self.submit(py, response, Who::Thread(Arc::clone(&done)))?;
        loop {
            let drained = self.drain(py, usize::MAX).map(drop);
            if done.load(Ordering::Relaxed) {
                return drained;
            }
            let port = self.ours(py)?;
            let woken = drained.and_then(|()| {
                py.detach(|| {
                    let _counted = process::wait_in_house();
                    port.wait(NAP_MAX)
                });
                py.check_signals()
            });
            if let Err(error) = woken {
                self.cancel(ticket);
                return Err(error);
            }
        }
    }

    /// Takes at most `count` completions and tells whom they are for.
    fn tell_some(
        &self,
        py: Python<'_>,
        port: &KernelPort,
        count: usize,
        outcome: &mut PyResult<()>,
    ) -> usize {
        let mut batch = SmallVec::<[(Waiting, _); BATCH]>::new();
        let mut waiting = self.waiting();
        let taken = seam::drain(port, count, |ticket, result| {
            // Whoever gave up is not there any more.
            if let Some(one) = waiting.remove(&ticket) {
                batch.push((one, result));
            }
        });
        drop(waiting);
        for (one, result) in batch {
            one.response.get().complete(result);
            if let Err(error) = one.who.tell(py)
                && outcome.is_ok()
            {
                *outcome = Err(error);
            }
        }
        taken
    }
}

/// How many completions are taken off the queue at a time.
const BATCH: usize = 16;

/// The longest a blocked thread goes without a look at signals: one that comes between the look and the sleep
/// would not wake it. All others do at once.
const NAP_MAX: Duration = Duration::from_millis(250);
