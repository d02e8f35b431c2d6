//! `[addresses]`: where connections may go.

use std::time::Duration;

use ipnet::IpNet;

use crate::config::key::{Key, Kind, MINUTE, Section, duration, key};
use crate::config::reader::Reader;

/// The settings of the address policy and of dialling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Exceptions to what is denied.
    pub allow: Vec<IpNet>,
    /// Denied in addition to the built-in list.
    pub deny: Vec<IpNet>,
    /// How long reaching one address may take.
    pub connect_timeout: Duration,
    /// How long one address is waited for before the next is tried beside it.
    pub racing_delay: Duration,
}

impl Addresses {
    pub(in crate::config) fn read(reader: &Reader<'_>) -> Self {
        Self {
            allow: reader.networks("allow"),
            deny: reader.networks("deny"),
            connect_timeout: reader.duration("connect_timeout"),
            racing_delay: reader.duration("racing_delay"),
        }
    }
}

/// The keys of `[addresses]`.
pub const SECTION: Section = Section {
    name: "addresses",
    about: "Which addresses may be connected to, checked on the final address whatever led there. Private, loopback, \
            link-local, mapped and translated ranges are denied by default.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    key(
        "allow",
        Kind::Networks,
        "[]",
        "Exceptions to what is denied, for instance the network of a closed federation.",
    ),
    key(
        "deny",
        Kind::Networks,
        "[]",
        "Networks denied in addition to the built-in ones. Denying wins over `allow`.",
    ),
    key(
        "connect_timeout",
        duration(100, 5 * MINUTE),
        "\"10s\"",
        "How long reaching a host may take, over all its addresses.",
    ),
    key(
        "racing_delay",
        duration(10, 10_000),
        "\"250ms\"",
        "How long one address is waited for before the next is tried beside it (RFC 8305).",
    ),
];
