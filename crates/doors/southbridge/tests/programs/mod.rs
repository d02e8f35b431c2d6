//! A program with a client: an I/O thread, a port on the thread of the test, and peers on a thread of their own.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use southbridge::Southbridge;
use southbridge::client::{
    Answer, Client, ClientConfig, ClientError, Draw, Drawn, Opened, Port, ProxyChoice, Request, Response,
};
use southbridge::federation::FederationConfig;
use southbridge_kernel::KernelConfig;
use southbridge_kernel::dns::DnsConfig;
use southbridge_kernel::port::{KernelThread, News};
use southbridge_kernel::tls::TlsConfig;
use southbridge_testkit::certificates::Authority;
use southbridge_testkit::dns::DnsServer;
use southbridge_testkit::raw::{RawPeer, Step};
use southbridge_words::Ticket;
use tokio::runtime::Runtime;

/// A program, and the world around it.
pub struct Program {
    pub port: Port,
    pub client: Client,
    pub kernel: KernelThread<Southbridge>,
    pub authority: Arc<Authority>,
    pub dns: DnsServer,
    /// Where the peers run.
    pub world: Runtime,
    /// Answers that came while another was waited for.
    early: HashMap<Ticket, Result<Answer, ClientError>>,
    _directory: tempfile::TempDir,
}

/// Settings that the environment of the test has no part in.
pub fn settings() -> ClientConfig {
    ClientConfig { proxy: ProxyChoice::Direct, ..ClientConfig::default() }
}

impl Program {
    pub fn start() -> Self {
        Self::with(settings())
    }

    pub fn with(config: ClientConfig) -> Self {
        let world = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a thread for the peers");
        let directory = tempfile::tempdir().expect("a directory");
        let authority = Authority::new();
        let ca = directory.path().join("ca.pem");
        authority.write_ca(&ca).expect("a file");
        let dns = world.block_on(DnsServer::start()).expect("a port");
        for name in ["a.test", "b.test"] {
            dns.host(name, &[[127, 0, 0, 1].into()], 60);
        }
        // The policy of the kernel is the one of federation, under which no peer of a test could be reached.
        let kernel = KernelConfig {
            dns: DnsConfig { servers: vec![dns.address()], ..DnsConfig::default() },
            tls: TlsConfig { ca_files: vec![ca], use_system_roots: false, ..TlsConfig::default() },
            ..KernelConfig::default()
        };
        let kernel = Southbridge::start(kernel, FederationConfig::default()).expect("the I/O thread starts");
        let port = kernel.attach(4096).expect("a descriptor");
        let client = Client::new(config).expect("these settings work");
        Self { port, client, kernel, authority, dns, world, early: HashMap::new(), _directory: directory }
    }

    /// A peer that plays `scripts`.
    pub fn peer(&self, scripts: Vec<Vec<Step>>) -> RawPeer {
        self.world.block_on(RawPeer::plain(scripts)).expect("a port")
    }

    /// Takes completions until `ticket` is answered.
    pub fn answer(&mut self, ticket: Ticket) -> Result<Answer, ClientError> {
        self.pump_until(|program| program.early.remove(&ticket))
    }

    /// Takes completions until `found` finds something.
    pub fn pump_until<T>(&mut self, mut found: impl FnMut(&mut Self) -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(found) = found(self) {
                return found;
            }
            let mut came = Vec::new();
            let drained = self.port.drain(64, |completion| {
                if let News::Done(result) = completion.news {
                    came.push((completion.ticket, result));
                }
            });
            for (ticket, result) in came {
                assert!(self.early.insert(ticket, result).is_none(), "a ticket is answered once");
            }
            if drained == 0 {
                self.port.wait(Duration::from_millis(100));
            }
            assert!(Instant::now() < deadline, "it takes for ever");
        }
    }

    /// Asks, and waits for the whole response.
    pub fn fetch(&mut self, request: Request) -> Result<Response, ClientError> {
        let ticket = self.client.submit(&self.port, request)?;
        match self.answer(ticket)? {
            Answer::Response(response) => Ok(*response),
            other => panic!("not a response: {other:?}"),
        }
    }

    pub fn get(&mut self, url: &str) -> Result<Response, ClientError> {
        let request = self.client.request(http::Method::GET, url)?;
        self.fetch(request)
    }

    /// Waits for the head of a response.
    pub fn head(&mut self, opened: &Opened) -> Result<Response, ClientError> {
        match self.answer(opened.ticket)? {
            Answer::Head(response) => Ok(*response),
            other => panic!("not a head: {other:?}"),
        }
    }

    /// Draws the next piece; `None` at the end.
    pub fn draw(&mut self, draw: &mut Draw) -> Result<Option<Bytes>, ClientError> {
        self.pump_until(|_| match draw.take() {
            Drawn::Data(bytes) => Some(Ok(Some(bytes))),
            Drawn::End(_) => Some(Ok(None)),
            Drawn::Failed(error) => Some(Err(error)),
            Drawn::Pending => None,
        })
    }

    /// Draws all there is.
    pub fn draw_all(&mut self, draw: &mut Draw) -> Result<Vec<u8>, ClientError> {
        let mut all = Vec::new();
        while let Some(piece) = self.draw(draw)? {
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }
}

/// One answer to whatever is asked, and the connection goes on.
pub fn answering(head: &str, body: impl AsRef<[u8]>) -> Vec<Step> {
    let body = body.as_ref();
    let mut wire = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    wire.extend_from_slice(body);
    vec![Step::ReadRequest, Step::write(wire), Step::Again]
}

pub fn url(address: SocketAddr, path: &str) -> String {
    format!("http://{address}{path}")
}

/// What the peer has read, as text.
pub fn received(peer: &RawPeer, connection: usize) -> String {
    String::from_utf8_lossy(&peer.received(connection)).into_owned()
}
