//! Where a door listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use southbridge_kernel::net::ListenAddress;
use southbridge_settings::reader::{Reader, quoted, text_of};

/// One place to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The address or path.
    pub address: ListenAddress,
    /// Whether TLS is spoken there (`tls:` in front of the address).
    pub tls: bool,
}

impl Listen {
    /// Reads `127.0.0.1:9101`, `[::1]:9101`, `unix:PATH`, and the TCP forms with `tls:` in front. A relative
    /// path is relative to `dir`.
    ///
    /// # Errors
    /// Says what is wrong with `text`, without repeating it.
    pub fn parse(text: &str, dir: &Path) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return parse_path(path, dir).map(|path| Self { address: ListenAddress::Unix(path), tls: false });
        }
        let (bare, tls) = text.strip_prefix("tls:").map_or((text, false), |bare| (bare, true));
        let address = parse_address(bare)?;
        Ok(Self { address: ListenAddress::Tcp(address), tls })
    }

    /// Whether only programs on this machine can reach it.
    pub fn is_local(&self) -> bool {
        match &self.address {
            ListenAddress::Tcp(address) => address.ip().to_canonical().is_loopback(),
            ListenAddress::Unix(_) => true,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.tls { "tls:" } else { "" }, self.address)
    }
}

/// The places at `name`.
pub(in crate::config) fn read(reader: &Reader<'_>, name: &str) -> Vec<Listen> {
    reader.list(name, |value, kind| {
        Listen::parse(text_of(value, kind)?, reader.dir()).map_err(|why| quoted(value, &why))
    })
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let hint = match text.rsplit_once(':') {
        Some(("", port)) => format!("; did you mean \"127.0.0.1:{port}\"?"),
        Some(("localhost", port)) => {
            format!("; names are not looked up here, did you mean \"127.0.0.1:{port}\"?")
        }
        Some(("*", port)) => format!("; did you mean \"0.0.0.0:{port}\"?"),
        None if text.parse::<u16>().is_ok() => format!("; did you mean \"127.0.0.1:{text}\"?"),
        _ if text.contains('/') => format!("; did you mean \"unix:{text}\"?"),
        _ => String::new(),
    };
    Err(format!("is not an address to listen on{hint}"))
}

fn parse_path(path: &str, dir: &Path) -> Result<PathBuf, String> {
    if path.is_empty() || path.starts_with('@') {
        return Err("needs the path of a file behind `unix:`".to_owned());
    }
    let path = dir.join(path);
    let bytes = path.as_os_str().len();
    if bytes > UNIX_PATH_BYTES_MAX {
        return Err(format!(
            "is too long for a unix socket: {bytes} bytes with its directory, the most is {UNIX_PATH_BYTES_MAX}"
        ));
    }
    Ok(path)
}

/// `sun_path` of Linux, less the closing NUL.
const UNIX_PATH_BYTES_MAX: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, String> {
        Listen::parse(text, Path::new("/etc/southbridge")).map(|listen| listen.to_string())
    }

    #[test]
    fn every_form_is_read() {
        assert_eq!(parse("127.0.0.1:9101").as_deref(), Ok("127.0.0.1:9101"));
        assert_eq!(parse("tls:[::]:9101").as_deref(), Ok("tls:[::]:9101"));
        assert_eq!(parse("unix:sb.sock").as_deref(), Ok("unix:/etc/southbridge/sb.sock"));
        assert_eq!(parse("unix:/run/sb.sock").as_deref(), Ok("unix:/run/sb.sock"));
    }

    #[test]
    fn a_near_miss_is_named() {
        for (text, hint) in [
            ("9101", "\"127.0.0.1:9101\""),
            (":9101", "\"127.0.0.1:9101\""),
            ("localhost:9101", "\"127.0.0.1:9101\""),
            ("/run/sb.sock", "\"unix:/run/sb.sock\""),
            ("unix:", "path of a file"),
            ("unix:@abstract", "path of a file"),
            ("tls:unix:/run/sb.sock", "not an address"),
            ("::1:99999", "not an address"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(hint), "{text}: {error}");
        }
        assert!(parse(&format!("unix:{}", "a".repeat(120))).unwrap_err().contains("the most is 107"));
    }
}
