//! An endpoint for Prometheus: `/metrics` and nothing else, for programs that have no admin socket.
//!
//! # Source
//! K10; the text format is [`crate::stats::Exposition`]'s.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use ::http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use ::http::{Method, Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

use crate::http::explain;
use crate::net::{ListenAddress, ListenOptions, Listener};
use crate::stats::{Board, Exposition};

/// Listens at `address`.
pub(super) fn listen(address: &ListenAddress) -> io::Result<Listener> {
    Listener::bind(address, &ListenOptions::default()).map_err(|error| io::Error::other(explain(&error)))
}

/// Answers whoever connects, until it is dropped. Who comes while everybody is being served waits.
pub(super) async fn serve(listener: Listener, board: Board) {
    let mut visitors = JoinSet::new();
    loop {
        while visitors.len() >= VISITORS_MAX {
            let _ended = visitors.join_next().await;
        }
        tokio::select! {
            stream = listener.accept() => {
                visitors.spawn_local(answer(board.clone(), stream));
            }
            Some(_ended) = visitors.join_next() => {}
        }
    }
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin + 'static>(board: Board, stream: S) {
    let service = service_fn(move |request| {
        let response = page(&board, &request);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(16 * 1024);
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    // A scraper that went away, or is too slow, will come again.
    let _ended = tokio::time::timeout(VISIT_MAX, serving).await;
}

fn page<B>(board: &Board, request: &Request<B>) -> Response<Full<Bytes>> {
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "there is one page here: /metrics\n".to_owned());
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "ask with GET\n".to_owned());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    let mut page = plain(StatusCode::OK, board.page().into_text());
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(Exposition::CONTENT_TYPE));
    page
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}

/// A scraper or two; the rest waits in the system's queue.
const VISITORS_MAX: usize = 16;
/// How long a scraper keeps its place: as long as several of its intervals.
const VISIT_MAX: Duration = Duration::from_secs(300);
/// How long a request head, or the next one on a kept connection, may take: longer than the usual interval.
const HEAD_TIMEOUT: Duration = Duration::from_secs(90);
