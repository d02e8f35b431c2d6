//! Shows, before anybody relies on it, that the stacks of this interpreter are read rightly: a thread's own stack is
//! read as the I/O thread would, and compared with what Python says of it.
//!
//! # Source
//! K13; decision 0015.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use southbridge_kernel::debug::{Frame, Thread};

use super::code::Types;
use super::layout::Layout;
use super::{Reader, note, open};
use crate::ffi;

/// A reader of this interpreter's stacks.
///
/// # Errors
/// The version is not known, the system forbids it, or what was read is not what is there.
pub fn reader(py: Python<'_>) -> Result<Reader, String> {
    note(py);
    let version = py.version_info();
    let known = Layout::of(version.minor).filter(|_| version.major == 3 && is_cpython(py));
    let Some(layout) = known else {
        return Err(format!(
            "how this Python, {}.{}, keeps its frames is not known here; CPython 3.10 to 3.13 are",
            version.major, version.minor
        ));
    };
    let types = Types {
        code: type_of_code(py).map_err(|error| error.to_string())?,
        text: py.get_type::<PyString>().as_ptr() as usize,
        bytes: py.get_type::<PyBytes>().as_ptr() as usize,
    };
    let reader = Reader { layout, types, maker: ffi::thread_state(py) };
    reader.prove(py)?;
    Ok(reader)
}

impl Reader {
    /// # Errors
    /// What differs.
    fn prove(&self, py: Python<'_>) -> Result<(), String> {
        let told = frames_told(py, self.layout.thread.tid.is_some()).map_err(|error| error.to_string())?;
        let me = Thread { key: self.maker, tid: None, is_main: false };
        let seen = self.look_in(&mut open()?, &me).map(|look| look.frames).unwrap_or_default();
        let compared = told.len().min(COMPARED_MAX);
        if compared == 0 {
            return Err(
                "the kernel was started where no Python ran, so that none could be compared".to_owned()
            );
        }
        if seen.get(..compared) != Some(&told[..compared])
            || !self.threads()?.iter().any(|it| it.key == me.key)
        {
            let version = Python::version_str();
            return Err(format!(
                "this build of Python, {version}, keeps its frames otherwise than others do"
            ));
        }
        Ok(())
    }
}

/// The frames of this thread, as Python tells them.
fn frames_told(py: Python<'_>, has_qualified_names: bool) -> PyResult<Vec<Frame>> {
    let name = if has_qualified_names { "co_qualname" } else { "co_name" };
    let mut frames = Vec::new();
    let mut next = py.import("sys")?.call_method0("_getframe").ok();
    while let Some(frame) = next.filter(|_| frames.len() < COMPARED_MAX) {
        let code = frame.getattr("f_code")?;
        frames.push(Frame {
            file: code.getattr("co_filename")?.extract()?,
            line: frame.getattr("f_lineno")?.extract()?,
            function: code.getattr(name)?.extract()?,
        });
        next = Some(frame.getattr("f_back")?).filter(|back| !back.is_none());
    }
    Ok(frames)
}

fn is_cpython(py: Python<'_>) -> bool {
    let name = py.import("sys").and_then(|sys| sys.getattr("implementation")?.getattr("name")?.extract());
    name.is_ok_and(|name: String| name == "cpython")
}

fn type_of_code(py: Python<'_>) -> PyResult<usize> {
    Ok(py.import("types")?.getattr("CodeType")?.as_ptr() as usize)
}

/// How many of the innermost frames are compared.
const COMPARED_MAX: usize = 16;
