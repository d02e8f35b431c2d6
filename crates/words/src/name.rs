//! Names of the far side: Matrix server names, and service names for everything else.
//!
//! # Source
//! Matrix specification v1.19, appendices, "Server Name": a DNS name, an IPv4 address or an IPv6
//! address in brackets, with an optional port. Names are compared case-sensitively; DNS lookups and
//! certificates are not, so [`ServerName::host_lowercase`] is what those see.

use std::borrow::Borrow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// A Matrix server name that may be dialled.
///
/// Cheap to clone, and the same bytes that came in: signatures are made over them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerName(Arc<str>);

/// What stands before the port of a server name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPart<'a> {
    /// An IPv4 or IPv6 literal.
    Ip(IpAddr),
    /// A DNS name, in the case it was written in.
    Dns(&'a str),
}

/// Why a text is not a server name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidServerName {
    /// There is nothing.
    #[error("server name is empty")]
    Empty,
    /// Longer than any server name may be.
    #[error("server name has {length} bytes, the most is {length_max}")]
    TooLong {
        /// Bytes in the name.
        length: usize,
        /// The most that are taken.
        length_max: usize,
    },
    /// A byte that no server name has.
    #[error("server name has {found:?} at byte {at}; only letters, digits, '-', '.', and a port are allowed")]
    Character {
        /// The character.
        found: char,
        /// Where it stands.
        at: usize,
    },
    /// Unicode where the punycode form belongs.
    #[error("server name is not ASCII; its DNS form is {punycode:?}")]
    Unicode {
        /// The form to use instead.
        punycode: String,
    },
    /// An empty, over-long or dash-edged label.
    #[error("label {label:?} of the server name is not 1 to 63 letters, digits and inner dashes")]
    Label {
        /// The label.
        label: String,
    },
    /// All digits and dots, but not an address.
    #[error("server name {name:?} looks like an IPv4 address and is none")]
    AlmostIpv4 {
        /// The host part.
        name: String,
    },
    /// Brackets without an IPv6 address in them.
    #[error("server name has no IPv6 address within its brackets")]
    Ipv6,
    /// Not 1 to 65535, in one to five digits.
    #[error("port {port:?} of the server name is not a number from 1 to 65535")]
    Port {
        /// What stood there.
        port: String,
    },
}

impl ServerName {
    /// Reads a server name.
    ///
    /// # Errors
    /// [`InvalidServerName`] says what is wrong and where. Stricter than the grammar where the grammar
    /// admits what can only be a mistake or an attack: port 0, empty labels, `1.2.3.4.5`.
    pub fn parse(name: &str) -> Result<Self, InvalidServerName> {
        check(name)?;
        Ok(Self(name.into()))
    }

    /// The server name that `service` was made of, without copying it.
    ///
    /// # Errors
    /// As [`ServerName::parse`], when the service is not a homeserver.
    pub fn of_service(service: &ServiceName) -> Result<Self, InvalidServerName> {
        check(&service.0)?;
        Ok(Self(Arc::clone(&service.0)))
    }

    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the port.
    pub fn host(&self) -> HostPart<'_> {
        let host = self.host_str();
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        match bare.parse::<IpAddr>() {
            Ok(address) => HostPart::Ip(address),
            Err(_) => HostPart::Dns(host),
        }
    }

    /// The host part as it was written, brackets included.
    pub fn host_str(&self) -> &str {
        match self.port_at() {
            Some(at) => &self.0[..at],
            None => &self.0,
        }
    }

    /// The host part as DNS and certificates see it.
    pub fn host_lowercase(&self) -> String {
        self.host_str().to_ascii_lowercase()
    }

    /// The port, where the name carries one.
    pub fn port(&self) -> Option<u16> {
        self.port_at().and_then(|at| self.0[at + 1..].parse().ok())
    }

    fn port_at(&self) -> Option<usize> {
        self.0.rfind(':').filter(|at| !self.0[*at..].contains(']'))
    }
}

impl From<&ServerName> for Arc<str> {
    /// The name as it was written, without copying it.
    fn from(name: &ServerName) -> Self {
        Arc::clone(&name.0)
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl Borrow<str> for ServerName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for ServerName {
    type Err = InvalidServerName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::parse(name)
    }
}

/// A logical name that requests are sent to: what ranks, limits and statistics are kept by.
///
/// For federation it is the server name; for plain HTTP the authority; for a declared service its name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(Arc<str>);

impl ServiceName {
    /// Names a service.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Arc<str>> for ServiceName {
    /// Names a service, without copying the name.
    fn from(name: Arc<str>) -> Self {
        Self(name)
    }
}

impl From<&ServiceName> for Arc<str> {
    /// The name, without copying it.
    fn from(name: &ServiceName) -> Self {
        Self::clone(&name.0)
    }
}

impl From<&ServerName> for ServiceName {
    fn from(name: &ServerName) -> Self {
        Self(Arc::clone(&name.0))
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl Borrow<str> for ServiceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

fn check(name: &str) -> Result<(), InvalidServerName> {
    if name.is_empty() {
        return Err(InvalidServerName::Empty);
    }
    if name.len() > NAME_LENGTH_MAX {
        return Err(InvalidServerName::TooLong { length: name.len(), length_max: NAME_LENGTH_MAX });
    }
    let (host, port) = split(name)?;
    if let Some(port) = port {
        parse_port(port)?;
    }
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or(InvalidServerName::Ipv6)?;
        inner.parse::<Ipv6Addr>().map_err(|_| InvalidServerName::Ipv6)?;
    } else if host.parse::<Ipv4Addr>().is_err() {
        check_dns_name(host)?;
    }
    Ok(())
}

fn split(name: &str) -> Result<(&str, Option<&str>), InvalidServerName> {
    if name.starts_with('[') {
        let end = name.find(']').ok_or(InvalidServerName::Ipv6)? + 1;
        let (host, rest) = name.split_at(end);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(InvalidServerName::Ipv6),
        };
    }
    match name.split_once(':') {
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((name, None)),
    }
}

fn parse_port(port: &str) -> Result<u16, InvalidServerName> {
    let refused = || InvalidServerName::Port { port: port.to_owned() };
    if port.is_empty() || port.len() > PORT_DIGITS_MAX || !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err(refused());
    }
    port.parse().ok().filter(|port| *port != 0).ok_or_else(refused)
}

fn check_dns_name(host: &str) -> Result<(), InvalidServerName> {
    if !host.is_ascii()
        && let Ok(punycode) = idna::domain_to_ascii(host)
    {
        return Err(InvalidServerName::Unicode { punycode });
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if let Some((at, found)) = host.char_indices().find(|(_, c)| !allowed(*c)) {
        return Err(InvalidServerName::Character { found, at });
    }
    for label in host.split('.') {
        if label.is_empty()
            || label.len() > LABEL_LENGTH_MAX
            || label.starts_with('-')
            || label.ends_with('-')
        {
            return Err(InvalidServerName::Label { label: label.to_owned() });
        }
    }
    // No top-level domain is a number, and other readers of such a name may see an address in it
    // (`127.1`, `0177.0.0.1`).
    let last = host.rsplit('.').next().unwrap_or(host);
    if last.bytes().all(|b| b.is_ascii_digit()) {
        return Err(InvalidServerName::AlmostIpv4 { name: host.to_owned() });
    }
    Ok(())
}

/// The longest server name taken. The specification recommends 230 so that user ids fit in 255 bytes;
/// names a little above it exist, and none can exceed what an id may hold.
const NAME_LENGTH_MAX: usize = 255;
const LABEL_LENGTH_MAX: usize = 63;
const PORT_DIGITS_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn good_names_are_taken_apart() {
        let cases: &[(&str, &str, Option<u16>)] = &[
            ("matrix.org", "matrix.org", None),
            ("Matrix.ORG:8448", "matrix.org", Some(8448)),
            ("xn--bcher-kva.example", "xn--bcher-kva.example", None),
            ("localhost", "localhost", None),
            ("1.2.3.4", "1.2.3.4", None),
            ("1.2.3.4:1", "1.2.3.4", Some(1)),
            ("[1234:5678::abcd]", "[1234:5678::abcd]", None),
            ("[1234:5678::abcd]:5678", "[1234:5678::abcd]", Some(5678)),
            ("a-b.c1:65535", "a-b.c1", Some(65535)),
        ];
        for (text, host, port) in cases {
            let name = ServerName::parse(text).expect(text);
            assert_eq!((name.as_str(), name.host_lowercase().as_str(), name.port()), (*text, *host, *port));
        }
    }

    #[test]
    fn literals_are_addresses_and_names_are_not() {
        let host = |text: &str| ServerName::parse(text).map(|name| matches!(name.host(), HostPart::Ip(_)));
        assert_eq!(host("127.0.0.1:80"), Ok(true));
        assert_eq!(host("[::1]"), Ok(true));
        assert_eq!(host("example.org:80"), Ok(false));
    }

    #[test]
    fn bad_names_are_refused_with_the_reason() {
        let long_label = format!("{}.org", "a".repeat(64));
        let long_name = format!("{}org", "abc.".repeat(70));
        let cases: &[(&str, &str)] = &[
            ("", "server name is empty"),
            ("user@example.org", "'@' at byte 4"),
            ("example.org:0", "port \"0\""),
            ("example.org:123456", "port \"123456\""),
            ("example.org:65536", "port \"65536\""),
            ("example.org:", "port \"\""),
            ("example.org:+80", "port \"+80\""),
            ("example.org:80:80", "port \"80:80\""),
            ("a..b", "label \"\""),
            ("example.org.", "label \"\""),
            ("-a.example", "label \"-a\""),
            (&long_label, "label \"aaaa"),
            (&long_name, "the most is 255"),
            ("1.2.3", "looks like an IPv4 address"),
            ("256.1.1.1", "looks like an IPv4 address"),
            ("0177.0.0.01", "looks like an IPv4 address"),
            ("[::1", "within its brackets"),
            ("[::1]x", "within its brackets"),
            ("[fe80::1%eth0]", "within its brackets"),
            ("[1.2.3.4]", "within its brackets"),
            ("::1", "port \":1\""),
            ("exa mple.org", "' ' at byte 3"),
            ("example.org/x", "'/' at byte 11"),
            ("example.org\r\nx", "at byte 11"),
            ("under_score.org", "'_' at byte 5"),
            ("b\u{fc}cher.example", "xn--bcher-kva.example"),
        ];
        for (text, reason) in cases {
            let error = ServerName::parse(text).expect_err(text).to_string();
            assert!(error.contains(reason), "{text:?}: {error:?} does not mention {reason:?}");
        }
    }

    proptest! {
        /// Whatever a peer sends, reading it as a server name does not panic, and what is taken
        /// prints as it came and splits without loss.
        #[test]
        fn reading_never_panics_and_loses_nothing(text in "\\PC{0,80}|[a-z0-9.:\\[\\]-]{0,40}") {
            if let Ok(name) = ServerName::parse(&text) {
                prop_assert_eq!(name.as_str(), text.as_str());
                let rebuilt = match name.port() {
                    Some(_) => format!("{}:{}", name.host_str(), &text[name.host_str().len() + 1..]),
                    None => name.host_str().to_owned(),
                };
                prop_assert_eq!(rebuilt, text);
            }
        }
    }
}
