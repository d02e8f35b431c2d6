//! What a call is given, read into a request: everything is copied out of the interpreter here, once.
//!
//! # Units
//! Timeouts are seconds, as `float`.
//!
//! # Source
//! K4; faults row 10: line ends in names and values are refused before a byte is written.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyMapping, PyString};

/// The keyword arguments of a call, or those that a client was made with.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Appended to the URL's query.
    pub params: Vec<(String, String)>,
    /// Header fields, in order.
    pub headers: HeaderMap,
    /// What is sent along.
    pub body: Option<Bytes>,
    /// How long the whole exchange may take.
    pub timeout: Option<Duration>,
}

impl Options {
    /// Reads `given`.
    ///
    /// # Errors
    /// `TypeError` for a name that no call takes or a value of the wrong type, `ValueError` for a wrong value.
    pub fn read(given: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let mut options = Self::default();
        let Some(given) = given else { return Ok(options) };
        let mut kind = None;
        for (name, value) in given.iter() {
            let name = name.cast_into::<PyString>()?;
            if value.is_none() {
                continue;
            }
            match &*name.to_cow()? {
                "params" => options.params = pairs(&value, "params")?,
                "headers" => options.headers = headers(&value)?,
                "timeout" => options.timeout = Some(seconds(&value)?),
                "content" => options.sends(bytes(&value)?, name.to_cow()?.as_ref())?,
                "data" => kind = options.form(&value)?,
                "json" => {
                    options.sends(json(&value)?, "json")?;
                    kind = Some("application/json");
                }
                other => return Err(PyTypeError::new_err(format!("{other:?} is no argument of a request"))),
            }
        }
        if let Some(kind) = kind {
            options.headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(kind));
        }
        Ok(options)
    }

    /// These options, where they say something, and `defaults` for the rest.
    #[must_use]
    pub fn over(mut self, defaults: &Self) -> Self {
        if !defaults.params.is_empty() {
            self.params.splice(0..0, defaults.params.iter().cloned());
        }
        for (name, value) in &defaults.headers {
            if !self.headers.contains_key(name) {
                self.headers.append(name, value.clone());
            }
        }
        self.timeout = self.timeout.or(defaults.timeout);
        self
    }

    /// A mapping or pairs are a form; anything else is sent as it is.
    fn form(&mut self, value: &Bound<'_, PyAny>) -> PyResult<Option<&'static str>> {
        if value.is_instance_of::<PyString>() || is_bytes(value) {
            self.sends(bytes(value)?, "data")?;
            return Ok(None);
        }
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(pairs(value, "data")?);
        self.sends(form.finish().into(), "data")?;
        Ok(Some("application/x-www-form-urlencoded"))
    }

    fn sends(&mut self, body: Bytes, by: &str) -> PyResult<()> {
        if self.body.replace(body).is_some() {
            return Err(PyTypeError::new_err(format!(
                "{by} is a second body: give one of content, data and json"
            )));
        }
        Ok(())
    }
}

fn seconds(value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let seconds: f64 = value.extract()?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|timeout| !timeout.is_zero())
        .ok_or_else(|| PyValueError::new_err(format!("a timeout of {seconds} s: it is more than 0")))
}

fn is_bytes(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyBytes>() || value.is_instance_of::<PyByteArray>() || is_view(value)
}

fn is_view(value: &Bound<'_, PyAny>) -> bool {
    value.get_type().name().is_ok_and(|name| name == "memoryview")
}

/// The bytes of `value`, copied: what is `bytes` once, and other buffers by way of one.
fn bytes(value: &Bound<'_, PyAny>) -> PyResult<Bytes> {
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
    Err(PyTypeError::new_err(format!("a body is bytes, bytearray, memoryview or str, not {kind}")))
}

fn json(value: &Bound<'_, PyAny>) -> PyResult<Bytes> {
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

fn headers(value: &Bound<'_, PyAny>) -> PyResult<HeaderMap> {
    let mut headers = HeaderMap::new();
    for pair in items(value)?.try_iter()? {
        let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = pair?.extract()?;
        let (name, value) = (octets(&name)?, octets(&value)?);
        let bad = |what: &str| {
            let name = String::from_utf8_lossy(&name).into_owned();
            PyValueError::new_err(format!("the header {name:?} cannot be sent: {what}"))
        };
        let parsed = HeaderName::from_bytes(&name).map_err(|_| bad("that is no name of a header"))?;
        let value = HeaderValue::from_bytes(&value)
            .map_err(|_| bad("its value has a line end or another control character"))?;
        headers.append(parsed, value);
    }
    Ok(headers)
}

fn octets(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(text.to_cow()?.as_bytes().to_vec());
    }
    Ok(value.cast::<PyBytes>()?.as_bytes().to_vec())
}

/// Names and values; a list of values is that many pairs.
fn pairs(value: &Bound<'_, PyAny>, what: &str) -> PyResult<Vec<(String, String)>> {
    let mut all = Vec::new();
    for pair in items(value)?.try_iter()? {
        let (name, value): (String, Bound<'_, PyAny>) = pair?.extract()?;
        if let Ok(text) = value.cast::<PyString>() {
            all.push((name, text.to_cow()?.into_owned()));
        } else if value.hasattr(intern!(value.py(), "__iter__"))? && !is_bytes(&value) {
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
    if let Ok(truth) = value.cast::<pyo3::types::PyBool>() {
        return Ok(truth.is_true().to_string());
    }
    Ok(value.str()?.to_cow()?.into_owned())
}

fn items<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if let Ok(mapping) = value.cast::<PyMapping>() {
        return Ok(mapping.items()?.into_any());
    }
    Ok(value.clone())
}
