//! `[synapse]`: the door for Synapse's outbound federation.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::key::{
    HOUR, KIB, Key, Kind, MIB, MINUTE, SECOND, Section, count, duration, key, optional, size,
};
use crate::config::listen::Listen;
use crate::config::reader::Reader;
use crate::config::secret::SecretSource;

/// The settings of the door for Synapse.
#[derive(Clone, Debug)]
pub struct Synapse {
    /// Where it listens; empty when there is no such door.
    pub listen: Vec<Listen>,
    /// What callers prove themselves with.
    pub secret: SecretSource,
    /// The certificate chain and key of `tls:` listeners.
    pub tls: Option<TlsFiles>,
    /// Permissions of unix sockets.
    pub mode: u32,
    /// Connections that the system may park before they are accepted.
    pub backlog: u32,
    /// Connections open at a time.
    pub connections_max: u32,
    /// From the first byte of a request to the head of its response.
    pub request_timeout: Duration,
    /// From the first byte of a connection to the end of the request's head.
    pub head_timeout: Duration,
    /// Bytes of a request's head.
    pub head_bytes_max: u64,
    /// Bytes of a request's body.
    pub request_bytes_max: u64,
    /// Redirects followed for one media download.
    pub redirects_max: u32,
    /// How long requests in flight may take to finish at a stop or hand-over.
    pub drain_time: Duration,
}

/// A certificate chain and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl Synapse {
    pub(in crate::config) fn read(reader: &Reader<'_>, secret: SecretSource) -> Self {
        let listen = reader.listen("listen");
        let tls = read_tls(reader, &listen);
        Self {
            listen,
            secret,
            tls,
            mode: reader.mode("mode"),
            backlog: reader.count32("backlog"),
            connections_max: reader.count32("connections_max"),
            request_timeout: reader.duration("request_timeout"),
            head_timeout: reader.duration("head_timeout"),
            head_bytes_max: reader.size("head_bytes_max"),
            request_bytes_max: reader.size("request_bytes_max"),
            redirects_max: reader.count32("redirects_max"),
            drain_time: reader.duration("drain_time"),
        }
    }
}

fn read_tls(reader: &Reader<'_>, listen: &[Listen]) -> Option<TlsFiles> {
    let files = (reader.path("tls_certificate"), reader.path("tls_key"));
    let wanted = listen.iter().any(|listen| listen.tls);
    for (name, path) in [("tls_certificate", &files.0), ("tls_key", &files.1)] {
        match path {
            Some(path) if let Err(error) = std::fs::File::open(path) => {
                reader.refuse(name, &format!("{} cannot be read: {error}", path.display()));
            }
            None if wanted || reader.has("tls_certificate") || reader.has("tls_key") => {
                reader.refuse(name, "is needed for `tls:` listeners, together with its other half");
            }
            _ => {}
        }
    }
    files.0.zip(files.1).map(|(certificate, key)| TlsFiles { certificate, key })
}

/// The keys of `[synapse]`.
pub const SECTION: Section = Section {
    name: "synapse",
    about: "The door for Synapse's outbound federation (`outbound_federation_restricted_to`).",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    key(
        "listen",
        Kind::Listen,
        "\"127.0.0.1:9101\"",
        "Where Synapse connects to. `unix:PATH` for a unix socket, `tls:ADDRESS` for TLS; an empty list closes the \
         door. Sockets passed by systemd take the place of the entry with their address, or else of the entries in \
         order. Loopback, because whoever reaches the door needs only the secret.",
    ),
    optional(
        "secret",
        Kind::Secret,
        "`secret_file`",
        "The value of Synapse's `worker_replication_secret`. A file is better: configurations get copied.",
    ),
    optional(
        "secret_file",
        Kind::Path,
        "the environment's `SOUTHBRIDGE_SECRET`, or else `proxy.secret` in the state directory, which is made with \
         random content if there is none",
        "A file with the secret, for instance the one that Synapse's `worker_replication_secret_path` names. May be \
         readable by its owner and group only.",
    ),
    optional("tls_certificate", Kind::Path, "no TLS", "The certificate chain for `tls:` listeners (PEM)."),
    optional("tls_key", Kind::Path, "no TLS", "The private key for `tls:` listeners (PEM)."),
    key(
        "mode",
        Kind::Mode,
        "\"0660\"",
        "Permissions of unix sockets. Synapse shares a group with Southbridge.",
    ),
    key(
        "backlog",
        count(1, 65_535),
        "4096",
        "Connections that the system parks until they are accepted. Synapse opens one for each request, and takes a \
         refused one for a dead destination; the system's own bound is `net.core.somaxconn`.",
    ),
    key(
        "connections_max",
        count(1, 1_000_000),
        "16384",
        "Connections from Synapse open at a time. Further ones wait in the backlog. Above the number of \
         destinations of a large server, since Synapse sends to all of them at once.",
    ),
    key(
        "request_timeout",
        duration(SECOND, HOUR),
        "\"75s\"",
        "How long a request may take until the head of its response. Above Synapse's own 60 seconds, so that its \
         timer, which resets the connection, decides first; below it would only hide a slow host's answer.",
    ),
    key(
        "head_timeout",
        duration(100, 10 * MINUTE),
        "\"10s\"",
        "How long a caller may take to send the head of its request. Synapse sends it in one write.",
    ),
    key(
        "head_bytes_max",
        size(KIB, MIB),
        "\"64KiB\"",
        "The largest head of a request. Synapse sends one line for each of its signing keys.",
    ),
    key(
        "request_bytes_max",
        size(KIB, 1024 * MIB),
        "\"64MiB\"",
        "The largest body of a request. A transaction of 50 PDUs and 100 EDUs has less than 10 MiB.",
    ),
    key(
        "redirects_max",
        count(0, 10),
        "3",
        "Redirects followed for one media download. They are never handed to Synapse, which would follow them \
         without checking addresses.",
    ),
    key(
        "drain_time",
        duration(0, HOUR),
        "\"30s\"",
        "How long requests in flight may take to finish when Southbridge stops or hands over. Below systemd's \
         `TimeoutStopSec` of 90 seconds.",
    ),
];
