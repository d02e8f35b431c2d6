//! Marks: `with southbridge.mark("loading cart"):` says what the program is doing, for whoever asks it.
//!
//! What crosses to the I/O thread is in the kernel's table of marks: bytes and numbers. Here is which mark a context is in:
//! a context variable holds its number, so every task, greenlet and thread has its own, and a task begins in that of
//! whoever started it.
//!
//! # Source
//! K13; decision 0015.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use pyo3::exceptions::PyStopIteration;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString};
use smallvec::SmallVec;

use crate::seam::{MarkId, Marks};
use crate::{ffi, ffi_context};

/// What the program is doing, for as long as the block lasts. May be entered several times, also at the same time.
#[pyclass(frozen, module = "southbridge._kernel")]
pub struct Mark {
    name: Py<PyString>,
    entered: Mutex<SmallVec<[Entered; 1]>>,
}

/// One entering that has not been left. Its number is zero when the table was full.
#[derive(Clone, Copy)]
struct Entered {
    id: MarkId,
    before: MarkId,
}

/// What `async with` awaits: it is there already.
#[pyclass(frozen, module = "southbridge._kernel")]
struct Ready {
    value: Py<PyAny>,
}

/// Says what the program is doing, for whoever asks it while it hangs: `with mark("loading cart"):`, `async with`, or as a
/// decorator. Marks nest. 64 bytes of the name are kept.
#[pyfunction]
#[pyo3(signature = (name, /))]
pub fn mark(name: Bound<'_, PyString>) -> Mark {
    let name = if name.to_str().is_ok() {
        name
    } else {
        // What is no Unicode is shown as far as it is.
        PyString::new(name.py(), &name.to_string_lossy())
    };
    Mark { name: name.unbind(), entered: Mutex::default() }
}

#[pymethods]
impl Mark {
    /// What the program says.
    #[getter]
    fn name<'py>(&self, py: Python<'py>) -> &Bound<'py, PyString> {
        self.name.bind(py)
    }

    fn __enter__<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        this.get().enter(this.py())?;
        Ok(this.clone())
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let _whatever_happened = (kind, value, traceback);
        self.leave(py)
    }

    fn __aenter__(this: &Bound<'_, Self>) -> PyResult<Ready> {
        this.get().enter(this.py())?;
        Ok(Ready { value: this.clone().into_any().unbind() })
    }

    fn __aexit__(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        traceback: &Bound<'_, PyAny>,
    ) -> PyResult<Ready> {
        let _whatever_happened = (kind, value, traceback);
        self.leave(py)?;
        Ok(Ready { value: py.None() })
    }

    /// `function`, each call of which is within this mark; also of a coroutine function or a generator function.
    #[pyo3(signature = (function, /))]
    fn __call__<'py>(&self, py: Python<'py>, function: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let decorate = py.import("southbridge._marks")?.getattr(intern!(py, "decorate"))?;
        decorate.call1((self.name.bind(py), function))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("mark({})", self.name.bind(py).repr()?))
    }
}

impl Mark {
    fn enter(&self, py: Python<'_>) -> PyResult<()> {
        EVER_ENTERED.store(true, Ordering::Relaxed);
        let variable = variable(py)?;
        let before = current_in(variable)?;
        let name = self.name.bind(py).to_str()?;
        let id = all().enter(name, thread(), Some(before));
        let id = id.unwrap_or_else(|| MarkId::of_number(0));
        self.entered().push(Entered { id, before });
        if id.number() == 0 { Ok(()) } else { set(variable, id) }
    }

    fn leave(&self, py: Python<'_>) -> PyResult<()> {
        let variable = variable(py)?;
        let current = current_in(variable)?;
        let taken = {
            let mut entered = self.entered();
            let here = entered.iter().rposition(|one| one.id == current);
            match here {
                Some(at) => Some((entered.remove(at), true)),
                // Left in another context than it was entered in.
                None => entered.pop().map(|one| (one, false)),
            }
        };
        let Some((one, is_here)) = taken else { return Ok(()) };
        all().leave(one.id, Some(one.before));
        if is_here { set(variable, one.before) } else { Ok(()) }
    }

    fn entered(&self) -> MutexGuard<'_, SmallVec<[Entered; 1]>> {
        self.entered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Mark {
    /// One that was never left, because its generator was thrown away.
    fn drop(&mut self) {
        for one in std::mem::take(&mut *self.entered()) {
            all().leave(one.id, None);
        }
    }
}

#[pymethods]
impl Ready {
    fn __await__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<()> {
        Err(PyStopIteration::new_err(self.value.clone_ref(py)))
    }
}

/// The marks of this process. A child that was forked off begins with those of the thread that forked.
pub fn all() -> &'static Arc<Marks> {
    static MARKS: OnceLock<Arc<Marks>> = OnceLock::new();
    MARKS.get_or_init(Arc::default)
}

/// The name of the mark that the caller is in, for a request that it makes.
///
/// # Errors
/// What the interpreter raises when it cannot say.
pub fn current_name(py: Python<'_>) -> PyResult<Option<Arc<str>>> {
    if !EVER_ENTERED.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let current = current_in(variable(py)?)?;
    all().see(current);
    Ok(all().name(current))
}

/// In a child that was forked off: the marks of threads that are not there are over.
pub fn keep_after_fork() {
    if EVER_ENTERED.load(Ordering::Relaxed) {
        let (forked, _) = THREAD.get();
        all().keep_after_fork(forked, thread());
    }
}

/// Most programs have no marks, and pay for none.
static EVER_ENTERED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The number of this thread, and in which process that was.
    static THREAD: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
}

fn thread() -> u32 {
    let (known, process) = THREAD.get();
    if known != 0 && process == ffi::process() {
        return known;
    }
    let number = southbridge_kernel::debug::thread_id();
    THREAD.set((number, ffi::process()));
    number
}

fn variable(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static VARIABLE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let variable = VARIABLE.get_or_try_init(py, || {
        let default = PyDict::new(py);
        default.set_item("default", 0)?;
        let class = py.import("_contextvars")?.getattr("ContextVar")?;
        class.call(("southbridge mark",), Some(&default)).map(Bound::unbind)
    })?;
    Ok(variable.bind(py))
}

fn current_in(variable: &Bound<'_, PyAny>) -> PyResult<MarkId> {
    Ok(MarkId::of_number(ffi_context::get(variable)?.extract()?))
}

fn set(variable: &Bound<'_, PyAny>, id: MarkId) -> PyResult<()> {
    ffi_context::set(variable, id.number().into_pyobject(variable.py())?.as_any())
}
