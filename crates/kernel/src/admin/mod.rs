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
//! | `POST /hosts/{name}/wake` | ends the back-off of a host |
//!
//! # Source
//! K13, F5.

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

use crate::kernel::Kernel;
use crate::net::Listener;
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
}

impl Admin {
    /// An admin socket for `kernel`.
    pub fn new(kernel: Kernel, readiness: Readiness, more: Vec<MoreMetrics>) -> Self {
        let board = Board::new(kernel.clone(), more);
        Self { kernel, readiness, board, wake: Vec::new(), secret: None }
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

    /// Accepts and answers until dropped.
    pub async fn serve(&self, listener: &Listener) {
        let slots = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
        loop {
            let stream = listener.accept().await;
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
            let response = self.page(&request);
            async move { Ok::<_, Infallible>(response) }
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

    fn page(&self, request: &hyper::Request<Incoming>) -> hyper::Response<Full<Bytes>> {
        match visitor::check(request, self.secret.as_ref()) {
            Ok(()) => pages::answer(self, request.method(), request.uri()),
            Err(refused) => pages::refused(refused),
        }
    }
}

/// An operator, a dashboard and a scraper or two; the rest is a mistake.
const CONNECTIONS_MAX: usize = 64;
/// How long a connection is served: one that asks and never reads must not keep its place for ever.
const CONNECTION_MAX: Duration = Duration::from_secs(600);
/// How long a request head, or the next one on a kept connection, may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
