//! `[transport]`: how connections are opened, and what is taken from them.

use std::time::Duration;

use southbridge_kernel::net::DialOptions;

use crate::config::key::{HOUR, KIB, Key, MIB, MINUTE, SECOND, Section, count, duration, key, size};
use crate::config::reader::Reader;

/// The settings of connections to other homeservers.
#[derive(Clone, Debug)]
pub struct Transport {
    /// Pace and bounds of dialling.
    pub dial: DialOptions,
    /// How long a TLS handshake may take.
    pub handshake_max: Duration,
    /// Requests on one HTTP/2 connection, whatever the peer allows.
    pub streams_max: u32,
    /// Bytes of one response head.
    pub head_bytes_max: u32,
    /// Header lines of one response head.
    pub headers_max: u32,
    /// The slowest a response body may come, in bytes a second.
    pub body_rate_min: u64,
}

impl Transport {
    pub(in crate::config) fn read(reader: &Reader<'_>) -> Self {
        reader.check_order("attempt_max", "dial_max");
        let dial = DialOptions {
            step: reader.duration("racing_delay"),
            attempt_max: reader.duration("attempt_max"),
            total_max: reader.duration("dial_max"),
            addresses_max: reader.count32("addresses_max") as usize,
            keepalive: reader.duration("keepalive"),
        };
        Self {
            dial,
            handshake_max: reader.duration("handshake_max"),
            streams_max: reader.count32("streams_max"),
            head_bytes_max: reader.size32("head_bytes_max"),
            headers_max: reader.count32("headers_max"),
            body_rate_min: reader.size("body_rate_min"),
        }
    }
}

/// The keys of `[transport]`.
pub const SECTION: Section = Section {
    name: "transport",
    about: "How connections to other homeservers are opened, and what is taken from them.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    key(
        "racing_delay",
        duration(10, 10 * SECOND),
        "\"250ms\"",
        "How long an address may be silent before the next one is tried as well (RFC 8305).",
    ),
    key(
        "attempt_max",
        duration(100, 5 * MINUTE),
        "\"10s\"",
        "How long one address may take: three retransmissions of a lost SYN.",
    ),
    key("dial_max", duration(100, 5 * MINUTE), "\"15s\"", "How long all addresses together may take."),
    key(
        "addresses_max",
        count(1, 256),
        "8",
        "How many addresses of one name are tried: a name may have thousands, and each costs a socket.",
    ),
    key(
        "keepalive",
        duration(SECOND, 2 * HOUR),
        "\"60s\"",
        "Quiet time after which the system asks whether the far side is still there.",
    ),
    key(
        "handshake_max",
        duration(100, 5 * MINUTE),
        "\"10s\"",
        "How long a TLS handshake may take: four round trips on the worst of lines.",
    ),
    key(
        "streams_max",
        count(1, 10_000),
        "100",
        "Requests on one HTTP/2 connection, whatever the peer allows.",
    ),
    key(
        "head_bytes_max",
        size(8 * KIB, MIB),
        "\"64KiB\"",
        "The largest head of a response: several times what any homeserver sends.",
    ),
    key("headers_max", count(16, 1000), "100", "The most header lines of a response."),
    key(
        "body_rate_min",
        size(1, 1024 * MIB),
        "\"1KiB\"",
        "The slowest a response body may come, in bytes a second: a modem of 1985, so that whoever is slower is not \
         slow but stuck.",
    ),
];
