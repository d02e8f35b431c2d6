//! How connections along a route are opened, where that is not the kernel's usual way.
//!
//! # Source
//! F12, K22; RFC 9110 §7.3.2 and §9.3.6 (proxies, CONNECT); decision 10 (the policy judges whatever is dialled, which
//! for a proxied route is the proxy).

use std::fmt;
use std::sync::Arc;

use ::http::HeaderValue;
use southbridge_policy::pool::PeerLimits;

use crate::net::AddressPolicy;
use crate::tls::TlsConnector;

/// A way of opening connections.
#[derive(Clone, Default)]
pub struct Way {
    /// Tells ways apart: part of the peer key of every route that has this one.
    pub key: Arc<str>,
    /// Which addresses may be dialled. Default: those of the kernel.
    pub addresses: Option<AddressPolicy>,
    /// Whom to trust, and as whom to come. Default: as the kernel does.
    pub tls: Option<Arc<TlsConnector>>,
    /// Who stands between. Default: nobody.
    pub proxy: Option<Proxy>,
    /// Bounds on its connections. Default: as for all peers.
    pub limits: Option<PeerLimits>,
}

/// A proxy; the endpoints of the route are its own.
#[derive(Clone, PartialEq, Eq)]
pub enum Proxy {
    /// Takes requests for `http` URLs and passes them on.
    Forward {
        /// `Proxy-Authorization`, if it wants one.
        authorization: Option<HeaderValue>,
    },
    /// Opens a tunnel (CONNECT) to `target`, through which we speak with the peer ourselves.
    Tunnel {
        /// `host:port`.
        target: Arc<str>,
        /// `Proxy-Authorization`, if it wants one.
        authorization: Option<HeaderValue>,
    },
}

impl PartialEq for Way {
    /// The key says what a way is.
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Way {}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Way").field("key", &self.key).field("proxy", &self.proxy).finish_non_exhaustive()
    }
}

impl fmt::Debug for Proxy {
    /// Authorizations are nobody's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forward { .. } => f.write_str("Forward"),
            Self::Tunnel { target, .. } => {
                f.debug_struct("Tunnel").field("target", target).finish_non_exhaustive()
            }
        }
    }
}
