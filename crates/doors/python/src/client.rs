//! The client: how requests are made.
//!
//! A call returns a [`Response`] in every framework; where the caller is decides what has happened to it by then.
//!
//! # Source
//! K20; decision 0010.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use url::Url;

use crate::arguments::Options;
use crate::here::{self, Here};
use crate::process;
use crate::response::Response;
use crate::seam::Outgoing;

/// Settings that several requests share.
#[pyclass(frozen, weakref, module = "southbridge._kernel")]
#[derive(Default)]
pub struct Client {
    base_url: Option<Url>,
    defaults: Options,
}

#[pymethods]
impl Client {
    /// All settings are optional.
    #[new]
    #[pyo3(signature = (*, base_url=None, params=None, headers=None, timeout=None))]
    fn new(
        py: Python<'_>,
        base_url: Option<&str>,
        params: Option<Bound<'_, PyAny>>,
        headers: Option<Bound<'_, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<Self> {
        let given = PyDict::new(py);
        given.set_item("params", params)?;
        given.set_item("headers", headers)?;
        given.set_item("timeout", timeout)?;
        let base_url = base_url.map(parse).transpose()?;
        Ok(Self { base_url, defaults: Options::read(Some(&given))? })
    }

    /// Sends `method` to `url`.
    #[pyo3(signature = (method, url, **options), text_signature = "(self, method, url, *, params=None, headers=None, content=None, data=None, json=None, timeout=None)")]
    fn request<'py>(
        &self,
        py: Python<'py>,
        method: &str,
        url: &str,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| PyValueError::new_err(format!("{method:?} is no method of HTTP")))?;
        self.ask(py, method, url, options)
    }

    /// Asks for what is at `url`.
    #[pyo3(signature = (url, **options), text_signature = "(self, url, *, params=None, headers=None, content=None, data=None, json=None, timeout=None)")]
    fn get<'py>(
        &self,
        py: Python<'py>,
        url: &str,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.ask(py, Method::GET, url, options)
    }

    /// Asks for the head alone.
    #[pyo3(signature = (url, **options), text_signature = "(self, url, *, params=None, headers=None, content=None, data=None, json=None, timeout=None)")]
    fn head<'py>(
        &self,
        py: Python<'py>,
        url: &str,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.ask(py, Method::HEAD, url, options)
    }

    /// Asks what can be done with `url`.
    #[pyo3(signature = (url, **options), text_signature = "(self, url, *, params=None, headers=None, content=None, data=None, json=None, timeout=None)")]
    fn options<'py>(
        &self,
        py: Python<'py>,
        url: &str,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.ask(py, Method::OPTIONS, url, options)
    }

    /// Hands something in at `url`.
    #[pyo3(signature = (url, **options), text_signature = "(self, url, *, params=None, headers=None, content=None, data=None, json=None, timeout=None)")]
    fn post<'py>(
        &self,
        py: Python<'py>,
        url: &str,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.ask(py, Method::POST, url, options)
    }

    /// Puts something at `url`.
    #[pyo3(signature = (url, **options), text_signature = "(self, url, *, params=None, headers=None, content=None, data=None, json=None, timeout=None)")]
    fn put<'py>(
        &self,
        py: Python<'py>,
        url: &str,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.ask(py, Method::PUT, url, options)
    }

    /// Changes what is at `url`.
    #[pyo3(signature = (url, **options), text_signature = "(self, url, *, params=None, headers=None, content=None, data=None, json=None, timeout=None)")]
    fn patch<'py>(
        &self,
        py: Python<'py>,
        url: &str,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.ask(py, Method::PATCH, url, options)
    }

    /// Removes what is at `url`.
    #[pyo3(signature = (url, **options), text_signature = "(self, url, *, params=None, headers=None, content=None, data=None, json=None, timeout=None)")]
    fn delete<'py>(
        &self,
        py: Python<'py>,
        url: &str,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.ask(py, Method::DELETE, url, options)
    }
}

impl Client {
    fn ask<'py>(
        &self,
        py: Python<'py>,
        method: Method,
        url: &str,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        process::check_running(py)?;
        let options = Options::read(options)?.over(&self.defaults);
        let mut url = match &self.base_url {
            None => parse(url)?,
            Some(base) => base.join(url).map_err(|error| no_url(url, error))?,
        };
        if !options.params.is_empty() {
            url.query_pairs_mut().extend_pairs(options.params);
        }
        let outgoing = Outgoing {
            method,
            url,
            headers: options.headers,
            body: options.body.unwrap_or(Bytes::new()),
            timeout: options.timeout.unwrap_or(TIMEOUT),
        };
        begin(py, outgoing)
    }
}

/// In threads and greenlets the answer is waited for here; in event loops it is what `await` is for.
fn begin(py: Python<'_>, outgoing: Outgoing) -> PyResult<Bound<'_, PyAny>> {
    let response = Bound::new(py, Response::new(outgoing))?;
    match here::here(py)? {
        Here::Asyncio(_) | Here::Trio => {}
        Here::Twisted => {
            return here::frontend(py, "twisted")?.call_method1(intern!(py, "begin"), (response,));
        }
        here => Response::wait_here(&response, &here)?,
    }
    Ok(response.into_any())
}

fn parse(url: &str) -> PyResult<Url> {
    Url::parse(url).map_err(|error| no_url(url, error))
}

fn no_url(url: &str, error: url::ParseError) -> PyErr {
    PyValueError::new_err(format!("{url:?} is no URL: {error}"))
}

/// How long a request may take when nobody says otherwise.
const TIMEOUT: Duration = Duration::from_secs(60);
