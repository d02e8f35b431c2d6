//! `[limits]`: admission, before anything is done for a request.

use crate::config::key::{Key, Section, count, key};
use crate::config::reader::Reader;

/// The settings of admission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests in the kernel at a time.
    pub requests_max: u32,
    /// Requests in the kernel at a time for one host.
    pub requests_per_host_max: u32,
}

impl Limits {
    pub(in crate::config) fn read(reader: &Reader<'_>) -> Self {
        let limits = Self {
            requests_max: reader.count32("requests_max"),
            requests_per_host_max: reader.count32("requests_per_host_max"),
        };
        if limits.requests_per_host_max > limits.requests_max {
            reader.refuse(
                "requests_per_host_max",
                &format!("is more than requests_max, which is {}", limits.requests_max),
            );
        }
        limits
    }
}

/// The keys of `[limits]`.
pub const SECTION: Section = Section {
    name: "limits",
    about: "What is let in. Past a bound, requests are answered 503 at once, those of the lowest classes first.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    key("requests_max", count(1, 10_000_000), "32768", "Requests at a time, waiting or in flight."),
    key("requests_per_host_max", count(1, 1_000_000), "512", "Requests at a time for one host."),
];
