//! A service that is found by its address records.

use std::net::SocketAddr;
use std::rc::Rc;

use futures_util::future::LocalBoxFuture;
use southbridge_words::{Endpoint, Instant, LookupFailure, ServiceName};

use super::{Discover, DiscoveryError, Route, Security, certificate_name, split_authority, until};
use crate::dns::{Dns, DnsError};
use crate::tls::{Alpn, TlsProfile};

/// A `host:port` authority, looked up by address records. For everything that is not federation.
#[derive(Clone)]
pub struct DnsDiscovery {
    dns: Dns,
    secure: bool,
    alpn: Alpn,
    /// Dials this port instead of 443: test worlds cannot have that one.
    instead_of_443: Option<u16>,
}

impl DnsDiscovery {
    /// `https` authorities.
    pub fn https(dns: Dns, alpn: Alpn) -> Self {
        Self { dns, secure: true, alpn, instead_of_443: None }
    }

    /// `http` authorities: plain TCP.
    pub fn http(dns: Dns) -> Self {
        Self { dns, secure: false, alpn: Alpn::Http1, instead_of_443: None }
    }

    /// Dials `port` where the URL says 443.
    #[must_use]
    pub fn instead_of_443(mut self, port: Option<u16>) -> Self {
        self.instead_of_443 = port;
        self
    }

    async fn find(&self, service: &ServiceName) -> Result<Rc<Route>, DiscoveryError> {
        let default_port = if self.secure { 443 } else { 80 };
        let (host, port) = split_authority(service.as_str(), default_port)?;
        let port = self.instead_of_443.filter(|_| port == 443).unwrap_or(port);
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        // A name that is a host and nothing else is remembered once, here and there.
        let answer = match bare.len() == service.as_str().len() {
            true => self.dns.addresses_of(&service.into()).await,
            false => self.dns.addresses(bare).await,
        };
        let answer = answer.map_err(|error| dns_failed(bare, &error))?;
        if answer.value.is_empty() {
            return Err(DiscoveryError::NotFound { step: "address", name: bare.to_owned() });
        }
        let endpoints = answer.value.iter().map(|ip| Endpoint::new(SocketAddr::new(*ip, port))).collect();
        let security = if self.secure { Security::Tls(certificate_name(host)) } else { Security::Plain };
        let scheme = if self.secure { "https" } else { "http" };
        let lower = host.to_ascii_lowercase();
        let narrow = if self.alpn == Alpn::Http1 { "|h1" } else { "" };
        Ok(Rc::new(Route {
            peer_key: format!("{scheme}:{lower}|{port}{narrow}").into(),
            security,
            authority: service.as_str().into(),
            endpoints,
            profile: TlsProfile::Modern,
            alpn: self.alpn,
            way: None,
        }))
    }
}

impl Discover for DnsDiscovery {
    fn discover<'a>(
        &'a self,
        service: &'a ServiceName,
        deadline: Instant,
    ) -> LocalBoxFuture<'a, Result<Rc<Route>, DiscoveryError>> {
        Box::pin(until(self.dns.alarm(), deadline, service, self.find(service)))
    }
}

/// What a failure of DNS means for discovery.
pub fn dns_failed(name: &str, error: &DnsError) -> DiscoveryError {
    if error.failure == LookupFailure::Overloaded {
        return DiscoveryError::Overloaded { name: name.to_owned() };
    }
    DiscoveryError::Failed { step: "address", name: name.to_owned(), reason: error.failure.to_string() }
}
