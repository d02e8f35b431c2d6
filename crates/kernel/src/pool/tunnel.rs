//! Has a proxy open a tunnel.
//!
//! # Units
//! Bytes.
//!
//! # Source
//! RFC 9110 §9.3.6: any 2xx opens the tunnel, and nothing but the head of the answer comes before we speak.

use ::http::HeaderValue;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Asks the proxy at the end of `stream` for a tunnel to `target`. The error is a sentence.
pub(super) async fn open_tunnel<S>(
    stream: &mut S,
    target: &str,
    authorization: Option<&HeaderValue>,
) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
    if let Some(authorization) = authorization {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(authorization.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await.map_err(|error| error.to_string())?;
    let head = read_head(stream).await?;
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    match (line.starts_with(b"HTTP/1."), line.get(9)) {
        (true, Some(b'2')) => Ok(()),
        (true, Some(_)) => Err(format!("it answered {:?}", String::from_utf8_lossy(&line[9..]))),
        _ => Err("it answered something other than HTTP/1".to_owned()),
    }
}

/// Reads up to the blank line, and not a byte past it.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, String> {
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD_BYTES_MAX {
            return Err(format!("the head of its answer exceeds {HEAD_BYTES_MAX} bytes"));
        }
        // Byte by byte: what follows belongs to somebody else, and this happens once for a connection.
        let byte = stream.read_u8().await.map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => "it closed the connection".to_owned(),
            _ => error.to_string(),
        })?;
        head.push(byte);
    }
    Ok(head)
}

const HEAD_BYTES_MAX: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(answer: &[u8]) -> (Result<(), String>, String, Vec<u8>) {
        let (mut ours, mut theirs) = tokio::io::duplex(64 * 1024);
        theirs.write_all(answer).await.expect("room");
        let outcome =
            open_tunnel(&mut ours, "a.test:443", Some(&HeaderValue::from_static("Basic eA=="))).await;
        let mut asked = vec![0; 1024];
        let read = theirs.read(&mut asked).await.expect("a request");
        drop(theirs);
        let mut rest = Vec::new();
        ours.read_to_end(&mut rest).await.expect("an end");
        (outcome, String::from_utf8_lossy(&asked[..read]).into_owned(), rest)
    }

    /// What comes after the head is the peer's, and left alone.
    #[tokio::test]
    async fn a_tunnel_begins_right_after_the_head() {
        let (outcome, asked, rest) = ask(b"HTTP/1.1 200 Connected\r\nVia: x\r\n\r\nhello").await;
        assert_eq!(outcome, Ok(()));
        assert_eq!(rest, b"hello");
        assert_eq!(
            asked,
            "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nProxy-Authorization: Basic eA==\r\n\r\n"
        );
    }

    #[tokio::test]
    async fn a_proxy_that_will_not_is_quoted() {
        let (outcome, ..) = ask(b"HTTP/1.1 407 Who are you\r\n\r\n").await;
        assert_eq!(outcome.unwrap_err(), "it answered \"407 Who are you\"");
        let (outcome, ..) = ask(b"SSH-2.0-x\r\n\r\n").await;
        assert_eq!(outcome.unwrap_err(), "it answered something other than HTTP/1");
        let (outcome, ..) = ask(&[b'x'; 10_000]).await;
        assert_eq!(outcome.unwrap_err(), "the head of its answer exceeds 8192 bytes");
    }
}
