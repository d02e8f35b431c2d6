//! What is counted: atomics that any thread may read, bumped on the hot path by one add each.
//!
//! # Units
//! Counters count events since the start; sizes are bytes, times are microseconds.
//!
//! # Source
//! K11, K13; DESIGN decision 11. Latencies are taken in the kernel, so they hold when an application's
//! loop is late.

mod exposition;
mod histogram;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::http::StatusCode;
use southbridge_words::{Class, PerClass, Step};

pub use exposition::Exposition;
pub use histogram::Histogram;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `more`.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The kernel's numbers.
#[derive(Debug, Default)]
pub struct Stats {
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
    /// Requests given up by their callers.
    pub cancelled: Counter,
    /// Bytes of response bodies delivered.
    pub body_bytes: Counter,
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
    /// A response's head came.
    pub fn responded(&self, status: StatusCode, latency: Duration) {
        let digit = usize::from(status.as_u16() / 100).clamp(1, 5);
        self.responses[digit - 1].add(1);
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

    /// Writes everything in the text format of Prometheus.
    pub fn expose(&self, out: &mut Exposition) {
        out.head("southbridge_requests_total", "counter", "Requests that came in.");
        for class in Class::ALL {
            out.value("southbridge_requests_total", &[("class", class.name())], self.requests[class].get());
        }
        out.head(
            "southbridge_responses_total",
            "counter",
            "Response heads, by the first digit of the status.",
        );
        for (counter, digit) in self.responses.iter().zip(["1xx", "2xx", "3xx", "4xx", "5xx"]) {
            out.value("southbridge_responses_total", &[("status", digit)], counter.get());
        }
        out.head(
            "southbridge_failures_total",
            "counter",
            "Requests without a response, by how far they came.",
        );
        for step in Step::ALL {
            let count = self.failures[step as usize].get();
            out.value("southbridge_failures_total", &[("step", step.name())], count);
        }
        let plain: [(&str, &Counter, &str); 9] = [
            ("southbridge_dials_total", &self.dials, "TCP connections begun."),
            ("southbridge_handshakes_total", &self.handshakes, "TLS handshakes completed."),
            ("southbridge_handshakes_resumed_total", &self.handshakes_resumed, "TLS sessions resumed."),
            ("southbridge_connects_failed_total", &self.connects_failed, "Connections not opened."),
            (
                "southbridge_overloads_total",
                &self.overloads,
                "Requests refused because too much was waiting.",
            ),
            ("southbridge_refused_down_total", &self.refused_down, "Requests answered at once: host down."),
            ("southbridge_retries_total", &self.retries, "Requests sent again."),
            ("southbridge_cancelled_total", &self.cancelled, "Requests given up by their callers."),
            ("southbridge_body_bytes_total", &self.body_bytes, "Bytes of response bodies delivered."),
        ];
        for (name, counter, help) in plain {
            out.head(name, "counter", help);
            out.value(name, &[], counter.get());
        }
        out.head("southbridge_latency_seconds", "histogram", "From first byte written to response head.");
        out.histogram("southbridge_latency_seconds", &[], &self.latency);
        out.head("southbridge_waited_seconds", "histogram", "From coming in to first byte written.");
        for class in Class::ALL {
            out.histogram("southbridge_waited_seconds", &[("class", class.name())], &self.waited[class]);
        }
    }
}
