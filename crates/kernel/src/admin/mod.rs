//! The admin socket: what the kernel is doing, for people and monitoring.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /healthz` | 200 while the I/O thread turns |
//! | `GET /ready` | 200 once the doors work, 503 before and while draining |
//! | `GET /metrics` | counters, gauges and histograms for Prometheus |
//! | `GET /debug/requests` | the oldest requests under way, with age, step and endpoint |
//! | `GET /debug/pools` | every peer with its connections |
//! | `GET /debug/hosts` | every host with its rank; `?state=down` filters |
//! | `GET /debug/process`, `/debug/marks`, `/debug/stack`, `/debug/stacks` | on a debug socket only: see [`crate::debug`] |
//! | `POST /hosts/{name}/wake` | ends the back-off of a host |
//!
//! # Source
//! K13, F5.

mod debug_pages;
mod pages;
mod visitor;

use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use southbridge_words::{Secret, ServiceName};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::debug::Debug;
use crate::kernel::Kernel;
use crate::net::{Listener, Peer};
use crate::stats::Board;

pub use crate::stats::MoreMetrics;

/// Whether the doors work, as `/ready` tells.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Rc<Cell<bool>>);

impl Readiness {
    /// The doors work (`true`), or not yet or no longer.
    pub fn set(&self, ready: bool) {
        self.0.set(ready);
    }

    /// Whether the doors work.
    pub fn is_ready(&self) -> bool {
        self.0.get()
    }
}

/// Somebody else who is told when an operator wakes a host; says whether the host is known there.
pub type AlsoWake = Rc<dyn Fn(&ServiceName) -> bool>;

/// Answers on the admin socket.
#[derive(Clone)]
pub struct Admin {
    kernel: Kernel,
    readiness: Readiness,
    board: Board,
    wake: Vec<AlsoWake>,
    secret: Option<Secret>,
    /// This user and root alone are answered.
    user: Option<u32>,
    debug: Option<Rc<Debug>>,
}

impl Admin {
    /// An admin socket for `kernel`.
    pub fn new(kernel: Kernel, readiness: Readiness, more: Vec<MoreMetrics>) -> Self {
        let board = Board::new(kernel.clone(), more);
        Self { kernel, readiness, board, wake: Vec::new(), secret: None, user: None, debug: None }
    }

    /// Tells `wake` too when an operator wakes a host: a queue that waits for it, for instance.
    #[must_use]
    pub fn also_waking(mut self, wake: AlsoWake) -> Self {
        self.wake.push(wake);
        self
    }

    /// Answers only those who show `secret` (`Authorization: Bearer …`).
    #[must_use]
    pub fn with_secret(mut self, secret: Secret) -> Self {
        self.secret = Some(secret);
        self
    }

    /// Answers only processes of the user `uid`, and of root, as the system says who they are.
    #[must_use]
    pub(crate) fn for_user(mut self, uid: u32) -> Self {
        self.user = Some(uid);
        self
    }

    /// Answers also what only a debug socket tells.
    #[must_use]
    pub(crate) fn with_debug(mut self, debug: Rc<Debug>) -> Self {
        self.debug = Some(debug);
        self
    }

    /// Accepts and answers until dropped.
    pub async fn serve(&self, listener: &Listener) {
        let slots = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
        loop {
            let stream = listener.accept().await;
            if !self.knows(stream.peer()) {
                continue;
            }
            let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
            let admin = self.clone();
            tokio::task::spawn_local(async move {
                admin.answer(stream).await;
                drop(slot);
            });
        }
    }

    /// Answers the requests on one connection.
    pub async fn answer<S: AsyncRead + AsyncWrite + Unpin + 'static>(&self, stream: S) {
        let service = service_fn(|request: hyper::Request<Incoming>| {
            let admin = self.clone();
            async move { Ok::<_, Infallible>(admin.page(&request).await) }
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(16 * 1024);
        let serving = builder.serve_connection(TokioIo::new(stream), service);
        match tokio::time::timeout(CONNECTION_MAX, serving).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "admin connection ended"),
            Err(_) => tracing::debug!("admin connection ended: it was old"),
        }
    }

    fn knows(&self, peer: Peer) -> bool {
        let Some(user) = self.user else { return true };
        matches!(peer, Peer::Unix { uid: Some(uid) } if uid == user || uid == 0)
    }

    async fn page(&self, request: &hyper::Request<Incoming>) -> hyper::Response<Full<Bytes>> {
        if let Err(refused) = visitor::check(request, self.secret.as_ref()) {
            return pages::refused(refused);
        }
        let (method, uri) = (request.method(), request.uri());
        match &self.debug {
            Some(debug) if debug_pages::knows(uri.path()) => {
                debug_pages::answer(debug, &self.kernel, method, uri.path()).await
            }
            _ => pages::answer(self, method, uri),
        }
    }
}

/// An operator, a dashboard and a scraper or two; the rest is a mistake.
const CONNECTIONS_MAX: usize = 64;
/// How long a connection is served: one that asks and never reads must not keep its place for ever.
const CONNECTION_MAX: Duration = Duration::from_secs(600);
/// How long a request head, or the next one on a kept connection, may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
