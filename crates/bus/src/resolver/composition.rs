//! What one resolution came to, as it is remembered: of thousands of names, so in little room.
//!
//! Of a [`ResolvedFederationAddress`] most can be said again at once from the name it follows. Only what
//! cannot is kept, and the address is written out when somebody asks.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use southbridge_policy::freshness::Known;
use southbridge_words::{CertificateName, Endpoint, HostPart, Instant, ServerName};

use super::ResolvedFederationAddress;

/// What is remembered of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Composition {
    /// The name that `Host` and certificate follow: the one that was asked for, or the delegated one.
    pub(super) subject: ServerName,
    pub(super) endpoints: Endpoints,
    pub(super) port: PeerPort,
    /// Whether some step was served from a record past its time.
    pub(super) stale: bool,
}

/// The second half of a peer key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerPort {
    Number(u16),
    Srv,
}

/// Where to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoints {
    /// What most hosts have: one IPv4 address without preferences. It takes no room of its own.
    One { address: Ipv4Addr, port: u16 },
    /// Everything else.
    Many(Arc<[Endpoint]>),
}

impl Composition {
    /// The whole address, believed until `fresh_until`.
    pub(super) fn write_out(&self, fresh_until: Instant) -> ResolvedFederationAddress {
        let certificate = match self.subject.host() {
            HostPart::Ip(address) => CertificateName::Ip(address),
            HostPart::Dns(_) => CertificateName::Dns(host_of(&self.subject)),
        };
        let peer_key = match self.port {
            PeerPort::Number(port) => format!("{certificate}|{port}"),
            PeerPort::Srv => format!("{certificate}|srv"),
        };
        ResolvedFederationAddress {
            certificate,
            host_header: Arc::from(&self.subject),
            endpoints: self.endpoints.write_out(),
            peer_key: peer_key.into(),
            fresh_until,
            stale: self.stale,
        }
    }
}

impl From<Known<Composition>> for ResolvedFederationAddress {
    /// A composition that stands in for a failure says so.
    fn from(Known { value, fresh_until, stale }: Known<Composition>) -> Self {
        let address = value.write_out(fresh_until);
        Self { stale: address.stale || stale, ..address }
    }
}

impl Endpoints {
    fn write_out(&self) -> Arc<[Endpoint]> {
        match self {
            Self::One { address, port } => [Endpoint::new(SocketAddr::from((*address, *port)))].into(),
            Self::Many(endpoints) => Arc::clone(endpoints),
        }
    }
}

impl From<Vec<Endpoint>> for Endpoints {
    fn from(endpoints: Vec<Endpoint>) -> Self {
        match endpoints[..] {
            [Endpoint { address: SocketAddr::V4(sole), priority: 0, weight: 0 }] => {
                Self::One { address: *sole.ip(), port: sole.port() }
            }
            _ => Self::Many(endpoints.into()),
        }
    }
}

/// The host of `name` in lower case: the very bytes of the name where that is what they are.
pub(super) fn host_of(name: &ServerName) -> Arc<str> {
    let host = name.host_str();
    match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => host.to_ascii_lowercase().into(),
        false if host == name.as_str() => Arc::from(name),
        false => host.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use super::*;

    /// `names_max` multiplies it. Whoever lets it grow has changed what a host costs, and should say so where the
    /// book gives the figure.
    #[test]
    fn a_remembered_name_costs_five_words() {
        assert_eq!(size_of::<Option<Composition>>(), 40);
    }

    /// One and several addresses, with and without preferences: what is written out is what was put in.
    #[test]
    fn endpoints_are_written_out_as_they_came() {
        let v4 = Endpoint::new(SocketAddr::from(([192, 0, 2, 1], 8448)));
        let v6 = Endpoint::new(SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 8448)));
        let srv = Endpoint { priority: 10, weight: 5, ..v4 };
        for endpoints in [vec![v4], vec![v6], vec![srv], vec![v6, v4], vec![]] {
            assert_eq!(*Endpoints::from(endpoints.clone()).write_out(), *endpoints);
        }
    }
}
