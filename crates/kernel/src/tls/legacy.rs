//! The legacy profile: OpenSSL with TLS 1.0 and old ciphers, for the hosts that were named for it.
//!
//! What is old is the protocol. Whom to trust is not: the chain must lead to the same roots as in the modern profile,
//! and the certificate must be valid for the name. Nobody comes here because a modern handshake failed.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use openssl::error::ErrorStack;
use openssl::ssl::{
    Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions, SslRef, SslVerifyMode, SslVersion,
};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::{X509CheckFlags, X509VerifyFlags};
use openssl::x509::{X509, X509StoreContextRef, X509VerifyResult};
use rustls_pki_types::CertificateDer;
use southbridge_words::CertificateName;
use tokio_openssl::SslStream;

use super::certificate::bounded;
use super::explain;
use super::{CertificateSummary, Negotiated, TlsConfigError, TlsStream};
use crate::net::Stream;

/// The legacy profile, ready to connect.
pub(super) struct Legacy {
    context: SslContext,
}

/// A certificate that OpenSSL refused.
struct Refusal {
    verdict: X509VerifyResult,
    certificate: Option<CertificateSummary>,
    chain_length: usize,
}

impl Legacy {
    /// A profile that trusts `roots`.
    pub(super) fn new(roots: &[CertificateDer<'static>]) -> Result<Self, TlsConfigError> {
        if roots.is_empty() {
            return Err(TlsConfigError::NoRootsForLegacy);
        }
        let context = context(roots).map_err(|error| TlsConfigError::Setup { reason: error.to_string() })?;
        Ok(Self { context })
    }

    /// Agrees on TLS. The error is a sentence.
    pub(super) async fn connect(
        &self,
        tcp: Stream,
        name: &CertificateName,
    ) -> Result<(TlsStream, Negotiated), String> {
        let refusal = Arc::default();
        let ssl = self.session(name, &refusal).map_err(|error| bounded(&error.to_string()))?;
        let mut stream = SslStream::new(ssl, tcp).map_err(|error| bounded(&error.to_string()))?;
        if let Err(error) = Pin::new(&mut stream).connect().await {
            let refusal = refusal.lock().unwrap_or_else(PoisonError::into_inner).take();
            return Err(refusal
                .map_or_else(|| explain_error(&error), |refusal: Refusal| explain_refusal(&refusal, name)));
        }
        let negotiated = negotiated(stream.ssl());
        Ok((TlsStream::legacy(stream), negotiated))
    }

    fn session(
        &self,
        name: &CertificateName,
        refusal: &Arc<Mutex<Option<Refusal>>>,
    ) -> Result<Ssl, ErrorStack> {
        let mut ssl = Ssl::new(&self.context)?;
        let expected = ssl.param_mut();
        // A name in the subject alone has not counted since RFC 6125; rustls does not look there either.
        expected.set_hostflags(X509CheckFlags::NO_PARTIAL_WILDCARDS | X509CheckFlags::NEVER_CHECK_SUBJECT);
        match name {
            CertificateName::Ip(address) => expected.set_ip(*address)?,
            CertificateName::Dns(dns) => {
                expected.set_host(dns)?;
                ssl.set_hostname(dns)?;
            }
        }
        let refusal = Arc::clone(refusal);
        ssl.set_verify_callback(SslVerifyMode::PEER, move |is_good, found| {
            if !is_good {
                let mut first = refusal.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert_with(|| Refusal::of(found));
            }
            is_good
        });
        Ok(ssl)
    }
}

impl Refusal {
    fn of(found: &X509StoreContextRef) -> Self {
        let leaf = found.chain().and_then(|chain| chain.get(0)).or_else(|| found.current_cert());
        Self {
            verdict: found.error(),
            certificate: leaf.and_then(summary),
            chain_length: found.chain().map_or(0, openssl::stack::StackRef::len),
        }
    }
}

/// What the peer's certificate says.
pub(super) fn peer_certificate(ssl: &SslRef) -> Option<CertificateSummary> {
    summary(ssl.peer_certificate()?.as_ref())
}

fn summary(certificate: &openssl::x509::X509Ref) -> Option<CertificateSummary> {
    CertificateSummary::read(&certificate.to_der().ok()?)
}

fn context(roots: &[CertificateDer<'static>]) -> Result<SslContext, ErrorStack> {
    let mut store = X509StoreBuilder::new()?;
    for root in roots {
        // What the modern profile cannot read is not trusted by it, and need not be here.
        if let Ok(root) = X509::from_der(root) {
            store.add_cert(root)?;
        }
    }
    // Trusts an intermediate authority that was named, as rustls does.
    store.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
    let mut context = SslContextBuilder::new(SslMethod::tls_client())?;
    context.set_cert_store(store.build());
    context.set_verify(SslVerifyMode::PEER);
    // Everything that encrypts and authenticates, however old.
    context.set_cipher_list("ALL:!aNULL:!eNULL:!EXPORT:@SECLEVEL=0")?;
    context.set_security_level(0);
    context.set_min_proto_version(Some(SslVersion::TLS1))?;
    context.set_options(LEGACY_SERVER_CONNECT);
    context.set_alpn_protos(b"\x08http/1.1")?;
    // A level of its own for the chain: keys and signatures that can be forged today stay refused.
    context.verify_param_mut().set_auth_level(CHAIN_LEVEL);
    Ok(context.build())
}

fn negotiated(ssl: &SslRef) -> Negotiated {
    Negotiated {
        alpn_h2: false,
        resumed: ssl.session_reused(),
        version: ssl.version_str(),
        cipher: ssl
            .current_cipher()
            .map_or("unknown", |cipher| cipher.standard_name().unwrap_or(cipher.name())),
    }
}

fn explain_refusal(refusal: &Refusal, name: &CertificateName) -> String {
    let certificate = refusal.certificate.as_ref();
    match (refusal.verdict.as_raw(), certificate) {
        (EXPIRED, Some(certificate)) => explain::expired(certificate.not_after),
        (NOT_YET_VALID, Some(certificate)) => explain::not_yet(certificate.not_before),
        (HOSTNAME_MISMATCH | IP_MISMATCH, _) => {
            explain::wrong_name(name, certificate.map_or(&[], |certificate| &certificate.names))
        }
        (SELF_SIGNED | SELF_SIGNED_IN_CHAIN | NO_ISSUER | NO_LOCAL_ISSUER | NO_FIRST_SIGNATURE, _) => {
            explain::unknown_issuer(certificate, refusal.chain_length)
        }
        _ => format!("the certificate is refused: {}", refusal.verdict.error_string()),
    }
}

fn explain_error(error: &openssl::ssl::Error) -> String {
    if let Some(error) = error.io_error() {
        return explain::explain_io(error);
    }
    let Some(said) = error.ssl_error().and_then(|stack| stack.errors().first()) else {
        return explain::explain_io(&io::ErrorKind::UnexpectedEof.into());
    };
    let reason = said.reason().unwrap_or("unknown error");
    match reason {
        "wrong version number" | "http request" | "packet length too long" => {
            "what answers there does not speak TLS; is it plain HTTP, or another port?".to_owned()
        }
        "unexpected eof while reading" => explain::explain_io(&io::ErrorKind::UnexpectedEof.into()),
        reason => format!("the peer and the legacy profile do not agree: {}", bounded(reason)),
    }
}

/// `SSL_OP_LEGACY_SERVER_CONNECT`: servers from before RFC 5746 (2010) are spoken to; renegotiation with them is not.
const LEGACY_SERVER_CONNECT: SslOptions = SslOptions::from_bits_retain(0x4);
/// OpenSSL's security level 1: 80 bits, so no MD5, no SHA-1, no RSA below 1024 bits.
const CHAIN_LEVEL: i32 = 1;
// The verdicts of `X509_verify_cert` that have a sentence of their own (X509_STORE_CTX_get_error(3)).
const NO_ISSUER: i32 = 2;
const NOT_YET_VALID: i32 = 9;
const EXPIRED: i32 = 10;
const SELF_SIGNED: i32 = 18;
const SELF_SIGNED_IN_CHAIN: i32 = 19;
const NO_LOCAL_ISSUER: i32 = 20;
const NO_FIRST_SIGNATURE: i32 = 21;
const HOSTNAME_MISMATCH: i32 = 62;
const IP_MISMATCH: i32 = 64;
