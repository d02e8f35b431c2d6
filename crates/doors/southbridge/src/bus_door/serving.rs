//! HTTP/1.1 with the programs at home that keep their connections.
//!
//! hyper reads the requests; what it leaves open is bounded here: how long a connection may be silent, how long its
//! reader may not read, and how it ends when the door closes.
//!
//! # Source
//! RFC 9112; K14. The Synapse and the proxy door have a server of their own ([`crate::local_http`] says why); here
//! connections are kept, and a library's server is right.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::answer::Answer;
use super::stalled::Stalling;
use crate::local_http::Gate;

/// The bounds of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// How long a connection may wait for the head of its next request. Default 2 min: callers that keep connections
    /// give them up sooner by themselves.
    pub idle_max: Duration,
    /// How long a caller may go without reading anything of its answer. Default 2 min.
    pub stall_max: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { idle_max: Duration::from_secs(120), stall_max: Duration::from_secs(120) }
    }
}

/// Answers the requests on one connection by `answer`, until its caller leaves or `closing` is open; a request that has
/// begun is still answered then.
pub(super) async fn serve<S, F>(
    stream: S,
    limits: ConnectionLimits,
    closing: &Gate,
    answer: impl Fn(http::Request<Incoming>) -> F,
) where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    F: Future<Output = Answer>,
{
    let service = service_fn(|request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.idle_max).max_buf_size(BUFFER_BYTES);
    let stream = TokioIo::new(Stalling::new(stream, limits.stall_max));
    let mut connection = pin!(builder.serve_connection(stream, service));
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = closing.pass() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "bus connection ended");
    }
}

/// The longest head, and how much of a body is read at a time.
const BUFFER_BYTES: usize = 64 * 1024;
