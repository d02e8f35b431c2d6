//! `[synapse]`: the door for Synapse's outbound federation.

use std::fmt;
use std::time::Duration;

use southbridge_kernel::tls::ServerTls;

use crate::config::key::{
    HOUR, KIB, Key, Kind, MIB, MINUTE, SECOND, Section, count, duration, key, optional, size,
};
use crate::config::listen::{self, Listen};
use crate::config::reader::Reader;
use crate::config::secret::SecretSource;

/// The settings of the door for Synapse.
#[derive(Clone)]
pub struct Synapse {
    /// Where it listens; empty when there is no such door.
    pub listen: Vec<Listen>,
    /// What callers prove themselves with.
    pub secret: SecretSource,
    /// What `tls:` listeners speak.
    pub tls: Option<ServerTls>,
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
    /// Bytes of a request's body.
    pub request_body_bytes_max: u64,
    /// Bytes of all request bodies held at a time.
    pub bodies_bytes_max: u64,
    /// How long a caller may go without reading.
    pub stall_max: Duration,
    /// Redirects followed for one media download.
    pub redirects_max: u32,
    /// How long requests in flight may take to finish at a stop or hand-over.
    pub drain_time: Duration,
}

impl fmt::Debug for Synapse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { listen, secret, .. } = self;
        f.debug_struct("Synapse").field("listen", listen).field("secret", secret).finish_non_exhaustive()
    }
}

impl Synapse {
    pub(in crate::config) fn read(reader: &Reader<'_>, secret: SecretSource) -> Self {
        let listen = listen::read(reader, "listen");
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
            request_body_bytes_max: reader.size("request_body_bytes_max"),
            bodies_bytes_max: reader.size("bodies_bytes_max"),
            stall_max: reader.duration("stall_max"),
            redirects_max: reader.count32("redirects_max"),
            drain_time: reader.duration("drain_time"),
        }
    }
}

fn read_tls(reader: &Reader<'_>, listen: &[Listen]) -> Option<ServerTls> {
    let wanted = listen.iter().any(|listen| listen.tls);
    let (certificate, key) = match (reader.path("tls_certificate"), reader.path("tls_key")) {
        (Some(certificate), Some(key)) => (certificate, key),
        (None, None) if !wanted => return None,
        (certificate, _) => {
            let missing = if certificate.is_none() { "tls_certificate" } else { "tls_key" };
            reader.refuse(missing, "is needed for `tls:` listeners, together with its other half");
            return None;
        }
    };
    let loaded = ServerTls::load(&certificate, &key);
    loaded.map_err(|error| reader.refuse("tls_certificate", &error.to_string())).ok()
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
        "10000",
        "Connections from Synapse served at a time, at about 16 KiB each; those above wait in the backlog. One for \
         each homeserver of a large federation.",
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
        "request_body_bytes_max",
        size(KIB, 1024 * MIB),
        "\"16MiB\"",
        "The largest body of a request. Peers refuse more than 12.5 MiB.",
    ),
    key(
        "bodies_bytes_max",
        size(KIB, 64 * 1024 * MIB),
        "\"256MiB\"",
        "The bodies of all requests held at a time; past it new requests are answered 503 at once.",
    ),
    key(
        "stall_max",
        duration(SECOND, HOUR),
        "\"2m\"",
        "How long Synapse may go without reading anything of a response: twice what it gives itself for a body.",
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
