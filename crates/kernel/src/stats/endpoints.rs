//! Figures by endpoint of a service: which of its addresses is slow, and which fails.
//!
//! Each service has them for its first so many addresses, and one set together for the rest; all services have a bound in
//! common, for the same reason as services themselves.
//!
//! # Source
//! K10, K11.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use ::http::StatusCode;
use southbridge_words::Step;

use super::figures::{each, first_digit};
use super::{Counter, Histogram, Metric, Region, RegisterError, Unit};

/// The figures of one address of one service.
#[derive(Debug)]
pub(crate) struct EndpointFigures {
    responses: [Counter; 5],
    failures: [Counter; STEPS.len()],
    latency: Histogram,
}

impl EndpointFigures {
    fn register(region: &Region, service: &str, endpoint: &str) -> Result<Self, RegisterError> {
        let (service, endpoint) = (("service", service), ("endpoint", endpoint));
        let counter =
            |metric, help, labels: &[(&str, &str)]| region.counter(&Metric::new(metric, help).with(labels));
        Ok(Self {
            responses: each(["1xx", "2xx", "3xx", "4xx", "5xx"], |digit| {
                let help = "Response heads, by service, endpoint and first digit of the status.";
                let labels = [service, endpoint, ("status", digit)];
                counter("southbridge_endpoint_responses_total", help, &labels)
            })?,
            failures: each(STEPS, |step| {
                let help = "Attempts that came to nothing, by service, endpoint and how far they came.";
                let labels = [service, endpoint, ("step", step.name())];
                counter("southbridge_endpoint_failures_total", help, &labels)
            })?,
            latency: region.histogram(
                &Metric::new(
                    "southbridge_endpoint_latency_seconds",
                    "From first byte written to response head, by service and endpoint.",
                )
                .in_unit(Unit::Seconds)
                .with(&[service, endpoint]),
            )?,
        })
    }

    pub(crate) fn responded(&self, status: StatusCode, latency: Duration) {
        self.responses[first_digit(status)].add(1);
        self.latency.record(latency);
    }

    /// An attempt came to nothing at `step`. What came before there was an endpoint is nobody's.
    pub(crate) fn failed(&self, step: Step) {
        let place = STEPS.iter().position(|known| *known == step);
        place.iter().for_each(|place| self.failures[*place].add(1));
    }
}

/// The endpoints of one service.
#[derive(Debug)]
pub(super) struct Endpoints {
    region: Region,
    service: Box<str>,
    /// How many more may have figures, of all services together.
    left: Rc<Cell<usize>>,
    /// Searched from the front: most services have one or a few.
    known: RefCell<Vec<(SocketAddr, EndpointFigures)>>,
    other: RefCell<Option<EndpointFigures>>,
}

impl Endpoints {
    pub(super) fn new(region: Region, service: &str, left: Rc<Cell<usize>>) -> Self {
        Self { region, service: service.into(), left, known: RefCell::default(), other: RefCell::default() }
    }

    /// Tells the figures of the endpoint at `remote`, or those of all that have none of their own; nobody when there is
    /// room for neither.
    pub(super) fn at(&self, remote: SocketAddr, tell: impl FnOnce(&EndpointFigures)) {
        if let Some((_, figures)) = self.known.borrow().iter().find(|(address, _)| *address == remote) {
            return tell(figures);
        }
        self.at_new(remote, tell);
    }

    #[cold]
    fn at_new(&self, remote: SocketAddr, tell: impl FnOnce(&EndpointFigures)) {
        let mut known = self.known.borrow_mut();
        if known.len() < OF_SERVICE_MAX
            && let Some(figures) = self.register(&remote.to_string())
        {
            tell(&figures);
            known.push((remote, figures));
            return;
        }
        let mut other = self.other.borrow_mut();
        // Where there is none at all, what is seen of `other` would be taken for what there is.
        if other.is_none() && !known.is_empty() {
            *other = self.register("other");
        }
        if let Some(other) = &*other {
            tell(other);
        }
    }

    fn register(&self, endpoint: &str) -> Option<EndpointFigures> {
        let left = self.left.get().checked_sub(1)?;
        let registered = EndpointFigures::register(&self.region, &self.service, endpoint);
        // When the region is full, it will not be otherwise for the next.
        self.left.set(if registered.is_ok() { left } else { 0 });
        registered.ok()
    }
}

/// The steps at which there is an endpoint.
const STEPS: [Step; 5] = [Step::Connect, Step::Handshake, Step::Request, Step::Response, Step::Body];
/// Of one service. More, and what is looked at is the service.
const OF_SERVICE_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::super::{RegionOptions, Value};
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 80))
    }

    fn endpoints(left: &Rc<Cell<usize>>, service: &str, region: &Region) -> Endpoints {
        Endpoints::new(region.clone(), service, Rc::clone(left))
    }

    fn responses(region: &Region, service: &str, endpoint: &str) -> Option<u64> {
        let labels = [("endpoint", endpoint), ("service", service), ("status", "2xx")];
        match region.read().figure("southbridge_endpoint_responses_total", &labels)?.value {
            Value::Counter(value) => Some(value),
            ref other => panic!("{other:?}"),
        }
    }

    fn ask(endpoints: &Endpoints, last: u8) {
        endpoints.at(address(last), |figures| figures.responded(StatusCode::OK, Duration::from_millis(1)));
    }

    /// A service has twenty addresses: sixteen are told apart, and the rest are counted together.
    #[test]
    fn endpoints_beyond_the_bound_are_counted_together() {
        let region = Region::new(&RegionOptions::default()).unwrap();
        let left = Rc::new(Cell::new(100));
        let endpoints = endpoints(&left, "a", &region);
        for last in (0..20).chain([0, 19]) {
            ask(&endpoints, last);
        }
        assert_eq!(responses(&region, "a", "192.0.2.0:80"), Some(2));
        assert_eq!(responses(&region, "a", "192.0.2.15:80"), Some(1));
        assert_eq!(responses(&region, "a", "192.0.2.16:80"), None);
        assert_eq!(responses(&region, "a", "other"), Some(5));
        assert_eq!(left.get(), 100 - OF_SERVICE_MAX - 1);
    }

    /// Services share one bound. One that comes too late has none, and nothing is told of it by halves.
    #[test]
    fn all_services_share_a_bound() {
        let region = Region::new(&RegionOptions::default()).unwrap();
        let left = Rc::new(Cell::new(3));
        let (early, late) = (endpoints(&left, "early", &region), endpoints(&left, "late", &region));
        for last in 0..5 {
            ask(&early, last);
        }
        ask(&late, 0);
        assert_eq!(responses(&region, "early", "192.0.2.2:80"), Some(1));
        assert_eq!(responses(&region, "early", "other"), None);
        assert_eq!(
            (responses(&region, "late", "192.0.2.0:80"), responses(&region, "late", "other")),
            (None, None)
        );
    }

    #[test]
    fn what_fails_before_there_is_an_endpoint_is_not_its_fault() {
        let region = Region::new(&RegionOptions::default()).unwrap();
        let left = Rc::new(Cell::new(3));
        let endpoints = endpoints(&left, "a", &region);
        for step in Step::ALL {
            endpoints.at(address(1), |figures| figures.failed(step));
        }
        let reading = region.read();
        let failed = |step| {
            let labels = [("endpoint", "192.0.2.1:80"), ("service", "a"), ("step", step)];
            reading.figure("southbridge_endpoint_failures_total", &labels).map(|figure| figure.value.clone())
        };
        assert_eq!(failed("connect"), Some(Value::Counter(1)));
        assert_eq!(failed("body"), Some(Value::Counter(1)));
        assert_eq!((failed("admission"), failed("discovery")), (None, None));
    }
}
