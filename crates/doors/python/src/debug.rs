//! The debug socket of this process: whether there is one, where, and who asks the main thread for its stack.
//!
//! `SOUTHBRIDGE_DEBUG` is `off`, a directory, or left out; `SOUTHBRIDGE_DEBUG_SIGNAL` the number of the signal that
//! interrupts the main thread, or `auto`; left out, it is not interrupted.
//!
//! # Source
//! K13; DESIGN decision 12; decision 0015.

use std::env;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use southbridge_kernel::port::StartError;

use crate::seam::{self, DebugConfig, KernelThread, Region, StackSource};
use crate::{ffi_stack, marks};

/// The debug socket of one process.
#[derive(Default)]
pub struct Debugging {
    /// Where it lies, or why there is none. Empty when there is not meant to be one.
    opened: Arc<OnceLock<Result<PathBuf, String>>>,
    stack: Arc<OnceLock<Result<StackSource, String>>>,
    /// Of the interpreter.
    version: OnceLock<String>,
}

impl Debugging {
    /// Takes note of what there is to be said of the interpreter.
    pub fn know(&self, py: Python<'_>) {
        self.version.get_or_init(|| {
            let version = py.version_info();
            format!("{}.{}.{}", version.major, version.minor, version.patch)
        });
    }

    /// Starts the kernel, with its debug socket.
    ///
    /// # Errors
    /// As [`seam::start`]. A debug socket that cannot be opened is no reason not to start.
    pub fn start(&self, region: Region) -> Result<KernelThread, StartError> {
        let config = directory().map(|directory| DebugConfig {
            directory,
            facts: self.version.get().map(|version| ("python", version.clone())).into_iter().collect(),
            marks: Arc::clone(marks::all()),
            stack: Arc::clone(&self.stack),
        });
        seam::start(region, config, Arc::clone(&self.opened))
    }

    /// Where it lies.
    ///
    /// # Errors
    /// Why it could not be opened.
    pub fn socket(&self) -> Result<Option<PathBuf>, String> {
        self.opened.get().cloned().transpose()
    }

    /// Sees to it that the main thread can be asked for its stack, once there is somebody who could ask.
    pub fn listen_for_stacks(&self, py: Python<'_>) {
        if matches!(self.opened.get(), Some(Ok(_))) && self.stack.get().is_none() {
            // Two threads may be here at once: the second is as good as the first, and is not kept.
            let source = source(py);
            let _first = self.stack.set(source);
        }
    }
}

fn directory() -> Option<PathBuf> {
    match env::var_os("SOUTHBRIDGE_DEBUG") {
        Some(off) if off == "off" || off == "0" => None,
        Some(directory) if !directory.is_empty() && directory != "on" && directory != "1" => {
            Some(directory.into())
        }
        _ => Some(southbridge_kernel::debug::directory()),
    }
}

fn source(py: Python<'_>) -> Result<StackSource, String> {
    let wanted = match env::var("SOUTHBRIDGE_DEBUG_SIGNAL") {
        Ok(auto) if auto == "auto" => None,
        Ok(off) if off == "off" => return Err("SOUTHBRIDGE_DEBUG_SIGNAL is off".to_owned()),
        Ok(number) if !number.is_empty() => {
            let number = number.parse().map_err(|_| {
                format!("SOUTHBRIDGE_DEBUG_SIGNAL is {number:?}: it is the number of a signal, or off")
            })?;
            Some(number)
        }
        // CPython 3.11 has been seen to crash in the handler, in a loop that calls and returns (decision 0015).
        _ => return Err(NOT_ASKED_FOR.to_owned()),
    };
    let signal = ffi_stack::free_signal(wanted)?;
    let (read, write) = ffi_stack::pipe().map_err(|error| format!("there is no pipe to be had: {error}"))?;
    register(py, signal, write.as_raw_fd())
        .map_err(|error| format!("faulthandler does not take signal {signal}: {error}"))?;
    ffi_stack::take_over(signal, write)?;
    Ok(StackSource { pipe: read, ask: Box::new(move |number| ffi_stack::interrupt(signal, number)) })
}

/// `faulthandler` knows how a thread writes its own stack in a signal handler, in every version of CPython.
fn register(py: Python<'_>, signal: i32, pipe: i32) -> PyResult<()> {
    let how = PyDict::new(py);
    how.set_item("file", pipe)?;
    how.set_item("all_threads", false)?;
    how.set_item("chain", false)?;
    py.import("faulthandler")?.call_method("register", (signal,), Some(&how))?;
    Ok(())
}

const NOT_ASKED_FOR: &str = "it is off, because CPython may crash when it is interrupted; start the program with \
                             SOUTHBRIDGE_DEBUG_SIGNAL=auto if that is better than not knowing";
