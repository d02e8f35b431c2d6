//! A service that is found by its SRV records.
//!
//! The certificate and `Host` are those of the service, never those of a record's target.
//!
//! # Source
//! K6; RFC 2782.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use southbridge_words::{Endpoint, Instant, ServiceName, SrvRecord};

use super::{Discover, DiscoveryError, Route, Security, certificate_name, dns_failed, until};
use crate::dns::Dns;
use crate::tls::{Alpn, TlsProfile};

/// A service looked up as `PREFIX.NAME`, for instance `_https._tcp.example.org`.
#[derive(Clone)]
pub struct SrvDiscovery {
    dns: Dns,
    prefix: Arc<str>,
    secure: bool,
}

impl SrvDiscovery {
    /// Services whose records lie below `prefix` (`_https._tcp`), spoken to with TLS if `secure`.
    pub fn new(dns: Dns, prefix: &str, secure: bool) -> Self {
        Self { dns, prefix: prefix.trim_end_matches('.').into(), secure }
    }

    async fn find(&self, service: &ServiceName) -> Result<Rc<Route>, DiscoveryError> {
        let host = service.as_str().to_ascii_lowercase();
        let name = format!("{}.{host}", self.prefix);
        let failed = |error: &crate::dns::DnsError| DiscoveryError::Failed {
            step: "srv",
            name: name.clone(),
            reason: error.failure.to_string(),
        };
        let records = self.dns.srv(&name).await.map_err(|error| failed(&error))?;
        let endpoints = self.endpoints(&records.value).await?;
        if endpoints.is_empty() {
            return Err(DiscoveryError::NotFound { step: "srv", name });
        }
        let security = if self.secure { Security::Tls(certificate_name(&host)) } else { Security::Plain };
        Ok(Rc::new(Route {
            peer_key: format!("srv:{name}").into(),
            security,
            authority: service.as_str().into(),
            endpoints: endpoints.into(),
            profile: TlsProfile::Modern,
            alpn: Alpn::Http2OrHttp1,
            way: None,
        }))
    }

    /// The addresses of all targets. A target that cannot be looked up is left out while another can;
    /// `.` says that the service is decidedly not offered.
    async fn endpoints(&self, records: &[SrvRecord]) -> Result<Vec<Endpoint>, DiscoveryError> {
        let mut endpoints = Vec::new();
        let mut failure = None;
        let usable = records.iter().filter(|record| record.port != 0 && &*record.target != ".");
        for record in usable.take(TARGETS_MAX) {
            match self.dns.addresses(&record.target).await {
                Ok(answer) => endpoints.extend(answer.value.iter().take(ADDRESSES_MAX).map(|ip| Endpoint {
                    address: SocketAddr::new(*ip, record.port),
                    priority: record.priority,
                    weight: record.weight,
                })),
                Err(error) => failure = Some(dns_failed(&record.target, &error)),
            }
        }
        match failure {
            Some(error) if endpoints.is_empty() => Err(error),
            _ => Ok(endpoints),
        }
    }
}

impl Discover for SrvDiscovery {
    fn discover<'a>(
        &'a self,
        service: &'a ServiceName,
        deadline: Instant,
    ) -> LocalBoxFuture<'a, Result<Rc<Route>, DiscoveryError>> {
        Box::pin(until(self.dns.alarm(), deadline, service, self.find(service)))
    }
}

/// As many targets and addresses of each as anybody has use for; a record set may have thousands.
const TARGETS_MAX: usize = 16;
const ADDRESSES_MAX: usize = 16;
