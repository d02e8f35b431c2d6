//! `[hosts]` and `[host."NAME"]`: the Host Ranker, and what is special about single hosts.

use std::collections::BTreeMap;

use southbridge_kernel::tls::TlsProfile;
use southbridge_policy::ranker::RankerLimits;
use southbridge_words::ServerName;

use crate::config::key::{DAY, HOUR, Key, Kind, MINUTE, SECOND, Section, count, duration, key};
use crate::config::reader::Reader;

/// What is special about one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostSettings {
    /// How TLS is spoken with it.
    pub tls: TlsProfile,
    /// Whether it is connected to at the start, and kept connected.
    pub keep_connected: bool,
}

/// The hosts with settings of their own.
pub type HostTable = BTreeMap<ServerName, HostSettings>;

pub(in crate::config) fn read(reader: &Reader<'_>) -> RankerLimits {
    let percent = u8::try_from(reader.count("rate_failing_percent"));
    let limits = RankerLimits {
        hosts_max: reader.count32("hosts_max"),
        latency_half_life: reader.duration("latency_half_life"),
        slow_above: reader.duration("slow_above"),
        slow_below: reader.duration("slow_below"),
        silence_max: reader.duration("silence_max"),
        failures_failing: reader.count32("failures_failing"),
        failures_down: reader.count32("failures_down"),
        failures_sure: reader.count32("failures_sure"),
        unwilling_down: reader.count32("unwilling_down"),
        grace: reader.duration("grace"),
        patience: reader.duration("patience"),
        backoff_first: reader.duration("backoff_first"),
        backoff_max: reader.duration("backoff_max"),
        probe_every_max: reader.duration("probe_every_max"),
        probe_overdue: reader.duration("probe_overdue"),
        retry_after_max: reader.duration("retry_after_max"),
        rate_half_life: reader.duration("rate_half_life"),
        rate_failing_percent: percent.expect("the table of keys bounds percents to 100"),
        forget_after: reader.duration("forget_after"),
        save_every: reader.duration("save_every"),
    };
    reader.check(limits.validate());
    limits
}

impl HostSettings {
    pub(in crate::config) fn read(reader: &Reader<'_>) -> Self {
        let legacy = reader.choice("tls") == "legacy";
        let tls = if legacy { TlsProfile::Legacy } else { TlsProfile::Modern };
        Self { tls, keep_connected: reader.flag("keep_connected") }
    }
}

/// The keys of `[hosts]`.
pub const SECTION: Section = Section {
    name: "hosts",
    about: "The Host Ranker: when a host counts as slow, failing or down, and when it is tried again.",
    keys: KEYS,
};

/// The keys of `[host."NAME"]`.
pub const HOST_SECTION: Section = Section {
    name: "host.\"NAME\"",
    about: "What is special about one host, by its server name; one table for each.",
    keys: HOST_KEYS,
};

const KEYS: &[Key] = &[
    key(
        "hosts_max",
        count(16, 10_000_000),
        "50000",
        "Hosts remembered, at about 0.2 KiB each: several times what the largest public rooms bring together.",
    ),
    key(
        "latency_half_life",
        duration(100, HOUR),
        "\"10s\"",
        "How long it takes for good news to weigh as much as the bad. Long enough to sit out a garbage-collection \
         pause, short enough that a repaired host is back within a user's patience.",
    ),
    key(
        "slow_above",
        duration(1, HOUR),
        "\"2s\"",
        "The expected latency from which a host is slow: people notice.",
    ),
    key(
        "slow_below",
        duration(1, HOUR),
        "\"1s\"",
        "The expected latency up to which a slow host is healthy again. Half of `slow_above`, so that a host at the \
         edge does not change lanes with every answer.",
    ),
    key(
        "silence_max",
        duration(100, HOUR),
        "\"5s\"",
        "How long a healthy host with requests on the wire may say nothing before it counts as slow: requests to a \
         host that has just begun to hang must not fill the open lane until the first of them times out.",
    ),
    key(
        "failures_failing",
        count(1, 1000),
        "2",
        "Failures in a row from which a host is failing: one is not an outage.",
    ),
    key(
        "failures_down",
        count(2, 1000),
        "5",
        "Requests in a row without any answer from which a host is down, if they are spread over `grace`.",
    ),
    key(
        "failures_sure",
        count(2, 1000),
        "8",
        "Requests in a row without any answer from which a host is down however soon they came.",
    ),
    key(
        "unwilling_down",
        count(2, 100_000),
        "15",
        "Answers in a row that were 429, 5xx or not what was asked for, from which a host is down. It lives, and \
         each such answer is cheap, so it takes more than silence does.",
    ),
    key(
        "grace",
        duration(0, HOUR),
        "\"1s\"",
        "Failures this close together are one failure: a restart cuts many requests at once and is not an outage.",
    ),
    key(
        "patience",
        duration(0, DAY),
        "\"2m\"",
        "How long a host must have been failing before a transaction to it is refused at once. When one is, Synapse \
         drops receipts, typing and presence.",
    ),
    key(
        "backoff_first",
        duration(100, HOUR),
        "\"3s\"",
        "The first back-off of a host that went down, before jitter.",
    ),
    key("backoff_max", duration(SECOND, DAY), "\"1h\"", "The longest back-off of a host that stays down."),
    key(
        "probe_every_max",
        duration(100, DAY),
        "\"5s\"",
        "The longest that somebody's request waits for its turn to find out whether a host is back.",
    ),
    key(
        "probe_overdue",
        duration(100, HOUR),
        "\"10s\"",
        "From what age on a probe without an outcome stands in nobody's way: it may hang on a dead connection.",
    ),
    key(
        "retry_after_max",
        duration(0, DAY),
        "\"60s\"",
        "How much of a `Retry-After` is honoured: an absurd one must not silence a host.",
    ),
    key("rate_half_life", duration(SECOND, DAY), "\"60s\"", "The half-life of the success rate."),
    key(
        "rate_failing_percent",
        count(0, 100),
        "50",
        "The success rate below which a single failure makes a host failing: it has used up its grace.",
    ),
    key(
        "forget_after",
        duration(MINUTE, 365 * DAY),
        "\"24h\"",
        "After how long without a request a host is unknown again.",
    ),
    key(
        "save_every",
        duration(SECOND, DAY),
        "\"10m\"",
        "How often a host that merely goes on as before is written to the store. Changes are written at once.",
    ),
];

const HOST_KEYS: &[Key] = &[
    key(
        "tls",
        Kind::Choice(&["modern", "legacy"]),
        "\"modern\"",
        "`legacy` speaks TLS 1.0 and 1.1 and old ciphers with this host. Everyone else stays on the modern profile.",
    ),
    key(
        "keep_connected",
        Kind::Flag,
        "false",
        "Connect to this host at the start, and keep a connection open: for a host that is asked all day, such as \
         the notary of server keys.",
    ),
];
