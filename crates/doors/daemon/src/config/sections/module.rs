//! `[module]`: the socket by which modules of homeservers share this kernel.

use southbridge::module_door::ModuleDoorConfig;
use southbridge_kernel::net::{AddressPolicy, ListenAddress};

use crate::config::key::{Key, Kind, MIB, Section, count, key, size};
use crate::config::listen::{self, Listen};
use crate::config::reader::Reader;

/// The settings of the module door.
#[derive(Clone, Debug)]
pub struct Module {
    /// Where it listens; empty when nobody is let in.
    pub listen: Vec<Listen>,
    /// Permissions of its sockets.
    pub mode: u32,
    /// Modules at a time.
    pub connections_max: u32,
    /// The longest frame.
    pub frame_bytes_max: usize,
    /// Requests under way for one module.
    pub under_way_max: usize,
    /// What may be held in memory for one module.
    pub bytes_max: usize,
}

impl Module {
    pub(in crate::config) fn read(reader: &Reader<'_>) -> Self {
        let listen = listen::read(reader, "listen");
        if let Some(open) = listen.iter().find(|listen| !matches!(listen.address, ListenAddress::Unix(_))) {
            reader.refuse("listen", &format!("{open} is no unix socket, and modules hand over their signing keys here; write `unix:PATH`"));
        }
        let mode = reader.mode("mode");
        if mode & OTHERS != 0 {
            reader.refuse("mode", "lets everybody in, and whoever is let in can use this kernel; give the group what it needs, as in \"0660\"");
        }
        Self {
            listen,
            mode,
            connections_max: reader.count32("connections_max"),
            frame_bytes_max: reader.size32("frame_bytes_max") as usize,
            under_way_max: reader.count32("under_way_max") as usize,
            bytes_max: reader.size32("bytes_max") as usize,
        }
    }

    /// The settings of the door, on a kernel that dials `addresses`.
    pub fn door(&self, addresses: AddressPolicy) -> ModuleDoorConfig {
        ModuleDoorConfig {
            connections_max: self.connections_max,
            frame_bytes_max: self.frame_bytes_max,
            under_way_max: self.under_way_max,
            bytes_max: self.bytes_max,
            addresses,
            ..ModuleDoorConfig::default()
        }
    }
}

const OTHERS: u32 = 0o007;

/// The keys of `[module]`.
pub const SECTION: Section = Section {
    name: "module",
    about: "The door for modules of homeservers in other processes (`southbridge.synapse.Module` with `daemon`), which share \
            this kernel: each has a bus of its own for as long as it is connected, and keeps the truth itself.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    key(
        "listen",
        Kind::Listen,
        "[]",
        "Where modules reach it: `unix:PATH`, in a directory where nobody else can put a socket, because a module hands its \
         homeserver's signing keys over here. Sockets passed by systemd under the name `module` take the place of its \
         entries.",
    ),
    key(
        "mode",
        Kind::Mode,
        "\"0660\"",
        "Permissions of the sockets: the user of Southbridge, and a group that the homeservers' users are in. Whoever is let \
         in can send in the name of a homeserver whose keys it has, to addresses that `[addresses]` allows.",
    ),
    key(
        "connections_max",
        count(1, 10_000),
        "64",
        "Modules connected at a time: one for each process that sends. Those above wait.",
    ),
    key(
        "frame_bytes_max",
        size(MIB, 256 * MIB),
        "\"16MiB\"",
        "The longest thing that a module says at once. An event for 10,000 homeservers has 300 KB besides its own bytes.",
    ),
    key(
        "under_way_max",
        count(64, 1_000_000),
        "65536",
        "Requests of one module under way; those above are refused at once, and the module catches up. It has one for each \
         homeserver that it waits for.",
    ),
    key(
        "bytes_max",
        size(MIB, 2048 * MIB),
        "\"256MiB\"",
        "Messages held in memory for one module, if its own `bytes_max` is not less.",
    ),
];
