//! The raw peers, met by plain sockets and by a well-kept client.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::http2::{Http2Fault, Http2Peer};
use super::*;
use crate::probe;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// Pieces, a body, a second request on the same connection, and the end as scripted.
#[tokio::test]
async fn scripts_are_played_step_by_step() {
    let slow = Step::WriteSlowly { bytes: "abc".into(), piece: 1, pause: Duration::from_millis(1) };
    let script = vec![Step::ReadRequest, slow, Step::ReadRequest, Step::write("!"), Step::Close];
    let peer = RawPeer::plain(vec![script]).await.unwrap();
    let mut client = TcpStream::connect(peer.address()).await.unwrap();
    client.write_all(b"PUT / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
    client
        .write_all(b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    drop(client);
    peer.endings_reach(1).await;
    assert_eq!((answer.as_str(), peer.written(), peer.connections()), ("abc!", 4, 1));
    assert!(peer.received(0).starts_with(b"PUT / HTTP/1.1\r\n"));
}

/// RST is an error to read, FIN is an end.
#[tokio::test]
async fn resets_and_closes_are_told_apart() {
    let peer = RawPeer::plain(vec![faults::keep_alive_reset(), faults::keep_alive_race()]).await.unwrap();
    for reset in [true, false] {
        let mut client = TcpStream::connect(peer.address()).await.unwrap();
        client.write_all(&[GET, GET].concat()).await.unwrap();
        let end = client.read_to_end(&mut Vec::new()).await;
        assert_eq!(end.is_err(), reset);
    }
}

/// An endless answer stops when its reader leaves, or at its own bound.
#[tokio::test]
async fn endless_answers_stop_when_the_reader_leaves() {
    for (name, script) in faults::endless(100_000) {
        let peer = RawPeer::plain(vec![script]).await.unwrap();
        let mut client = TcpStream::connect(peer.address()).await.unwrap();
        client.write_all(GET).await.unwrap();
        client.read_exact(&mut [0; 50_000]).await.unwrap();
        drop(client);
        peer.endings_reach(1).await;
        assert!(peer.written() < 200_000, "{name}");
    }
}

/// Over TLS, a well-kept client takes the healthy script and sees each cut-off body as an error.
#[tokio::test]
async fn a_strict_client_refuses_what_is_cut_off() {
    let authority = Authority::new();
    let config = authority.client_config(Alpn::Http1);
    let well = RawPeer::tls(&authority, Alpn::Http1, vec![faults::well()]).await.unwrap();
    let answer = probe::get(well.address(), &config, "https://a.test/").await.unwrap();
    assert_eq!(&answer.body()[..], b"{}");
    for (name, script) in faults::cut_off() {
        let peer = RawPeer::tls(&authority, Alpn::Http1, vec![script]).await.unwrap();
        assert!(probe::get(peer.address(), &config, "https://a.test/").await.is_err(), "{name}");
    }
    assert!(faults::misframed().len() >= 16);
}

/// The hand-made frames are HTTP/2 to a real client, where they mean to be.
#[tokio::test]
async fn hand_made_http2_answers_and_refuses() {
    let authority = Authority::new();
    let config = authority.client_config(Alpn::Http2);
    for (fault, well) in [
        (Http2Fault::None, true),
        (Http2Fault::StreamsMax(1), true),
        (Http2Fault::GoAwayAfter(1), true),
        (Http2Fault::GoAwayAfter(0), false),
        (Http2Fault::ResetEach(7), false),
        (Http2Fault::HeaderBomb, false),
        (Http2Fault::ContinuationFlood, false),
        (Http2Fault::ResetFlood, false),
    ] {
        let peer = Http2Peer::start(&authority, fault).await.unwrap();
        let answer = probe::get(peer.address(), &config, "https://a.test/").await;
        assert_eq!(answer.is_ok_and(|answer| answer.body() == "{}"), well, "{fault:?}");
        assert_eq!(peer.connections(), 1);
    }
}

/// A peer without SETTINGS keeps a client waiting: the deadline is the client's business.
#[tokio::test]
async fn a_mute_http2_peer_answers_nothing() {
    let authority = Authority::new();
    let config = authority.client_config(Alpn::Http2);
    let peer = Http2Peer::start(&authority, Http2Fault::Mute).await.unwrap();
    let answer = probe::get(peer.address(), &config, "https://a.test/");
    assert!(tokio::time::timeout(Duration::from_millis(200), answer).await.is_err());
    assert_eq!(peer.requests(), 0);
}
