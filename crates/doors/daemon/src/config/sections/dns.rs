//! `[dns]`: the one DNS subsystem.

use southbridge_kernel::dns::DnsConfig;

use crate::config::key::{DAY, HOUR, Key, Kind, MINUTE, SECOND, Section, count, duration, key};
use crate::config::reader::Reader;

pub(in crate::config) fn read(reader: &Reader<'_>) -> DnsConfig {
    reader.check_order("ttl_min", "ttl_max");
    reader.check_order("failure_first", "failure_max");
    DnsConfig {
        servers: reader.addresses("servers"),
        timeout: reader.duration("timeout"),
        attempts: reader.count32("attempts"),
        ttl_min: reader.duration("ttl_min"),
        ttl_max: reader.duration("ttl_max"),
        negative_max: reader.duration("negative_max"),
        negative_default: reader.duration("negative_default"),
        stale_max: reader.duration("stale_max"),
        failure_first: reader.duration("failure_first"),
        failure_max: reader.duration("failure_max"),
        entries_max: reader.count32("entries_max"),
        records_max: reader.count32("records_max") as usize,
        queries_max: reader.count32("queries_max") as usize,
        waiting_max: reader.count32("waiting_max"),
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
        "ttl_min",
        duration(0, HOUR),
        "\"5s\"",
        "Answers are used at least so long: a TTL of zero would be a question for every request.",
    ),
    key(
        "ttl_max",
        duration(SECOND, 7 * DAY),
        "\"24h\"",
        "Answers are used at most so long: some zones say years.",
    ),
    key(
        "negative_max",
        duration(0, DAY),
        "\"1h\"",
        "\"There is no such record\" is believed at most so long.",
    ),
    key(
        "negative_default",
        duration(0, DAY),
        "\"60s\"",
        "How long that is believed when the answer does not say (no SOA).",
    ),
    key(
        "stale_max",
        duration(0, 30 * DAY),
        "\"24h\"",
        "How long past their time records may stand in for servers that fail; RFC 8767 suggests one to three days. An \
         outage of DNS is then not an outage of federation.",
    ),
    key(
        "failure_first",
        duration(10, HOUR),
        "\"1s\"",
        "How long the first failure to look a name up is remembered; doubles.",
    ),
    key("failure_max", duration(10, HOUR), "\"30s\"", "The longest time a failure is remembered."),
    key(
        "entries_max",
        count(64, 10_000_000),
        "20000",
        "Names remembered, for addresses and for SRV each; the oldest make room.",
    ),
    key(
        "records_max",
        count(1, 1000),
        "32",
        "Records used of one answer; more are of no use and may be an attack.",
    ),
    key("queries_max", count(1, 65_535), "256", "Questions under way at a time; many share a socket."),
    key("waiting_max", count(1, 1_000_000), "20000", "Callers waiting for answers in all."),
];
