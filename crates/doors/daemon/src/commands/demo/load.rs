//! Asks at the door as Synapse does: one connection a request, `matrix-federation://` in absolute form.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// The door of a running Southbridge.
#[derive(Clone)]
pub struct Door {
    path: Rc<PathBuf>,
    secret: Rc<str>,
}

/// What became of one request.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The status, or 0 when the door did not answer.
    pub status: u16,
    /// From connecting to the last byte.
    pub took: Duration,
}

impl Sample {
    /// Whether the homeserver did what was asked.
    pub fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Door {
    /// The door at `path`, opened by `secret`.
    pub fn new(path: PathBuf, secret: &str) -> Self {
        Self { path: Rc::new(path), secret: secret.into() }
    }

    /// Sends `host` a transaction with one message.
    pub async fn send(&self, host: &str, transaction: usize) -> Sample {
        let body = r#"{"origin":"demo.test","origin_server_ts":1,"pdus":[]}"#;
        let head = format!(
            "PUT matrix-federation://{host}/_matrix/federation/v1/send/{transaction} HTTP/1.1\r\n\
             Content-Length: {}\r\nContent-Type: application/json\r\n",
            body.len()
        );
        self.ask(host, &head, body).await
    }

    /// Asks `host` for a profile, as for a user who waits.
    pub async fn profile(&self, host: &str) -> Sample {
        let head = format!(
            "GET matrix-federation://{host}/_matrix/federation/v1/query/profile?user_id=%40a%3A{host} HTTP/1.1\r\n"
        );
        self.ask(host, &head, "").await
    }

    async fn ask(&self, host: &str, head: &str, body: &str) -> Sample {
        let begun = Instant::now();
        let request = format!(
            "{head}Connection: close\r\nUser-Agent: Southbridge-demo\r\n\
             Authorization: X-Matrix origin=\"demo.test\",destination=\"{host}\",key=\"ed25519:demo\",sig=\"unsigned\"\r\n\
             Proxy-Authorization: Bearer {}\r\nHost: {host}\r\n\r\n{body}",
            self.secret
        );
        let status = self.exchange(request.as_bytes()).await.unwrap_or(0);
        Sample { status, took: begun.elapsed() }
    }

    async fn exchange(&self, request: &[u8]) -> std::io::Result<u16> {
        let mut stream = UnixStream::connect(&*self.path).await?;
        stream.write_all(request).await?;
        let mut answer = Vec::with_capacity(1024);
        stream.read_to_end(&mut answer).await?;
        // "HTTP/1.1 200 …"
        let status = answer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
        status.and_then(|digits| digits.parse().ok()).ok_or_else(|| std::io::ErrorKind::InvalidData.into())
    }
}
