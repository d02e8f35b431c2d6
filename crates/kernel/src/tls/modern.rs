//! The modern profile: rustls with aws-lc-rs, TLS 1.2 and 1.3.
//!
//! Everything that can be shared by connections is made once: the verifier, the configuration of each ALPN offer, the
//! session stores. A handshake allocates its connection and its name, and nothing else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{
    CertificateError, CipherSuite, ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind,
    OtherError, ProtocolVersion, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use southbridge_words::CertificateName;

use super::explain::{Rejected, explain};
use super::sessions::SessionStore;
use super::{Alpn, CertificateSummary, Negotiated, TlsConfigError, TlsStream};
use crate::Clock;
use crate::net::Stream;

/// The modern profile, ready to connect.
pub(super) struct Modern {
    http2_or_http1: tokio_rustls::TlsConnector,
    http1: tokio_rustls::TlsConnector,
}

impl Modern {
    /// A profile that trusts `anchors` and remembers sessions of `sessions_max` hosts.
    pub(super) fn new(
        anchors: RootCertStore,
        sessions_max: usize,
        certificate: Option<&(PathBuf, PathBuf)>,
        clock: Clock,
    ) -> Result<Self, TlsConfigError> {
        let setup = |reason: String| TlsConfigError::Setup { reason };
        let provider = Arc::new(provider());
        let verifier = Verifier::new(anchors, &provider).map_err(setup)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| setup(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match certificate {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let (chain, key) = identity(chain, key)?;
                builder.with_client_auth_cert(chain, key).map_err(|error| setup(error.to_string()))?
            }
        };
        config.time_provider = Arc::new(clock);
        // A name's API and its side errands are often answered by different programs, which cannot read each
        // other's tickets: each kind has a store of its own.
        let mut side = config.clone();
        side.alpn_protocols = vec![HTTP1.to_vec()];
        side.resumption = Resumption::store(Arc::new(SessionStore::new(sessions_max)));
        config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
        config.resumption = Resumption::store(Arc::new(SessionStore::new(sessions_max)));
        Ok(Self { http2_or_http1: Arc::new(config).into(), http1: Arc::new(side).into() })
    }

    /// Agrees on TLS. The error is a sentence.
    pub(super) async fn connect(
        &self,
        tcp: Stream,
        name: &CertificateName,
        alpn: Alpn,
    ) -> Result<(TlsStream, Negotiated), String> {
        let server_name = server_name(name)?;
        let connector = match alpn {
            Alpn::Http2OrHttp1 => &self.http2_or_http1,
            Alpn::Http1 => &self.http1,
        };
        let stream = connector.connect(server_name, tcp).await.map_err(|error| explain(&error, name))?;
        let negotiated = negotiated(stream.get_ref().1);
        Ok((TlsStream::modern(stream), negotiated))
    }
}

/// Our own certificate and its key, from their files.
fn identity(
    chain: &Path,
    key: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsConfigError> {
    let unusable = |file: &Path, reason: String| TlsConfigError::Setup {
        reason: format!("{}: {reason}", file.display()),
    };
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(chain, error.to_string()))?;
    if certificates.is_empty() {
        return Err(unusable(chain, "it holds no certificate".to_owned()));
    }
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, error.to_string()))?;
    Ok((certificates, key_der))
}

/// The library's choice of algorithms, with AES-128 offered before AES-256, as browsers do: the hash that comes
/// with it (SHA-256) is done by hardware almost everywhere, SHA-384 almost nowhere, and a handshake hashes a lot.
fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| !PREFERRED.contains(&suite.suite()));
    provider
}

fn server_name(name: &CertificateName) -> Result<ServerName<'static>, String> {
    match name {
        // For an address rustls sends no SNI, as RFC 6066 wants it.
        CertificateName::Ip(address) => Ok(ServerName::IpAddress((*address).into())),
        CertificateName::Dns(dns) => ServerName::try_from(dns.as_ref())
            .map(|name| name.to_owned())
            .map_err(|_| format!("{dns:?} is not a name that a certificate can be valid for")),
    }
}

fn negotiated(connection: &ClientConnection) -> Negotiated {
    Negotiated {
        alpn_h2: connection.alpn_protocol() == Some(HTTP2),
        resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        version: match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "unknown",
        },
        cipher: connection
            .negotiated_cipher_suite()
            .and_then(|suite| suite.suite().as_str())
            .unwrap_or("unknown"),
    }
}

/// The standard verifier, with an error that remembers the certificate it refused.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
}

impl Verifier {
    fn new(anchors: RootCertStore, provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(anchors), Arc::clone(provider));
        Ok(Self { inner: builder.build().map_err(|error| error.to_string())? })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now).map_err(
            |cause| {
                let certificate = CertificateSummary::read(end_entity);
                let rejected = Rejected { cause, certificate, chain_length: intermediates.len() + 1 };
                rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(rejected))))
            },
        )
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

const PREFERRED: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
];
const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";
