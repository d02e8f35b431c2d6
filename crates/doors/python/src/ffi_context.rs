//! Context variables, by the functions of the interpreter's C interface where it has them.
//!
//! They are documented and as old as context variables, but not in the limited interface that a wheel for all versions
//! is built against. So they are looked up in the process, and where they are not found, the methods are called, which
//! does the same and takes three times as long.
//!
//! # Source
//! PEP 567; <https://docs.python.org/3/c-api/contextvars.html>.
#![allow(unsafe_code, reason = "calls functions of CPython that are not in its limited interface")]

use std::ffi::{CStr, c_int, c_void};
use std::mem;
use std::ptr;
use std::sync::OnceLock;

use pyo3::ffi::PyObject;
use pyo3::intern;
use pyo3::prelude::*;

// SAFETY: what they ask of their callers is said where they are called: an interpreter that this thread is attached to.
type Get = unsafe extern "C" fn(*mut PyObject, *mut PyObject, *mut *mut PyObject) -> c_int;
type Set = unsafe extern "C" fn(*mut PyObject, *mut PyObject) -> *mut PyObject;

#[derive(Clone, Copy)]
struct Functions {
    get: Get,
    set: Set,
}

/// The value of `variable` in the current context, or its default.
///
/// # Errors
/// `LookupError` when it has neither.
pub fn get<'py>(variable: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = variable.py();
    let Some(functions) = functions() else {
        return variable.call_method0(intern!(py, "get"));
    };
    let mut value = ptr::null_mut();
    // SAFETY: attached to the interpreter, as `py` shows; `variable` is a ContextVar, and the value is a new reference
    // or null.
    unsafe {
        if (functions.get)(variable.as_ptr(), ptr::null_mut(), &raw mut value) != 0 || value.is_null() {
            return Err(PyErr::fetch(py));
        }
        Ok(Bound::from_owned_ptr(py, value))
    }
}

/// Sets `variable` to `value` in the current context.
///
/// # Errors
/// What the interpreter raises: it has no memory.
pub fn set(variable: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = variable.py();
    let Some(functions) = functions() else {
        return variable.call_method1(intern!(py, "set"), (value,)).map(drop);
    };
    // SAFETY: as above; what comes back is a new reference to a token, or null.
    unsafe { Bound::from_owned_ptr_or_err(py, (functions.set)(variable.as_ptr(), value.as_ptr())).map(drop) }
}

fn functions() -> Option<Functions> {
    static FOUND: OnceLock<Option<Functions>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let (get, set) = (look_up(c"PyContextVar_Get")?, look_up(c"PyContextVar_Set")?);
        // SAFETY: functions of these names have had these signatures since CPython 3.7.1.
        unsafe {
            Some(Functions {
                get: mem::transmute::<*mut c_void, Get>(get),
                set: mem::transmute::<*mut c_void, Set>(set),
            })
        }
    })
}

fn look_up(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: the name ends with a zero; looking a symbol up has no other condition.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}
