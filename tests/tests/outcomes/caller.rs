//! A caller that speaks raw bytes, and what it was answered.

use std::net::SocketAddr;
use std::path::Path;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// A connection to a door, of either kind.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// What a caller was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    /// Whether the body ended as its framing said.
    pub whole: bool,
}

/// A request as Synapse writes it.
pub fn request(method: &str, name: &str, path: &str, body: &str) -> String {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!(
        "{method} matrix-federation://{name}{path} HTTP/1.1\r\nConnection: close\r\n{length}\
         User-Agent: Synapse/1.163.2\r\nContent-Type: application/json\r\n\
         Authorization: X-Matrix sig=\"1\"\r\nAuthorization: X-Matrix sig=\"2\"\r\n\
         Proxy-Authorization: Bearer {SECRET}\r\nHost: {name}:80\r\n\r\n{body}"
    )
}

/// Connects to the unix socket at `path`.
pub async fn knock(path: &Path) -> UnixStream {
    UnixStream::connect(path).await.expect("nobody is refused at the door")
}

/// Sends `bytes` on a connection of their own to a TCP door, and reads to the end.
pub async fn ask_tcp(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Answer {
    let mut stream = TcpStream::connect(address).await.expect("nobody is refused at the door");
    ask_on(&mut stream, bytes).await
}

/// Sends `bytes` and reads to the end.
pub async fn ask_on(stream: &mut impl Stream, bytes: impl AsRef<[u8]>) -> Answer {
    // A door that has heard enough may close before it has read all; its answer still counts.
    let _ = stream.write_all(bytes.as_ref()).await;
    let mut wire = Vec::new();
    let reset = stream.read_to_end(&mut wire).await.err();
    Answer::parse(&wire)
        .unwrap_or_else(|| panic!("no answer: {:?}, {reset:?}", String::from_utf8_lossy(&wire)))
}

impl Answer {
    /// Takes `wire` apart; `None` when it is no answer.
    pub fn parse(wire: &[u8]) -> Option<Self> {
        let body_at = wire.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = String::from_utf8(wire[..body_at].to_vec()).ok()?;
        let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let mut answer = Self { status, head, body: wire[body_at..].to_vec(), whole: false };
        answer.whole = match answer.field("content-length") {
            Some(length) => length == answer.body.len().to_string(),
            None if answer.field("transfer-encoding") == Some("chunked") => answer.unchunk(),
            None => answer.body.is_empty() && matches!(status, 204 | 304),
        };
        Some(answer)
    }

    /// The first field of this name, which is in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(':'));
        fields.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The body as JSON; null when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The step that a refusal names.
    pub fn step(&self) -> String {
        self.json()["southbridge"]["step"].as_str().unwrap_or_default().to_owned()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Takes the body out of its chunks; whether the last of them was there, and its empty line.
    fn unchunk(&mut self) -> bool {
        let (mut rest, mut body) = (&self.body[..], Vec::new());
        let whole = loop {
            let Some(line) = rest.windows(2).position(|window| window == b"\r\n") else { break false };
            let size =
                std::str::from_utf8(&rest[..line]).ok().and_then(|hex| usize::from_str_radix(hex, 16).ok());
            let Some(size) = size else { break false };
            if size == 0 {
                break &rest[line + 2..] == b"\r\n";
            }
            let Some(data) = rest.get(line + 2..line + 2 + size) else { break false };
            body.extend_from_slice(data);
            rest = rest.get(line + 4 + size..).unwrap_or_default();
        };
        self.body = body;
        whole
    }
}

/// The secret of the door.
pub const SECRET: &str = "open-sesame";
/// A path that anybody may ask for.
pub const VERSION: &str = "/_matrix/federation/v1/version";
/// What Synapse asks once and never again: it is not repeated for it either.
pub const CLAIM: &str = "/_matrix/federation/v1/user/keys/claim";
