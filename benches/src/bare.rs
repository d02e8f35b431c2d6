//! The yardstick: hyper and rustls on one thread, and nothing else.
//!
//! It knows where everybody is, keeps no pool and no numbers, and opens what it is told to open.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::HOST;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::Done;
use crate::peers::{Host, Peers};

/// A bare client.
#[derive(Clone)]
pub struct Bare {
    tls: TlsConnector,
}

/// One open connection.
pub struct BareConnection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

/// Whether sessions are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sessions {
    /// Every handshake is a whole one.
    Forgotten,
    /// As rustls does by itself, for as many hosts as there are.
    Kept,
}

impl Bare {
    /// A client that trusts what `peers` trust.
    ///
    /// # Errors
    /// The authority cannot be read.
    pub fn new(peers: &Peers, sessions: Sessions) -> Done<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&std::fs::read(&peers.ca)?) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = match sessions {
            Sessions::Forgotten => Resumption::disabled(),
            Sessions::Kept => Resumption::in_memory_sessions(SESSIONS),
        };
        Ok(Self { tls: Arc::new(config).into() })
    }

    /// Connects to `host` and shakes hands.
    ///
    /// # Errors
    /// What went wrong.
    pub async fn open(&self, host: &Host) -> Done<BareConnection> {
        self.open_at(host.address, &host.domain).await
    }

    async fn open_at(&self, address: SocketAddr, domain: &str) -> Done<BareConnection> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(domain.to_owned())?;
        let tls = self.tls.connect(name, tcp).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(tls)).await?;
        tokio::task::spawn_local(connection);
        Ok(BareConnection { sender, host: format!("{domain}:{}", address.port()) })
    }
}

impl BareConnection {
    /// Asks for `path`, and reads the answer to its end.
    ///
    /// # Errors
    /// What went wrong, or an answer other than 200.
    pub async fn get(&mut self, path: &str) -> Done<usize> {
        let request = http::Request::get(path).header(HOST, &self.host).body(Full::new(Bytes::new()))?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        if response.status() != 200 {
            return Err(format!("{} answered {}", self.host, response.status()).into());
        }
        Ok(response.into_body().collect().await?.to_bytes().len())
    }
}

/// Enough for a thousand hosts: rustls takes it to mean eight for each.
const SESSIONS: usize = 8000;
