//! Whom a request is for: the server name, and the path that was signed.

use http::uri::PathAndQuery;
use http::{Method, StatusCode};
use southbridge_words::{InvalidServerName, ServerName};

use crate::local_http::{HeadError, RequestHead, Target};

/// Whom a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addressee {
    /// The server name as Synapse has it, before any delegation.
    pub server: ServerName,
    /// The signed part of the target, byte for byte.
    pub path_and_query: PathAndQuery,
}

/// Why a request is for nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Another protocol is asked for.
    #[error(
        "{what} is not served here: this is a Matrix federation proxy, it speaks matrix-federation:// only"
    )]
    WrongScheme {
        /// What was asked for.
        what: String,
    },
    /// There is a target, and it names no server.
    #[error("{name:?} is refused: {reason}")]
    ServerName {
        /// What stood there.
        name: String,
        /// What is wrong with it.
        reason: InvalidServerName,
    },
}

impl AddressError {
    /// The status to answer with.
    pub fn status(&self) -> StatusCode {
        StatusCode::BAD_REQUEST
    }
}

impl Addressee {
    /// Whom `head` is for.
    ///
    /// # Errors
    /// [`AddressError`]; nothing has been looked up or dialled then, and nothing must be.
    pub fn of(head: &RequestHead) -> Result<Self, AddressError> {
        let wrong = |what: &str| AddressError::WrongScheme { what: what.to_owned() };
        match &head.target {
            Target::Authority(_) => Err(wrong(Method::CONNECT.as_str())),
            Target::Absolute { scheme, .. } if !scheme.eq_ignore_ascii_case(SCHEME) => Err(wrong(scheme)),
            Target::Absolute { authority, path_and_query, .. } => match ServerName::parse(authority) {
                Ok(server) => Ok(Self { server, path_and_query: path_and_query.clone() }),
                Err(reason) => Err(AddressError::ServerName { name: authority.to_string(), reason }),
            },
        }
    }
}

/// Reads a whole request head and whom it is for: what the door does with the first bytes of a stranger.
///
/// # Errors
/// What the door would answer.
pub fn read_head(bytes: &[u8]) -> Result<(RequestHead, Addressee), ReadHeadError> {
    let head = RequestHead::parse(&bytes::Bytes::copy_from_slice(bytes))?;
    let addressee = Addressee::of(&head)?;
    Ok((head, addressee))
}

/// Why a request head is not one for this door.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadHeadError {
    /// It is not a plain head.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// It is for nobody.
    #[error(transparent)]
    Address(#[from] AddressError),
}

/// Synapse's private scheme for requests to a federation proxy.
const SCHEME: &str = "matrix-federation";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(line: &str) -> Result<Addressee, String> {
        let head = format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n");
        read_head(head.as_bytes()).map(|(_, addressee)| addressee).map_err(|error| error.to_string())
    }

    #[test]
    fn the_server_name_is_the_authority_as_it_stands() {
        for name in ["remote.example", "Remote.Example:8448", "1.2.3.4", "[::1]:8448"] {
            let addressee = read(&format!("GET matrix-federation://{name}/a%2fb?c=%25")).unwrap();
            assert_eq!(
                (addressee.server.as_str(), addressee.path_and_query.as_str()),
                (name, "/a%2fb?c=%25")
            );
        }
    }

    /// The proxy port is not a way to anywhere else (fault 29).
    #[test]
    fn other_schemes_are_refused_with_what_is_spoken_here() {
        for (line, what) in [
            ("GET http://a.example/", "http is not"),
            ("GET https://a.example/", "https is not"),
            ("GET file://a/etc/passwd", "file is not"),
            ("CONNECT a.example:443", "CONNECT is not"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.starts_with(what) && error.contains("matrix-federation://"), "{error}");
        }
        assert!(read("GET /_matrix/federation/v1/version").is_err());
    }

    #[test]
    fn invalid_server_names_are_refused_with_the_reason() {
        let long = "a".repeat(64);
        for (name, reason) in [
            ("user@a.example", "'@'"),
            ("user:pw@a.example", "port \"pw@a.example\""),
            ("a.example:0", "port \"0\""),
            ("a.example:123456", "port \"123456\""),
            ("a..example", "label \"\""),
            (&*long, "label \"aaaa"),
            ("", "empty"),
            ("a%2eexample", "'%'"),
            ("256.1.1.1", "IPv4"),
            ("[::1", "IPv6"),
            ("\\a", "'\\\\'"),
        ] {
            let error = read(&format!("GET matrix-federation://{name}/x")).unwrap_err();
            assert!(error.contains(reason), "{name:?}: {error}");
        }
    }

    proptest! {
        /// Whatever stands there, what is taken is what was written, and nothing is added.
        #[test]
        fn what_is_taken_is_what_was_written(name in "[a-z0-9.:@\\[\\]-]{0,20}", path in "[!-~]{0,20}") {
            let line = format!("GET matrix-federation://{name}/{path}");
            if let Ok(addressee) = read(&line) {
                let rebuilt = format!("GET matrix-federation://{}{}", addressee.server, addressee.path_and_query);
                prop_assert_eq!(rebuilt, line);
            }
        }
    }
}
