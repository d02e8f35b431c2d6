//! The kernel's own figures.
//!
//! # Source
//! K10, K11.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use ::http::StatusCode;
use southbridge_words::{Class, PerClass, ServiceName, Step};

use super::services::Services;
use super::{
    Counter, Exposition, Histogram, Metric, Region, RegionOptions, RegisterError, ServiceFigures, Unit,
};

/// Where the kernel counts.
#[derive(Clone, Debug)]
pub struct StatsConfig {
    /// The region; `None` for one in memory, of this kernel alone.
    pub region: Option<Region>,
    /// How many services have figures of their own: the first that are asked for anything. The others are counted
    /// together as `other`. Default 100: each costs 6.5 KB, and forty lines on the metrics page.
    pub services_max: usize,
    /// How many addresses of services have figures of their own, at most sixteen of one service; what is beyond is counted
    /// with its service alone. Default 200: each costs 6.3 KB, and forty lines on the metrics page.
    pub endpoints_max: usize,
}

impl Default for StatsConfig {
    fn default() -> Self {
        Self { region: None, services_max: 100, endpoints_max: 200 }
    }
}

/// The kernel's figures.
#[derive(Debug)]
pub struct Stats {
    region: Region,
    services: Services,
    /// Requests that came in, by class.
    pub requests: PerClass<Counter>,
    /// TCP connections begun.
    pub dials: Counter,
    /// TLS handshakes completed.
    pub handshakes: Counter,
    /// Of those, resumed from an earlier session.
    pub handshakes_resumed: Counter,
    /// Connections that could not be opened.
    pub connects_failed: Counter,
    /// Requests refused because too much was waiting.
    pub overloads: Counter,
    /// Requests answered at once because their host is down.
    pub refused_down: Counter,
    /// Requests sent again.
    pub retries: Counter,
    /// Requests given up by their callers before the last byte of the answer, or an error, was there.
    pub cancelled: Counter,
    /// Bytes of response bodies delivered.
    pub body_bytes: Counter,
    /// What publishing lost, because the other side was not there or did not keep up.
    pub publish_failures: Counter,
    /// Response heads by the first digit of their status, 1 to 5.
    responses: [Counter; 5],
    /// Failures by how far the request had come.
    failures: [Counter; 7],
    /// From first byte written to the head of the response.
    pub latency: Histogram,
    /// From a request's coming in to its first byte written: our own part.
    pub waited: PerClass<Histogram>,
}

impl Stats {
    /// The figures in the region of `config`. When an application has filled that one, they go to memory of their
    /// own, and it is said.
    ///
    /// # Errors
    /// When the system gives no address space.
    pub fn new(config: &StatsConfig) -> io::Result<Self> {
        let alone = || Region::new(&RegionOptions::default());
        let region = config.region.clone().map_or_else(alone, Ok)?;
        Self::register(region, config).or_else(|error| {
            tracing::warn!(%error, "the kernel's figures are not in the statistics region");
            Self::register(alone()?, config).map_err(io::Error::other)
        })
    }

    fn register(region: Region, config: &StatsConfig) -> Result<Self, RegisterError> {
        let counter = |name, help| region.counter(&Metric::new(name, help));
        let requests = per_class(|labels| {
            region.counter(&Metric::new("southbridge_requests_total", "Requests that came in.").with(labels))
        })?;
        let responses = each(["1xx", "2xx", "3xx", "4xx", "5xx"], |digit| {
            let help = "Response heads, by the first digit of the status.";
            region.counter(&Metric::new("southbridge_responses_total", help).with(&[("status", digit)]))
        })?;
        let failures = each(Step::ALL, |step| {
            let help = "Requests without a response, by how far they came.";
            region.counter(&Metric::new("southbridge_failures_total", help).with(&[("step", step.name())]))
        })?;
        let dials = counter("southbridge_dials_total", "TCP connections begun.")?;
        let handshakes = counter("southbridge_handshakes_total", "TLS handshakes completed.")?;
        let handshakes_resumed = counter("southbridge_handshakes_resumed_total", "TLS sessions resumed.")?;
        let connects_failed = counter("southbridge_connects_failed_total", "Connections not opened.")?;
        let overloads =
            counter("southbridge_overloads_total", "Requests refused because too much was waiting.")?;
        let refused_down =
            counter("southbridge_refused_down_total", "Requests answered at once: host down.")?;
        let retries = counter("southbridge_retries_total", "Requests sent again.")?;
        let cancelled = counter("southbridge_cancelled_total", "Requests given up by their callers.")?;
        let body_bytes = region.counter(
            &Metric::new("southbridge_body_bytes_total", "Bytes of response bodies delivered.")
                .in_unit(Unit::Bytes),
        )?;
        let publish_failures =
            counter("southbridge_publish_failures_total", "Figures that did not get out.")?;
        let latency = region.histogram(
            &Metric::new("southbridge_latency_seconds", "From first byte written to response head.")
                .in_unit(Unit::Seconds),
        )?;
        let waited = per_class(|labels| {
            region.histogram(
                &Metric::new("southbridge_waited_seconds", "From coming in to first byte written.")
                    .in_unit(Unit::Seconds)
                    .with(labels),
            )
        })?;
        let services = Services::new(region.clone(), config.services_max, config.endpoints_max)?;
        Ok(Self {
            services,
            requests,
            dials,
            handshakes,
            handshakes_resumed,
            connects_failed,
            overloads,
            refused_down,
            retries,
            cancelled,
            body_bytes,
            publish_failures,
            responses,
            failures,
            latency,
            waited,
            region,
        })
    }

    /// The region they lie in.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The figures of `service`, or those of all that have none of their own.
    pub(crate) fn service(&self, service: &ServiceName) -> Rc<ServiceFigures> {
        self.services.of(service)
    }

    /// A response's head came.
    pub fn responded(&self, status: StatusCode, latency: Duration) {
        self.responses[first_digit(status)].add(1);
        self.latency.record(latency);
    }

    /// A request was written `after` it came in.
    pub fn sent(&self, class: Class, after: Duration) {
        self.waited[class].record(after);
    }

    /// An exchange failed at `step`.
    pub fn failed(&self, step: Step) {
        self.failures[step as usize].add(1);
    }

    /// Writes everything in the region, but for what stands in `out` already.
    pub fn expose(&self, out: &mut Exposition) {
        out.reading(&self.region.read());
    }
}

/// The first digit of `status`, counted from zero.
pub(super) fn first_digit(status: StatusCode) -> usize {
    usize::from(status.as_u16() / 100).clamp(1, 5) - 1
}

/// One `T` for each of `keys`.
pub(super) fn each<K, T, const N: usize>(
    keys: [K; N],
    make: impl FnMut(K) -> Result<T, RegisterError>,
) -> Result<[T; N], RegisterError> {
    let made: Vec<T> = keys.into_iter().map(make).collect::<Result<_, _>>()?;
    Ok(made.try_into().unwrap_or_else(|_| unreachable!("as many are made as there are keys")))
}

fn per_class<T>(
    mut make: impl FnMut(&[(&str, &str)]) -> Result<T, RegisterError>,
) -> Result<PerClass<T>, RegisterError> {
    each(Class::ALL, |class| make(&[("class", class.name())])).map(PerClass)
}
