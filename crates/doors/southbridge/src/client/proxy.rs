//! Which proxy a URL goes through.
//!
//! # Source
//! Issue 4, item 2; the convention of curl and its kin: `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, in
//! lower case or upper. As there, `HTTP_PROXY` in upper case is not heeded where `REQUEST_METHOD` is set: under CGI a
//! caller could set it with a header. Loopback is never proxied.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use ipnet::IpNet;
use url::{Host, Url};

use super::ClientError;

/// Which proxy a URL goes through.
#[derive(Clone, Debug, Default)]
pub struct ProxyRules {
    http: Option<ProxyServer>,
    https: Option<ProxyServer>,
    exempt: Vec<Exempt>,
    exempt_all: bool,
}

/// A proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyServer {
    /// Its host, as it stands in a URL.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `Proxy-Authorization`, if its URL has a name and a password.
    pub authorization: Option<HeaderValue>,
}

/// What is reached without a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exempt {
    /// A name, and all below it.
    Domain(String, Option<u16>),
    Net(IpNet),
}

impl ProxyRules {
    /// Rules for `http` and `https` URLs, and the hosts that are reached directly (the notation of `NO_PROXY`).
    ///
    /// # Errors
    /// [`ClientError::InvalidSetting`] when an address is none that can be used.
    pub fn new(http: Option<&str>, https: Option<&str>, exempt: &str) -> Result<Self, ClientError> {
        let parse = |url: Option<&str>| url.map(ProxyServer::parse).transpose();
        let mut rules = Self { http: parse(http)?, https: parse(https)?, ..Self::default() };
        for item in exempt.split([',', ' ']).map(str::trim).filter(|item| !item.is_empty()) {
            if item == "*" {
                rules.exempt_all = true;
            } else {
                rules.exempt.push(Exempt::parse(item));
            }
        }
        Ok(rules)
    }

    /// The rules that the environment makes, as `variable` tells of it.
    ///
    /// # Errors
    /// [`ClientError::InvalidSetting`] when a variable names no proxy that can be used.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ClientError> {
        let either = |name: &str| {
            let found = variable(name).or_else(|| variable(&name.to_ascii_uppercase()));
            found.filter(|value| !value.trim().is_empty())
        };
        let is_cgi = variable("REQUEST_METHOD").is_some();
        let http = if is_cgi { variable("http_proxy") } else { either("http_proxy") };
        let all = either("all_proxy");
        let (http, https) = (http.or_else(|| all.clone()), either("https_proxy").or(all));
        Self::new(http.as_deref(), https.as_deref(), &either("no_proxy").unwrap_or_default())
    }

    /// Who stands between us and `url`, if anybody does.
    pub fn of(&self, url: &Url) -> Option<&ProxyServer> {
        let server = if url.scheme() == "https" { self.https.as_ref() } else { self.http.as_ref() }?;
        let host = url.host()?;
        let port = url.port_or_known_default();
        let direct =
            self.exempt_all || is_loopback(&host) || self.exempt.iter().any(|rule| rule.covers(&host, port));
        (!direct).then_some(server)
    }
}

impl ProxyServer {
    /// `http://user:password@host:port`; the scheme may be left out.
    fn parse(text: &str) -> Result<Self, ClientError> {
        let invalid = |reason: String| ClientError::InvalidSetting { setting: "proxy", reason };
        let text = text.trim();
        let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url = Url::parse(&whole)
            .map_err(|error| invalid(format!("the address of a proxy is no URL: {error}")))?;
        if url.scheme() != "http" {
            let scheme = url.scheme();
            return Err(invalid(format!("a proxy is spoken to over {scheme}; only http is supported")));
        }
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| invalid("the address of a proxy has no host".to_owned()))?.to_owned();
        let port = url.port_or_known_default().unwrap_or(80);
        Ok(Self { host, port, authorization: basic_of(&url) })
    }
}

impl std::fmt::Debug for ProxyServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Exempt {
    fn parse(item: &str) -> Self {
        let bare = item.trim_start_matches('[').trim_end_matches(']');
        if let Ok(net) = item.parse() {
            return Self::Net(net);
        }
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Self::Net(IpNet::from(address));
        }
        let (name, port) = match item.rsplit_once(':') {
            Some((name, port)) if port.parse::<u16>().is_ok() => (name, port.parse().ok()),
            _ => (item, None),
        };
        match name.parse::<IpAddr>() {
            Ok(address) if port.is_none() => Self::Net(IpNet::from(address)),
            _ => Self::Domain(name.trim_start_matches("*.").trim_matches('.').to_ascii_lowercase(), port),
        }
    }

    fn covers(&self, host: &Host<&str>, port: Option<u16>) -> bool {
        match (self, host) {
            (Self::Net(net), Host::Ipv4(address)) => net.contains(&IpAddr::V4(*address)),
            (Self::Net(net), Host::Ipv6(address)) => net.contains(&IpAddr::V6(*address)),
            (Self::Domain(name, own), host) => {
                let host = host.to_string().to_ascii_lowercase();
                let below = host
                    .strip_suffix(name.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                !name.is_empty() && below && own.is_none_or(|own| Some(own) == port)
            }
            _ => false,
        }
    }
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
        Host::Domain(name) => *name == "localhost" || name.ends_with(".localhost"),
    }
}

/// The name and password of `url`, as an authorization (RFC 7617).
pub(super) fn basic_of(url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    basic(&unescape(url.username()), &unescape(url.password().unwrap_or_default()))
}

/// `user` and `password` as an authorization.
pub(super) fn basic(user: &[u8], password: &[u8]) -> Option<HeaderValue> {
    let both = [user, b":", password].concat();
    let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(both))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Undoes percent-encoding.
fn unescape(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| bytes[at] == b'%') {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn via(rules: &ProxyRules, url: &str) -> Option<String> {
        rules.of(&Url::parse(url).unwrap()).map(|server| format!("{server:?}"))
    }

    fn environment(variables: &[(&str, &str)]) -> ProxyRules {
        let found = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        ProxyRules::from_environment(found).unwrap()
    }

    #[test]
    fn the_environment_names_a_proxy_for_each_scheme() {
        let rules = environment(&[("http_proxy", "p.test:3128"), ("HTTPS_PROXY", "http://u:p%40@q.test")]);
        assert_eq!(via(&rules, "http://a.test/").as_deref(), Some("p.test:3128"));
        assert_eq!(via(&rules, "https://a.test/").as_deref(), Some("q.test:80"));
        let server = rules.of(&Url::parse("https://a.test").unwrap()).unwrap();
        assert_eq!(server.authorization.as_ref().unwrap(), "Basic dTpwQA==");
        let rules = environment(&[("ALL_PROXY", "p.test:1"), ("https_proxy", "")]);
        assert_eq!(via(&rules, "https://a.test/").as_deref(), Some("p.test:1"));
    }

    /// A caller of a CGI program sends the header `Proxy`.
    #[test]
    fn under_cgi_the_upper_case_variable_is_a_strangers() {
        let rules = environment(&[("HTTP_PROXY", "evil.test:1"), ("REQUEST_METHOD", "GET")]);
        assert_eq!(via(&rules, "http://a.test/"), None);
    }

    #[test]
    fn what_is_exempt_is_reached_directly() {
        let exempt = "b.test, .c.test,*.d.test,10.0.0.0/8,192.0.2.1,e.test:8080,[2001:db8::1]";
        let rules = ProxyRules::new(Some("p.test:1"), Some("p.test:1"), exempt).unwrap();
        let direct = [
            "http://b.test/",
            "http://x.b.test/",
            "http://X.C.test/",
            "https://d.test/",
            "http://10.1.2.3/",
            "http://192.0.2.1/",
            "http://e.test:8080/",
            "http://[2001:db8::1]/",
            "http://localhost:1/",
            "http://127.0.0.1/",
            "http://[::1]/",
        ];
        for url in direct {
            assert_eq!(via(&rules, url), None, "{url}");
        }
        for url in ["http://xb.test/", "http://e.test/", "http://11.0.0.1/", "http://192.0.2.2/"] {
            assert!(via(&rules, url).is_some(), "{url}");
        }
        assert_eq!(via(&ProxyRules::new(Some("p.test"), None, "*").unwrap(), "http://a.test/"), None);
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_named() {
        for bad in ["socks5://p.test", "https://p.test", "http://", "http://[::"] {
            assert!(ProxyRules::new(Some(bad), None, "").is_err(), "{bad}");
        }
    }
}
