//! The forward proxy, as Synapse's other clients use it.

mod house;

use house::{Answer, at_home, door_config, in_house, read_answer, until};
use southbridge::forward_proxy::{ForwardProxyConfig, Guard};
use southbridge_testkit::raw::{RawPeer, Step, faults};
use southbridge_words::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn ask(house: &house::House, request: &str) -> Answer {
    let mut stream = house.knock("proxy").await;
    stream.write_all(request.as_bytes()).await.expect("a proxy that reads");
    read_answer(&mut stream).await
}

/// What Synapse sends for everything encrypted: HTTP/1.0, and no `Host`.
#[tokio::test]
async fn a_tunnel_carries_bytes_both_ways_and_both_ends() {
    at_home(async |house| {
        let script = vec![Step::Read(8), Step::write("answer"), Step::Close];
        let peer = RawPeer::plain(vec![script]).await.unwrap();
        let mut stream = house.knock("proxy").await;
        let head = format!("CONNECT a.test:{} HTTP/1.0\r\n\r\n", peer.address().port());
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut granted = [0; 39];
        stream.read_exact(&mut granted).await.unwrap();
        assert_eq!(&granted, b"HTTP/1.1 200 Connection established\r\n\r\n");
        assert_eq!(house.proxy.snapshot().tunnels_open, 1);
        stream.write_all(b"question").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!((answer.as_str(), &peer.received(0)[..]), ("answer", &b"question"[..]));
        drop(stream);
        until(|| house.proxy.snapshot().tunnels_open == 0).await;
        let snapshot = house.proxy.snapshot();
        assert_eq!((snapshot.tunnels, snapshot.bytes_up, snapshot.bytes_down), (1, 8, 6));
    })
    .await;
}

/// The proxy is no way around the address policy (fault 13).
#[tokio::test]
async fn a_tunnel_to_a_denied_address_is_refused() {
    at_home(async |house| {
        for target in ["10.0.0.1:443", "private.test:443", "[::ffff:10.0.0.1]:443", "169.254.169.254:80"] {
            let answer = ask(&house, &format!("CONNECT {target} HTTP/1.0\r\n\r\n")).await;
            assert_eq!(answer.status, 403, "{target}: {}", answer.text());
        }
        let answer = ask(&house, "GET http://private.test/ HTTP/1.1\r\n\r\n").await;
        assert_eq!(answer.status, 502, "{}", answer.text());
        assert_eq!(ask(&house, "CONNECT a.test:25 HTTP/1.0\r\n\r\n").await.status, 403);
        assert_eq!(ask(&house, "CONNECT nowhere.test:443 HTTP/1.0\r\n\r\n").await.status, 502);
    })
    .await;
}

#[tokio::test]
async fn whoever_lacks_the_credentials_is_told_to_bring_them() {
    let guard = Guard::default().with_basic("synapse", &Secret::new(*b"sesame"));
    let config = ForwardProxyConfig { guard, ..ForwardProxyConfig::default() };
    in_house(door_config(), config, async |house| {
        let peer = RawPeer::plain(vec![faults::well()]).await.unwrap();
        let url = format!("GET http://a.test:{}/ HTTP/1.1\r\n", peer.address().port());
        for line in [
            "",
            "Proxy-Authorization: Basic c3luYXBzZTpzZXNhbWY=\r\n",
            "Proxy-Authorization: Bearer sesame\r\n",
        ] {
            let answer = ask(&house, &format!("{url}{line}\r\n")).await;
            assert_eq!(
                (answer.status, answer.field("proxy-authenticate")),
                (407, Some("Basic realm=\"southbridge\""))
            );
        }
        assert_eq!(peer.connections(), 0);
        let right = "Proxy-Authorization: Basic c3luYXBzZTpzZXNhbWU=\r\n";
        assert_eq!(ask(&house, &format!("{url}{right}\r\n")).await.status, 200);
        assert!(!String::from_utf8(peer.received(0)).unwrap().to_lowercase().contains("proxy-"));
    })
    .await;
}

/// An application service on plain HTTP, through the kernel.
#[tokio::test]
async fn a_plain_request_is_passed_on_without_the_fields_of_this_hop() {
    at_home(async |house| {
        let response = "HTTP/1.1 201 Created\r\nContent-Length: 2\r\nConnection: x-hop\r\nX-Hop: 1\r\nX-End: 2\r\n\r\nok";
        let peer = RawPeer::plain(vec![vec![Step::ReadRequest, Step::write(response), Step::Stall]]).await.unwrap();
        let port = peer.address().port();
        let answer = ask(
            &house,
            &format!(
                "PUT http://a.test:{port}/transactions/1?access_token=%41 HTTP/1.1\r\nHost: other.test\r\n\
                 Connection: close, x-mine\r\nX-Mine: 1\r\nX-Yours: 2\r\nAccept-Encoding: gzip\r\nContent-Length: 4\r\n\r\nbody"
            ),
        )
        .await;
        assert_eq!((answer.status, answer.text().as_str(), answer.whole), (201, "ok", true));
        assert_eq!((answer.field("x-hop"), answer.field("x-end")), (None, Some("2")));
        let received = String::from_utf8(peer.received(0)).unwrap().to_lowercase();
        assert!(received.starts_with("put /transactions/1?access_token=%41 http/1.1\r\n"), "{received}");
        assert!(received.contains(&format!("\r\nhost: a.test:{port}\r\n")), "{received}");
        assert!(received.contains("\r\nx-yours: 2\r\n") && received.contains("\r\naccept-encoding: gzip\r\n"), "{received}");
        assert!(!received.contains("x-mine") && received.ends_with("\r\n\r\nbody"), "{received}");
    })
    .await;
}

/// Fault 29: what is no business of a web proxy leads nowhere.
#[tokio::test]
async fn other_schemes_and_smuggled_requests_are_refused() {
    at_home(async |house| {
        for request in [
            "GET https://a.test/ HTTP/1.1\r\n\r\n",
            "GET matrix-federation://a.test/ HTTP/1.1\r\n\r\n",
            "GET http://user@a.test/ HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "CONNECT a.test HTTP/1.1\r\n\r\n",
            "CONNECT a.test:443 HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
            "POST http://a.test/ HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx",
            "GET http://a.test/ HTTP/1.1\r\n\r\nGET http://b.test/ HTTP/1.1\r\n\r\n",
        ] {
            let answer = ask(&house, request).await;
            assert_eq!(answer.status, 400, "{request}");
        }
        assert_eq!(house.dns.queries_total(), 0);
    })
    .await;
}
