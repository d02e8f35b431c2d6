//! What a call is given, read into a request: everything is copied out of the interpreter here, once.
//!
//! # Units
//! Timeouts are seconds, as `float`.
//!
//! # Source
//! K4; issue 4, item 2.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::files::{self, Feeder, Files};
use crate::seam::{Body, Request};
use crate::values::{self, auth, bytes, headers, json, pairs, path, timeouts};

/// Reads the keyword arguments of a call into `request`; gives where its body comes from, if it comes in pieces.
///
/// # Errors
/// `TypeError` for a name that no call takes or a value of the wrong type, `ValueError` for a wrong value.
pub fn read(request: &mut Request, given: Option<&Bound<'_, PyDict>>) -> PyResult<Option<Py<PyAny>>> {
    let Some(given) = given else { return Ok(None) };
    let mut parts = Parts::default();
    for (name, value) in given.iter() {
        let name = name.cast_into::<PyString>()?;
        if !value.is_none() {
            read_one(request, &mut parts, &name.to_cow()?, &value)?;
        }
    }
    let mut source = parts.source.take();
    if let Some((body, feeder)) = parts.body(given.py())? {
        request.body = body;
        if let Some(Feeder { source: of_form, content_type }) = feeder {
            source = Some(of_form);
            let content_type = HeaderValue::from_str(&content_type);
            let content_type = content_type.map_err(|_| PyValueError::new_err("the type of the form"))?;
            request.headers.entry(CONTENT_TYPE).or_insert(content_type);
        }
    }
    if let Body::Stream { bytes } = &mut request.body
        && let Some(told) = request.headers.get(CONTENT_LENGTH)
    {
        let said = told.to_str().ok().and_then(|said| said.parse().ok());
        *bytes = Some(said.ok_or_else(|| {
            PyValueError::new_err(format!("Content-Length: {told:?} is no number of bytes"))
        })?);
    }
    Ok(source)
}

fn read_one(request: &mut Request, parts: &mut Parts, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    match name {
        "params" => request.params = pairs(value, name)?,
        "headers" => request.headers = headers(value)?,
        "cookies" => request.cookies = pairs(value, name)?,
        "content" => parts.content(value, name)?,
        "data" if values::is_content(value) || value.hasattr(intern!(value.py(), "read"))? => {
            parts.content(value, name)?;
        }
        "data" => parts.form = Some(pairs(value, name)?),
        "files" => parts.files = Some(files::read(value)?),
        "json" => parts.whole(Body::Json(json(value)?), name)?,
        "auth" => request.auth = Some(auth(value)?),
        "timeout" => request.timeouts = Some(timeouts(value)?),
        "redirects_max" => request.redirects_max = Some(value.extract()?),
        "decompress" => request.decompress = Some(value.extract()?),
        "body_bytes_max" => request.body_bytes_max = Some(value.extract()?),
        other => return Err(PyTypeError::new_err(format!("{other:?} is no argument of a request"))),
    }
    Ok(())
}

/// What a body is made of.
#[derive(Default)]
struct Parts {
    whole: Option<Body>,
    /// Where it comes from in pieces.
    source: Option<Py<PyAny>>,
    form: Option<Vec<(String, String)>>,
    files: Option<Files>,
}

impl Parts {
    fn content(&mut self, value: &Bound<'_, PyAny>, by: &str) -> PyResult<()> {
        let body = match path(value)? {
            Some(path) => Body::File(path),
            None if values::is_content(value) => Body::Bytes(bytes(value)?),
            None => match files::open(value)? {
                Some(file) => Body::Open(file),
                None => self.pieces(value)?,
            },
        };
        self.whole(body, by)
    }

    fn pieces(&mut self, value: &Bound<'_, PyAny>) -> PyResult<Body> {
        let py = value.py();
        let feeding = py.import(intern!(py, "southbridge._feeding"))?;
        let source = feeding.call_method1(intern!(py, "Source"), (value,))?;
        let bytes = source.getattr(intern!(py, "bytes"))?.extract()?;
        self.source = Some(source.unbind());
        Ok(Body::Stream { bytes })
    }

    fn whole(&mut self, body: Body, by: &str) -> PyResult<()> {
        if self.whole.replace(body).is_some() {
            return Err(two_bodies(by));
        }
        Ok(())
    }

    fn body(self, py: Python<'_>) -> PyResult<Option<(Body, Option<Feeder>)>> {
        match (self.whole, self.form, self.files) {
            (Some(_), Some(_), _) => Err(two_bodies("data")),
            (Some(_), _, Some(_)) => Err(two_bodies("files")),
            (None, form, Some(files)) => {
                let fields = form.unwrap_or_default().into_iter();
                let fields = fields.map(|(name, value)| values::field(name, Bytes::from(value)));
                files.body(py, fields.collect()).map(Some)
            }
            (None, Some(form), None) => Ok(Some((Body::Form(form), None))),
            (whole, None, None) => Ok(whole.map(|whole| (whole, None))),
        }
    }
}

fn two_bodies(by: &str) -> PyErr {
    PyTypeError::new_err(format!("{by} is a second body: give one of content, json, and data with files"))
}
