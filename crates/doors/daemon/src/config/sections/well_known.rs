//! `[well_known]`: delegation by `.well-known/matrix/server`.

use std::time::Duration;

use crate::config::key::{DAY, HOUR, Key, MIB, MINUTE, SECOND, Section, count, duration, key, size};
use crate::config::reader::Reader;

/// The settings of `.well-known` lookups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WellKnown {
    /// From the lookup of the name to the end of the body, redirects included.
    pub timeout: Duration,
    /// Bytes of the body.
    pub body_bytes_max: u64,
    /// Redirects followed.
    pub redirects_max: u32,
    /// How long an answer without cache headers is used.
    pub ttl_default: Duration,
    /// The shortest time a good answer is used.
    pub ttl_min: Duration,
    /// The longest time a good answer is used.
    pub ttl_max: Duration,
    /// The longest time a failure is remembered.
    pub failure_max: Duration,
    /// For how long a good answer is used past its time while its source fails.
    pub stale_max: Duration,
    /// Names remembered.
    pub entries_max: u32,
}

impl WellKnown {
    pub(in crate::config) fn read(reader: &Reader<'_>) -> Self {
        let read = Self {
            timeout: reader.duration("timeout"),
            body_bytes_max: reader.size("body_bytes_max"),
            redirects_max: reader.count32("redirects_max"),
            ttl_default: reader.duration("ttl_default"),
            ttl_min: reader.duration("ttl_min"),
            ttl_max: reader.duration("ttl_max"),
            failure_max: reader.duration("failure_max"),
            stale_max: reader.duration("stale_max"),
            entries_max: reader.count32("entries_max"),
        };
        if read.ttl_min > read.ttl_max {
            reader.refuse("ttl_min", "is above ttl_max");
        }
        read
    }
}

/// The keys of `[well_known]`.
pub const SECTION: Section = Section {
    name: "well_known",
    about: "Delegation by `https://NAME/.well-known/matrix/server`.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    key(
        "timeout",
        duration(100, MINUTE),
        "\"10s\"",
        "How long the whole lookup may take, redirects included. A request waits for it only the first time.",
    ),
    key(
        "body_bytes_max",
        size(64, MIB),
        "\"50KiB\"",
        "The largest answer. A true one has less than 100 bytes; other homeservers take 12 to 256 KiB.",
    ),
    key("redirects_max", count(0, 30), "5", "Redirects followed, each to https and to an allowed address."),
    key(
        "ttl_default",
        duration(SECOND, 2 * DAY),
        "\"24h\"",
        "How long an answer without cache headers is used (the specification's recommendation).",
    ),
    key(
        "ttl_min",
        duration(0, DAY),
        "\"5m\"",
        "The shortest time a good answer is used, whatever its headers say.",
    ),
    key(
        "ttl_max",
        duration(MINUTE, 2 * DAY),
        "\"48h\"",
        "The longest time a good answer is used (the specification's recommendation).",
    ),
    key(
        "failure_max",
        duration(SECOND, HOUR),
        "\"1h\"",
        "The longest time a failure is remembered; the first ones for much less.",
    ),
    key(
        "stale_max",
        duration(0, 30 * DAY),
        "\"7d\"",
        "For how long a good answer is used past its time while its source fails. Days of clean 404 end it sooner.",
    ),
    key("entries_max", count(64, 10_000_000), "20000", "Names remembered; the oldest make room."),
];
