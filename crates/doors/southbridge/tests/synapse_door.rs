//! Requests as Synapse sends them, through the door and a real kernel to fake homeservers.

mod house;

use std::time::{Duration, Instant};

use house::{at_home, door_config, in_house, read_answer, request, until};
use southbridge::forward_proxy::ForwardProxyConfig;
use southbridge::synapse_door::SynapseDoorConfig;
use southbridge_testkit::black_hole::ClosedPort;
use southbridge_testkit::certificates::Alpn;
use southbridge_testkit::homeserver::{Behaviour, Canned, HostScript};
use southbridge_testkit::raw::{RawPeer, Step};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const VERSION: &str = "/_matrix/federation/v1/version";

/// Signatures are made over the path as it was written: not a byte of it may change.
#[tokio::test]
async fn a_request_arrives_as_synapse_wrote_it() {
    at_home(async |house| {
        let path = "/_matrix/federation/v1/send/1%2F2%2f\"{}?a=%20b&&c=~[]";
        let name = house.name("a.test");
        let answer = house.send(request("PUT", &name, path, "{\"pdus\":[]}")).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "{\"pdus\":{}}"));
        assert_eq!(answer.field("content-type"), Some("application/json"));
        assert_eq!(answer.field("content-length"), Some("11"));
        let received = house.servers.received().pop().unwrap();
        assert_eq!((received.target.as_str(), received.method.as_str()), (path, "PUT"));
        assert_eq!((received.authority, &received.body[..]), (name, &b"{\"pdus\":[]}"[..]));
        let signatures: Vec<_> = received.headers.get_all("authorization").iter().collect();
        assert_eq!(signatures, ["X-Matrix sig=\"1\"", "X-Matrix sig=\"2\""]);
        assert_eq!(received.headers["user-agent"], "Synapse/1.163.2");
        for absent in ["proxy-authorization", "accept-encoding", "connection", "te"] {
            assert!(!received.headers.contains_key(absent), "{absent} was passed on");
        }
    })
    .await;
}

/// Fault 29: whoever does not know the secret learns nothing and causes nothing.
#[tokio::test]
async fn a_caller_without_the_secret_causes_nothing() {
    at_home(async |house| {
        let right = request("PUT", &house.name("a.test"), VERSION, "body");
        let without = right.replace("Proxy-Authorization: Bearer sesame\r\n", "");
        let wrong = right.replace("sesame", "sesamf");
        let twice = right.replace("Host:", "Proxy-Authorization: Bearer sesame\r\nHost:");
        for (request, errcode) in
            [(without, "M_MISSING_TOKEN"), (wrong, "M_UNAUTHORIZED"), (twice, "M_UNAUTHORIZED")]
        {
            let answer = house.send(request).await;
            assert_eq!((answer.status, answer.json()["errcode"].as_str()), (401, Some(errcode)));
            assert!(answer.json().get("southbridge").is_none());
        }
        assert_eq!((house.servers.counts().accepted, house.dns.queries_total()), (0, 0));
        assert_eq!(house.door.snapshot().denied, 3);
    })
    .await;
}

#[tokio::test]
async fn an_invalid_server_name_is_answered_at_once_and_dialled_never() {
    at_home(async |house| {
        let label = "a".repeat(64);
        for name in ["user@a.test", "a.test:0", "a.test:123456", "a..test", &label, "256.1.1.1", ""] {
            let answer = house.get(name, VERSION).await;
            assert_eq!(answer.status, 400, "{name}");
            assert_eq!(answer.field("content-type"), Some("application/json"));
        }
        for line in
            ["GET http://a.test/", "GET https://a.test/", "CONNECT a.test:443", "GET /_matrix/key/v2/server"]
        {
            let head = format!("{line} HTTP/1.1\r\nProxy-Authorization: Bearer sesame\r\n\r\n");
            assert_eq!(house.send(head).await.status, 400, "{line}");
        }
        assert_eq!((house.servers.counts().accepted, house.dns.queries_total()), (0, 0));
    })
    .await;
}

/// Faults 9 and 29: a second request hidden behind the first is not served, and neither is the first.
#[tokio::test]
async fn a_smuggled_request_costs_the_whole_connection() {
    at_home(async |house| {
        let name = house.name("a.test");
        let hidden = request("GET", &name, "/hidden", "");
        let first = request("PUT", &name, VERSION, "{}");
        let both = first.replace("Content-Length: 2", "Content-Length: 2\r\nTransfer-Encoding: chunked");
        for request in
            [format!("{first}{hidden}"), format!("{both}{hidden}"), first.replace("\r\nHost", "\nHost")]
        {
            assert_eq!(house.send(request).await.status, 400);
        }
        assert_eq!(house.servers.counts().requests, 0);
    })
    .await;
}

#[tokio::test]
async fn a_body_above_the_bound_is_refused_before_it_is_read() {
    let config = SynapseDoorConfig { request_body_bytes_max: 10, ..door_config() };
    in_house(config, ForwardProxyConfig::default(), async |house| {
        house.door.open();
        let answer = house.send(request("PUT", &house.name("a.test"), VERSION, "01234567890")).await;
        assert_eq!((answer.status, answer.json()["errcode"].as_str()), (413, Some("M_TOO_LARGE")));
        assert_eq!(house.servers.counts().requests, 0);
    })
    .await;
}

/// Chunks and `Expect` are nothing that Synapse sends, but others may.
#[tokio::test]
async fn a_chunked_body_is_asked_for_and_passed_on() {
    at_home(async |house| {
        let head = request("PUT", &house.name("a.test"), "/_matrix/federation/v1/send/1", "");
        let head = head.replace("Host:", "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\nHost:");
        let mut stream = house.knock("door").await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut interim = [0; 25];
        stream.read_exact(&mut interim).await.unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(b"2\r\n{}\r\n0\r\n\r\n").await.unwrap();
        assert_eq!(read_answer(&mut stream).await.status, 200);
        assert_eq!(house.servers.received()[0].body, "{}");
    })
    .await;
}

#[tokio::test]
async fn a_host_that_refuses_is_named_with_step_and_reason_and_soon_answered_for_at_once() {
    at_home(async |house| {
        let closed = ClosedPort::reserve().unwrap();
        let name = format!("a.test:{}", closed.address().port());
        for _ in 0..8 {
            let answer = house.get(&name, VERSION).await;
            assert_eq!(answer.status, 502);
            let json = answer.json();
            assert_eq!(json["errcode"], "M_UNKNOWN");
            assert_eq!(
                (&json["err"], json["southbridge"]["host"].as_str()),
                (&json["error"], Some(name.as_str()))
            );
            assert!(json["error"].as_str().unwrap().contains("a.test"), "{json}");
        }
        let asked_at = Instant::now();
        let answer = house.get(&name, VERSION).await;
        assert!(asked_at.elapsed() < Duration::from_millis(500), "{:?}", asked_at.elapsed());
        assert_eq!(answer.status, 502, "{}", answer.text());
    })
    .await;
}

#[tokio::test]
async fn a_host_that_never_answers_is_answered_for_before_the_deadline() {
    let config = SynapseDoorConfig { request_timeout: Duration::from_millis(1500), ..door_config() };
    in_house(config, ForwardProxyConfig::default(), async |house| {
        house.door.open();
        let mute = HostScript { behaviour: Behaviour::HangAfterRequest, ..HostScript::default() };
        house.servers.set("a.test", mute);
        let asked_at = Instant::now();
        let answer = house.get(&house.name("a.test"), VERSION).await;
        assert!(asked_at.elapsed() < Duration::from_millis(1500), "{:?}", asked_at.elapsed());
        assert_eq!((answer.status, answer.json()["southbridge"]["step"].as_str()), (504, Some("response")));
    })
    .await;
}

/// Synapse's timer fires, and Synapse resets its connection: nothing must go on for nobody.
#[tokio::test]
async fn a_caller_that_goes_away_cancels_its_request() {
    at_home(async |house| {
        let mute = HostScript { behaviour: Behaviour::HangAfterRequest, ..HostScript::default() };
        house.servers.set("a.test", mute);
        let mut stream = house.knock("door").await;
        stream.write_all(request("GET", &house.name("a.test"), VERSION, "").as_bytes()).await.unwrap();
        house.servers.requests_reach(1).await;
        assert_eq!(house.bridge.kernel().requests_count(), 1);
        drop(stream);
        until(|| house.bridge.kernel().requests_count() == 0).await;
        house.door.drained().await;
        assert_eq!(house.door.snapshot().gone, 1);
    })
    .await;
}

/// A restart: Synapse's requests come before the house is ready, and wait.
#[tokio::test]
async fn callers_that_come_early_wait_until_the_gate_opens() {
    in_house(door_config(), ForwardProxyConfig::default(), async |house| {
        let mut stream = house.knock("door").await;
        stream.write_all(request("GET", &house.name("a.test"), VERSION, "").as_bytes()).await.unwrap();
        until(|| house.door.snapshot().in_progress == 1).await;
        assert_eq!(house.servers.counts().accepted, 0);
        house.door.open();
        assert_eq!(read_answer(&mut stream).await.status, 200);
    })
    .await;
}

/// Its timer fired before we were ready: nothing must be sent for it afterwards.
#[tokio::test]
async fn a_caller_that_leaves_before_the_gate_opens_is_forgotten() {
    in_house(door_config(), ForwardProxyConfig::default(), async |house| {
        let mut stream = house.knock("door").await;
        stream.write_all(request("PUT", &house.name("a.test"), VERSION, "{}").as_bytes()).await.unwrap();
        until(|| house.door.snapshot().in_progress == 1).await;
        drop(stream);
        house.door.drained().await;
        house.door.open();
        assert_eq!((house.servers.counts().accepted, house.door.snapshot().gone), (0, 1));
    })
    .await;
}

/// Fault 26: those above the bound wait in the queue, and nobody is refused.
#[tokio::test]
async fn callers_above_the_bound_wait_for_their_turn() {
    let config = SynapseDoorConfig { connections_max: 2, ..door_config() };
    in_house(config, ForwardProxyConfig::default(), async |house| {
        let path = request("GET", &house.name("a.test"), VERSION, "");
        let mut streams = Vec::new();
        for _ in 0..20 {
            let mut stream = house.knock("door").await;
            stream.write_all(path.as_bytes()).await.unwrap();
            streams.push(stream);
        }
        until(|| house.door.snapshot().in_progress == 2).await;
        house.door.open();
        for stream in &mut streams {
            assert_eq!(read_answer(stream).await.status, 200);
        }
        assert_eq!(house.door.snapshot().connections, 20);
    })
    .await;
}

/// Fault 16: what a host says, it says to Synapse, which knows what each of it means.
#[tokio::test]
async fn answers_of_hosts_are_passed_on_as_they_are() {
    at_home(async |house| {
        for status in [200, 401, 403, 404, 410, 421, 429, 502, 520] {
            let body = format!("{{\"errcode\":\"M_{status}\"}}");
            let canned = Canned::json(status, &body).with("retry-after", "7");
            let script = HostScript { canned: vec![("/".to_owned(), canned)], ..HostScript::default() };
            house.servers.set("a.test", script);
            let answer = house.get(&house.name("a.test"), VERSION).await;
            assert_eq!(
                (answer.status, answer.text(), answer.field("retry-after")),
                (status, body, Some("7"))
            );
        }
    })
    .await;
}

/// Synapse decodes nothing.
#[tokio::test]
async fn a_response_that_is_encoded_although_nobody_asked_is_not_passed_on() {
    at_home(async |house| {
        let encoded = Canned::json(200, "x").with("content-encoding", "gzip");
        let plain = Canned::json(200, "{}")
            .with("content-encoding", "identity")
            .with("connection", "x-mine")
            .with("x-mine", "1");
        let canned = vec![("/gzip".to_owned(), encoded), ("/plain".to_owned(), plain)];
        house.servers.set("a.test", HostScript { canned, alpn: Alpn::Http1, ..HostScript::default() });
        let answer = house.get(&house.name("a.test"), "/gzip").await;
        assert!(answer.status == 502 && answer.text().contains("gzip"), "{}", answer.text());
        let answer = house.get(&house.name("a.test"), "/plain").await;
        assert_eq!(
            (answer.status, answer.field("content-encoding"), answer.field("x-mine")),
            (200, None, None)
        );
    })
    .await;
}

/// Fault 12: on the federation API a redirect is an answer like any other, and leads nowhere.
#[tokio::test]
async fn a_redirect_of_the_federation_api_is_passed_on_without_its_location() {
    at_home(async |house| {
        let target = format!("https://{}/elsewhere", house.name("b.test"));
        let canned = vec![(VERSION.to_owned(), Canned::json(307, "{}").with("location", &target))];
        house.servers.set("a.test", HostScript { canned, ..HostScript::default() });
        let answer = house.get(&house.name("a.test"), VERSION).await;
        assert_eq!((answer.status, answer.field("location")), (307, None));
        assert_eq!(house.servers.received_by("b.test").len(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_body_that_breaks_off_is_never_passed_on_as_whole() {
    at_home(async |house| {
        let big = "x".repeat(100_000);
        let answers = [
            format!("HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n{big}"),
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{big}\r\n", big.len()),
            "HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\nsmall".to_owned(),
        ];
        let scripts = answers.iter().map(|answer| vec![Step::ReadRequest, Step::write(answer), Step::Drop]);
        let peer = RawPeer::tls(&house.authority, Alpn::Http1, scripts.collect()).await.unwrap();
        let name = format!("a.test:{}", peer.address().port());
        let post = request("POST", &name, "/_matrix/federation/v1/user/keys/claim", "{}");
        for _ in 0..2 {
            let answer = house.send(&post).await;
            assert_eq!((answer.status, answer.whole), (200, false));
        }
        let answer = house.send(&post).await;
        assert_eq!((answer.status, answer.json()["southbridge"]["step"].as_str()), (502, Some("body")));
        assert_eq!(house.door.snapshot().cut, 2);
    })
    .await;
}

/// Whoever reads slowly holds back who sends: nothing piles up in between.
#[tokio::test]
async fn a_reader_that_pauses_holds_back_the_sender() {
    at_home(async |house| {
        let unit = bytes::Bytes::from(vec![b'x'; 64 * 1024]);
        let length = 1024 * unit.len() as u64;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        let script = vec![
            Step::ReadRequest,
            Step::write(head),
            Step::Endless { unit, bytes_max: length },
            Step::Close,
        ];
        let peer = RawPeer::tls(&house.authority, Alpn::Http1, vec![script]).await.unwrap();
        let mut stream = house.knock("door").await;
        let name = format!("a.test:{}", peer.address().port());
        stream.write_all(request("GET", &name, "/big", "").as_bytes()).await.unwrap();
        let (mut buffer, mut taken) = (vec![0; 256 * 1024], 0);
        loop {
            let read = stream.read(&mut buffer).await.unwrap();
            if read == 0 {
                break;
            }
            taken += read as u64;
            let ahead = peer.written().saturating_sub(taken);
            assert!(ahead < 16 * 1024 * 1024, "{ahead} bytes are on their way at {taken}");
        }
        assert!(taken > length);
    })
    .await;
}

#[tokio::test]
async fn a_head_request_is_answered_without_a_body() {
    at_home(async |house| {
        let answer = house.send(request("HEAD", &house.name("a.test"), "/blob/1000", "")).await;
        assert_eq!((answer.status, answer.body.len()), (200, 0));
    })
    .await;
}

/// Ten thousand of them may wait at once (4 KiB more each are for what is read).
#[tokio::test]
async fn a_waiting_connection_holds_little_memory() {
    at_home(async |house| {
        let stream = house.accepted().await;
        let bytes = size_of_val(&house.door.serve_connection(stream));
        assert!(bytes <= 12 * 1024, "{bytes} bytes");
    })
    .await;
}
