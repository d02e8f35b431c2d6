//! Where a listener listens, as the configuration writes it.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// A TCP address or the path of a unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// `127.0.0.1:9101`, `[::1]:9101`. Port 0 lets the system choose.
    Tcp(SocketAddr),
    /// `unix:PATH`.
    Unix(PathBuf),
}

/// Why a text is not a place to listen at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidListenAddress {
    /// Neither of the two forms.
    #[error(
        "{text:?} is not an address to listen at; write \"127.0.0.1:9101\", \"[::1]:9101\" or \"unix:PATH\""
    )]
    Form {
        /// What stood there.
        text: String,
    },
    /// More than the system takes.
    #[error("the socket path {} has {length} bytes, the most is {PATH_MAX}", .path.display())]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its bytes.
        length: usize,
    },
}

impl ListenAddress {
    /// Reads an address; a relative path is taken from `base`.
    ///
    /// # Errors
    /// [`InvalidListenAddress`] says which forms there are.
    pub fn parse(text: &str, base: &Path) -> Result<Self, InvalidListenAddress> {
        let form = || InvalidListenAddress::Form { text: text.to_owned() };
        let Some(path) = text.strip_prefix("unix:") else {
            return text.parse().map(Self::Tcp).map_err(|_| form());
        };
        if path.is_empty() || path.contains('\0') {
            return Err(form());
        }
        let path = base.join(path);
        let length = path.as_os_str().len();
        if length > PATH_MAX {
            return Err(InvalidListenAddress::PathTooLong { path, length });
        }
        Ok(Self::Unix(path))
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `sun_path` has 108 bytes, the last of which is zero (unix(7)).
const PATH_MAX: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<ListenAddress, InvalidListenAddress> {
        ListenAddress::parse(text, Path::new("/run/southbridge"))
    }

    #[test]
    fn both_forms_are_read_and_print_alike() {
        for (text, printed) in [
            ("127.0.0.1:9101", "127.0.0.1:9101"),
            ("[::1]:9101", "[::1]:9101"),
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("unix:a.sock", "unix:/run/southbridge/a.sock"),
            ("unix:/tmp/a.sock", "unix:/tmp/a.sock"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), printed);
        }
    }

    #[test]
    fn other_forms_are_refused_with_the_right_ones() {
        for text in
            ["", "9101", ":9101", "localhost:9101", "127.0.0.1", "::1:9101x", "unix:", "127.0.0.1:70000"]
        {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("write \"127.0.0.1:9101\""), "{error}");
        }
        let long = parse(&format!("unix:{}", "x".repeat(100))).unwrap_err().to_string();
        assert!(long.contains("has 117 bytes, the most is 107"), "{long}");
    }

    proptest! {
        /// What was read prints as something that reads the same.
        #[test]
        fn printing_and_reading_agree(text in "\\PC{0,40}|unix:[a-z/.]{1,40}|[0-9.:\\[\\]]{0,20}") {
            if let Ok(address) = parse(&text) {
                prop_assert_eq!(parse(&address.to_string()), Ok(address));
            }
        }
    }
}
