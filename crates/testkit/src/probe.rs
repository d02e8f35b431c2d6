//! The smallest client that can tell whether a fake peer does as it should; for the tests of this crate.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// One TLS connection to `address` in the name of `host`.
pub(crate) async fn connect(
    address: SocketAddr,
    host: &str,
    config: &Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::clone(config)).connect(name, stream).await
}

/// One request on a connection of its own, HTTP/2 if that is what ALPN came to.
pub(crate) async fn send(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    request: Request<&'static str>,
) -> Result<Response<Bytes>, Box<dyn std::error::Error + Send + Sync>> {
    let host = request.uri().host().unwrap().to_owned();
    let tls = connect(address, &host, config).await?;
    let http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
    let (head, body) = request.into_parts();
    let mut request = Request::from_parts(head, Full::new(Bytes::from(body)));
    let response = if http2 {
        let (mut sender, driver) = http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await?;
        tokio::spawn(driver);
        sender.send_request(request).await?
    } else {
        request.headers_mut().insert("host", host.parse()?);
        *request.uri_mut() = request.uri().path_and_query().unwrap().to_string().parse()?;
        let (mut sender, driver) = http1::handshake(TokioIo::new(tls)).await?;
        tokio::spawn(driver);
        sender.send_request(request).await?
    };
    let (head, body) = response.into_parts();
    Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
}

/// GET of `url`.
pub(crate) async fn get(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    url: &str,
) -> Result<Response<Bytes>, Box<dyn std::error::Error + Send + Sync>> {
    send(address, config, Request::get(url).body("")?).await
}
