//! One event loop's, or one thread's, side of the kernel: submissions go in, batches of completions come out.
//!
//! A frontend watches the descriptor, drains, and calls what it is given.
//!
//! # Architecture Invariant
//! A program's code is never called from here. An interpreter that ends unwinds its daemon threads (up to
//! CPython 3.13), and there must be no Rust under them then; a greenlet may switch in any callback.
//!
//! # Source
//! K2, K3; DESIGN decision 2.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyList;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use southbridge_words::Ticket;

use crate::asyncio::AsyncioWaiter;
use crate::process::Own;
use crate::response::Response;
use crate::seam::Port as KernelPort;
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

    /// What is to be called now, `completions_max` at most. As many as that: there may be more, and the
    /// descriptor does not say so; drain again soon.
    #[pyo3(signature = (completions_max=64))]
    fn drain<'py>(&self, py: Python<'py>, completions_max: usize) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.take_ready(py, completions_max)?.into_iter().filter_map(Who::callable))
    }

    /// The same for tasks of asyncio: each is to be called back by `run(callback, waiter)`.
    #[pyo3(signature = (completions_max=64))]
    fn drain_tasks<'py>(&self, py: Python<'py>, completions_max: usize) -> PyResult<Bound<'py, PyList>> {
        let called = PyList::empty(py);
        for who in self.take_ready(py, completions_max)? {
            if let Who::Asyncio(waiter) = who {
                AsyncioWaiter::wake(waiter.bind(py), &called)?;
            }
        }
        Ok(called)
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
        let submitted = seam::submit(port, outgoing);
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
            // It is this thread's port: nobody else is to be told of anything.
            self.take_ready(py, usize::MAX)?;
            if done.load(Ordering::Relaxed) {
                return Ok(());
            }
            let port = self.ours(py)?;
            py.detach(|| port.wait(NAP_MAX));
            if let Err(error) = py.check_signals() {
                self.cancel(ticket);
                return Err(error);
            }
        }
    }

    /// Settles what has completed, and gives who is to be told of it: `count` at most. Fewer: the descriptor will
    /// say when there is more.
    fn take_ready(&self, py: Python<'_>, count: usize) -> PyResult<Vec<Who>> {
        let port = self.ours(py)?;
        let mut ready = Vec::new();
        while ready.len() < count {
            if self.take_batch(port, BATCH.min(count - ready.len()), &mut ready) == 0 {
                port.acknowledge();
                if port.arm() {
                    break;
                }
            }
        }
        Ok(ready)
    }

    fn take_batch(&self, port: &KernelPort, count: usize, ready: &mut Vec<Who>) -> usize {
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
            if let Who::Thread(flag) = &one.who {
                flag.store(true, Ordering::Relaxed);
            }
            ready.push(one.who);
        }
        taken
    }
}

/// How many completions are taken off the queue at a time.
const BATCH: usize = 16;

/// The longest a blocked thread goes without a look at signals: one that comes between the look and the sleep
/// would not wake it. All others do at once.
const NAP_MAX: Duration = Duration::from_millis(250);
