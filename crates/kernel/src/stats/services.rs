//! Figures by service: for the first so many, each its own; for the rest, one set together.
//!
//! A bound there must be: a homeserver talks to tens of thousands of others, and each set costs memory here and in
//! whatever scrapes it.
//!
//! # Source
//! K10, K11.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use ::http::StatusCode;
use rustc_hash::FxHashMap;
use southbridge_words::{ServiceName, Step};

use super::endpoints::{EndpointFigures, Endpoints};
use super::figures::{each, first_digit};
use super::{Counter, Histogram, Metric, Region, RegisterError, Unit};

/// The figures of one service.
#[derive(Debug)]
pub(crate) struct ServiceFigures {
    requests: Counter,
    responses: [Counter; 5],
    failures: [Counter; 7],
    retries: Counter,
    latency: Histogram,
    /// Those of all that have none of their own are not told apart further.
    endpoints: Option<Endpoints>,
}

impl ServiceFigures {
    fn register(region: &Region, service: &str) -> Result<Self, RegisterError> {
        let name = ("service", service);
        let counter =
            |metric, help, labels: &[(&str, &str)]| region.counter(&Metric::new(metric, help).with(labels));
        Ok(Self {
            requests: counter("southbridge_service_requests_total", "Requests, by service.", &[name])?,
            responses: each(["1xx", "2xx", "3xx", "4xx", "5xx"], |digit| {
                let help = "Response heads, by service and first digit of the status.";
                counter("southbridge_service_responses_total", help, &[name, ("status", digit)])
            })?,
            failures: each(Step::ALL, |step| {
                let help = "Requests without a whole response, by service and how far they came.";
                counter("southbridge_service_failures_total", help, &[name, ("step", step.name())])
            })?,
            retries: counter(
                "southbridge_service_retries_total",
                "Requests sent again, by service.",
                &[name],
            )?,
            latency: region.histogram(
                &Metric::new(
                    "southbridge_service_latency_seconds",
                    "From first byte written to response head, by service.",
                )
                .in_unit(Unit::Seconds)
                .with(&[name]),
            )?,
            endpoints: None,
        })
    }

    pub(crate) fn requested(&self) {
        self.requests.add(1);
    }

    pub(crate) fn responded(&self, status: StatusCode, latency: Duration) {
        self.responses[first_digit(status)].add(1);
        self.latency.record(latency);
    }

    pub(crate) fn failed(&self, step: Step) {
        self.failures[step as usize].add(1);
    }

    /// Tells the figures of the endpoint at `remote`, if there are any.
    pub(crate) fn endpoint(&self, remote: SocketAddr, tell: impl FnOnce(&EndpointFigures)) {
        if let Some(endpoints) = &self.endpoints {
            endpoints.at(remote, tell);
        }
    }

    pub(crate) fn repeated(&self) {
        self.retries.add(1);
    }
}

/// Finds the figures of a service.
#[derive(Debug)]
pub(super) struct Services {
    region: Region,
    services_max: Cell<usize>,
    known: RefCell<FxHashMap<ServiceName, Rc<ServiceFigures>>>,
    other: Rc<ServiceFigures>,
    /// How many endpoints may still have figures of their own.
    endpoints_left: Rc<Cell<usize>>,
}

impl Services {
    pub(super) fn new(
        region: Region,
        services_max: usize,
        endpoints_max: usize,
    ) -> Result<Self, RegisterError> {
        let other = Rc::new(ServiceFigures::register(&region, "other")?);
        let (services_max, endpoints_left) = (Cell::new(services_max), Rc::new(Cell::new(endpoints_max)));
        Ok(Self { region, services_max, known: RefCell::default(), other, endpoints_left })
    }

    pub(super) fn of(&self, service: &ServiceName) -> Rc<ServiceFigures> {
        let mut known = self.known.borrow_mut();
        if let Some(figures) = known.get(service) {
            return Rc::clone(figures);
        }
        if known.len() < self.services_max.get() {
            match ServiceFigures::register(&self.region, service.as_str()) {
                Ok(mut figures) => {
                    let left = Rc::clone(&self.endpoints_left);
                    figures.endpoints = Some(Endpoints::new(self.region.clone(), service.as_str(), left));
                    let figures = Rc::new(figures);
                    known.insert(service.clone(), Rc::clone(&figures));
                    return figures;
                }
                // It will not be otherwise for the next.
                Err(RegisterError::Full { .. }) => self.services_max.set(known.len()),
                Err(_) => {}
            }
        }
        Rc::clone(&self.other)
    }
}
