//! `[well_known]` and `[resolver]`: from a server name to where it is.

use std::time::Duration;

use southbridge_bus::resolver::ResolverLimits;

use crate::config::key::{DAY, HOUR, Key, MINUTE, SECOND, Section, count, duration, key};
use crate::config::reader::Reader;

pub(in crate::config) fn read_limits(resolver: &Reader<'_>, well_known: &Reader<'_>) -> ResolverLimits {
    well_known.check_order("fresh_min", "fresh_max");
    well_known.check_order("failure_first", "failure_max");
    resolver.check_order("failure_first", "failure_max");
    // Longer than the fetch itself may take: it only makes sure that nobody waits for ever.
    let fetch_max = well_known.duration("timeout").saturating_mul(2).max(FETCH_MAX_MIN);
    ResolverLimits {
        names_max: resolver.count32("names_max"),
        well_knowns_max: well_known.count32("entries_max"),
        waiting_max: resolver.count32("waiting_max"),
        background_max: resolver.count32("background_max"),
        stale_max: resolver.duration("stale_max"),
        failure_first: resolver.duration("failure_first"),
        failure_max: resolver.duration("failure_max"),
        well_known_fresh_min: well_known.duration("fresh_min"),
        well_known_fresh_max: well_known.duration("fresh_max"),
        well_known_fresh_default: well_known.duration("fresh_default"),
        well_known_stale_max: well_known.duration("stale_max"),
        well_known_absent_max: well_known.duration("absent_max"),
        well_known_none_max: well_known.duration("none_max"),
        well_known_failure_first: well_known.duration("failure_first"),
        well_known_failure_max: well_known.duration("failure_max"),
        fetch_max,
        lookup_max: resolver.duration("lookup_max"),
        explanations_max: resolver.count32("explanations_max"),
        targets_max: resolver.count32("targets_max") as usize,
        addresses_per_target_max: resolver.count32("addresses_per_target_max") as usize,
        endpoints_max: resolver.count32("endpoints_max") as usize,
    }
}

/// The keys of `[well_known]`.
pub const SECTION: Section = Section {
    name: "well_known",
    about: "Delegation by `https://NAME/.well-known/matrix/server`.",
    keys: KEYS,
};

/// The keys of `[resolver]`.
pub const RESOLVER_SECTION: Section = Section {
    name: "resolver",
    about: "The Federation Resolver: what is remembered of the way from a server name to its addresses.",
    keys: RESOLVER_KEYS,
};

const KEYS: &[Key] = &[
    key(
        "timeout",
        duration(100, MINUTE),
        "\"8s\"",
        "How long the whole fetch may take, redirects included. Synapse gives its interactive queries 10 seconds in \
         all, and a dead web server must leave time for the SRV records.",
    ),
    key("fresh_min", duration(0, DAY), "\"5m\"", "The least time a delegation is believed, as Synapse does."),
    key(
        "fresh_max",
        duration(MINUTE, 2 * DAY),
        "\"48h\"",
        "The longest time a delegation is believed: the specification's cap.",
    ),
    key(
        "fresh_default",
        duration(SECOND, 2 * DAY),
        "\"24h\"",
        "The time a delegation is believed when its answer does not say: the specification's recommendation.",
    ),
    key(
        "stale_max",
        duration(0, 30 * DAY),
        "\"7d\"",
        "How long past its time a delegation may stand in for a host that fails.",
    ),
    key(
        "absent_max",
        duration(0, 30 * DAY),
        "\"2d\"",
        "How long the host of a delegation may answer a clean 404 or 410 before the delegation is given up.",
    ),
    key(
        "none_max",
        duration(SECOND, HOUR),
        "\"1h\"",
        "How long a host that is not known to delegate is believed when it says so with a clean 404 or 410. Up to a \
         fifth shorter by chance. The specification's cap for errors.",
    ),
    key(
        "failure_first",
        duration(SECOND, HOUR),
        "\"2m\"",
        "How long the first failed fetch is remembered; doubles. Short, because one failure says little.",
    ),
    key(
        "failure_max",
        duration(SECOND, HOUR),
        "\"1h\"",
        "The longest time a failed fetch is remembered: the specification's cap.",
    ),
    key(
        "entries_max",
        count(64, 10_000_000),
        "20000",
        "Hosts remembered, at about 0.1 KiB each; the oldest make room.",
    ),
];

const RESOLVER_KEYS: &[Key] = &[
    key(
        "names_max",
        count(64, 10_000_000),
        "20000",
        "Results remembered, at about 0.2 KiB each; the oldest make room.",
    ),
    key("waiting_max", count(1, 1_000_000), "20000", "Requests waiting for a result in all."),
    key(
        "background_max",
        count(1, 10_000),
        "32",
        "Refreshes under way in the background: few, so that they never crowd out requests.",
    ),
    key(
        "stale_max",
        duration(0, 30 * DAY),
        "\"24h\"",
        "How long a result may stand in when resolving anew fails.",
    ),
    key(
        "failure_first",
        duration(10, HOUR),
        "\"1s\"",
        "How long the first failure to resolve is remembered; doubles.",
    ),
    key("failure_max", duration(10, HOUR), "\"60s\"", "The longest time a failure to resolve is remembered."),
    key(
        "lookup_max",
        duration(SECOND, 10 * MINUTE),
        "\"30s\"",
        "How long a DNS lookup is waited for that nobody answers for. DNS has a shorter timeout of its own.",
    ),
    key("explanations_max", count(1, 1000), "16", "Explanations (`southbridge resolve`) in progress."),
    key("targets_max", count(1, 1000), "16", "Targets used of one SRV answer, the best first."),
    key("addresses_per_target_max", count(1, 1000), "16", "Addresses used of one target."),
    key("endpoints_max", count(1, 1000), "32", "Endpoints in one result."),
];

const FETCH_MAX_MIN: Duration = Duration::from_secs(40);
