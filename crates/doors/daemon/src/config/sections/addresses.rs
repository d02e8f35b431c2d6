//! `[addresses]`: where connections may go.

use southbridge_kernel::net::AddressPolicy;

use crate::config::key::{Key, Kind, Section, key};
use crate::config::reader::Reader;

pub(in crate::config) fn read(reader: &Reader<'_>) -> AddressPolicy {
    AddressPolicy::new(reader.networks("allow"), reader.networks("deny"))
}

/// The keys of `[addresses]`.
pub const SECTION: Section = Section {
    name: "addresses",
    about: "Which addresses may be connected to, checked on the final address whatever led there. Private, loopback, \
            link-local, mapped and translated ranges are denied by default. Of the networks below that hold an \
            address the most specific one decides, and `deny` wins a tie.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    key(
        "allow",
        Kind::Networks,
        "[]",
        "Exceptions to what is denied, for instance the network of a closed federation.",
    ),
    key("deny", Kind::Networks, "[]", "Networks denied in addition to those that are by default."),
];
