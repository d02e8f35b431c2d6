//! What `pyo3-async-runtimes` makes of a future that has nothing to do: the least that a completion costs there.

use pyo3::prelude::*;
use pyo3_async_runtimes::tokio::future_into_py;

/// Native side of `benches/python/delivery.py`.
#[pymodule]
mod bridge {
    use super::*;

    #[pymodule_init]
    fn init(_module: &Bound<'_, PyModule>) -> PyResult<()> {
        // One thread, as our kernel has one.
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1);
        pyo3_async_runtimes::tokio::init(builder);
        Ok(())
    }

    /// An awaitable whose future runs on tokio's thread, and is over at once.
    #[pyfunction]
    fn nothing(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        future_into_py(py, async { Ok(()) })
    }
}
