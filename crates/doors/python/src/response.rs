//! A response: a promise of itself until it is there.
//!
//! What a call returns is a `Response` at once. In a thread or a greenlet it is settled by then. In an event loop
//! it is not, and `await` settles it; touching it before is an error there, because waiting would stop the loop.
//!
//! # Source
//! K4, K20; decision 0010.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use http::Method;
use jiter::{PartialMode, PythonParse, StringCacheMode};
use pyo3::exceptions::{PyStopIteration, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyString};
use url::Url;

use crate::asyncio::AsyncioWaiter;
use crate::headers::Headers;
use crate::here::{self, Here};
use crate::seam::{Answer, Failure, Incoming, Outgoing};
use crate::{errors, ffi, process, seam};

/// An answer over HTTP. `await` gives it, once it is there; in threads and greenlets it is there already.
#[pyclass(frozen, subclass, weakref, module = "southbridge._kernel")]
pub struct Response {
    shared: Arc<Shared>,
    content: PyOnceLock<Py<PyBytes>>,
}

/// What all views of one response see.
struct Shared {
    method: Method,
    url: Url,
    /// Taken when it is sent: it is sent once. In a box, for its place stays empty while the answer is awaited.
    outgoing: Mutex<Option<Box<Outgoing>>>,
    /// Whether the body of the request comes in pieces.
    is_fed: bool,
    /// And where they come from. Taken by what feeds them: the garbage collector does not see this place, and whoever
    /// makes the pieces may know who waits for the response.
    source: Mutex<Option<Py<PyAny>>>,
    sent: AtomicBool,
    settled: OnceLock<Result<Arc<Incoming>, Failure>>,
    process: u32,
}

impl Response {
    /// The answer to `outgoing`, which has not been sent; its body comes from `source`, if it comes in pieces.
    pub fn new(outgoing: Outgoing, source: Option<Py<PyAny>>) -> Self {
        let shared = Shared {
            method: outgoing.method().clone(),
            url: outgoing.url().clone(),
            outgoing: Mutex::new(Some(Box::new(outgoing))),
            is_fed: source.is_some(),
            source: Mutex::new(source),
            sent: AtomicBool::new(false),
            settled: OnceLock::new(),
            process: ffi::process(),
        };
        Self { shared: Arc::new(shared), content: PyOnceLock::new() }
    }

    /// What is to be sent now. It is sent once.
    ///
    /// # Errors
    /// `NotAwaitedError` when it is under way already.
    pub fn take_to_send(&self, py: Python<'_>) -> PyResult<Outgoing> {
        self.shared.sent.store(true, Ordering::Release);
        let taken = self.shared.outgoing.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.map(|outgoing| *outgoing).ok_or_else(|| self.under_way(py))
    }

    /// Whether nothing has been sent yet.
    pub fn is_unsent(&self) -> bool {
        !self.shared.sent.load(Ordering::Acquire)
    }

    /// The kernel has answered.
    pub fn complete(&self, result: Result<Answer, Failure>) {
        self.settle(result.and_then(seam::response).map(|incoming| Arc::new(*incoming)));
    }

    /// Drives what sends a body in pieces, and takes the answer.
    fn fed<'py>(this: &Bound<'py, Self>, how: &str) -> PyResult<Bound<'py, PyAny>> {
        this.py().import(intern!(this.py(), "southbridge._streams"))?.call_method1(how, (this,))
    }

    /// Settles it. What has been settled stays so.
    pub fn settle(&self, result: Result<Arc<Incoming>, Failure>) {
        let _first_word_holds = self.shared.settled.set(result);
    }

    /// Waits in the way of the thread that this is, whose calls block.
    ///
    /// # Errors
    /// The failure, or what interrupted the waiting.
    pub fn wait_here(this: &Bound<'_, Self>, here: &Here<'_>) -> PyResult<()> {
        let py = this.py();
        let _visit = process::visit(py)?;
        match here {
            _ if this.get().shared.is_fed => drop(Self::fed(this, "fetch_now")?),
            _ if process::is_staged() => {
                let parks = matches!(here, Here::Gevent);
                here::frontend(py, "rehearsed")?.call_method1(intern!(py, "wait"), (this, parks))?;
            }
            Here::Gevent => {
                static PARK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
                here::once(py, &PARK, "gevent", "wait")?.call1((this,))?;
            }
            _ => here::thread_port(py)?.get().block(py, this)?,
        }
        this.get().check(py)
    }

    /// It will never be there: it was given up.
    pub fn abandon(&self) {
        self.settle(Err(Failure::Cancelled));
    }

    fn outcome(&self, py: Python<'_>) -> PyResult<&Arc<Incoming>> {
        match self.shared.settled.get() {
            Some(Ok(incoming)) => Ok(incoming),
            Some(Err(failure)) => Err(errors::of_failure(py, failure)),
            None => Err(self.under_way(py)),
        }
    }

    fn under_way(&self, py: Python<'_>) -> PyErr {
        if self.shared.process == ffi::process() {
            errors::named(py, "NotAwaited", AWAITED_ELSEWHERE)
        } else {
            errors::forked(py)
        }
    }

    /// The answer; waits for it where calls block.
    fn there<'a>(this: &'a Bound<'_, Self>) -> PyResult<&'a Arc<Incoming>> {
        let py = this.py();
        let response = this.get();
        if response.shared.settled.get().is_none() && response.is_unsent() {
            let _visit = process::visit(py)?;
            match here::here(py)? {
                Here::Asyncio(_) => return Err(errors::not_awaited(py, "the running event loop")),
                Here::Trio => return Err(errors::not_awaited(py, "trio")),
                Here::Twisted => return Err(errors::not_awaited(py, "Twisted's reactor")),
                here => Self::wait_here(this, &here)?,
            }
        }
        response.outcome(py)
    }
}

#[pymethods]
impl Response {
    /// Another view of the same response.
    #[new]
    fn view(of: &Self) -> Self {
        Self { shared: Arc::clone(&of.shared), content: PyOnceLock::new() }
    }

    fn __await__<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        if !this.get().is_unsent() {
            return Ok(Bound::new(py, Settled { response: this.clone().unbind() })?.into_any());
        }
        let _visit = process::visit(py)?;
        match here::here(py)? {
            Here::Asyncio(_) | Here::Trio | Here::Twisted if this.get().shared.is_fed => {
                Self::fed(this, "fetch")?.call_method0(intern!(py, "__await__"))
            }
            Here::Asyncio(looping) => {
                let port = here::asyncio_port(py, &looping)?;
                let waiter = AsyncioWaiter::new(this.clone().unbind(), port.unbind(), looping.unbind());
                Ok(Bound::new(py, waiter)?.into_any())
            }
            Here::Trio => {
                static WAIT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
                here::once(py, &WAIT, "trio", "wait")?.call1((this,))
            }
            Here::Twisted => here::frontend(py, "twisted")?.call_method1(intern!(py, "wait"), (this,)),
            here => {
                Self::wait_here(this, &here)?;
                Ok(Bound::new(py, Settled { response: this.clone().unbind() })?.into_any())
            }
        }
    }

    /// Whether it is here, or will never be.
    #[getter]
    pub fn is_settled(&self) -> bool {
        self.shared.settled.get().is_some()
    }

    /// Whether the body of the request comes in pieces.
    #[getter]
    fn is_fed(&self) -> bool {
        self.shared.is_fed
    }

    /// Where the pieces come from, for whoever feeds them; once.
    fn take_source(&self) -> Option<Py<PyAny>> {
        self.shared.source.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Raises the failure, if it came to that.
    pub fn check(&self, py: Python<'_>) -> PyResult<()> {
        self.outcome(py).map(drop)
    }

    /// 200, 404 and so on.
    #[getter]
    fn status(this: &Bound<'_, Self>) -> PyResult<u16> {
        Ok(Self::there(this)?.status.as_u16())
    }

    /// The same as `status`, as other clients call it.
    #[getter]
    fn status_code(this: &Bound<'_, Self>) -> PyResult<u16> {
        Self::status(this)
    }

    /// What the peer calls the status, and otherwise everybody: `Not Found`.
    #[getter]
    fn reason<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyString>> {
        Ok(PyString::new(this.py(), &Self::there(this)?.reason()))
    }

    /// Whether the status is below 400.
    #[getter]
    fn ok(this: &Bound<'_, Self>) -> PyResult<bool> {
        Ok(Self::there(this)?.status.as_u16() < 400)
    }

    /// The version of HTTP that was spoken: `HTTP/1.1`, `HTTP/2`.
    #[getter]
    fn http_version(this: &Bound<'_, Self>) -> PyResult<&'static str> {
        Ok(match Self::there(this)?.version {
            http::Version::HTTP_10 => "HTTP/1.0",
            http::Version::HTTP_2 => "HTTP/2",
            http::Version::HTTP_3 => "HTTP/3",
            _ => "HTTP/1.1",
        })
    }

    /// Where it came from.
    #[getter]
    fn url(this: &Bound<'_, Self>) -> PyResult<String> {
        Ok(Self::there(this)?.url.to_string())
    }

    /// The header fields.
    #[getter]
    fn headers(this: &Bound<'_, Self>) -> PyResult<Headers> {
        Ok(Headers::new(Arc::clone(Self::there(this)?)))
    }

    /// The body.
    #[getter]
    fn content<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyBytes>> {
        let py = this.py();
        let body = &Self::there(this)?.body;
        Ok(this.get().content.get_or_init(py, || PyBytes::new(py, body).unbind()).bind(py).clone())
    }

    /// The body as text, in the charset that the headers name, and otherwise UTF-8.
    #[getter]
    fn text<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyString>> {
        let py = this.py();
        let there = Self::there(this)?;
        match charset(there) {
            None => Ok(PyString::new(py, &String::from_utf8_lossy(&there.body))),
            Some(charset) => {
                let decoded = Self::content(this)?.call_method1(intern!(py, "decode"), (charset, "replace"));
                // A charset that nobody knows is no reason to have no text.
                decoded
                    .and_then(|text| text.cast_into().map_err(PyErr::from))
                    .or_else(|_| Ok(PyString::new(py, &String::from_utf8_lossy(&there.body))))
            }
        }
    }

    /// The charset that the headers name, and otherwise UTF-8.
    #[getter]
    fn charset(this: &Bound<'_, Self>) -> PyResult<String> {
        Ok(charset(Self::there(this)?).unwrap_or("utf-8").to_owned())
    }

    /// The body, read as JSON, straight from the kernel's buffer.
    ///
    /// Raises `ValueError` when it is not JSON.
    fn json<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let body = &Self::there(this)?.body;
        JSON.python_parse(this.py(), body).map_err(|error| {
            PyValueError::new_err(format!("the body is not JSON: {}", error.description(body)))
        })
    }

    /// Itself, if the status is below 400.
    ///
    /// Raises `StatusError`.
    fn raise_for_status<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        let py = this.py();
        let there = Self::there(this)?;
        if there.status.as_u16() < 400 {
            return Ok(this.clone());
        }
        let class = py.import("southbridge._errors")?.getattr("StatusError")?;
        Err(PyErr::from_value(class.call1((this,))?))
    }

    /// The redirects that led here, the first first: status and URL of each.
    #[getter]
    fn history(this: &Bound<'_, Self>) -> PyResult<Vec<(u16, String)>> {
        let there = Self::there(this)?;
        Ok(there.history.iter().map(|visited| (visited.status.as_u16(), visited.url.to_string())).collect())
    }

    /// How long all of it took, in seconds, by the kernel's clock.
    #[getter]
    fn elapsed(this: &Bound<'_, Self>) -> PyResult<f64> {
        Ok(Self::there(this)?.timing.total.as_secs_f64())
    }

    fn __repr__(&self) -> String {
        let Shared { method, url, .. } = &*self.shared;
        match self.shared.settled.get() {
            Some(Ok(there)) => format!("<Response {} of {method} {}>", there.status.as_u16(), there.url),
            Some(Err(failure)) => format!("<Response none of {method} {url}: {failure}>"),
            None if self.is_unsent() => format!("<Response not yet asked for of {method} {url}>"),
            None => format!("<Response awaited of {method} {url}>"),
        }
    }
}

/// The awaiting of what is there: ends at its first step.
#[pyclass(frozen, module = "southbridge._kernel")]
struct Settled {
    response: Py<Response>,
}

#[pymethods]
impl Settled {
    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<()> {
        self.response.get().check(py)?;
        Err(PyStopIteration::new_err(self.response.clone_ref(py)))
    }
}

/// The charset that `Content-Type` names, unless it is UTF-8.
fn charset(incoming: &Incoming) -> Option<&str> {
    let value = incoming.headers.get(http::header::CONTENT_TYPE)?.to_str().ok()?;
    let named = value.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
    })?;
    let is_utf8 = named.eq_ignore_ascii_case("utf-8") || named.eq_ignore_ascii_case("utf8");
    (!is_utf8).then_some(named)
}

const AWAITED_ELSEWHERE: &str = "the response is not here yet, and is awaited elsewhere: one task waits for it, and whoever \
                                 else wants it can have it from that task, or when it is there";

const JSON: PythonParse = PythonParse {
    allow_inf_nan: true,
    cache_mode: StringCacheMode::Keys,
    partial_mode: PartialMode::Off,
    catch_duplicate_keys: false,
    float_mode: jiter::FloatMode::Float,
};
