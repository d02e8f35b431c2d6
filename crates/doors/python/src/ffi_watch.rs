//! Aborts the process when the I/O thread takes the interpreter's lock.
//!
//! The linker is told to lead every call of the two functions by which a thread gets attached through here
//! (`--wrap`, in `build.rs`), so that no way into the interpreter is missed, pyo3's own included.
//!
//! # Source
//! K1.
#![allow(unsafe_code, reason = "stands in for two functions of CPython")]

use std::ffi::{c_int, c_void};
use std::thread;

use pyo3::prelude::*;

// SAFETY: the linker makes these two names of what they stand for, whose signatures are those of CPython.
unsafe extern "C" {
    fn __real_PyGILState_Ensure() -> c_int;
    fn __real_PyEval_RestoreThread(state: *mut c_void);
}

/// # Safety
/// As `PyGILState_Ensure`.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_PyGILState_Ensure() -> c_int {
    abort_on_io_thread("PyGILState_Ensure");
    // SAFETY: the caller keeps the function's own rules.
    unsafe { __real_PyGILState_Ensure() }
}

/// # Safety
/// As `PyEval_RestoreThread`.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_PyEval_RestoreThread(state: *mut c_void) {
    abort_on_io_thread("PyEval_RestoreThread");
    // SAFETY: the caller keeps the function's own rules.
    unsafe { __real_PyEval_RestoreThread(state) };
}

fn abort_on_io_thread(door: &str) {
    if thread::current().name() == Some(IO_THREAD) {
        eprintln!("the I/O thread called {door}: it may never attach to the interpreter (K1)");
        std::process::abort();
    }
}

/// Attaches to the interpreter from a thread that is called like the I/O thread: for the test of this module.
#[pyfunction]
pub fn _attach_as_io_thread(py: Python<'_>) {
    let offender = thread::Builder::new().name(IO_THREAD.to_owned()).spawn(|| Python::attach(|_| ()));
    py.detach(|| offender.map(|it| drop(it.join())).expect("a thread is to be had"));
}

/// What the kernel calls its thread.
const IO_THREAD: &str = "southbridge-io";
