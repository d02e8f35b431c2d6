//! The native module of the Python package: `southbridge._kernel`.
//!
//! Floor 3 of the house. One kernel serves the whole process; every event loop and every thread that waits has a
//! port of its own, and a frontend is a way of waiting for it and nothing else.
//!
//! # Architecture Invariants
//! - No Python object reaches the I/O thread: requests are copied out of the interpreter, and what waits for an
//!   answer stays here, under its ticket (K1).
//! - `pyo3` is named in this door only; `unsafe` in `ffi`, `ffi_context` and `ffi_pages` only.
//! - No lock of ours is held while Python code runs.

mod arguments;
mod asyncio;
mod bus;
mod client;
mod cookies;
mod debug;
mod digest;
mod errors;
mod exchange;
mod ffi;
mod ffi_context;
mod ffi_pages;
#[cfg(feature = "watch-interpreter")]
mod ffi_watch;
mod figures;
mod files;
mod headers;
mod heard;
mod here;
mod marks;
#[cfg(feature = "measure")]
mod measure;
mod port;
mod process;
mod rehearsal;
mod response;
mod seam;
mod service_file;
mod services;
mod stacks;
mod statistics;
mod values;
mod waiting;

use pyo3::prelude::*;
use tikv_jemallocator::Jemalloc;

/// What the kernel holds, not what Python does: see the decision on the allocator.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// The I/O kernel of Southbridge inside Python.
#[pymodule]
mod _kernel {
    #[pymodule_export]
    use crate::asyncio::AsyncioWaiter;
    #[pymodule_export]
    use crate::bus::{Bus, PyBusProgress, no_server_names};
    #[pymodule_export]
    use crate::client::Client;
    #[pymodule_export]
    use crate::cookies::{clear_cookies, give_cookies, show_cookies};
    #[pymodule_export]
    use crate::digest::Sha256;
    #[pymodule_export]
    use crate::exchange::{Exchange, blocks_here};
    #[pymodule_export]
    use crate::figures::{Counter, Gauge, Histogram, counter, gauge, histogram};
    #[pymodule_export]
    use crate::headers::Headers;
    #[pymodule_export]
    use crate::marks::{Mark, mark};
    #[pymodule_export]
    use crate::port::Port;
    #[pymodule_export]
    use crate::process::{after_fork_in_child, debug_socket, shutdown};
    #[pymodule_export]
    use crate::rehearsal::Rehearsal;
    #[pymodule_export]
    use crate::response::Response;
    #[pymodule_export]
    use crate::services::{
        Breaker, Limits, Retry, Tls, declare_file, declare_service, push_service, ready, withdraw_service,
    };
    #[pymodule_export]
    use crate::statistics::{Statistics, statistics};
    #[pymodule_export]
    use crate::values::Timeout;

    use pyo3::exceptions::PyImportError;
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        if !crate::ffi::in_main_interpreter(module.py()) {
            return Err(PyImportError::new_err(
                "southbridge works in the main interpreter of a process, and this is one of its subinterpreters",
            ));
        }
        crate::ffi::watch_forks();
        crate::ffi_pages::let_go_of_relocations();
        crate::stacks::note(module.py());
        #[cfg(feature = "watch-interpreter")]
        module.as_any().setattr(
            "_attach_as_io_thread",
            pyo3::wrap_pyfunction!(crate::ffi_watch::_attach_as_io_thread, module)?,
        )?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
