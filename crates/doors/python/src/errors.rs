//! Failures as Python exceptions. The classes are written in Python (`southbridge/_errors.py`), where they are
//! typed and documented; here they are found by name.
//!
//! Making one runs no Python code, because a thread that fails since the interpreter ends must not run any.

use pyo3::exceptions::PySystemError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::seam::Failure;

/// The exception of `failure`.
pub fn of_failure(py: Python<'_>, failure: &Failure) -> PyErr {
    let built = || {
        let error = class(py, failure.name())?.call1((failure.to_string(),))?;
        error.setattr(intern!(py, "step"), failure.step().name())?;
        error.setattr(intern!(py, "is_repeatable"), failure.is_repeatable())?;
        if let Failure::HostDown { service, failures, failing_for, retry_in } = failure {
            error.setattr(intern!(py, "service"), service)?;
            error.setattr(intern!(py, "failures"), failures)?;
            error.setattr(intern!(py, "failing_for"), failing_for.as_secs_f64())?;
            error.setattr(intern!(py, "retry_in"), retry_in.as_secs_f64())?;
        }
        Ok(error)
    };
    built().map_or_else(|error: PyErr| error, PyErr::from_value)
}

/// Has everything at hand that making an exception needs, so that a thread that fails while the interpreter ends
/// releases its lock nowhere.
pub fn prepare(py: Python<'_>) {
    drop(of_failure(py, &Failure::Stopped));
}

/// The kernel of this process has been stopped.
pub fn stopped(py: Python<'_>) -> PyErr {
    named(py, "Stopped", "the kernel has stopped: the interpreter is on its way out")
}

/// What was begun in another process cannot be ended in this one.
pub fn forked(py: Python<'_>) -> PyErr {
    named(
        py,
        "Forked",
        "this belongs to the process that this one was forked off from: ask again here, by a new call",
    )
}

/// Touched before it was there, where waiting would stop an event loop.
pub fn not_awaited(py: Python<'_>, where_: &str) -> PyErr {
    let message =
        format!("the response is not here yet, and waiting for it would stop {where_}: await it first");
    named(py, "NotAwaited", &message)
}

/// Nothing more is known than what happened.
pub fn plain(py: Python<'_>, message: &str) -> PyErr {
    named(py, "Southbridge", message)
}

/// The exception `name` + `Error` that says `message`.
pub fn named(py: Python<'_>, name: &str, message: &str) -> PyErr {
    class(py, name).and_then(|class| class.call1((message,))).map_or_else(|error| error, PyErr::from_value)
}

fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static ERRORS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let errors = ERRORS.get_or_try_init(py, || py.import("southbridge._errors").map(Bound::unbind))?;
    let class = errors.bind(py).getattr(format!("{name}Error"));
    class.map_err(|_| PySystemError::new_err(format!("southbridge._errors has no {name}Error")))
}
