//! The debug socket of this process: whether there is one, and where.
//!
//! `SOUTHBRIDGE_DEBUG` is `off`, a directory, or left out.
//!
//! # Source
//! K13; DESIGN decision 12; decision 0015.

use std::env;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use pyo3::prelude::*;
use southbridge_kernel::port::StartError;

use crate::seam::{self, DebugConfig, KernelThread, Region, Service, StackSource};
use crate::{marks, stacks};

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
        stacks::note(py);
        self.version.get_or_init(|| {
            let version = py.version_info();
            format!("{}.{}.{}", version.major, version.minor, version.patch)
        });
    }

    /// Starts the kernel, with its debug socket; it knows `services` from the start.
    ///
    /// # Errors
    /// As [`seam::start`]. A debug socket that cannot be opened is no reason not to start.
    pub fn start(&self, region: Region, services: Vec<Service>) -> Result<KernelThread, StartError> {
        let config = directory().map(|directory| DebugConfig {
            directory,
            facts: self.version.get().map(|version| ("python", version.clone())).into_iter().collect(),
            marks: Arc::clone(marks::all()),
            stack: Arc::clone(&self.stack),
        });
        seam::start(region, config, Arc::clone(&self.opened), services)
    }

    /// Where it lies.
    ///
    /// # Errors
    /// Why it could not be opened.
    pub fn socket(&self) -> Result<Option<PathBuf>, String> {
        self.opened.get().cloned().transpose()
    }

    /// Sees to it that stacks can be read, once there is somebody who could ask for them.
    pub fn show_stacks(&self, py: Python<'_>) {
        if matches!(self.opened.get(), Some(Ok(_))) && self.stack.get().is_none() {
            // Two threads may be here at once: the second is as good as the first, and is not kept.
            let source = stacks::source(py);
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
