//! An authority of our own: it issues good certificates, and every kind of bad one.
//!
//! All leaves share one key, so that a certificate costs one signature: five thousand hosts get theirs
//! when they are first asked for ([`CertificatesByName`]).
//!
//! # Source
//! Row 11 of the fault list (expired, wrong name, wrong authority, self-signed, IP without SAN, wildcard
//! depth, huge chain); F12.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// What is right or wrong with a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CertificateKind {
    /// Valid for the name.
    #[default]
    Good,
    /// Valid for the name by `*.` and its parent: one label deep, as a wildcard may be.
    Wildcard,
    /// `*.` and the parent's parent: a wildcard stretched over two labels, which none may be.
    WildcardTooHigh,
    /// Ended in 2001.
    Expired,
    /// Begins in 3000.
    NotYetValid,
    /// Good, but for `wrong.invalid`.
    WrongName,
    /// Good, but of an authority nobody trusts.
    OtherAuthority,
    /// Signed with its own key.
    SelfSigned,
    /// The name stands in the subject only, as was the custom before RFC 2818 forbade it.
    NoSan,
    /// Valid, behind 300 certificates that have nothing to do with it (about 100 KB).
    HugeChain,
}

impl CertificateKind {
    /// Every kind that a careful client must refuse.
    pub const BAD: [Self; 8] = [
        Self::WildcardTooHigh,
        Self::Expired,
        Self::NotYetValid,
        Self::WrongName,
        Self::OtherAuthority,
        Self::SelfSigned,
        Self::NoSan,
        Self::HugeChain,
    ];
}

/// Which HTTP versions a server offers in its handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// `h2` and `http/1.1`.
    #[default]
    Http2,
    /// `http/1.1` only.
    Http1,
    /// No ALPN at all, as many small servers do.
    None,
}

impl Alpn {
    fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            Self::Http2 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Self::Http1 => vec![b"http/1.1".to_vec()],
            Self::None => Vec::new(),
        }
    }
}

/// A certificate authority, and the one key all its leaves share.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    stranger: CertifiedIssuer<'static, KeyPair>,
    leaf_key: KeyPair,
}

/// A chain and its private key, as files hold them.
#[derive(Clone, Debug)]
pub struct PemPair {
    /// The leaf first.
    pub chain: String,
    /// PKCS #8.
    pub key: String,
}

impl Authority {
    /// A new authority with fresh keys.
    pub fn new() -> Arc<Self> {
        let key = || KeyPair::generate().expect("the system gives random bytes");
        let root = |name: &str| {
            let mut params = params(name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            CertifiedIssuer::self_signed(params, key()).expect("the parameters of a root are complete")
        };
        Arc::new(Self { issuer: root("Testkit Root"), stranger: root("Stranger Root"), leaf_key: key() })
    }

    /// The root as PEM: what `tls.ca_files` wants.
    pub fn ca_pem(&self) -> String {
        self.issuer.pem()
    }

    /// The root as DER.
    pub fn ca_der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// Writes the root to `path` as PEM.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn write_ca(&self, path: &Path) -> io::Result<()> {
        std::fs::write(path, self.ca_pem())
    }

    /// A chain for `name` (a DNS name or an address), the leaf first.
    pub fn chain(&self, name: &str, kind: CertificateKind) -> Vec<CertificateDer<'static>> {
        let leaf = self.leaf(name, kind).der().clone();
        let ballast = (0..ballast(kind)).map(|_| self.stranger.der().clone());
        std::iter::once(leaf).chain(ballast).collect()
    }

    fn leaf(&self, name: &str, kind: CertificateKind) -> rcgen::Certificate {
        let params = leaf_params(name, kind);
        let leaf = match kind {
            CertificateKind::SelfSigned => params.self_signed(&self.leaf_key),
            CertificateKind::OtherAuthority => params.signed_by(&self.leaf_key, &self.stranger),
            _ => params.signed_by(&self.leaf_key, &self.issuer),
        };
        leaf.expect("the parameters of a leaf are complete")
    }

    /// A chain for `name` with its key, ready for rustls.
    pub fn certified_key(&self, name: &str, kind: CertificateKind) -> Arc<CertifiedKey> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.leaf_key.serialize_der()));
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)
            .expect("the key we made is of a supported type");
        Arc::new(CertifiedKey::new(self.chain(name, kind), key))
    }

    /// A chain for `name` with its key, for servers that read files.
    pub fn pem_pair(&self, name: &str, kind: CertificateKind) -> PemPair {
        let chain = self.leaf(name, kind).pem() + &self.stranger.pem().repeat(ballast(kind));
        PemPair { chain, key: self.leaf_key.serialize_pem() }
    }

    /// A client that trusts this authority and nobody else, and offers `alpn`.
    pub fn client_config(&self, alpn: Alpn) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca_der()).expect("our own root is well-formed");
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider knows TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.protocols();
        Arc::new(config)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

/// Picks the certificate by the name in the client's hello, and issues it when it is first wanted.
pub struct CertificatesByName {
    authority: Arc<Authority>,
    kinds: RwLock<HashMap<String, CertificateKind>>,
    issued: Mutex<HashMap<(String, CertificateKind), Arc<CertifiedKey>>>,
    /// Shared by all: parsing a private key costs more than issuing a certificate.
    template: Arc<CertifiedKey>,
}

impl CertificatesByName {
    /// Good certificates for every name that is asked for; for clients that send no name, one for
    /// 127.0.0.1 and ::1.
    pub fn new(authority: Arc<Authority>) -> Arc<Self> {
        let template = authority.certified_key(NAMELESS, CertificateKind::Good);
        Arc::new(Self { authority, kinds: RwLock::default(), issued: Mutex::default(), template })
    }

    /// From now on `name` gets a certificate of this kind. An address stands for clients that send no name.
    pub fn set(&self, name: &str, kind: CertificateKind) {
        let name = if name.parse::<IpAddr>().is_ok() { NAMELESS } else { name };
        self.kinds.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_ascii_lowercase(), kind);
    }

    /// The certificate for `name`, or for nameless clients.
    pub fn get(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        let name = name.unwrap_or(NAMELESS).to_ascii_lowercase();
        let kinds = self.kinds.read().unwrap_or_else(PoisonError::into_inner);
        let kind = kinds.get(&name).copied().unwrap_or_default();
        drop(kinds);
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        if issued.len() >= ISSUED_MAX {
            issued.clear();
        }
        let issue = || {
            let chain = self.authority.chain(&name, kind);
            Arc::new(CertifiedKey::new(chain, Arc::clone(&self.template.key)))
        };
        Arc::clone(issued.entry((name.clone(), kind)).or_insert_with(issue))
    }

    /// A server that shows these certificates, offers `alpn`, and gives out session tickets.
    pub fn server_config(self: &Arc<Self>, alpn: Alpn) -> Arc<ServerConfig> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider knows TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = alpn.protocols();
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().expect("the system gives random bytes");
        // Stateless tickets: nothing is kept per session, however many names are served.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        Arc::new(config)
    }
}

impl ResolvesServerCert for CertificatesByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.get(hello.server_name()))
    }
}

impl fmt::Debug for CertificatesByName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CertificatesByName")
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn ballast(kind: CertificateKind) -> usize {
    if kind == CertificateKind::HugeChain { HUGE_CHAIN } else { 0 }
}

fn params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, common_name);
    params.distinguished_name = subject;
    params
}

fn leaf_params(name: &str, kind: CertificateKind) -> CertificateParams {
    // A subject is at most 64 characters (RFC 5280, upper bounds), and only `NoSan` needs it.
    let subject: String = name.chars().take(64).collect();
    let mut params = params(&subject);
    params.use_authority_key_identifier_extension = true;
    params.subject_alt_names = match kind {
        CertificateKind::NoSan => Vec::new(),
        CertificateKind::WrongName => vec![dns_san("wrong.invalid")],
        CertificateKind::Wildcard => vec![dns_san(&wildcard(name, 1))],
        CertificateKind::WildcardTooHigh => vec![dns_san(&wildcard(name, 2))],
        _ => subject_names(name),
    };
    (params.not_before, params.not_after) = match kind {
        CertificateKind::Expired => (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1)),
        CertificateKind::NotYetValid => (date_time_ymd(3000, 1, 1), date_time_ymd(3001, 1, 1)),
        _ => (date_time_ymd(2020, 1, 1), date_time_ymd(2120, 1, 1)),
    };
    params
}

fn subject_names(name: &str) -> Vec<SanType> {
    if name == NAMELESS {
        return ["127.0.0.1", "::1"]
            .iter()
            .filter_map(|ip| ip.parse().ok())
            .map(SanType::IpAddress)
            .collect();
    }
    match name.parse() {
        Ok(address) => vec![SanType::IpAddress(address)],
        Err(_) => vec![dns_san(name)],
    }
}

fn dns_san(name: &str) -> SanType {
    let name = name.try_into().or_else(|_| "not-ascii.invalid".try_into());
    SanType::DnsName(name.expect("the stand-in is ASCII"))
}

/// `name` with its first `labels` labels replaced by a star.
fn wildcard(name: &str, labels: usize) -> String {
    let rest: Vec<&str> = name.split('.').skip(labels).collect();
    format!("*.{}", rest.join("."))
}

/// How nameless clients are kept in the maps; no client can send it as a name.
const NAMELESS: &str = "(no name)";
/// Beyond 64 KiB, where handshake messages end for most implementations.
const HUGE_CHAIN: usize = 300;
/// Certificates kept; a client that makes up names cannot fill the memory.
const ISSUED_MAX: usize = 20_000;

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{ClientConnection, ServerConnection};
    use rustls_pki_types::ServerName;

    /// Two ends of TLS in memory, until both are content or one objects.
    fn handshake(authority: &Arc<Authority>, name: &str, kind: CertificateKind) -> Result<(), rustls::Error> {
        let certificates = CertificatesByName::new(Arc::clone(authority));
        certificates.set(name, kind);
        let server = certificates.server_config(Alpn::Http2);
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(authority.client_config(Alpn::Http2), name).unwrap();
        let mut server = ServerConnection::new(server).unwrap();
        while client.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            let mut wire = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut wire).unwrap();
            }
            let mut rest = wire.as_slice();
            while !rest.is_empty() {
                client.read_tls(&mut rest).unwrap();
                client.process_new_packets()?;
            }
        }
        Ok(())
    }

    /// A careful client takes the good and the wildcard, and nothing else.
    #[test]
    fn good_certificates_are_taken_and_bad_ones_refused() {
        let authority = Authority::new();
        for name in ["matrix.example.org", "127.0.0.1"] {
            handshake(&authority, name, CertificateKind::Good).unwrap();
        }
        handshake(&authority, "matrix.example.org", CertificateKind::Wildcard).unwrap();
        for kind in CertificateKind::BAD {
            let refusal = handshake(&authority, "matrix.example.org", kind);
            assert!(refusal.is_err(), "{kind:?} was taken");
        }
        assert!(handshake(&authority, "127.0.0.1", CertificateKind::NoSan).is_err());
    }

    /// What is written to `ca.pem` is read back as the same root.
    #[test]
    fn pem_files_hold_what_was_issued() {
        use rustls_pki_types::pem::PemObject;
        let authority = Authority::new();
        let pair = authority.pem_pair("a.test", CertificateKind::Good);
        let leaf = CertificateDer::from_pem_slice(pair.chain.as_bytes()).unwrap();
        assert!(leaf.len() > 200);
        assert!(PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).is_ok());
        let root = CertificateDer::from_pem_slice(authority.ca_pem().as_bytes()).unwrap();
        assert_eq!(root, authority.ca_der());
    }

    /// The second request for a name costs nothing.
    #[test]
    fn a_certificate_is_issued_once() {
        let certificates = CertificatesByName::new(Authority::new());
        let first = certificates.get(Some("A.test"));
        assert!(Arc::ptr_eq(&first, &certificates.get(Some("a.test"))));
    }
}
