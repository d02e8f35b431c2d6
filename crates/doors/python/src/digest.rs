//! A hash that the kernel has begun, and Python goes on with.
//!
//! # Source
//! F17; FIPS 180-4.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use crate::seam::RunningHash;

/// As one of ``hashlib``.
#[pyclass(frozen, module = "southbridge._kernel")]
pub struct Sha256(Mutex<RunningHash>);

impl Sha256 {
    /// One that has seen something.
    pub fn of(hash: RunningHash) -> Self {
        Self(Mutex::new(hash))
    }
}

#[pymethods]
impl Sha256 {
    /// Goes on with `data`.
    #[expect(clippy::needless_pass_by_value, reason = "so it comes")]
    fn update(&self, data: PyBackedBytes) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).update(&data);
    }

    /// The hash of all that it has seen, in hexadecimal.
    fn hexdigest(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).hex()
    }
}
