//! What a configuration key is: its kind, its default and the reason for it.
//!
//! The tables of keys are the only place where a key is described. The reader checks
//! values against them, takes the defaults out of them, and the reference is printed from them; so the
//! documented default is the default.

use std::fmt;
use std::time::Duration;

/// One table of the configuration file.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Its name, without brackets.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// Its keys, in the order of the reference.
    pub keys: &'static [Key],
}

/// One key of a table.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What may stand there.
    pub kind: Kind,
    /// What holds when it is left out.
    pub default: Fallback,
    /// What it does, and why the default is what it is.
    pub about: &'static str,
}

/// What holds when a key is left out.
#[derive(Clone, Copy, Debug)]
pub enum Fallback {
    /// This value, as it would be written in the file.
    Value(&'static str),
    /// No fixed value: the words say what happens.
    Described(&'static str),
}

/// What may stand at a key.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Free text.
    Text,
    /// Text that is never shown.
    Secret,
    /// A path; a relative one is relative to the configuration file.
    Path,
    /// Several paths.
    Paths,
    /// One address to listen on, or several.
    Listen,
    /// A span of time.
    Duration {
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
    /// A number of bytes.
    Size {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// A whole number.
    Count {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// `true` or `false`.
    Flag,
    /// One of several words.
    Choice(&'static [&'static str]),
    /// The permissions of a file, in octal.
    Mode,
    /// Networks in CIDR notation, or addresses.
    Networks,
    /// Addresses with a port.
    Addresses,
    /// Ports and ranges of ports.
    Ports,
    /// Notaries: server names, or tables with a server name and its keys.
    KeyServers,
    /// How a service is found.
    Discovery,
    /// A table of its own.
    Table,
}

impl Section {
    /// The key called `name`, if there is one.
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// A key with a fixed default.
pub const fn key(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Key {
    Key { name, kind, default: Fallback::Value(default), about }
}

/// A key that may be left out altogether; `otherwise` says what happens then.
pub const fn optional(name: &'static str, kind: Kind, otherwise: &'static str, about: &'static str) -> Key {
    Key { name, kind, default: Fallback::Described(otherwise), about }
}

/// A duration between `min` and `max`, in milliseconds.
pub const fn duration(min: u64, max: u64) -> Kind {
    Kind::Duration { min: Duration::from_millis(min), max: Duration::from_millis(max) }
}

/// A whole number between `min` and `max`.
pub const fn count(min: u64, max: u64) -> Kind {
    Kind::Count { min, max }
}

/// A number of bytes between `min` and `max`.
pub const fn size(min: u64, max: u64) -> Kind {
    Kind::Size { min, max }
}

/// One second, in the unit of [`duration`].
pub const SECOND: u64 = 1000;
/// One minute, in the unit of [`duration`].
pub const MINUTE: u64 = 60 * SECOND;
/// One hour, in the unit of [`duration`].
pub const HOUR: u64 = 60 * MINUTE;
/// One day, in the unit of [`duration`].
pub const DAY: u64 = 24 * HOUR;
/// 1024 bytes.
pub const KIB: u64 = 1024;
/// 1024 KiB.
pub const MIB: u64 = 1024 * KIB;

impl fmt::Display for Kind {
    /// What is allowed, for error messages and the reference.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use crate::value::{show_duration, show_size};
        match self {
            Self::Text => f.write_str("text"),
            Self::Secret => f.write_str("text that is never shown"),
            Self::Path => f.write_str("a path, such as \"southbridge.db\""),
            Self::Paths => f.write_str("a list of paths, such as [\"ca.pem\"]"),
            Self::Listen => f.write_str(
                "an address such as \"127.0.0.1:9101\", \"[::1]:9101\" or \"unix:southbridge.sock\", or a list of them",
            ),
            Self::Duration { min, max } => {
                write!(f, "a duration from \"{}\" to \"{}\"", show_duration(*min), show_duration(*max))
            }
            Self::Size { min, max } => write!(f, "a size from \"{}\" to \"{}\"", show_size(*min), show_size(*max)),
            Self::Count { min, max } => write!(f, "a whole number from {min} to {max}"),
            Self::Flag => f.write_str("true or false"),
            Self::Choice(words) => {
                let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
                f.write_str(&quoted.join(" or "))
            }
            Self::Mode => f.write_str("permissions in octal, such as \"0660\""),
            Self::Networks => f.write_str("a list of networks, such as [\"127.0.0.0/8\", \"::1\"]"),
            Self::Addresses => f.write_str("a list of addresses with a port, such as [\"127.0.0.1:5353\"]"),
            Self::KeyServers => f.write_str(
                "a list of server names, or of tables such as { server_name = \"matrix.org\", verify_keys = { \"ed25519:auto\" = \"BASE64\" } }",
            ),
            Self::Discovery => f.write_str(
                "an address or a list of them (\"192.0.2.1:8080\"), a name with a port (\"orders.internal:8080\") or records \
                 (\"srv:_http._tcp.orders.internal\")",
            ),
            Self::Table => f.write_str("a table of its own"),
            Self::Ports => f.write_str("a list of ports and ranges, such as [443, \"8000-8999\"]"),
        }
    }
}
