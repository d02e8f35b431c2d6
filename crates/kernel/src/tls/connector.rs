//! The one door to TLS with peers, whatever their profile.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use southbridge_words::CertificateName;
use tokio::sync::{OnceCell, oneshot};
use tokio::time::timeout;

#[cfg(feature = "legacy-tls")]
use super::legacy::Legacy;
use super::modern::Modern;
use super::roots::Roots;
use super::{TlsConfigError, TlsStream};
use crate::Clock;
use crate::http::explain;
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
    /// When roots and certificate are read. Default at the start.
    pub reading: Reading,
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
            reading: Reading::AtStart,
            certificate: None,
        }
    }
}

/// When the files are read that TLS needs: half a megabyte in memory, and a thread that has better things to do for
/// some ten milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// When the connector is made, which fails when they cannot be read.
    #[default]
    AtStart,
    /// On a thread of its own, when somebody is met by TLS for the first time; it is he who is told what cannot be read.
    WhenNeeded,
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
    config: TlsConfig,
    clock: Clock,
    profiles: OnceCell<Profiles>,
}

/// What is made of the files.
struct Profiles {
    modern: Modern,
    #[cfg(feature = "legacy-tls")]
    legacy: Option<Legacy>,
}

impl TlsConnector {
    /// Loads the roots, unless that can wait. Reads files, so it belongs to the start of a program and not to its I/O.
    /// Certificates are valid when `clock` says so; in the legacy profile, which is OpenSSL's, when the system says so.
    ///
    /// # Errors
    /// [`TlsConfigError`] names the file and what to do about it.
    pub fn new(config: &TlsConfig, clock: Clock) -> Result<Self, TlsConfigError> {
        let profiles = match config.reading {
            Reading::AtStart => OnceCell::new_with(Some(Profiles::read(config, clock)?)),
            Reading::WhenNeeded => OnceCell::new(),
        };
        Ok(Self { config: config.clone(), clock, profiles })
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
            let profiles = match self.profiles.get() {
                Some(profiles) => profiles,
                // Boxed: it happens once.
                None => Box::pin(self.profiles.get_or_try_init(|| self.read_aside())).await?,
            };
            match handshake.profile {
                TlsProfile::Modern => profiles.modern.connect(tcp, handshake.name, handshake.alpn).await,
                TlsProfile::Legacy => profiles.connect_legacy(tcp, handshake.name).await,
            }
        };
        let address = handshake.address;
        match timeout(handshake.timeout, connecting).await {
            Ok(connected) => connected.map_err(|reason| ConnectError::Handshake { address, reason }),
            Err(_) => Err(ConnectError::HandshakeTimedOut { address, waited: handshake.timeout }),
        }
    }

    /// Reads the files on a thread of its own. The error is a sentence.
    async fn read_aside(&self) -> Result<Profiles, String> {
        let (config, clock) = (self.config.clone(), self.clock);
        let (tell, told) = oneshot::channel();
        let thread = std::thread::Builder::new().name("southbridge-tls".to_owned());
        let started = thread.spawn(move || {
            let _gone = tell.send(Profiles::read(&config, clock));
        });
        started.map_err(|error| format!("no thread to read the certificate authorities on: {error}"))?;
        match told.await {
            Ok(read) => read.map_err(|error| explain(&error)),
            Err(_) => Err("the certificate authorities were not read to the end".to_owned()),
        }
    }
}

impl Profiles {
    fn read(config: &TlsConfig, clock: Clock) -> Result<Self, TlsConfigError> {
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

#[cfg(test)]
mod tests {
    use southbridge_testkit::certificates::{Authority, CertificateKind};
    use tempfile::NamedTempFile;

    use super::super::tests::{World, certificate_name, handshake, pair};
    use super::*;

    /// Who is met first waits for it; whoever comes later finds it there, and the file may be gone.
    #[tokio::test]
    async fn what_is_read_when_it_is_needed_is_read_once() {
        let (authority, ca_file) = (Authority::new(), NamedTempFile::new().unwrap());
        authority.write_ca(ca_file.path()).unwrap();
        let config = TlsConfig {
            ca_files: vec![ca_file.path().to_owned()],
            use_system_roots: false,
            reading: Reading::WhenNeeded,
            ..TlsConfig::default()
        };
        let connector = TlsConnector::new(&config, Clock::start()).unwrap();
        assert!(connector.profiles.get().is_none());
        let world = World { authority, connector };
        let server = world.server("a.example", CertificateKind::Good);
        let meet = || world.meet(server.clone(), "a.example", Alpn::Http2OrHttp1);
        let (one, another) = tokio::join!(meet(), meet());
        assert!(one.is_ok() && another.is_ok());
        drop(ca_file);
        assert!(meet().await.is_ok());
    }

    /// It is told to whoever needs it, and tried anew for the next one.
    #[tokio::test]
    async fn what_cannot_be_read_when_it_is_needed_fails_the_handshake() {
        let config = TlsConfig {
            ca_files: vec!["/nowhere/ca.pem".into()],
            use_system_roots: false,
            reading: Reading::WhenNeeded,
            ..TlsConfig::default()
        };
        let connector = TlsConnector::new(&config, Clock::start()).unwrap();
        let name = certificate_name("a.example");
        for _ in 0..2 {
            let (ours, _theirs) = pair().await;
            let refused = connector.connect(ours, &handshake(&name, Alpn::Http1)).await;
            let text = refused.err().expect("nobody is trusted").to_string();
            assert!(text.contains("/nowhere/ca.pem cannot be read"), "{text}");
        }
    }
}
