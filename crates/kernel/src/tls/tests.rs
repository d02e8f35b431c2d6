//! Real handshakes over loopback, between the connector and servers of the test kit.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use southbridge_testkit::certificates::{self, Authority, CertificateKind, CertificatesByName};
use southbridge_words::CertificateName;
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{Alpn, Handshake, Negotiated, TlsConfig, TlsConnector, TlsProfile, TlsStream};
use crate::net::{ConnectError, Stream};

/// A world with one authority and one client that trusts it alone.
pub(super) struct World {
    pub(super) authority: Arc<Authority>,
    pub(super) connector: TlsConnector,
}

impl World {
    pub(super) fn new() -> Self {
        let authority = Authority::new();
        let ca_file = NamedTempFile::new().unwrap();
        authority.write_ca(ca_file.path()).unwrap();
        let config = TlsConfig {
            ca_files: vec![ca_file.path().to_owned()],
            use_system_roots: false,
            legacy: cfg!(feature = "legacy-tls"),
            ..TlsConfig::default()
        };
        Self { connector: TlsConnector::new(&config, crate::Clock::start()).unwrap(), authority }
    }

    /// A server configuration that shows a certificate of `kind` for `name`.
    pub(super) fn server(&self, name: &str, kind: CertificateKind) -> Arc<rustls::ServerConfig> {
        let certificates = CertificatesByName::new(Arc::clone(&self.authority));
        certificates.set(name, kind);
        certificates.server_config(certificates::Alpn::Http2)
    }

    /// One handshake with a rustls server, which then sends a byte so that the client sees its tickets.
    pub(super) async fn meet(
        &self,
        server: Arc<rustls::ServerConfig>,
        name: &str,
        alpn: Alpn,
    ) -> Result<(TlsStream, Negotiated), ConnectError> {
        let (ours, theirs) = pair().await;
        let acceptor = tokio_rustls::TlsAcceptor::from(server);
        let serving = async {
            if let Ok(mut stream) = acceptor.accept(theirs).await {
                stream.write_all(b"!").await.unwrap();
                stream.flush().await.unwrap();
                // Until the client has gone.
                let _ = stream.read(&mut [0; 1]).await;
            }
        };
        let name = certificate_name(name);
        let meeting = async {
            let (mut stream, negotiated) = self.connector.connect(ours, &handshake(&name, alpn)).await?;
            let mut byte = [0];
            stream.read_exact(&mut byte).await.unwrap();
            assert_eq!(&byte, b"!");
            stream.shutdown().await.unwrap();
            Ok((stream, negotiated))
        };
        tokio::join!(meeting, serving).0
    }

    async fn refusal(&self, server: Arc<rustls::ServerConfig>, name: &str) -> String {
        match self.meet(server, name, Alpn::Http2OrHttp1).await {
            Err(error @ ConnectError::Handshake { .. }) => error.to_string(),
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("the certificate was taken"),
        }
    }
}

pub(super) fn certificate_name(name: &str) -> CertificateName {
    crate::discovery::certificate_name(name)
}

pub(super) fn handshake(name: &CertificateName, alpn: Alpn) -> Handshake<'_> {
    Handshake { address: ADDRESS.parse().unwrap(), name, profile: TlsProfile::Modern, alpn, timeout: TIMEOUT }
}

/// Both ends of a connection over loopback.
pub(super) async fn pair() -> (Stream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let ours = TcpSocket::new_v4().unwrap().connect(address).await.unwrap();
    (Stream::Tcp(ours), listener.accept().await.unwrap().0)
}

/// Answers whatever comes with `bytes`, then hangs up.
async fn refusal_of(world: &World, bytes: &[u8]) -> String {
    let (ours, mut theirs) = pair().await;
    let name = certificate_name("a.example");
    let serving = async {
        let _ = theirs.read(&mut [0; 4096]).await.unwrap();
        theirs.write_all(bytes).await.unwrap();
        drop(theirs);
    };
    let wanted = handshake(&name, Alpn::Http2OrHttp1);
    let connecting = world.connector.connect(ours, &wanted);
    match tokio::join!(connecting, serving).0 {
        Err(error) => error.to_string(),
        Ok(_) => panic!("that was no TLS"),
    }
}

#[tokio::test]
async fn a_good_certificate_is_taken_and_summed_up() {
    let world = World::new();
    let server = world.server("a.example", CertificateKind::Good);
    let (stream, negotiated) = world.meet(server, "a.example", Alpn::Http2OrHttp1).await.unwrap();
    assert_eq!((negotiated.alpn_h2, negotiated.resumed), (true, false));
    assert_eq!(negotiated.version, "TLSv1.3");
    assert!(negotiated.cipher.starts_with("TLS13_"), "{}", negotiated.cipher);
    let certificate = stream.certificate().unwrap();
    assert_eq!(certificate.names, ["a.example"]);
    assert!(certificate.issuer.contains("Testkit Root") && !certificate.self_signed);
}

#[tokio::test]
async fn side_errands_offer_http1_only() {
    let world = World::new();
    let server = world.server("a.example", CertificateKind::Good);
    let (_, negotiated) = world.meet(server, "a.example", Alpn::Http1).await.unwrap();
    assert!(!negotiated.alpn_h2);
}

/// A certificate for an address; RFC 6066 forbids to send an address as SNI.
#[tokio::test]
async fn an_address_is_verified_and_not_sent_as_a_name() {
    let world = World::new();
    for address in ["127.0.0.1", "::1"] {
        let server = world.server(address, CertificateKind::Good);
        world.meet(server, address, Alpn::Http2OrHttp1).await.unwrap();
    }
    // The test kit shows its certificate for addresses only to clients without SNI; 127.0.0.2 is not in it.
    let text = world.refusal(world.server("127.0.0.2", CertificateKind::Good), "127.0.0.2").await;
    assert!(text.contains("not valid for 127.0.0.2, only for 127.0.0.1, ::1"), "{text}");
}

/// Meeting again must not cost a certificate check: the second connection of TLS 1.3 resumes the first, and each kind
/// of errand has sessions of its own.
#[tokio::test]
async fn the_second_connection_resumes_the_first() {
    let world = World::new();
    let server = world.server("a.example", CertificateKind::Good);
    let mut resumed = Vec::new();
    for (name, alpn) in [
        ("a.example", Alpn::Http2OrHttp1),
        ("a.example", Alpn::Http2OrHttp1),
        ("a.example", Alpn::Http1),
        ("a.example", Alpn::Http1),
        ("b.example", Alpn::Http2OrHttp1),
        ("a.example", Alpn::Http2OrHttp1),
    ] {
        let (_, negotiated) = world.meet(Arc::clone(&server), name, alpn).await.unwrap();
        resumed.push(negotiated.resumed);
    }
    assert_eq!(resumed, [false, true, false, true, false, true]);
}

/// Each, and what is said of it when it is shown for `a.b.example`.
const BAD_CERTIFICATES: [(CertificateKind, &str); 7] = [
    (CertificateKind::Expired, "expired on Mon, 01 Jan 2001"),
    (CertificateKind::NotYetValid, "not valid before Wed, 01 Jan 3000"),
    (CertificateKind::WrongName, "not valid for a.b.example, only for wrong.invalid"),
    (CertificateKind::WildcardTooHigh, "not valid for a.b.example, only for *.example"),
    (CertificateKind::NoSan, "not valid for a.b.example, nor for any other name"),
    (CertificateKind::OtherAuthority, "issued by CN=Stranger Root, whom nobody we trust vouches for"),
    (CertificateKind::SelfSigned, "self-signed; if it is meant to be trusted, add it with tls.ca_files"),
];

/// Faults row 11: every bad certificate fails the handshake, with a sentence that says what is wrong.
#[tokio::test]
async fn bad_certificates_are_refused_and_explained() {
    let world = World::new();
    let huge = (CertificateKind::HugeChain, "take more than 64 KiB");
    for (kind, reason) in BAD_CERTIFICATES.into_iter().chain([huge]) {
        let text = world.refusal(world.server("a.b.example", kind), "a.b.example").await;
        assert!(text.contains(reason), "{kind:?}: {text:?} does not mention {reason:?}");
    }
}

#[tokio::test]
async fn plain_http_on_a_tls_port_is_recognised() {
    let text = refusal_of(&World::new(), b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await;
    assert!(text.contains("does not speak TLS; is it plain HTTP"), "{text}");
}

#[tokio::test]
async fn hanging_up_in_the_handshake_is_told() {
    let text = refusal_of(&World::new(), b"").await;
    assert!(text.contains("in the middle of the handshake"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_ends_at_the_timeout() {
    let world = World::new();
    let (ours, _theirs) = pair().await;
    let name = certificate_name("a.example");
    let error = world.connector.connect(ours, &handshake(&name, Alpn::Http1)).await.err().unwrap();
    assert!(matches!(error, ConnectError::HandshakeTimedOut { waited, .. } if waited == TIMEOUT), "{error}");
}

#[tokio::test]
async fn a_name_that_no_certificate_has_is_an_error() {
    let world = World::new();
    let (ours, _theirs) = pair().await;
    let name = CertificateName::Dns("a b".into());
    let error = world.connector.connect(ours, &handshake(&name, Alpn::Http1)).await.err().unwrap();
    assert!(error.to_string().contains("not a name that a certificate can be valid for"), "{error}");
}

/// Peers from before 2018, played by OpenSSL.
#[cfg(feature = "legacy-tls")]
mod legacy {
    use super::*;
    use openssl::ssl::{Ssl, SslAcceptor, SslMethod, SslOptions, SslVersion};
    use std::pin::Pin;

    /// A server that speaks nothing newer than `newest`, with old ciphers and a certificate of `kind`.
    fn old_server(world: &World, name: &str, kind: CertificateKind, newest: SslVersion) -> SslAcceptor {
        let pair = world.authority.pem_pair(name, kind);
        let mut server = SslAcceptor::mozilla_intermediate(SslMethod::tls_server()).unwrap();
        server.set_security_level(0);
        server.set_cipher_list("ALL:@SECLEVEL=0").unwrap();
        server.set_min_proto_version(Some(SslVersion::TLS1)).unwrap();
        server.set_max_proto_version(Some(newest)).unwrap();
        server.clear_options(SslOptions::NO_TLSV1 | SslOptions::NO_TLSV1_1 | SslOptions::NO_TLSV1_3);
        let leaf = openssl::x509::X509::from_pem(pair.chain.as_bytes()).unwrap();
        let key = openssl::pkey::PKey::private_key_from_pem(pair.key.as_bytes()).unwrap();
        server.set_certificate(&leaf).unwrap();
        server.set_private_key(&key).unwrap();
        server.build()
    }

    async fn meet(
        world: &World,
        server: &SslAcceptor,
        name: &str,
        profile: TlsProfile,
    ) -> Result<(TlsStream, Negotiated), ConnectError> {
        let (ours, theirs) = pair().await;
        let mut theirs = tokio_openssl::SslStream::new(Ssl::new(server.context()).unwrap(), theirs).unwrap();
        let serving = async {
            if Pin::new(&mut theirs).accept().await.is_ok() {
                let mut heard = [0; 5];
                if theirs.read_exact(&mut heard).await.is_ok() {
                    theirs.write_all(&heard).await.unwrap();
                }
            }
            // A refused client must see the alert and not a reset: our end stays open until it has gone.
            let _ = theirs.get_mut().read(&mut [0; 64]).await;
        };
        let name = certificate_name(name);
        let wanted = Handshake { profile, ..handshake(&name, Alpn::Http2OrHttp1) };
        let meeting = async {
            let (mut stream, negotiated) = world.connector.connect(ours, &wanted).await?;
            stream.write_all(b"hello").await.unwrap();
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"hello");
            stream.shutdown().await.unwrap();
            Ok((stream, negotiated))
        };
        tokio::join!(meeting, serving).0
    }

    async fn refusal(world: &World, server: &SslAcceptor, name: &str, profile: TlsProfile) -> String {
        meet(world, server, name, profile).await.err().expect("must be refused").to_string()
    }

    /// K22: the modern profile fails and names the setting; with the setting it works; nothing happens by itself.
    #[tokio::test]
    async fn a_peer_of_tls_1_0_is_reached_by_the_legacy_profile_only() {
        let world = World::new();
        for newest in [SslVersion::TLS1, SslVersion::TLS1_1] {
            let server = old_server(&world, "old.example", CertificateKind::Good, newest);
            let text = refusal(&world, &server, "old.example", TlsProfile::Modern).await;
            assert!(text.contains("the peer offers only TLS 1.0 or 1.1"), "{text}");
            assert!(text.contains("[host.\"old.example\"] tls = \"legacy\""), "{text}");
            let (stream, negotiated) =
                meet(&world, &server, "old.example", TlsProfile::Legacy).await.unwrap();
            let version = if newest == SslVersion::TLS1 { "TLSv1" } else { "TLSv1.1" };
            assert_eq!((negotiated.version, negotiated.alpn_h2), (version, false));
            assert_eq!(stream.certificate().unwrap().names, ["old.example"]);
        }
    }

    /// The legacy profile is about old protocols, not about whom to trust.
    #[tokio::test]
    async fn the_legacy_profile_refuses_bad_certificates() {
        let world = World::new();
        for (kind, reason) in BAD_CERTIFICATES {
            let server = old_server(&world, "a.b.example", kind, SslVersion::TLS1);
            let text = refusal(&world, &server, "a.b.example", TlsProfile::Legacy).await;
            assert!(text.contains(reason), "{kind:?}: {text:?} does not mention {reason:?}");
        }
    }

    #[tokio::test]
    async fn the_legacy_profile_verifies_addresses() {
        let world = World::new();
        let server = old_server(&world, "127.0.0.1", CertificateKind::Good, SslVersion::TLS1);
        meet(&world, &server, "127.0.0.1", TlsProfile::Legacy).await.unwrap();
        let text = refusal(&world, &server, "127.0.0.2", TlsProfile::Legacy).await;
        assert!(text.contains("not valid for 127.0.0.2, only for 127.0.0.1"), "{text}");
    }

    #[tokio::test]
    async fn the_legacy_profile_speaks_modern_tls_where_it_can() {
        let world = World::new();
        let server = old_server(&world, "a.example", CertificateKind::Good, SslVersion::TLS1_3);
        let (_, negotiated) = meet(&world, &server, "a.example", TlsProfile::Legacy).await.unwrap();
        assert_eq!(negotiated.version, "TLSv1.3");
    }

    #[tokio::test]
    async fn plain_http_is_recognised_by_the_legacy_profile() {
        let world = World::new();
        let (ours, mut theirs) = pair().await;
        let name = certificate_name("a.example");
        let wanted = Handshake { profile: TlsProfile::Legacy, ..handshake(&name, Alpn::Http1) };
        let serving = async {
            let _ = theirs.read(&mut [0; 4096]).await.unwrap();
            theirs.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        };
        let text = tokio::join!(world.connector.connect(ours, &wanted), serving).0.err().unwrap().to_string();
        assert!(text.contains("does not speak TLS"), "{text}");
    }
}

const ADDRESS: &str = "192.0.2.1:8448";
const TIMEOUT: Duration = Duration::from_secs(10);
