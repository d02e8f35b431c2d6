//! An HTTP server that answers `{}` to everything and keeps what came in.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Collected, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::failure::{Result, While};

/// A running server; it stops when dropped.
#[derive(Debug)]
pub struct HttpTrap {
    address: SocketAddr,
    caught: Arc<Mutex<Vec<Caught>>>,
    task: JoinHandle<()>,
}

/// One request that came in.
#[derive(Clone, Debug)]
pub struct Caught {
    /// Who connected.
    pub peer: SocketAddr,
    /// The method.
    pub method: Method,
    /// The target as it stood in the request line.
    pub target: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl HttpTrap {
    /// Starts on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// There is none.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.while_doing("HTTP trap")?;
        let address = listener.local_addr().while_doing("HTTP trap")?;
        let caught = Arc::<Mutex<Vec<Caught>>>::default();
        let kept = Arc::clone(&caught);
        let task = tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let kept = Arc::clone(&kept);
                let service = service_fn(move |request| answer(Arc::clone(&kept), peer, request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(Self { address, caught, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What came in so far.
    pub fn caught(&self) -> Vec<Caught> {
        self.caught.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for HttpTrap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    kept: Arc<Mutex<Vec<Caught>>>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
    let caught =
        Caught { peer, method: head.method, target: head.uri.to_string(), headers: head.headers, body };
    kept.lock().unwrap_or_else(PoisonError::into_inner).push(caught);
    let mut response = Response::new(Full::from("{}"));
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    Ok(response)
}
