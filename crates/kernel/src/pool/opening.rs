//! Opens what the machine has decided to open: TCP, then TLS, then HTTP.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use southbridge_policy::pool::Capacity;
use southbridge_policy::racing;
use southbridge_words::{ConnId, PeerId};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::{Connection, Inner, OpenConnection, Stage};
use crate::discovery::{Route, Security};
use crate::http::{self, Gauge, HttpLimits, Sender};
use crate::net::{self, AddressPolicy, ConnectError, DialOptions};
use crate::stats::Stats;
use crate::tls::{Handshake, TlsConnector};

/// How connections are opened.
#[derive(Clone, Debug)]
pub struct OpeningConfig {
    /// Pace and bounds of dialling.
    pub dial: DialOptions,
    /// How long a TLS handshake may take. Default 10 s: four round trips on the worst of lines.
    pub handshake_max: Duration,
    /// Bounds on what a response head may be.
    pub http: HttpLimits,
    /// Streams we put on one HTTP/2 connection, whatever the peer allows. Default 100.
    pub streams_max: u32,
}

impl Default for OpeningConfig {
    fn default() -> Self {
        Self {
            dial: DialOptions::default(),
            handshake_max: Duration::from_secs(10),
            http: HttpLimits::default(),
            streams_max: 100,
        }
    }
}

/// What opening a connection needs.
pub(crate) struct Opener {
    pub(crate) config: OpeningConfig,
    pub(crate) policy: Rc<AddressPolicy>,
    pub(crate) tls: Rc<TlsConnector>,
    pub(crate) stats: Rc<Stats>,
}

struct Opened {
    sender: Sender,
    driver: std::pin::Pin<Box<dyn Future<Output = Result<(), String>>>>,
    gauge: Rc<Gauge>,
    remote: SocketAddr,
    http2: bool,
}

impl Inner {
    pub(super) fn start_opening(self: &Rc<Self>, conn: ConnId, peer: PeerId) {
        let (go, gone) = oneshot::channel();
        let route = {
            let mut state = self.state.borrow_mut();
            let route = Rc::clone(&state.peers.get(&peer).expect("the machine dials known peers").route);
            let opened_at = self.clock.now();
            let stage = Stage::Dialling { go: Some(go) };
            state.connections.insert(conn, Connection { peer, opened_at, task: None, stage });
            route
        };
        let inner = Rc::clone(self);
        let task = tokio::task::spawn_local(async move { inner.run_connection(conn, route, gone).await });
        if let Some(connection) = self.state.borrow_mut().connections.get_mut(&conn) {
            connection.task = Some(task.abort_handle());
        }
    }

    /// One connection from its dial to its end, on one task.
    async fn run_connection(self: Rc<Self>, conn: ConnId, route: Rc<Route>, go: oneshot::Receiver<()>) {
        // Boxed, so that what only the handshake needs is freed with it and not kept for the connection's life.
        match Box::pin(self.open(conn, &route, go)).await {
            Ok(opened) => {
                let driver = self.take_into_use(conn, opened);
                if let Err(reason) = driver.await {
                    tracing::debug!(%conn, reason, "connection ended");
                }
                self.handle_ended(conn);
            }
            Err(error) => self.handle_not_opened(conn, error),
        }
    }

    async fn open(
        self: &Rc<Self>,
        conn: ConnId,
        route: &Rc<Route>,
        go: oneshot::Receiver<()>,
    ) -> Result<Opened, ConnectError> {
        let (tcp, remote) = self.dial(route).await?;
        self.state.borrow_mut().pool.handle_dialled(conn, self.clock.now());
        self.act();
        go.await.map_err(|_| ConnectError::Exhausted { reason: "the pool was closed".to_owned() })?;
        let gauge = Rc::new(Gauge::default());
        match &route.security {
            Security::Plain => self.speak(tcp, false, gauge, remote).await,
            Security::Tls(name) => {
                let timeout = self.opener.config.handshake_max;
                let (profile, alpn) = (route.profile, route.alpn);
                let handshake = Handshake { address: remote, name, profile, alpn, timeout };
                let (stream, negotiated) = self.opener.tls.connect(tcp, &handshake).await?;
                self.opener.stats.handshakes.add(1);
                self.opener.stats.handshakes_resumed.add(u64::from(negotiated.resumed));
                self.speak(stream, negotiated.alpn_h2, gauge, remote).await
            }
        }
    }

    async fn dial(&self, route: &Route) -> Result<(TcpStream, SocketAddr), ConnectError> {
        let now = self.clock.now();
        let family = self.memory.borrow().preferred(now);
        let mut addresses =
            racing::order_preferring(family, &route.endpoints, &mut self.state.borrow_mut().seeded);
        self.memory.borrow().arrange(&mut addresses, now);
        self.opener.stats.dials.add(1);
        let lost = |address| self.memory.borrow_mut().handle_failed(address, self.clock.now());
        let options = &self.opener.config.dial;
        // An address that failed or was overtaken is tried last for a while (faults row 3).
        let dialled = net::dial_telling(&addresses, &self.opener.policy, options, self.clock, lost).await;
        if let Ok((_, remote)) = &dialled {
            self.memory.borrow_mut().handle_connected(*remote, self.clock.now());
        }
        dialled
    }

    async fn speak<S>(
        &self,
        stream: S,
        http2: bool,
        gauge: Rc<Gauge>,
        remote: SocketAddr,
    ) -> Result<Opened, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let opened = http::open(stream, http2, self.opener.config.http, Rc::clone(&gauge)).await;
        let (sender, driver) =
            opened.map_err(|reason| ConnectError::Handshake { address: remote, reason })?;
        Ok(Opened { sender, driver, gauge, remote, http2 })
    }

    fn take_into_use(
        self: &Rc<Self>,
        conn: ConnId,
        opened: Opened,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), String>>>> {
        let Opened { sender, driver, gauge, remote, http2 } = opened;
        {
            let mut state = self.state.borrow_mut();
            let open = OpenConnection { sender: Some(sender), gauge, remote, http2, served: 0 };
            if let Some(connection) = state.connections.get_mut(&conn) {
                connection.stage = Stage::Open(open);
                let streams_max = self.opener.config.streams_max;
                let capacity = if http2 { Capacity::Shared { streams_max } } else { Capacity::Exclusive };
                state.pool.handle_connected(conn, capacity, self.clock.now());
            }
        }
        self.act();
        driver
    }

    fn handle_not_opened(self: &Rc<Self>, conn: ConnId, error: ConnectError) {
        self.opener.stats.connects_failed.add(1);
        tracing::debug!(%conn, %error, "connection not opened");
        {
            let mut state = self.state.borrow_mut();
            if state.connections.remove(&conn).is_none() {
                return;
            }
            state.failures.insert(conn, Rc::new(error));
            state.pool.handle_connect_failed(conn, self.clock.now());
        }
        self.act();
        self.state.borrow_mut().failures.remove(&conn);
    }
}
