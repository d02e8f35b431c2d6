//! What a task of asyncio waits on: a future as far as asyncio can tell, without being one.
//!
//! It is the iterator that `await` drives. Its first step sends the request and yields itself; the task asks it to
//! be called back, which happens straight from the batch of completions, with no trip through the loop's queue of
//! callbacks. uvloop and Tornado run the same tasks.
//!
//! # Source
//! The protocol that `asyncio.Task` speaks with whatever has `_asyncio_future_blocking` (PEP 3156; CPython
//! `Modules/_asynciomodule.c`, `task_step_handle_result_impl`).

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyType};
use smallvec::SmallVec;
use southbridge_words::Ticket;

use crate::exchange::Exchange;
use crate::port::Port;
use crate::response::Response;
use crate::waiting::Who;

/// Waits for one response, or for news of an exchange, on a running loop. Not thread-safe, like its loop.
#[pyclass(frozen, module = "southbridge._kernel")]
pub struct AsyncioWaiter {
    what: What,
    port: Py<Port>,
    looping: Py<PyAny>,
    state: Mutex<State>,
}

/// What is waited for.
enum What {
    Response(Py<Response>),
    News(Py<Exchange>),
}

#[derive(Default)]
struct State {
    stage: Stage,
    /// asyncio's own mark on what it was yielded.
    blocking: bool,
    callbacks: SmallVec<[Callback; 1]>,
}

/// What to call, and in which context.
type Callback = (Py<PyAny>, Option<Py<PyAny>>);

#[derive(Default)]
enum Stage {
    #[default]
    New,
    /// Of a response, its ticket.
    Begun(Option<Ticket>),
    Done,
    Cancelled(Option<Py<PyAny>>),
}

impl AsyncioWaiter {
    /// Will wait for `response` at `port`, on the running loop `looping`.
    pub fn new(response: Py<Response>, port: Py<Port>, looping: Py<PyAny>) -> Self {
        Self { what: What::Response(response), port, looping, state: Mutex::default() }
    }

    /// Will wait for news of `exchange`, which was opened at `port`, on the running loop `looping`.
    pub fn for_news(exchange: Py<Exchange>, port: Py<Port>, looping: Py<PyAny>) -> Self {
        Self { what: What::News(exchange), port, looping, state: Mutex::default() }
    }

    /// The response is settled: adds to `called` what is to be called back.
    pub fn wake(this: &Bound<'_, Self>, called: &Bound<'_, PyList>) -> PyResult<()> {
        let py = this.py();
        let callbacks = {
            let mut state = this.get().state();
            state.stage = Stage::Done;
            std::mem::take(&mut state.callbacks)
        };
        for (callback, context) in callbacks {
            let context = match context {
                Some(context) => context.into_bound(py),
                None => copy_context(py)?,
            };
            called.append((context.getattr(intern!(py, "run"))?, callback, this))?;
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to wait; `None` when there is nothing to wait for.
    fn begin(this: &Bound<'_, Self>) -> PyResult<Option<Stage>> {
        let py = this.py();
        let waiter = this.get();
        if !matches!(waiter.state().stage, Stage::New) {
            return Ok(None);
        }
        let who = || Who::Asyncio(this.clone().unbind());
        match &waiter.what {
            What::Response(response) if response.get().is_unsent() => {
                let ticket = waiter.port.get().submit(py, response.bind(py), who())?;
                Ok(Some(Stage::Begun(Some(ticket))))
            }
            What::Response(_) => Ok(None),
            What::News(exchange) => Ok(exchange.get().listen_as(who())?.then_some(Stage::Begun(None))),
        }
    }

    /// What came of it.
    fn value(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match &self.what {
            What::Response(response) => {
                response.get().check(py)?;
                Ok(response.clone_ref(py).into_any())
            }
            What::News(_) => Ok(py.None()),
        }
    }

    /// Gives the request up, or stops listening, if that is under way.
    fn give_up(&self) {
        let ticket = {
            let mut state = self.state();
            let Stage::Begun(ticket) = state.stage else { return };
            state.stage = Stage::Done;
            ticket
        };
        self.stop(ticket);
    }

    fn stop(&self, ticket: Option<Ticket>) {
        match (&self.what, ticket) {
            (What::Response(_), Some(ticket)) => self.port.get().cancel(ticket),
            (What::Response(_), None) => {}
            (What::News(exchange), _) => exchange.get().stop_listening(),
        }
    }

    fn call_soon(&self, py: Python<'_>, what: Callback, this: &Bound<'_, Self>) -> PyResult<()> {
        let (callback, context) = what;
        let kwargs = PyDict::new(py);
        if let Some(context) = context {
            kwargs.set_item(intern!(py, "context"), context)?;
        }
        self.looping.bind(py).call_method(intern!(py, "call_soon"), (callback, this), Some(&kwargs))?;
        Ok(())
    }
}

#[pymethods]
impl AsyncioWaiter {
    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __await__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__(this: &Bound<'_, Self>) -> PyResult<Py<Self>> {
        let waiter = this.get();
        if let Some(begun) = Self::begin(this)? {
            let mut state = waiter.state();
            state.stage = begun;
            state.blocking = true;
            return Ok(this.clone().unbind());
        }
        if matches!(waiter.state().stage, Stage::Begun(_)) {
            return Err(PyRuntimeError::new_err("await wasn't used with future"));
        }
        Err(PyStopIteration::new_err(waiter.value(this.py())?))
    }

    #[pyo3(signature = (value, /))]
    fn send(this: &Bound<'_, Self>, value: &Bound<'_, PyAny>) -> PyResult<Py<Self>> {
        let _nothing_is_sent = value;
        Self::__next__(this)
    }

    #[pyo3(signature = (kind, value=None, traceback=None))]
    fn throw(
        &self,
        kind: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _kept_by_the_exception = traceback;
        self.give_up();
        let error = match value {
            Some(value) if !value.is_none() => value.clone(),
            _ if kind.is_instance_of::<PyType>() => kind.call0()?,
            _ => kind.clone(),
        };
        Err(PyErr::from_value(error))
    }

    fn close(&self) {
        self.give_up();
    }

    #[getter(_asyncio_future_blocking)]
    fn blocking(&self) -> bool {
        self.state().blocking
    }

    #[setter(_asyncio_future_blocking)]
    fn set_blocking(&self, blocking: bool) {
        self.state().blocking = blocking;
    }

    fn get_loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.looping.clone_ref(py)
    }

    #[pyo3(signature = (callback, *, context=None))]
    fn add_done_callback(
        this: &Bound<'_, Self>,
        callback: Py<PyAny>,
        context: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let waiter = this.get();
        let mut state = waiter.state();
        if matches!(state.stage, Stage::New | Stage::Begun(_)) {
            state.callbacks.push((callback, context));
            return Ok(());
        }
        drop(state);
        waiter.call_soon(this.py(), (callback, context), this)
    }

    fn remove_done_callback(&self, callback: &Bound<'_, PyAny>) -> usize {
        let mut kept = SmallVec::new();
        let mut removed = Vec::new();
        for one in std::mem::take(&mut self.state().callbacks) {
            if one.0.bind(callback.py()).eq(callback).unwrap_or(false) {
                removed.push(one);
            } else {
                kept.push(one);
            }
        }
        self.state().callbacks = kept;
        removed.len()
    }

    #[pyo3(signature = (msg=None))]
    fn cancel(this: &Bound<'_, Self>, msg: Option<Py<PyAny>>) -> PyResult<bool> {
        let waiter = this.get();
        let (before, callbacks) = {
            let mut state = waiter.state();
            if matches!(state.stage, Stage::Done | Stage::Cancelled(_)) {
                return Ok(false);
            }
            let before = std::mem::replace(&mut state.stage, Stage::Cancelled(msg));
            (before, std::mem::take(&mut state.callbacks))
        };
        if let Stage::Begun(ticket) = before {
            waiter.stop(ticket);
        }
        for what in callbacks {
            waiter.call_soon(this.py(), what, this)?;
        }
        Ok(true)
    }

    fn cancelled(&self) -> bool {
        matches!(self.state().stage, Stage::Cancelled(_))
    }

    fn done(&self) -> bool {
        matches!(self.state().stage, Stage::Done | Stage::Cancelled(_))
    }

    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let cancelled = match &self.state().stage {
            Stage::Cancelled(message) => Some(message.as_ref().map(|message| message.clone_ref(py))),
            _ => None,
        };
        if let Some(message) = cancelled {
            return Err(cancelled_error(py, message));
        }
        self.value(py)
    }

    fn exception(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match self.result(py) {
            Ok(_) => Ok(None),
            Err(error) if self.cancelled() => Err(error),
            Err(error) => Ok(Some(error.into_value(py).into_any())),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &self.what {
            What::Response(response) => visit.call(response)?,
            What::News(exchange) => visit.call(exchange)?,
        }
        visit.call(&self.port)?;
        visit.call(&self.looping)?;
        let Ok(state) = self.state.try_lock() else { return Ok(()) };
        for (callback, context) in &state.callbacks {
            visit.call(callback)?;
            visit.call(context)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        let callbacks = std::mem::take(&mut self.state().callbacks);
        drop(callbacks);
    }
}

fn copy_context(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import("contextvars")?.call_method0("copy_context")
}

fn cancelled_error(py: Python<'_>, message: Option<Py<PyAny>>) -> PyErr {
    static CANCELLED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let made = CANCELLED.import(py, "asyncio", "CancelledError").and_then(|class| match message {
        Some(message) if !message.is_none(py) => class.call1((message,)),
        _ => class.call0(),
    });
    made.map_or_else(|error| error, PyErr::from_value)
}
