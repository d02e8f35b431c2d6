//! `[dns]`: the one DNS subsystem.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::key::{DAY, HOUR, Key, Kind, MINUTE, SECOND, Section, count, duration, key};
use crate::config::reader::Reader;

/// The settings of DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// The servers to ask; the system's configuration when empty.
    pub servers: Vec<SocketAddr>,
    /// How long one server is given for one answer.
    pub timeout: Duration,
    /// How often a question is asked.
    pub attempts: u32,
    /// For how long an answer is used past its time while its source fails.
    pub stale_max: Duration,
    /// For how long "there is no such name" is remembered at most.
    pub negative_max: Duration,
    /// For how long a failure is remembered.
    pub failure_max: Duration,
    /// The shortest time an answer is used, whatever its TTL.
    pub ttl_min: Duration,
    /// The longest time an answer is used, whatever its TTL.
    pub ttl_max: Duration,
    /// Answers remembered.
    pub entries_max: u32,
    /// Records taken from one answer.
    pub records_max: u32,
    /// Questions asked at a time.
    pub lookups_max: u32,
}

impl Dns {
    pub(in crate::config) fn read(reader: &Reader<'_>) -> Self {
        let read = Self {
            servers: reader.addresses("servers"),
            timeout: reader.duration("timeout"),
            attempts: reader.count32("attempts"),
            stale_max: reader.duration("stale_max"),
            negative_max: reader.duration("negative_max"),
            failure_max: reader.duration("failure_max"),
            ttl_min: reader.duration("ttl_min"),
            ttl_max: reader.duration("ttl_max"),
            entries_max: reader.count32("entries_max"),
            records_max: reader.count32("records_max"),
            lookups_max: reader.count32("lookups_max"),
        };
        if read.ttl_min > read.ttl_max {
            reader.refuse("ttl_min", "is above ttl_max");
        }
        read
    }
}

/// The keys of `[dns]`.
pub const SECTION: Section = Section {
    name: "dns",
    about: "Name lookups, the same for everything that Southbridge does.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    key(
        "servers",
        Kind::Addresses,
        "[]",
        "The servers to ask, with their ports. Empty: those of the system's configuration (`/etc/resolv.conf`).",
    ),
    key(
        "timeout",
        duration(50, MINUTE),
        "\"3s\"",
        "How long a server is given for an answer. Recursion into a slow zone takes seconds; a lost packet should \
         still leave time to ask again.",
    ),
    key("attempts", count(1, 10), "2", "How often a question is asked before it counts as failed."),
    key(
        "stale_max",
        duration(0, 30 * DAY),
        "\"24h\"",
        "For how long an answer past its time is still used while its source fails (RFC 8767). An outage of DNS is \
         then not an outage of federation.",
    ),
    key(
        "negative_max",
        duration(0, DAY),
        "\"5m\"",
        "For how long \"there is no such name\" is remembered at most. Short: somebody may be putting it right.",
    ),
    key(
        "failure_max",
        duration(0, HOUR),
        "\"10s\"",
        "For how long a failure (SERVFAIL, no answer) is remembered, so that a broken zone is not asked for each request.",
    ),
    key("ttl_min", duration(0, HOUR), "\"5s\"", "The shortest time an answer is used: some zones say zero."),
    key(
        "ttl_max",
        duration(SECOND, 7 * DAY),
        "\"24h\"",
        "The longest time an answer is used: some zones say years.",
    ),
    key(
        "entries_max",
        count(64, 10_000_000),
        "50000",
        "Answers remembered. Three or four for each destination; the oldest make room.",
    ),
    key(
        "records_max",
        count(1, 1000),
        "32",
        "Records taken from one answer; more are of no use and may be an attack.",
    ),
    key("lookups_max", count(1, 65_535), "256", "Questions asked at a time; each holds a descriptor."),
];
