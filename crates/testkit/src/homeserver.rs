//! Fake homeservers: one listener serves any number of names over real TLS, HTTP/1.1 and HTTP/2.
//!
//! The name in the client's hello picks the certificate, the offered HTTP versions and the connection's
//! behaviour; the `Host` (or `:authority`) of each request picks what it is answered. Everything that
//! came in is kept for assertions.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use southbridge_testkit::certificates::Authority;
//! use southbridge_testkit::homeserver::{Behaviour, Homeservers, HostScript, WellKnown};
//! let servers = Homeservers::start(Authority::new()).await?;
//! let delegated = format!("matrix.a.test:{}", servers.port());
//! servers.set("a.test", HostScript { well_known: WellKnown::Delegate(delegated), ..HostScript::default() });
//! servers.set("b.test", HostScript { behaviour: Behaviour::HangAfterTls, ..HostScript::default() });
//! servers.requests_reach(1).await;
//! assert_eq!(servers.received()[0].target, "/.well-known/matrix/server");
//! # Ok(()) }
//! ```
//!
//! # Source
//! Matrix Server-Server API: "Resolving server names", "Transactions", "Retrieving server keys",
//! "Content Repository"; rows 2, 3, 12, 15, 16 of the fault list.

mod answers;
mod body;
mod received;
mod script;
mod sends;

use std::fmt;
use std::future::pending;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::server::Acceptor;
use rustls::{HandshakeKind, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::certificates::{Alpn, Authority, CertificatesByName};
use crate::task::{Task, accept_each, listen};
pub use body::blob;
use received::Ledger;
pub use received::{Connection, Counts, Received, body_hash};
use script::Scripts;
pub use script::{Behaviour, Canned, HostScript, Media, WellKnown};
pub use sends::{OnSend, SentTransaction};
use sends::{Sends, Verdict};

/// A fleet of homeservers behind one listener or several; it stops when dropped.
#[derive(Debug)]
pub struct Homeservers {
    address: SocketAddr,
    fleet: Arc<Fleet>,
    listeners: Mutex<Vec<Task>>,
}

#[derive(Debug)]
struct Fleet {
    certificates: Arc<CertificatesByName>,
    configs: [Arc<ServerConfig>; 3],
    scripts: Scripts,
    ledger: Ledger,
    sends: Sends,
    hang_up: Notify,
    let_go: Notify,
}

impl Homeservers {
    /// Starts on a free port of 127.0.0.1; every name is a healthy host until told otherwise.
    ///
    /// # Errors
    /// When no socket can be had.
    pub async fn start(authority: Arc<Authority>) -> io::Result<Self> {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), authority).await
    }

    /// Starts on `address`; port 0 takes whichever is free.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn start_at(address: SocketAddr, authority: Arc<Authority>) -> io::Result<Self> {
        let certificates = CertificatesByName::new(authority);
        let configs = [Alpn::Http2, Alpn::Http1, Alpn::None].map(|alpn| certificates.server_config(alpn));
        let fleet = Fleet {
            certificates,
            configs,
            scripts: Scripts::default(),
            ledger: Ledger::default(),
            sends: Sends::default(),
            hang_up: Notify::new(),
            let_go: Notify::new(),
        };
        let servers = Self { address, fleet: Arc::new(fleet), listeners: Mutex::default() };
        let address = servers.listen_also(address).await?;
        Ok(Self { address, ..servers })
    }

    /// Listens on `address` too (any of 127.0.0.0/8 will do), and says which port it became.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn listen_also(&self, address: SocketAddr) -> io::Result<SocketAddr> {
        let listener = listen(address)?;
        let address = listener.local_addr()?;
        let fleet = Arc::clone(&self.fleet);
        let task =
            Task::spawn(accept_each(listener, move |stream, peer| serve(Arc::clone(&fleet), stream, peer)));
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(task);
        Ok(address)
    }

    /// Where it listens first.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port of [`Homeservers::address`].
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on `host` (without port; an address for literals) does as `script` says.
    pub fn set(&self, host: &str, script: HostScript) {
        self.fleet.certificates.set(host, script.certificate);
        self.fleet.scripts.set(host, script);
    }

    /// From now on `host` behaves so, and all else about it stays.
    pub fn behave(&self, host: &str, behaviour: Behaviour) {
        let script = HostScript { behaviour, ..(*self.fleet.scripts.get(host)).clone() };
        self.set(host, script);
    }

    /// The rule for hosts without a script. Their certificates are good.
    pub fn otherwise(&self, rule: impl Fn(&str) -> Arc<HostScript> + Send + Sync + 'static) {
        self.fleet.scripts.otherwise(Box::new(rule));
    }

    /// Closes every connection that speaks HTTP, as hosts do with those that have been idle for long.
    pub fn hang_up(&self) {
        self.fleet.hang_up.notify_waiters();
    }

    /// Closes every connection on which a host hangs, as a machine does that is started again.
    pub fn let_go(&self) {
        self.fleet.let_go.notify_waiters();
    }

    /// Keeps at most `requests_max` requests for [`Homeservers::received`]; counting goes on all the same.
    pub fn keep_at_most(&self, requests_max: usize) {
        self.fleet.ledger.keep_at_most(requests_max);
    }

    /// What came in, in order: the last 10,000 unless told otherwise.
    pub fn received(&self) -> Vec<Received> {
        self.fleet.ledger.received()
    }

    /// What came in for one host (as the `Host` header names it, without port).
    pub fn received_by(&self, host: &str) -> Vec<Received> {
        self.received().into_iter().filter(|request| request.host == host).collect()
    }

    /// From now on keeps every transaction that comes, for [`Homeservers::sent_to`].
    pub fn record_sends(&self) {
        self.fleet.sends.record();
    }

    /// From now on tells `watcher` of every transaction that comes to a healthy host: the host, the id, the body.
    /// There is one watcher; it stays.
    pub fn watch_sends(&self, watcher: impl Fn(&str, &str, &Bytes) + Send + Sync + 'static) {
        self.fleet.sends.watch(Box::new(watcher));
    }

    /// What `host` does with its next transactions, one by one; it processes those after them. Begins to
    /// record. A host that is not healthy does as its script says all the same.
    pub fn on_send(&self, host: &str, answers: impl IntoIterator<Item = OnSend>) {
        self.fleet.sends.answer_next(host, answers);
    }

    /// The transactions that came for `host`, in order.
    pub fn sent_to(&self, host: &str) -> Vec<SentTransaction> {
        self.fleet.sends.of(host)
    }

    /// Connections, handshakes and requests so far.
    pub fn counts(&self) -> Counts {
        self.fleet.ledger.counts()
    }

    /// Waits until that many requests have come in altogether.
    pub async fn requests_reach(&self, requests: u64) {
        self.fleet.ledger.requests_reach(requests).await;
    }
}

async fn serve(fleet: Arc<Fleet>, stream: TcpStream, peer: SocketAddr) {
    let _open = fleet.ledger.opened();
    // A peer that goes away is the test's own doing.
    let _ = serve_connection(&fleet, stream, peer).await;
}

async fn serve_connection(fleet: &Arc<Fleet>, stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let mut hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let sni = hello.client_hello().server_name().map(str::to_ascii_lowercase);
    let script = fleet.scripts.get(sni.as_deref().unwrap_or(&local.ip().to_string()));
    match script.behaviour {
        Behaviour::Reset => return reset(&hello.io),
        Behaviour::HangAfterAccept => {
            return tokio::select! {
                closed = until_closed(&mut hello.io) => closed,
                () = fleet.let_go.notified() => Ok(()),
            };
        }
        _ => {}
    }
    let config = Arc::clone(&fleet.configs[script.alpn as usize]);
    let mut tls = match hello.into_stream(config).await {
        Ok(tls) => tls,
        Err(error) => {
            fleet.ledger.handshake_failed();
            return Err(error);
        }
    };
    let connection = Connection {
        number: fleet.ledger.handshaken(resumed(&tls)),
        peer,
        local,
        sni,
        alpn: tls.get_ref().1.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
        resumed: resumed(&tls),
        requests: AtomicU64::new(0),
    };
    if script.behaviour == Behaviour::HangAfterTls {
        return until_closed(&mut tls).await;
    }
    tokio::select! {
        spoken = speak_http(fleet, tls, connection) => spoken.map_err(io::Error::other),
        () = fleet.hang_up.notified() => Ok(()),
    }
}

fn resumed(tls: &TlsStream<TcpStream>) -> bool {
    tls.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
}

async fn speak_http(
    fleet: &Arc<Fleet>,
    tls: TlsStream<TcpStream>,
    connection: Connection,
) -> Result<(), hyper::Error> {
    let http2 = connection.alpn.as_deref() == Some("h2");
    let connection = Arc::new(connection);
    let fleet = Arc::clone(fleet);
    let service = service_fn(move |request| {
        let (fleet, connection) = (Arc::clone(&fleet), Arc::clone(&connection));
        async move {
            let bodies_max =
                if fleet.sends.records(request.uri().path()) { SEND_KEPT_MAX } else { BODY_KEPT_MAX };
            let received = received::take_in(&connection, request, bodies_max).await;
            let script = fleet.scripts.get(&received.host);
            let asked = answers::Asked::of(&received);
            let healthy = script.behaviour == Behaviour::Healthy;
            let verdict = if healthy { fleet.sends.take(&received) } else { Verdict::Otherwise };
            fleet.ledger.keep(received);
            match verdict {
                Verdict::Otherwise => tokio::select! {
                    answer = answers::answer(&script, asked) => Ok(answer),
                    () = fleet.let_go.notified(), if !healthy => Err(Cut),
                },
                Verdict::Say(canned) => {
                    tokio::time::sleep(script.latency).await;
                    Ok(answers::respond(canned))
                }
                Verdict::Hang => pending().await,
                Verdict::Cut => Err(Cut),
            }
        }
    });
    if http2 {
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder.serve_connection(TokioIo::new(tls), service).await
    } else {
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.max_buf_size(HTTP1_BUFFER_MAX).serve_connection(TokioIo::new(tls), service).await
    }
}

/// Ends a connection, or at HTTP/2 a stream, without an answer.
#[derive(Debug)]
struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cut as scripted")
    }
}

impl std::error::Error for Cut {}

/// Closes with RST rather than FIN.
fn reset(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

/// Says nothing until the peer has had enough.
async fn until_closed(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}

const HTTP1_BUFFER_MAX: usize = 256 << 10;
/// What is kept of a body, and of a transaction's: fifty PDUs of the largest size, and a hundred EDUs.
const BODY_KEPT_MAX: usize = 64 << 10;
const SEND_KEPT_MAX: usize = 16 << 20;

#[cfg(test)]
mod tests;
