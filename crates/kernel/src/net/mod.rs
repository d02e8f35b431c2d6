//! TCP and unix sockets: dialling with an address policy, racing, listening. And the seam below them: see [`Network`].

mod address;
mod dial;
mod listen;
mod listen_address;
mod local;
mod memory;
mod network;
mod unix;

pub use address::{AddressPolicy, DeniedRange};
pub(crate) use dial::describe;
pub use dial::{DialOptions, dial, dial_telling};
pub use listen::{ListenError, ListenOptions, Listener};
pub use listen_address::{InvalidListenAddress, ListenAddress};
pub use local::{CutSwitch, LocalStream, Peer};
pub use memory::{MemoryListener, MemoryNetwork, MemorySocket, MemoryStream, NetworkEvent, Path, Side, Syn};
pub(crate) use network::Datagrams;
pub use network::{Network, Stream};

use std::net::SocketAddr;
use std::time::Duration;

use southbridge_words::Step;

/// Why no connection could be had. One error may be shared by everyone who waited.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Every address is one that must not be dialled (checked on the final socket address).
    #[error("address {address} is denied ({range}); allow it with addresses.allow if it is meant")]
    Denied {
        /// The address.
        address: SocketAddr,
        /// Which rule denies it.
        range: String,
    },
    /// No address answered.
    #[error("no address answered: {}", list(.attempts))]
    Unreachable {
        /// What each said.
        attempts: Vec<(SocketAddr, String)>,
    },
    /// No address answered in time.
    #[error("no address answered within {waited:?}: {}", list(.attempts))]
    TimedOut {
        /// What each said.
        attempts: Vec<(SocketAddr, String)>,
        /// How long it was waited.
        waited: Duration,
    },
    /// TLS could not be agreed on, or the certificate is not good.
    #[error("TLS with {address} failed: {reason}")]
    Handshake {
        /// With whom.
        address: SocketAddr,
        /// What went wrong, what the peer offered, and which setting would help.
        reason: String,
    },
    /// TLS took too long.
    #[error("TLS with {address} took longer than {waited:?}")]
    HandshakeTimedOut {
        /// With whom.
        address: SocketAddr,
        /// How long it was waited.
        waited: Duration,
    },
    /// The proxy in between would not, or could not, open a tunnel.
    #[error("the proxy at {address} opens no tunnel: {reason}")]
    Proxy {
        /// The proxy.
        address: SocketAddr,
        /// What it said.
        reason: String,
    },
    /// Our own side ran out of something (descriptors, ports, memory).
    #[error("this machine cannot open a connection: {reason}")]
    Exhausted {
        /// Of what.
        reason: String,
    },
    /// Our own code failed while it opened the connection.
    #[error("the kernel failed while it opened a connection; its log says where")]
    Broken,
}

impl ConnectError {
    /// Connecting or handshaking.
    pub fn step(&self) -> Step {
        match self {
            Self::Handshake { .. } | Self::HandshakeTimedOut { .. } => Step::Handshake,
            _ => Step::Connect,
        }
    }

    /// The addresses that were dialled in vain.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let (one, several) = match self {
            Self::Unreachable { attempts } | Self::TimedOut { attempts, .. } => (None, attempts.as_slice()),
            Self::Handshake { address, .. }
            | Self::HandshakeTimedOut { address, .. }
            | Self::Proxy { address, .. } => (Some(*address), [].as_slice()),
            Self::Denied { .. } | Self::Exhausted { .. } | Self::Broken => (None, [].as_slice()),
        };
        one.into_iter().chain(several.iter().map(|(address, _)| *address))
    }

    /// Whether it was our own side that had run out of something or failed: it says nothing about the peer.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Exhausted { .. } | Self::Broken)
    }
}

fn list(attempts: &[(SocketAddr, String)]) -> String {
    let parts: Vec<String> = attempts.iter().map(|(address, why)| format!("{address}: {why}")).collect();
    parts.join("; ")
}
