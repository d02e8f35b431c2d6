//! The smallest HTTP client that can talk with the processes under test: plain HTTP/1.1, one connection a request.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::failure::{Failure, Result, While};

/// A complete response.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Reply {
    /// The body as JSON, if the status says success.
    ///
    /// # Errors
    /// Another status, or no JSON.
    pub fn json(&self) -> Result<Value> {
        let said = String::from_utf8_lossy(&self.body);
        if !self.status.is_success() {
            return Err(Failure::new(format!("answered {}: {}", self.status, said.trim())));
        }
        serde_json::from_slice(&self.body).while_doing(format_args!("answer {said:?}"))
    }
}

/// Sends one request to `address` and reads the whole response.
///
/// # Errors
/// Connection or HTTP failed.
pub async fn send(address: SocketAddr, mut request: Request<Full<Bytes>>) -> Result<Reply> {
    let what = format!("{} http://{address}{}", request.method(), request.uri());
    let host = address.to_string().parse().while_doing(&what)?;
    request.headers_mut().entry("host").or_insert(host);
    let stream = TcpStream::connect(address).await.while_doing(&what)?;
    let (mut sender, driver) = http1::handshake(TokioIo::new(stream)).await.while_doing(&what)?;
    let driver = tokio::spawn(driver);
    let (head, body) = sender.send_request(request).await.while_doing(&what)?.into_parts();
    let body = body.collect().await.while_doing(&what)?.to_bytes();
    driver.abort();
    Ok(Reply { status: head.status, headers: head.headers, body })
}

/// GET of `target` at `address`.
///
/// # Errors
/// Connection or HTTP failed.
pub async fn get(address: SocketAddr, target: &str) -> Result<Reply> {
    let request = Request::builder().method(Method::GET).uri(target).body(Full::default());
    send(address, request.while_doing(target)?).await
}

/// `text` as one segment of a path or one value of a query.
pub fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_survive_in_paths() {
        assert_eq!(encoded("#a b:c.test"), "%23a%20b%3Ac.test");
        assert_eq!(encoded("!x-1_~"), "%21x-1_~");
    }
}
