//! `[pool]`: the Connection Pool.

use southbridge_policy::pool::{InvalidPoolLimits, PoolLimits};
use southbridge_words::{Class, PerClass};

use crate::config::key::{HOUR, Key, SECOND, Section, count, duration, key};
use crate::config::reader::Reader;

pub(in crate::config) fn read(reader: &Reader<'_>) -> PoolLimits {
    let mut weights = PerClass::default();
    for class in Class::ALL {
        weights[class] = reader.count32(&format!("weight_{}", class.name()));
    }
    let usual = PoolLimits::default();
    let connections_max = reader.count32("connections_max");
    let dials_max = at_most(reader, "dials_max", connections_max);
    let handshakes_max = at_most(reader, "handshakes_max", connections_max);
    let waiting_max = reader.count32("waiting_max");
    let limits = PoolLimits {
        connections_max,
        dials_max,
        handshakes_max,
        limited_dials_max: part_of(reader, "limited_dials_max", dials_max, usual.dials_max),
        limited_handshakes_max: part_of(
            reader,
            "limited_handshakes_max",
            handshakes_max,
            usual.handshakes_max,
        ),
        limited_connections_max: part_of(
            reader,
            "limited_connections_max",
            connections_max,
            usual.connections_max,
        ),
        exclusive_per_peer_max: at_most(reader, "exclusive_per_peer_max", connections_max),
        shared_per_peer_max: at_most(reader, "shared_per_peer_max", connections_max),
        waiting_max,
        waiting_per_peer_max: part_of(reader, "waiting_per_peer_max", waiting_max, usual.waiting_max),
        idle_per_peer_max: reader.count32("idle_per_peer_max"),
        idle_max: reader.duration("idle_max"),
        dial_patience: reader.duration("dial_patience"),
        handshake_patience: reader.duration("handshake_patience"),
        lease_max: reader.duration("lease_max"),
        weights,
    };
    match limits.validate() {
        Err(InvalidPoolLimits::Contradiction { field, value, bound_field, bound }) => {
            reader.refuse(field, &format!("{value} is more than {bound_field}, which is {bound}"));
        }
        Err(other) => reader.refuse_table(&other.to_string()),
        Ok(()) => {}
    }
    limits
}

/// What stands at `name`; where nothing does, its default, but no more than `bound`: whoever lowers the whole need not
/// know all its parts.
fn at_most(reader: &Reader<'_>, name: &str, bound: u32) -> u32 {
    let value = reader.count32(name);
    if reader.has(name) { value } else { value.min(bound) }
}

/// What stands at `name`; where nothing does and `whole` is less than `usual`, as great a part of `whole` as the default
/// is of `usual`, so that something is left for the open lane, and for other peers.
fn part_of(reader: &Reader<'_>, name: &str, whole: u32, usual: u32) -> u32 {
    let value = reader.count32(name);
    if reader.has(name) || whole >= usual {
        return value;
    }
    let part = u64::from(value) * u64::from(whole) / u64::from(usual);
    u32::try_from(part).unwrap_or(value).max(1)
}

/// The keys of `[pool]`.
pub const SECTION: Section = Section {
    name: "pool",
    about: "The Connection Pool: how many connections are open, being opened, and waited for. The limited lane is for \
            hosts that are slow, failing or unknown; what it holds, healthy hosts cannot use. Bounds that are not \
            written follow those that are: with `connections_max = 100` there are 100 dials at most, 75 of them for \
            the limited lane.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    key(
        "connections_max",
        count(1, 1_000_000),
        "4096",
        "Connections in all, from dial to close. About 128 MiB at 32 KiB each when all are in use, far less when idle; \
         must fit the limit of open descriptors together with those of the doors.",
    ),
    key(
        "dials_max",
        count(1, 65_535),
        "1024",
        "Connections whose TCP handshake is in progress. A silent host holds one for seconds, so many must fit for \
         the others to go on; while it waits, one costs a descriptor and no CPU.",
    ),
    key(
        "handshakes_max",
        count(1, 65_535),
        "128",
        "TLS handshakes in progress. Each waits for some hundred milliseconds and costs a third of one of CPU, so what \
         completes together delays everything else by some 40 ms at most.",
    ),
    key(
        "limited_dials_max",
        count(1, 65_535),
        "768",
        "How many of the dials may be for the limited lane. Hosts that do not answer are most of a cold start.",
    ),
    key(
        "limited_handshakes_max",
        count(1, 65_535),
        "96",
        "How many of the TLS handshakes may be for the limited lane. On a cold start everybody is a stranger.",
    ),
    key(
        "limited_connections_max",
        count(1, 1_000_000),
        "2048",
        "How many of the connections may be lent to, or opened for, the limited lane.",
    ),
    key(
        "exclusive_per_peer_max",
        count(1, 1024),
        "8",
        "HTTP/1.1 connections to one peer, each carrying one request at a time. A little more than browsers use.",
    ),
    key(
        "shared_per_peer_max",
        count(1, 64),
        "2",
        "HTTP/2 connections to one peer. One saturates when its streams or its window are used up; more than a few \
         are unkind.",
    ),
    key(
        "waiting_max",
        count(1, 10_000_000),
        "20000",
        "Requests waiting for a connection in all: about 4 MiB. The lower classes may fill only a part of it.",
    ),
    key("waiting_per_peer_max", count(1, 1_000_000), "2000", "Requests waiting for one peer: a tenth."),
    key(
        "idle_per_peer_max",
        count(0, 1024),
        "4",
        "Idle connections kept for one peer for longer than ten seconds: half of what a burst opens. Zero keeps none at all.",
    ),
    key(
        "idle_max",
        duration(SECOND, 24 * HOUR),
        "\"90s\"",
        "How long an idle connection is kept. Servers commonly close theirs after 60 to 120 seconds.",
    ),
    key(
        "dial_patience",
        duration(SECOND, HOUR),
        "\"3s\"",
        "How long a TCP handshake may take while somebody waits for its place, which a silent host would hold; with \
         places to spare it may take longer. A SYN that was lost is sent again after one second.",
    ),
    key("handshake_patience", duration(SECOND, HOUR), "\"3s\"", "The same for a TLS handshake."),
    key(
        "lease_max",
        duration(SECOND, 2 * HOUR),
        "\"75s\"",
        "How long one request may hold a connection while somebody else waits for it: as long as a call may take.",
    ),
    key("weight_interactive", count(1, 65_536), "16", "The share of requests that a person waits for."),
    key("weight_join", count(1, 65_536), "12", "The share of joins, leaves and invites."),
    key("weight_live", count(1, 65_536), "8", "The share of transactions."),
    key("weight_repair", count(1, 65_536), "6", "The share of missing events, state and server keys."),
    key("weight_media", count(1, 65_536), "3", "The share of media."),
    key("weight_backfill", count(1, 65_536), "1", "The share of history. Never nothing: no class starves."),
];
