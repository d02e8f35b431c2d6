//! The door as its callers meet it, before a bus whose answers are written down.

mod requests;
mod results;
mod scripted;

use http::StatusCode;
use serde_json::Value;
use southbridge_kernel::Clock;
use southbridge_words::{Secret, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::{BusDoor, BusDoorConfig};
use scripted::Scripted;

fn name(name: &str) -> ServerName {
    ServerName::parse(name).unwrap()
}

fn door(bus: &Scripted) -> BusDoor<Scripted> {
    BusDoor::new(bus.clone(), Clock::start(), BusDoorConfig::new(Secret::new(*b"sesame")))
}

/// A request as a caller writes it.
fn request(method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sesame\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// Sends `text` on a connection of its own and gives the status and the body of the answer.
async fn tell(door: &BusDoor<Scripted>, text: &str) -> (StatusCode, String) {
    let (ours, mut theirs) = duplex(1 << 20);
    let asking = async move {
        theirs.write_all(text.as_bytes()).await.unwrap();
        let answer = read_answer(&mut theirs).await;
        drop(theirs);
        answer
    };
    tokio::join!(asking, door.serve_connection(ours)).0
}

/// One answer whose length is announced.
async fn read_answer(stream: &mut DuplexStream) -> (StatusCode, String) {
    let head = read_head(stream).await;
    let status = StatusCode::from_bytes(&head.as_bytes()[9..12]).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    (status, String::from_utf8(body).unwrap())
}

async fn read_head(stream: &mut DuplexStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn ask(door: &BusDoor<Scripted>, method: &str, path: &str, body: &str) -> (u16, Value) {
    let (status, body) = tell(door, &request(method, path, body)).await;
    let value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
    (status.as_u16(), value)
}
