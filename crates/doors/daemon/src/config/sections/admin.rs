//! `[admin]`: the socket for operators and monitoring.

use southbridge_words::Secret;

use crate::config::key::{Key, Kind, Section, key, optional};
use crate::config::listen::{self, Listen};
use crate::config::reader::Reader;

/// The settings of the admin socket.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Where it listens; empty when there is none.
    pub listen: Vec<Listen>,
    /// Permissions of unix sockets.
    pub mode: u32,
    /// What callers prove themselves with (`Authorization: Bearer`), if they must.
    pub secret: Option<Secret>,
}

impl Admin {
    pub(in crate::config) fn read(reader: &Reader<'_>, secret: Option<Secret>) -> Self {
        let listen = listen::read(reader, "listen");
        if listen.iter().any(|listen| listen.tls) {
            reader.refuse(
                "listen",
                "has a `tls:` address; the admin socket speaks plain HTTP, put a reverse proxy before it",
            );
        }
        if secret.is_none()
            && let Some(open) = listen.iter().find(|listen| !listen.is_local())
        {
            reader.refuse("listen", &format!("{open} can be reached from other machines; set secret_file, or listen on loopback or a unix socket"));
        }
        Self { listen, mode: reader.mode("mode"), secret }
    }
}

/// The keys of `[admin]`.
pub const SECTION: Section = Section {
    name: "admin",
    about: "The socket for operators and monitoring: `/metrics`, `/ready`, `/healthz`, `/debug/requests`, \
            `/debug/pools`, `/debug/hosts`, and `POST /hosts/NAME/wake`.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    key(
        "listen",
        Kind::Listen,
        "\"127.0.0.1:9110\"",
        "Where it listens; an empty list closes it. An address that other machines can reach needs a secret.",
    ),
    key("mode", Kind::Mode, "\"0660\"", "Permissions of unix sockets."),
    optional(
        "secret",
        Kind::Secret,
        "none, which is allowed on loopback and unix sockets only",
        "What callers send as `Authorization: Bearer`. A file is better.",
    ),
    optional(
        "secret_file",
        Kind::Path,
        "none, which is allowed on loopback and unix sockets only",
        "A file with the secret. May be readable by its owner and group only.",
    ),
];
