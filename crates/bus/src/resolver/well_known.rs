//! Reads the body of `/.well-known/matrix/server`.
//!
//! # Source
//! Matrix specification v1.19, Server-Server API, "GET /.well-known/matrix/server": a JSON object with
//! `m.server`, whatever the content type says.

use std::fmt;
use std::sync::Arc;

use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use southbridge_words::{InvalidServerName, ServerName};

/// Where a host says that its Matrix server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegation {
    /// The value of `m.server`, as it was written.
    pub server: ServerName,
}

/// Why a body delegates to nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WellKnownError {
    /// Longer than any such document need be.
    #[error("body has {length} bytes, the most is {BODY_BYTES_MAX}")]
    TooLarge {
        /// Bytes in the body.
        length: usize,
    },
    /// Not a JSON object: an error page, a captive portal, half a document.
    #[error("body is not a JSON object")]
    NotJsonObject,
    /// A JSON object without `m.server`.
    #[error("body has no \"m.server\"")]
    Missing,
    /// `m.server` is not a text.
    #[error("\"m.server\" is not a text")]
    NotText,
    /// `m.server` is not a server name.
    #[error("\"m.server\" is not a server name: {0}")]
    BadName(Arc<InvalidServerName>),
}

/// Reads a body.
///
/// Where `m.server` stands more than once the last one counts, as it does for the JSON reader that most
/// homeservers use.
///
/// # Errors
/// [`WellKnownError`] when the body delegates to nobody: the specification's step 4 follows.
pub fn parse_body(body: &[u8]) -> Result<Delegation, WellKnownError> {
    if body.len() > BODY_BYTES_MAX {
        return Err(WellKnownError::TooLarge { length: body.len() });
    }
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    let mut reader = serde_json::Deserializer::from_slice(body);
    let found = reader.deserialize_map(Search).map_err(|_| WellKnownError::NotJsonObject)?;
    reader.end().map_err(|_| WellKnownError::NotJsonObject)?;
    match found {
        Found::Nothing => Err(WellKnownError::Missing),
        Found::Other => Err(WellKnownError::NotText),
        Found::Text(name) => match ServerName::parse(&name) {
            Ok(server) => Ok(Delegation { server }),
            Err(invalid) => Err(WellKnownError::BadName(Arc::new(invalid))),
        },
    }
}

enum Found {
    Nothing,
    Other,
    Text(String),
}

/// Picks `m.server` out of an object and builds nothing of the rest.
struct Search;

impl<'de> Visitor<'de> for Search {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let mut found = Found::Nothing;
        while let Some(key) = map.next_key::<String>()? {
            if key != KEY {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            found = match map.next_value::<serde_json::Value>()? {
                serde_json::Value::String(name) => Found::Text(name),
                _ => Found::Other,
            };
        }
        Ok(found)
    }
}

const KEY: &str = "m.server";
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// 50 KiB, the bound of Synapse and dendrite.
const BODY_BYTES_MAX: usize = 50 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(body: &str) -> Result<String, WellKnownError> {
        parse_body(body.as_bytes()).map(|delegation| delegation.server.as_str().to_owned())
    }

    #[test]
    fn the_delegated_name_is_read_as_it_was_written() {
        for (body, server) in [
            (r#"{"m.server":"matrix.example:443"}"#, "matrix.example:443"),
            (r#" {"x":[{"m.server":"no"}], "m.server" : "Delegated.Example"} "#, "Delegated.Example"),
            (r#"{"m.server":"[2001:db8::1]:8448"}"#, "[2001:db8::1]:8448"),
            (r#"{"m.server":"a.example","m.server":"b.example"}"#, "b.example"),
            (r#"{"m.\u0073erver":"xn--bcher-kva.example"}"#, "xn--bcher-kva.example"),
            ("\u{feff}{\"m.server\":\"a.example\"}", "a.example"),
        ] {
            assert_eq!(read(body).as_deref(), Ok(server), "{body}");
        }
    }

    #[test]
    fn odd_bodies_delegate_to_nobody() {
        for body in [
            "",
            "null",
            "[]",
            "\"a.example\"",
            "<html>Sign in</html>",
            "{\"m.server\":\"a.example\"",
            "{} {}",
        ] {
            assert_eq!(read(body), Err(WellKnownError::NotJsonObject), "{body}");
        }
        assert_eq!(read("{}"), Err(WellKnownError::Missing));
        assert_eq!(read(r#"{"m.homeserver":{"base_url":"https://a"}}"#), Err(WellKnownError::Missing));
        assert_eq!(read(r#"{"m.server":null}"#), Err(WellKnownError::NotText));
        assert_eq!(read(r#"{"m.server":"a.example","m.server":["b"]}"#), Err(WellKnownError::NotText));
        for name in ["", " a.example", "https://a.example", "a.example:0", "bücher.example", "a.example/x"] {
            let body = format!("{{\"m.server\":{name:?}}}");
            assert!(matches!(read(&body), Err(WellKnownError::BadName(_))), "{body}");
        }
        assert_eq!(parse_body(&vec![b' '; 51_201]), Err(WellKnownError::TooLarge { length: 51_201 }));
        assert_eq!(read(&"[".repeat(50_000)), Err(WellKnownError::NotJsonObject));
        assert_eq!(read(&format!("{{\"a\":{}", "[".repeat(50_000))), Err(WellKnownError::NotJsonObject));
    }

    proptest! {
        /// A document cut at any byte, and any bytes at all, are read without panic; what is taken is a name.
        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0_usize..40) {
            let _ = parse_body(&bytes);
            let whole = br#"{"m.server":"a.example:443","x":[1]}"#;
            let cut = cut.min(whole.len() - 1);
            prop_assert_eq!(parse_body(&whole[..cut]), Err(WellKnownError::NotJsonObject));
        }
    }
}
