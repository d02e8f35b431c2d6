//! Who waits for a ticket, and how it is told.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use pyo3::exceptions::PyStopIteration;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use crate::asyncio::AsyncioWaiter;
use crate::response::Response;

/// One submission that has not completed.
pub struct Waiting {
    /// What the answer is put into.
    pub response: Py<Response>,
    /// Who is told of it.
    pub who: Who,
}

/// Who waits.
pub enum Who {
    /// A thread, which looks at the flag.
    Thread(Arc<AtomicBool>),
    /// A task of asyncio.
    Asyncio(Py<AsyncioWaiter>),
    /// Anybody else: called without arguments.
    Called(Py<PyAny>),
}

impl Who {
    /// What is to be called, where that is all.
    pub fn callable(self) -> Option<Py<PyAny>> {
        match self {
            Self::Called(callable) => Some(callable),
            Self::Thread(_) | Self::Asyncio(_) => None,
        }
    }

    /// Whether it is a thread, and not the one that looks at `flag`.
    pub fn is_another_thread(&self, flag: &AtomicBool) -> bool {
        matches!(self, Self::Thread(other) if !std::ptr::eq(&**other, flag))
    }

    /// Shows the garbage collector what is held.
    pub fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Thread(_) => Ok(()),
            Self::Asyncio(waiter) => visit.call(waiter),
            Self::Called(callable) => visit.call(callable),
        }
    }
}

/// The awaiting of what has been waited for.
#[pyclass(frozen, module = "southbridge._kernel")]
pub struct Over;

#[pymethods]
impl Over {
    fn __await__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__(&self) -> PyResult<()> {
        Err(PyStopIteration::new_err(()))
    }
}
