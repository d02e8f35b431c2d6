//! The doors of the daemon, by name.

use std::fmt;

/// One of the daemon's doors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// For Synapse's outbound federation.
    Synapse,
    /// For Synapse's other HTTP.
    ForwardProxy,
    /// For programs that use the Federation Side Bus.
    Bus,
    /// For modules of homeservers that share the kernel.
    Module,
    /// For operators and monitoring.
    Admin,
}

impl Door {
    /// All doors.
    pub const ALL: [Self; 5] = [Self::Synapse, Self::ForwardProxy, Self::Bus, Self::Module, Self::Admin];

    /// The name of its table in the configuration, and of its sockets under systemd.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Synapse => "synapse",
            Self::ForwardProxy => "forward_proxy",
            Self::Bus => "bus",
            Self::Module => "module",
            Self::Admin => "admin",
        }
    }

    /// The door that a socket called `name` is for: `synapse`, `synapse:0`, `southbridge-admin.socket`…
    pub fn from_socket_name(name: &str) -> Option<Self> {
        let name = name.strip_suffix(".socket").unwrap_or(name).replace('-', "_");
        let name = name.strip_prefix("southbridge_").unwrap_or(&name);
        let stem = name.split_once(':').map_or(name, |(stem, _)| stem);
        Self::ALL.into_iter().find(|door| door.name() == stem)
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_known_by_the_names_that_units_give_them() {
        for (name, door) in [
            ("synapse", Some(Door::Synapse)),
            ("synapse:1", Some(Door::Synapse)),
            ("southbridge-synapse.socket", Some(Door::Synapse)),
            ("forward-proxy", Some(Door::ForwardProxy)),
            ("forward_proxy:0", Some(Door::ForwardProxy)),
            ("southbridge-bus.socket", Some(Door::Bus)),
            ("southbridge-module.socket", Some(Door::Module)),
            ("admin", Some(Door::Admin)),
            ("southbridge.socket", None),
            ("unknown", None),
            ("", None),
        ] {
            assert_eq!(Door::from_socket_name(name), door, "{name}");
        }
    }
}
