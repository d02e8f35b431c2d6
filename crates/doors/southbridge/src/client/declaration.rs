//! What a program says of a service when it declares it.
//!
//! # Units
//! Requests, connections, attempts; durations.
//!
//! # Source
//! K6, K7, K14, K16; issue 4, item 4.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use southbridge_kernel::exchange::Attempts;
use southbridge_policy::ranker::BreakerLimits;

use super::ClientError;
use super::config::ClientTls;

/// A service, as a program declares it.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name: letters, digits, dashes and dots, as it stands in URLs.
    pub name: String,
    /// How it is found.
    pub discovery: ServiceDiscovery,
    /// Whether it is spoken to with TLS, and how. Default: plain.
    pub tls: Option<ClientTls>,
    /// What is sent as `Host`, and verified in its certificate. Default: its name, or the name that is looked up.
    pub host: Option<String>,
    /// How much may be under way to it. Default: as to all others.
    pub limits: ServiceLimits,
    /// How often a request to it may be sent. Default: as to all others, that is again at once, and only for what says
    /// nothing about the service: a connection that had gone stale, and what was not looked at.
    pub attempts: Attempts,
    /// When it is held to be down. Default: as all others.
    pub breaker: Option<BreakerLimits>,
}

/// How much may be under way to a service. What is left out is as for all others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceLimits {
    /// Requests at a time, waiting or on the wire; one more is refused at once.
    pub requests_max: Option<u32>,
    /// Connections at a time; requests that find all of them taken wait.
    pub connections_max: Option<u32>,
    /// Requests that may wait for a connection; one more is refused at once.
    pub waiting_max: Option<u32>,
}

/// How a service is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceDiscovery {
    /// At these addresses, until others are pushed.
    Addresses(Vec<SocketAddr>),
    /// At the addresses of this name.
    Dns {
        /// The name.
        host: String,
        /// The port.
        port: u16,
    },
    /// Where the SRV records of `PREFIX.NAME` say.
    Srv {
        /// `_http._tcp`.
        prefix: String,
        /// `example.org`.
        name: String,
    },
}

impl FromStr for ServiceDiscovery {
    type Err = String;

    /// Reads `192.0.2.1:8080`, `orders.internal:8080` or `srv:_http._tcp.orders.internal`.
    ///
    /// # Errors
    /// Says what is wrong with `text`, without repeating it.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix("srv:") {
            return srv(name);
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self::Addresses(vec![address]));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Err(format!("has no port; did you mean \"{}\"?", SocketAddr::new(address, 80)));
        }
        if text.starts_with('_') {
            return Err(format!("is not found like that; did you mean \"srv:{text}\"?"));
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(format!("has no port; did you mean \"{text}:80\"?"));
        };
        let port =
            port.parse().map_err(|_| "has a port that is none; they run from 1 to 65535".to_owned())?;
        check_host(host)?;
        Ok(Self::Dns { host: host.to_ascii_lowercase(), port })
    }
}

fn srv(name: &str) -> Result<ServiceDiscovery, String> {
    let labels: Vec<&str> = name.trim_end_matches('.').split('.').collect();
    let marked = labels.iter().take_while(|label| label.starts_with('_')).count();
    if marked == 0 || marked == labels.len() {
        return Err("has no records of that kind; write it as \"srv:_http._tcp.orders.internal\"".to_owned());
    }
    let (prefix, name) = (labels[..marked].join("."), labels[marked..].join("."));
    check_host(&name)?;
    Ok(ServiceDiscovery::Srv { prefix, name: name.to_ascii_lowercase() })
}

fn check_host(host: &str) -> Result<(), String> {
    let is_plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
    if host.is_empty() || host.len() > HOST_BYTES_MAX || !host.bytes().all(is_plain) {
        return Err(
            "is no host with a port; write it as \"orders.internal:8080\" or \"192.0.2.1:8080\"".to_owned()
        );
    }
    Ok(())
}

impl Service {
    /// A service that is found like this, spoken to without TLS.
    pub fn new(name: &str, discovery: ServiceDiscovery) -> Self {
        Self {
            name: name.to_owned(),
            discovery,
            tls: None,
            host: None,
            limits: ServiceLimits::default(),
            attempts: Attempts::default(),
            breaker: None,
        }
    }

    /// Whether it can be declared like this.
    ///
    /// # Errors
    /// [`ClientError::InvalidSetting`] names the first thing that does not.
    pub fn validate(&self) -> Result<(), ClientError> {
        let invalid = |reason: &str| {
            Err(ClientError::InvalidSetting {
                setting: "service",
                reason: format!("{:?}: {reason}", self.name),
            })
        };
        let is_name = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'.');
        if self.name.is_empty() || self.name.len() > NAME_MAX || !self.name.bytes().all(is_name) {
            return invalid("a name has 1 to 63 lower-case letters, digits, dashes and dots");
        }
        match &self.discovery {
            ServiceDiscovery::Addresses(addresses) if addresses.iter().any(|address| address.port() == 0) => {
                return invalid("port 0 is no port");
            }
            ServiceDiscovery::Dns { port: 0, .. } => return invalid("port 0 is no port"),
            ServiceDiscovery::Addresses(addresses) if addresses.len() > ADDRESSES_MAX => {
                return invalid("more than 1024 addresses");
            }
            _ => {}
        }
        let ServiceLimits { requests_max, connections_max, waiting_max } = self.limits;
        let limits = [
            ("limits.requests_max", requests_max),
            ("limits.connections_max", connections_max),
            ("limits.waiting_max", waiting_max),
            ("retry.attempts_max", Some(self.attempts.attempts_max)),
        ];
        if let Some((name, _)) = limits.iter().find(|(_, limit)| *limit == Some(0)) {
            return invalid(&format!("{name} is zero, and nothing would ever be sent"));
        }
        if self.attempts.attempts_max > ATTEMPTS_MAX {
            return invalid(&format!("retry.attempts_max is above {ATTEMPTS_MAX}"));
        }
        match self.breaker.as_ref().map(BreakerLimits::validate) {
            Some(Err(error)) => invalid(&format!("breaker.{error}")),
            _ => Ok(()),
        }
    }
}

const NAME_MAX: usize = 63;
/// As DNS has it.
const HOST_BYTES_MAX: usize = 253;
const ADDRESSES_MAX: usize = 1024;
/// Whoever needs more has a queue, and not a request.
const ATTEMPTS_MAX: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_finding_is_read() {
        let read = |text: &str| text.parse::<ServiceDiscovery>().unwrap();
        assert_eq!(read("[::1]:80"), ServiceDiscovery::Addresses(vec!["[::1]:80".parse().unwrap()]));
        assert_eq!(
            read("Orders.internal:8080"),
            ServiceDiscovery::Dns { host: "orders.internal".to_owned(), port: 8080 }
        );
        assert_eq!(
            read("srv:_http._tcp.orders.internal."),
            ServiceDiscovery::Srv { prefix: "_http._tcp".to_owned(), name: "orders.internal".to_owned() }
        );
    }

    #[test]
    fn a_near_miss_is_named() {
        for (text, hint) in [
            ("192.0.2.1", "\"192.0.2.1:80\""),
            ("::1", "\"[::1]:80\""),
            ("orders.internal", "\"orders.internal:80\""),
            ("_http._tcp.orders.internal", "\"srv:_http._tcp.orders.internal\""),
            ("srv:orders.internal", "srv:_http._tcp"),
            ("http://orders:80", "no host with a port"),
            ("orders:99999", "65535"),
            ("", "no port"),
        ] {
            let error = text.parse::<ServiceDiscovery>().expect_err(text);
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    #[test]
    fn a_service_that_makes_no_sense_says_where() {
        let service = |change: fn(&mut Service)| {
            let mut service = Service::new("orders", "192.0.2.1:80".parse().unwrap());
            change(&mut service);
            service.validate().map_err(|error| error.to_string())
        };
        assert_eq!(service(|_| ()), Ok(()));
        for (change, said) in [
            ((|it| it.name = "Orders".to_owned()) as fn(&mut Service), "lower-case"),
            (|it| it.limits.waiting_max = Some(0), "limits.waiting_max"),
            (|it| it.attempts.attempts_max = 11, "retry.attempts_max is above 10"),
            (
                |it| it.breaker = Some(BreakerLimits { failures_max: 1, ..BreakerLimits::default() }),
                "breaker.failures_max",
            ),
        ] {
            let error = service(change).expect_err(said);
            assert!(error.contains(said), "{error}");
        }
    }
}
