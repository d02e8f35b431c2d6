//! `[keys]`: the keys of other homeservers, and who is asked for them.

use southbridge::bus::KeysConfig;
use southbridge_bus::keyring::{First, KeyringLimits, Sources};

use crate::config::key::{DAY, Key, Kind, MIB, MINUTE, SECOND, Section, count, duration, key, size};
use crate::config::key_servers;
use crate::config::reader::Reader;

/// The settings of the keyring.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Whether the file has the table.
    pub given: bool,
    /// What they come to.
    pub config: KeysConfig,
}

impl Keys {
    pub(in crate::config) fn read(reader: &Reader<'_>) -> Self {
        let servers = reader.list("trusted_key_servers", key_servers::read);
        let twice = servers
            .iter()
            .enumerate()
            .find(|(place, notary)| servers[..*place].iter().any(|before| before.server == notary.server));
        if let Some((_, notary)) = twice {
            reader.refuse("trusted_key_servers", &format!("{} stands there twice", notary.server));
        }
        let agreement_min = reader.count32("agreement_min") as usize;
        if agreement_min > servers.len().max(1) {
            let text = format!(
                "{agreement_min} notaries cannot agree where there are {}: no key would ever be believed; name more in \
                 trusted_key_servers",
                servers.len()
            );
            reader.refuse("agreement_min", &text);
        }
        let first = match reader.choice("ask_first") {
            "notaries" => First::Notaries,
            _ => First::Origin,
        };
        reader.check_order("failure_first", "failure_max");
        let limits = KeyringLimits {
            servers_max: reader.count32("servers_max") as usize,
            bytes_max: reader.size32("memory_bytes_max") as usize,
            waiting_max: reader.count32("waiting_max") as usize,
            origin_fetches_max: reader.count32("fetches_max") as usize,
            batch_max: reader.count32("batch_max") as usize,
            believed_max: reader.duration("believed_max"),
            failure_first: reader.duration("failure_first"),
            failure_max: reader.duration("failure_max"),
            ..KeyringLimits::default()
        };
        let sources = Sources { first, notaries: servers, agreement_min };
        let config = KeysConfig { limits, sources, fetch_timeout: reader.duration("fetch_timeout") };
        Self { given: reader.is_given(), config }
    }
}

/// The keys of `[keys]`.
pub const SECTION: Section = Section {
    name: "keys",
    about: "The public keys of other homeservers, by which the bus checks what they signed. They are fetched when \
            something is to be checked, and kept over a restart in the file of `[storage]`.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    key(
        "trusted_key_servers",
        Kind::KeyServers,
        "[]",
        "Notaries: homeservers that vouch for the keys of others, in the order they are asked, each for what those before \
         it did not answer. As in Synapse's `trusted_key_servers`: with `verify_keys` only what is signed with those is \
         believed, without them the notary's own keys are fetched from itself. Without notaries, events of servers that \
         are gone cannot be checked; with one, it learns whom this server has to do with, and is why there is none by \
         default. Synapse's own default is `matrix.org`.",
    ),
    key(
        "ask_first",
        Kind::Choice(&["origin", "notaries"]),
        "\"origin\"",
        "Who is asked first: the server whose keys they are, which nobody can lie for; or the notaries, which takes \
         fewer connections where events of hundreds of servers come at once.",
    ),
    key(
        "agreement_min",
        count(1, 16),
        "1",
        "How many notaries must say the same of a key before it is believed. With 2 or more, one that lies, or is lied \
         to, achieves nothing.",
    ),
    key(
        "fetch_timeout",
        duration(100, 10 * MINUTE),
        "\"10s\"",
        "How long one request for keys may take, finding the server included. A server that is there answers within one \
         second; the time of whoever waits must suffice for a notary after a dead server.",
    ),
    key(
        "fetches_max",
        count(1, 10_000),
        "64",
        "Servers asked for their keys at a time; further ones wait for their turn. An answer has at most 64 KiB.",
    ),
    key(
        "batch_max",
        count(1, 1_000),
        "32",
        "Servers in one query to a notary, whose answer has at most 1 MiB.",
    ),
    key(
        "believed_max",
        duration(MINUTE, 7 * DAY),
        "\"7d\"",
        "The longest time that a key is believed without being asked for anew, whatever its server says: the cap of the \
         specification. Keys in use are asked for anew in the second half of their life.",
    ),
    key(
        "failure_first",
        duration(SECOND, DAY),
        "\"10s\"",
        "How long a server or notary that could not be asked is left alone; doubles up to `failure_max`.",
    ),
    key(
        "failure_max",
        duration(SECOND, DAY),
        "\"1h\"",
        "The longest time that one is left alone: what it signed meanwhile cannot be checked, so not long.",
    ),
    key(
        "servers_max",
        count(16, 10_000_000),
        "20000",
        "Servers remembered, in memory and in the file; the longest unused is forgotten. About 0.4 KiB each.",
    ),
    key("memory_bytes_max", size(MIB, 2048 * MIB), "\"16MiB\"", "What they may take in memory."),
    key(
        "waiting_max",
        count(1, 10_000_000),
        "20000",
        "Keys waited for at a time; whoever comes above that is told to ask again.",
    ),
];
