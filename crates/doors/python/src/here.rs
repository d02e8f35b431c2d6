//! Where a call is: in which framework, on which loop, in which kind of thread.
//!
//! Asked when something is to be waited for, and not before, because only then it is certain. Frameworks that the
//! program has not imported are not imported to ask them.
//!
//! # Source
//! K20, T1, S1; decision 0010.

use std::cell::RefCell;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyModule, PyWeakrefMethods, PyWeakrefReference};

use crate::port::Port;
use crate::process;

/// How to wait here.
pub enum Here<'py> {
    /// On the running loop, which may be uvloop's or Tornado's.
    Asyncio(Bound<'py, PyAny>),
    /// In a task of trio, guest mode included.
    Trio,
    /// In the thread of Twisted's reactor, by Deferreds; the reactor may lie on an asyncio loop.
    Twisted,
    /// In a greenlet, by parking it.
    Gevent,
    /// By blocking.
    Thread,
}

/// Where the caller is.
///
/// # Errors
/// What a framework raised when it was asked.
pub fn here(py: Python<'_>) -> PyResult<Here<'_>> {
    if trio_runs(py)? {
        return Ok(Here::Trio);
    }
    let looping = running_loop(py)?;
    if imported(py, intern!(py, "twisted.internet.reactor"))? {
        let here = once(py, &IS_TWISTED_HERE, "twisted", "is_here")?.call1((looping.as_ref(),))?;
        if here.is_truthy()? {
            return Ok(Here::Twisted);
        }
    }
    if let Some(looping) = looping {
        return Ok(Here::Asyncio(looping));
    }
    if imported(py, intern!(py, "gevent.hub"))?
        && once(py, &IS_GEVENT_HERE, "gevent", "is_here")?.call0()?.is_truthy()?
    {
        return Ok(Here::Gevent);
    }
    Ok(Here::Thread)
}

/// The module of the Python package that waits in the manner of `name`.
pub fn frontend<'py>(py: Python<'py>, name: &'static str) -> PyResult<Bound<'py, PyModule>> {
    py.import(format!("southbridge._frontends.{name}"))
}

/// What is called `thing` in the frontend `name`, looked up once for all: asking for a module costs as much as a hundredth
/// of a request.
pub fn once<'py>(
    py: Python<'py>,
    known: &'static PyOnceLock<Py<PyAny>>,
    name: &'static str,
    thing: &'static str,
) -> PyResult<&'py Bound<'py, PyAny>> {
    let found: &'py Py<PyAny> =
        known.get_or_try_init(py, || frontend(py, name)?.getattr(thing).map(Bound::unbind))?;
    Ok(found.bind(py))
}

static IS_TWISTED_HERE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static IS_GEVENT_HERE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The port of where this is, attached on first use.
pub fn port<'py>(py: Python<'py>, here: &Here<'py>) -> PyResult<Bound<'py, Port>> {
    let name = match here {
        Here::Asyncio(looping) => return asyncio_port(py, looping),
        Here::Thread => return thread_port(py),
        Here::Trio => "trio",
        Here::Twisted => "twisted",
        Here::Gevent => "gevent",
    };
    Ok(frontend(py, name)?.call_method0(intern!(py, "port"))?.cast_into::<Port>()?)
}

/// The port of the running loop `looping`, attached on first use. It is the loop's: nothing here keeps either of them.
pub fn asyncio_port<'py>(py: Python<'py>, looping: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Port>> {
    thread_local! {
        static LAST: RefCell<Option<(Py<PyWeakrefReference>, Py<PyWeakrefReference>)>> =
            const { RefCell::new(None) };
    }
    let known = LAST.with_borrow(|last| {
        let (of, port) = last.as_ref()?;
        let same = of.bind(py).upgrade().is_some_and(|of| of.is(looping));
        let port = port.bind(py).upgrade()?.cast_into::<Port>().ok()?;
        (same && port.get().is_ours()).then_some(port)
    });
    if let Some(port) = known {
        return Ok(port);
    }
    let port = frontend(py, "asyncio")?.call_method1(intern!(py, "port"), (looping,))?.cast_into::<Port>()?;
    let last = (PyWeakrefReference::new(looping)?.unbind(), PyWeakrefReference::new(&port)?.unbind());
    let before = LAST.replace(Some(last));
    drop(before);
    Ok(port)
}

/// The port of this thread, for blocking; attached on first use.
pub fn thread_port(py: Python<'_>) -> PyResult<Bound<'_, Port>> {
    thread_local! {
        static MINE: RefCell<Option<Py<Port>>> = const { RefCell::new(None) };
    }
    let known = MINE.with_borrow(|mine| {
        mine.as_ref().filter(|port| port.get().is_ours()).map(|port| port.bind(py).clone())
    });
    if let Some(port) = known {
        return Ok(port);
    }
    // The port of a test's kernel is in the hands of whoever drives that.
    let port = match process::is_staged() {
        true => frontend(py, "rehearsed")?.call_method0(intern!(py, "thread_port"))?.cast_into::<Port>()?,
        false => Bound::new(py, Port::new(py, "threads")?)?,
    };
    let before = MINE.replace(Some(port.clone().unbind()));
    drop(before);
    Ok(port)
}

fn trio_runs(py: Python<'_>) -> PyResult<bool> {
    static IN_TRIO_TASK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if IN_TRIO_TASK.get(py).is_none() && !imported(py, intern!(py, "trio.lowlevel"))? {
        return Ok(false);
    }
    let ask = IN_TRIO_TASK
        .get_or_try_init(py, || py.import("trio.lowlevel")?.getattr("in_trio_task").map(Bound::unbind))?;
    ask.bind(py).call0()?.is_truthy()
}

fn running_loop(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    static RUNNING_LOOP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if RUNNING_LOOP.get(py).is_none() && !imported(py, intern!(py, "asyncio"))? {
        return Ok(None);
    }
    let ask = RUNNING_LOOP.get_or_try_init(py, || {
        py.import("asyncio.events")?.getattr("_get_running_loop").map(Bound::unbind)
    })?;
    let running = ask.bind(py).call0()?;
    Ok((!running.is_none()).then_some(running))
}

fn imported(py: Python<'_>, name: &Bound<'_, pyo3::types::PyString>) -> PyResult<bool> {
    static MODULES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let modules = MODULES.get_or_try_init(py, || {
        py.import("sys")?.getattr("modules")?.cast_into::<PyDict>().map(Bound::unbind).map_err(PyErr::from)
    })?;
    modules.bind(py).contains(name)
}
