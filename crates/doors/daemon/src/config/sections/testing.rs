//! `[testing]`: for tests only.

use crate::config::key::{Key, Section, count, key};
use crate::config::reader::Reader;

/// Ports that the Matrix specification fixes, for worlds that cannot have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Testing {
    /// Where `.well-known` is asked for.
    pub well_known_port: u16,
    /// Where a server name without port and delegation leads.
    pub default_port: u16,
}

impl Testing {
    pub(in crate::config) fn read(reader: &Reader<'_>) -> Self {
        let port =
            |name| u16::try_from(reader.count(name)).expect("the table of keys bounds ports to 16 bits");
        Self { well_known_port: port("well_known_port"), default_port: port("default_port") }
    }
}

/// The keys of `[testing]`.
pub const SECTION: Section = Section {
    name: "testing",
    about: "For tests only: a real federation stops working when these are changed, because the Matrix specification \
            fixes them.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    key("well_known_port", count(1, 65_535), "443", "The port that `.well-known` is asked for on."),
    key("default_port", count(1, 65_535), "8448", "The port of a server name without port and delegation."),
];
