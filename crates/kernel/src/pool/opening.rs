//! Opens what the machine has decided to open: TCP, then TLS, then HTTP.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use southbridge_policy::pool::Capacity;
use southbridge_policy::racing;
use southbridge_words::{ConnId, PeerId};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::tunnel::open_tunnel;
use super::{Connection, Inner, OpenConnection, Opening, Stage};
use crate::Surroundings;
use crate::discovery::{Proxy, Route, Security};
use crate::http::{self, Driver, End, Gauge, HttpLimits, Sender};
use crate::net::{self, AddressPolicy, ConnectError, DialOptions, Stream};
use crate::stats::Stats;
use crate::tls::{Alpn, Handshake, TlsConnector};

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
    pub(crate) around: Surroundings,
}

/// What is opened: a connection to `peer` along `route`.
struct Plan {
    peer: PeerId,
    route: Rc<Route>,
    alpn: Alpn,
}

struct Opened {
    sender: Sender,
    driver: Driver,
    gauge: Rc<Gauge>,
    remote: SocketAddr,
    http2: bool,
}

impl Inner {
    pub(super) fn start_opening(self: &Rc<Self>, conn: ConnId, peer: PeerId) {
        let (go, gone) = oneshot::channel();
        let plan = {
            let mut state = self.state.borrow_mut();
            let opened_at = self.clock.now();
            let known = state.peers.get(&peer).expect("the machine dials known peers");
            let route = Rc::clone(&known.route);
            let alpn = if known.http1_until > opened_at { Alpn::Http1 } else { route.alpn };
            let stage = Stage::Opening(Opening { go: Some(go), remote: None, since: opened_at });
            state.connections.insert(conn, Connection { peer, opened_at, task: None, stage });
            Plan { peer, route, alpn }
        };
        let life = Rc::clone(self).run_connection(conn, plan, gone);
        let task = tokio::task::spawn_local(Rc::clone(self).outlive(conn, life));
        if let Some(connection) = self.state.borrow_mut().connections.get_mut(&conn) {
            connection.task = Some(task.abort_handle());
        }
    }

    /// One connection from its dial to its end, on one task.
    async fn run_connection(self: Rc<Self>, conn: ConnId, plan: Plan, go: oneshot::Receiver<()>) {
        // Boxed, so that what only the handshake needs is freed with it and not kept for the connection's life.
        match Box::pin(self.open(conn, &plan, go)).await {
            Ok(opened) => {
                let gauge = Rc::clone(&opened.gauge);
                let driver = self.take_into_use(conn, opened);
                if let Err(end) = self.drive(conn, driver, &gauge).await {
                    tracing::debug!(%conn, reason = end.reason, "connection ended");
                    if end.broke_http2 {
                        self.avoid_http2(plan.peer);
                    }
                }
                if !gauge.is_gone() {
                    // After a GOAWAY, what is under way goes on, and holds the descriptor.
                    self.handle_draining(conn);
                    gauge.gone().await;
                }
                self.handle_ended(conn);
            }
            Err(error) => self.handle_not_opened(conn, error),
        }
    }

    /// Runs `driver`, and tells the machine when the peer changes how many streams it allows.
    async fn drive(self: &Rc<Self>, conn: ConnId, mut driver: Driver, gauge: &Gauge) -> Result<(), End> {
        let bound = self.opener.config.streams_max;
        let mut told = bound;
        std::future::poll_fn(|cx| {
            let ended = driver.as_mut().poll(cx);
            // One that allows none for now is given a single request, which then waits for it to change its
            // mind, at most until its deadline.
            let allowed = gauge.streams_max().unwrap_or(bound).clamp(1, bound);
            if allowed != told && ended.is_pending() {
                told = allowed;
                self.handle_capacity(conn, allowed);
            }
            ended
        })
        .await
    }

    async fn open(
        self: &Rc<Self>,
        conn: ConnId,
        plan: &Plan,
        go: oneshot::Receiver<()>,
    ) -> Result<Opened, ConnectError> {
        let Plan { route, alpn, .. } = plan;
        let (mut tcp, remote) = self.dial(route).await?;
        self.handle_dialled(conn, remote);
        go.await.map_err(|_| ConnectError::Exhausted { reason: "the pool was closed".to_owned() })?;
        if let Some(Proxy::Tunnel { target, authorization }) = route.proxy() {
            let opening = open_tunnel(&mut tcp, target, authorization.as_ref());
            let opened = timeout(self.opener.config.handshake_max, opening).await;
            opened
                .unwrap_or_else(|_| Err("it did not answer in time".to_owned()))
                .map_err(|reason| ConnectError::Proxy { address: remote, reason })?;
        }
        let gauge = Rc::new(Gauge::default());
        match &route.security {
            Security::Plain => self.speak(tcp, false, gauge, remote).await,
            Security::Tls(name) => {
                let timeout = self.opener.config.handshake_max;
                let (profile, alpn) = (route.profile, *alpn);
                let handshake = Handshake { address: remote, name, profile, alpn, timeout };
                let own = route.way.as_ref().and_then(|way| way.tls.as_deref());
                let tls = own.unwrap_or(&self.opener.tls);
                let (stream, negotiated) = tls.connect(tcp, &handshake).await?;
                self.opener.stats.handshakes.add(1);
                self.opener.stats.handshakes_resumed.add(u64::from(negotiated.resumed));
                self.speak(stream, negotiated.alpn_h2, gauge, remote).await
            }
        }
    }

    fn handle_dialled(self: &Rc<Self>, conn: ConnId, remote: SocketAddr) {
        {
            let mut state = self.state.borrow_mut();
            if let Some(Connection { stage: Stage::Opening(opening), .. }) = state.connections.get_mut(&conn)
            {
                opening.remote = Some(remote);
            }
            state.pool.handle_dialled(conn, self.clock.now());
        }
        self.act();
    }

    async fn dial(&self, route: &Route) -> Result<(Stream, SocketAddr), ConnectError> {
        let now = self.clock.now();
        let family = self.memory.borrow().preferred(now);
        let mut addresses =
            racing::order_preferring(family, &route.endpoints, &mut self.state.borrow_mut().seeded);
        self.memory.borrow().arrange(&mut addresses, now);
        self.opener.stats.dials.add(1);
        let lost = |address| self.memory.borrow_mut().handle_failed(address, self.clock.now());
        let (options, around) = (&self.opener.config.dial, &self.opener.around);
        // An address that failed or was overtaken is tried last for a while (faults row 3).
        let policy = route.way.as_ref().and_then(|way| way.addresses.as_ref()).unwrap_or(&self.opener.policy);
        let dialled = net::dial_telling(&addresses, policy, options, around, lost).await;
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

    fn take_into_use(self: &Rc<Self>, conn: ConnId, opened: Opened) -> Driver {
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

    fn handle_capacity(self: &Rc<Self>, conn: ConnId, streams_max: u32) {
        self.state.borrow_mut().pool.handle_capacity(conn, streams_max, self.clock.now());
        self.act();
    }
}
