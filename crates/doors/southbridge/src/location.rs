//! Where a redirect leads, of media or of a .well-known document.
//!
//! # Source
//! RFC 3986 §5.2 (resolving references); faults 12 and 13. Only https is followed: whatever the
//! peer says must neither leave the encrypted world nor reach a file.

use std::sync::Arc;

use http::uri::PathAndQuery;
use southbridge_words::ServerName;

/// A place that can be fetched from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The homeserver that was asked in the first place.
    Peer {
        /// What to ask it for.
        path_and_query: PathAndQuery,
    },
    /// Any https server.
    Web {
        /// `host`, or `host:port` where the port is not 443.
        authority: Arc<str>,
        /// What to ask it for.
        path_and_query: PathAndQuery,
    },
}

/// Why a `Location` leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LocationError {
    /// Something other than https.
    #[error("it leads to {scheme}, and only https is followed")]
    NotHttps {
        /// What stood there.
        scheme: String,
    },
    /// Not a reference at all.
    #[error("it is not a location that can be followed: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
}

impl Place {
    /// Where `location`, found at this place, leads.
    ///
    /// # Errors
    /// [`LocationError`]; it must not be followed then.
    pub fn join(&self, location: &[u8]) -> Result<Self, LocationError> {
        let text = std::str::from_utf8(location).map_err(|_| malformed("it is not ASCII"))?;
        let text = text.split_once('#').map_or(text, |(before, _)| before);
        if text.is_empty()
            || text.len() > LOCATION_MAX
            || !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        {
            return Err(malformed("it is empty, too long, or has in it what no location has"));
        }
        match scheme(text) {
            Some(("https", rest)) => match rest.strip_prefix("//") {
                Some(rest) => web(rest),
                None => Err(malformed("https without a host")),
            },
            Some((scheme, _)) => Err(LocationError::NotHttps { scheme: scheme.to_owned() }),
            None => match text.strip_prefix("//") {
                Some(rest) => web(rest),
                None => self.relative(text),
            },
        }
    }

    /// What to ask for there.
    pub fn path_and_query(&self) -> &PathAndQuery {
        match self {
            Self::Peer { path_and_query } | Self::Web { path_and_query, .. } => path_and_query,
        }
    }

    fn relative(&self, reference: &str) -> Result<Self, LocationError> {
        let base = self.path_and_query().path();
        let (path, query) = reference.split_at(reference.find('?').unwrap_or(reference.len()));
        let path = match path {
            "" => base.to_owned(),
            path if path.starts_with('/') => without_dots(path),
            path => without_dots(&format!("{}{path}", &base[..=base.rfind('/').unwrap_or(0)])),
        };
        let path_and_query = parse_path(&format!("{path}{query}"))?;
        Ok(match self {
            Self::Peer { .. } => Self::Peer { path_and_query },
            Self::Web { authority, .. } => Self::Web { authority: authority.clone(), path_and_query },
        })
    }
}

/// The scheme of an absolute reference, in lower case where it is https, and what follows its colon.
fn scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    is_scheme.then(|| if scheme.eq_ignore_ascii_case("https") { ("https", rest) } else { (scheme, rest) })
}

fn web(rest: &str) -> Result<Place, LocationError> {
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    // The grammar of a server name is that of an authority without userinfo.
    let name = ServerName::parse(authority).map_err(|error| malformed(&error.to_string()))?;
    let host = name.host_lowercase();
    let authority = match name.port().filter(|port| *port != HTTPS_PORT) {
        Some(port) => format!("{host}:{port}").into(),
        None => host.into(),
    };
    let path_and_query = match path {
        path if path.starts_with('/') => parse_path(path)?,
        path => parse_path(&format!("/{path}"))?,
    };
    Ok(Place::Web { authority, path_and_query })
}

fn parse_path(path: &str) -> Result<PathAndQuery, LocationError> {
    PathAndQuery::try_from(path).map_err(|error| malformed(&error.to_string()))
}

/// RFC 3986 §5.2.4.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

fn malformed(reason: &str) -> LocationError {
    LocationError::Malformed { reason: reason.to_owned() }
}

const HTTPS_PORT: u16 = 443;
/// Signed locations of storage services have up to 2 KiB.
const LOCATION_MAX: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Place {
        Place::Peer { path_and_query: PathAndQuery::from_static("/_matrix/media/v3/download/a/b?x=1") }
    }

    fn at(place: &Place) -> String {
        match place {
            Place::Peer { path_and_query } => path_and_query.to_string(),
            Place::Web { authority, path_and_query } => format!("https://{authority}{path_and_query}"),
        }
    }

    #[test]
    fn references_are_resolved() {
        let web = Place::Web {
            authority: "cdn.example".into(),
            path_and_query: PathAndQuery::from_static("/a/b/c?d"),
        };
        let cases: &[(&Place, &str, &str)] = &[
            (&peer(), "https://cdn.example/x?y=%20#z", "https://cdn.example/x?y=%20"),
            (&peer(), "HTTPS://CDN.example:8443", "https://cdn.example:8443/"),
            (&peer(), "https://cdn.example?y", "https://cdn.example/?y"),
            (&peer(), "https://[::1]:8443/x", "https://[::1]:8443/x"),
            (&peer(), "//cdn.example/x", "https://cdn.example/x"),
            (&peer(), "/x?y", "/x?y"),
            (&peer(), "c?d", "/_matrix/media/v3/download/a/c?d"),
            (&peer(), "?d", "/_matrix/media/v3/download/a/b?d"),
            (&peer(), "../../../../../../x", "/x"),
            (&web, "../x/./y/..", "https://cdn.example/a/x/"),
            (&web, "/x:y", "https://cdn.example/x:y"),
        ];
        for (base, location, expected) in cases {
            assert_eq!(at(&base.join(location.as_bytes()).unwrap()), *expected, "{location}");
        }
    }

    #[test]
    fn nothing_but_https_is_followed() {
        for location in
            ["http://cdn.example/x", "file:///etc/passwd", "matrix-federation://a/x", "data:x", "ftp://a/"]
        {
            let error = peer().join(location.as_bytes()).unwrap_err();
            assert!(matches!(error, LocationError::NotHttps { .. }), "{location}: {error}");
        }
    }

    #[test]
    fn what_is_not_a_location_is_not_followed() {
        let long = format!("/{}", "x".repeat(LOCATION_MAX));
        for location in [
            "",
            "#x",
            "https:x",
            "https://",
            "https:///x",
            "https://user@cdn.example/",
            "https://cdn.example:0/",
            "https://a\\b/",
            "https://cdn.example:99999/",
            "/a b",
            "/a\r\nb",
            "/\u{e9}",
            &long,
        ] {
            let error = peer().join(location.as_bytes()).unwrap_err();
            assert!(matches!(error, LocationError::Malformed { .. }), "{location}: {error}");
        }
    }
}
