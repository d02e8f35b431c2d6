//! `[forward_proxy]`: the door for Synapse's other HTTP.

use std::time::Duration;

use southbridge_words::Secret;

use crate::config::key::{
    HOUR, KIB, Key, Kind, MIB, MINUTE, SECOND, Section, count, duration, key, optional, size,
};
use crate::config::listen::{self, Listen};
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
    /// Ports that are not connected to.
    pub ports_denied: Vec<PortRange>,
    /// Connections at a time, tunnels included.
    pub connections_max: u32,
    /// Tunnels at a time.
    pub tunnels_max: u32,
    /// From the request to an open connection.
    pub connect_timeout: Duration,
    /// How long a tunnel may be silent.
    pub idle_max: Duration,
    /// From the first byte to the end of a request's head.
    pub head_timeout: Duration,
    /// By when a plain request has been answered.
    pub request_timeout: Duration,
    /// Bytes of the body of a plain request.
    pub request_body_bytes_max: u64,
    /// How long a caller may go without reading.
    pub stall_max: Duration,
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
        let listen = listen::read(reader, "listen");
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
            ports_denied: reader.ports("ports_denied"),
            tunnels_max: reader.count32("tunnels_max"),
            request_timeout: reader.duration("request_timeout"),
            request_body_bytes_max: reader.size("request_body_bytes_max"),
            stall_max: reader.duration("stall_max"),
            connections_max: reader.count32("connections_max"),
            connect_timeout: reader.duration("connect_timeout"),
            idle_max: reader.duration("idle_max"),
            head_timeout: reader.duration("head_timeout"),
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
        "ports_denied",
        Kind::Ports,
        "[25]",
        "Ports that are not connected to; ranges such as \"1-79\" too. A mail server reads HTTP as mail; all else is \
         open, because application services and push gateways use any port. Addresses are checked in any case \
         (`[addresses]`).",
    ),
    key(
        "connections_max",
        count(1, 1_000_000),
        "4096",
        "Connections served at a time, tunnels included; those above wait in the backlog.",
    ),
    key(
        "tunnels_max",
        count(1, 1_000_000),
        "1024",
        "Tunnels at a time, of two sockets and 16 KiB each; one more is answered 503.",
    ),
    key(
        "connect_timeout",
        duration(100, 10 * MINUTE),
        "\"30s\"",
        "How long opening a tunnel may take, the lookup of its name included. As long as Synapse waits.",
    ),
    key(
        "idle_max",
        duration(SECOND, 24 * HOUR),
        "\"10m\"",
        "How long nothing may move in a tunnel: longer than any long poll.",
    ),
    key(
        "head_timeout",
        duration(100, 10 * MINUTE),
        "\"10s\"",
        "How long a caller may take to send its request's head.",
    ),
    key("request_timeout", duration(SECOND, HOUR), "\"75s\"", "By when a plain request has been answered."),
    key("request_body_bytes_max", size(KIB, 1024 * MIB), "\"16MiB\"", "The largest body of a plain request."),
    key(
        "stall_max",
        duration(SECOND, HOUR),
        "\"2m\"",
        "How long a caller may go without reading anything of a response.",
    ),
];
