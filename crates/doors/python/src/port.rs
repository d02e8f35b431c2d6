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

use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyList;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use southbridge_words::Ticket;

use crate::asyncio::AsyncioWaiter;
use crate::heard::{Exchanges, Listening};
use crate::process::Own;
use crate::response::Response;
use crate::seam::{Answer, Ends, Failure, Outgoing, Port as KernelPort, Purpose, Question, Said};
use crate::waiting::{Waiting, Who};
use crate::{errors, process, seam};

/// A port of this process's kernel. One event loop, one port.
#[pyclass(frozen, weakref, module = "southbridge._kernel")]
pub struct Port {
    port: Own<KernelPort>,
    stage: u64,
    waiting: Mutex<FxHashMap<Ticket, Waiting>>,
    exchanges: Mutex<Exchanges>,
}

#[pymethods]
impl Port {
    /// Attaches a port to the kernel, which is started if need be; `frontend` is who waits there, as people see it who
    /// ask what the program is doing.
    #[new]
    #[pyo3(signature = (frontend="threads"))]
    pub fn new(py: Python<'_>, frontend: &str) -> PyResult<Self> {
        let known = FRONTENDS.iter().find(|known| **known == frontend);
        let stage = process::stage();
        let port = process::attach(py, known.copied().unwrap_or("another"))?;
        // Nothing can be ready yet, so there is nothing to drain first.
        let _armed = port.arm();
        Ok(Self { port: Own::new(port), stage, waiting: Mutex::default(), exchanges: Mutex::default() })
    }

    /// The descriptor to watch for reading.
    fn fileno(&self, py: Python<'_>) -> PyResult<RawFd> {
        Ok(self.ours(py)?.as_fd().as_raw_fd())
    }

    /// Whether it was attached in this process, to the kernel that is in its place now.
    #[getter]
    pub fn is_ours(&self) -> bool {
        self.port.is_ours() && self.stage == process::stage()
    }

    /// How many wait here: for an answer, or for news of an exchange.
    fn __len__(&self) -> usize {
        self.waiting().len() + self.exchanges().listeners()
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

    /// Gives up whatever waits here: nobody will look after this port any more.
    fn give_up_all(&self) {
        let tickets: Vec<Ticket> = self.waiting().keys().copied().collect();
        tickets.into_iter().for_each(|ticket| self.cancel(ticket));
        let (unanswered, listeners) = self.exchanges().give_up_all();
        if let Some(port) = self.port.get() {
            unanswered.into_iter().for_each(|ticket| port.cancel(ticket));
        }
        drop(listeners);
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
        let Ok(exchanges) = self.exchanges.try_lock() else { return Ok(()) };
        exchanges.traverse(visit)
    }

    fn __clear__(&self) {
        let waiting = std::mem::take(&mut *self.waiting());
        drop(waiting);
        let listeners = self.exchanges().clear();
        drop(listeners);
    }
}

impl Port {
    fn ours(&self, py: Python<'_>) -> PyResult<&KernelPort> {
        self.port.get().ok_or_else(|| errors::forked(py))
    }

    fn waiting(&self) -> MutexGuard<'_, FxHashMap<Ticket, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn exchanges(&self) -> MutexGuard<'_, Exchanges> {
        self.exchanges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends `outgoing`, whose bodies go in pieces.
    pub fn open(&self, py: Python<'_>, outgoing: Outgoing, purpose: &Purpose) -> PyResult<Ends> {
        let port = self.ours(py)?;
        let opened = seam::open(port, outgoing, purpose);
        let ends = opened.map_err(|failure| errors::of_failure(py, &failure))?;
        self.exchanges().open(ends.ticket);
        Ok(ends)
    }

    /// Asks `question`.
    pub fn ask(&self, py: Python<'_>, question: &Question) -> PyResult<Ends> {
        let port = self.ours(py)?;
        let ticket = seam::ask(port, question).map_err(|failure| errors::of_failure(py, &failure))?;
        self.exchanges().open(ticket);
        Ok(Ends { ticket, draw: None, feed: None, progress: None })
    }

    /// Tells `who` of the next news of `ticket`.
    pub fn listen(&self, ticket: Ticket, who: Who) -> Listening {
        self.exchanges().listen(ticket, who)
    }

    /// Whoever listened to `ticket` does not any more.
    pub fn unlisten(&self, ticket: Ticket) {
        let who = self.exchanges().unlisten(ticket);
        drop(who);
    }

    /// The answer to `ticket`, once.
    pub fn take_answer(&self, ticket: Ticket) -> Option<Result<Answer, Failure>> {
        self.exchanges().take_answer(ticket)
    }

    /// Whether `ticket` has been answered.
    pub fn is_answered(&self, ticket: Ticket) -> bool {
        self.exchanges().is_answered(ticket)
    }

    /// Nobody is interested in `ticket` any more; unless it has been answered, it is cancelled.
    pub fn forget(&self, ticket: Ticket) {
        let (who, is_answered) = {
            let mut exchanges = self.exchanges();
            let is_answered = exchanges.is_answered(ticket);
            (exchanges.forget(ticket), is_answered)
        };
        drop(who);
        if let Some(port) = self.port.get()
            && !is_answered
        {
            port.cancel(ticket);
        }
    }

    /// Blocks this thread, with the interpreter's lock released, until there is news of `ticket`.
    ///
    /// # Errors
    /// What a signal handler raised.
    pub fn block_for_news(&self, py: Python<'_>, ticket: Ticket) -> PyResult<()> {
        let done = Arc::new(AtomicBool::new(false));
        match self.listen(ticket, Who::Thread(Arc::clone(&done))) {
            Listening::NewsThere => return Ok(()),
            Listening::Taken => return Err(errors::plain(py, "another thread waits for this exchange")),
            Listening::Begun => {}
        }
        self.block_until(py, &done).inspect_err(|_| self.unlisten(ticket))
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
        self.block_until(py, &done).inspect_err(|_| self.cancel(ticket))
    }

    fn block_until(&self, py: Python<'_>, done: &AtomicBool) -> PyResult<()> {
        loop {
            let port = self.ours(py)?;
            // It is a port of threads: all who wait at it look at flags of their own.
            let mut ready = Vec::new();
            while self.take_batch(port, BATCH, &mut ready) > 0 {}
            if ready.iter().any(|who| who.is_another_thread(done)) {
                // It may be on its way to sleep, with nothing left to wake it.
                port.rouse();
            }
            if done.load(Ordering::SeqCst) {
                return Ok(());
            }
            let work = WOKEN_AT.get().map_or(Duration::MAX, |woken_at| woken_at.elapsed());
            py.detach(|| port.wait_in_turn(NAP_MAX, work, || done.load(Ordering::SeqCst)));
            WOKEN_AT.set(Some(Instant::now()));
            py.check_signals()?;
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
        let before = ready.len();
        let mut waiting = self.waiting();
        let taken = seam::drain(port, count, |ticket, said| match said {
            Said::Answered(result) => match waiting.remove(&ticket) {
                Some(one) => batch.push((one, result)),
                // An exchange, or somebody who gave up and is not there any more.
                None => ready.extend(self.exchanges().hear(ticket, Said::Answered(result))),
            },
            Said::GoesOn => ready.extend(self.exchanges().hear(ticket, said)),
        });
        drop(waiting);
        for (one, result) in batch {
            one.response.get().complete(result);
            ready.push(one.who);
        }
        for who in &ready[before..] {
            if let Who::Thread(flag) = who {
                flag.store(true, Ordering::SeqCst);
            }
        }
        taken
    }
}

/// Who may wait. Whoever else does is another.
const FRONTENDS: [&str; 5] = ["asyncio", "gevent", "threads", "trio", "twisted"];

thread_local! {
    /// When this thread last had the interpreter's lock again after it was blocked here.
    static WOKEN_AT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// How many completions are taken off the queue at a time.
const BATCH: usize = 16;

/// The longest a blocked thread goes without a look at signals: one that comes between the look and the sleep
/// would not wake it. All others do at once.
const NAP_MAX: Duration = Duration::from_millis(250);
