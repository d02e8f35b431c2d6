//! `[pool]`: the Connection Pool.

use southbridge_policy::pool::PoolLimits;
use southbridge_words::{Class, PerClass};

use crate::config::key::{HOUR, Key, SECOND, Section, count, duration, key};
use crate::config::reader::Reader;

pub(in crate::config) fn read(reader: &Reader<'_>) -> PoolLimits {
    let mut weights = PerClass::default();
    for class in Class::ALL {
        weights[class] = reader.count32(&format!("weight_{}", class.name()));
    }
    let limits = PoolLimits {
        connections_max: reader.count32("connections_max"),
        dials_max: reader.count32("dials_max"),
        handshakes_max: reader.count32("handshakes_max"),
        limited_dials_max: reader.count32("limited_dials_max"),
        limited_handshakes_max: reader.count32("limited_handshakes_max"),
        limited_connections_max: reader.count32("limited_connections_max"),
        exclusive_per_peer_max: reader.count32("exclusive_per_peer_max"),
        shared_per_peer_max: reader.count32("shared_per_peer_max"),
        waiting_max: reader.count32("waiting_max"),
        waiting_per_peer_max: reader.count32("waiting_per_peer_max"),
        idle_per_peer_max: reader.count32("idle_per_peer_max"),
        idle_max: reader.duration("idle_max"),
        lease_max: reader.duration("lease_max"),
        weights,
    };
    for (part, part_max, whole, whole_max) in [
        ("limited_dials_max", limits.limited_dials_max, "dials_max", limits.dials_max),
        ("limited_handshakes_max", limits.limited_handshakes_max, "handshakes_max", limits.handshakes_max),
        (
            "limited_connections_max",
            limits.limited_connections_max,
            "connections_max",
            limits.connections_max,
        ),
        ("waiting_per_peer_max", limits.waiting_per_peer_max, "waiting_max", limits.waiting_max),
    ] {
        if part_max > whole_max {
            reader.refuse(part, &format!("{part_max} is more than {whole}, which is {whole_max}"));
        }
    }
    limits
}

/// The keys of `[pool]`.
pub const SECTION: Section = Section {
    name: "pool",
    about: "The Connection Pool: how many connections are open, being opened, and waited for. The limited lane is for \
            hosts that are slow, failing or unknown; what it holds, healthy hosts cannot use.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    key(
        "connections_max",
        count(1, 1_000_000),
        "8192",
        "Connections in all. 25 KiB each, so 200 MiB at the bound; must fit the limit of open descriptors.",
    ),
    key(
        "dials_max",
        count(1, 65_535),
        "1024",
        "Connections whose TCP handshake is in progress. A silent host holds one for seconds.",
    ),
    key(
        "handshakes_max",
        count(1, 65_535),
        "128",
        "TLS handshakes in progress. Each costs a third of a millisecond of CPU and waits for the far side.",
    ),
    key("limited_dials_max", count(1, 65_535), "768", "How many of the dials may be for the limited lane."),
    key(
        "limited_handshakes_max",
        count(1, 65_535),
        "96",
        "How many of the TLS handshakes may be for the limited lane.",
    ),
    key(
        "limited_connections_max",
        count(1, 1_000_000),
        "4096",
        "How many of the connections may be for the limited lane.",
    ),
    key(
        "exclusive_per_peer_max",
        count(1, 1024),
        "8",
        "HTTP/1.1 connections to one peer, each carrying one request at a time.",
    ),
    key(
        "shared_per_peer_max",
        count(1, 64),
        "2",
        "HTTP/2 connections to one peer. One saturates; two are enough.",
    ),
    key(
        "waiting_max",
        count(1, 10_000_000),
        "65536",
        "Requests waiting for a connection in all; past it they are refused at once.",
    ),
    key("waiting_per_peer_max", count(1, 1_000_000), "1024", "Requests waiting for one peer."),
    key("idle_per_peer_max", count(0, 1024), "2", "Idle connections kept for one peer."),
    key(
        "idle_max",
        duration(0, 24 * HOUR),
        "\"60s\"",
        "How long an idle connection is kept. Many servers close theirs after 60 to 75 seconds.",
    ),
    key(
        "lease_max",
        duration(SECOND, 2 * HOUR),
        "\"2m\"",
        "How long one request may hold a connection while somebody else waits for it.",
    ),
    key("weight_interactive", count(1, 10_000), "32", "The share of requests that a person waits for."),
    key("weight_join", count(1, 10_000), "16", "The share of joins, leaves and invites."),
    key("weight_live", count(1, 10_000), "16", "The share of transactions."),
    key("weight_repair", count(1, 10_000), "8", "The share of missing events, state and server keys."),
    key("weight_media", count(1, 10_000), "4", "The share of media."),
    key("weight_backfill", count(1, 10_000), "1", "The share of history. Never nothing: no class starves."),
];
