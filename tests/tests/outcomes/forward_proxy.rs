//! Promise: the forward proxy carries what Synapse's other clients send, for those who may, to where they may.

use std::net::TcpListener;

use southbridge_testkit::raw::{RawPeer, Step, faults};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::caller::ask_tcp;
use crate::house::{Wishes, at_home, in_house};

/// `synapse:sesame`
const RIGHT: &str = "Proxy-Authorization: Basic c3luYXBzZTpzZXNhbWU=\r\n";
/// `synapse:sesamf`
const WRONG: &str = "Proxy-Authorization: Basic c3luYXBzZTpzZXNhbWY=\r\n";

#[tokio::test]
async fn whoever_lacks_the_credentials_is_not_served() {
    let wishes = Wishes { forward_proxy: "password = \"sesame\"", ..Wishes::default() };
    in_house(wishes, async |house| {
        let peer = RawPeer::plain(vec![faults::well()]).await.unwrap();
        let port = peer.address().port();
        let lines = [format!("CONNECT peer.test:{port}"), format!("GET http://peer.test:{port}/")];
        for line in &lines {
            for credentials in ["", WRONG, "Proxy-Authorization: Bearer sesame\r\n"] {
                let answer =
                    ask_tcp(house.proxy, format!("{line} HTTP/1.1\r\nHost: x\r\n{credentials}\r\n")).await;
                assert_eq!(answer.status, 407, "{line} {credentials}");
                assert!(answer.field("proxy-authenticate").is_some_and(|asks| asks.starts_with("Basic")));
            }
        }
        assert_eq!((peer.connections(), house.dns.queries_total()), (0, 0));
        let answer = ask_tcp(house.proxy, format!("{} HTTP/1.1\r\nHost: x\r\n{RIGHT}\r\n", lines[1])).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "{}"), "{}", answer.text());
        assert!(!String::from_utf8_lossy(&peer.received(0)).to_lowercase().contains("proxy-"));
    })
    .await;
}

/// By default this machine and its neighbours are none of the outside world.
#[tokio::test]
async fn row_13_private_addresses_are_not_reached_unless_they_are_allowed() {
    let wishes = Wishes { addresses: "", ..Wishes::default() };
    in_house(wishes, async |house| {
        let inside = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = inside.local_addr().unwrap().port();
        for host in [
            "127.0.0.1",
            "peer.test",
            "[::ffff:127.0.0.1]",
            "[::1]",
            "10.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
        ] {
            let answer =
                ask_tcp(house.proxy, format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            assert_eq!(answer.status, 403, "CONNECT {host}: {}", answer.text());
            let answer =
                ask_tcp(house.proxy, format!("GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}\r\n\r\n"))
                    .await;
            assert!(matches!(answer.status, 403 | 502), "GET {host}: {} {}", answer.status, answer.text());
            // The door for federation has the same policy.
            let answer = house.get(&format!("{host}:{port}"), "/").await;
            assert_eq!(answer.status, 502, "{host}: {}", answer.text());
        }
        inside.set_nonblocking(true).unwrap();
        assert!(inside.accept().is_err(), "somebody came");
    })
    .await;
}

#[tokio::test]
async fn an_allowed_tunnel_carries_bytes_both_ways() {
    at_home(async |house| {
        let script = vec![Step::Read(8), Step::write("answer"), Step::Close];
        let peer = RawPeer::plain(vec![script]).await.unwrap();
        let mut stream = TcpStream::connect(house.proxy).await.unwrap();
        let connect = format!("CONNECT 127.0.0.1:{} HTTP/1.1\r\nHost: x\r\n\r\n", peer.address().port());
        stream.write_all(connect.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&head));
        stream.write_all(b"question").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!((answer.as_str(), &peer.received(0)[..]), ("answer", &b"question"[..]));
    })
    .await;
}

/// An application service, asked over plain HTTP.
#[tokio::test]
async fn a_plain_request_is_passed_on_with_its_body() {
    at_home(async |house| {
        let peer = RawPeer::plain(vec![faults::well()]).await.unwrap();
        let address = peer.address();
        let request = format!(
            "PUT http://{address}/transactions/1?access_token=x%2Fy HTTP/1.1\r\nHost: {address}\r\n\
             Connection: close\r\nContent-Length: 13\r\n\r\n{{\"events\":[]}}"
        );
        let answer = ask_tcp(house.proxy, request).await;
        assert_eq!(
            (answer.status, answer.text().as_str(), answer.whole),
            (200, "{}", true),
            "{}",
            answer.text()
        );
        let received = String::from_utf8(peer.received(0)).unwrap();
        assert!(received.starts_with("PUT /transactions/1?access_token=x%2Fy HTTP/1.1\r\n"), "{received}");
        assert!(received.ends_with("\r\n\r\n{\"events\":[]}"), "{received}");
    })
    .await;
}
