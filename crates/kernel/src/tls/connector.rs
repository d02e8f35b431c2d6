//! The one door to TLS with peers, whatever their profile.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use southbridge_words::CertificateName;
use tokio::time::timeout;

#[cfg(feature = "legacy-tls")]
use super::legacy::Legacy;
use super::modern::Modern;
use super::roots::Roots;
use super::{TlsConfigError, TlsStream};
use crate::Clock;
use crate::net::{ConnectError, Stream};

/// Whom to trust, and how much to remember.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// PEM files with certificate authorities that are trusted in addition to the system's. Default none.
    pub ca_files: Vec<PathBuf>,
    /// Whether the system's roots are trusted (or, where there are none, Mozilla's as built in). Default true.
    pub use_system_roots: bool,
    /// Whether some host has the legacy profile. Default false: its library is then not so much as set up.
    pub legacy: bool,
    /// For how many hosts a session is remembered, so that meeting again costs half. Default 1024: a session holds
    /// the peer's certificates, some 2 to 4 KiB.
    pub sessions_max: usize,
    /// PEM files with our own certificate chain and its key, shown to peers that ask for them. Default none.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            ca_files: Vec::new(),
            use_system_roots: true,
            legacy: false,
            sessions_max: 1024,
            certificate: None,
        }
    }
}

/// How old the TLS of a peer may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TlsProfile {
    /// TLS 1.2 and 1.3 with good ciphers.
    #[default]
    Modern,
    /// TLS 1.0 and up with any cipher that encrypts and authenticates. The certificate is checked all the same.
    Legacy,
}

/// Which protocols are offered within TLS (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// `h2` and `http/1.1`; the peer chooses.
    Http2OrHttp1,
    /// `http/1.1` only, for single requests.
    Http1,
}

/// What is wanted of one handshake.
#[derive(Clone, Copy, Debug)]
pub struct Handshake<'a> {
    /// Where the connection leads; named in errors.
    pub address: SocketAddr,
    /// The name the certificate must be valid for.
    pub name: &'a CertificateName,
    /// How old the peer's TLS may be.
    pub profile: TlsProfile,
    /// What is offered within.
    pub alpn: Alpn,
    /// How long it may take.
    pub timeout: Duration,
}

/// What came of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// Whether the peer chose HTTP/2; HTTP/1.1 otherwise, also when it chose nothing.
    pub alpn_h2: bool,
    /// Whether an earlier session was resumed, without a new look at the certificate.
    pub resumed: bool,
    /// `TLSv1.3`, …
    pub version: &'static str,
    /// The cipher suite, as the standards call it.
    pub cipher: &'static str,
}

/// Makes TLS connections of TCP connections.
pub struct TlsConnector {
    modern: Modern,
    #[cfg(feature = "legacy-tls")]
    legacy: Option<Legacy>,
}

impl TlsConnector {
    /// Loads the roots. Reads files, so it belongs to the start of a program and not to its I/O. Certificates are valid
    /// when `clock` says so; in the legacy profile, which is OpenSSL's, when the system says so.
    ///
    /// # Errors
    /// [`TlsConfigError`] names the file and what to do about it.
    pub fn new(config: &TlsConfig, clock: Clock) -> Result<Self, TlsConfigError> {
        let roots = Roots::load(&config.ca_files, config.use_system_roots)?;
        #[cfg(not(feature = "legacy-tls"))]
        if config.legacy {
            return Err(TlsConfigError::NoLegacy);
        }
        Ok(Self {
            #[cfg(feature = "legacy-tls")]
            legacy: config.legacy.then(|| Legacy::new(&roots.certificates)).transpose()?,
            modern: Modern::new(roots.anchors, config.sessions_max, config.certificate.as_ref(), clock)?,
        })
    }

    /// Agrees on TLS with the peer of `tcp` and checks its certificate.
    ///
    /// # Errors
    /// [`ConnectError::Handshake`] says what went wrong and which setting would help;
    /// [`ConnectError::HandshakeTimedOut`] when the peer was too slow.
    pub async fn connect(
        &self,
        tcp: Stream,
        handshake: &Handshake<'_>,
    ) -> Result<(TlsStream, Negotiated), ConnectError> {
        let connecting = async {
            match handshake.profile {
                TlsProfile::Modern => self.modern.connect(tcp, handshake.name, handshake.alpn).await,
                TlsProfile::Legacy => self.connect_legacy(tcp, handshake.name).await,
            }
        };
        let address = handshake.address;
        match timeout(handshake.timeout, connecting).await {
            Ok(connected) => connected.map_err(|reason| ConnectError::Handshake { address, reason }),
            Err(_) => Err(ConnectError::HandshakeTimedOut { address, waited: handshake.timeout }),
        }
    }
    #[cfg(feature = "legacy-tls")]
    async fn connect_legacy(
        &self,
        tcp: Stream,
        name: &CertificateName,
    ) -> Result<(TlsStream, Negotiated), String> {
        match &self.legacy {
            Some(legacy) => legacy.connect(tcp, name).await,
            None => Err("the legacy TLS profile was not asked for at the start".to_owned()),
        }
    }

    #[cfg(not(feature = "legacy-tls"))]
    async fn connect_legacy(
        &self,
        _tcp: Stream,
        _name: &CertificateName,
    ) -> Result<(TlsStream, Negotiated), String> {
        Err("this build has no legacy TLS profile".to_owned())
    }
}
