//! The forward proxy for Synapse's other HTTP: push gateways, identity servers, previews, application services.
//!
//! CONNECT opens a tunnel, through which the caller speaks TLS of its own; `http://` requests go
//! through the kernel. Both are dialled under the same address policy as everything else, so that
//! the proxy is no way around it.
//!
//! # Source
//! F1 ("the rest by forward proxy"); issue 2, item 7; what Synapse 1.163 sends: `CONNECT name:port
//! HTTP/1.0` without `Host`, and absolute-form requests with optional Basic credentials.

mod counters;
mod guard;
mod target;
mod tunnel;
mod visit;

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use southbridge_kernel::Kernel;
use southbridge_kernel::discovery::Discover;
use southbridge_kernel::net::Listener;

pub use counters::{ProxyCounters, ProxySnapshot};
pub use guard::{Guard, OpenProxy};
pub use target::{Destination, DestinationError};
pub use tunnel::{Carried, TunnelEnd, carry};

use crate::local_http::{LocalIo, Slots, accept_each};

/// How the proxy is set up.
#[derive(Clone, Debug)]
pub struct ForwardProxyConfig {
    /// Who may use it.
    pub guard: Guard,
    /// Connections served at once, tunnels included. Those above wait in the system's accept queue. Default 4,096.
    pub connections_max: u32,
    /// Tunnels at once; one more is answered 503. Default 1,024, of two sockets and 16 KiB each.
    pub tunnels_max: u32,
    /// How long a caller may take to send the head of its request. Default 10 s.
    pub head_timeout: Duration,
    /// How long opening a tunnel may take. Default 30 s, as long as Synapse waits for a connection.
    pub connect_timeout: Duration,
    /// How long nothing may move in a tunnel. Default 10 min: longer than any long poll.
    pub idle_max: Duration,
    /// By when a plain request has been answered. Default 75 s.
    pub request_timeout: Duration,
    /// The longest body of a plain request. Default 16 MiB.
    pub request_body_bytes_max: u64,
    /// How long a caller may go without reading anything of its response. Default 120 s.
    pub stall_max: Duration,
    /// Ports that are not connected to. Default 25: a mail server reads HTTP as mail.
    pub ports_denied: Vec<u16>,
}

impl Default for ForwardProxyConfig {
    fn default() -> Self {
        Self {
            guard: Guard::default(),
            connections_max: 4_096,
            tunnels_max: 1_024,
            head_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(30),
            idle_max: Duration::from_secs(600),
            request_timeout: Duration::from_secs(75),
            request_body_bytes_max: 16 * 1024 * 1024,
            stall_max: Duration::from_secs(120),
            ports_denied: vec![25],
        }
    }
}

/// The proxy. Cheap to clone; all clones are one proxy.
#[derive(Clone)]
pub struct ForwardProxy(Rc<Inside>);

pub(crate) struct Inside {
    kernel: Kernel,
    discovery: Rc<dyn Discover>,
    config: ForwardProxyConfig,
    counters: ProxyCounters,
    slots: Rc<Slots>,
    tunnels: Rc<Slots>,
}

impl ForwardProxy {
    /// A proxy whose plain requests find their way by `discovery`: `host` or `host:port`, plain TCP.
    pub fn new(kernel: Kernel, discovery: Rc<dyn Discover>, config: ForwardProxyConfig) -> Self {
        Self(Rc::new(Inside {
            kernel,
            discovery,
            counters: ProxyCounters::default(),
            slots: Slots::new(config.connections_max),
            tunnels: Slots::new(config.tunnels_max),
            config,
        }))
    }

    /// Accepts connections for ever. Dropping it (or its task) ends accepting, and nothing else.
    ///
    /// # Errors
    /// [`OpenProxy`] at once when `listener` must not be served.
    pub async fn serve(&self, listener: &Listener) -> Result<Infallible, OpenProxy> {
        self.0.config.guard.check_listener(listener.address())?;
        let serve = |stream| {
            let proxy = self.clone();
            async move { proxy.serve_connection(stream).await }
        };
        Ok(accept_each(listener, &self.0.slots, serve).await)
    }

    /// Serves the one request, or the tunnel, of one connection.
    pub async fn serve_connection<S: LocalIo>(&self, stream: S) {
        self.0.counters.connections.add(1);
        visit::Visit::new(&self.0, stream).serve().await;
    }

    /// Waits until no connection is served any more. Tunnels may take their time: bound it.
    pub async fn drained(&self) {
        self.0.slots.all_free().await;
    }

    /// The numbers of the proxy.
    pub fn snapshot(&self) -> ProxySnapshot {
        self.0.counters.snapshot(self.0.slots.held(), self.0.tunnels.held())
    }
}
