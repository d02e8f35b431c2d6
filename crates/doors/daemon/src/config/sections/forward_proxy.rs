//! `[forward_proxy]`: the door for Synapse's other HTTP.

use std::time::Duration;

use southbridge_words::Secret;

use crate::config::key::{
    HOUR, KIB, Key, Kind, MIB, MINUTE, SECOND, Section, count, duration, key, optional, size,
};
use crate::config::listen::Listen;
use crate::config::reader::Reader;
use crate::config::value::PortRange;

/// The settings of the forward proxy.
#[derive(Clone, Debug)]
pub struct ForwardProxy {
    /// Where it listens; empty when there is no such door.
    pub listen: Vec<Listen>,
    /// Permissions of unix sockets.
    pub mode: u32,
    /// Connections that the system may park before they are accepted.
    pub backlog: u32,
    /// Who may use it; everyone who reaches it when there is none.
    pub credentials: Option<Credentials>,
    /// Ports that may be connected to.
    pub ports: Vec<PortRange>,
    /// Tunnels and requests at a time.
    pub connections_max: u32,
    /// From the request to an open connection.
    pub connect_timeout: Duration,
    /// How long a tunnel may be silent.
    pub idle_max: Duration,
    /// From the first byte to the end of a request's head.
    pub head_timeout: Duration,
    /// Bytes of a request's head.
    pub head_bytes_max: u64,
}

/// A user name and password (`Proxy-Authorization: Basic`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: Secret,
}

impl ForwardProxy {
    pub(in crate::config) fn read(reader: &Reader<'_>, password: Option<Secret>) -> Self {
        let listen = reader.listen("listen");
        let username = reader.text("username").unwrap_or_else(|| "synapse".to_owned());
        if username.is_empty()
            || username.contains(':')
            || !username.bytes().all(|byte| byte.is_ascii_graphic())
        {
            reader.refuse("username", "must be letters, digits and signs without `:`");
        }
        if reader.has("username") && password.is_none() {
            reader.refuse("username", "needs a password as well; set password_file");
        }
        if listen.iter().any(|listen| listen.tls) {
            reader.refuse("listen", "has a `tls:` address; the forward proxy speaks plain HTTP, give it a loopback address or a unix socket");
        }
        if password.is_none()
            && let Some(open) = listen.iter().find(|listen| !listen.is_local())
        {
            reader.refuse(
                "listen",
                &format!(
                    "{open} can be reached from other machines; set password_file, or listen on loopback"
                ),
            );
        }
        Self {
            listen,
            mode: reader.mode("mode"),
            backlog: reader.count32("backlog"),
            credentials: password.map(|password| Credentials { username, password }),
            ports: reader.ports("ports"),
            connections_max: reader.count32("connections_max"),
            connect_timeout: reader.duration("connect_timeout"),
            idle_max: reader.duration("idle_max"),
            head_timeout: reader.duration("head_timeout"),
            head_bytes_max: reader.size("head_bytes_max"),
        }
    }
}

/// The keys of `[forward_proxy]`.
pub const SECTION: Section = Section {
    name: "forward_proxy",
    about: "The door for Synapse's other HTTP (`https_proxy`, `http_proxy`): CONNECT and absolute-form requests. \
            Closed unless `listen` is given.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    key(
        "listen",
        Kind::Listen,
        "[]",
        "Where the forward proxy listens. Off by default: push gateways, identity servers, application services and \
         URL previews work without it.",
    ),
    key("mode", Kind::Mode, "\"0660\"", "Permissions of unix sockets."),
    key("backlog", count(1, 65_535), "1024", "Connections that the system parks until they are accepted."),
    optional(
        "username",
        Kind::Text,
        "`synapse`",
        "The user name in Synapse's proxy URL, `http://USERNAME:PASSWORD@127.0.0.1:9102`.",
    ),
    optional(
        "password",
        Kind::Secret,
        "no authentication, which is allowed on loopback and unix sockets only",
        "The password in Synapse's proxy URL. A file is better.",
    ),
    optional(
        "password_file",
        Kind::Path,
        "no authentication, which is allowed on loopback and unix sockets only",
        "A file with the password. May be readable by its owner and group only.",
    ),
    key(
        "ports",
        Kind::Ports,
        "[\"1-65535\"]",
        "Ports that may be connected to. All, because application services and push gateways use any; narrow it to \
         [80, 443] where there are none. The addresses are checked in any case (`[addresses]`).",
    ),
    key(
        "connections_max",
        count(1, 1_000_000),
        "1024",
        "Tunnels and requests at a time; past it callers are answered 503 at once.",
    ),
    key(
        "connect_timeout",
        duration(100, 10 * MINUTE),
        "\"30s\"",
        "How long reaching the far side may take, its name's lookup included. What Synapse itself waits.",
    ),
    key(
        "idle_max",
        duration(SECOND, 24 * HOUR),
        "\"5m\"",
        "How long a tunnel may be silent in both directions. Longer than any poll that Synapse makes.",
    ),
    key(
        "head_timeout",
        duration(100, 10 * MINUTE),
        "\"10s\"",
        "How long a caller may take to send its request's head.",
    ),
    key("head_bytes_max", size(KIB, MIB), "\"64KiB\"", "The largest head of a request."),
];
