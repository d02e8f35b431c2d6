//! A house with its doors open: a kernel on loopback, fake homeservers, and callers that speak raw bytes.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use southbridge::Southbridge;
use southbridge::federation::FederationConfig;
use southbridge::forward_proxy::{ForwardProxy, ForwardProxyConfig};
use southbridge::synapse_door::{Discoveries, SynapseDoor, SynapseDoorConfig};
use southbridge_kernel::KernelConfig;
use southbridge_kernel::dns::DnsConfig;
use southbridge_kernel::net::{AddressPolicy, ListenAddress, ListenOptions, Listener, LocalStream};
use southbridge_kernel::tls::TlsConfig;
pub use southbridge_testkit::answer::Answer;
use southbridge_testkit::certificates::Authority;
use southbridge_testkit::dns::DnsServer;
use southbridge_testkit::homeserver::Homeservers;
use southbridge_words::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::{LocalSet, spawn_local};

/// Everything that stands between a caller and a peer.
pub struct House {
    pub bridge: Southbridge,
    pub door: SynapseDoor,
    pub proxy: ForwardProxy,
    pub servers: Homeservers,
    pub dns: DnsServer,
    pub authority: Arc<Authority>,
    directory: tempfile::TempDir,
}

/// Runs `test` in a house whose doors are set up like this.
pub async fn in_house<F: Future<Output = ()>>(
    door: SynapseDoorConfig,
    proxy: ForwardProxyConfig,
    test: impl FnOnce(House) -> F,
) {
    LocalSet::new()
        .run_until(async {
            let house = House::build(door, proxy).await;
            let long = Duration::from_secs(60);
            tokio::time::timeout(long, test(house)).await.expect("the test does not hang");
        })
        .await;
}

/// Runs `test` in a house with the usual doors, the Synapse door's gate open.
pub async fn at_home<F: Future<Output = ()>>(test: impl FnOnce(House) -> F) {
    in_house(door_config(), ForwardProxyConfig::default(), |house| {
        house.door.open();
        test(house)
    })
    .await;
}

pub fn door_config() -> SynapseDoorConfig {
    SynapseDoorConfig { secret: Secret::new(*b"sesame"), ..SynapseDoorConfig::default() }
}

impl House {
    async fn build(door: SynapseDoorConfig, proxy: ForwardProxyConfig) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let authority = Authority::new();
        let ca = directory.path().join("ca.pem");
        authority.write_ca(&ca).expect("a file");
        let servers = Homeservers::start(Arc::clone(&authority)).await.expect("a port");
        let dns = DnsServer::start().await.expect("a port");
        for name in ["a.test", "b.test", "cdn.test"] {
            dns.host(name, &[[127, 0, 0, 1].into()], 60);
        }
        dns.host("private.test", &[[10, 0, 0, 1].into()], 60);
        let kernel = KernelConfig {
            dns: DnsConfig { servers: vec![dns.address()], ..DnsConfig::default() },
            tls: TlsConfig { ca_files: vec![ca], use_system_roots: false, ..TlsConfig::default() },
            addresses: AddressPolicy::new(["127.0.0.0/8".parse().expect("a network")], []),
            ..KernelConfig::default()
        };
        let bridge = Southbridge::new(kernel, FederationConfig::default()).expect("a kernel");
        let discoveries = Discoveries { matrix: bridge.matrix(), web: bridge.https() };
        let door = SynapseDoor::new(bridge.kernel().clone(), discoveries, door);
        let proxy = ForwardProxy::new(bridge.kernel().clone(), bridge.http(), proxy);
        let house = Self { bridge, door, proxy, servers, dns, authority, directory };
        house.listen();
        house
    }

    fn listen(&self) {
        let (door, listener) = (self.door.clone(), bind(self.path("door")));
        spawn_local(async move { door.serve(&listener).await });
        let (proxy, listener) = (self.proxy.clone(), bind(self.path("proxy")));
        spawn_local(async move { proxy.serve(&listener).await });
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A server name with an explicit port, so that nothing but an address has to be found.
    pub fn name(&self, host: &str) -> String {
        format!("{host}:{}", self.servers.port())
    }

    pub async fn knock(&self, door: &str) -> UnixStream {
        UnixStream::connect(self.path(door)).await.expect("somebody listens")
    }

    /// A connection that the system has accepted, and no door yet.
    pub async fn accepted(&self) -> LocalStream {
        let listener = bind(self.path("spare"));
        let _caller = self.knock("spare").await;
        listener.accept().await
    }

    /// Sends `request` as it is to the Synapse door, and reads to the end.
    pub async fn send(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut stream = self.knock("door").await;
        stream.write_all(request.as_ref()).await.expect("a door that reads");
        read_answer(&mut stream).await
    }

    /// Asks as Synapse would: GET with the right secret.
    pub async fn get(&self, name: &str, path: &str) -> Answer {
        self.send(request("GET", name, path, "")).await
    }
}

fn bind(path: PathBuf) -> Listener {
    Listener::bind(&ListenAddress::Unix(path), &ListenOptions::default()).expect("a socket")
}

/// A request as Synapse sends it.
pub fn request(method: &str, name: &str, path: &str, body: &str) -> String {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!(
        "{method} matrix-federation://{name}{path} HTTP/1.1\r\nConnection: close\r\n{length}\
         User-Agent: Synapse/1.163.2\r\nAuthorization: X-Matrix sig=\"1\"\r\nAuthorization: X-Matrix sig=\"2\"\r\n\
         Proxy-Authorization: Bearer sesame\r\nHost: {name}:80\r\n\r\n{body}"
    )
}

pub async fn read_answer(stream: &mut UnixStream) -> Answer {
    let mut wire = Vec::new();
    // A reset ends an answer as well, and what came before it still counts.
    let _ = stream.read_to_end(&mut wire).await;
    Answer::parse(&wire).expect("a whole head")
}

/// Waits until `condition` holds; the test's own deadline bounds it.
pub async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
