//! Python values as those of a request: text, bytes, pairs, seconds.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyDict, PyMapping, PyString};
use southbridge_words::Secret;

use crate::seam::{Auth, Content, Part, Timeouts};

/// How long to wait for what, in seconds.
#[pyclass(frozen, get_all, eq, module = "southbridge._kernel")]
#[derive(PartialEq)]
pub struct Timeout {
    /// For all of it: redirects and the body of the response included.
    total: Option<f64>,
    /// Until there is a connection, the kernel's own queue included.
    connect: Option<f64>,
    /// While the peer neither takes nor gives a byte.
    read: Option<f64>,
}

#[pymethods]
impl Timeout {
    /// `None`: no bound.
    #[new]
    #[pyo3(
        signature = (total=None, *, connect=Some(10.0), read=Some(60.0)),
        text_signature = "(total=None, *, connect=10.0, read=60.0)"
    )]
    fn new(total: Option<f64>, connect: Option<f64>, read: Option<f64>) -> Self {
        Self { total, connect, read }
    }

    fn __repr__(&self) -> String {
        let say = |seconds: Option<f64>| seconds.map_or("None".to_owned(), |seconds| seconds.to_string());
        format!("Timeout({}, connect={}, read={})", say(self.total), say(self.connect), say(self.read))
    }
}

/// A number is the bound on all of it; a `Timeout` says more.
pub fn timeouts(value: &Bound<'_, PyAny>) -> PyResult<Timeouts> {
    if let Ok(timeout) = value.cast::<Timeout>() {
        let Timeout { total, connect, read } = timeout.get();
        let [total, connect, read] = [total, connect, read].map(|it| it.map(seconds).transpose());
        return Ok(Timeouts { connect: connect?, read: read?, total: total? });
    }
    let total = seconds(value.extract()?)?;
    Ok(Timeouts { total: Some(total), ..Timeouts::default() })
}

fn seconds(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|timeout| !timeout.is_zero())
        .ok_or_else(|| PyValueError::new_err(format!("a timeout of {seconds} s: it is more than 0")))
}

/// A pair is a name and a password, a text is a bearer token.
pub fn auth(value: &Bound<'_, PyAny>) -> PyResult<Auth> {
    if let Ok(token) = value.cast::<PyString>() {
        return Ok(Auth::Bearer(Secret::new(token.to_cow()?.as_bytes())));
    }
    let (user, password): (String, String) = value.extract().map_err(|_| {
        PyTypeError::new_err("auth is a pair of name and password, or a bearer token as text")
    })?;
    Ok(Auth::Basic { user, password: Secret::new(password.into_bytes()) })
}

/// Whether it is sent as it is.
pub fn is_content(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyString>() || is_bytes(value)
}

fn is_bytes(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyBytes>() || value.is_instance_of::<PyByteArray>() || is_view(value)
}

fn is_view(value: &Bound<'_, PyAny>) -> bool {
    value.get_type().name().is_ok_and(|name| name == "memoryview")
}

/// The bytes of `value`, copied: what is `bytes` once, and other buffers by way of one.
pub fn bytes(value: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Bytes::copy_from_slice(bytes.as_bytes()));
    }
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(Bytes::copy_from_slice(text.to_cow()?.as_bytes()));
    }
    if let Ok(array) = value.cast::<PyByteArray>() {
        return Ok(array.to_vec().into());
    }
    if is_view(value) {
        let whole = value.call_method0(intern!(value.py(), "tobytes"))?.cast_into::<PyBytes>()?;
        return Ok(Bytes::copy_from_slice(whole.as_bytes()));
    }
    let kind = value.get_type().name()?;
    Err(PyTypeError::new_err(format!("a body is bytes, bytearray, memoryview, str or a path, not {kind}")))
}

/// Where the file lies, if `value` is an `os.PathLike`; text is none.
pub fn path(value: &Bound<'_, PyAny>) -> PyResult<Option<PathBuf>> {
    if value.hasattr(intern!(value.py(), "__fspath__"))? { value.extract().map(Some) } else { Ok(None) }
}

/// `value` as JSON.
pub fn json(value: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    static DUMPS: PyOnceLock<(Py<PyAny>, Py<PyDict>)> = PyOnceLock::new();
    let py = value.py();
    let (dumps, how) = DUMPS.get_or_try_init(py, || {
        let how = PyDict::new(py);
        how.set_item("separators", (",", ":"))?;
        how.set_item("ensure_ascii", false)?;
        how.set_item("allow_nan", false)?;
        PyResult::Ok((py.import("json")?.getattr("dumps")?.unbind(), how.unbind()))
    })?;
    bytes(&dumps.bind(py).call((value,), Some(how.bind(py)))?)
}

/// Header fields. What is no name or no value of one is refused by name, before a byte is written (faults row 10).
pub fn headers(value: &Bound<'_, PyAny>) -> PyResult<HeaderMap> {
    let mut headers = HeaderMap::new();
    for pair in items(value)?.try_iter()? {
        let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = pair?.extract()?;
        let (name, value) = (bytes(&name)?, bytes(&value)?);
        let bad = |what: &str| {
            let name = String::from_utf8_lossy(&name);
            PyValueError::new_err(format!("the header {name:?} cannot be sent: {what}"))
        };
        let parsed = HeaderName::from_bytes(&name).map_err(|_| bad("that is no name of a header"))?;
        let mut value = HeaderValue::from_maybe_shared(value)
            .map_err(|_| bad("its value has a line end or another control character"))?;
        value.set_sensitive(parsed == AUTHORIZATION || parsed == COOKIE);
        headers.append(parsed, value);
    }
    Ok(headers)
}

/// Names and values; a list of values is that many pairs.
pub fn pairs(value: &Bound<'_, PyAny>, what: &str) -> PyResult<Vec<(String, String)>> {
    let mut all = Vec::new();
    for pair in items(value)?.try_iter()? {
        let (name, value): (String, Bound<'_, PyAny>) = pair?.extract()?;
        if !is_content(&value) && value.hasattr(intern!(value.py(), "__iter__"))? {
            for one in value.try_iter()? {
                all.push((name.clone(), plain(&one?, what)?));
            }
        } else {
            all.push((name, plain(&value, what)?));
        }
    }
    Ok(all)
}

fn plain(value: &Bound<'_, PyAny>, what: &str) -> PyResult<String> {
    if is_bytes(value) {
        return Err(PyTypeError::new_err(format!("a value of {what} is text or a number, not bytes")));
    }
    if let Ok(truth) = value.cast::<PyBool>() {
        return Ok(truth.is_true().to_string());
    }
    Ok(value.str()?.to_cow()?.into_owned())
}

/// A field of a form that is no file.
pub fn field(name: String, value: Bytes) -> Part {
    Part { name, file_name: None, content_type: None, content: Content::Bytes(value) }
}

/// The pairs of a mapping, or of whatever gives pairs.
pub fn items<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    match value.cast::<PyMapping>() {
        Ok(mapping) => Ok(mapping.items()?.into_any()),
        Err(_) => Ok(value.clone()),
    }
}
