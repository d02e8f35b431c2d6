//! What the fake homeservers were sent: kept for assertions, up to a bound.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{HeaderMap, Method, Request, Version};
use tokio::sync::Notify;

/// One request, as it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// The connection it came on.
    pub connection: Arc<Connection>,
    /// Which request of its connection it was, from 1.
    pub nth: u64,
    /// The method.
    pub method: Method,
    /// Path and query, byte for byte.
    pub target: String,
    /// HTTP/1.1 or HTTP/2.
    pub version: Version,
    /// `Host` or `:authority`, as it was written.
    pub authority: String,
    /// The same without port, in lower case; brackets are dropped.
    pub host: String,
    /// All other headers, in order within each name.
    pub headers: HeaderMap,
    /// The first 64 KiB of the body; all of it where transactions are recorded.
    pub body: Bytes,
    /// How long the body was, and [`body_hash`] of all of it.
    pub body_bytes: u64,
    /// See `body_bytes`.
    pub body_hash: u64,
    /// Whether the body ended as its framing said.
    pub complete: bool,
}

/// One connection that shook hands.
#[derive(Debug)]
pub struct Connection {
    /// From 1, in the order of handshakes.
    pub number: u64,
    /// Who called.
    pub peer: SocketAddr,
    /// Where it was answered.
    pub local: SocketAddr,
    /// The name in the client's hello, in lower case.
    pub sni: Option<String>,
    /// What ALPN agreed on.
    pub alpn: Option<String>,
    /// Whether a session ticket spared the certificate.
    pub resumed: bool,
    pub(super) requests: AtomicU64,
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// TCP connections accepted.
    pub accepted: u64,
    /// Of these, open now.
    pub open: u64,
    /// The most that were open at once.
    pub open_max: u64,
    /// TLS handshakes done.
    pub handshakes: u64,
    /// Of these, resumed with a ticket.
    pub resumed: u64,
    /// TLS handshakes that failed, for either side's reason.
    pub handshakes_failed: u64,
    /// Requests whose body has been read.
    pub requests: u64,
}

/// FNV-1a, 64 bits: short enough to assert on, and the same everywhere.
pub fn body_hash(bytes: &[u8]) -> u64 {
    fold(FNV_START, bytes)
}

fn fold(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME))
}

/// Reads the whole of `request`, and keeps so much of its body.
pub(super) async fn take_in(
    connection: &Arc<Connection>,
    request: Request<Incoming>,
    body_kept_max: usize,
) -> Received {
    let (head, mut incoming) = request.into_parts();
    let named = head.headers.get(hyper::header::HOST).and_then(|host| host.to_str().ok());
    let authority = head.uri.authority().map(ToString::to_string).or(named.map(str::to_owned));
    let authority = authority.unwrap_or_default();
    let mut received = Received {
        connection: Arc::clone(connection),
        nth: connection.requests.fetch_add(1, Ordering::Relaxed) + 1,
        method: head.method,
        target: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        version: head.version,
        host: host_of(&authority),
        authority,
        headers: head.headers,
        body: Bytes::new(),
        body_bytes: 0,
        body_hash: FNV_START,
        complete: true,
    };
    let mut kept = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let Ok(frame) = frame else {
            received.complete = false;
            break;
        };
        let Some(data) = frame.data_ref() else { continue };
        received.body_bytes += data.len() as u64;
        received.body_hash = fold(received.body_hash, data);
        kept.extend_from_slice(&data[..data.len().min(body_kept_max - kept.len())]);
    }
    received.body = kept.into();
    received
}

fn host_of(authority: &str) -> String {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.split(':').next().unwrap_or(authority),
    };
    host.to_ascii_lowercase()
}

/// All that came in.
#[derive(Debug)]
pub(super) struct Ledger {
    received: Mutex<VecDeque<Received>>,
    kept_max: AtomicUsize,
    accepted: AtomicU64,
    open: AtomicU64,
    open_max: AtomicU64,
    handshakes: AtomicU64,
    resumed: AtomicU64,
    handshakes_failed: AtomicU64,
    requests: AtomicU64,
    arrival: Notify,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            received: Mutex::default(),
            kept_max: AtomicUsize::new(KEPT_MAX),
            accepted: AtomicU64::new(0),
            open: AtomicU64::new(0),
            open_max: AtomicU64::new(0),
            handshakes: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
            handshakes_failed: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            arrival: Notify::new(),
        }
    }
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Received>> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn keep_at_most(&self, requests_max: usize) {
        self.kept_max.store(requests_max, Ordering::Relaxed);
    }

    pub(super) fn keep(&self, request: Received) {
        let kept_max = self.kept_max.load(Ordering::Relaxed);
        let mut received = self.lock();
        received.push_back(request);
        while received.len() > kept_max {
            received.pop_front();
        }
        drop(received);
        self.requests.fetch_add(1, Ordering::Release);
        self.arrival.notify_waiters();
    }

    pub(super) fn received(&self) -> Vec<Received> {
        self.lock().iter().cloned().collect()
    }

    pub(super) async fn requests_reach(&self, requests: u64) {
        loop {
            let arrival = self.arrival.notified();
            if self.requests.load(Ordering::Acquire) >= requests {
                return;
            }
            arrival.await;
        }
    }

    pub(super) fn opened(&self) -> Open<'_> {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.open_max.fetch_max(open, Ordering::Relaxed);
        Open(self)
    }

    /// The number of the new connection.
    pub(super) fn handshaken(&self, resumed: bool) -> u64 {
        self.resumed.fetch_add(u64::from(resumed), Ordering::Relaxed);
        self.handshakes.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn handshake_failed(&self) {
        self.handshakes_failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            accepted: read(&self.accepted),
            open: read(&self.open),
            open_max: read(&self.open_max),
            handshakes: read(&self.handshakes),
            resumed: read(&self.resumed),
            handshakes_failed: read(&self.handshakes_failed),
            requests: read(&self.requests),
        }
    }
}

/// A connection that counts as open while this lives.
pub(super) struct Open<'a>(&'a Ledger);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;
const KEPT_MAX: usize = 10_000;
