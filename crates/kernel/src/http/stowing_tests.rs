use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::timeout;

use super::*;
use crate::http::Gauge;

struct Open {
    sender: Http1,
    driver: JoinHandle<Result<(), End>>,
    gauge: Rc<Gauge>,
    peer: DuplexStream,
}

fn open() -> Open {
    let (ours, peer) = duplex(64 * 1024);
    let gauge = Rc::new(Gauge::default());
    gauge.allow(64 * 1024);
    let (sender, driver) = open_http1(Gauged::new(ours, Rc::clone(&gauge)), HttpLimits::default()).unwrap();
    Open { sender, driver: spawn_local(driver), gauge, peer }
}

impl Open {
    /// Sends a request and has the peer answer it; what was read of either.
    async fn ask(&mut self) -> (String, Bytes) {
        let request = ::http::Request::get("/").body(RequestBody::Whole(Full::default())).unwrap();
        let speaking = self.sender.ready().await.expect("it is open");
        let answered = speaking.try_send_request(request);
        let (heard, response) = tokio::join!(answer(&mut self.peer), answered);
        let response = response.map_err(hyper::client::conn::TrySendError::into_error).unwrap();
        (heard, response.into_body().collect().await.unwrap().to_bytes())
    }

    /// Lets the driver have its way, then stows.
    async fn stow(&mut self) {
        assert!(self.sender.speaking.as_mut().expect("it is not stowed").ready().await.is_ok());
        self.sender.stow();
        assert!(self.sender.speaking.is_none());
    }
}

async fn answer(peer: &mut DuplexStream) -> String {
    answer_with(peer, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await
}

/// Reads a request, then writes `answer`; what was read.
async fn answer_with(peer: &mut DuplexStream, answer: &[u8]) -> String {
    let mut heard = Vec::new();
    while !heard.ends_with(b"\r\n\r\n") {
        heard.push(peer.read_u8().await.expect("a request"));
    }
    peer.write_all(answer).await.expect("somebody reads");
    String::from_utf8(heard).unwrap()
}

async fn ended_by(driver: JoinHandle<Result<(), End>>) -> Result<(), End> {
    timeout(Duration::from_secs(5), driver).await.expect("it is woken").expect("it does not panic")
}

/// Asked, stowed, asked: the peer cannot tell that it was.
#[tokio::test]
async fn a_stowed_connection_carries_the_next_request() {
    let story = async {
        let mut open = open();
        let (heard, body) = open.ask().await;
        assert_eq!((heard.as_str(), &body[..]), ("GET / HTTP/1.1\r\n\r\n", &b"hi"[..]));
        for _ in 0..3 {
            open.stow().await;
            assert!(!open.sender.is_closed());
            assert_eq!(open.ask().await, (heard.clone(), body.clone()));
        }
        assert!(!open.gauge.is_gone());
    };
    LocalSet::new().run_until(story).await;
}

/// It is stowed before it has carried anything.
#[tokio::test]
async fn what_was_never_used_is_stowed_too() {
    let story = async {
        let mut open = open();
        open.stow().await;
        assert_eq!(&open.ask().await.1[..], b"hi");
    };
    LocalSet::new().run_until(story).await;
}

/// The peer has had enough: it is seen at once, and our side is closed as well.
#[tokio::test]
async fn a_stowed_connection_is_over_when_the_peer_closes() {
    let story = async {
        let mut open = open();
        open.ask().await;
        open.stow().await;
        open.peer.shutdown().await.unwrap();
        assert_eq!(ended_by(open.driver).await, Ok(()));
        assert!(open.sender.is_closed());
        assert!(open.sender.ready().await.is_none());
        assert!(open.gauge.is_gone());
        assert_eq!(open.peer.read(&mut [0; 8]).await.unwrap(), 0);
    };
    LocalSet::new().run_until(story).await;
}

/// An answer to nothing would be taken for the answer to the next request.
#[tokio::test]
async fn what_nobody_asked_for_ends_a_stowed_connection() {
    let story = async {
        let mut open = open();
        open.ask().await;
        open.stow().await;
        open.peer.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        assert_eq!(ended_by(open.driver).await.unwrap_err().reason, UNASKED);
        assert!(open.sender.is_closed());
    };
    LocalSet::new().run_until(story).await;
}

/// The same, but it had come before: in the same piece as the answer to the last request.
#[tokio::test]
async fn what_came_too_early_ends_the_connection() {
    let story = async {
        let mut open = open();
        let request = ::http::Request::get("/").body(RequestBody::Whole(Full::default())).unwrap();
        let answered = open.sender.ready().await.unwrap().try_send_request(request);
        let twice = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
        let (_heard, response) = tokio::join!(answer_with(&mut open.peer, twice), answered);
        assert!(response.is_ok_and(|response| response.status().is_success()));
        open.sender.stow();
        assert!(ended_by(open.driver).await.is_err());
        assert!(open.sender.is_closed());
    };
    LocalSet::new().run_until(story).await;
}

/// Nobody is cut off.
#[tokio::test]
async fn it_is_not_stowed_in_the_middle_of_a_request() {
    let story = async {
        let mut open = open();
        let request = ::http::Request::get("/").body(RequestBody::Whole(Full::default())).unwrap();
        let answered = open.sender.ready().await.unwrap().try_send_request(request);
        open.sender.stow();
        assert!(open.sender.speaking.is_some());
        let (_heard, response) = tokio::join!(answer(&mut open.peer), answered);
        // The head is here, the body has not been read.
        open.sender.stow();
        let body = response.map_err(hyper::client::conn::TrySendError::into_error).unwrap().into_body();
        assert_eq!(&body.collect().await.unwrap().to_bytes()[..], b"hi");
    };
    LocalSet::new().run_until(story).await;
}

/// A lease that is revoked: its holder has the sender still, and the stream is closed all the same.
#[tokio::test]
async fn who_drives_it_lets_go_of_the_stream() {
    let story = async {
        for is_stowed in [false, true] {
            let mut open = open();
            open.ask().await;
            if is_stowed {
                open.stow().await;
            }
            open.driver.abort();
            assert!(open.driver.await.unwrap_err().is_cancelled());
            assert!(open.gauge.is_gone());
            assert!(open.sender.ready().await.is_none());
        }
    };
    LocalSet::new().run_until(story).await;
}
