//! The client: how requests are made.
//!
//! A call returns a [`Response`] in every framework; where the caller is decides what has happened to it by then.
//!
//! # Source
//! K20; decision 0010.

use std::path::PathBuf;
use std::sync::OnceLock;

use http::Method;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyString};
use url::Url;

use crate::exchange::Exchange;
use crate::here::{self, Here};
use crate::response::Response;
use crate::seam::{
    Beginning, Client as KernelClient, ClientConfig, ClientTls, Download, Outgoing, ProxyChoice, ProxyRules,
    Purpose, Reach, bus_port::addresses,
};
use crate::{arguments, errors, marks, process, values};

/// Settings that several requests share, and cookies. Connections are the kernel's, so there is nothing to close; it
/// may be shared between threads, loops, and forked processes.
#[pyclass(frozen, weakref, module = "southbridge._kernel")]
pub struct Client {
    /// Made when it is first used, where nothing was said: a proxy in the environment that is none must not fail an
    /// import.
    made: OnceLock<KernelClient>,
}

#[pymethods]
impl Client {
    /// All settings are optional.
    #[new]
    #[pyo3(signature = (**settings), text_signature = "(*, base_url=None, params=None, headers=None, auth=None, timeout=None, redirects_max=None, decompress=None, body_bytes_max=None, cookies=None, http2=None, proxy='environment', allow=None, deny=None, connections_max=None, ca_files=None, only_ca_files=None, certificate=None, legacy_tls=None)")]
    fn new(py: Python<'_>, settings: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let made = OnceLock::new();
        if let Some(settings) = settings.filter(|settings| !settings.is_empty()) {
            let client =
                KernelClient::new(config(settings)?).map_err(|failure| errors::of_failure(py, &failure))?;
            let _first = made.set(client);
        }
        Ok(Self { made })
    }

    /// Sends `method` to `url`.
    #[pyo3(signature = (method, url, **options), text_signature = "(self, method, url, *, params=None, headers=None, cookies=None, content=None, data=None, files=None, json=None, auth=None, timeout=None, redirects_max=None, decompress=None, body_bytes_max=None)")]
    fn request<'py>(
        &self,
        py: Python<'py>,
        method: &str,
        url: &str,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.ask(py, read_method(method)?, url, options)
    }

    /// Sends `method` to `url`, for bodies in pieces: a context manager, with or without `async`.
    #[pyo3(signature = (method, url, **options), text_signature = "(self, method, url, *, params=None, headers=None, cookies=None, content=None, data=None, files=None, json=None, auth=None, timeout=None, redirects_max=None, decompress=None, body_bytes_max=None)")]
    fn stream<'py>(
        &self,
        py: Python<'py>,
        method: &str,
        url: &str,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let response = Bound::new(py, self.prepare(py, read_method(method)?, url, options)?)?;
        let exchange = Exchange::new(response.clone().unbind(), Purpose::Stream);
        let streams = py.import(intern!(py, "southbridge._streams"))?;
        streams.call_method1(intern!(py, "Stream"), (exchange, response))
    }

    /// Saves what is at `url` in the file `path`: whole, or not at all.
    #[pyo3(signature = (url, path, *, resume=false, progress=None, bytes_max=None, **options), text_signature = "(self, url, path, *, resume=False, progress=None, bytes_max=None, params=None, headers=None, cookies=None, auth=None, timeout=None, redirects_max=None)")]
    #[expect(clippy::too_many_arguments, reason = "they are those of a call in Python")]
    fn download<'py>(
        &self,
        py: Python<'py>,
        url: &str,
        path: PathBuf,
        resume: bool,
        progress: Option<Bound<'py, PyAny>>,
        bytes_max: Option<u64>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let response = Bound::new(py, self.prepare(py, Method::GET, url, options)?)?;
        let beginning = if resume { Beginning::Resume } else { Beginning::Anew };
        let purpose = Purpose::Download(Download { path, beginning, bytes_max });
        let exchange = Exchange::new(response.unbind(), purpose);
        let downloads = py.import(intern!(py, "southbridge._downloads"))?;
        match here::here(py)? {
            Here::Twisted => here::frontend(py, "twisted")?
                .call_method1(intern!(py, "begin_download"), (exchange, progress)),
            _ => downloads.call_method1(intern!(py, "begin"), (exchange, progress)),
        }
    }

    /// The cookies that it keeps.
    #[getter]
    fn cookies<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        py.import(intern!(py, "southbridge._cookies"))?.call_method1(intern!(py, "Cookies"), (this,))
    }

    /// Asks for what is at `url`.
    #[pyo3(signature = (url, **options), text_signature = "(self, url, *, params=None, headers=None, cookies=None, content=None, data=None, files=None, json=None, auth=None, timeout=None, redirects_max=None, decompress=None, body_bytes_max=None)")]
    fn get<'py>(
        &self,
        py: Python<'py>,
        url: &str,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.ask(py, Method::GET, url, options)
    }

    /// Asks for the head alone.
    #[pyo3(signature = (url, **options), text_signature = "(self, url, *, params=None, headers=None, cookies=None, content=None, data=None, files=None, json=None, auth=None, timeout=None, redirects_max=None, decompress=None, body_bytes_max=None)")]
    fn head<'py>(
        &self,
        py: Python<'py>,
        url: &str,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.ask(py, Method::HEAD, url, options)
    }

    /// Asks what can be done with `url`.
    #[pyo3(signature = (url, **options), text_signature = "(self, url, *, params=None, headers=None, cookies=None, content=None, data=None, files=None, json=None, auth=None, timeout=None, redirects_max=None, decompress=None, body_bytes_max=None)")]
    fn options<'py>(
        &self,
        py: Python<'py>,
        url: &str,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.ask(py, Method::OPTIONS, url, options)
    }

    /// Hands something in at `url`.
    #[pyo3(signature = (url, **options), text_signature = "(self, url, *, params=None, headers=None, cookies=None, content=None, data=None, files=None, json=None, auth=None, timeout=None, redirects_max=None, decompress=None, body_bytes_max=None)")]
    fn post<'py>(
        &self,
        py: Python<'py>,
        url: &str,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.ask(py, Method::POST, url, options)
    }

    /// Puts something at `url`.
    #[pyo3(signature = (url, **options), text_signature = "(self, url, *, params=None, headers=None, cookies=None, content=None, data=None, files=None, json=None, auth=None, timeout=None, redirects_max=None, decompress=None, body_bytes_max=None)")]
    fn put<'py>(
        &self,
        py: Python<'py>,
        url: &str,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.ask(py, Method::PUT, url, options)
    }

    /// Changes what is at `url`.
    #[pyo3(signature = (url, **options), text_signature = "(self, url, *, params=None, headers=None, cookies=None, content=None, data=None, files=None, json=None, auth=None, timeout=None, redirects_max=None, decompress=None, body_bytes_max=None)")]
    fn patch<'py>(
        &self,
        py: Python<'py>,
        url: &str,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.ask(py, Method::PATCH, url, options)
    }

    /// Removes what is at `url`.
    #[pyo3(signature = (url, **options), text_signature = "(self, url, *, params=None, headers=None, cookies=None, content=None, data=None, files=None, json=None, auth=None, timeout=None, redirects_max=None, decompress=None, body_bytes_max=None)")]
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
        let _visit = process::visit(py)?;
        begin(py, self.prepare(py, method, url, options)?)
    }

    fn prepare(
        &self,
        py: Python<'_>,
        method: Method,
        url: &str,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Response> {
        let _visit = process::visit(py)?;
        let client = self.made(py)?;
        let mut request = client.request(method, url).map_err(|failure| errors::of_failure(py, &failure))?;
        let source = arguments::read(&mut request, options)?;
        request.mark = marks::current_name(py)?;
        Ok(Response::new(Outgoing::Client { client: client.clone(), request }, source))
    }

    /// The client of the kernel behind it.
    pub fn made(&self, py: Python<'_>) -> PyResult<&KernelClient> {
        if let Some(made) = self.made.get() {
            return Ok(made);
        }
        let made =
            KernelClient::new(ClientConfig::default()).map_err(|failure| errors::of_failure(py, &failure))?;
        Ok(self.made.get_or_init(|| made))
    }
}

fn config(settings: &Bound<'_, PyDict>) -> PyResult<ClientConfig> {
    let mut config = ClientConfig::default();
    let mut tls = ClientTls::default();
    let mut tls_is_said = false;
    let mut reach = None::<Networks>;
    for (name, value) in settings.iter() {
        let name = name.cast_into::<PyString>()?;
        let name = name.to_cow()?;
        if value.is_none() {
            if name == "proxy" {
                config.proxy = ProxyChoice::Direct;
            }
            continue;
        }
        if read_tls(&mut tls, &name, &value)? {
            tls_is_said = true;
        } else if name == "allow" {
            reach.get_or_insert_default().allow = value.extract()?;
        } else if name == "deny" {
            reach.get_or_insert_default().deny = value.extract()?;
        } else {
            read_setting(&mut config, &name, &value)?;
        }
    }
    config.tls = tls_is_said.then_some(tls);
    if let Some(Networks { allow, deny }) = reach {
        let policy = addresses(&allow, &deny);
        config.reach = Reach::Policy(policy.map_err(|failure| errors::of_failure(settings.py(), &failure))?);
    }
    Ok(config)
}

/// What may be dialled besides public addresses, and what may not.
#[derive(Default)]
struct Networks {
    allow: Vec<String>,
    deny: Vec<String>,
}

fn read_setting(config: &mut ClientConfig, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    match name {
        "base_url" => config.base_url = Some(parse(value.cast::<PyString>()?.to_cow()?.as_ref())?),
        "params" => config.params = values::pairs(value, name)?,
        "headers" => config.headers = values::headers(value)?,
        "auth" => config.auth = Some(values::auth(value)?),
        "timeout" => config.timeouts = values::timeouts(value)?,
        "redirects_max" => config.redirects_max = value.extract()?,
        "decompress" => config.decompress = value.extract()?,
        "body_bytes_max" => config.limits.whole_bytes_max = value.extract()?,
        "cookies" => match value.cast::<PyBool>() {
            Ok(kept) => config.cookies = kept.is_true(),
            Err(_) => config.cookies_always = values::pairs(value, name)?,
        },
        "http2" => config.http2 = value.extract()?,
        "connections_max" => config.connections_max = Some(value.extract()?),
        "proxy" => config.proxy = proxy(value)?,
        other => return Err(PyTypeError::new_err(format!("{other:?} is no setting of a client"))),
    }
    Ok(())
}

fn read_tls(tls: &mut ClientTls, name: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    match name {
        "ca_files" => tls.ca_files = value.extract()?,
        "only_ca_files" => tls.only_ca_files = value.extract()?,
        "certificate" => tls.certificate = Some(value.extract()?),
        "legacy_tls" => tls.legacy = value.extract()?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn proxy(value: &Bound<'_, PyAny>) -> PyResult<ProxyChoice> {
    let said = value.cast::<PyString>()?.to_cow()?;
    if said == "environment" {
        return Ok(ProxyChoice::Environment);
    }
    let rules = ProxyRules::new(Some(&said), Some(&said), "");
    rules.map(ProxyChoice::Rules).map_err(|failure| errors::of_failure(value.py(), &failure))
}

/// In threads and greenlets the answer is waited for here; in event loops it is what `await` is for.
fn begin(py: Python<'_>, response: Response) -> PyResult<Bound<'_, PyAny>> {
    let response = Bound::new(py, response)?;
    match here::here(py)? {
        Here::Asyncio(_) | Here::Trio => {}
        Here::Twisted => {
            static BEGIN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            return here::once(py, &BEGIN, "twisted", "DeferredResponse")?.call1((response,));
        }
        here => Response::wait_here(&response, &here)?,
    }
    Ok(response.into_any())
}

fn read_method(method: &str) -> PyResult<Method> {
    Method::from_bytes(method.as_bytes())
        .map_err(|_| PyValueError::new_err(format!("{method:?} is no method of HTTP")))
}

fn parse(url: &str) -> PyResult<Url> {
    Url::parse(url).map_err(|error| PyValueError::new_err(format!("{url:?} is no URL: {error}")))
}
