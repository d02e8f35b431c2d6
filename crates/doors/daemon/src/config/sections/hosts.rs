//! `[hosts]` and `[host."NAME"]`: the Host Ranker, and what is special about single hosts.

use std::collections::BTreeMap;

use southbridge_policy::ranker::RankerLimits;
use southbridge_words::ServerName;

use crate::config::key::{Key, Kind, Section, key};
use crate::config::reader::Reader;

/// What is special about one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostSettings {
    /// How TLS is spoken with it.
    pub tls: TlsProfile,
}

/// How TLS is spoken with a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsProfile {
    /// TLS 1.2 and 1.3 with good ciphers.
    Modern,
    /// TLS 1.0 and 1.1 and old ciphers as well (K22).
    Legacy,
}

/// The hosts with settings of their own.
pub type HostTable = BTreeMap<ServerName, HostSettings>;

pub(in crate::config) fn read(_reader: &Reader<'_>) -> RankerLimits {
    RankerLimits::default()
}

impl HostSettings {
    pub(in crate::config) fn read(reader: &Reader<'_>) -> Self {
        let legacy = reader.choice("tls") == "legacy";
        Self { tls: if legacy { TlsProfile::Legacy } else { TlsProfile::Modern } }
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

const KEYS: &[Key] = &[];

const HOST_KEYS: &[Key] = &[key(
    "tls",
    Kind::Choice(&["modern", "legacy"]),
    "\"modern\"",
    "`legacy` speaks TLS 1.0 and 1.1 and old ciphers with this host. Everyone else stays on the modern profile.",
)];
