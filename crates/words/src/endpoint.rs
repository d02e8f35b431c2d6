//! One place to connect to, and the name to expect there.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// One address of a service, with the SRV sense of priority and weight (RFC 2782).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Where to connect.
    pub address: SocketAddr,
    /// Lower is tried first.
    pub priority: u16,
    /// The share among endpoints of one priority.
    pub weight: u16,
}

impl Endpoint {
    /// An endpoint without preferences.
    pub const fn new(address: SocketAddr) -> Self {
        Self { address, priority: 0, weight: 0 }
    }
}

/// The name a peer's certificate must be valid for. Never the target of an SRV record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CertificateName {
    /// A DNS name in lower case; also sent as SNI.
    Dns(Arc<str>),
    /// An address; no SNI is sent.
    Ip(IpAddr),
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}
