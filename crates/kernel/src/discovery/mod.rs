//! How a service's name becomes a route. Discovery is a plug-in (K6).
//!
//! | a service is found by | |
//! | --- | --- |
//! | [`StaticDiscovery`] | one address, once and for all |
//! | [`DnsDiscovery`] | A and AAAA records, as long as their TTL says |
//! | [`SrvDiscovery`] | SRV records, with their priorities and weights |
//!
//! Server names of Matrix are found by a plug-in of the house's upper floor.

mod authority;
mod dns;
mod fixed;
mod srv;
#[cfg(test)]
mod tests;
mod way;

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use southbridge_words::{CertificateName, Endpoint, Instant, ServiceName};

use crate::alarm::{Alarm, TooLate};
use crate::tls::{Alpn, TlsProfile};

pub use authority::{certificate_name, split_authority};
pub use dns::{DnsDiscovery, dns_failed};
pub use fixed::StaticDiscovery;
pub use srv::SrvDiscovery;
pub use way::{Proxy, Way};

/// Where a service is, and whom to expect there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Services with the same key share connections.
    pub peer_key: Arc<str>,
    /// TLS and the name to verify, or plain TCP.
    pub security: Security,
    /// The value of `Host` (and of `:authority`).
    pub authority: Arc<str>,
    /// Where to connect. Never empty.
    pub endpoints: Arc<[Endpoint]>,
    /// Which TLS versions and ciphers to speak (K22).
    pub profile: TlsProfile,
    /// Which protocols to offer.
    pub alpn: Alpn,
    /// How connections are opened, where that is not the kernel's usual way. Its own part of `peer_key` keeps them
    /// apart from the usual ones.
    pub way: Option<Rc<Way>>,
}

impl Route {
    /// Who stands between, if anybody does.
    pub fn proxy(&self) -> Option<&Proxy> {
        self.way.as_ref()?.proxy.as_ref()
    }
}

/// What `finding` finds, or at `deadline` that it was too late. What others wait for as well goes on.
async fn until(
    alarm: &Alarm,
    deadline: Instant,
    service: &ServiceName,
    finding: impl Future<Output = Result<Rc<Route>, DiscoveryError>>,
) -> Result<Rc<Route>, DiscoveryError> {
    let late = |TooLate| DiscoveryError::DeadlinePassed { name: service.to_string() };
    alarm.bound(deadline, pin!(finding)).await.map_err(late)?
}

/// How the bytes travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Security {
    /// TLS; the certificate must be valid for this name.
    Tls(CertificateName),
    /// Plain TCP, for `http://` on the forward proxy and declared services.
    Plain,
}

/// Why a name has no route.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// The name is not one that can be looked up.
    #[error("{name:?} is not a name that can be looked up: {reason}")]
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The sources answered, and there is no such name.
    #[error("{step} of {name} found nothing")]
    NotFound {
        /// The step: `srv`, `address`…
        step: &'static str,
        /// What was asked for.
        name: String,
    },
    /// A source failed to answer.
    #[error("{step} of {name} failed: {reason}")]
    Failed {
        /// The step.
        step: &'static str,
        /// What was asked for.
        name: String,
        /// What the source said.
        reason: String,
    },
    /// Too much was being looked up on our own side: says nothing about the name.
    #[error("too much is being looked up already to find {name}")]
    Overloaded {
        /// What was asked for.
        name: String,
    },
    /// No answer came in time.
    #[error("discovery of {name} took longer than the request had left")]
    DeadlinePassed {
        /// What was asked for.
        name: String,
    },
}

/// A way of finding routes.
pub trait Discover {
    /// The route of `service` now. Must be cheap when it is known. At `deadline` it ends with
    /// [`DiscoveryError::DeadlinePassed`]: nobody waits for it any more.
    ///
    /// # Errors
    /// [`DiscoveryError`] when there is none. The answer (or error) may be shared by many callers.
    fn discover<'a>(
        &'a self,
        service: &'a ServiceName,
        deadline: Instant,
    ) -> LocalBoxFuture<'a, Result<Rc<Route>, DiscoveryError>>;

    /// The route of `service` led nowhere: nobody answered, or somebody with the wrong certificate. The
    /// name should be asked for anew before long; what is known may still stand in.
    fn distrust(&self, _service: &ServiceName) {}
}
