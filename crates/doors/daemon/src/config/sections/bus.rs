//! `[bus]`: the Federation Side Bus, and the door by which programs use it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use southbridge::bus::ResultLimits;
use southbridge::bus_door::{BodyLimits, BusDoorConfig, ConnectionLimits, SetLimits};
use southbridge_bus::externaliser::ExternaliserLimits;
use southbridge_bus::signing::SigningKeys;
use southbridge_words::{Secret, ServerName};

use crate::config::key::{
    HOUR, KIB, Key, Kind, MIB, MINUTE, SECOND, Section, count, duration, key, optional, size,
};
use crate::config::listen::{self, Listen};
use crate::config::reader::Reader;
use crate::config::secret::{SecretSource, read_key_file};

/// The settings of the bus.
#[derive(Clone)]
pub struct Bus {
    /// Whether the file has the table.
    pub given: bool,
    /// In whose name it speaks; none when there is no bus.
    pub identity: Option<Identity>,
    /// Where its door listens; empty when there is no bus, or no door to it.
    pub listen: Vec<Listen>,
    /// What callers prove themselves with.
    pub secret: SecretSource,
    /// Permissions of unix sockets.
    pub mode: u32,
    /// Connections that the system may park before they are accepted.
    pub backlog: u32,
    /// Connections at a time.
    pub connections_max: u32,
    /// How long connections may be silent.
    pub connections: ConnectionLimits,
    /// How much may come in.
    pub bodies: BodyLimits,
    /// How many destination sets are known.
    pub sets: SetLimits,
    /// Bounds and paces of the queues.
    pub limits: ExternaliserLimits,
    /// How many results are kept.
    pub results: ResultLimits,
    /// How long what is under way may take at the end.
    pub close_patience: Duration,
}

/// In whose name the bus speaks.
#[derive(Clone)]
pub struct Identity {
    /// The homeserver.
    pub server_name: ServerName,
    /// Its keys, of all key files.
    pub keys: SigningKeys,
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { listen, secret, .. } = self;
        let name = self.identity.as_ref().map(|identity| &identity.server_name);
        f.debug_struct("Bus")
            .field("server_name", &name)
            .field("listen", listen)
            .field("secret", secret)
            .finish_non_exhaustive()
    }
}

impl Bus {
    pub(in crate::config) fn read(reader: &Reader<'_>, secret: Option<Secret>, state_dir: &Path) -> Self {
        let identity = read_identity(reader);
        let listen = listen::read(reader, "listen");
        if let Some(open) = listen.iter().find(|listen| !listen.is_local()) {
            reader.refuse("listen", &format!("{open} can be reached from other machines, and the bus is for programs on this one; use loopback or a unix socket"));
        }
        if listen.iter().any(|listen| listen.tls) {
            reader.refuse("listen", "has a `tls:` address; the bus door speaks plain HTTP, give it a loopback address or a unix socket");
        }
        let made = || SecretSource::Made(state_dir.join("bus.secret"));
        let limits = read_limits(reader);
        reader.check(limits.validate());
        Self {
            limits,
            results: ResultLimits {
                results_max: reader.count32("results_max") as usize,
                ..ResultLimits::default()
            },
            close_patience: reader.duration("close_patience"),
            given: reader.is_given(),
            listen: if identity.is_some() { listen } else { Vec::new() },
            identity,
            secret: secret.map_or_else(made, SecretSource::Known),
            mode: reader.mode("mode"),
            backlog: reader.count32("backlog"),
            connections_max: reader.count32("connections_max"),
            connections: ConnectionLimits {
                idle_max: reader.duration("idle_max"),
                stall_max: reader.duration("stall_max"),
            },
            bodies: BodyLimits {
                body_bytes_max: reader.size("request_body_bytes_max"),
                bodies_bytes_max: reader.size("bodies_bytes_max"),
                body_timeout: reader.duration("body_timeout"),
            },
            sets: SetLimits {
                sets_max: reader.count32("sets_max") as usize,
                names_max: reader.count32("set_names_max") as usize,
            },
        }
    }

    /// Whether there is no bus.
    pub const fn is_off(&self) -> bool {
        self.identity.is_none()
    }

    /// The settings of the door, for callers who show `secret`.
    pub fn door(&self, secret: Secret) -> BusDoorConfig {
        BusDoorConfig {
            secret,
            connections_max: self.connections_max,
            connections: self.connections,
            bodies: self.bodies,
            sets: self.sets,
        }
    }
}

fn read_limits(reader: &Reader<'_>) -> ExternaliserLimits {
    let bytes = |name| reader.size32(name) as usize;
    let mut limits = ExternaliserLimits {
        memory_bytes_max: bytes("memory_bytes_max"),
        volatile_bytes_max: bytes("volatile_bytes_max"),
        spreads_per_second: reader.count32("spreads_per_second"),
        volatile_sends_per_second: reader.count32("volatile_sends_per_second"),
        first_contacts_per_second: reader.count32("first_contacts_per_second"),
        accepting_patience: reader.duration("accepting_patience"),
        queries_max: reader.count32("queries_max") as usize,
        query_attempt_max: reader.duration("query_attempt_max"),
        ..ExternaliserLimits::default()
    };
    limits.queue.along_bytes_max = bytes("along_bytes_max");
    limits.queue.transaction_bytes_max = bytes("transaction_bytes_max");
    limits.queue.send_timeout = reader.duration("send_timeout");
    limits.queue.items_max = reader.count32("queue_items_max") as usize;
    limits
}

fn read_identity(reader: &Reader<'_>) -> Option<Identity> {
    let files = reader.paths("signing_key_file");
    let keys = read_keys(&files).map_err(|why| reader.refuse("signing_key_file", &why)).ok().flatten();
    let name = reader.text("server_name")?;
    if files.is_empty() {
        reader.refuse(
            "server_name",
            "needs signing_key_file as well: the file of Synapse's `signing_key_path`, or of another homeserver's key in that format",
        );
    }
    let parsed = ServerName::parse(&name);
    let server_name = parsed.map_err(|error| reader.refuse("server_name", &error.to_string())).ok()?;
    Some(Identity { server_name, keys: keys? })
}

/// The keys in `files`; none when there are no files.
fn read_keys(files: &[PathBuf]) -> Result<Option<SigningKeys>, String> {
    let mut all = String::new();
    let mut keys = None;
    for file in files {
        let text = read_key_file(file)?;
        let in_file = |why: String| format!("key file {}: {why}", file.display());
        let text = std::str::from_utf8(text.expose()).map_err(|_| in_file("is not text".to_owned()))?;
        SigningKeys::parse(text).map_err(|error| in_file(error.to_string()))?;
        // Together they must make sense as well: a version stands for one key.
        all.push_str(text);
        all.push('\n');
        keys = Some(
            SigningKeys::parse(&all).map_err(|error| in_file(format!("with those before it: {error}")))?,
        );
    }
    Ok(keys)
}

/// The keys of `[bus]`.
pub const SECTION: Section = Section {
    name: "bus",
    about: "The Federation Side Bus: it takes PDUs, EDUs and queries from a homeserver on this machine, signs them, and \
            sends them until they are delivered. There is none unless `server_name` is given.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    optional(
        "server_name",
        Kind::Text,
        "no bus",
        "The homeserver in whose name the bus speaks: the `server_name` of Synapse's configuration.",
    ),
    key(
        "signing_key_file",
        Kind::Paths,
        "[]",
        "The file with its signing keys, in the format of Synapse's `signing_key_path`; or several files. May be \
         readable by their owner and group only. Requests are signed with every key that has not expired.",
    ),
    key(
        "listen",
        Kind::Listen,
        "\"127.0.0.1:9103\"",
        "Where programs reach the bus: an address on loopback, or `unix:PATH`. An empty list closes the door. Sockets \
         passed by systemd under the name `bus` take the place of its entries.",
    ),
    optional(
        "secret",
        Kind::Secret,
        "`secret_file`",
        "What callers send as `Authorization: Bearer`. A file is better: configurations get copied.",
    ),
    optional(
        "secret_file",
        Kind::Path,
        "`bus.secret` in the state directory, which is made with random content if there is none",
        "A file with the secret. May be readable by its owner and group only. Whoever knows it can speak in the name of \
         the homeserver.",
    ),
    key("mode", Kind::Mode, "\"0660\"", "Permissions of unix sockets."),
    key("backlog", count(1, 65_535), "1024", "Connections that the system parks until they are accepted."),
    key(
        "connections_max",
        count(1, 100_000),
        "1024",
        "Connections served at a time; those above wait in the backlog. Callers keep connections, and need one for each \
         request they have under way and for each stream of results.",
    ),
    key(
        "idle_max",
        duration(SECOND, 24 * HOUR),
        "\"2m\"",
        "How long a kept connection may wait for its next request. Longer than HTTP libraries keep theirs, so that they \
         close first and no request is written into a closing connection.",
    ),
    key(
        "stall_max",
        duration(SECOND, HOUR),
        "\"2m\"",
        "How long a caller may go without reading anything of an answer or a stream.",
    ),
    key(
        "body_timeout",
        duration(100, 10 * MINUTE),
        "\"30s\"",
        "How long the body of a request may take. Programs on the same machine send it at once.",
    ),
    key(
        "request_body_bytes_max",
        size(KIB, 1024 * MIB),
        "\"16MiB\"",
        "The largest body of a request. A message to 10,000 homeservers that are all named with it has 300 KB.",
    ),
    key(
        "bodies_bytes_max",
        size(KIB, 64 * 1024 * MIB),
        "\"64MiB\"",
        "The bodies of all requests held at a time; past it new requests are answered 503 at once.",
    ),
    key(
        "sets_max",
        count(1, 1_000_000),
        "4096",
        "Destination sets known by a name: the rooms that are busy at a time. The longest unused is forgotten.",
    ),
    key(
        "set_names_max",
        count(1, 100_000_000),
        "1000000",
        "Destinations in all sets together, at about 60 bytes each.",
    ),
    key(
        "transaction_bytes_max",
        size(32 * KIB, 16 * MIB),
        "\"1MiB\"",
        "The size of a transaction, besides 50 PDUs and 100 EDUs. Homeservers behind a CDN refuse larger ones; those that \
         refuse even this get smaller ones, by themselves.",
    ),
    key(
        "send_timeout",
        duration(SECOND, HOUR),
        "\"90s\"",
        "How long a transaction may take until the head of its answer: Synapse's 60 seconds, and half as much for waiting \
         on our side.",
    ),
    key(
        "queue_items_max",
        count(1, 100_000),
        "100",
        "Messages in memory for one destination: two transactions. The rest lies in the outbox and is read back.",
    ),
    key(
        "memory_bytes_max",
        size(MIB, 2048 * MIB),
        "\"64MiB\"",
        "Messages in memory for all destinations. Beyond that queues remember only how far they go, and read back.",
    ),
    key(
        "volatile_bytes_max",
        size(MIB, 2048 * MIB),
        "\"256MiB\"",
        "Typing, presence and receipts in memory for all destinations. Beyond that the oldest are dropped, and counted.",
    ),
    key(
        "spreads_per_second",
        count(1, 10_000_000),
        "400000",
        "How many destinations are given a state of typing, presence or receipts in a second, each counted for each state: \
         an eighth of the I/O thread. What is beyond that waits, and a newer state takes its place.",
    ),
    key(
        "volatile_sends_per_second",
        count(1, 1_000_000),
        "1000",
        "Transactions begun in a second for the sake of typing, presence and receipts alone: an eighth of the I/O thread. \
         The fewer begin, the more of them share one. Raise it when other homeservers see them late and a processor is idle.",
    ),
    key(
        "along_bytes_max",
        size(0, 16 * MIB),
        "\"4KiB\"",
        "Typing, presence and receipts that go along with a message: as many bytes as a message has itself. If more wait \
         for its destination they go with the next transaction, and the message as the same bytes to everybody.",
    ),
    key(
        "first_contacts_per_second",
        count(1, 1_000_000),
        "500",
        "Destinations contacted for the first time after a start, each second: ten thousand within 20 seconds, and no \
         herd.",
    ),
    key(
        "accepting_patience",
        duration(100, 10 * MINUTE),
        "\"10s\"",
        "How long a submission waits for an outbox that does not answer before it is refused. Its caller still has it.",
    ),
    key("queries_max", count(1, 1_000_000), "10000", "Queries under way at a time."),
    key(
        "query_attempt_max",
        duration(SECOND, HOUR),
        "\"60s\"",
        "How long one attempt of a query may take. The query as a whole has the timeout that its caller gives.",
    ),
    key(
        "results_max",
        count(1, 10_000_000),
        "20000",
        "Results kept for readers of the stream that come back: a message to 10,000 homeservers, twice. Who comes back \
         later is told that there is a gap.",
    ),
    key(
        "close_patience",
        duration(0, HOUR),
        "\"10s\"",
        "How long transactions under way may take to end when Southbridge stops or hands over. What is cut off is sent \
         again as it was.",
    ),
];
