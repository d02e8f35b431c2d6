//! A caller that speaks raw bytes, and what it was answered.

use std::net::SocketAddr;
use std::path::Path;

pub use southbridge_testkit::answer::Answer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// A connection to a door, of either kind.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

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

/// The secret of the door.
pub const SECRET: &str = "open-sesame";
/// A path that anybody may ask for.
pub const VERSION: &str = "/_matrix/federation/v1/version";
/// What Synapse asks once and never again: it is not repeated for it either.
pub const CLAIM: &str = "/_matrix/federation/v1/user/keys/claim";
