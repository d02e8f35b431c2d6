//! Where a request of a forward proxy is to go.

use http::StatusCode;
use http::uri::PathAndQuery;
use southbridge_words::ServerName;

use crate::local_http::{RequestHead, Target};

/// Where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A tunnel to a port.
    Tunnel {
        /// A name or an address, without its port.
        host: String,
        /// The port.
        port: u16,
    },
    /// A plain HTTP request.
    Plain {
        /// `host`, or `host:port` where the port is not 80.
        authority: String,
        /// What to ask it for.
        path_and_query: PathAndQuery,
    },
}

/// Why a request goes nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DestinationError {
    /// Another scheme than http.
    #[error("{scheme}:// is not served here; use http://, or CONNECT for everything encrypted")]
    Scheme {
        /// What was asked for.
        scheme: String,
    },
    /// Not a host and a port.
    #[error("{authority:?} is refused: {reason}")]
    Authority {
        /// What stood there.
        authority: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A port that nobody needs a web proxy for.
    #[error("port {port} is not one that this proxy connects to")]
    PortDenied {
        /// Which.
        port: u16,
    },
}

impl DestinationError {
    /// The status to answer with.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::PortDenied { .. } => StatusCode::FORBIDDEN,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl Destination {
    /// Where `head` is to go, unless it is to one of `ports_denied`.
    ///
    /// # Errors
    /// [`DestinationError`]; nothing has been looked up or dialled then.
    pub fn of(head: &RequestHead, ports_denied: &[u16]) -> Result<Self, DestinationError> {
        match &head.target {
            Target::Authority(authority) => {
                let name = parse(authority)?;
                let port = name.port().ok_or_else(|| refused(authority, "it has no port"))?;
                check_port(port, ports_denied)?;
                Ok(Self::Tunnel { host: name.host_lowercase(), port })
            }
            Target::Absolute { scheme, authority, path_and_query } => {
                if !scheme.eq_ignore_ascii_case("http") {
                    return Err(DestinationError::Scheme { scheme: scheme.to_string() });
                }
                let name = parse(authority)?;
                let port = name.port().unwrap_or(HTTP_PORT);
                check_port(port, ports_denied)?;
                let host = name.host_lowercase();
                let authority = if port == HTTP_PORT { host } else { format!("{host}:{port}") };
                Ok(Self::Plain { authority, path_and_query: path_and_query.clone() })
            }
        }
    }
}

/// The grammar of a server name is that of an authority without userinfo, port 0 excluded.
fn parse(authority: &str) -> Result<ServerName, DestinationError> {
    ServerName::parse(authority).map_err(|error| refused(authority, &error.to_string()))
}

fn check_port(port: u16, ports_denied: &[u16]) -> Result<(), DestinationError> {
    if ports_denied.contains(&port) { Err(DestinationError::PortDenied { port }) } else { Ok(()) }
}

fn refused(authority: &str, reason: &str) -> DestinationError {
    DestinationError::Authority { authority: authority.to_owned(), reason: reason.to_owned() }
}

const HTTP_PORT: u16 = 80;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn read(line: &str) -> Result<Destination, DestinationError> {
        let head = format!("{line} HTTP/1.0\r\n\r\n");
        Destination::of(&RequestHead::parse(&Bytes::from(head)).unwrap(), &[25])
    }

    #[test]
    fn tunnels_and_plain_requests_go_where_they_say() {
        let tunnel = |host: &str, port| Ok(Destination::Tunnel { host: host.to_owned(), port });
        assert_eq!(read("CONNECT A.example:8448"), tunnel("a.example", 8448));
        assert_eq!(read("CONNECT [::1]:443"), tunnel("[::1]", 443));
        let plain = |authority: &str, path| {
            Ok(Destination::Plain {
                authority: authority.to_owned(),
                path_and_query: PathAndQuery::from_static(path),
            })
        };
        assert_eq!(
            read("POST http://a.example/_matrix/push?x=%2f"),
            plain("a.example", "/_matrix/push?x=%2f")
        );
        assert_eq!(read("GET HTTP://a.example:80/"), plain("a.example", "/"));
        assert_eq!(read("GET http://a.example:9000/"), plain("a.example:9000", "/"));
    }

    /// Fault 29: other schemes, userinfo and bad ports lead nowhere.
    #[test]
    fn everything_else_is_refused() {
        for (line, reason) in [
            ("GET https://a.example/", "https:// is not served here"),
            ("GET matrix-federation://a.example/", "matrix-federation:// is not"),
            ("GET ftp://a.example/", "ftp:// is not"),
            ("GET http://user:pw@a.example/", "refused"),
            ("GET http://a.example:0/", "port \"0\""),
            ("GET http://a.example:25/", "port 25 is not"),
            ("GET http:///etc", "empty"),
            ("CONNECT a.example", "has no port"),
            ("CONNECT a.example:0", "port \"0\""),
            ("CONNECT a.example:99999", "port \"99999\""),
            ("CONNECT a.example:25", "port 25 is not"),
            ("CONNECT user@a.example:443", "'@'"),
            ("CONNECT http://a.example:443", "refused"),
            ("CONNECT /:443", "'/'"),
        ] {
            let error = read(line).unwrap_err().to_string();
            assert!(error.contains(reason), "{line}: {error}");
        }
    }
}
