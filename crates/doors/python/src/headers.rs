//! The header fields of a response: in order, names in any case, several values to a name.

use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};

use crate::seam::Incoming;

/// Header fields: a mapping from names, in any case, to values.
#[pyclass(frozen, mapping, module = "southbridge._kernel")]
pub struct Headers {
    incoming: Arc<Incoming>,
}

impl Headers {
    /// The fields of `incoming`.
    pub fn new(incoming: Arc<Incoming>) -> Self {
        Self { incoming }
    }

    fn fields(&self) -> &HeaderMap {
        &self.incoming.headers
    }
}

#[pymethods]
impl Headers {
    fn __getitem__<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyString>> {
        self.joined(py, name).ok_or_else(|| PyKeyError::new_err(name.to_owned()))
    }

    #[pyo3(signature = (key, default=None, /), text_signature = None)]
    fn get<'py>(
        &self,
        py: Python<'py>,
        key: &str,
        default: Option<Bound<'py, PyAny>>,
    ) -> Option<Bound<'py, PyAny>> {
        self.joined(py, key).map(Bound::into_any).or(default)
    }

    /// Every value of `name`, one for each line.
    fn get_list<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.fields().get_all(name).iter().map(|value| text(py, value)))
    }

    fn __contains__(&self, name: &Bound<'_, PyAny>) -> bool {
        name.cast::<PyString>()
            .ok()
            .and_then(|name| name.to_cow().ok())
            .is_some_and(|name| self.fields().contains_key(&*name))
    }

    fn __len__(&self) -> usize {
        self.fields().keys_len()
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.keys(py)?.into_any().call_method0("__iter__")
    }

    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.fields().keys().map(HeaderName::as_str))
    }

    fn values<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.fields().keys().filter_map(|name| self.joined(py, name.as_str())))
    }

    fn items<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let pairs =
            self.fields().keys().filter_map(|name| Some((name.as_str(), self.joined(py, name.as_str())?)));
        PyList::new(py, pairs)
    }

    /// Every line, as a pair of name and value.
    fn multi_items<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.fields().iter().map(|(name, value)| (name.as_str(), text(py, value))))
    }

    /// Every line, as bytes.
    #[getter]
    fn raw<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let pairs = self.fields().iter().map(|(name, value)| {
            (PyBytes::new(py, name.as_str().as_bytes()), PyBytes::new(py, value.as_bytes()))
        });
        PyList::new(py, pairs)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("Headers({})", self.multi_items(py)?.repr()?))
    }
}

impl Headers {
    /// The values of `name`, as one: what RFC 9110 (5.2) says that several lines of one name amount to.
    fn joined<'py>(&self, py: Python<'py>, name: &str) -> Option<Bound<'py, PyString>> {
        let mut values = self.fields().get_all(name).iter();
        let first = values.next()?;
        let Some(second) = values.next() else { return Some(text(py, first)) };
        let mut joined = latin1(first);
        for value in std::iter::once(second).chain(values) {
            joined.push_str(", ");
            joined.push_str(&latin1(value));
        }
        Some(PyString::new(py, &joined))
    }
}

/// Every line of `fields`, as a pair of name and value.
pub fn lines(fields: &HeaderMap) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| (name.as_str().to_owned(), latin1(value))).collect()
}

fn text<'py>(py: Python<'py>, value: &HeaderValue) -> Bound<'py, PyString> {
    match value.to_str() {
        Ok(ascii) => PyString::new(py, ascii),
        Err(_) => PyString::new(py, &latin1(value)),
    }
}

/// UTF-8 where it is that, and otherwise ISO 8859-1, so that no value is lost.
fn latin1(value: &HeaderValue) -> String {
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => text.to_owned(),
        Err(_) => value.as_bytes().iter().copied().map(char::from).collect(),
    }
}
