//! Services that a program declares: what it says of them, and what it asks.
//!
//! What has been declared is remembered here, so that a forked child, whose kernel is another, has it as well.
//!
//! # Architecture Invariant
//! The register is locked only while the thread is attached to the interpreter, and never when it lets go: so nobody
//! holds the lock at `os.fork`.
//!
//! # Units
//! Seconds, as `float`.
//!
//! # Source
//! K6, K7, K12, K14, K16, K18, S4; issue 4, item 4.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyString};

use crate::exchange::Exchange;
use crate::here::{self, Here};
use crate::seam::{Attempts, BreakerLimits, ClientTls, Question, Service, ServiceDiscovery, ServiceLimits};
use crate::{errors, process, seam, service_file};

static DECLARED: Mutex<BTreeMap<String, Service>> = Mutex::new(BTreeMap::new());

/// Everything that this process has declared.
pub fn declared() -> Vec<Service> {
    register().values().cloned().collect()
}

fn register() -> MutexGuard<'static, BTreeMap<String, Service>> {
    DECLARED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How much may be under way to a service. What is left out is as for all others.
#[pyclass(frozen, get_all, eq, module = "southbridge._kernel")]
#[derive(PartialEq)]
pub struct Limits {
    /// Requests at a time, waiting or on the wire; one more is an `OverloadedError`.
    requests_max: Option<u32>,
    /// Connections at a time; requests that find all of them taken wait.
    connections_max: Option<u32>,
    /// Requests that may wait for a connection; one more is an `OverloadedError`.
    waiting_max: Option<u32>,
}

#[pymethods]
impl Limits {
    #[new]
    #[pyo3(signature = (*, requests_max=None, connections_max=None, waiting_max=None))]
    fn new(requests_max: Option<u32>, connections_max: Option<u32>, waiting_max: Option<u32>) -> Self {
        Self { requests_max, connections_max, waiting_max }
    }

    fn __repr__(&self) -> String {
        let say = |limit: Option<u32>| limit.map_or("None".to_owned(), |limit| limit.to_string());
        let [requests, connections, waiting] =
            [self.requests_max, self.connections_max, self.waiting_max].map(say);
        format!("Limits(requests_max={requests}, connections_max={connections}, waiting_max={waiting})")
    }
}

/// How often a request to a service may be sent.
#[pyclass(frozen, get_all, eq, module = "southbridge._kernel")]
#[derive(PartialEq)]
pub struct Retry {
    /// Attempts in all, 1 to 10.
    attempts_max: u32,
    /// Seconds before the second of them, doubled with every further one; `None`: what the service has failed at is not
    /// sent again.
    pause: Option<f64>,
}

#[pymethods]
impl Retry {
    #[new]
    #[pyo3(signature = (attempts_max=3, *, pause=Some(0.1)), text_signature = "(attempts_max=3, *, pause=0.1)")]
    fn new(attempts_max: u32, pause: Option<f64>) -> Self {
        Self { attempts_max, pause }
    }

    fn __repr__(&self) -> String {
        let pause = self.pause.map_or("None".to_owned(), |pause| pause.to_string());
        format!("Retry({}, pause={pause})", self.attempts_max)
    }
}

/// When a service is held to be down, and how often it is probed then.
#[pyclass(frozen, get_all, eq, module = "southbridge._kernel")]
#[derive(PartialEq)]
pub struct Breaker {
    /// Requests in a row without any answer, at least 2.
    failures_max: u32,
    /// Answers in a row that were 429 or 5xx.
    errors_max: u32,
    /// Failures this close together of requests that were in flight together are one.
    grace: f64,
    /// After how long it is first probed, give or take some.
    probe_after: f64,
    /// The longest between two probes, while there is somebody who asks.
    probe_every_max: f64,
}

#[pymethods]
impl Breaker {
    #[new]
    #[pyo3(signature = (*, failures_max=5, errors_max=15, grace=1.0, probe_after=3.0, probe_every_max=5.0))]
    fn new(failures_max: u32, errors_max: u32, grace: f64, probe_after: f64, probe_every_max: f64) -> Self {
        Self { failures_max, errors_max, grace, probe_after, probe_every_max }
    }

    fn __repr__(&self) -> String {
        let Self { failures_max, errors_max, grace, probe_after, probe_every_max } = self;
        format!(
            "Breaker(failures_max={failures_max}, errors_max={errors_max}, grace={grace}, \
             probe_after={probe_after}, probe_every_max={probe_every_max})"
        )
    }
}

/// Whom to trust of a service, and as whom to come. The files are read when it is declared.
#[pyclass(frozen, get_all, eq, module = "southbridge._kernel")]
#[derive(PartialEq)]
pub struct Tls {
    /// PEM files of certificate authorities that are trusted as well.
    ca_files: Vec<PathBuf>,
    /// Whether the system's are not trusted.
    only_ca_files: bool,
    /// PEM files with our certificate chain and its key.
    certificate: Option<(PathBuf, PathBuf)>,
    /// Whether it may speak TLS 1.0 and 1.1.
    legacy: bool,
}

#[pymethods]
impl Tls {
    #[new]
    #[pyo3(
        signature = (*, ca_files=Vec::new(), only_ca_files=false, certificate=None, legacy=false),
        text_signature = "(*, ca_files=(), only_ca_files=False, certificate=None, legacy=False)"
    )]
    fn new(
        ca_files: Vec<PathBuf>,
        only_ca_files: bool,
        certificate: Option<(PathBuf, PathBuf)>,
        legacy: bool,
    ) -> Self {
        Self { ca_files, only_ca_files, certificate, legacy }
    }

    fn __repr__(&self) -> String {
        let Self { ca_files, only_ca_files, certificate, legacy } = self;
        format!(
            "<Tls ca_files={ca_files:?} only_ca_files={only_ca_files} certificate={certificate:?} legacy={legacy}>"
        )
    }
}

/// Declares a service. Returns once it is so; connecting goes on by itself.
#[pyfunction]
#[pyo3(signature = (name, discovery, host, limits, retry, breaker, tls, /))]
#[expect(clippy::too_many_arguments, reason = "they are those of a call in Python")]
pub fn declare_service(
    py: Python<'_>,
    name: &str,
    discovery: &Bound<'_, PyAny>,
    host: Option<String>,
    limits: Option<&Bound<'_, Limits>>,
    retry: Option<&Bound<'_, Retry>>,
    breaker: Option<&Bound<'_, Breaker>>,
    tls: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let _visit = process::visit(py)?;
    let mut service = Service::new(name, found(discovery)?);
    service.host = host;
    if let Some(limits) = limits {
        let Limits { requests_max, connections_max, waiting_max } = *limits.get();
        service.limits = ServiceLimits { requests_max, connections_max, waiting_max };
    }
    if let Some(retry) = retry {
        let Retry { attempts_max, pause } = *retry.get();
        let pause_first = pause.map(|pause| seconds("retry.pause", pause)).transpose()?;
        service.attempts = Attempts { attempts_max, pause_first };
    }
    if let Some(breaker) = breaker {
        let breaker = breaker.get();
        service.breaker = Some(BreakerLimits {
            failures_max: breaker.failures_max,
            errors_max: breaker.errors_max,
            grace: seconds("breaker.grace", breaker.grace)?,
            probe_after: seconds("breaker.probe_after", breaker.probe_after)?,
            probe_every_max: seconds("breaker.probe_every_max", breaker.probe_every_max)?,
        });
    }
    service.tls = spoken_to(tls)?;
    declare(py, service)
}

/// Declares the services of a TOML file; their names.
#[pyfunction]
#[pyo3(signature = (path, /))]
#[expect(clippy::needless_pass_by_value, reason = "it is what a path of Python becomes")]
pub fn declare_file(py: Python<'_>, path: PathBuf) -> PyResult<Vec<String>> {
    let _visit = process::visit(py)?;
    let read = service_file::load(&path);
    let services = read.map_err(|problems| errors::named(py, "InvalidSetting", &problems.to_string()))?;
    let names = services.iter().map(|service| service.name.clone()).collect();
    services.into_iter().try_for_each(|service| declare(py, service))?;
    Ok(names)
}

/// Takes a service back.
#[pyfunction]
#[pyo3(signature = (name, /))]
pub fn withdraw_service(py: Python<'_>, name: String) -> PyResult<()> {
    let _visit = process::visit(py)?;
    if !process::is_staged() {
        register().remove(&name);
    }
    process::perform(py, move |port| seam::withdraw(port, &name)).map(drop)
}

/// A service that was declared by its addresses is at others from now on.
#[pyfunction]
#[pyo3(signature = (name, addresses, /))]
pub fn push_service(py: Python<'_>, name: String, addresses: &Bound<'_, PyAny>) -> PyResult<()> {
    let _visit = process::visit(py)?;
    let addresses = addresses_of(addresses)?;
    if !process::is_staged()
        && let Some(service) = register().get_mut(&name)
        && matches!(service.discovery, ServiceDiscovery::Addresses(_))
    {
        service.discovery = ServiceDiscovery::Addresses(addresses.clone());
    }
    process::perform(py, move |port| seam::push(port, &name, addresses)).map(drop)
}

/// Waits until every service of `names` can be asked, or all that are declared.
#[pyfunction]
#[pyo3(signature = (*names, timeout=None))]
pub fn ready(py: Python<'_>, names: Vec<String>, timeout: Option<f64>) -> PyResult<Bound<'_, PyAny>> {
    let _visit = process::visit(py)?;
    let within = timeout.map(|timeout| seconds("timeout", timeout)).transpose()?;
    let exchange = Exchange::asking(Question::Ready { names: names.clone(), within });
    match here::here(py)? {
        Here::Twisted => {
            here::frontend(py, "twisted")?.call_method1(intern!(py, "begin_check"), (exchange, names))
        }
        _ => {
            let services = py.import(intern!(py, "southbridge._services"))?;
            services.call_method1(intern!(py, "begin_check"), (exchange, names))
        }
    }
}

fn declare(py: Python<'_>, service: Service) -> PyResult<()> {
    let known = service.clone();
    process::perform(py, move |port| seam::declare(port, service))?;
    if !process::is_staged() {
        register().insert(known.name.clone(), known);
    }
    Ok(())
}

/// A text is a way of finding it; several are addresses.
fn found(value: &Bound<'_, PyAny>) -> PyResult<ServiceDiscovery> {
    if let Ok(text) = value.cast::<PyString>() {
        let text = text.to_cow()?;
        let found = text.parse::<ServiceDiscovery>();
        return found.map_err(|why| PyValueError::new_err(format!("discovery: {text:?} {why}")));
    }
    Ok(ServiceDiscovery::Addresses(addresses_of(value)?))
}

fn addresses_of(value: &Bound<'_, PyAny>) -> PyResult<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for one in value.try_iter()? {
        let one = one?;
        let text = one.cast::<PyString>()?.to_cow()?;
        addresses.push(text.parse().map_err(|_| {
            PyValueError::new_err(format!("{text:?} is no address with a port; write \"192.0.2.1:8080\""))
        })?);
    }
    Ok(addresses)
}

fn spoken_to(value: &Bound<'_, PyAny>) -> PyResult<Option<ClientTls>> {
    if let Ok(truth) = value.cast::<PyBool>() {
        return Ok(truth.is_true().then(ClientTls::default));
    }
    let tls = value.cast::<Tls>()?.get();
    Ok(Some(ClientTls {
        ca_files: tls.ca_files.clone(),
        only_ca_files: tls.only_ca_files,
        certificate: tls.certificate.clone(),
        legacy: tls.legacy,
    }))
}

fn seconds(what: &str, seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| PyValueError::new_err(format!("{what}: {seconds} s is no span of time")))
}
